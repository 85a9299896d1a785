//! A relying party as the assessor admitted it: every bound (issuer, tenant) is already applied.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use claviger_jose::{Algorithm, KeySet};
pub use claviger_protocol::redirect_uri::RedirectUri;
pub use claviger_protocol::registration::ClientPages;
pub use claviger_protocol::response_type::ResponseType;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::browser_session::Sharing;
use crate::client_logout::ClientLogout;
use crate::cluster_token::ProvenAccount;
use crate::connector::Connector;
use crate::issuer::Lifetimes;
use crate::policy::Condition;
use crate::workload::AllowedWorkloads;

/// One OAuth 2.0 client in service at an issuer.
#[derive(Debug, Clone)]
pub struct Client {
    /// `metadata.uid` of the OAuth2Client; sessions pin it.
    pub uid: String,
    /// `client_id`.
    pub id: String,
    /// What users see on the consent page.
    pub display_name: String,
    /// How it proves itself, or that it does not.
    pub authentication: ClientAuthentication,
    /// Registered redirect URIs; matched exactly (loopback ports aside, RFC 8252 7.3).
    pub redirect_uris: Vec<RedirectUri>,
    /// Where its users may be sent after signing out; compared exactly.
    pub post_logout_redirect_uris: BTreeSet<String>,
    /// Grants this client may use.
    pub grants: BTreeSet<Grant>,
    /// Response types this client may ask for.
    pub response_types: BTreeSet<ResponseType>,
    /// Resources, besides `/userinfo`, that its access tokens may be for.
    pub allowed_resources: BTreeSet<String>,
    /// Authentication context classes of which its users' sign-in must have one. Empty admits all.
    pub required_acr: BTreeSet<String>,
    /// Whether it takes part in single sign-on.
    pub sharing: Sharing,
    /// Scopes this client may ask for; `audience:server:client_id:` scopes are governed by the
    /// peer's `trusted_peers` instead.
    pub scopes: BTreeSet<String>,
    /// Connectors (by name) its users may sign in with. `None` means all the issuer offers.
    pub allowed_connectors: Option<BTreeSet<String>>,
    /// The connector (by name) that checks passwords it was told (grant `password`).
    pub password_connector: Option<String>,
    /// Groups (with prefix) of which the user must be in at least one. Empty admits everybody.
    pub allowed_groups: BTreeSet<String>,
    /// What every user must meet besides. `None` admits everybody.
    pub condition: Option<Arc<Condition>>,
    /// Client IDs that may obtain ID tokens with this client in their audience.
    pub trusted_peers: BTreeSet<String>,
    /// Whether a code challenge must be sent. Always `true` for public clients.
    pub pkce_required: bool,
    /// What it must do beyond what every client must.
    pub demands: Demands,
    /// Algorithm of its ID tokens. The issuer has an active key for it.
    pub id_token_algorithm: Algorithm,
    /// Algorithm of its answers from `/userinfo`; `None` for plain JSON. The issuer has an active key for it.
    pub userinfo_algorithm: Option<Algorithm>,
    /// Longest ID token it takes, in bytes.
    pub max_id_token: usize,
    /// Lifetimes with every bound applied.
    pub lifetimes: Lifetimes,
    /// Whether users are asked before the client learns who they are.
    pub consent_required: bool,
    /// Which tokens it may ask about (RFC 7662). A public client: none.
    pub introspection: Introspection,
    /// What tokens by grant `client_credentials` say of it.
    pub as_subject: ClientSubject,
    /// Client IDs that may exchange their users' tokens for ID tokens with this client as audience.
    pub exchange_peers: BTreeSet<String>,
    /// Pages about it that the consent page links to.
    pub pages: Arc<ClientPages>,
    /// SHA-256 of its registration access token, if it registered itself.
    pub registration_digest: Option<String>,
    /// How it learns that a session is over.
    pub logout: ClientLogout,
    /// Who gets tokens here without being a user.
    pub workloads: AllowedWorkloads,
}

/// What tokens say of a client itself, beside its identifier. Nothing by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientSubject {
    /// With scope `groups`; below `<namespace>:` for a client outside home.
    pub groups: Vec<String>,
    /// With scope `profile`; never for a client outside home.
    pub username: Option<String>,
    /// Further claims, none of which [`is_reserved`](crate::claim::is_reserved); never for a client outside
    /// home.
    pub claims: BTreeMap<String, String>,
}

