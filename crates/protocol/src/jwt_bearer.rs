//! A JWT as an authorization grant (RFC 7523 2.1): the request.

use secrecy::SecretString;

use crate::authorize::resources;
use crate::error::ErrorResponse;
use crate::form::Params;
use crate::scope::ScopeSet;

/// `grant_type` of such a grant.
pub const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// A request (RFC 7523 2.1, RFC 7521 4.1).
#[derive(Debug)]
pub struct JwtBearerRequest {
    /// The JWT, of any length: one that is not good is `invalid_grant`.
    pub assertion: SecretString,
    /// Scopes asked for.
    pub scope: Option<ScopeSet>,
    /// Resources the access token is to be for (RFC 8707 2.2).
    pub resources: Vec<String>,
}

impl JwtBearerRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// `invalid_request` or `invalid_target`.
    pub fn parse(params: &Params, scope: Option<ScopeSet>) -> Result<Self, ErrorResponse> {
        let assertion = SecretString::from(params.required("assertion", usize::MAX)?);
        Ok(Self { assertion, scope, resources: resources(params)? })
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::error::ErrorCode;

    #[test]
    fn an_assertion_is_demanded_once_and_is_not_for_logs() {
        let parse =
            |body: &str| JwtBearerRequest::parse(&Params::parse(body.as_bytes()).unwrap(), None);
        let request = parse("assertion=a.b.c&resource=https://api.example.org").unwrap();
        assert_eq!(request.assertion.expose_secret(), "a.b.c");
        assert_eq!(request.resources, ["https://api.example.org"]);
        assert!(!format!("{request:?}").contains("a.b.c"));
        for body in ["", "assertion=", "scope=openid"] {
            assert_eq!(
                parse(body).err().map(|e| e.error),
                Some(ErrorCode::InvalidRequest),
                "{body}"
            );
        }
    }
}
