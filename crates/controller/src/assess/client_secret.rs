//! The secrets of a client, and what the Secret Claviger makes for it must hold.
//!
//! What always holds: a generated Secret is read and written only if it is owned by this very client
//! (by UID); one of the same name that is anybody else's is left alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use claviger_api::condition::Reason;
use claviger_api::{GeneratedSecret, OAuth2Client, SecretKeyRef, labels};
use claviger_domain::client::ClientAuthentication;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use secrecy::SecretString;

use crate::assess::findings::Findings;
use crate::secret::{self, Unresolved, Use};
use crate::world::{ObjectKey, Obstacle, World};

/// Shortest secret a client may bring: about 96 bits if it is base64.
const SHORTEST_SECRET: usize = 16;
/// Keys of a generated Secret, as an application takes them by `envFrom`.
pub const CLIENT_ID: &str = "client_id";
/// The secret.
pub const CLIENT_SECRET: &str = "client_secret";
/// The secret before the last rotation, still valid.
pub const PREVIOUS_SECRET: &str = "client_secret_previous";
/// The issuer's URL.
pub const ISSUER: &str = "issuer";

/// A Secret that Claviger keeps for a client.
#[derive(Debug, Clone)]
pub struct ClientSecret {
    /// Where it is.
    pub key: ObjectKey,
    /// Name of the client.
    pub client: String,
    /// UID of the client.
    pub client_uid: String,
    /// `client_id` in it.
    pub client_id: String,
    /// `issuer` in it.
    pub issuer: String,
    /// `spec…generatedSecret.rotation`.
    pub rotation: i32,
    /// The Secret as it is now, if it is this client's.
    pub observed: Option<Arc<Secret>>,
}

/// What a generated Secret must become.
#[derive(Debug, Clone, PartialEq)]
pub struct WantedSecret {
    /// All its data.
    pub data: BTreeMap<String, ByteString>,
    /// Value of the rotation annotation.
    pub rotation: String,
}

impl ClientSecret {
    /// What the Secret must become, or `None` if it is as it should be.
    ///
    /// `generate` gives a new secret; it is asked only for a first secret or a rotation.
    pub fn wanted(&self, generate: impl FnOnce() -> String) -> Option<WantedSecret> {
        let observed = self.observed.as_deref();
        let current =
            observed.and_then(|s| secret::value(s, CLIENT_SECRET)).filter(|v| !v.is_empty());
        let previous = observed.and_then(|s| secret::value(s, PREVIOUS_SECRET));
        let rotations = current.map_or(1, |_| self.rotation - self.rotated_for());
        let (current, previous) = match (current, rotations) {
            (Some(current), ..=0) => (current.to_vec(), previous.map(<[u8]>::to_vec)),
            (Some(current), 1) => (generate().into_bytes(), Some(current.to_vec())),
            // Raised twice: the one before is not to be trusted either.
            _ => (generate().into_bytes(), None),
        };
        let mut data = BTreeMap::from([
            (CLIENT_ID.to_owned(), ByteString(self.client_id.clone().into_bytes())),
            (ISSUER.to_owned(), ByteString(self.issuer.clone().into_bytes())),
            (CLIENT_SECRET.to_owned(), ByteString(current)),
        ]);
        if let Some(previous) = previous {
            data.insert(PREVIOUS_SECRET.to_owned(), ByteString(previous));
        }
        let wanted =
            WantedSecret { data, rotation: self.rotation.max(self.rotated_for()).to_string() };
        let settled = observed.is_some_and(|secret| {
            secret.data.as_ref() == Some(&wanted.data)
                && secret.annotations().get(labels::ROTATION) == Some(&wanted.rotation)
        });
        (!settled).then_some(wanted)
    }

    /// The rotation the Secret was last made for. One that does not say is taken to be up to date.
    fn rotated_for(&self) -> i32 {
        let annotations = self.observed.as_deref().map(ResourceExt::annotations);
        annotations
            .and_then(|annotations| annotations.get(labels::ROTATION)?.parse().ok())
            .unwrap_or(self.rotation)
    }
}

