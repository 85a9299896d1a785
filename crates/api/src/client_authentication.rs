//! How an `OAuth2Client` proves who it is: by a secret, by keys of its own, or by being a Kubernetes
//! ServiceAccount. The method decides: what belongs to another one is refused here, and no proof of
//! another kind is ever looked at.

use kube_derive::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::object_ref::NAME_PATTERN;
use crate::secret_ref::SecretKeyRef;
use crate::signing_key::SigningAlgorithm;

/// How a client proves who it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = Rule::new(
        "!(self.method in ['client_secret_basic', 'client_secret_post']) || has(self.secretRef) != has(self.generatedSecret)"
    )
    .message("authentication needs exactly one of secretRef (a Secret you keep) and generatedSecret (one Claviger makes)"),
    validation = Rule::new(
        "self.method in ['client_secret_basic', 'client_secret_post'] || \
         (!has(self.secretRef) && !has(self.previousSecretRef) && !has(self.generatedSecret))"
    )
    .message("authentication.method none, private_key_jwt and kubernetes_service_account have no secret: remove secretRef, previousSecretRef and generatedSecret, or change method"),
    validation = Rule::new("!has(self.previousSecretRef) || has(self.secretRef)")
        .message("authentication.previousSecretRef goes with secretRef: remove it; a generatedSecret keeps the one before by itself"),
    validation = Rule::new(
        "self.method == 'private_key_jwt' ? has(self.jwks) != has(self.jwksURI) : !has(self.jwks) && !has(self.jwksURI)"
    )
    .message("authentication.method private_key_jwt, and no other, needs exactly one of jwks (the client's public keys) and jwksURI (where it publishes them)"),
    validation = Rule::new("(self.method == 'kubernetes_service_account') == has(self.serviceAccount)")
        .message("authentication.method kubernetes_service_account, and no other, needs serviceAccount: set both or neither"),
)]
#[serde(rename_all = "camelCase")]
pub struct ClientAuthentication {
    /// client_secret_basic (default), client_secret_post, private_key_jwt,
    /// kubernetes_service_account, or none. A client with a secret may send it either way (RFC 6749
    /// section 2.3.1); a client that signs is never believed by a secret, and the reverse.
    #[serde(default)]
    pub method: ClientAuthenticationMethod,

    /// The client's secret: one key of a Secret in the same namespace, labelled
    /// `claviger.dev/secret: client`. At least 16 characters; changes are live within a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeyRef>,

    /// The secret before: as good as secretRef, so that the application can be rolled. Where it
    /// cannot be read, secretRef alone is good. Remove it when the application is rolled. Default:
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_secret_ref: Option<SecretKeyRef>,

    /// Let Claviger make the secret and keep it in a Secret in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generated_secret: Option<GeneratedSecret>,

    /// private_key_jwt: the client's public keys (RFC 7517). Keep two while they are rotated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<JsonWebKeySet>,

    /// private_key_jwt: the https URL at which the client publishes its public keys (RFC 7517). They
    /// are kept for five minutes and asked for again, every ten seconds at most, when an assertion
    /// names a key not among them; while the URL does not answer they are good for an hour. Only
    /// public addresses are asked, and those the operator allows (`--outbound-allowed-networks`).
    /// Outside the home namespace the host must be in the issuer's `tenants.allowedJWKSURIHosts`.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "jwksURI")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(
        validation = Rule::new("self.matches('^https://[^/?#@]+([/?][!-~]*)?$') && self.matches('^[!-~]+$') && !self.contains('#') && !self.contains('\\\\')")
            .message("jwksURI must be https://, in printable ASCII without user, fragment, spaces and backslashes"),
    )]
    pub jwks_uri: Option<String>,

    /// kubernetes_service_account: the account whose projected token is the client's assertion, so
    /// that it needs no secret at all. The token's audience must be the issuer's URL, and it may live
    /// for an hour at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<ServiceAccountRef>,
}

/// How the proof is made and how it travels (OpenID Connect Core 1.0 section 9, RFC 7523).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuthenticationMethod {
    /// A secret by HTTP Basic.
    #[default]
    ClientSecretBasic,
    /// A secret in the request body.
    ClientSecretPost,
    /// A JWT that the client signs with a key of its own, once for each request.
    PrivateKeyJwt,
    /// The token of a Kubernetes ServiceAccount of this cluster.
    KubernetesServiceAccount,
    /// No proof.
    None,
}

