//! How Claviger authenticates to an OpenID provider by a key instead of a secret (`private_key_jwt`, OIDC Core 9).

use kube_derive::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::secret_ref::SecretKeyRef;
use crate::signing_key::SigningAlgorithm;

/// A private key that signs what Claviger shows the provider's token endpoint instead of a secret (`private_key_jwt`,
/// RFC 7523 2.2): a token for that provider alone, good once and for a minute. Register the public half there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct OidcClientKey {
    /// The private key, PKCS#8 PEM (`-----BEGIN PRIVATE KEY-----`), RSA of 2048 to 8192 bits or EC on P-256, P-384 or P-521:
    /// one key of a Secret in the same namespace, labelled `claviger.dev/secret: connector`. Another key takes over as soon
    /// as the Secret holds it: register its public half first, beside the old one.
    pub secret_ref: SecretKeyRef,

    /// What the provider calls the key (`kid`). Default: its RFC 7638 thumbprint (SHA-256), as a JWK made of it says, too.
    #[serde(rename = "keyID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(
        validation = Rule::new("self.matches('^[!-~]+$')")
            .message("keyID must be printable ASCII without spaces, as the provider shows it"),
    )]
    pub key_id: Option<String>,

    /// What it signs with. Default: RS256 for RSA keys; for EC keys what their curve has (ES256, ES384, ES512). A key of
    /// another kind is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<SigningAlgorithm>,

    /// For whom a token says it is (`aud`). Issuer (default): the provider's issuer identifier, by which nobody else's token
    /// endpoint can be put in the provider's place. TokenEndpoint: the URL of its token endpoint, for providers that take
    /// nothing else, such as Okta.
    #[serde(default)]
    pub audience: OidcAssertionAudience,
}

/// For whom a client assertion says it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OidcAssertionAudience {
    /// The provider, by its issuer identifier.
    #[default]
    Issuer,
    /// The provider's token endpoint, by its URL.
    TokenEndpoint,
}