/// The client's live secrets, and the Secret to keep for it.
///
/// `identity` is the client ID and the issuer's URL.
pub fn assess(
    world: &World,
    client: &OAuth2Client,
    identity: (&str, &str),
    findings: &mut Findings,
) -> (Option<ClientAuthentication>, Option<ClientSecret>) {
    let Some(authentication) = &client.spec.authentication else {
        return (None, None);
    };
    let namespace = client.namespace().unwrap_or_default();
    if let Some(reference) = &authentication.secret_ref {
        let mut secrets = findings.resolved(given(world, &namespace, reference));
        if let (Some(secrets), Some(before)) = (&mut secrets, &authentication.previous_secret_ref) {
            match given(world, &namespace, before) {
                Ok(mut before) => secrets.append(&mut before),
                Err(gone) => {
                    findings.note(format!("previousSecretRef is not used: {}", gone.message));
                }
            }
        }
        return (secrets.map(ClientAuthentication::Secret), None);
    }
    let Some(generated) = &authentication.generated_secret else {
        return (None, None);
    };
    let wanted = ClientSecret {
        key: ObjectKey::new(&namespace, &generated.name),
        client: client.name_any(),
        client_uid: client.uid().unwrap_or_default(),
        client_id: identity.0.to_owned(),
        issuer: identity.1.to_owned(),
        rotation: generated.rotation,
        observed: None,
    };
    match observe(world, &wanted, generated) {
        Ok(observed) => {
            let secrets = findings.resolved(live(&observed, &wanted.key));
            let wanted = ClientSecret { observed: Some(observed), ..wanted };
            (secrets.map(ClientAuthentication::Secret), Some(wanted))
        }
        Err(unresolved) => {
            // One that is seen to be somebody else's, or that we may not see, is not ours to make.
            let ours_to_make = unresolved.reason != Reason::SecretAccessDenied
                && !world.secrets.contains_key(&wanted.key);
            findings.unresolved(unresolved);
            (None, ours_to_make.then_some(wanted))
        }
    }
}

fn given(
    world: &World,
    namespace: &str,
    reference: &SecretKeyRef,
) -> Result<Vec<SecretString>, Unresolved> {
    let (name, key) = (reference.name.as_str(), reference.key.as_str());
    let bytes = secret::resolve_value(world, namespace, (name, key), Use::Client)?;
    match secret::line(bytes).filter(|secret| secret.len() >= SHORTEST_SECRET) {
        Some(secret) => Ok(vec![SecretString::from(secret.to_owned())]),
        None => Err(Unresolved::new(
            Reason::SecretInvalid,
            format!(
                "Secret {namespace}/{name}: the value under key {key} must be text of at least {SHORTEST_SECRET} characters"
            ),
        )),
    }
}

/// The generated Secret, if it is there and this client's.
fn observe(
    world: &World,
    wanted: &ClientSecret,
    generated: &GeneratedSecret,
) -> Result<Arc<Secret>, Unresolved> {
    let key = &wanted.key;
    secret::check_access(world, &key.namespace)?;
    let foreign = || {
        Unresolved::new(
            Reason::SecretNotOwned,
            format!(
                "Secret {key} exists and is not this client's: it is left alone; choose another generatedSecret.name than {}, or remove that Secret",
                generated.name
            ),
        )
    };
    match world.secrets.get(key) {
        Some(secret)
            if Use::Client.admits(secret) && secret::is_owned_by(secret, &wanted.client_uid) =>
        {
            Ok(Arc::clone(secret))
        }
        Some(_) => Err(foreign()),
        None => match world.obstacles.get(key) {
            Some(Obstacle::Foreign) => Err(foreign()),
            Some(_) => Err(Unresolved::new(
                Reason::WriteFailed,
                format!(
                    "Claviger may not write Secret {key}: grant its ServiceAccount create and update on secrets in namespace {}",
                    key.namespace
                ),
            )),
            None => Err(Unresolved::new(
                Reason::Progressing,
                format!("Claviger is making Secret {key}"),
            )),
        },
    }
}

