//! Bearer tokens at `/userinfo` (RFC 6750): from the header or a form body, never from the query.

use secrecy::SecretString;

use crate::error::{ErrorCode, ErrorResponse, printable};
use crate::form::Params;

/// Longest access token looked at, in bytes: a few hundred groups fit.
const MAX_TOKEN: usize = 64 * 1_024;

/// The access token of a request, if it presents one.
///
/// # Errors
/// `invalid_request` when it presents two, or one that is not readable.
pub fn bearer_token(
    authorization: Option<&str>,
    body: Option<&Params>,
) -> Result<Option<SecretString>, ErrorResponse> {
    let in_body = body.and_then(|params| params.get("access_token"));
    let in_header = match authorization.map(|header| header.split_once(' ')) {
        Some(Some((scheme, token))) if scheme.eq_ignore_ascii_case("Bearer") => Some(token.trim()),
        Some(_) | None => None, // another scheme presents no access token
    };
    match (in_header, in_body) {
        (Some(_), Some(_)) => Err(ErrorResponse::invalid_request(
            "present the access token once, in the Authorization header or in the body",
        )),
        (Some(token), None) | (None, Some(token)) if token.len() > MAX_TOKEN => {
            Err(ErrorResponse::new(ErrorCode::InvalidToken, "access token is too long"))
        }
        (Some(token), None) | (None, Some(token)) => Ok(Some(SecretString::from(token))),
        (None, None) => Ok(None),
    }
}

/// The access token of a request that presents it with a proof of possession (RFC 9449 7.1).
///
/// # Errors
/// `invalid_token` when it is too long.
pub fn dpop_token(authorization: Option<&str>) -> Result<Option<SecretString>, ErrorResponse> {
    match authorization.and_then(|header| header.split_once(' ')) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("DPoP") => {
            if token.len() > MAX_TOKEN {
                return Err(ErrorResponse::new(
                    ErrorCode::InvalidToken,
                    "access token is too long",
                ));
            }
            Ok(Some(SecretString::from(token.trim())))
        }
        _ => Ok(None),
    }
}

/// The `WWW-Authenticate` header of a refusal; without an error when no token was presented
/// (RFC 6750 3.1).
pub fn challenge(error: Option<&ErrorResponse>) -> String {
    match error {
        None => r#"Bearer realm="userinfo""#.to_owned(),
        Some(error) => {
            let description = printable(error.error_description.as_deref().unwrap_or_default());
            format!(r#"Bearer error="{}", error_description="{description}""#, error.error.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_token_is_presented_once_or_not_at_all() {
        let body = Params::parse(b"access_token=b").unwrap();
        let read = |header, body| {
            bearer_token(header, body).map(|t| t.map(|t| t.expose_secret().to_owned()))
        };
        assert_eq!(read(None, None), Ok(None));
        assert_eq!(read(Some("bearer a"), None), Ok(Some("a".into())));
        assert_eq!(read(None, Some(&body)), Ok(Some("b".into())));
        assert!(read(Some("Bearer a"), Some(&body)).is_err());
        assert_eq!(read(Some("Basic a"), None), Ok(None));
    }

    #[test]
    fn challenges_quote_nothing_that_could_break_out() {
        let error = ErrorResponse::new(ErrorCode::InvalidToken, "a \"quoted\"\r\nword");
        let expected = r#"Bearer error="invalid_token", error_description="a 'quoted'??word""#;
        assert_eq!(challenge(Some(&error)), expected);
        assert_eq!(challenge(None), r#"Bearer realm="userinfo""#);
    }
}
