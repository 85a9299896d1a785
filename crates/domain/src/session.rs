//! What a stored session means: its name, its sealed payload, and where a refresh token stands in it.

use aws_lc_rs::digest;
use claviger_protocol::scope::ScopeSet;
use claviger_seal::{Context, OpenError, Purpose};
use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Serialize};

use crate::authentication::Authentication;
use crate::claim::RequestedClaims;
use crate::compact;
use crate::connector::ConnectorData;
use crate::identity::Identity;
use crate::issuer::Issuer;
use crate::ports::{SessionLabels, SessionState, StoredSession};

/// Longest sealed payload, in characters: what the Session's schema takes.
pub const MAX_PAYLOAD: usize = 65_536;

/// The sealed part of a session: its only authority.
///
/// It is the largest part of what a login stores, so it is `MessagePack` with short names, and what it is
/// sealed for (issuer, client, session) is not in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// The user as last reported and let through.
    #[serde(rename = "i")]
    pub identity: Identity,
    /// The user as last reported, before policy: what the connector knows them by.
    #[serde(rename = "u")]
    pub upstream: UpstreamState,
    /// Granted scopes, space-separated.
    #[serde(rename = "s", with = "compact::scopes")]
    pub scopes: String,
    /// `nonce` of the authorization request, where the session waited for its code to be redeemed. An ID
    /// token of a refresh has none (OIDC Core 12.2).
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// When and how the user signed in.
    #[serde(rename = "a")]
    pub authentication: Authentication,
    /// Claims asked for by name.
    #[serde(rename = "q", default, skip_serializing_if = "RequestedClaims::is_empty")]
    pub asked: RequestedClaims,
    /// Resources the access tokens are for; none means `/userinfo`.
    #[serde(rename = "r", default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Hash of the browser session it came of.
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    pub browser: Option<String>,
    /// When the session ends, whatever happens.
    #[serde(rename = "x")]
    pub absolute_expiry: i64,
    /// Digest of the authorization code ([`crate::code::digest_of`]): tells a replay from a double click.
    #[serde(rename = "c")]
    pub code_digest: String,
}

/// What is needed to ask the upstream again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamState {
    /// UID of the connector.
    #[serde(rename = "c", with = "compact::uid")]
    pub connector_uid: String,
    /// What the connector wants back.
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    pub data: Option<ConnectorData>,
    /// When the upstream last vouched for the user.
    #[serde(rename = "t")]
    pub checked_at: i64,
    /// Until when one refresh has the upstream to itself, where a question uses up what it is asked with.
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub claimed_until: Option<i64>,
}

impl Payload {
    /// Seals the payload into a client's session of this name. It opens as long as the session may live.
    pub fn seal(&self, issuer: &Issuer, client_uid: &str, name: &str) -> String {
        let plain = rmp_serde::to_vec_named(self).unwrap_or_default();
        let not_after = self.absolute_expiry.saturating_add(crate::SKEW_SECONDS);
        issuer.sealing.seal(
            Purpose::SessionPayload,
            &context(issuer, client_uid, name),
            not_after,
            &plain,
        )
    }

    /// Whether its refresh tokens are for use while the user is away (Back-Channel Logout 1.0 2.7).
    pub(crate) fn outlives_browser(&self) -> bool {
        ScopeSet::parse(&self.scopes).is_ok_and(|scopes| scopes.contains("offline_access"))
    }

    /// Opens the payload of a client's stored session.
    ///
    /// # Errors
    /// [`OpenError`] when it was sealed by another issuer, for another client or session, or is past its
    /// time.
    pub fn open(
        issuer: &Issuer,
        client_uid: &str,
        session: &StoredSession,
        now: i64,
    ) -> Result<Self, OpenError> {
        let context = context(issuer, client_uid, &session.name);
        let plain =
            issuer.sealing.open(Purpose::SessionPayload, &context, now, &session.payload)?;
        rmp_serde::from_slice(&plain).map_err(|_| OpenError::Malformed)
    }
}

fn context<'a>(issuer: &'a Issuer, client_uid: &'a str, name: &'a str) -> Context<'a> {
    Context { issuer_uid: &issuer.uid, object_name: Some(name), client_uid: Some(client_uid) }
}