fn live(secret: &Secret, key: &ObjectKey) -> Result<Vec<SecretString>, Unresolved> {
    let text = |name| secret::value(secret, name).and_then(secret::line);
    let secrets: Vec<SecretString> = [CLIENT_SECRET, PREVIOUS_SECRET]
        .into_iter()
        .filter_map(text)
        .filter(|secret| secret.len() >= SHORTEST_SECRET)
        .map(|secret| SecretString::from(secret.to_owned()))
        .collect();
    if secrets.is_empty() {
        return Err(Unresolved::new(
            Reason::SecretInvalid,
            format!(
                "Secret {key} holds no client_secret of at least {SHORTEST_SECRET} characters: remove the key and Claviger makes a new one"
            ),
        ));
    }
    Ok(secrets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(rotation: Option<&str>, current: &str, previous: Option<&str>) -> Secret {
        let mut data = BTreeMap::from([
            (CLIENT_ID.to_owned(), ByteString(b"team/app".to_vec())),
            (ISSUER.to_owned(), ByteString(b"https://id.example".to_vec())),
            (CLIENT_SECRET.to_owned(), ByteString(current.into())),
        ]);
        if let Some(previous) = previous {
            data.insert(PREVIOUS_SECRET.to_owned(), ByteString(previous.into()));
        }
        let mut secret = Secret { data: Some(data), ..Secret::default() };
        secret.metadata.annotations =
            rotation.map(|value| BTreeMap::from([(labels::ROTATION.to_owned(), value.to_owned())]));
        secret
    }

    fn wanted(observed: Option<Secret>, rotation: i32) -> Option<WantedSecret> {
        let secret = ClientSecret {
            key: ObjectKey::new("team", "app-oidc"),
            client: "app".into(),
            client_uid: "uid".into(),
            client_id: "team/app".into(),
            issuer: "https://id.example".into(),
            rotation,
            observed: observed.map(Arc::new),
        };
        secret.wanted(|| "new".to_owned())
    }

    fn pair(wanted: &WantedSecret) -> (String, Option<String>) {
        let text =
            |key| wanted.data.get(key).map(|value| String::from_utf8_lossy(&value.0).into_owned());
        (text(CLIENT_SECRET).unwrap(), text(PREVIOUS_SECRET))
    }

    #[test]
    fn the_first_secret_is_made_and_then_left_alone() {
        let first = wanted(None, 0).unwrap();
        assert_eq!(pair(&first), ("new".into(), None));
        assert_eq!(wanted(Some(secret(Some("0"), "kept", None)), 0), None);
    }

    #[test]
    fn a_rotation_keeps_the_one_before_and_two_at_once_keep_none() {
        let once = wanted(Some(secret(Some("0"), "old", Some("older"))), 1).unwrap();
        assert_eq!(pair(&once), ("new".into(), Some("old".into())));
        assert_eq!(once.rotation, "1");
        let twice = wanted(Some(secret(Some("0"), "old", Some("older"))), 2).unwrap();
        assert_eq!(pair(&twice), ("new".into(), None));
    }

    #[test]
    fn what_drifted_is_put_right_without_a_new_secret() {
        let mut drifted = secret(Some("3"), "kept", Some("before"));
        drifted.data.as_mut().unwrap().insert(CLIENT_ID.into(), ByteString(b"kubernetes".to_vec()));
        let repaired = wanted(Some(drifted), 3).unwrap();
        assert_eq!(pair(&repaired), ("kept".into(), Some("before".into())));
        assert_eq!(repaired.data[CLIENT_ID].0, b"team/app");
        assert_eq!(wanted(Some(secret(None, "kept", None)), 3).unwrap().rotation, "3");
    }

    #[test]
    fn an_emptied_secret_is_made_anew() {
        let emptied = wanted(Some(secret(Some("0"), "", None)), 0).unwrap();
        assert_eq!(pair(&emptied), ("new".into(), None));
    }
}
