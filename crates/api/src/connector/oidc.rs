//! `upstream.oidc`: any OpenID provider.

use kube_derive::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::client_key::OidcClientKey;
use super::http::HttpTls;
use crate::secret_ref::SecretKeyRef;

/// What a URL must be, in words.
pub(super) const URL_RULE: &str = "must be an https URL without user, query and fragment, such as https://idp.example.com/realms/corp";

/// An OpenID provider. Register Claviger there as a web application (authorization code, PKCE) with the redirect URI
/// `<issuer>/callback/<name of this Connector>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = Rule::new("has(self.clientSecretRef) || !has(self.clientAuthentication) || self.clientAuthentication == 'None'")
        .message("clientAuthentication needs clientSecretRef: name the Secret, or set clientAuthentication to None"),
    validation = Rule::new("!has(self.clientSecretRef) || !has(self.clientAuthentication) || self.clientAuthentication != 'None'")
        .message("clientAuthentication None uses no secret: remove clientSecretRef, or set ClientSecretBasic or ClientSecretPost"),
    validation = Rule::new("!has(self.clientKey) || !has(self.clientSecretRef)")
        .message("clientKey takes the place of a secret: remove clientSecretRef, or clientKey"),
    validation = Rule::new("!has(self.clientKey) || !has(self.clientAuthentication)")
        .message("clientKey says how Claviger authenticates: remove clientAuthentication"),
)]
#[serde(rename_all = "camelCase")]
pub struct OidcUpstream {
    /// The provider's issuer identifier, exactly as its tokens say it (`iss`). Its configuration is read below
    /// `/.well-known/openid-configuration` there.
    #[schemars(length(min = 9, max = 512))]
    #[x_kube(validation = Rule::new(HTTPS).message(URL_RULE))]
    pub issuer: String,

