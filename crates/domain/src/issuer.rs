//! One issuer in service: everything a request at it may need, resolved.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use claviger_protocol::response_type::ResponseType;
use claviger_seal::KeyRing;
use secrecy::{ExposeSecret, SecretString};

use crate::browser_session::BrowserSessions;
use crate::claim;
use crate::client::{Client, Grant};
use crate::connector::Connector;
use crate::custom_claim::CustomClaims;
use crate::device::DevicePolicy;
use crate::keys::SigningKeys;
use crate::registration::Registration;

/// One OIDCIssuer in service.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// `metadata.uid` of the OIDCIssuer; everything sealed is bound to it.
    pub uid: String,
    /// `metadata.name`.
    pub name: String,
    /// The issuer identifier.
    pub url: IssuerUrl,
    /// Heading of the pages.
    pub title: String,
    /// Logo of the pages.
    pub logo_url: Option<String>,
    /// Clients by client ID.
    pub clients: HashMap<String, ClientEntry>,
    /// Connectors in service, in the order they are offered.
    pub connectors: Vec<Arc<Connector>>,
    /// UIDs of Connectors that exist at this issuer but are out of service: their users wait (503),
    /// while the users of a deleted one are signed out.
    pub unavailable_connectors: BTreeSet<String>,
    /// The connector that the bare `/callback` serves.
    pub callback_connector: Option<String>,
    /// Signing keys.
    pub keys: Arc<SigningKeys>,
    /// The ring that seals what browsers and clients carry.
    pub sealing: Arc<KeyRing>,
    /// Lifetimes for clients without their own.
    pub lifetimes: Lifetimes,
    /// How many sessions may be live at once.
    pub session_limits: SessionLimits,
    /// Devices that wait for their users.
    pub devices: DevicePolicy,
    /// Grants on offer.
    pub grants: BTreeSet<Grant>,
    /// Response types on offer.
    pub response_types: BTreeSet<ResponseType>,
    /// Single sign-on, if this issuer has it.
    pub browser_sessions: Option<BrowserSessions>,
    /// Who may register clients, and what they get; `None`: nobody.
    pub registration: Option<Registration>,
    /// How `sub` is made.
    pub subject: SubjectFormat,
    /// Claims of its own, and the scopes that reveal them.
    pub custom_claims: CustomClaims,
    /// Values beginning with `system:` that tokens may carry; all others are refused.
    pub allowed_system_values: BTreeSet<String>,
    /// Origins that may call the token, userinfo and metadata endpoints from a script.
    pub cors_allowed_origins: BTreeSet<String>,
    /// Certificate for this issuer's host, if it comes from a Secret.
    pub tls: Option<Arc<TlsIdentity>>,
}

/// A client that exists at an issuer.
#[derive(Debug, Clone)]
pub enum ClientEntry {
    /// May be used.
    InService(Arc<Client>),
    /// Exists but is invalid now: its sessions wait (503) instead of dying.
    OutOfService(Arc<OutOfService>),
}

impl ClientEntry {
    /// `metadata.uid` of its object.
    pub fn uid(&self) -> &str {
        match self {
            Self::InService(client) => &client.uid,
            Self::OutOfService(client) => &client.uid,
        }
    }
}

/// What is known of a client that is out of service: whose sessions wait, and who may manage it (RFC 7592).
#[derive(Debug, Clone, Default)]
pub struct OutOfService {
    /// `metadata.uid` of its object.
    pub uid: String,
    /// As in [`Client::registration_digest`].
    pub registration_digest: Option<String>,
    /// Its secrets, the current one first, as far as they are known while it is so.
    pub secrets: Vec<SecretString>,
}

/// A certificate chain with its key, PEM.
#[derive(Debug)]
pub struct TlsIdentity {
    /// Certificate chain, leaf first.
    pub certificate_pem: String,
    /// Private key.
    pub key_pem: SecretString,
}

impl TlsIdentity {
    /// Whether both are the same chain and key.
    pub fn same_as(&self, other: &Self) -> bool {
        self.certificate_pem == other.certificate_pem
            && self.key_pem.expose_secret() == other.key_pem.expose_secret()
    }
}

/// How long things last, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// ID tokens: 60–86 400.
    pub id_token: i64,
    /// Access tokens: 60–86 400.
    pub access_token: i64,
    /// A refresh token that is not used dies after this.
    pub refresh_idle: i64,
    /// A session dies after this, used or not.
    pub refresh_absolute: i64,
    /// A refresh token whose answer was lost may be sent again within this: 0–60.
    pub refresh_grace: i64,
}

/// How many sessions may be live at once; the leader revokes the oldest beyond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// Of one user.
    pub per_user: u32,
    /// Of one client.
    pub per_client: u32,
    /// Of the issuer.
    pub total: u32,
}

