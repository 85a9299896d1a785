//! A real Active Directory: Samba as domain controller of `AD.EXAMPLE.TEST`, its LDAP alone, in one process.
//!
//! - Samba's LDAP ports cannot be chosen, but its address can: each controller listens at ports 389 and 636 of a loopback
//!   address of its own ([`LoopbackLease`]). That needs root, or the right to listen below port 1024.
//! - Provisioning takes some 12 seconds, so it is done once and kept in `$XDG_CACHE_HOME/claviger/samba/` (or `~/.cache`);
//!   each controller starts with a copy (33 MB), in about two seconds, as one process of 55 MB.
//! - Anonymous clients read the root entry alone, and binds without TLS are refused, as Microsoft's are.
//! - Passwords may be of any kind; three wrong ones lock an account for half an hour.
//! - [`Samba::twin`] is another controller with a copy of what the first holds. They do not replicate: a test changes
//!   both, or shows what happens when one lags.
//! - The certificate is for the address, signed by a CA of its own ([`Samba::ca_pem`]).

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use data_encoding::BASE64;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::loopback::LoopbackLease;
use crate::pki::CertificateAuthority;
use crate::process::{Supervised, tied};

/// The domain.
pub const BASE_DN: &str = "DC=ad,DC=example,DC=test";
/// Its `NetBIOS` name.
pub const NET_BIOS_DOMAIN: &str = "EXAMPLE";
/// Whom nothing holds back.
pub const ADMIN: &str = "Administrator@ad.example.test";
/// [`ADMIN`]'s password.
pub const ADMIN_PASSWORD: &str = "Adm1n-password";

const PROGRAM: &str = "/usr/sbin/samba";
const START: Duration = Duration::from_secs(30);
/// Changes with what [`provision`] does, so that nobody starts with a domain of another make.
const RECIPE: u32 = 1;

const WRITE_PAST_THE_RULES: &str = "
import ldb, sys
database, dn, attribute, value = sys.argv[1:]
database = ldb.Ldb(database)
change = ldb.Message(ldb.Dn(database, dn))
change[attribute] = ldb.MessageElement(value, ldb.FLAG_MOD_REPLACE, attribute)
database.modify(change)
";

/// A running domain controller. Dropping it kills it and removes its folder.
#[derive(Debug)]
pub struct Samba {
    // Dropped in this order.
    process: Option<Supervised>,
    address: LoopbackLease,
    authority: Arc<CertificateAuthority>,
    folder: TempDir,
}

impl Samba {
    /// Starts a domain controller with a domain in which nobody is yet, and waits until it answers.
    ///
    /// # Errors
    /// Samba is not installed; it ends, with its last words.
    pub async fn start() -> Result<Self> {
        let domain = tokio::task::spawn_blocking(provisioned).await??;
        let authority = Arc::new(CertificateAuthority::create("Claviger test domain")?);
        Self::start_copy(&domain, authority).await
    }

    /// Another domain controller, with all that this one holds now.
    ///
    /// # Errors
    /// It ends, with its last words.
    pub async fn twin(&self) -> Result<Self> {
        Self::start_copy(&self.file("domain"), Arc::clone(&self.authority)).await
    }

