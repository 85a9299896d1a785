//! Where a vendor's authorization and token endpoints are: as it is written, or as the vendor says itself (RFC 8414).
//!
//! What always holds: users and codes are sent to https alone, and, where the vendor says where, to one origin, that of the
//! issuer it says it is; what it says is [kept](crate::kept).

use std::sync::Arc;

use claviger_api::Reason;
use claviger_domain::no_verdict::NoVerdict;
use http::{Request, StatusCode};
use serde::Deserialize;
use url::Url;

use super::TokenFailure;
use super::token::Endpoint;
use crate::http::{Http, retry_after};
use crate::kept::{KEPT, Kept};

/// How they are known.
#[derive(Debug, Clone)]
pub enum Endpoints {
    /// They are written.
    Written {
        /// Authorization endpoint.
        authorization: String,
        /// Token endpoint.
        token: String,
    },
    /// A document says them.
    Described {
        /// Where that is.
        at: String,
    },
}

/// Where they are.
#[derive(Debug)]
pub struct Places {
    /// Where users sign in.
    pub authorization: Url,
    /// Where codes and refresh tokens go.
    pub token: Endpoint,
}

/// Why nobody knows where they are.
#[derive(Debug, Clone)]
pub struct Unknown {
    /// The word for the condition `Ready`.
    pub reason: Reason,
    /// For logs.
    pub why: NoVerdict,
}

impl From<Unknown> for (Reason, TokenFailure) {
    fn from(unknown: Unknown) -> Self {
        (unknown.reason, TokenFailure::Unavailable(unknown.why))
    }
}

/// What is known of them.
#[derive(Debug)]
pub enum Known {
    /// All, from the beginning.
    Written(Arc<Places>),
    /// What the document said last.
    Described(Box<Document>),
}

/// A document that says where they are.
#[derive(Debug)]
pub struct Document {
    /// Where it is.
    pub at: Url,
    /// The token endpoint, but for its address.
    pub token: Endpoint,
    /// What it said.
    pub kept: Kept<Places, Unknown>,
}

/// RFC 8414 2, in part.
#[derive(Deserialize)]
struct Metadata {
    issuer: Url,
    authorization_endpoint: Url,
    token_endpoint: Url,
    /// Left out, it says nothing of PKCE.
    code_challenge_methods_supported: Option<Vec<String>>,
}

impl Known {
    /// Where they are, by what was said within the hour.
    ///
    /// # Errors
    /// [`Unknown`].
    pub async fn get(&self, http: &Http) -> Result<Arc<Places>, Unknown> {
        match self {
            Self::Written(places) => Ok(Arc::clone(places)),
            Self::Described(document) => {
                document.kept.no_older_than(KEPT, document.ask(http)).await
            }
        }
    }

    /// The same, as it is said by now.
    ///
    /// # Errors
    /// [`Unknown`].
    pub async fn refresh(&self, http: &Http) -> Result<Arc<Places>, Unknown> {
        match self {
            Self::Written(places) => Ok(Arc::clone(places)),
            Self::Described(document) => document.kept.note(document.ask(http).await),
        }
    }
}

impl Document {
    async fn ask(&self, http: &Http) -> Result<Arc<Places>, Unknown> {
        let at = &self.at;
        let unusable = |why: String| Unknown { reason: Reason::UpstreamUnusable, why: why.into() };
        let request = Request::builder().uri(at.as_str()).header("accept", "application/json");
        let request = request.body(Vec::new()).map_err(|error| unusable(error.to_string()))?;
        let answer = http.send(request).await;
        let answer =
            answer.map_err(|error| Unknown { reason: error.reason(), why: (&error).into() })?;
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            let why = NoVerdict::busy(format!("{at} answered 429"), retry_after(answer.headers()));
            return Err(Unknown { reason: Reason::UpstreamUnusable, why });
        }
        if answer.status() != StatusCode::OK {
            let status = answer.status().as_u16();
            return Err(unusable(format!(
                "{at} answered {status}: compare the url in the Connector"
            )));
        }
        let said: Metadata = serde_json::from_slice(answer.body()).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            unusable(format!("{at} cannot be read, at line {line} column {column}"))
        })?;
        said.check().map_err(|why| unusable(format!("{at} {why}")))?;
        let token = Endpoint { url: said.token_endpoint, ..self.token.clone() };
        Ok(Arc::new(Places { authorization: said.authorization_endpoint, token }))
    }
}

impl Metadata {
    /// That users, codes and our secret go to the issuer alone.
    fn check(&self) -> Result<(), &'static str> {
        let endpoints = [&self.authorization_endpoint, &self.token_endpoint];
        let is_bare = |url: &Url| {
            url.scheme() == "https" && url.username().is_empty() && url.password().is_none()
        };
        if !is_bare(&self.issuer) || !endpoints.into_iter().all(is_bare) {
            return Err("names an address that is not https, or has a user");
        }
        if endpoints.into_iter().any(|url| url.origin() != self.issuer.origin()) {
            return Err("names endpoints of another origin than its issuer's");
        }
        let methods = self.code_challenge_methods_supported.as_ref();
        if methods.is_some_and(|methods| !methods.iter().any(|method| method == "S256")) {
            return Err("says that it does not take PKCE by S256");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn checked(change: &Value) -> Result<(), &'static str> {
        let mut said = json!({
            "issuer": "https://oauth.example.com",
            "authorization_endpoint": "https://oauth.example.com/oauth/authorize",
            "token_endpoint": "https://oauth.example.com/oauth/token",
        });
        said.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        serde_json::from_value::<Metadata>(said).unwrap().check()
    }

    #[test]
    fn codes_and_secrets_go_to_the_issuer_by_https_alone() {
        assert_eq!(checked(&json!({})), Ok(()));
        assert_eq!(
            checked(&json!({"code_challenge_methods_supported": ["plain", "S256"]})),
            Ok(())
        );
        for change in [
            json!({"issuer": "http://oauth.example.com"}),
            json!({"authorization_endpoint": "http://oauth.example.com/oauth/authorize"}),
            json!({"token_endpoint": "http://oauth.example.com/oauth/token"}),
            json!({"token_endpoint": "https://evil.example/oauth/token"}),
            json!({"authorization_endpoint": "https://evil.example/oauth/authorize"}),
            json!({"token_endpoint": "https://oauth.example.com:444/oauth/token"}),
            json!({"token_endpoint": "https://oauth.example.com@evil.example/oauth/token"}),
            json!({"authorization_endpoint": "https://me@oauth.example.com/oauth/authorize"}),
            json!({"code_challenge_methods_supported": ["plain"]}),
        ] {
            assert!(checked(&change).is_err(), "{change}");
        }
    }
}
