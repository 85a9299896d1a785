//! `upstream.oauth2`: any other vendor that speaks OAuth 2.0 and says in JSON who a token is about.

use kube_derive::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::http::{EmailVerification, HttpTls};
use super::oidc::{HTTPS, OidcClientAuthentication, URL_RULE};
use crate::secret_ref::SecretKeyRef;

/// A vendor that speaks OAuth 2.0 (authorization code flow) without being an OpenID provider; where it is one, `oidc` is
/// safer, for its tokens are signed. Register Claviger there with the redirect URI
/// `<issuer>/callback/<name of this Connector>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = Rule::new("has(self.clientSecretRef) || !has(self.clientAuthentication) || self.clientAuthentication == 'None'")
        .message("clientAuthentication needs clientSecretRef: name the Secret, or set clientAuthentication to None"),
    validation = Rule::new("!has(self.clientSecretRef) || !has(self.clientAuthentication) || self.clientAuthentication != 'None'")
        .message("clientAuthentication None uses no secret: remove clientSecretRef, or set ClientSecretBasic or ClientSecretPost"),
)]
#[serde(rename_all = "camelCase")]
pub struct OAuth2Upstream {
    /// Authorization endpoint, where users sign in.
    #[serde(rename = "authorizationURL")]
    #[schemars(length(min = 9, max = 512))]
    #[x_kube(validation = Rule::new(HTTPS).message(URL_RULE))]
    pub authorization_url: String,

    /// Token endpoint.
    #[serde(rename = "tokenURL")]
    #[schemars(length(min = 9, max = 512))]
    #[x_kube(validation = Rule::new(HTTPS).message(URL_RULE))]
    pub token_url: String,

    /// Where the vendor says, as a JSON object, who a token is about. Nothing is read from the token itself.
    #[serde(rename = "userinfoURL")]
    #[schemars(length(min = 9, max = 512))]
    #[x_kube(validation = Rule::new(HTTPS).message(URL_RULE))]
    pub userinfo_url: String,

    /// `client_id` of Claviger at the vendor.
    #[serde(rename = "clientID")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(
        validation = Rule::new("self.matches('^[ -~]+$')")
            .message("clientID must be printable ASCII, as the provider shows it"),
    )]
    pub client_id: String,

    /// `client_secret` of Claviger at the vendor: one key of a Secret in the same namespace, labelled
    /// `claviger.dev/secret: connector`. Default: none; Claviger is a public client there and has PKCE alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret_ref: Option<SecretKeyRef>,

    /// How Claviger authenticates to the vendor: ClientSecretBasic (default where there is a secret), ClientSecretPost, or
    /// None.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_authentication: Option<OidcClientAuthentication>,

    /// Scopes to ask for (up to 32). Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 256)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(s, s.matches('^[!#-\\\\[\\\\]-~]+$'))")
            .message("scopes must be words of printable ASCII without spaces and quotation marks"),
    )]
    pub scopes: Vec<String>,

    /// Which members of the vendor's answer say what.
    #[serde(default)]
    pub claims: OAuth2Claims,

    /// Which mail addresses count as verified. Reported (default): where the member `claims.emailVerified` is true. Always:
    /// every address; whoever can choose their address at the vendor can then pass for anybody here.
    #[serde(default)]
    pub email_verification: EmailVerification,

    /// How long the vendor's access tokens are good. Expiring (default): the vendor is asked again by its refresh token, and
    /// users get no refresh token from Claviger where it gives none. Lasting: a token that came without one and without an
    /// end (`expires_in`; 0 is one) is good until the vendor takes it back; its refusal (401) ends the session.
    #[serde(default)]
    pub access_tokens: OAuth2AccessTokens,

    /// Whom to trust for the vendor's certificates. Default: the system's certificate authorities.
    #[serde(default)]
    pub tls: HttpTls,
}

/// How long access tokens are good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OAuth2AccessTokens {
    /// For some time.
    #[default]
    Expiring,
    /// Until they are taken back.
    Lasting,
}

/// Which members of a vendor's answer say what about a user. A name with dots is looked for as it is, and then as a path:
/// `data.login` is the member `login` of the object `data`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OAuth2Claims {
    /// The stable identifier. Default: `id`. It must never change and never be given to somebody else: no name, no address.
    #[serde(rename = "userID", default = "OAuth2Claims::user_id")]
    #[schemars(length(min = 1, max = 128))]
    pub user_id: String,
    /// The short name (`preferred_username`). Default: `preferred_username`.
    #[serde(default = "OAuth2Claims::username")]
    #[schemars(length(min = 1, max = 128))]
    pub username: String,
    /// The full name (`name`). Default: `name`.
    #[serde(default = "OAuth2Claims::name")]
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// The mail address. Default: `email`.
    #[serde(default = "OAuth2Claims::email")]
    #[schemars(length(min = 1, max = 128))]
    pub email: String,
    /// Whether that address is verified. Default: `email_verified`.
    #[serde(default = "OAuth2Claims::email_verified")]
    #[schemars(length(min = 1, max = 128))]
    pub email_verified: String,
    /// The groups: a list of names, of objects with a `name`, or one name. Default: none are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub groups: Option<String>,
}

impl OAuth2Claims {
    fn user_id() -> String {
        "id".into()
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
    fn email_verified() -> String {
        "email_verified".into()
    }
}

impl Default for OAuth2Claims {
    fn default() -> Self {
        Self {
            user_id: Self::user_id(),
            username: Self::username(),
            name: Self::name(),
            email: Self::email(),
            email_verified: Self::email_verified(),
            groups: None,
        }
    }
}
