//! `OAuth2Client`: one relying party.
//!
//! The one kind that is read outside the home namespace. There its client ID is always
//! `<namespace>/<name>` (a ValidatingAdmissionPolicy and the assessor say so too), since an audience
//! such as `kubernetes` is power over a cluster.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube_derive::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::browser_sessions::SessionSharing;
use crate::client_authentication::ClientAuthentication;
use crate::client_condition::ClientCondition;
use crate::client_credentials::ClientCredentials;
use crate::client_information::{ClientInformation, ClientRegistration};
use crate::client_logout::{BackChannelLogout, FrontChannelLogout};
use crate::client_policy::{
    ClientConsent, ClientIntrospection, Dpop, Pkce, PushedAuthorizationRequests,
};
use crate::grant::Grant;
use crate::jwt_bearer::JwtBearer;
use crate::object_ref::NAME_PATTERN;
use crate::password_grant::PasswordGrant;
use crate::response_type::ResponseType;
use crate::schema;
use crate::scope::Scope;
use crate::signing_key::SigningAlgorithm;
use crate::trusted_issuer::TrustedIssuer;

/// One relying party of an OIDCIssuer.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "claviger.dev",
    version = "v1alpha1",
    kind = "OAuth2Client",
    plural = "oauth2clients",
    namespaced,
    status = "OAuth2ClientStatus",
    derive = "PartialEq",
    shortname = "oac",
    category = "claviger",
    doc = "One relying party (application) of an OIDCIssuer. Outside Claviger's home namespace its \
           client ID is <namespace>/<name> and the issuer's tenants bound every field.",
    selectable = ".spec.issuerRef.name",
    selectable = ".spec.type",
    selectable = ".spec.clientID",
    printcolumn(name = "Client ID", type_ = "string", json_path = ".status.clientID"),
    printcolumn(name = "Issuer", type_ = "string", json_path = ".spec.issuerRef.name"),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        priority = 1,
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    crates(kube_core = "::kube_core")
)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = Rule::new(
        "self.type != 'Public' || !has(self.authentication) || self.authentication.method == 'none'"
    )
    .message("a Public client cannot keep a secret: remove authentication, or set type to Confidential"),
    validation = Rule::new(
        "self.type != 'Confidential' || (has(self.authentication) && self.authentication.method != 'none')"
    )
    .message("a Confidential client needs authentication: add secretRef, generatedSecret, jwks, jwksURI or serviceAccount, or set type to Public"),
    validation = Rule::new("self.type != 'Public' || !has(self.pkce) || self.pkce == 'Required'")
        .message("a Public client must use PKCE: set pkce to Required or remove it"),
    validation = Rule::new(
        "self.type != 'Public' || !has(self.introspection) || self.introspection == 'Forbidden'"
    )
    .message("a Public client cannot prove who asks: remove introspection, or set type to Confidential"),
    validation = Rule::new("!('client_credentials' in self.grants) || self.type == 'Confidential'")
    .message("grant client_credentials is for type Confidential: remove it, or set type to Confidential"),
    validation = Rule::new(
        "!('urn:ietf:params:oauth:grant-type:token-exchange' in self.grants) || self.type == 'Confidential' || (has(self.trustedIssuers) && size(self.trustedIssuers) > 0)"
    )
    .message("grant token-exchange is for type Confidential, or with trustedIssuers: remove it, or add one of them"),
    validation = Rule::new("!has(self.trustedIssuers) || 'urn:ietf:params:oauth:grant-type:token-exchange' in self.grants")
    .message("trustedIssuers is for grant urn:ietf:params:oauth:grant-type:token-exchange: add it to grants, or remove trustedIssuers"),
    validation = Rule::new("has(self.jwtBearer) == ('urn:ietf:params:oauth:grant-type:jwt-bearer' in self.grants)")
    .message("jwtBearer and grant urn:ietf:params:oauth:grant-type:jwt-bearer go together: set both or neither"),
    validation = Rule::new("!('password' in self.grants) || (self.type == 'Confidential' && has(self.passwordGrant))")
    .message("grant password is for type Confidential and one connector: set type to Confidential and add passwordGrant, or remove the grant"),
    validation = Rule::new("!has(self.passwordGrant) || 'password' in self.grants")
    .message("passwordGrant is for grant password: add it to grants, or remove passwordGrant"),
    validation = Rule::new("!has(self.clientCredentials) || 'client_credentials' in self.grants")
    .message("clientCredentials is for grant client_credentials: add it to grants, or remove clientCredentials"),
    validation = Rule::new(
        "self.responseTypes.all(t, t == 'code') || (has(self.redirectURIs) && size(self.redirectURIs) > 0)"
    )
    .message("responseTypes other than code need redirectURIs: add at least one"),
    validation = Rule::new(
        "!has(self.dpop) || self.dpop != 'Required' || (self.responseTypes.all(t, !t.endsWith(' token')) && !('client_credentials' in self.grants) && !('urn:ietf:params:oauth:grant-type:token-exchange' in self.grants) && !('urn:ietf:params:oauth:grant-type:jwt-bearer' in self.grants))"
    )
    .message("dpop Required leaves no token unbound: remove responseTypes with token and the grants client_credentials, token-exchange and jwt-bearer, or set dpop to Optional"),
    validation = Rule::new(
        "!('authorization_code' in self.grants) || (has(self.redirectURIs) && size(self.redirectURIs) > 0)"
    )
    .message("grant authorization_code needs redirectURIs: add at least one"),
    validation = Rule::new(
        "!has(self.redirectURIs) || self.redirectURIs.all(u, \
         u.matches('^https://[^/?#@]+([/?].*)?$') || \
         u.matches('^http://(localhost|127[.]0[.]0[.]1|\\\\[::1\\\\])(:[0-9]{1,5})?([/?].*)?$') || \
         (self.type == 'Public' && u.matches('^[a-z][a-z0-9+-]*([.][a-z0-9+-]+)+:[^?#]+([?].*)?$')))"
    )
    .message("redirectURIs must be https://; or http:// on localhost, 127.0.0.1 or [::1]; or, for type Public, a private-use scheme with a dot, such as com.example.app:/callback"),
    validation = Rule::new(
        "!has(self.refreshTokenIdleSeconds) || !has(self.refreshTokenAbsoluteSeconds) || \
         self.refreshTokenIdleSeconds <= self.refreshTokenAbsoluteSeconds"
    )
    .message("refreshTokenIdleSeconds must not exceed refreshTokenAbsoluteSeconds: lower the one or raise the other"),
)]
#[serde(rename_all = "camelCase")]
pub struct OAuth2ClientSpec {
    /// The OIDCIssuer this is a client of.
    pub issuer_ref: IssuerRef,

