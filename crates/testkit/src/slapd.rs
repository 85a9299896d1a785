//! A real `OpenLDAP` server: Debian's `slapd` on leased loopback ports, in a scratch folder, as whoever we are.
//!
//! - `dc=example,dc=org` is there, with nothing below it; [`Slapd::add`] brings the rest.
//! - Schemas core, cosine, inetorgperson and nis (`posixGroup`); `memberOf` is kept by the overlay for
//!   `groupOfNames`, in both directions.
//! - Anonymous clients may bind and read the root entry, nothing else; whoever has bound reads everything but
//!   passwords. So a connector that forgets its service bind finds nobody.
//! - Plain LDAP with `StartTLS` on one port, LDAPS on another. The certificate is for 127.0.0.1 and localhost,
//!   signed by a CA of its own ([`Slapd::ca_pem`]). Address it by 127.0.0.1: `OpenLDAP`'s tools turn
//!   `localhost` into the machine's name before they compare.
//! - Its log names every operation (`BIND dn=…`, `SRCH base=…`): [`Slapd::log`].

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::pki::CertificateAuthority;
use crate::ports::PortLease;
use crate::process::{Supervised, tied};

/// The suffix of the one database.
pub const BASE_DN: &str = "dc=example,dc=org";
/// Whom no access rule holds back. Debian's default name for it.
pub const ADMIN_DN: &str = "cn=admin,dc=example,dc=org";
/// [`ADMIN_DN`]'s password.
pub const ADMIN_PASSWORD: &str = "admin-password";

const START: Duration = Duration::from_secs(20);

const PROGRAMS: [&str; 3] = ["/usr/sbin/slapd", "/usr/libexec/slapd", "/usr/local/libexec/slapd"];
const SCHEMAS: [&str; 3] =
    ["/etc/ldap/schema", "/etc/openldap/schema", "/usr/local/etc/openldap/schema"];

const BASE: &str = "dn: dc=example,dc=org
objectClass: dcObject
objectClass: organization
dc: example
o: Example
";

/// A running directory server. Dropping it kills it and removes its folder.
#[derive(Debug)]
pub struct Slapd {
    // Dropped in this order.
    process: Option<Supervised>,
    plain: PortLease,
    tls: PortLease,
    authority: CertificateAuthority,
    folder: TempDir,
}

