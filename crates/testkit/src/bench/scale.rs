//! A large installation: a thousand clients, a hundred connectors, fifty thousand live sessions.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::ceiling::{Create, Store};
use super::connection::{Connection, Target};
use crate::eventually;

/// Clients, the quickstart's own among them.
pub const CLIENTS: usize = 1_000;
/// Connectors, the quickstart's own two among them.
pub const CONNECTORS: usize = 100;
/// Issuers they are spread over: one takes 32 connectors at most.
const ISSUERS: usize = 4;
/// Connections that create things.
const WORKERS: usize = 16;
/// A thousand clients get a thousand Secrets and statuses from one replica, one after the other.
const SETTLE: Duration = Duration::from_mins(4);

/// Somebody who may do everything, in the home namespace.
pub struct Administrator {
    target: Target,
    namespace: String,
}

impl Administrator {
    /// `target` is the API server as its administrator.
    pub fn new(target: Target, namespace: &str) -> Self {
        Self { target, namespace: namespace.to_owned() }
    }

    /// Creates the configuration of a large installation beside the quickstart's.
    ///
    /// # Errors
    /// What the API server refuses.
    pub async fn enlarge(&self, issuer_url: &str) -> Result<()> {
        let connectors: Vec<_> = (2..CONNECTORS).map(connector).collect();
        let mut objects = vec![("v1", "secrets", secret())];
        for (n, object) in (2..CONNECTORS).zip(connectors) {
            objects.push(("claviger.dev/v1alpha1", "connectors", with_name(object, &name("c", n))));
        }
        for n in 1..ISSUERS {
            let object = with_name(issuer(n, issuer_url), &name("i", n));
            objects.push(("claviger.dev/v1alpha1", "oidcissuers", object));
        }
        for n in 1..CLIENTS {
            let object = with_name(client(n), &name("a", n));
            objects.push(("claviger.dev/v1alpha1", "oauth2clients", object));
        }
        self.create(&objects).await
    }

    async fn create(&self, objects: &[(&str, &str, Value)]) -> Result<()> {
        let share = objects.len().div_ceil(WORKERS);
        let workers = objects.chunks(share).map(|objects| async move {
            let mut connection = self.target.open().await?;
            for (version, plural, object) in objects {
                self.create_one(&mut connection, version, plural, object).await?;
            }
            anyhow::Ok(())
        });
        try_join_all(workers).await.map(drop)
    }

    async fn create_one(
        &self,
        connection: &mut Connection,
        version: &str,
        plural: &str,
        object: &Value,
    ) -> Result<()> {
        let path = self.path(version, plural);
        let headers = [("content-type", "application/json")];
        let answer = connection.send(Method::POST, &path, &headers, object.to_string()).await?;
        answer.expect(StatusCode::CREATED).map(drop)
    }

    fn path(&self, version: &str, plural: &str) -> String {
        let root = if version == "v1" { "api" } else { "apis" };
        format!("/{root}/{version}/namespaces/{}/{plural}", self.namespace)
    }

    /// Waits until every client says it is ready.
    ///
    /// # Errors
    /// When they are not within four minutes.
    pub async fn wait_until_ready(&self) -> Result<()> {
        let path = self.path("claviger.dev/v1alpha1", "oauth2clients");
        let mut connection = self.target.open().await?;
        eventually(SETTLE, async || {
            let answer = connection.get(&path, &[]).await?.expect(StatusCode::OK)?.json()?;
            let items = answer["items"].as_array().context("no items")?;
            let ready = items.iter().filter(|client| is_ready(client)).count();
            ensure!(ready == CLIENTS, "{ready} of {CLIENTS} clients are ready");
            Ok(())
        })
        .await
    }
}

fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}

/// Stores this many live sessions, each of another user, spread over the clients.
///
/// # Errors
/// What the API server refuses.
pub async fn fill(store: &Store, sessions: usize, workers: usize) -> Result<()> {
    let share = sessions.div_ceil(workers);
    let workers = (0..workers).map(|worker| async move {
        let create = Create::client(store, format!("live-{worker}")).await?;
        create.fill(share.min(sessions.saturating_sub(worker * share))).await
    });
    try_join_all(workers).await.map(drop)
}

fn name(prefix: &str, n: usize) -> String {
    format!("{prefix}-{n:04}")
}

fn with_name(mut object: Value, name: &str) -> Value {
    object["metadata"]["name"] = name.into();
    object
}

/// The directories' service password.
fn secret() -> Value {
    json!({
        "metadata": {"name": "directories", "labels": {"claviger.dev/secret": "connector"}},
        "stringData": {"password": "not-used"},
    })
}

/// A directory at a port that nobody listens on, trusted by the system's authorities: what is kept for it in memory is
/// that of any other.
fn connector(n: usize) -> Value {
    json!({
        "apiVersion": "claviger.dev/v1alpha1",
        "kind": "Connector",
        "metadata": {},
        "spec": {
            "displayName": format!("Directory {n}"),
            "groupPrefix": format!("d{n}:"),
            "emailDomains": [format!("d{n}.example.com")],
            "upstream": {"ldap": {
                "urls": ["ldaps://127.0.0.1:9"],
                "tls": {"mode": "LDAPS"},
                "bind": {
                    "dn": "cn=reader,dc=example,dc=com",
                    "passwordSecretRef": {"name": "directories", "key": "password"},
                },
                "userSearch": {
                    "baseDN": "ou=people,dc=example,dc=com",
                    "filter": "(objectClass=inetOrgPerson)",
                    "usernameAttributes": ["uid"],
                    "idAttribute": "entryUUID",
                    "emailAttribute": "mail",
                },
            }},
        },
    })
}

fn issuer(n: usize, url: &str) -> Value {
    let offered = (2..CONNECTORS).filter(|connector| connector % ISSUERS == n);
    let connectors: Vec<_> = offered.map(|c| json!({"name": name("c", c)})).collect();
    json!({
        "apiVersion": "claviger.dev/v1alpha1",
        "kind": "OIDCIssuer",
        "metadata": {},
        "spec": {
            "url": format!("{url}/{n}"),
            "signingKeys": [{"name": "main"}],
            "connectors": connectors,
        },
    })
}

fn client(n: usize) -> Value {
    let issuer = match n % ISSUERS {
        0 => "main".to_owned(),
        other => name("i", other),
    };
    json!({
        "apiVersion": "claviger.dev/v1alpha1",
        "kind": "OAuth2Client",
        "metadata": {},
        "spec": {
            "issuerRef": {"name": issuer},
            "displayName": format!("Application {n}"),
            "type": "Confidential",
            "authentication": {
                "method": "client_secret_basic",
                "generatedSecret": {"name": format!("{}-credentials", name("a", n))},
            },
            "redirectURIs": [format!("https://a{n}.example.com/callback")],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_connector_is_offered_and_no_issuer_offers_too_many() {
        let offered: Vec<usize> = (1..ISSUERS)
            .map(|n| issuer(n, "https://x")["spec"]["connectors"].as_array().unwrap().len())
            .collect();
        assert!(offered.iter().all(|count| (24..=32).contains(count)), "{offered:?}");
    }

    #[test]
    fn readiness_is_read_from_the_condition() {
        let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        let other = json!({"status": {"conditions": [{"type": "Accepted", "status": "True"}]}});
        assert!(is_ready(&ready) && !is_ready(&other) && !is_ready(&json!({})));
    }
}