    /// The client ID, in Claviger's home namespace only: printable ASCII without '/'. It is the
    /// audience of the ID tokens, so `kubernetes` is power over a cluster that trusts it. Default
    /// in the home namespace: the object's name. Elsewhere it must be absent and the client ID is
    /// `<namespace>/<name>`. Two clients with one ID: the older one has it.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "clientID")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(
        validation = Rule::new("self.matches('^[!-.0-~]+$')")
            .message("clientID must be printable ASCII without spaces and without '/': remove them"),
    )]
    pub client_id: Option<String>,

    /// What users see on the consent page. Default: the client ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub display_name: Option<String>,

    /// Confidential: runs on a server and keeps a secret. Public: runs on the user's device (a
    /// command line, a page, an app), has no secret and must use PKCE.
    #[serde(rename = "type")]
    pub type_: ClientType,

    /// How a Confidential client proves who it is at the token endpoint. A Public client has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication: Option<ClientAuthentication>,

    /// Where users may be sent back to (up to 32), compared exactly; only the port of an http
    /// loopback URI may differ for a Public client (RFC 8252 section 7.3). `https://`, or `http://`
    /// on localhost, 127.0.0.1 or `[::1]`, or for a Public client a private-use scheme with a dot.
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "redirectURIs")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 512)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(u, !u.contains('#'))")
            .message("redirectURIs must have no fragment (RFC 6749 3.1.2): remove '#' and what follows"),
        validation = Rule::new("self.all(u, !u.contains('*'))")
            .message("redirectURIs are compared exactly and know no wildcard '*': list each URI"),
        // Browsers read a backslash as a slash: `https://evil.com\.example.com` is at evil.com.
        validation = Rule::new("self.all(u, u.matches('^[!-~]+$') && !u.contains('\\\\'))")
            .message("redirectURIs must be printable ASCII without spaces and backslashes: percent-encode them"),
    )]
    pub redirect_uris: Vec<String>,

    /// Where users may be sent after signing out (up to 32), compared exactly.
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "postLogoutRedirectURIs")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 512)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new(
            "self.all(u, u.matches('^[!-~]+$') && !u.contains('\\\\') && !u.contains('#') && !u.contains('*') && \
             (u.matches('^https://[^/?#@]+([/?].*)?$') || \
             u.matches('^http://(localhost|127[.]0[.]0[.]1|\\\\[::1\\\\])(:[0-9]{1,5})?([/?].*)?$') || \
             u.matches('^[a-z][a-z0-9+-]*([.][a-z0-9+-]+)+:[^?#]+([?].*)?$')))"
        )
        .message("postLogoutRedirectURIs must be https://, http:// on a loopback host or a private-use scheme with a dot, without fragment, wildcard, spaces or backslashes"),
    )]
    pub post_logout_redirect_uris: Vec<String>,

    /// Where Claviger tells this client that a user signed out of a browser session it had part in. Default: it is
    /// not told. Outside the home namespace the host must be in `tenants.allowedBackChannelLogoutHosts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_channel_logout: Option<BackChannelLogout>,

    /// The page by which the user's browser tells this client the same. Default: it is not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub front_channel_logout: Option<FrontChannelLogout>,

    /// Grant types this client may use, if its issuer offers them. Also known:
    /// urn:ietf:params:oauth:grant-type:device_code, which needs no redirectURIs; and, for type
    /// Confidential: client_credentials and password, which need no redirectURIs, and
    /// urn:ietf:params:oauth:grant-type:token-exchange; for either type, that one with trustedIssuers, and
    /// urn:ietf:params:oauth:grant-type:jwt-bearer. Default: authorization_code and refresh_token.
    #[serde(default = "Grant::standard")]
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("!('refresh_token' in self) || self.exists(g, g == 'authorization_code' || g == 'password' || g == 'urn:ietf:params:oauth:grant-type:device_code')")
            .message("grants: refresh_token needs authorization_code, password or urn:ietf:params:oauth:grant-type:device_code: add one"),
    )]
    pub grants: Vec<Grant>,

    /// Response types this client may ask for, if its issuer offers them. Default: code. With all others
    /// tokens travel through the browser.
    #[serde(default = "ResponseType::code")]
    #[schemars(length(min = 1, max = 6))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub response_types: Vec<ResponseType>,

    /// Resources (RFC 8707, up to 32 absolute URIs) that this client's access tokens may be for, asked for
    /// by the parameter `resource`. Default: none but `<issuer>/userinfo`. A token for one of these says
    /// who the user is at that resource and nowhere else. A client ID is never a resource.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 512)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(r, r.matches('^[a-z][a-z0-9+.-]*:[!-~]+$') && !r.contains('#'))")
            .message("allowedResources must be absolute URIs without fragment, such as https://api.example.com"),
    )]
    pub allowed_resources: Vec<String>,

    /// Authentication context classes (up to 16): a user's sign-in must have been at a connector whose
    /// `acr` is one of them. Default: any connector will do.
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "requiredACR")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 255)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub required_acr: Vec<String>,

    /// Longest ID token this client takes, in bytes: 2048 to 131072. Default: 32768. A user with more
    /// groups than fit is told so when they sign in, instead of meeting a proxy or a cookie that is too
    /// small. A browser keeps cookies of about 4096.
    #[serde(default = "OAuth2ClientSpec::default_max_id_token", rename = "maxIDTokenBytes")]
    #[schemars(range(min = 2_048, max = 131_072))]
    pub max_id_token_bytes: i32,

    /// Whether users who are signed in already in their browser are not asked to sign in here again, where
    /// the issuer has `browserSessions`: Shared (default), or Separate for a client that is worth a password
    /// of its own. Outside the home namespace `tenants.browserSessions` decides too.
    #[serde(default)]
    pub browser_sessions: SessionSharing,

    /// Scopes this client may ask for. Default: openid, email, profile, groups, offline_access
    /// (which gives a refresh token). Also known: address, phone, federated:id. A scope
    /// `audience:server:client_id:<peer>` is decided by that peer's `trustedPeers`.
    #[serde(default = "OAuth2ClientSpec::default_scopes")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("'openid' in self")
            .message("scopes must contain openid: add it"),
    )]
    pub scopes: Vec<Scope>,

    /// Scopes (up to 16) of the issuer's own `claims` that this client may ask for besides. Outside the
    /// home namespace each must be in `tenants.allowedCustomScopes`. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z][A-Za-z0-9_.:/-]*$"))
    )]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(s, !(s in ['openid', 'email', 'profile', 'groups', 'offline_access', 'address', 'phone', 'federated:id']) && !s.startsWith('audience:'))")
            .message("customScopes are the issuer's own: move those of OpenID Connect to scopes; an audience is its trustedPeers' to give"),
    )]
    pub custom_scopes: Vec<String>,

    /// Names of the connectors (up to 32) whose users may sign in here. Default: all the issuer
    /// offers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253), regex(pattern = NAME_PATTERN)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allowed_connectors: Vec<String>,

    /// Groups (up to 256, with the connector's groupPrefix) of which a user must be in at least
    /// one, at sign-in and at every refresh, whatever scopes the client asks for. Default: everybody
    /// is admitted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 512)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allowed_groups: Vec<String>,

    /// A CEL expression that must be true of every user, at sign-in (single sign-on too), at every
    /// refresh, and wherever a token for this client is exchanged. Default: everybody is admitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<ClientCondition>,

    /// Client IDs (up to 64) that may obtain ID tokens with this client in the audience, by scope
    /// `audience:server:client_id:<this client>`. Each can then act as its users here. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 317)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(p, p.matches('^[!-~]+$'))")
            .message("trustedPeers must be client IDs, printable ASCII without spaces, such as my-app or team-a/my-app"),
    )]
    pub trusted_peers: Vec<String>,

    /// Whether a code challenge (PKCE, S256) must be sent: Required or Optional. Default: Required
    /// for Public clients, which cannot choose otherwise; Optional for Confidential ones. A
    /// challenge that is sent is always checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Pkce")]
    pub pkce: Option<Pkce>,

    /// Whether an authorization request must be pushed to /par before the browser goes to /auth
    /// (RFC 9126): Required or Optional. Required keeps what is asked for out of the address, and
    /// nobody can change it on the way. Default: Optional.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PushedAuthorizationRequests")]
    pub pushed_authorization_requests: Option<PushedAuthorizationRequests>,

    /// Whether tokens must be bound to a key of the client's (DPoP, RFC 9449): Required or Optional.
    /// A token that is bound is worth nothing to whoever steals it alone. With Optional it is bound if
    /// the client proves possession of a key. Default: Optional.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Dpop")]
    pub dpop: Option<Dpop>,

    /// Lifetime of access tokens in seconds: 60 to 86400; outside the home namespace no longer than
    /// `tenants.maxIDTokenLifetimeSeconds`. One that was given out dies by time, revocation or with its
    /// session alone. Default: the issuer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 86_400))]
    pub access_token_lifetime_seconds: Option<i32>,

    /// Lifetime of ID tokens in seconds: 60 to 86400. Default: the issuer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 86_400))]
    pub id_token_lifetime_seconds: Option<i32>,

    /// A session whose refresh token is not used for this many seconds is over: 60 to 31536000.
    /// Default: the issuer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 31_536_000))]
    pub refresh_token_idle_seconds: Option<i32>,

    /// A session is over after this many seconds, used or not: 60 to 31536000. Default: the
    /// issuer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 31_536_000))]
    pub refresh_token_absolute_seconds: Option<i32>,

    /// Algorithm of this client's ID tokens. The issuer needs a SigningKey of it. Default: that of
    /// the issuer's first SigningKey. RS256 is the only one every API server takes by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SigningAlgorithm")]
    pub id_token_signing_algorithm: Option<SigningAlgorithm>,

    /// Algorithm by which this client's answers from /userinfo are signed (OIDC Core 5.3.2), as
    /// application/jwt with `iss` and `aud`. The issuer needs a SigningKey of it. Default: they are plain
    /// JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SigningAlgorithm")]
    pub userinfo_signing_algorithm: Option<SigningAlgorithm>,

    /// Whether users are asked before this client learns who they are: Required or Skip. Default:
    /// the issuer's. Skip outside the home namespace needs `tenants.consent: ClientChoice`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ClientConsent")]
    pub consent: Option<ClientConsent>,

    /// Client IDs (up to 64) that may exchange tokens of users for ID tokens with this client as the
    /// audience (RFC 8693). Each can then act as its users here. Who is not admitted by this client's
    /// allowedConnectors, allowedGroups, requiredACR and condition is refused. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 317)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(p, p.matches('^[!-~]+$'))")
            .message("exchangePeers must be client IDs, printable ASCII without spaces, such as my-app or team-a/my-app"),
    )]
    pub exchange_peers: Vec<String>,

    /// Client IDs (up to 64) whose workloads may have ID tokens with this client in their audience: those
    /// that its trustedIssuers admit, by exchange, and those of its jwtBearer, by an audience scope (which needs
    /// trustedPeers too). Whoever may write such a client says who comes here, and in which groups. A
    /// client with allowedConnectors, requiredACR or condition admits none. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 317)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(p, p.matches('^[!-~]+$'))")
            .message("exchangeWorkloadsFrom must be client IDs, printable ASCII without spaces, such as my-app or team-a/my-app"),
    )]
    pub exchange_workloads_from: Vec<String>,

    /// Other issuers (up to 16 entries) whose tokens this client exchanges for ours, such as those of a CI
    /// system's jobs. Whoever holds such a token is who it says, in the groups that stand here, and no user
    /// of any connector; a Public client may bring it too. Default: none, and only tokens of this issuer are
    /// exchanged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub trusted_issuers: Vec<TrustedIssuer>,

    /// Kubernetes ServiceAccounts that get tokens of this client for their own, by grant
    /// urn:ietf:params:oauth:grant-type:jwt-bearer. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt_bearer: Option<JwtBearer>,

    /// The connector that checks passwords which users type into this client (grant password). Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_grant: Option<PasswordGrant>,

    /// What tokens by grant client_credentials say of this client itself. Default: its identifier
    /// alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_credentials: Option<ClientCredentials>,

    /// Which tokens this client may ask about at `/token/introspect` (RFC 7662): Forbidden,
    /// OwnTokens (those given to itself) or AllTokens (every access token of the issuer, for a
    /// resource server; refresh tokens remain each client's own). Whoever may ask learns user,
    /// scopes and times of any such token it is shown. For type Confidential only; AllTokens in the
    /// home namespace only. Default: Forbidden.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ClientIntrospection")]
    pub introspection: Option<ClientIntrospection>,

    /// Pages about this client, to which the consent page links. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub information: Option<ClientInformation>,

    /// There if the client registered itself, and may manage that (RFC 7592). Written by Claviger. Outside
    /// the issuer's `dynamicRegistration.namespace` it means nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration: Option<ClientRegistration>,
}

