//! What an authorization response holds, and how it travels (OAuth 2.0 Multiple Response Type Encoding
//! Practices, OAuth 2.0 Form Post Response Mode).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::redirect_uri::RedirectUri;

/// A `response_type`: which of code, ID token and access token the authorization endpoint itself gives.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub enum ResponseType {
    /// `code`.
    #[serde(rename = "code")]
    #[default]
    Code,
    /// `id_token`.
    #[serde(rename = "id_token")]
    IdToken,
    /// `id_token token`.
    #[serde(rename = "id_token token")]
    IdTokenToken,
    /// `code id_token`.
    #[serde(rename = "code id_token")]
    CodeIdToken,
    /// `code token`.
    #[serde(rename = "code token")]
    CodeToken,
    /// `code id_token token`.
    #[serde(rename = "code id_token token")]
    CodeIdTokenToken,
}

impl ResponseType {
    /// Every response type there is.
    pub const ALL: [Self; 6] = [
        Self::Code,
        Self::IdToken,
        Self::IdTokenToken,
        Self::CodeIdToken,
        Self::CodeToken,
        Self::CodeIdTokenToken,
    ];

    /// Reads a `response_type`; the order of its words does not matter (RFC 6749 3.1.1). `None` for any
    /// other, `token` alone among them: it would name no user.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words: Vec<_> = text.split(' ').collect();
        words.sort_unstable();
        Self::ALL.into_iter().find(|known| known.as_str() == words.join(" "))
    }

    /// The words, in the order in which they are registered.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::IdToken => "id_token",
            Self::IdTokenToken => "id_token token",
            Self::CodeIdToken => "code id_token",
            Self::CodeToken => "code token",
            Self::CodeIdTokenToken => "code id_token token",
        }
    }

    /// Whether a code is among what it gives.
    pub const fn has_code(self) -> bool {
        !matches!(self, Self::IdToken | Self::IdTokenToken)
    }

    /// Whether an ID token is.
    pub const fn has_id_token(self) -> bool {
        !matches!(self, Self::Code | Self::CodeToken)
    }

    /// Whether an access token is.
    pub const fn has_token(self) -> bool {
        matches!(self, Self::IdTokenToken | Self::CodeToken | Self::CodeIdTokenToken)
    }

    /// How the response travels unless another way is asked for.
    pub const fn default_mode(self) -> ResponseMode {
        match self {
            Self::Code => ResponseMode::Query,
            _ => ResponseMode::Fragment,
        }
    }
}

impl fmt::Display for ResponseType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A `response_mode`: how the response travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResponseMode {
    /// In the query of the redirect URI; never with a token.
    #[default]
    Query,
    /// In its fragment.
    Fragment,
    /// In the body of a POST that a page of ours sends.
    FormPost,
}

impl ResponseMode {
    /// Every response mode there is.
    pub const ALL: [Self; 3] = [Self::Query, Self::Fragment, Self::FormPost];

    /// Reads a `response_mode`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == text)
    }

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Fragment => "fragment",
            Self::FormPost => "form_post",
        }
    }

    /// Whether a response of this type may travel so: what is in a query stands in logs and histories.
    pub fn carries(self, response_type: ResponseType) -> bool {
        self != Self::Query || response_type == ResponseType::Code
    }
}

/// What the browser is told to do with an authorization response.
#[derive(Clone, PartialEq, Eq)]
pub enum Delivery {
    /// Go there.
    Redirect(String),
    /// Post these fields there.
    Post {
        /// The redirect URI.
        action: String,
        /// Names and values, in order.
        fields: Vec<(&'static str, String)>,
    },
}

/// Where it goes and the names of what it brings: codes and tokens are for the client alone.
impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redirect(location) => {
                let end = location.find(['?', '#']).unwrap_or(location.len());
                write!(f, "Redirect({:?})", &location[..end])
            }
            Self::Post { action, fields } => {
                let names: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
                write!(f, "Post({action:?}, {names:?})")
            }
        }
    }
}

impl Delivery {
    /// A response on its way to a redirect URI.
    pub fn of(
        fields: Vec<(&'static str, String)>,
        mode: ResponseMode,
        redirect_uri: &RedirectUri,
    ) -> Self {
        let params = || fields.iter().map(|(name, value)| (*name, value.as_str()));
        match mode {
            ResponseMode::Query => Self::Redirect(redirect_uri.with_params(params())),
            ResponseMode::Fragment => Self::Redirect(redirect_uri.with_fragment(params())),
            ResponseMode::FormPost => {
                Self::Post { action: redirect_uri.as_str().to_owned(), fields }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_words_does_not_matter_and_a_lone_token_is_nothing() {
        for known in ResponseType::ALL {
            assert_eq!(ResponseType::parse(known.as_str()), Some(known));
            assert_eq!(serde_json::to_value(known).unwrap(), known.as_str());
        }
        assert_eq!(ResponseType::parse("token id_token"), Some(ResponseType::IdTokenToken));
        assert_eq!(
            ResponseType::parse("token code id_token"),
            Some(ResponseType::CodeIdTokenToken)
        );
        for unknown in ["", "token", "none", "code code", "code  id_token", " code", "Code"] {
            assert_eq!(ResponseType::parse(unknown), None, "{unknown:?}");
        }
    }

    #[test]
    fn what_holds_a_token_never_travels_in_a_query() {
        for known in ResponseType::ALL {
            let holds = known.has_id_token() || known.has_token();
            assert_eq!(ResponseMode::Query.carries(known), !holds, "{known}");
            assert!(ResponseMode::Fragment.carries(known) && ResponseMode::FormPost.carries(known));
            assert!(known.default_mode().carries(known));
        }
        assert_eq!(ResponseMode::parse("web_message"), None);
    }

    #[test]
    fn each_mode_has_its_place() {
        let uri = RedirectUri::parse("https://a.example/cb?x=1").unwrap();
        let fields = || vec![("code", "c&".to_owned()), ("state", "s".to_owned())];
        let of = |mode| Delivery::of(fields(), mode, &uri);
        let redirect = |to: &str| Delivery::Redirect(to.to_owned());
        assert_eq!(of(ResponseMode::Query), redirect("https://a.example/cb?x=1&code=c%26&state=s"));
        assert_eq!(
            of(ResponseMode::Fragment),
            redirect("https://a.example/cb?x=1#code=c%26&state=s")
        );
        let action = "https://a.example/cb?x=1".to_owned();
        assert_eq!(of(ResponseMode::FormPost), Delivery::Post { action, fields: fields() });
        for mode in ResponseMode::ALL {
            let printed = format!("{:?}", of(mode));
            assert!(
                printed.contains("https://a.example/cb") && !printed.contains("c%26"),
                "{printed}"
            );
            assert!(!printed.contains("c&"), "{printed}");
        }
    }
}
