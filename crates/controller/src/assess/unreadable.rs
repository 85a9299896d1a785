//! Objects that do not fit their schema → what can still be told of them.
//!
//! What always holds: such an object exists and is out of service. Nobody is told that it is gone, for
//! that would end sessions; and nothing of it is served.

use std::collections::BTreeMap;
use std::sync::Arc;

use claviger_domain::issuer::{ClientEntry, IssuerUrl, OutOfService};
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::Value;

use crate::world::{Source, World};

/// All objects that cannot be decoded.
#[derive(Debug, Default)]
pub struct Unreadable {
    /// `LocalUsers`.
    pub users: Vec<UnreadableUser>,
    /// UIDs of Connectors, by name.
    pub connectors: BTreeMap<String, String>,
    /// `OAuth2Clients`.
    pub clients: Vec<UnreadableClient>,
    /// URLs of `OIDCIssuers`, where one can be read.
    pub issuers: Vec<IssuerUrl>,
}

/// A `LocalUser` that cannot be decoded.
#[derive(Debug, PartialEq, Eq)]
pub struct UnreadableUser {
    /// Identifier of the user, in `sub`.
    pub user_id: String,
    /// UID and version of the object.
    pub version: String,
}

/// An `OAuth2Client` that cannot be decoded.
#[derive(Debug, PartialEq, Eq)]
pub struct UnreadableClient {
    /// UID of the object.
    pub uid: String,
    /// The client ID it would have.
    pub id: String,
    /// Digest of its registration access token, if it has one.
    pub registration_digest: Option<String>,
    /// Name of its issuer in home; `None` if that cannot be told either: any may be its.
    pub issuer: Option<String>,
}

impl UnreadableClient {
    /// What requests see of it.
    pub fn entry(&self) -> ClientEntry {
        ClientEntry::OutOfService(Arc::new(OutOfService {
            uid: self.uid.clone(),
            registration_digest: self.registration_digest.clone(),
            secrets: Vec::new(),
        }))
    }
}

impl Unreadable {
    /// What can be told of every object that could not be decoded.
    pub fn of(world: &World) -> Self {
        let objects =
            |source: Source| world.unreadable.get(&source).into_iter().flat_map(|all| all.values());
        Self {
            users: objects(Source::LocalUsers).map(|object| user(object)).collect(),
            connectors: objects(Source::Connectors)
                .map(|object| (object.name_any(), object.uid().unwrap_or_default()))
                .collect(),
            clients: objects(Source::Clients)
                .filter_map(|object| client(object, &world.home))
                .collect(),
            issuers: objects(Source::Issuers)
                .filter_map(|object| IssuerUrl::parse(text(object, "/spec/url")?).ok())
                .collect(),
        }
    }
}

fn user(object: &DynamicObject) -> UnreadableUser {
    let uid = object.uid().unwrap_or_default();
    UnreadableUser {
        user_id: text(object, "/spec/userID").map_or_else(|| uid.clone(), ToOwned::to_owned),
        version: format!("{uid}@{}", object.resource_version().unwrap_or_default()),
    }
}

/// `None` if it is certainly a client of an issuer elsewhere.
fn client(object: &DynamicObject, home: &str) -> Option<UnreadableClient> {
    let namespace = object.namespace().unwrap_or_default();
    let name = object.name_any();
    let issuer = text(object, "/spec/issuerRef/name");
    let issuer_namespace = text(object, "/spec/issuerRef/namespace").unwrap_or(&namespace);
    if issuer.is_some() && issuer_namespace != home {
        return None;
    }
    let id = if namespace == home {
        text(object, "/spec/clientID").map_or(name, ToOwned::to_owned)
    } else {
        format!("{namespace}/{name}")
    };
    let digest = text(object, "/spec/registration/accessTokenDigest");
    Some(UnreadableClient {
        uid: object.uid().unwrap_or_default(),
        id,
        registration_digest: digest.map(ToOwned::to_owned),
        issuer: issuer.map(ToOwned::to_owned),
    })
}

fn text<'o>(object: &'o DynamicObject, pointer: &str) -> Option<&'o str> {
    object.data.pointer(pointer).and_then(Value::as_str)
}