/// How `sub` is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubjectFormat {
    /// base64url(protobuf {1: user ID, 2: connector ID}), as dex makes it.
    Dex,
    /// `<connector>:<user ID>`.
    Plain,
}

/// An issuer identifier, byte for byte as configured: no trailing slash, query or fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerUrl {
    raw: String,
    authority_end: usize,
    https: bool,
}

impl IssuerUrl {
    /// Takes an issuer identifier apart.
    ///
    /// # Errors
    /// A text that names what is wrong: scheme, authority, query, fragment or trailing slash.
    pub fn parse(raw: &str) -> Result<Self, String> {
        let (https, rest_at) = match (raw.strip_prefix("https://"), raw.strip_prefix("http://")) {
            (Some(_), _) => (true, "https://".len()),
            (_, Some(_)) => (false, "http://".len()),
            _ => return Err("issuer URL must begin with https://".into()),
        };
        if raw.contains(['?', '#', '@']) || raw.contains(char::is_whitespace) {
            return Err("issuer URL must have no query, fragment, user or white space".into());
        }
        if raw.ends_with('/') {
            return Err("issuer URL must not end with a slash".into());
        }
        let authority_end = raw[rest_at..].find('/').map_or(raw.len(), |at| rest_at + at);
        if authority_end == rest_at {
            return Err("issuer URL must name a host".into());
        }
        Ok(Self { raw: raw.to_owned(), authority_end, https })
    }

    /// The identifier itself (`iss`).
    pub fn as_str(&self) -> &str {
        &self.raw
    }

    /// Whether browsers reach it by TLS (cookies are `Secure` then).
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// Host and port as a `Host` header carries them, in lower case.
    pub fn authority(&self) -> String {
        let start = if self.https { "https://".len() } else { "http://".len() };
        self.raw[start..self.authority_end].to_ascii_lowercase()
    }

    /// Path without trailing slash; empty for an issuer at the root of its host.
    pub fn path(&self) -> &str {
        &self.raw[self.authority_end..]
    }

    /// URL of an endpoint below the issuer; `path` begins with a slash.
    pub fn join(&self, path: &str) -> String {
        format!("{}{path}", self.raw)
    }
}

impl Issuer {
    /// The client of this ID.
    pub fn client(&self, id: &str) -> Option<&ClientEntry> {
        self.clients.get(id)
    }

    /// The client whose object has this UID.
    pub fn entry_by_uid(&self, uid: &str) -> Option<&ClientEntry> {
        self.clients.values().find(|entry| entry.uid() == uid)
    }

    /// The client whose object has this UID, if it is in service.
    pub fn client_by_uid(&self, uid: &str) -> Option<&Arc<Client>> {
        match self.entry_by_uid(uid)? {
            ClientEntry::InService(client) => Some(client),
            ClientEntry::OutOfService(_) => None,
        }
    }

    /// Whether any client wants to be told, server to server, that a session is over. One that is out of service
    /// may.
    pub fn tells_clients(&self) -> bool {
        self.clients.values().any(|entry| match entry {
            ClientEntry::InService(client) => client.logout.back_channel.is_some(),
            ClientEntry::OutOfService(_) => true,
        })
    }

    /// Seconds for which it must be known that this client has part in a browser's session: as long as that may
    /// last, if the client wants to be told of its end; else 0.
    pub fn remembers(&self, client: &Client, browser: Option<&str>) -> i64 {
        let policy = self.browser_sessions.filter(|_| browser.is_some() && client.logout.is_told());
        policy.map_or(0, |policy| policy.absolute)
    }

    /// Whether tokens can be made for a client: a replica that is cut off from the cluster has no
    /// signer, and mints nothing.
    pub fn can_sign_for(&self, client: &Client) -> bool {
        self.keys.signers.contains_key(&client.id_token_algorithm)
    }

    /// Where access tokens tell who somebody is: the resource they are for unless another was asked for.
    pub fn userinfo_endpoint(&self) -> String {
        self.url.join("/userinfo")
    }

    /// The scope that reveals a claim about users here.
    pub fn scope_of(&self, claim: &str) -> Option<&str> {
        claim::scope_of(claim).or_else(|| self.custom_claims.scope_of(claim))
    }

    /// The connector of this UID, if it is in service.
    pub fn connector_by_uid(&self, uid: &str) -> Option<&Arc<Connector>> {
        self.connectors.iter().find(|c| c.uid == uid)
    }

    /// Connectors a client's users may choose from.
    pub fn connectors_for<'a>(
        &'a self,
        client: &'a Client,
    ) -> impl Iterator<Item = &'a Arc<Connector>> {
        self.connectors.iter().filter(|c| client.admits(c))
    }
}
