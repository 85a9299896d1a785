//! `SigningKey`: a rotating ring of keys that sign tokens. The private halves live in a Secret in
//! the home namespace; this resource only says how the ring is to behave.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube_derive::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// A rotating ring of signing keys.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "claviger.dev",
    version = "v1alpha1",
    kind = "SigningKey",
    plural = "signingkeys",
    namespaced,
    status = "SigningKeyStatus",
    derive = "PartialEq",
    shortname = "skey",
    category = "claviger",
    doc = "A rotating ring of keys that sign tokens. Read in Claviger's home namespace only; the \
           private keys live in a Secret that outlives this object by a grace period.",
    selectable = ".spec.algorithm",
    printcolumn(name = "Algorithm", type_ = "string", json_path = ".spec.algorithm"),
    printcolumn(
        name = "Active",
        type_ = "string",
        json_path = r#".status.keys[?(@.state=="Active")].kid"#
    ),
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
        "!has(self.overlapSeconds) || self.overlapSeconds <= self.rotationPeriodSeconds"
    )
    .message("overlapSeconds must not exceed rotationPeriodSeconds: lower the one or raise the other"),
    validation = Rule::new("!has(self.overlapSeconds) || self.overlapSeconds >= 60").message(
        "overlapSeconds must be at least 60, the shortest lifetime of an ID token: raise it, or leave it out for what tokens and caches need"
    ),
    validation = Rule::new("self.rotationPeriodSeconds >= 600").message(
        "rotationPeriodSeconds must be at least 600: a key is published for minutes before it signs and stays for the longest token after it"
    ),
)]
#[serde(rename_all = "camelCase")]
pub struct SigningKeySpec {
    /// Algorithm of the keys. Default: RS256, the only one every API server takes by default. A
    /// change is a rotation: a key of the new algorithm is published at once and signs when every
    /// cache must have seen it; until then the old one signs (condition Rotated). EdDSA is not
    /// offered: no API server can verify it.
    #[serde(default)]
    pub algorithm: SigningAlgorithm,

    /// Size of RSA keys in bits: 2048 (default), 3072 or 4096. Ignored for ES256, ES384 and ES512.
    /// Signing with 4096 bits takes about seven times as long as with 2048.
    #[serde(default = "SigningKeySpec::default_rsa_key_bits")]
    #[x_kube(
        validation = Rule::new("self in [2048, 3072, 4096]")
            .message("rsaKeyBits must be 2048, 3072 or 4096"),
    )]
    #[schemars(range(min = 2048, max = 4096))]
    pub rsa_key_bits: i32,

    /// How long a key signs, in seconds: 600 to 31536000. Default: 2592000 (30 days). The next key
    /// is published long before it signs, so relying parties never meet an unknown one. A period
    /// shorter than the longest ID token plus what caches need is stretched to that (condition
    /// ScheduleFeasible).
    #[serde(default = "SigningKeySpec::default_rotation_period")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub rotation_period_seconds: i32,

    /// How long a key stays published after it signed for the last time, in seconds: 60 to
    /// 31536000, at most `rotationPeriodSeconds`. Default, and always the least: the longest token
    /// it signed plus what caches need.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub overlap_seconds: Option<i32>,

    /// Key IDs (`kid`, up to 64) to withdraw at once: they leave the published set, tokens signed
    /// by them are refused by Claviger, and an active one is replaced without waiting. An API
    /// server that holds one in memory trusts it until it fetches the set again (condition
    /// RevokedKeysWithdrawn says how to make it).
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "revokedKeyIDs")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9_-]+$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub revoked_key_ids: Vec<String>,

    /// Raise it to rotate once, ahead of the period: as soon as every cache must have seen the next
    /// key, minutes at most (condition Rotated). Default: 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 2_147_483_647))]
    #[x_kube(
        validation = Rule::new("self >= oldSelf")
            .message("rotationRequest can only be raised"),
    )]
    pub rotation_request: i32,
}

impl SigningKeySpec {
    fn default_rsa_key_bits() -> i32 {
        2048
    }

    fn default_rotation_period() -> i32 {
        30 * 86_400
    }
}

impl Default for SigningKeySpec {
    fn default() -> Self {
        Self {
            algorithm: SigningAlgorithm::default(),
            rsa_key_bits: Self::default_rsa_key_bits(),
            rotation_period_seconds: Self::default_rotation_period(),
            overlap_seconds: None,
            revoked_key_ids: Vec::new(),
            rotation_request: 0,
        }
    }
}

/// A JWS algorithm (RFC 7518 section 3.1) that an API server can verify.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum SigningAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    #[default]
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// ECDSA on P-521 with SHA-512.
    Es512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
}

impl SigningAlgorithm {
    /// `alg` on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
        }
    }
}

/// What Claviger says about a SigningKey. Nothing is read back from here: the keys and their
/// states live in the Secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct SigningKeyStatus {
    /// The metadata.generation the rest of the status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The Secret that holds the private keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub secret_name: Option<String>,

    /// The keys of the ring (up to 128), oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["kid".into()]))]
    pub keys: Vec<PublishedKey>,

    /// When the next key takes over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_rotation_time: Option<Time>,

    /// Accepted, ResolvedRefs, Rotated, ScheduleFeasible, RevokedKeysWithdrawn and the summary Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// One key of a ring, as reported.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PublishedKey {
    /// Key ID: the RFC 7638 thumbprint. Never used again.
    #[schemars(length(min = 1, max = 64))]
    pub kid: String,

    /// Its algorithm.
    pub algorithm: SigningAlgorithm,

    /// Pending, Published, Active, Retiring or Revoked.
    pub state: KeyState,

    /// When it got into this state.
    pub since: Time,

    /// When it signs, or began to sign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Time>,

    /// When it leaves the published set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Time>,
}

/// Where a key is in its life.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum KeyState {
    /// In the published set; the leader has not seen it in the store yet.
    Pending,
    /// In the published set for at least as long as `since` says; does not sign yet.
    Published,
    /// Signs.
    Active,
    /// Signs no more; published until the last token it signed has expired.
    Retiring,
    /// Withdrawn by `revokedKeyIDs`.
    Revoked,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_word_is_the_yaml_word() {
        use SigningAlgorithm::{Es256, Es384, Es512, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
        for algorithm in [Rs256, Rs384, Rs512, Es256, Es384, Es512, Ps256, Ps384, Ps512] {
            assert_eq!(serde_json::to_value(algorithm).unwrap(), algorithm.as_str());
        }
    }

    #[test]
    fn an_empty_spec_is_the_default_spec() {
        let spec: SigningKeySpec = serde_json::from_str("{}").unwrap();
        assert_eq!(spec, SigningKeySpec::default());
    }
}