impl ClientAuthenticationMethod {
    /// `token_endpoint_auth_method` on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientSecretBasic => "client_secret_basic",
            Self::ClientSecretPost => "client_secret_post",
            Self::PrivateKeyJwt => "private_key_jwt",
            Self::KubernetesServiceAccount => "kubernetes_service_account",
            Self::None => "none",
        }
    }
}

/// A Secret that Claviger makes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct GeneratedSecret {
    /// Name of the Secret. It holds client_id, client_secret and issuer, ready for envFrom, is
    /// owned by this client and deleted with it. A Secret of this name that belongs to somebody
    /// else is never touched: the client is then `ResolvedRefs=False`.
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME_PATTERN))]
    pub name: String,

    /// Raise it to make a new secret; the one before stays valid until the next rotation, so that
    /// the application can be rolled. Raise it twice to retire a leaked one. Default: 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 2_147_483_647))]
    #[x_kube(
        validation = Rule::new("self >= oldSelf")
            .message("generatedSecret.rotation can only be raised"),
    )]
    pub rotation: i32,
}

/// Public keys of a client (RFC 7517 section 5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
pub struct JsonWebKeySet {
    /// The keys (1 to 8), each with a kid of its own if there are several.
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub keys: Vec<JsonWebKey>,
}

/// A public key for signatures (RFC 7517 section 4, RFC 7518 section 6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    // An RSA key's other private members mean nothing without d.
    validation = Rule::new("!has(self.d) && !has(self.k)")
        .message("jwks holds a private or symmetric key, which is a secret no more: make another, and put only its public members here (n and e, or crv, x and y)"),
    validation = Rule::new(
        "self.kty == 'RSA' ? has(self.n) && has(self.e) && !has(self.crv) : has(self.crv) && has(self.x) && has(self.y)"
    )
    .message("a key in jwks needs n and e for kty RSA, or crv, x and y for kty EC: add what is missing"),
)]
pub struct JsonWebKey {
    /// Kind of key: RSA (2048 to 8192 bits) or EC.
    pub kty: JsonWebKeyType,

    /// What the key is for: sig. Default: sig.
    #[serde(default, rename = "use", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "JsonWebKeyUse")]
    pub use_: Option<JsonWebKeyUse>,

    /// The algorithm the key is for. Default: every algorithm of its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SigningAlgorithm")]
    pub alg: Option<SigningAlgorithm>,

    /// The key's name, which assertions carry. Default: its RFC 7638 thumbprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub kid: Option<String>,

    /// RSA modulus, base64url. Quote the name in YAML, where a bare n is no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1_400))]
    pub n: Option<String>,

    /// RSA exponent, base64url, such as AQAB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8))]
    pub e: Option<String>,

    /// Curve of an EC key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "JsonWebKeyCurve")]
    pub crv: Option<JsonWebKeyCurve>,

    /// X coordinate of an EC key, base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 88))]
    pub x: Option<String>,

    /// Y coordinate of an EC key, base64url. Quote the name in YAML, where a bare y is yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 88))]
    pub y: Option<String>,

    /// The private half: must be absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2_048))]
    pub d: Option<String>,

    /// A symmetric key: must be absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2_048))]
    pub k: Option<String>,
}

/// Kind of a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum JsonWebKeyType {
    /// RSA.
    RSA,
    /// Elliptic curve.
    EC,
}

/// What a public key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum JsonWebKeyUse {
    /// Signatures.
    Sig,
}

/// Curve of an EC key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum JsonWebKeyCurve {
    /// For ES256.
    #[serde(rename = "P-256")]
    P256,
    /// For ES384.
    #[serde(rename = "P-384")]
    P384,
    /// For ES512.
    #[serde(rename = "P-521")]
    P521,
}

/// A Kubernetes ServiceAccount of this cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountRef {
    /// Its namespace. Default: the client's own. Outside the home namespace no other is allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub namespace: Option<String>,

    /// Its name. Whoever may create pods with it, or tokens for it, is this client.
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME_PATTERN))]
    pub name: String,

    /// Its metadata.uid, so that an account that is deleted and made again under the same name is
    /// another one. Default: any account of that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub uid: Option<String>,
}
