//! `OIDCIssuer`: one OpenID provider: its URL, its keys, its upstreams, and who may be its client.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube_derive::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::browser_sessions::BrowserSessions;
use crate::custom_claim::CustomClaim;
use crate::device_authorization::DeviceAuthorizations;
use crate::dynamic_registration::DynamicRegistration;
use crate::grant::Grant;
use crate::lifetimes::Lifetimes;
use crate::object_ref::{LocalObjectRef, NAME_PATTERN};
use crate::response_type::ResponseType;
use crate::schema;
use crate::session_limits::SessionLimits;
use crate::tenant_policy::TenantPolicy;

/// One OpenID provider. Read in Claviger's home namespace only; several issuers live side by
/// side, host and path choose between them.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "claviger.dev",
    version = "v1alpha1",
    kind = "OIDCIssuer",
    plural = "oidcissuers",
    namespaced,
    status = "OIDCIssuerStatus",
    derive = "PartialEq",
    shortname = "oi",
    category = "claviger",
    doc = "One OpenID provider: its URL, its signing keys, the connectors it offers and the \
           clients it admits. Read in Claviger's home namespace only.",
    selectable = ".spec.url",
    printcolumn(name = "URL", type_ = "string", json_path = ".spec.url"),
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
    validation = Rule::new("self.url.startsWith('https://') || self.insecureHTTP == 'Allowed'")
        .message("url must begin with https://; for a test without TLS set insecureHTTP to Allowed"),
    validation = Rule::new(
        "!has(self.defaultCallbackConnector) || (has(self.connectors) && \
         self.connectors.exists(c, c.name == self.defaultCallbackConnector))"
    )
    .message("defaultCallbackConnector must be one of connectors: add it there or name another"),
    validation = Rule::new(
        "!has(self.tenants) || !has(self.tenants.allowedConnectors) || \
         self.tenants.allowedConnectors.all(n, has(self.connectors) && \
         self.connectors.exists(c, c.name == n))"
    )
    .message("tenants.allowedConnectors must be among connectors: add them there or remove them"),
    validation = Rule::new("!has(self.dynamicRegistration) || has(self.tenants)")
        .message("dynamicRegistration needs tenants, which bound what may be registered: add it"),
)]
#[serde(rename_all = "camelCase")]
pub struct OIDCIssuerSpec {
    /// The issuer identifier: `iss` of every token, byte for byte, and the prefix of every
    /// endpoint. Absolute, https, without query, fragment, user name or trailing slash. Immutable:
    /// every relying party has it in its configuration; make a second OIDCIssuer to move.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(
        validation = Rule::new("self == oldSelf")
            .message("url is immutable: create another OIDCIssuer for another url"),
        validation = Rule::new("self.matches('^https?://[^/?#@]+(/.*)?$') && !self.matches('[\\\\s\\\\\\\\]')")
            .message("url must be an absolute URL without user name, such as https://id.example.com/main"),
        validation = Rule::new("!self.contains('?') && !self.contains('#')")
            .message("url must have no query and no fragment: remove '?' or '#' and what follows"),
        validation = Rule::new("!self.endsWith('/')")
            .message("url must not end with a slash: remove it"),
    )]
    pub url: String,

    /// Whether `url` may begin with `http://`: Forbidden (default) or Allowed. Allowed sends
    /// passwords and tokens in the clear; kube-apiserver refuses such an issuer. For tests only.
    #[serde(default, rename = "insecureHTTP")]
    pub insecure_http: InsecureHttp,

    /// Name shown on the pages where `branding.title` is not set. Default: the object's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub display_name: Option<String>,

    /// SigningKeys (1 to 8) in the same namespace. All are published; the first one signs for
    /// clients that ask for no other algorithm.
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub signing_keys: Vec<LocalObjectRef>,

    /// Connectors (up to 32) in the same namespace, in the order the login page shows them.
    /// Without any, nobody can sign in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub connectors: Vec<LocalObjectRef>,

    /// The connector whose upstream was told the bare redirect URI `<url>/callback` (as dex had
    /// it) instead of `<url>/callback/<connector>`. Must be one of `connectors`. Default: none, and
    /// bare callbacks are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME_PATTERN))]
    pub default_callback_connector: Option<String>,

    /// Which OAuth2Clients may refer to this issuer. Default: those in its own namespace.
    #[serde(default)]
    pub allowed_clients: AllowedClients,

    /// Bounds on clients outside the home namespace; the stricter value wins, always. Default:
    /// absent, and no client outside the home namespace is served, whatever `allowedClients` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenants: Option<TenantPolicy>,

    /// How long tokens and sessions live, for clients that set nothing shorter or longer.
    #[serde(default)]
    pub lifetimes: Lifetimes,

    /// How many sessions may be live at once. Beyond, the oldest are revoked within minutes
    /// (`cleanup-interval-seconds`); nobody is refused at the door.
    #[serde(default)]
    pub session_limits: SessionLimits,

    /// Devices without a browser that wait for their users (grant
    /// urn:ietf:params:oauth:grant-type:device_code). What a stranger may cause to be stored is bounded here.
    #[serde(default)]
    pub device_authorizations: DeviceAuthorizations,

    /// Grant types on offer; a client gets those that are here and in its own list. Also known:
    /// client_credentials, urn:ietf:params:oauth:grant-type:token-exchange,
    /// urn:ietf:params:oauth:grant-type:device_code,
    /// urn:ietf:params:oauth:grant-type:jwt-bearer, and password, by which clients learn the passwords of
    /// users. Default: authorization_code and refresh_token.
    #[serde(default = "Grant::standard")]
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("!('refresh_token' in self) || self.exists(g, g == 'authorization_code' || g == 'password' || g == 'urn:ietf:params:oauth:grant-type:device_code')")
            .message("grants: refresh_token needs authorization_code, password or urn:ietf:params:oauth:grant-type:device_code: add one"),
    )]
    pub grants: Vec<Grant>,

    /// Response types on offer; a client gets those that are here and in its own list. Default: code. All
    /// others send tokens through the browser, where histories and scripts see them: for old applications
    /// alone.
    #[serde(default = "ResponseType::code")]
    #[schemars(length(min = 1, max = 6))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub response_types: Vec<ResponseType>,

    /// Single sign-on: whoever signed in at one client is not asked again at the next, in the same browser.
    /// Default: absent, and every sign-in is one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub browser_sessions: Option<BrowserSessions>,

    /// Clients may register themselves, with an initial access token (RFC 7591). Needs `tenants`, which bound
    /// what they may register. Default: absent, and nobody can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dynamic_registration: Option<DynamicRegistration>,

    /// How `sub` is made: Dex (default; base64url of a protobuf of user ID and connector, the same
    /// value dex gave) or Plain (`<connector>:<user ID>`). Changing it makes every user a stranger
    /// to every relying party.
    #[serde(default)]
    pub subject: Subject,

    /// Whether users are asked before a client learns who they are: Required (default, as dex) or
    /// Skip. A client may say otherwise for itself; a client outside the home namespace only what
    /// `tenants.consent` admits.
    #[serde(default)]
    pub consent: IssuerConsent,

    /// Claims (up to 16) that this issuer computes of its users in CEL, each revealed by a scope. Discovery
    /// names them and their scopes. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub claims: Vec<CustomClaim>,

    /// Values beginning with `system:` that tokens may carry in names and groups, exactly as
    /// written (up to 32). All others are refused, since an API server gives them power:
    /// `system:masters` is every right there is. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 8, max = 256)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(v, v.startsWith('system:'))")
            .message("allowedSystemValues must begin with 'system:': other values need no permission, remove them"),
    )]
    pub allowed_system_values: Vec<String>,

    /// Serving certificate for the host of `url`. Default: the certificate Claviger was started
    /// with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<IssuerTls>,

    /// How the pages look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branding: Option<Branding>,

    /// Which web pages of other origins may call the token, userinfo and metadata endpoints.
    /// Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
}