    /// `client_id` of Claviger at the provider.
    #[serde(rename = "clientID")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(
        validation = Rule::new("self.matches('^[ -~]+$')")
            .message("clientID must be printable ASCII, as the provider shows it"),
    )]
    pub client_id: String,

    /// `client_secret` of Claviger at the provider: one key of a Secret in the same namespace, labelled
    /// `claviger.dev/secret: connector`. Default: none; Claviger is a public client there and has PKCE alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret_ref: Option<SecretKeyRef>,

    /// How Claviger authenticates to the provider: ClientSecretBasic (default where there is a secret),
    /// ClientSecretPost, or None.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_authentication: Option<OidcClientAuthentication>,

    /// A private key by which Claviger authenticates to the provider instead of a secret (`private_key_jwt`). Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_key: Option<OidcClientKey>,

    /// Scopes to ask for besides `openid` (up to 32). Default: `profile` and `email`.
    #[serde(default = "OidcUpstream::default_scopes")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 256)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(s, s.matches('^[!#-\\\\[\\\\]-~]+$'))")
            .message("scopes must be words of printable ASCII without spaces and quotation marks"),
        validation = Rule::new("!self.exists(s, s == 'openid' || s == 'offline_access')")
            .message("scopes must not list openid, which is always asked for, nor offline_access: say offlineAccess instead"),
    )]
    pub scopes: Vec<String>,

    /// How the provider is asked for a refresh token, by which it vouches for users while they are away. Scope (default):
    /// by the scope `offline_access`. AccessType: by the parameter `access_type=offline`, as Google wants it. None: it is
    /// not, and users of this connector get no refresh token from Claviger either, unless the provider gives one anyway.
    /// It is asked for only where a client of Claviger asks for `offline_access`.
    #[serde(default)]
    pub offline_access: OidcOfflineAccess,

    /// Whether a refresh token of the provider is good once. Rotating (default): once, as most providers have it; one refresh
    /// of a session asks at a time, and users have no browser session here. Lasting: for as long as the provider likes, as
    /// with Keycloak unless "Revoke Refresh Token" is on there: users have browser sessions here (single sign-on), of whom
    /// the provider is asked with the same refresh token. Where that is wrong, the second session that asks is told that its
    /// user is gone, and ends.
    #[serde(default)]
    pub refresh_tokens: OidcRefreshTokens,

    /// What the provider is told to ask its user where a refresh token is wanted. Consent (default): `prompt=consent`,
    /// without which most providers give none (OIDC Core 11). None: nothing; for providers whose administrator has
    /// agreed for everybody.
    #[serde(default)]
    pub offline_prompt: OidcOfflinePrompt,

    /// Whether the provider's userinfo endpoint is asked too, at sign-in and refresh, and what it says is merged over the
    /// ID token: Never (default) or Always. Some providers put groups or mail addresses there alone.
    #[serde(default)]
    pub userinfo: OidcUserinfo,

    /// Which of the provider's claims say what.
    #[serde(default)]
    pub claims: OidcClaims,

    /// Whether a mail address counts as verified. Claim (default): where the provider's `email_verified` is true. Always:
    /// every address; whoever can choose their address at the provider can then pass for anybody here.
    #[serde(default)]
    pub email_verification: OidcEmailVerification,

    /// Authentication context classes to ask the provider for (`acr_values`, up to 8), in order of preference. A token with
    /// another `acr`, or with none, is refused. Default: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 255)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(a, a.matches('^[!-~]+$'))")
            .message("acrValues must be printable ASCII without spaces"),
    )]
    pub acr_values: Vec<String>,

    /// Where users who sign out here sign out too. Here (default): nowhere else; they remain signed in at the provider, and
    /// signing in again asks nothing of them. Provider: there too, at its `end_session_endpoint` (OpenID Connect
    /// RP-Initiated Logout), which sends them back; register `<issuer>/logout` there as a post-logout redirect URI. The
    /// provider's ID token goes along where the browser has a session here (`refreshTokens: Lasting`) and it has 4 KiB or
    /// less; else the user is asked here, and perhaps there.
    #[serde(default)]
    pub sign_out: OidcSignOut,

    /// Which clients may exchange which ID tokens of the provider for ones of Claviger (RFC 8693, with `connector_id`).
    /// Default: none is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_exchange: Option<OidcTokenExchange>,

    /// Endpoints that the provider's configuration does not say, or says wrongly.
    #[serde(default)]
    pub endpoints: OidcEndpoints,

    /// Whom to trust for the provider's certificates. Default: the system's certificate authorities.
    #[serde(default)]
    pub tls: HttpTls,
}

/// An https URL, in the language of the rules.
pub(super) const HTTPS: &str = "self.matches('^https://[A-Za-z0-9._~-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~!$&()*+,;=:@%/-]*)?$') \
                     || self.matches('^https://\\\\[[0-9A-Fa-f:.]+\\\\](:[0-9]{1,5})?(/[A-Za-z0-9._~!$&()*+,;=:@%/-]*)?$')";

impl OidcUpstream {
    fn default_scopes() -> Vec<String> {
        vec!["profile".into(), "email".into()]
    }
}

/// How Claviger authenticates to a provider (OIDC Core 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OidcClientAuthentication {
    /// `client_secret_basic`.
    ClientSecretBasic,
    /// `client_secret_post`.
    ClientSecretPost,
    /// `none`: a public client.
    None,
}

/// How a provider is asked for a refresh token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OidcOfflineAccess {
    /// By the scope `offline_access` (OIDC Core 11).
    #[default]
    Scope,
    /// By `access_type=offline`.
    AccessType,
    /// It is not.
    None,
}

/// Which ID tokens of a provider are exchanged, and by whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct OidcTokenExchange {
    /// Applications at the provider (1 to 16) whose ID tokens are taken: every `aud` of a token, and its `azp`, must be one
    /// of them, and each must list the client here that brings the token. Whoever runs one of these applications can have
    /// any of its users' tokens exchanged by such a client; list none that you would not trust with that. That of Claviger
    /// itself is no better than others and is not taken unless it is listed.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub audiences: Vec<OidcExchangeAudience>,
}