impl Slapd {
    /// Starts a server and waits until it answers, well below a second.
    ///
    /// # Errors
    /// `slapd` or `ldap-utils` are not installed; slapd ends, with its last words.
    pub async fn start() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("claviger-slapd-")
            .tempdir()
            .context("failed to make a scratch folder")?;
        let authority = CertificateAuthority::create("Claviger test directory")?;
        let mut slapd = Self {
            process: None,
            plain: PortLease::take()?,
            tls: PortLease::take()?,
            authority,
            folder,
        };
        slapd.furnish()?;
        slapd.start_again().await?;
        slapd.add(BASE)?;
        Ok(slapd)
    }

    /// `ldap://127.0.0.1:<port>`; `StartTLS` works there.
    pub fn ldap_url(&self) -> String {
        format!("ldap://{}", self.ldap_address())
    }

    /// `ldaps://127.0.0.1:<port>`.
    pub fn ldaps_url(&self) -> String {
        format!("ldaps://{}", self.ldaps_address())
    }

    /// `127.0.0.1:<port>` for plain LDAP and `StartTLS`.
    pub fn ldap_address(&self) -> String {
        format!("127.0.0.1:{}", self.plain.port())
    }

    /// `127.0.0.1:<port>` for LDAPS.
    pub fn ldaps_address(&self) -> String {
        format!("127.0.0.1:{}", self.tls.port())
    }

    /// The certificate of the authority that signed the server's, PEM.
    pub fn ca_pem(&self) -> &str {
        self.authority.certificate_pem()
    }

    /// The same as a file.
    pub fn ca_file(&self) -> PathBuf {
        self.file("ca.crt")
    }

    /// Adds entries (`ldapadd`, as the admin). `ldif` holds whole entries with empty lines between.
    pub fn add(&self, ldif: &str) -> Result<()> {
        self.change("ldapadd", ldif)
    }

    /// Applies changes (`ldapmodify`, as the admin): records with `changetype: modify`, `delete` and so on.
    pub fn modify(&self, ldif: &str) -> Result<()> {
        self.change("ldapmodify", ldif)
    }

    /// Everything it has logged: one line per operation and result.
    pub fn log(&self) -> Result<String> {
        std::fs::read_to_string(self.file("log")).context("failed to read slapd's log")
    }

    /// Kills it at once; its ports stay ours, so clients are refused. Nothing if it is stopped.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it again with what it held, on the same ports. Nothing if it runs.
    pub async fn start_again(&mut self) -> Result<()> {
        if self.process.is_some() {
            return Ok(());
        }
        let mut command = tied(self.file("slapd"));
        command
            .current_dir(self.folder.path())
            .args(["-d", "stats", "-f", "slapd.conf", "-h"])
            .arg(format!("{} {}", self.ldap_url(), self.ldaps_url()));
        let mut process = Supervised::spawn("slapd", command, &self.file("log"))?;
        process.until_it_answers(START, async || self.ask_root_entry()).await?;
        self.process = Some(process);
        Ok(())
    }

    /// Freezes it: connections are accepted by the kernel, but nothing is answered.
    pub fn freeze(&self) -> Result<()> {
        self.process.as_ref().context("slapd is stopped")?.signal(Signal::STOP)
    }

    /// Ends [`freeze`](Self::freeze).
    pub fn thaw(&self) -> Result<()> {
        self.process.as_ref().context("slapd is stopped")?.signal(Signal::CONT)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn furnish(&self) -> Result<()> {
        let installed = first_existing(&PROGRAMS)
            .context("slapd is not installed: run scripts/setup (Debian: slapd, ldap-utils)")?;
        // A copy, since Ubuntu's AppArmor profile keeps the installed one to /etc/ldap and /var/lib/ldap.
        // By a child: a copy of ours, open for writing, could be inherited by another thread's child, and
        // the kernel then refuses to run it ("Text file busy").
        let copied = Command::new("cp").arg(installed).arg(self.file("slapd")).status();
        ensure!(copied.context("failed to run cp")?.success(), "failed to copy slapd");
        let authority = self.authority.server(&[], &[])?;
        authority.save(&self.file("server.crt"), &self.file("server.key"))?;
        std::fs::write(self.ca_file(), self.ca_pem()).context("failed to write the CA")?;
        std::fs::create_dir(self.file("data")).context("failed to create the data folder")?;
        let schemas = first_existing(&SCHEMAS).context("OpenLDAP's schemas are not installed")?;
        std::fs::write(self.file("slapd.conf"), configuration(schemas, self.folder.path()))
            .context("failed to write slapd.conf")
    }

    fn ask_root_entry(&self) -> Result<()> {
        let output = tool("ldapsearch")
            .args(["-x", "-H", &self.ldap_url(), "-s", "base", "-b", "", "-LLL", "namingContexts"])
            .output()
            .context("failed to run ldapsearch (Debian: ldap-utils)")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn change(&self, program: &str, ldif: &str) -> Result<()> {
        let mut child = tool(program)
            .args(["-x", "-H", &self.ldap_url(), "-D", ADMIN_DN, "-w", ADMIN_PASSWORD])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("failed to run {program} (Debian: ldap-utils)"))?;
        let mut input = child.stdin.take().context("the tool has no input")?;
        // One that has ended already says why on stderr.
        let written = input.write_all(ldif.as_bytes());
        drop(input);
        let output = child.wait_with_output().context("failed to wait for the tool")?;
        if !output.status.success() {
            bail!("{program} failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        written.with_context(|| format!("failed to hand {program} its input"))
    }
}

/// One of `OpenLDAP`'s tools, deaf to the settings of whoever runs the tests.
fn tool(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("LDAPNOINIT", "1");
    command
}

fn first_existing(candidates: &[&'static str]) -> Option<&'static Path> {
    candidates.iter().copied().map(Path::new).find(|path| path.exists())
}

/// Where it must not depend on the working folder, paths are absolute: slapd changes to `/` at times.
fn configuration(schemas: &Path, folder: &Path) -> String {
    let (schemas, folder) = (schemas.display(), folder.display());
    format!(
        r#"include {schemas}/core.schema
include {schemas}/cosine.schema
include {schemas}/inetorgperson.schema
include {schemas}/nis.schema
modulepath /usr/lib/ldap:/usr/lib/openldap:/usr/lib64/openldap:/usr/local/libexec/openldap
moduleload back_mdb
moduleload memberof
pidfile {folder}/pid
argsfile {folder}/args
TLSCACertificateFile {folder}/ca.crt
TLSCertificateFile {folder}/server.crt
TLSCertificateKeyFile {folder}/server.key
TLSVerifyClient never

access to dn.base="" by * read
access to attrs=userPassword by anonymous auth by * none
access to * by users read by * none

database mdb
suffix "{BASE_DN}"
rootdn "{ADMIN_DN}"
rootpw {ADMIN_PASSWORD}
directory {folder}/data
maxsize 67108864
dbnosync
index objectClass,uid,mail,member,memberOf,memberUid eq
overlay memberof
memberof-group-oc groupOfNames
memberof-member-ad member
memberof-memberof-ad memberOf
memberof-refint TRUE
"#
    )
}
