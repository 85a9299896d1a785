//! Debian's Apache with `mod_auth_openidc`, a certified relying party, in front of a page that shows who asks for it: the
//! module's headers are all the page knows.
//!
//! - In the foreground, on a leased loopback port, with a configuration of its own in a scratch folder: nothing of
//!   `/etc/apache2` is read.
//! - HTTPS; the issuer's certificate is checked against the authority it is told.
//! - The page is there for everybody who has signed in at `/private/`, and for one group alone at `/private/admins/`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::{Certificate, Client};
use tempfile::TempDir;

use crate::pki::CertificateAuthority;
use crate::ports::PortLease;
use crate::process::{Supervised, tied};

const PROGRAM: &str = "/usr/sbin/apache2";
const MODULE: &str = "/usr/lib/apache2/modules/mod_auth_openidc.so";
const START: Duration = Duration::from_secs(20);

/// What a visitor sees: SSI, which knows request headers by their CGI names.
const PAGE: &str = r#"<p>name: <!--#echo var="HTTP_X_USER_NAME" --></p>
<p>email: <!--#echo var="HTTP_X_USER_EMAIL" --></p>
<p>groups: <!--#echo var="HTTP_X_USER_GROUPS" --></p>
<p>user: <!--#echo var="REMOTE_USER" --></p>
"#;

/// What the module is told.
#[derive(Debug, Clone)]
pub struct Protection<'a> {
    /// The issuer.
    pub issuer: &'a str,
    /// The authority of its certificate.
    pub authority: &'a CertificateAuthority,
    /// Client ID and secret.
    pub client: (&'a str, &'a str),
    /// The group that may enter `/private/admins/`.
    pub group: &'a str,
    /// More directives of the module, a line each.
    pub more: &'a str,
}

/// A running Apache. Dropping it kills it and removes its folder.
#[derive(Debug)]
pub struct Apache {
    // Dropped in this order.
    process: Supervised,
    port: PortLease,
    _folder: TempDir,
}

impl Apache {
    /// The URL of the site at this port.
    pub fn url_at(port: &PortLease) -> String {
        format!("https://localhost:{}", port.port())
    }

    /// Where the module is sent back to, at this port: the redirect URI of its client.
    pub fn redirect_uri_at(port: &PortLease) -> String {
        format!("{}/private/redirect_uri", Self::url_at(port))
    }

    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// It is not installed, or it ends, with its last words.
    pub async fn start(port: PortLease, protection: &Protection<'_>) -> Result<Self> {
        for needed in [PROGRAM, MODULE] {
            ensure!(Path::new(needed).exists(), "{needed} is not there; run: make setup");
        }
        let folder = folder_for_apache()?;
        let file = |name: &str| folder.path().join(name);
        protection.authority.server(&[], &[])?.save(&file("server.crt"), &file("server.key"))?;
        std::fs::write(file("ca.crt"), protection.authority.certificate_pem())?;
        std::fs::create_dir_all(file("pages/private/admins"))?;
        for page in ["pages/index.shtml", "pages/private/index.shtml"] {
            std::fs::write(file(page), PAGE)?;
        }
        std::fs::write(file("pages/private/admins/index.shtml"), PAGE)?;
        let configuration = configuration(&port, folder.path(), protection)?;
        std::fs::write(file("apache2.conf"), configuration)?;
        let mut command = tied(PROGRAM);
        command.arg("-f").arg(file("apache2.conf")).args(["-D", "FOREGROUND"]);
        let process = Supervised::spawn("apache2", command, &file("error.log"))?;
        let mut apache = Self { process, port, _folder: folder };
        apache.until_it_answers(protection.authority).await?;
        Ok(apache)
    }

    /// The site's URL.
    pub fn url(&self) -> String {
        Self::url_at(&self.port)
    }

    /// The end of what it has logged, the module's complaints among it.
    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }

    async fn until_it_answers(&mut self, authority: &CertificateAuthority) -> Result<()> {
        let certificate = Certificate::from_pem(authority.certificate_pem().as_bytes())?;
        let http = Client::builder().no_proxy().tls_certs_only([certificate]).build()?;
        let url = self.url();
        self.process
            .until_it_answers(START, async || {
                http.get(&url).send().await?.error_for_status()?;
                Ok(())
            })
            .await
    }
}

/// Started as root, Apache answers as another user, who must get at the pages.
fn folder_for_apache() -> Result<TempDir> {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::Builder::new().prefix("claviger-apache-").tempdir()?;
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755))?;
    Ok(folder)
}

fn configuration(port: &PortLease, folder: &Path, protection: &Protection<'_>) -> Result<String> {
    let template: PathBuf =
        crate::installation::repository().join("e2e/outside/mod_auth_openidc/apache2.conf");
    let mut text = std::fs::read_to_string(&template)
        .with_context(|| format!("failed to read {}", template.display()))?;
    let folder = folder.display().to_string();
    let port_number = port.port().to_string();
    let redirect_uri = Apache::redirect_uri_at(port);
    let (client_id, client_secret) = protection.client;
    let values = [
        ("FOLDER", folder.as_str()),
        ("PORT", &port_number),
        ("ISSUER", protection.issuer),
        ("CLIENT_ID", client_id),
        ("CLIENT_SECRET", client_secret),
        ("REDIRECT_URI", &redirect_uri),
        ("GROUP", protection.group),
        ("MORE", protection.more),
    ];
    for (name, value) in values {
        text = text.replace(&format!("@{name}@"), value);
    }
    Ok(text)
}