/// An application at a provider, and who may bring its users' ID tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct OidcExchangeAudience {
    /// Its client ID at the provider.
    #[schemars(length(min = 1, max = 512))]
    pub name: String,

    /// Client IDs here (1 to 64) that may bring its ID tokens, such as `my-app` or `team-a/my-app`: confidential clients with
    /// the grant. What they may have for it each target says itself, in its `exchangePeers`.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 317)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(p, p.matches('^[!-~]+$'))")
            .message("clients must be client IDs, printable ASCII without spaces, such as my-app or team-a/my-app"),
    )]
    pub clients: Vec<String>,
}

/// How often a provider takes one refresh token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OidcRefreshTokens {
    /// Once.
    #[default]
    Rotating,
    /// While it is valid.
    Lasting,
}

/// Where users sign out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OidcSignOut {
    /// Here alone.
    #[default]
    Here,
    /// At the provider too.
    Provider,
}

/// What a provider is told to ask where a refresh token is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OidcOfflinePrompt {
    /// Whether the user agrees.
    #[default]
    Consent,
    /// Nothing.
    None,
}

/// Whether a provider's userinfo endpoint is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OidcUserinfo {
    /// It is not.
    #[default]
    Never,
    /// At every sign-in and refresh.
    Always,
}

/// Which mail addresses are verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OidcEmailVerification {
    /// Those of which the provider says so.
    #[default]
    Claim,
    /// All.
    Always,
}

/// Which of a provider's claims say what about a user. A name with dots is looked for as it is, and then as a path:
/// `realm_access.roles` is the member `roles` of the object `realm_access`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OidcClaims {
    /// The stable identifier. Default: `sub`. Choose another only if it never changes and is never given to somebody else.
    #[serde(rename = "userID", default = "OidcClaims::user_id")]
    #[schemars(length(min = 1, max = 128))]
    pub user_id: String,
    /// The short name (`preferred_username`). Default: `preferred_username`.
    #[serde(default = "OidcClaims::username")]
    #[schemars(length(min = 1, max = 128))]
    pub username: String,
    /// The full name (`name`). Default: `name`.
    #[serde(default = "OidcClaims::name")]
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// The mail address. Default: `email`.
    #[serde(default = "OidcClaims::email")]
    #[schemars(length(min = 1, max = 128))]
    pub email: String,
    /// The groups: a list of names, of objects with a `name`, or one name. Default: none are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub groups: Option<String>,
}

impl OidcClaims {
    fn user_id() -> String {
        "sub".into()
    }
    fn username() -> String {
        "preferred_username".into()
    }
    fn name() -> String {
        "name".into()
    }
    fn email() -> String {
        "email".into()
    }
}

impl Default for OidcClaims {
    fn default() -> Self {
        Self {
            user_id: Self::user_id(),
            username: Self::username(),
            name: Self::name(),
            email: Self::email(),
            groups: None,
        }
    }
}

/// Endpoints to use instead of those in a provider's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct OidcEndpoints {
    /// Authorization endpoint. Default: the configuration's.
    #[serde(rename = "authorizationURL", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 512))]
    #[x_kube(validation = Rule::new(HTTPS).message(URL_RULE))]
    pub authorization: Option<String>,
    /// Token endpoint. Default: the configuration's.
    #[serde(rename = "tokenURL", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 512))]
    #[x_kube(validation = Rule::new(HTTPS).message(URL_RULE))]
    pub token: Option<String>,
    /// Userinfo endpoint. Default: the configuration's.
    #[serde(rename = "userinfoURL", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 512))]
    #[x_kube(validation = Rule::new(HTTPS).message(URL_RULE))]
    pub userinfo: Option<String>,
    /// Where users sign out, for `signOut: Provider`. Default: the configuration's.
    #[serde(rename = "endSessionURL", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 512))]
    #[x_kube(validation = Rule::new(HTTPS).message(URL_RULE))]
    pub end_session: Option<String>,
}
