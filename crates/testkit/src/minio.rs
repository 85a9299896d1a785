//! `MinIO`'s server: its STS gives AWS-shaped credentials for an ID token (`AssumeRoleWithWebIdentity`), and its S3 shows
//! whether they are worth anything.
//!
//! It fetches the issuer's discovery document and keys over HTTPS when it starts, and the keys again whenever a token's
//! signature does not check out with those it holds. It forgets no key until it is started again.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::{Certificate, Client, StatusCode};
use tempfile::TempDir;

use crate::eventually;
use crate::outside::provided;
use crate::pki::CertificateAuthority;
use crate::ports::PortLease;
use crate::process::{Supervised, tied};

const START: Duration = Duration::from_mins(1);
/// The administrator, who makes buckets: user name and password, which are its S3 access key and secret key.
pub const ROOT: (&str, &str) = ("root-of-this-test", "password-of-this-test");

/// A running `MinIO` that trusts one issuer. Dropping it kills it and removes what it stored.
#[derive(Debug)]
pub struct Minio {
    // Dropped in this order.
    process: Option<Supervised>,
    port: PortLease,
    program: PathBuf,
    identity: Vec<(&'static str, String)>,
    http: Client,
    folder: TempDir,
}

/// What its STS answered.
#[derive(Debug, Clone)]
pub struct StsAnswer {
    /// HTTP status.
    pub status: StatusCode,
    /// XML.
    pub body: String,
}

impl Minio {
    /// Starts one that gives `policy` to whoever has an ID token of this issuer for this client.
    ///
    /// # Errors
    /// When it cannot be built, or ends, with its last words.
    pub async fn start(
        authority: &CertificateAuthority,
        issuer: &str,
        client: (&str, &str),
        policy: &str,
    ) -> Result<Self> {
        let program = provided("minio").await?.join("minio");
        let folder = tempfile::Builder::new().prefix("claviger-minio-").tempdir()?;
        let certificates = folder.path().join("certs");
        std::fs::create_dir_all(certificates.join("CAs"))?;
        std::fs::write(certificates.join("CAs/issuer.crt"), authority.certificate_pem())?;
        let own = authority.server(&["localhost"], &[IpAddr::V4(Ipv4Addr::LOCALHOST)])?;
        own.save(&certificates.join("public.crt"), &certificates.join("private.key"))?;
        let identity = vec![
            (
                "MINIO_IDENTITY_OPENID_CONFIG_URL",
                format!("{issuer}/.well-known/openid-configuration"),
            ),
            ("MINIO_IDENTITY_OPENID_CLIENT_ID", client.0.to_owned()),
            ("MINIO_IDENTITY_OPENID_CLIENT_SECRET", client.1.to_owned()),
            ("MINIO_IDENTITY_OPENID_ROLE_POLICY", policy.to_owned()),
        ];
        let trusted = Certificate::from_pem(authority.certificate_pem().as_bytes())?;
        let http = Client::builder().no_proxy().tls_certs_only([trusted]).build()?;
        let port = PortLease::take()?;
        let mut minio = Self { process: None, port, program, identity, http, folder };
        minio.start_again().await?;
        Ok(minio)
    }

    /// Starts it anew with what it stored: it fetches the issuer's keys again and holds no other.
    ///
    /// # Errors
    /// When it ends, with its last words.
    pub async fn start_again(&mut self) -> Result<()> {
        self.process = None;
        let log = self.folder.path().join("log");
        if log.exists() {
            std::fs::remove_file(&log)?; // what it says now is of this start
        }
        let mut command = tied(&self.program);
        command
            .args(["server", "--address", &format!("127.0.0.1:{}", self.port.port())])
            .arg("--certs-dir")
            .arg(self.folder.path().join("certs"))
            .arg(self.folder.path().join("data"))
            .env("MINIO_ROOT_USER", ROOT.0)
            .env("MINIO_ROOT_PASSWORD", ROOT.1)
            .env("MINIO_BROWSER", "off")
            .env("MINIO_UPDATE", "off")
            .env("MINIO_CALLHOME_ENABLE", "off")
            .env("NO_PROXY", "*")
            .env("TZ", "UTC")
            .envs(self.identity.iter().map(|(name, value)| (*name, value)));
        let mut process = Supervised::spawn("minio", command, &log)?;
        let url = format!("{}/minio/health/ready", self.url());
        let http = &self.http;
        process
            .until_it_answers(START, async || {
                http.get(&url).send().await?.error_for_status()?;
                Ok(())
            })
            .await?;
        self.process = Some(process);
        // It is ready before it knows its identity provider: what it refused until then would say nothing.
        self.role().await.map(drop)
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port.port())
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        self.process.as_ref().map(Supervised::log_tail).unwrap_or_default()
    }

    /// Asks its STS for credentials, as AWS's SDKs do.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn assume_role(&self, id_token: &str, role: &str) -> Result<StsAnswer> {
        let form = [
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
            ("RoleArn", role),
            ("RoleSessionName", "story"),
            ("WebIdentityToken", id_token),
        ];
        let response = self.http.post(self.url()).form(&form).send().await?;
        Ok(StsAnswer { status: response.status(), body: response.text().await? })
    }

    /// The role its identity provider stands for, by which it knows the policy. It prints it when it has
    /// its provider's metadata.
    ///
    /// # Errors
    /// When it does not.
    pub async fn role(&self) -> Result<String> {
        eventually(START, async || {
            let log = std::fs::read_to_string(self.folder.path().join("log"))?;
            let role = log.split_whitespace().find(|word| word.starts_with("arn:minio:iam:"));
            Ok(role.with_context(|| format!("no role in the log:\n{log}"))?.to_owned())
        })
        .await
    }
}

impl StsAnswer {
    /// The text of the first element of this name.
    pub fn element(&self, name: &str) -> Option<String> {
        let (_, rest) = self.body.split_once(&format!("<{name}>"))?;
        Some(rest.split_once('<')?.0.to_owned())
    }
}