/// Which tokens a client may ask about at the introspection endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Introspection {
    /// None.
    Forbidden,
    /// Those that were given to itself.
    OwnTokens,
    /// Every access token of the issuer, and its own refresh tokens.
    AllTokens,
}

/// What a client must do beyond what every client must.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Demands {
    /// Its authorization requests are taken from `/par` alone (RFC 9126 6).
    pub pushed_requests: bool,
    /// It gets no token without a proof of possession (RFC 9449).
    pub dpop: bool,
}

/// How a client proves who it is at the token endpoint.
#[derive(Debug, Clone)]
pub enum ClientAuthentication {
    /// No proof (`none`): PKCE binds its codes.
    Public,
    /// `client_secret_basic` or `client_secret_post` with one of the live secrets, newest first.
    Secret(Vec<SecretString>),
    /// `private_key_jwt`: an assertion that one of these keys signed.
    Keys(ClientKeys),
    /// The token of a Kubernetes ServiceAccount.
    ServiceAccount(ServiceAccount),
}

impl ClientAuthentication {
    /// Every `token_endpoint_auth_method` there is (RFC 7591 2). A ServiceAccount's token travels as
    /// `private_key_jwt` does.
    pub const METHODS: [&'static str; 4] =
        ["client_secret_basic", "client_secret_post", "private_key_jwt", "none"];
}

/// The public keys of a client.
#[derive(Debug, Clone)]
pub enum ClientKeys {
    /// They stand in its object.
    Inline(Arc<KeySet>),
    /// It publishes them at this https URL.
    At(String),
}

/// A Kubernetes ServiceAccount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccount {
    /// `system:serviceaccount:<namespace>:<name>`.
    pub subject: String,
    /// The UID it must have, if that was said.
    pub uid: Option<String>,
}

/// A grant type this provider implements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Grant {
    /// RFC 6749 4.1.
    AuthorizationCode,
    /// RFC 6749 6.
    RefreshToken,
    /// RFC 6749 4.4.
    ClientCredentials,
    /// RFC 8693.
    TokenExchange,
    /// RFC 8628.
    DeviceCode,
    /// RFC 7523 2.1.
    JwtBearer,
    /// RFC 6749 4.3.
    Password,
}

impl Grant {
    /// `grant_type` on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AuthorizationCode => "authorization_code",
            Self::RefreshToken => "refresh_token",
            Self::ClientCredentials => "client_credentials",
            Self::TokenExchange => "urn:ietf:params:oauth:grant-type:token-exchange",
            Self::DeviceCode => "urn:ietf:params:oauth:grant-type:device_code",
            Self::JwtBearer => "urn:ietf:params:oauth:grant-type:jwt-bearer",
            Self::Password => "password",
        }
    }
}

impl ServiceAccount {
    /// Whether this is the one that was proven.
    pub fn is(&self, proven: &ProvenAccount) -> bool {
        proven.subject == self.subject && (self.uid.is_none() || proven.uid == self.uid)
    }
}

impl Client {
    /// Whether this client authenticates at all.
    pub fn is_confidential(&self) -> bool {
        !matches!(self.authentication, ClientAuthentication::Public)
    }

    /// The registered redirect URI that a requested one matches, if any.
    pub fn accepts_redirect(&self, requested: &RedirectUri) -> bool {
        let native = !self.is_confidential();
        self.redirect_uris.iter().any(|registered| requested.matches_registered(registered, native))
    }

    /// Whether its users may sign in with the connector of this name.
    pub fn allows_connector(&self, name: &str) -> bool {
        self.allowed_connectors.as_ref().is_none_or(|allowed| allowed.contains(name))
    }

    /// Whether an authentication of this class is enough.
    pub fn allows_acr(&self, acr: Option<&str>) -> bool {
        self.required_acr.is_empty() || acr.is_some_and(|acr| self.required_acr.contains(acr))
    }

    /// Whether its users may sign in with this connector.
    pub fn admits(&self, connector: &Connector) -> bool {
        self.allows_connector(&connector.name) && self.allows_acr(connector.acr.as_deref())
    }
}