/// What the session of this payload is selected by.
pub fn labels(issuer: &Issuer, client_uid: &str, payload: &Payload) -> SessionLabels {
    let user = &payload.identity.user_id;
    SessionLabels {
        issuer_hash: object_hash(&issuer.uid),
        user_hash: user_hash(&issuer.uid, &payload.upstream.connector_uid, user),
        client_hash: object_hash(client_uid),
        browser_hash: payload.browser.clone(),
    }
}

/// Name of the session that redeeming a flow's code creates: the create is the single use.
pub fn name_for_flow(issuer_uid: &str, flow_id: &str) -> String {
    hash_name(&["session", issuer_uid, flow_id], NAME_BYTES)
}

/// Name of the session that an upstream's answer may become, where that is good once: by what it is known by at its
/// connector, whichever flow and client it is shown to.
pub fn name_for_answer(issuer_uid: &str, connector_uid: &str, once: &str) -> String {
    hash_name(&["answer", issuer_uid, connector_uid, once], NAME_BYTES)
}

/// Name of the browser session that a user's sign-in in this flow begins: another user's in the same flow is
/// another.
pub fn name_for_browser(
    issuer_uid: &str,
    flow_id: &str,
    (connector_uid, user_id): (&str, &str),
) -> String {
    hash_name(&["browser", issuer_uid, flow_id, connector_uid, user_id], NAME_BYTES)
}

/// `jti` of what is told when this session is over: always the same.
pub fn name_for_logout(issuer_uid: &str, session: &str) -> String {
    hash_name(&["logout", issuer_uid, session], NAME_BYTES)
}

/// Name of a device's authorization, of a random identifier.
pub fn name_for_device_authorization(issuer_uid: &str, id: &str) -> String {
    hash_name(&["device-authorization", issuer_uid, id], NAME_BYTES)
}

/// Name of the session that a device gets for its authorization: the create is the single use.
pub fn name_for_device(issuer_uid: &str, authorization: &str) -> String {
    hash_name(&["device", issuer_uid, authorization], NAME_BYTES)
}

/// Name of the session that a user's password is worth, of a random identifier.
pub fn name_for_password(issuer_uid: &str, id: &str) -> String {
    hash_name(&["password", issuer_uid, id], NAME_BYTES)
}

/// Hash of a user for selectors: the same user at the same connector and issuer, always the same.
pub fn user_hash(issuer_uid: &str, connector_uid: &str, user_id: &str) -> String {
    hash_name(&["user", issuer_uid, connector_uid, user_id], LABEL_BYTES)
}

/// Hash of an object's UID for selectors.
pub fn object_hash(uid: &str) -> String {
    hash_name(&["object", uid], LABEL_BYTES)
}

/// What a token is held to belong to a client's object by.
pub(crate) fn client_pin(issuer_uid: &str, client_uid: &str) -> String {
    hash_name(&["client", issuer_uid, client_uid], PIN_BYTES)
}

/// A name is a guard: nobody may find two flows with one name. 160 bits: 32 characters.
const NAME_BYTES: usize = 20;
/// A label only groups sessions: it must not be the same by accident. 80 bits: 16 characters.
const LABEL_BYTES: usize = 10;

/// A pin is compared with that of one client, whose UID the API server made by chance: 40 bits are never met by
/// making clients. 8 characters.
const PIN_BYTES: usize = 5;

/// base32, in lower case, of the beginning of SHA-256 over length-prefixed parts.
fn hash_name(parts: &[&str], length: usize) -> String {
    let mut hash = digest::Context::new(&digest::SHA256);
    for part in parts {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    BASE32_NOPAD.encode(&hash.finish().as_ref()[..length]).to_ascii_lowercase()
}

/// Where a refresh token of some generation stands in its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is the current one.
    Current,
    /// It was rotated a moment ago and its successor was never used: its answer was lost, or two
    /// requests raced. It gets the same successor again.
    HonestRetry,
    /// It was rotated before, and its time for a retry is over: somebody holds a copy.
    Reused,
    /// The session is over, another client's, or never got that far.
    Refused,
}