/// Whether an issuer may do without TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum InsecureHttp {
    /// The URL must be https.
    #[default]
    Forbidden,
    /// The URL may be http.
    Allowed,
}

/// Which clients may refer to an issuer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AllowedClients {
    /// Namespaces whose OAuth2Clients are admitted.
    #[serde(default)]
    pub namespaces: ClientNamespaces,
}

/// Namespaces whose clients are admitted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = Rule::new("(self.from == 'Selector') == has(self.selector)")
        .message("namespaces.selector goes with from: Selector, and only with it: add the one or remove the other"),
)]
#[serde(rename_all = "camelCase")]
pub struct ClientNamespaces {
    /// Same (default): the issuer's own namespace. All: every namespace. Selector: its own and
    /// those that `selector` matches. Clients outside the home namespace are bound by `tenants`
    /// and get their client ID as `<namespace>/<name>`.
    #[serde(default)]
    pub from: NamespacesFrom,

    /// Labels of the namespaces admitted; with `from: Selector` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_selector")]
    pub selector: Option<LabelSelector>,
}

/// Where clients may live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NamespacesFrom {
    /// The issuer's namespace.
    #[default]
    Same,
    /// Every namespace.
    All,
    /// Namespaces that match a selector, and the issuer's own.
    Selector,
}

/// How `sub` is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Subject {
    /// base64url without padding of protobuf {1: user ID, 2: connector}, as dex makes it.
    #[default]
    Dex,
    /// `<connector>:<user ID>`.
    Plain,
}

/// Whether users are asked before a client learns who they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum IssuerConsent {
    /// They are asked.
    #[default]
    Required,
    /// They are not.
    Skip,
}

/// A serving certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IssuerTls {
    /// Secret of type kubernetes.io/tls in the same namespace, with the label
    /// `claviger.dev/secret: tls`. A changed Secret is served within a second, without restart.
    pub secret_ref: LocalObjectRef,
}

/// How the pages look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct Branding {
    /// Heading of the pages. Default: `displayName`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub title: Option<String>,

    /// Logo on the pages; browsers fetch it from there. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "logoURL")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(
        validation = Rule::new("self.matches('^https://[^/?#@]+(/.*)?$') && !self.matches('[\\\\s\\\\\\\\\"<>;,]')")
            .message("logoURL must be an absolute https:// URL without spaces, quotes, backslashes, commas or semicolons"),
    )]
    pub logo_url: Option<String>,
}

/// Cross-origin requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct Cors {
    /// Origins (up to 32), such as `https://app.example.com`, exactly as browsers send them. There
    /// is no wildcard.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 512)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(o, o.matches('^https?://[^/?#@*A-Z]+$') && !o.matches('[\\\\s\\\\\\\\]'))")
            .message("cors.allowedOrigins must be lower-case scheme://host[:port] without path or wildcard, such as https://app.example.com"),
    )]
    pub allowed_origins: Vec<String>,
}

/// What Claviger says about an OIDCIssuer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OIDCIssuerStatus {
    /// The metadata.generation the rest of the status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Where relying parties fetch the public keys.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "jwksURI")]
    #[schemars(length(max = 1024))]
    pub jwks_uri: Option<String>,

    /// Accepted, ResolvedRefs and their summary Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
