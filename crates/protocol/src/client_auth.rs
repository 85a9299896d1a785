//! How a client says who it is at the token endpoint and its like (RFC 6749 2.3, OIDC Core 9):
//! `client_secret_basic`, `client_secret_post`, a signed assertion (RFC 7521 4.2, RFC 7523 2.2) or
//! `none`, and never two at once.

use data_encoding::{BASE64, BASE64URL_NOPAD};
use secrecy::SecretString;
use serde_json::{Map, Value};

use crate::error::{ErrorCode, ErrorResponse};
use crate::form::{Params, decode};

/// Longest client ID: a namespace, a slash and a name.
const MAX_CLIENT_ID: usize = 512;
/// Longest client secret looked at.
const MAX_SECRET: usize = 1_024;
/// Longest client assertion looked at: a token of a Kubernetes ServiceAccount has about 1,200 bytes.
pub const MAX_ASSERTION: usize = 8_192;
/// The one `client_assertion_type` there is for a JWT (RFC 7523 2.2).
pub const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// What a client presented. Not checked yet.
#[derive(Debug, Clone)]
pub struct ClientCredentials {
    client_id: String,
    proof: ClientProof,
}

/// What a client brings to prove that it is who it says.
#[derive(Debug, Clone)]
pub enum ClientProof {
    /// Nothing (`none`).
    None,
    /// A secret, in the header or the body.
    Secret(SecretString),
    /// A signed JWT (RFC 7523 2.2). Nothing of it is proven.
    Assertion(SecretString),
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
        let assertion = assertion(params)?;
        let methods = [authorization.is_some(), secret_in_body.is_some(), assertion.is_some()];
        if methods.into_iter().filter(|used| *used).count() > 1 {
            return Err(ErrorResponse::invalid_request(
                "use one of the Authorization header, client_secret and client_assertion, not two",
            ));
        }
        if let Some(assertion) = assertion {
            let client_id = in_body.map_or_else(|| subject(&assertion), Ok)?;
            return Ok(Self { client_id, proof: ClientProof::Assertion(assertion.into()) });
        }
        let Some(header) = authorization else {
            let client_id = in_body.ok_or_else(|| invalid_client("client_id is missing"))?;
            let secret = secret_in_body.map(SecretString::from);
            return Ok(Self {
                client_id,
                proof: secret.map_or(ClientProof::None, ClientProof::Secret),
            });
        };
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
        let proof = match secret.as_str() {
            "" => ClientProof::None,
            secret => ClientProof::Secret(SecretString::from(secret)),
        };
        Ok(Self { client_id, proof })
    }

    /// `client_id`: what the client says, or, without, what its assertion does.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// What it brings to prove it.
    pub fn proof(&self) -> &ClientProof {
        &self.proof
    }
}

/// `client_assertion`, if its type is one we read (RFC 7521 4.2).
fn assertion(params: &Params) -> Result<Option<String>, ErrorResponse> {
    let kind = params.get("client_assertion_type");
    let Some(assertion) = params.get("client_assertion") else {
        return match kind {
            None => Ok(None),
            Some(_) => Err(invalid_client("client_assertion is missing")),
        };
    };
    if kind != Some(JWT_BEARER) {
        return Err(invalid_client(&format!("client_assertion_type must be {JWT_BEARER}")));
    }
    if assertion.len() > MAX_ASSERTION {
        let why = format!("client_assertion is longer than {MAX_ASSERTION} bytes");
        return Err(invalid_client(&why));
    }
    Ok(Some(assertion.to_owned()))
}