/// Judges a refresh token against the session as a quorum read gave it.
pub fn standing(
    session: &StoredSession,
    client_uid: &str,
    generation: i64,
    now: i64,
    grace: i64,
) -> Standing {
    if session.state != SessionState::Active || session.client_uid != client_uid {
        return Standing::Refused;
    }
    let ahead = session.generation.saturating_sub(generation);
    match ahead {
        0 => Standing::Current,
        1 if now.saturating_sub(session.rotated_at) <= grace => Standing::HonestRetry,
        _ if ahead > 0 => Standing::Reused,
        _ => Standing::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(generation: i64) -> StoredSession {
        StoredSession {
            name: "s".into(),
            state: SessionState::Active,
            generation,
            client_uid: "client".into(),
            rotated_at: 1_000,
            expires_at: 9_000,
            redemption_id: None,
            payload: String::new(),
        }
    }

    #[test]
    fn a_rotated_token_is_an_honest_retry_only_within_its_grace() {
        let judge = |n, now| standing(&session(5), "client", n, now, 10);
        assert_eq!(judge(5, 1_000), Standing::Current);
        assert_eq!(judge(4, 1_010), Standing::HonestRetry);
        assert_eq!(judge(4, 1_011), Standing::Reused);
        assert_eq!(judge(3, 1_000), Standing::Reused, "its successor was used");
        assert_eq!(judge(6, 1_000), Standing::Refused, "never issued");
    }

    #[test]
    fn another_clients_or_ended_session_is_refused_and_never_revoked() {
        assert_eq!(standing(&session(5), "other", 3, 1_000, 10), Standing::Refused);
        let revoked = StoredSession { state: SessionState::Revoked, ..session(5) };
        assert_eq!(standing(&revoked, "client", 3, 1_000, 10), Standing::Refused);
    }

    fn payload() -> Payload {
        Payload {
            identity: crate::fakes::alice(),
            upstream: UpstreamState {
                connector_uid: "6c9f8f0e-0000-4000-8000-000000000003".into(),
                data: Some(ConnectorData(vec![0, 127, 128, 255])),
                checked_at: 1,
                claimed_until: None,
            },
            scopes: "openid offline_access".into(),
            nonce: Some("n".into()),
            authentication: Authentication { time: 1, acr: None, amr: vec!["pwd".into()] },
            asked: RequestedClaims::default(),
            resources: Vec::new(),
            browser: None,
            absolute_expiry: 2_000,
            code_digest: "d".into(),
        }
    }

    #[test]
    fn a_payload_opens_for_its_issuer_client_and_session_alone() {
        let issuer = crate::fakes::World::new().issuer;
        let full = payload();
        let bare = Payload {
            identity: Identity {
                email: None,
                email_verified: false,
                name: None,
                preferred_username: None,
                groups: Vec::new(),
                ..full.identity.clone()
            },
            upstream: UpstreamState { data: None, ..full.upstream.clone() },
            nonce: None,
            ..full.clone()
        };
        for payload in [full, bare] {
            let stored = |name: &str| StoredSession {
                name: name.into(),
                payload: payload.seal(&issuer, "client", "s"),
                ..session(0)
            };
            assert_eq!(Payload::open(&issuer, "client", &stored("s"), 1_000), Ok(payload.clone()));
            let other = crate::issuer::Issuer { uid: "other".into(), ..issuer.clone() };
            for opened in [
                Payload::open(&issuer, "another", &stored("s"), 1_000),
                Payload::open(&issuer, "", &stored("s"), 1_000),
                Payload::open(&issuer, "client", &stored("t"), 1_000),
                Payload::open(&other, "client", &stored("s"), 1_000),
            ] {
                assert_eq!(opened, Err(OpenError::Forged));
            }
            let over = 2_000 + crate::SKEW_SECONDS;
            assert_eq!(
                Payload::open(&issuer, "client", &stored("s"), over),
                Err(OpenError::Expired)
            );
        }
    }

    #[test]
    fn session_names_are_dns_labels_and_depend_on_issuer_and_flow() {
        let name = name_for_flow("issuer", "flow");
        assert_eq!(name.len(), 32);
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
        assert_eq!(name, name_for_flow("issuer", "flow"));
        assert_ne!(name, name_for_flow("issue", "rflow"));
    }
}
