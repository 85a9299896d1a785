//! Token revocation (RFC 7009): the request. Its answer has no content.

use secrecy::SecretString;

use crate::error::ErrorResponse;
use crate::form::Params;

/// A request at the revocation endpoint (RFC 7009 2.1).
///
/// `token_type_hint` is not kept: our tokens tell by their form what they are, and a wrong hint must
/// change nothing.
#[derive(Debug)]
pub struct RevocationRequest {
    /// The token, of any length: one that is not ours is answered like one that is over.
    pub token: SecretString,
}

impl RevocationRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// `invalid_request` without a token.
    pub fn parse(params: &Params) -> Result<Self, ErrorResponse> {
        Ok(Self { token: SecretString::from(params.required("token", usize::MAX)?) })
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_request_is_its_token_whatever_the_hint() {
        let parse = |body: &[u8]| RevocationRequest::parse(&Params::parse(body).unwrap());
        for hint in ["", "&token_type_hint=refresh_token", "&token_type_hint=made_up"] {
            let request = parse(format!("token=t{hint}").as_bytes()).unwrap();
            assert_eq!(request.token.expose_secret(), "t");
        }
        assert!(parse(b"token=").is_err());
        assert!(parse(b"token_type_hint=access_token").is_err());
    }
}
