//! Who a test acts as, and where: namespaces of its own, users by client certificate, `ServiceAccounts` by token.
//!
//! Tests share a control plane and must not meet: each makes its namespaces with random names, and its
//! operator is a `ServiceAccount` there, whose name in the audit log is nobody else's.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use data_encoding::{BASE32_NOPAD, BASE64};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};

use crate::control_plane::ControlPlane;
use crate::pki::CertifiedKey;

/// Longer than any test runs.
const TOKEN_SECONDS: i64 = 24 * 3600;

/// A namespace with a random name. It is not deleted: without a controller-manager it would stay
/// `Terminating`, and the whole control plane goes in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestNamespace {
    name: String,
}

impl TestNamespace {
    /// Creates `<prefix>-<8 random characters>`.
    pub async fn create(client: &Client, prefix: &str) -> Result<Self> {
        let namespace = Namespace {
            metadata: ObjectMeta {
                name: Some(format!("{prefix}-{}", random_suffix()?)),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        let created = Api::<Namespace>::all(client.clone())
            .create(&PostParams::default(), &namespace)
            .await
            .with_context(|| format!("failed to create a namespace {prefix}-…"))?;
        Ok(Self { name: created.metadata.name.unwrap_or_default() })
    }

    /// The namespace's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl ControlPlane {
    /// A kubeconfig file for `user` in `groups` by client certificate. Default namespace: `default`.
    pub fn kubeconfig_for(&self, user: &str, groups: &[&str]) -> Result<PathBuf> {
        let certificate = self.certificate_authority()?.client(user, groups)?;
        self.write_kubeconfig(&self.url()?, &Credentials::Certificate(certificate), "default")
    }

    /// A client as `user` in `groups` by client certificate; in the audit log the user is `user`.
    pub async fn client_for(&self, user: &str, groups: &[&str]) -> Result<Client> {
        client_from_file(&self.kubeconfig_for(user, groups)?).await
    }

    /// A kubeconfig file for the `ServiceAccount` `name`, which must exist, with a token that the API server
    /// issued for a day (`TokenRequest`). In the audit log the user is `system:serviceaccount:<namespace>:<name>`.
    pub async fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        self.service_account_kubeconfig_by(&self.url()?, namespace, name).await
    }

    /// The same, for somebody who finds the API server at another URL, such as that of a
    /// [`Proxy`](crate::Proxy).
    pub async fn service_account_kubeconfig_by(
        &self,
        url: &str,
        namespace: &str,
        name: &str,
    ) -> Result<PathBuf> {
        let request = TokenRequest {
            spec: TokenRequestSpec {
                expiration_seconds: Some(TOKEN_SECONDS),
                ..TokenRequestSpec::default()
            },
            ..TokenRequest::default()
        };
        let token = Api::<ServiceAccount>::namespaced(self.admin().await?, namespace)
            .create_token_request(name, &PostParams::default(), &request)
            .await
            .with_context(|| format!("failed to get a token for {namespace}/{name}"))?
            .status
            .context("the API server answered a TokenRequest without a token")?
            .token;
        self.write_kubeconfig(url, &Credentials::Token(token), namespace)
    }

    /// A client as the `ServiceAccount` `name`, which must exist.
    pub async fn service_account_client(&self, namespace: &str, name: &str) -> Result<Client> {
        client_from_file(&self.service_account_kubeconfig(namespace, name).await?).await
    }

    fn write_kubeconfig(
        &self,
        url: &str,
        credentials: &Credentials,
        namespace: &str,
    ) -> Result<PathBuf> {
        let authority = std::fs::read_to_string(self.ca_file()).context("failed to read the CA")?;
        let content = kubeconfig(url, &authority, credentials, namespace);
        let folder = self.state_folder().join("identities");
        std::fs::create_dir_all(&folder).context("failed to create the folder of identities")?;
        let path = folder.join(format!("{}.kubeconfig", random_suffix()?));
        std::fs::write(&path, format!("{content:#}"))
            .with_context(|| format!("failed to write {}", path.display()))?;
        Ok(path)
    }
}

/// What a kubeconfig file proves its user with.
#[derive(Debug)]
pub(crate) enum Credentials {
    Certificate(CertifiedKey),
    Token(String),
}

/// A kubeconfig file that needs no other file. JSON, which is YAML.
pub(crate) fn kubeconfig(
    url: &str,
    authority: &str,
    credentials: &Credentials,
    namespace: &str,
) -> Value {
    let user = match credentials {
        Credentials::Certificate(CertifiedKey { certificate_pem, key_pem }) => json!({
            "client-certificate-data": BASE64.encode(certificate_pem.as_bytes()),
            "client-key-data": BASE64.encode(key_pem.as_bytes()),
        }),
        Credentials::Token(token) => json!({ "token": token }),
    };
    let authority = BASE64.encode(authority.as_bytes());
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "test",
            "cluster": { "server": url, "certificate-authority-data": authority },
        }],
        "users": [{ "name": "test", "user": user }],
        "contexts": [{
            "name": "test",
            "context": { "cluster": "test", "user": "test", "namespace": namespace },
        }],
        "current-context": "test",
    })
}

/// A client that never retries by itself, so that one call is one request.
pub async fn client_from_file(kubeconfig: &Path) -> Result<Client> {
    let described = || format!("failed to use {}", kubeconfig.display());
    let kubeconfig = Kubeconfig::read_from(kubeconfig).with_context(described)?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .with_context(described)?;
    config.default_retry = false;
    // The machine's proxy settings must not matter on loopback.
    config.proxy_url = None;
    Client::try_from(config).with_context(described)
}

fn random_suffix() -> Result<String> {
    let mut random = [0; 5];
    aws_lc_rs::rand::fill(&mut random).context("failed to get random bytes")?;
    Ok(BASE32_NOPAD.encode(&random).to_ascii_lowercase())
}
