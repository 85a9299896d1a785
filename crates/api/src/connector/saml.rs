//! `upstream.saml`: an identity provider of SAML 2.0.

use kube_derive::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::http::HttpTls;
use crate::secret_ref::SecretKeyRef;

/// What a URL must be, in words.
const URL_RULE: &str =
    "must be an https URL without user and fragment, such as https://idp.example.com/saml";
/// An https URL, in the language of the rules.
const HTTPS: &str = "self.matches('^https://[A-Za-z0-9._~-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~!$&()*+,;=:@%/?-]*)?$') \
                     || self.matches('^https://\\\\[[0-9A-Fa-f:.]+\\\\](:[0-9]{1,5})?(/[A-Za-z0-9._~!$&()*+,;=:@%/?-]*)?$')";

/// An identity provider of SAML 2.0 (web browser SSO; its answer comes by HTTP-POST). Register Claviger there by the document
/// at `<issuer>/callback/<name of this Connector>/metadata`, or by hand: the assertion consumer service is
/// `<issuer>/callback/<name of this Connector>`. An answer is believed for its signature by a certificate of the provider,
/// if it is an answer to this very sign-in, for Claviger and not ten minutes old. Encrypted assertions are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = Rule::new("[has(self.metadataURL), has(self.metadata), has(self.identityProvider)].filter(x, x).size() == 1")
        .message("say exactly one of metadataURL, metadata and identityProvider: who the identity provider is"),
    validation = Rule::new("!has(self.attributes) || !has(self.attributes.groupsDelimiter) || has(self.attributes.groups)")
        .message("attributes.groupsDelimiter needs attributes.groups: name the attribute whose values it divides"),
)]
#[serde(rename_all = "camelCase")]
pub struct SamlUpstream {
    /// Where the identity provider's metadata (an EntityDescriptor) is read: its entity ID, its addresses and the
    /// certificates that it signs with. Read anew every hour; what was read last is good for a day while it is away.
    #[serde(rename = "metadataURL", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 512))]
    #[x_kube(validation = Rule::new(HTTPS).message(URL_RULE))]
    pub metadata_url: Option<String>,

    /// The same document, inline (XML, up to 128 KiB).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 131_072))]
    #[x_kube(
        validation = Rule::new("self.contains('EntityDescriptor')")
            .message("metadata must be an EntityDescriptor in XML, as the identity provider serves it"),
    )]
    pub metadata: Option<String>,

    /// The same by hand, for a provider without metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_provider: Option<SamlIdentityProvider>,

    /// Claviger's entity ID there. Default: `<issuer>/callback/<name of this Connector>`. Assertions must be for this
    /// audience.
    #[serde(rename = "entityID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(
        validation = Rule::new("self.matches('^[!-~]+$')")
            .message("entityID must be printable ASCII without spaces, usually a URL"),
    )]
    pub entity_id: Option<String>,

    /// What users are named by (NameID). Persistent (default): an identifier that is this user's for ever. EmailAddress and
    /// Unspecified: what the provider likes; whoever may get another's address or name there is that other here. Transient: another at
    /// each sign-in, for `attributes.userID` alone. An answer by another format than asked for is not used, but for Unspecified.
    #[serde(rename = "nameIDFormat", default)]
    pub name_id_format: SamlNameIdFormat,

    /// How the request gets to the provider: Redirect (default where the provider offers it) or Post.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_binding: Option<SamlBinding>,

    /// The key that signs requests. Default: they are not signed, for nobody gains by a forged one. With it, who signs out here
    /// signs out there too, and who signs out there signs out here, where the provider has a single logout service by
    /// HTTP-Redirect (`<issuer>/callback/<name of this Connector>/logout` is ours).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing: Option<SamlSigning>,

    /// What the provider must sign. Any (default): the Assertion, or the Response around it. Assertion, Response: this one. Both.
    #[serde(default)]
    pub signatures: SamlSignatures,

    /// Ways to sign in (authentication context classes, up to 8) to ask the provider for, such as
    /// `urn:oasis:names:tc:SAML:2.0:ac:classes:TimeSyncToken`. An answer by another way is refused. Default: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 255)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(c, c.matches('^[!-~]+$'))")
            .message("requestedAuthnContexts must be URIs, printable ASCII without spaces"),
    )]
    pub requested_authn_contexts: Vec<String>,

    /// Which attributes of the assertion say what. Default: none but the NameID is looked at.
    #[serde(default)]
    pub attributes: SamlAttributes,

    /// Whether a mail address counts as verified. Always (default): every address, for the provider is the users' own; whoever
    /// can choose their address there can then pass for anybody here. Never: none, and `emailDomains` admits nobody.
    #[serde(default)]
    pub email_verification: SamlEmailVerification,

    /// Whom to trust for the certificate of `metadataURL`'s server. Default: the system's certificate authorities.
    #[serde(default)]
    pub tls: HttpTls,
}