impl OAuth2ClientSpec {
    fn default_max_id_token() -> i32 {
        32_768
    }

    fn default_scopes() -> Vec<Scope> {
        vec![Scope::OpenId, Scope::Email, Scope::Profile, Scope::Groups, Scope::OfflineAccess]
    }

    /// Whether a code challenge must be sent.
    pub fn pkce_required(&self) -> bool {
        match self.type_ {
            ClientType::Public => true,
            ClientType::Confidential => self.pkce == Some(Pkce::Required),
        }
    }

    /// Whether tokens must be bound to a key.
    pub fn dpop_required(&self) -> bool {
        self.dpop == Some(Dpop::Required)
    }

    /// Whether an authorization request must be pushed.
    pub fn pushed_requests_required(&self) -> bool {
        self.pushed_authorization_requests == Some(PushedAuthorizationRequests::Required)
    }
}

/// An OIDCIssuer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IssuerRef {
    /// Name of the OIDCIssuer.
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME_PATTERN))]
    pub name: String,

    /// Its namespace: Claviger's home. Default: the client's own namespace, so a client elsewhere
    /// must name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub namespace: Option<String>,
}

/// Where a client runs, and hence whether it can keep a secret (RFC 6749 section 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClientType {
    /// On a server; it keeps a secret.
    Confidential,
    /// On the user's device; it has none.
    Public,
}

/// What Claviger says about an OAuth2Client.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OAuth2ClientStatus {
    /// The metadata.generation the rest of the status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The client ID to configure in the application.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "clientID")]
    #[schemars(length(max = 317))]
    pub client_id: Option<String>,

    /// Accepted, ResolvedRefs and their summary Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
