//! `LocalUser`: a user of the built-in upstream, for installs that have no other.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube_derive::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;
use crate::secret_ref::SecretKeyRef;

/// A user of `local` connectors.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "claviger.dev",
    version = "v1alpha1",
    kind = "LocalUser",
    plural = "localusers",
    namespaced,
    status = "LocalUserStatus",
    derive = "PartialEq",
    shortname = "luser",
    category = "claviger",
    doc = "A user of the local connectors: mail address, names, groups and a password hash in a \
           Secret. Read in Claviger's home namespace only; elsewhere it is nobody.",
    selectable = ".spec.email",
    selectable = ".spec.state",
    printcolumn(name = "Email", type_ = "string", json_path = ".spec.email"),
    printcolumn(name = "State", type_ = "string", json_path = ".spec.state"),
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
    // A rule on the field alone would let it be added or removed.
    validation = Rule::new(
        "has(self.userID) == has(oldSelf.userID) && (!has(self.userID) || self.userID == oldSelf.userID)"
    )
    .message("userID is immutable, set or not: create another LocalUser"),
)]
#[serde(rename_all = "camelCase")]
pub struct LocalUserSpec {
    /// Mail address, and what the user signs in with; upper and lower case are the same. Two
    /// users with one address: the older one has it.
    #[schemars(length(min = 3, max = 254))]
    #[x_kube(
        validation = Rule::new("self.matches('^[^@\\\\s]+@[^@\\\\s]+$')")
            .message("email must be a mail address, such as jane@example.com"),
    )]
    pub email: String,

    /// Whether tokens say the address was verified. Default: true. With false, API servers that
    /// take the address as user name refuse the user, and so do connectors with `emailDomains`.
    #[serde(default = "LocalUserSpec::default_email_verified")]
    pub email_verified: bool,

    /// Full name, for display (`name`). Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub name: Option<String>,

    /// Short name (`preferred_username`). Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub preferred_username: Option<String>,

    /// Further claims of scope `profile` (OIDC Core 5.1). Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,

    /// Telephone number in the form of E.164, such as `+49 30 901820` (scope `phone`). Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub phone_number: Option<String>,

    /// Postal address (scope `address`). Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,

    /// Groups the user is in (up to 256), before the connector's groupPrefix. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 256)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub groups: Vec<String>,

    /// The stable identifier that goes into `sub`. Default: the object's UID. Set it to take over a
    /// user from dex (its `userID`), so that `sub` stays the same. Immutable. Two users with one
    /// ID: the older one has it.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "userID")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(
        validation = Rule::new("self.matches('^[!-~]+$')")
            .message("userID must be printable ASCII without spaces"),
    )]
    pub user_id: Option<String>,

    /// The password's hash.
    pub password_hash: PasswordHash,

    /// Active (default) or Disabled. A disabled user cannot sign in, and their sessions end at
    /// the next refresh.
    #[serde(default)]
    pub state: LocalUserState,
}

/// Claims of scope `profile` beside `name` and `preferred_username`. Each has at most 256 characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// Given name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub given_name: Option<String>,

    /// Family name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub family_name: Option<String>,

    /// Middle name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub middle_name: Option<String>,

    /// What friends call the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub nickname: Option<String>,

    /// Address of a page about the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub profile: Option<String>,

    /// Address of a picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub picture: Option<String>,

    /// Address of the user's own page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub website: Option<String>,

    /// Gender, in any words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub gender: Option<String>,

    /// Birthday as YYYY-MM-DD, or YYYY alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub birthdate: Option<String>,

    /// Time zone, such as Europe/Berlin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub zoneinfo: Option<String>,

    /// Language, such as de-DE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub locale: Option<String>,
}

/// A postal address (OIDC Core 5.1.1). Each part has at most 256 characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    /// The whole address, ready to print; lines separated by line feeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub formatted: Option<String>,

    /// Street and house number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub street_address: Option<String>,

    /// City.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub locality: Option<String>,

    /// State or province.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub region: Option<String>,

    /// Postal code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub postal_code: Option<String>,

    /// Country.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub country: Option<String>,
}

impl LocalUserSpec {
    fn default_email_verified() -> bool {
        true
    }
}

/// Where a password's hash is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PasswordHash {
    /// A Secret in the same namespace, labelled `claviger.dev/secret: user`. The key holds a hash
    /// as `claviger hash-password` prints it (Argon2id) or as dex kept it (bcrypt, cost 10 to 16).
    pub secret_ref: SecretKeyRef,
}

/// Whether a user may sign in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LocalUserState {
    /// They may.
    #[default]
    Active,
    /// They may not.
    Disabled,
}

/// What Claviger says about a LocalUser.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalUserStatus {
    /// The metadata.generation the rest of the status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Accepted, ResolvedRefs and their summary Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
