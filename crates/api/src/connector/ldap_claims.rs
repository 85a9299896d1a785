//! `upstream.ldap.userSearch.claimAttributes`: which attributes of a user's entry become further claims.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ldap::ATTRIBUTE_PATTERN;

/// Attributes that become further claims of scopes profile, phone and address (OIDC Core 5.1). What is not
/// named is not read. Of several values the first good one counts. Left out, and said so in the log, is
/// a value that is no text, has more than 256 characters or is not of the claim's form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LdapClaimAttributes {
    /// Given name, such as givenName.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = ATTRIBUTE_PATTERN))]
    pub given_name: Option<String>,

    /// Family name, such as sn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = ATTRIBUTE_PATTERN))]
    pub family_name: Option<String>,

    /// Middle name; Active Directory has middleName.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = ATTRIBUTE_PATTERN))]
    pub middle_name: Option<String>,

    /// What friends call the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = ATTRIBUTE_PATTERN))]
    pub nickname: Option<String>,

    /// Address of a page about the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = ATTRIBUTE_PATTERN))]
    pub profile: Option<String>,

    /// Address of a picture. An attribute with the picture itself, such as jpegPhoto, is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = ATTRIBUTE_PATTERN))]
    pub picture: Option<String>,

    /// Address of the user's own page, such as labeledURI or wWWHomePage; what follows a space is a label, and left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = ATTRIBUTE_PATTERN))]
    pub website: Option<String>,

    /// Gender, in any words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = ATTRIBUTE_PATTERN))]
    pub gender: Option<String>,

    /// Birthday as YYYY-MM-DD, YYYYMMDD or YYYY, such as schacDateOfBirth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = ATTRIBUTE_PATTERN))]
    pub birthdate: Option<String>,

    /// Time zone, such as Europe/Berlin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = ATTRIBUTE_PATTERN))]
    pub zoneinfo: Option<String>,

    /// Language, such as preferredLanguage; of several the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = ATTRIBUTE_PATTERN))]
    pub locale: Option<String>,

    /// When the user was changed last, in UTC as RFC 4517 3.3.13 writes it, such as modifyTimestamp or whenChanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = ATTRIBUTE_PATTERN))]
    pub updated_at: Option<String>,

    /// Telephone number, such as telephoneNumber or mobile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = ATTRIBUTE_PATTERN))]
    pub phone_number: Option<String>,

    /// Unverified (default): tokens do not say that the telephone number was verified. Verified: they say
    /// it was (`phone_number_verified`); only where users cannot change their numbers themselves.
    #[serde(default)]
    pub phone_number_verification: LdapPhoneNumberVerification,

    /// The parts of the postal address. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<LdapAddressAttributes>,
}

/// Whether tokens say that telephone numbers were verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LdapPhoneNumberVerification {
    /// They do not.
    #[default]
    Unverified,
    /// They do.
    Verified,
}

/// Attributes that become parts of a postal address (OIDC Core 5.1.1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LdapAddressAttributes {
    /// The whole address as RFC 4517 3.3.28 writes it, where $ ends a line, such as postalAddress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = ATTRIBUTE_PATTERN))]
    pub formatted: Option<String>,

    /// Street and house number, such as street or streetAddress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = ATTRIBUTE_PATTERN))]
    pub street_address: Option<String>,

    /// City, such as l.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = ATTRIBUTE_PATTERN))]
    pub locality: Option<String>,

    /// State or province, such as st.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = ATTRIBUTE_PATTERN))]
    pub region: Option<String>,

    /// Postal code, such as postalCode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = ATTRIBUTE_PATTERN))]
    pub postal_code: Option<String>,

    /// Country, such as c or co.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = ATTRIBUTE_PATTERN))]
    pub country: Option<String>,
}