/// `sub` of an assertion, unproven: whose keys it must be signed with (RFC 7521 4.2).
fn subject(assertion: &str) -> Result<String, ErrorResponse> {
    let unreadable = || invalid_client("client_assertion is not readable as a signed JWT");
    let payload = assertion.split('.').nth(1).ok_or_else(unreadable)?;
    let payload = BASE64URL_NOPAD.decode(payload.as_bytes()).map_err(|_| unreadable())?;
    let claims: Map<String, Value> = serde_json::from_slice(&payload).map_err(|_| unreadable())?;
    match claims.get("sub").and_then(Value::as_str) {
        Some(sub) if sub.starts_with("system:serviceaccount:") => Err(invalid_client(
            "client_id is missing: the sub of a ServiceAccount's token does not name the client",
        )),
        Some(sub) if !sub.is_empty() && sub.len() <= MAX_CLIENT_ID => Ok(sub.to_owned()),
        _ => Err(invalid_client("client_id is missing, and so is the sub of client_assertion")),
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
            .map(|c| (c.client_id().to_owned(), proof(&c)))
            .map_err(|error| error.error)
    }

    fn proof(credentials: &ClientCredentials) -> Option<String> {
        match credentials.proof() {
            ClientProof::None => None,
            ClientProof::Secret(secret) => Some(secret.expose_secret().to_owned()),
            ClientProof::Assertion(jwt) => Some(format!("jwt:{}", jwt.expose_secret())),
        }
    }

    /// A compact JWS with these claims and no signature anybody would believe.
    fn unsigned(claims: &str) -> String {
        format!("e30.{}.AA", BASE64URL_NOPAD.encode(claims.as_bytes()))
    }

    fn with_type(rest: &str) -> String {
        format!("client_assertion_type={JWT_BEARER}{rest}")
    }

    #[test]
    fn an_assertion_names_its_client_unless_the_request_does() {
        let jwt = unsigned(r#"{"sub":"team/web"}"#);
        let found = |id: &str| Ok((id.to_owned(), Some(format!("jwt:{jwt}"))));
        let body = with_type(&format!("&client_assertion={jwt}"));
        assert_eq!(read(None, &body), found("team/web"));
        assert_eq!(read(None, &format!("{body}&client_id=other")), found("other"));
        let kubernetes = unsigned(r#"{"sub":"system:serviceaccount:team:web"}"#);
        let body = with_type(&format!("&client_assertion={kubernetes}"));
        assert_eq!(read(None, &body), Err(ErrorCode::InvalidClient));
        assert!(read(None, &format!("{body}&client_id=team/web")).is_ok());
    }

    #[test]
    fn an_assertion_that_cannot_be_read_or_comes_with_another_proof_is_refused() {
        let jwt = unsigned(r#"{"sub":"web"}"#);
        let good = with_type(&format!("&client_assertion={jwt}"));
        let long = "a".repeat(MAX_ASSERTION + 1);
        for (body, code) in [
            (with_type(""), ErrorCode::InvalidClient),
            (format!("client_assertion={jwt}"), ErrorCode::InvalidClient),
            (
                format!(
                    "client_assertion={jwt}&client_assertion_type=urn:ietf:params:oauth:client-assertion-type:saml2-bearer"
                ),
                ErrorCode::InvalidClient,
            ),
            (with_type(&format!("&client_assertion={long}")), ErrorCode::InvalidClient),
            (with_type("&client_assertion=a"), ErrorCode::InvalidClient),
            (with_type("&client_assertion=a.!.b"), ErrorCode::InvalidClient),
            (with_type("&client_assertion=a.e30.b"), ErrorCode::InvalidClient),
            (format!("{good}&client_secret=s"), ErrorCode::InvalidRequest),
        ] {
            assert_eq!(read(None, &body), Err(code), "{body}");
        }
        let basic = format!("Basic {}", BASE64.encode(b"web:secret"));
        assert_eq!(read(Some(&basic), &good), Err(ErrorCode::InvalidRequest));
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

        #[test]
        fn any_assertion_is_answered(text in "\\PC{0,60}", claims in "\\PC{0,60}") {
            for jwt in [text, unsigned(&claims)] {
                let params = Params::default()
                    .with("client_assertion_type", JWT_BEARER)
                    .with("client_assertion", &jwt);
                let _ = ClientCredentials::from_parts(None, &params);
            }
        }
    }
}
