//! Token exchange (RFC 8693): the request, and what its answer says besides a token response.

use secrecy::SecretString;
use serde::Serialize;

use crate::authorize::resources;
use crate::error::{ErrorCode, ErrorResponse};
use crate::form::Params;
use crate::scope::ScopeSet;

/// `grant_type` of an exchange.
pub const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
/// Longest audience: a client ID.
const MAX_AUDIENCE: usize = 512;
/// Longest name of a connector: that of a Kubernetes object.
const MAX_CONNECTOR: usize = 253;

/// What kind of token an exchange gives (RFC 8693 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum IssuedTokenType {
    /// For resource servers.
    #[serde(rename = "urn:ietf:params:oauth:token-type:access_token")]
    AccessToken,
    /// For a client.
    #[serde(rename = "urn:ietf:params:oauth:token-type:id_token")]
    IdToken,
}

/// What kind of token is exchanged, as its bearer says (RFC 8693 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubjectTokenType {
    /// An access token.
    AccessToken,
    /// An ID token.
    IdToken,
    /// A JWT of another issuer, whatever that calls it.
    Jwt,
}

impl SubjectTokenType {
    fn parse(text: &str) -> Result<Self, ErrorResponse> {
        match text {
            ACCESS_TOKEN => Ok(Self::AccessToken),
            ID_TOKEN => Ok(Self::IdToken),
            JWT => Ok(Self::Jwt),
            _ => Err(ErrorResponse::invalid_request(
                "subject_token_type must be urn:ietf:params:oauth:token-type: and access_token, id_token or jwt",
            )),
        }
    }
}

/// A request (RFC 8693 2.1). The `connector_id` that dex demands counts where a connector of that name takes its provider's
/// tokens; else it is passed over: which issuer a token comes of, it says itself, and is believed when its signature is good.
#[derive(Debug)]
pub struct TokenExchangeRequest {
    /// What kind of token that is.
    pub subject_token_type: SubjectTokenType,
    /// The token to exchange.
    pub subject_token: SecretString,
    /// `connector_id`: the connector whose provider made the token.
    pub connector: Option<String>,
    /// What is to come of it; an ID token where there is an audience and nothing else is said.
    pub requested: IssuedTokenType,
    /// Client ID of who is to take it.
    pub audience: Option<String>,
    /// Resources it is to be for.
    pub resources: Vec<String>,
    /// Scopes to narrow it to.
    pub scope: Option<ScopeSet>,
}

impl TokenExchangeRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// `invalid_request`, `invalid_target` or `invalid_scope`.
    pub fn parse(params: &Params, scope: Option<ScopeSet>) -> Result<Self, ErrorResponse> {
        let subject_token = params.required("subject_token", usize::MAX)?;
        let subject_token_type =
            SubjectTokenType::parse(&params.required("subject_token_type", 128)?)?;
        for name in ["actor_token", "actor_token_type"] {
            if params.get(name).is_some() {
                let why = format!("{name} is not supported: the client itself is the actor");
                return Err(ErrorResponse::invalid_request(&why));
            }
        }
        let mut audiences = params.all("audience");
        let audience = audiences.next().map(str::to_owned);
        if audiences.next().is_some() || audience.as_ref().is_some_and(|a| a.len() > MAX_AUDIENCE) {
            let why = "audience must be one client ID";
            return Err(ErrorResponse::new(ErrorCode::InvalidTarget, why));
        }
        let requested = match (params.get("requested_token_type"), &audience) {
            (Some(ACCESS_TOKEN), _) | (None, None) => IssuedTokenType::AccessToken,
            (Some(ID_TOKEN), _) | (None, Some(_)) => IssuedTokenType::IdToken,
            (Some(_), _) => {
                return Err(ErrorResponse::invalid_request(
                    "requested_token_type must be that of an access_token or an id_token",
                ));
            }
        };
        Ok(Self {
            subject_token_type,
            subject_token: SecretString::from(subject_token),
            connector: params.bounded("connector_id", MAX_CONNECTOR)?,
            requested,
            audience,
            resources: resources(params)?,
            scope,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(rest: &str) -> Result<TokenExchangeRequest, ErrorCode> {
        let body = format!("subject_token=t&subject_token_type={ACCESS_TOKEN}{rest}");
        let params = Params::parse(body.as_bytes()).unwrap();
        TokenExchangeRequest::parse(&params, None).map_err(|error| error.error)
    }

    #[test]
    fn what_is_asked_for_follows_from_the_audience_unless_it_is_said() {
        for (rest, requested) in [
            (String::new(), IssuedTokenType::AccessToken),
            ("&audience=web".into(), IssuedTokenType::IdToken),
            (format!("&requested_token_type={ID_TOKEN}"), IssuedTokenType::IdToken),
            (
                format!("&audience=web&requested_token_type={ACCESS_TOKEN}"),
                IssuedTokenType::AccessToken,
            ),
        ] {
            assert_eq!(parse(&rest).unwrap().requested, requested, "{rest}");
        }
    }

    #[test]
    fn three_kinds_of_tokens_are_taken_and_dexs_own_parameter_is_read() {
        for (text, kind) in [
            (ACCESS_TOKEN, SubjectTokenType::AccessToken),
            (ID_TOKEN, SubjectTokenType::IdToken),
            (JWT, SubjectTokenType::Jwt),
        ] {
            let body = format!("subject_token=t&subject_token_type={text}&connector_id=github");
            let params = Params::parse(body.as_bytes()).unwrap();
            let request = TokenExchangeRequest::parse(&params, None).unwrap();
            assert_eq!(request.subject_token_type, kind);
            assert_eq!(request.connector.as_deref(), Some("github"));
        }
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let refresh = "&requested_token_type=urn:ietf:params:oauth:token-type:refresh_token";
        for rest in ["&actor_token=t", "&actor_token_type=x", refresh] {
            assert_eq!(parse(rest).err(), Some(ErrorCode::InvalidRequest), "{rest}");
        }
        let params = |body: &str| Params::parse(body.as_bytes()).unwrap();
        for body in
            ["subject_token=t", "subject_token_type=x", "subject_token=t&subject_token_type=x"]
        {
            let refused = TokenExchangeRequest::parse(&params(body), None);
            assert_eq!(refused.err().map(|e| e.error), Some(ErrorCode::InvalidRequest), "{body}");
        }
    }
}