    async fn start_copy(domain: &Path, authority: Arc<CertificateAuthority>) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("claviger-samba-")
            .tempdir()
            .context("failed to make a scratch folder")?;
        let mut samba = Self { process: None, address: LoopbackLease::take()?, authority, folder };
        samba.furnish(domain)?;
        samba.start_again().await?;
        Ok(samba)
    }

    /// `ldaps://127.66.…`.
    pub fn ldaps_url(&self) -> String {
        format!("ldaps://{}", self.address.address())
    }

    /// `ldap://127.66.…`; `StartTLS` works there, and a bind without does not.
    pub fn ldap_url(&self) -> String {
        format!("ldap://{}", self.address.address())
    }

    /// The certificate of the authority that signed the server's, PEM.
    pub fn ca_pem(&self) -> &str {
        self.authority.certificate_pem()
    }

    /// Adds entries (`ldapadd`, as the admin). `ldif` holds whole entries with empty lines between.
    pub fn add(&self, ldif: &str) -> Result<()> {
        self.change("ldapadd", ldif)
    }

    /// Applies changes (`ldapmodify`, as the admin): records with `changetype: modify`, `delete` and so on.
    pub fn modify(&self, ldif: &str) -> Result<()> {
        self.change("ldapmodify", ldif)
    }

    /// Adds a user below `CN=Users` with this account name and password; `more` are further lines of LDIF.
    pub fn add_user(&self, name: &str, password: &str, more: &str) -> Result<()> {
        let more = if more.is_empty() { String::new() } else { format!("{}\n", more.trim_end()) };
        self.add(&format!(
            "dn: {}\nobjectClass: user\nsAMAccountName: {name}\nuserAccountControl: 512\nunicodePwd:: {}\n{more}",
            user_dn(name),
            unicode_password(password),
        ))
    }

    /// Adds a global security group below `CN=Users`; its members are distinguished names.
    pub fn add_group(&self, name: &str, members: &[String]) -> Result<()> {
        let members: Vec<_> = members.iter().map(|dn| format!("member: {dn}\n")).collect();
        let members = members.concat();
        self.add(&format!(
            "dn: {}\nobjectClass: group\nsAMAccountName: {name}\n{members}",
            group_dn(name)
        ))
    }

    /// Sets one attribute of an entry.
    pub fn replace(&self, dn: &str, attribute: &str, value: &str) -> Result<()> {
        self.modify(&format!(
            "dn: {dn}\nchangetype: modify\nreplace: {attribute}\n{attribute}: {value}\n"
        ))
    }

    /// Removes a member from a group.
    pub fn remove_member(&self, group: &str, member: &str) -> Result<()> {
        self.modify(&format!(
            "dn: {}\nchangetype: modify\ndelete: member\nmember: {member}\n",
            group_dn(group)
        ))
    }

    /// Gives a user another password, as an administrator does.
    pub fn reset_password(&self, name: &str, password: &str) -> Result<()> {
        self.reset_password_of(&user_dn(name), password)
    }

    /// The same to any account.
    pub fn reset_password_of(&self, dn: &str, password: &str) -> Result<()> {
        let password = unicode_password(password);
        self.modify(&format!(
            "dn: {dn}\nchangetype: modify\nreplace: unicodePwd\nunicodePwd:: {password}\n"
        ))
    }

    /// The first value of an attribute, as it is.
    pub fn read(&self, dn: &str, attribute: &str) -> Result<Vec<u8>> {
        let mut search = self.tool("ldapsearch");
        search.args(["-D", ADMIN, "-w", ADMIN_PASSWORD, "-s", "base", "-o", "ldif-wrap=no"]);
        let said = run(search.args(["-LLL", "-b", dn, attribute]))?;
        let mark = format!("{attribute}:");
        let line = said.lines().find_map(|line| line.strip_prefix(&mark));
        let value = line.with_context(|| format!("{dn} has no {attribute}:\n{said}"))?;
        match value.strip_prefix(':') {
            Some(encoded) => Ok(BASE64.decode(encoded.trim().as_bytes())?),
            None => Ok(value.trim().as_bytes().to_vec()),
        }
    }

    /// Keeps one user from reading an attribute of another, by the entry's access control list.
    pub fn deny_reading(&self, name: &str, reader: &str, attribute: &str) -> Result<()> {
        let guid = match attribute {
            "userAccountControl" => "bf967a68-0de6-11d0-a285-00aa003049e2",
            _ => bail!("the schema's GUID of {attribute} is not known here"),
        };
        let sid = sid(&self.read(&user_dn(reader), "objectSid")?)?;
        run(Command::new("samba-tool")
            .args(["dsacl", "set", "--action=deny", &format!("--objectdn={}", user_dn(name))])
            .arg(format!("--sddl=(OD;;RP;{guid};;{sid})"))
            .arg(format!("--configfile={}", self.file("smb.conf").display()))
            .arg(format!("--URL=tdb://{}", self.file("domain/private/sam.ldb").display())))?;
        Ok(())
    }

    /// Makes a user's password older than any may be: written past the rules, since the domain would not let anybody.
    pub fn age_password(&self, name: &str) -> Result<()> {
        let partition =
            self.file("domain/private/sam.ldb.d").join(format!("{}.ldb", BASE_DN.to_uppercase()));
        // The distribution's: another would not know its modules.
        let mut python = Command::new("/usr/bin/python3");
        python.args(["-c", WRITE_PAST_THE_RULES]).arg(partition);
        // [MS-DTYP] 2.3.3, in the year 2018.
        run(python.args([&user_dn(name), "pwdLastSet", "131900000000000000"]))?;
        Ok(())
    }

    /// Kills it at once; its address stays ours, so clients are refused. Nothing if it is stopped.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it again with what it held, at the same address. Nothing if it runs.
    pub async fn start_again(&mut self) -> Result<()> {
        if self.process.is_some() {
            return Ok(());
        }
        let mut command = tied(PROGRAM);
        command
            .args(["--interactive", "--model=single", "--debug-stdout", "--debuglevel=1"])
            .arg(format!("--configfile={}", self.file("smb.conf").display()));
        let mut process = Supervised::spawn("samba", command, &self.file("log"))?;
        process.until_it_answers(START, async || self.ask_root_entry()).await?;
        self.process = Some(process);
        Ok(())
    }

    /// Freezes it: connections are accepted by the kernel, but nothing is answered.
    pub fn freeze(&self) -> Result<()> {
        self.process.as_ref().context("Samba is stopped")?.signal(Signal::STOP)
    }

    /// Ends [`freeze`](Self::freeze).
    pub fn thaw(&self) -> Result<()> {
        self.process.as_ref().context("Samba is stopped")?.signal(Signal::CONT)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn furnish(&self, domain: &Path) -> Result<()> {
        run(Command::new("cp").arg("-a").arg(domain).arg(self.file("domain")))?;
        let address = self.address.address();
        let server = self.authority.server(&["dc1.ad.example.test"], &[address.into()])?;
        let (certificate, key) = (self.file("server.crt"), self.file("server.key"));
        server.save(&certificate, &key)?;
        // Samba takes no key that others may read.
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600))?;
        std::fs::write(self.file("ca.crt"), self.ca_pem()).context("failed to write the CA")?;
        let folder = self.folder.path().display();
        let configuration = configuration(&self.file("domain"))
            + &format!(
                "interfaces = {address}/8\nbind interfaces only = yes\nserver services = ldap\n\
                 tls certfile = {folder}/server.crt\ntls keyfile = {folder}/server.key\n\
                 tls cafile = {folder}/ca.crt\n"
            );
        std::fs::write(self.file("smb.conf"), configuration).context("failed to write smb.conf")
    }

    fn ask_root_entry(&self) -> Result<()> {
        let output = self
            .tool("ldapsearch")
            .args(["-s", "base", "-b", "", "-LLL", "defaultNamingContext"])
            .output()
            .context("failed to run ldapsearch (Debian: ldap-utils)")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// One of `OpenLDAP`'s tools, deaf to what whoever runs the tests has set for it.
    fn tool(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("HOME", self.folder.path()).env("LDAPTLS_CACERT", self.file("ca.crt"));
        command.args(["-x", "-H", &self.ldaps_url()]);
        command
    }

    fn change(&self, program: &str, ldif: &str) -> Result<()> {
        let mut child = self
            .tool(program)
            .args(["-D", ADMIN, "-w", ADMIN_PASSWORD])
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

/// The distinguished name of a user that [`Samba::add_user`] added.
pub fn user_dn(name: &str) -> String {
    format!("CN={name},CN=Users,{BASE_DN}")
}

/// The distinguished name of a group that [`Samba::add_group`] added.
pub fn group_dn(name: &str) -> String {
    format!("CN={name},CN=Users,{BASE_DN}")
}

/// A security identifier in words ([MS-DTYP] 2.4.2).
fn sid(bytes: &[u8]) -> Result<String> {
    let (head, parts) = bytes.split_at_checked(8).context("no security identifier")?;
    let parts =
        parts.chunks_exact(4).map(|part| u32::from_le_bytes([part[0], part[1], part[2], part[3]]));
    let parts: Vec<_> = parts.map(|part| part.to_string()).collect();
    Ok(format!("S-{}-{}-{}", head[0], head[7], parts.join("-")))
}

/// As `unicodePwd` takes it ([MS-ADTS] 3.1.1.3.1.5.1), for LDIF.
fn unicode_password(password: &str) -> String {
    let utf16 =
        format!("\"{password}\"").encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
    BASE64.encode(&utf16)
}

/// A freshly provisioned domain, for a copy; made by whoever comes first.
fn provisioned() -> Result<PathBuf> {
    ensure!(Path::new(PROGRAM).exists(), "Samba is not installed: run scripts/setup");
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let folder = cache.context("neither XDG_CACHE_HOME nor HOME is set")?.join("claviger/samba");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("failed to create {}", folder.display()))?;
    let version = run(Command::new(PROGRAM).arg("--version"))?;
    let version = version.trim().replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "-");
    let domain = folder.join(format!("{version}-{RECIPE}"));
    let lock = std::fs::File::create(folder.join("lock")).context("failed to make a lock")?;
    lock.lock().context("failed to lock the cache of domains")?;
    if !domain.exists() {
        let made = tempfile::Builder::new().prefix("making-").tempdir_in(&folder)?;
        provision(&made.path().join("domain"))?;
        std::fs::rename(made.path().join("domain"), &domain)?;
    }
    Ok(domain)
}

