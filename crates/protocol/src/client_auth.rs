//! How a client says who it is at the token endpoint (RFC 6749 2.3): `client_secret_basic`,
//! `client_secret_post` or `none`, and never two at once.

use data_encoding::BASE64;
use secrecy::SecretString;

use crate::error::{ErrorCode, ErrorResponse};
use crate::form::{Params, decode};

/// Longest client ID: a namespace, a slash and a name.
const MAX_CLIENT_ID: usize = 512;
/// Longest client secret looked at.
const MAX_SECRET: usize = 1_024;

/// What a client presented. Not checked yet.
#[derive(Debug, Clone)]
pub struct ClientCredentials {
    client_id: String,
    secret: Option<SecretString>,
}

impl ClientCredentials {
    /// Finds the credentials in an `Authorization` header and a form body.
    ///
    /// # Errors
    /// `invalid_client` when there are none or they cannot be read; `invalid_request` when two
    /// methods are used at once (RFC 6749 2.3).
    pub fn from_parts(authorization: Option<&str>, params: &Params) -> Result<Self, ErrorResponse> {
        let in_body = params.bounded("client_id", MAX_CLIENT_ID)?;
        let secret_in_body = params.bounded("client_secret", MAX_SECRET)?;
        let Some(header) = authorization else {
            let client_id = in_body.ok_or_else(|| invalid_client("client_id is missing"))?;
            return Ok(Self { client_id, secret: secret_in_body.map(SecretString::from) });
        };
        if secret_in_body.is_some() {
            return Err(ErrorResponse::invalid_request(
                "use either the Authorization header or client_secret, not both",
            ));
        }
        let basic = Self::from_basic(header)?;
        if in_body.is_some_and(|id| id != basic.client_id) {
            return Err(ErrorResponse::invalid_request(
                "client_id differs from that of the Authorization header",
            ));
        }
        Ok(basic)
    }

    /// `client_secret_basic`: both halves are form-encoded before base64 (RFC 6749 2.3.1).
    fn from_basic(header: &str) -> Result<Self, ErrorResponse> {
        let unreadable = || invalid_client("the Authorization header is not readable as Basic");
        let (scheme, value) = header.split_once(' ').ok_or_else(unreadable)?;
        if !scheme.eq_ignore_ascii_case("Basic") {
            return Err(invalid_client("only the Basic scheme is supported here"));
        }
        let bytes = BASE64.decode(value.trim().as_bytes()).map_err(|_| unreadable())?;
        let at = bytes.iter().position(|&b| b == b':').ok_or_else(unreadable)?;
        let client_id = decode(&bytes[..at]).map_err(|_| unreadable())?;
        let secret = decode(&bytes[at + 1..]).map_err(|_| unreadable())?;
        if client_id.is_empty() || client_id.len() > MAX_CLIENT_ID || secret.len() > MAX_SECRET {
            return Err(unreadable());
        }
        // An empty password is how some libraries send a public client's ID.
        let secret = (!secret.is_empty()).then(|| SecretString::from(secret));
        Ok(Self { client_id, secret })
    }

    /// `client_id`.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// The secret presented, if any.
    pub fn secret(&self) -> Option<&SecretString> {
        self.secret.as_ref()
    }
}

fn invalid_client(description: &str) -> ErrorResponse {
    ErrorResponse::new(ErrorCode::InvalidClient, description)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    use super::*;

    fn read(header: Option<&str>, body: &str) -> Result<(String, Option<String>), ErrorCode> {
        ClientCredentials::from_parts(header, &Params::parse(body.as_bytes()).unwrap())
            .map(|c| (c.client_id().to_owned(), c.secret().map(|s| s.expose_secret().to_owned())))
            .map_err(|error| error.error)
    }

    #[test]
    fn each_method_is_read_and_two_at_once_are_refused() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(read(None, "client_id=web"), Ok(("web".into(), None)));
        assert_eq!(read(None, "client_id=web&client_secret=s%26"), Ok(("web".into(), some("s&"))));
        let basic = format!("Basic {}", BASE64.encode(b"team%2Fweb:s%2Bcret"));
        assert_eq!(read(Some(&basic), ""), Ok(("team/web".into(), some("s+cret"))));
        assert_eq!(
            read(Some(&basic), "client_id=team/web"),
            Ok(("team/web".into(), some("s+cret")))
        );
        assert_eq!(read(Some(&basic), "client_id=x"), Err(ErrorCode::InvalidRequest));
        assert_eq!(read(Some(&basic), "client_secret=x"), Err(ErrorCode::InvalidRequest));
        assert_eq!(read(None, ""), Err(ErrorCode::InvalidClient));
        for header in ["Bearer x", "Basic", "Basic !!!", "Basic YWJj"] {
            assert_eq!(read(Some(header), ""), Err(ErrorCode::InvalidClient), "{header}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let params = Params::parse(b"client_id=web&client_secret=hunter2").unwrap();
        let credentials = ClientCredentials::from_parts(None, &params).unwrap();
        assert!(!format!("{credentials:?}").contains("hunter2"));
    }

    proptest! {
        #[test]
        fn any_header_is_answered(header in "\\PC{0,60}") {
            let _ = ClientCredentials::from_parts(Some(&header), &Params::default());
        }
    }
}