/// An identity provider without metadata.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = Rule::new("has(self.certificates) != has(self.certificatesSecretRef)")
        .message("identityProvider needs certificates or certificatesSecretRef, one of them: without a certificate no answer can be believed"),
)]
#[serde(rename_all = "camelCase")]
pub struct SamlIdentityProvider {
    /// Its entity ID, exactly as its answers say it (Issuer).
    #[serde(rename = "entityID")]
    #[schemars(length(min = 1, max = 1024))]
    pub entity_id: String,

    /// Where the browser goes to sign in (single sign-on service).
    #[serde(rename = "ssoURL")]
    #[schemars(length(min = 9, max = 512))]
    #[x_kube(validation = Rule::new(HTTPS).message(URL_RULE))]
    pub sso_url: String,

    /// How that address takes requests: Redirect (default) or Post.
    #[serde(default)]
    pub sso_binding: SamlBinding,

    /// Where the browser goes to sign out (single logout service, by HTTP-Redirect). Used where `signing` names a key.
    /// Default: users who sign out here stay signed in there.
    #[serde(rename = "sloURL", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 512))]
    #[x_kube(validation = Rule::new(HTTPS).message(URL_RULE))]
    pub slo_url: Option<String>,

    /// The certificates that it signs with (PEM, up to 64 KiB): several while it changes its key. Their keys are trusted, not
    /// their dates and issuers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65_536))]
    #[x_kube(
        validation = Rule::new("self.contains('-----BEGIN CERTIFICATE-----')")
            .message("certificates must be in PEM form (-----BEGIN CERTIFICATE-----)"),
    )]
    pub certificates: Option<String>,

    /// The same: one key of a Secret in the same namespace, labelled `claviger.dev/secret: connector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates_secret_ref: Option<SecretKeyRef>,
}

/// What requests are signed by (RSA with SHA-256).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SamlSigning {
    /// The private RSA key (PEM): one key of a Secret in the same namespace, labelled `claviger.dev/secret: connector`.
    pub key_secret_ref: SecretKeyRef,

    /// Its certificate (PEM), for Claviger's metadata: one key of a Secret in the same namespace, labelled
    /// `claviger.dev/secret: connector`. Default: none; the provider's administrator is given it by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_secret_ref: Option<SecretKeyRef>,
}

/// Which attributes say what, by `Name` or, where none has it, by `FriendlyName`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SamlAttributes {
    /// The stable identifier. Default: the NameID. Choose an attribute only if it never changes and is never given to
    /// somebody else.
    #[serde(rename = "userID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub user_id: Option<String>,

    /// The short name (`preferred_username`). Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub username: Option<String>,

    /// The full name (`name`). Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub name: Option<String>,

    /// The mail address. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub email: Option<String>,

    /// The groups: each value one. Default: none are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub groups: Option<String>,

    /// What divides several groups in one value, such as `,`, or `, ` where a space comes with it: groups are taken to the
    /// last space. Default: a value is one group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8))]
    pub groups_delimiter: Option<String>,
}

/// What users are named by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SamlNameIdFormat {
    /// An identifier that is this user's for ever.
    #[default]
    Persistent,
    /// A mail address.
    EmailAddress,
    /// Another at each sign-in.
    Transient,
    /// What the provider likes.
    Unspecified,
}

/// How a message travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SamlBinding {
    /// HTTP-Redirect.
    #[default]
    Redirect,
    /// HTTP-POST.
    Post,
}

/// What a provider must sign.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SamlSignatures {
    /// The Assertion, or the Response around it.
    #[default]
    Any,
    /// The Assertion.
    Assertion,
    /// The Response.
    Response,
    /// Both.
    Both,
}

/// Which mail addresses are verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SamlEmailVerification {
    /// All.
    #[default]
    Always,
    /// None.
    Never,
}