fn provision(folder: &Path) -> Result<()> {
    let of = |option: &str, value: &str| format!("--option={option}={value}");
    run(Command::new("samba-tool")
        .args(["domain", "provision", "--realm=AD.EXAMPLE.TEST", "--server-role=dc"])
        .args(["--dns-backend=NONE", "--host-name=dc1", "--host-ip=127.0.0.1"])
        .arg(format!("--domain={NET_BIOS_DOMAIN}"))
        .arg(format!("--adminpass={ADMIN_PASSWORD}"))
        .arg(format!("--targetdir={}", folder.display()))
        .args([of("interfaces", "127.0.0.1/8"), of("bind interfaces only", "yes")]))?;
    let settings = folder.join("settings.conf");
    std::fs::write(&settings, configuration(folder)).context("failed to write settings")?;
    run(Command::new("samba-tool")
        .args(["domain", "passwordsettings", "set", "--complexity=off", "--history-length=0"])
        .args(["--min-pwd-length=1", "--min-pwd-age=0", "--account-lockout-threshold=3"])
        .args(["--account-lockout-duration=30", "--reset-account-lockout-after=30"])
        .arg(format!("--configfile={}", settings.display()))
        .arg(format!("--URL=tdb://{}", folder.join("private/sam.ldb").display())))?;
    Ok(())
}

/// Nothing outside the folder is read or written.
fn configuration(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "[global]\nnetbios name = DC1\nrealm = AD.EXAMPLE.TEST\nworkgroup = {NET_BIOS_DOMAIN}\n\
         server role = active directory domain controller\nprivate dir = {folder}/private\n\
         state directory = {folder}/state\ncache directory = {folder}/cache\nlock directory = {folder}\n\
         pid directory = {folder}\nncalrpc dir = {folder}/ncalrpc\nlog file = {folder}/log.%m\n\
         ntp signd socket directory = {folder}/ntp\nwinbindd socket directory = {folder}/winbindd\n"
    )
}

fn run(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("failed to run {}", command.get_program().display()))?;
    let (program, said) = (command.get_program().display(), &output.stderr);
    let said = String::from_utf8_lossy(said);
    ensure!(output.status.success(), "{program} failed: {said}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
