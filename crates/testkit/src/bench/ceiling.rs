//! What the API server does by itself with the same objects: the ceiling of everything that must be stored.
//!
//! Same user, same token, same HTTP version, same number of connections, an object that a real sign-in stored.

use anyhow::{Context, Result, ensure};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::connection::{Connection, Target};
use super::drive::Client;

const JSON: (&str, &str) = ("content-type", "application/json");
const JSON_PATCH: (&str, &str) = ("content-type", "application/json-patch+json");
const USER_HASH: &str = "claviger.dev/user-hash";
/// As Claviger asks.
const MANAGER: &str = "fieldManager=claviger-sessions";

/// Where Sessions are, and who asks for them.
#[derive(Clone)]
pub struct Store {
    /// The API server.
    pub target: Target,
    /// The operator's ServiceAccount token.
    pub token: String,
    /// The home namespace.
    pub namespace: String,
    /// A Session that a sign-in stored, without what the API server adds.
    pub template: Value,
}

impl Store {
    fn collection(&self) -> String {
        format!("/apis/claviger.dev/v1alpha1/namespaces/{}/sessions", self.namespace)
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    /// The template under another name and of another user, as text.
    fn object(&self, name: &str) -> String {
        let mut object = self.template.clone();
        let metadata = &mut object["metadata"];
        // As long as what Claviger writes; and nobody else's, for sessions of one user are capped.
        metadata["name"] = format!("{name:0>32}").into();
        metadata["labels"][USER_HASH] = format!("{name:0>16}").into();
        object.to_string()
    }

    /// Takes the template from a stored Session.
    ///
    /// # Errors
    /// When there is none.
    pub async fn read_template(&mut self) -> Result<Value> {
        let mut connection = self.target.open().await?;
        let path = format!("{}?limit=1", self.collection());
        let list = get_json(&mut connection, &path, &self.bearer()).await?;
        let stored = list["items"].get(0).context("no Session is stored yet")?.clone();
        self.template = json!({
            "apiVersion": "claviger.dev/v1alpha1",
            "kind": "Session",
            "metadata": { "labels": stored["metadata"]["labels"] },
            "spec": stored["spec"],
        });
        Ok(stored)
    }
}

async fn get_json(connection: &mut Connection, path: &str, bearer: &str) -> Result<Value> {
    let headers = [("authorization", bearer), ("accept", "application/json")];
    connection.get(path, &headers).await?.expect(StatusCode::OK)?.json()
}

/// Creates, as a sign-in does.
pub struct Create {
    connection: Connection,
    store: Store,
    path: String,
    bearer: String,
    prefix: String,
    done: usize,
    until: usize,
}

impl Create {
    /// A client of its own connection, whose names begin with `prefix`.
    ///
    /// # Errors
    /// When the API server cannot be reached.
    pub async fn client(store: &Store, prefix: String) -> Result<Self> {
        Ok(Self {
            connection: store.target.open().await?,
            path: format!("{}?{MANAGER}", store.collection()),
            bearer: store.bearer(),
            store: store.clone(),
            prefix,
            done: 0,
            until: usize::MAX,
        })
    }

    /// Creates this many and no more.
    ///
    /// # Errors
    /// When the API server refuses one.
    pub async fn fill(mut self, count: usize) -> Result<()> {
        self.until = count;
        while self.done < self.until {
            self.once().await?;
        }
        Ok(())
    }
}

impl Client for Create {
    async fn once(&mut self) -> Result<()> {
        let name = format!("{}-{}", self.prefix, self.done);
        self.done += 1;
        let headers = [("authorization", self.bearer.as_str()), JSON];
        let body = self.store.object(&name);
        let answer = self.connection.send(Method::POST, &self.path, &headers, body).await?;
        answer.expect(StatusCode::CREATED).map(drop)
    }
}

/// JSON patches, as a refresh does: tests and replacements on an object of one's own.
pub struct PatchOwn {
    connection: Connection,
    path: String,
    bearer: String,
    client_uid: String,
    expires_at: String,
    expiry_hour: String,
    generation: i64,
}

impl PatchOwn {
    /// A client of its own connection and object, which it creates.
    ///
    /// # Errors
    /// When the API server cannot be reached.
    pub async fn client(store: &Store, name: &str) -> Result<Self> {
        let mut create = Create::client(store, name.to_owned()).await?;
        create.once().await?;
        let text = |value: &Value| value.as_str().map(str::to_owned).context("no text");
        let (spec, labels) = (&store.template["spec"], &store.template["metadata"]["labels"]);
        Ok(Self {
            connection: create.connection,
            path: format!("{}/{:0>32}?{MANAGER}", store.collection(), format!("{name}-0")),
            bearer: store.bearer(),
            client_uid: text(&spec["clientUID"])?,
            expires_at: text(&spec["expiresAt"])?,
            expiry_hour: text(&labels["claviger.dev/expiry-hour"])?,
            generation: spec["generation"].as_i64().context("no generation")?,
        })
    }

    fn operations(&self) -> Value {
        json!([
            {"op": "test", "path": "/spec/state", "value": "Active"},
            {"op": "test", "path": "/spec/generation", "value": self.generation},
            {"op": "test", "path": "/spec/clientUID", "value": self.client_uid},
            {"op": "replace", "path": "/spec/generation", "value": self.generation + 1},
            {"op": "replace", "path": "/spec/rotatedAt", "value": self.expires_at},
            {"op": "replace", "path": "/spec/expiresAt", "value": self.expires_at},
            {"op": "replace", "path": "/metadata/labels/claviger.dev~1expiry-hour",
             "value": self.expiry_hour},
        ])
    }
}

impl Client for PatchOwn {
    async fn once(&mut self) -> Result<()> {
        let headers = [("authorization", self.bearer.as_str()), JSON_PATCH];
        let body = self.operations().to_string();
        let answer = self.connection.send(Method::PATCH, &self.path, &headers, body).await?;
        let answer = answer.expect(StatusCode::OK)?;
        ensure!(!answer.body.is_empty(), "an empty answer");
        self.generation += 1;
        Ok(())
    }
}
