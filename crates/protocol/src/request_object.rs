//! Request objects (RFC 9101): the parameters of an authorization request as claims of a JWT.
//!
//! What always holds: what is inside counts and nothing else; whatever is outside too must say the same.

use serde_json::{Map, Value};

use crate::error::{ErrorCode, ErrorResponse};
use crate::form::Params;

/// Longest request object read, in bytes: it travels in an address.
pub const MAX_REQUEST_OBJECT: usize = 8_192;
/// Claims of the JWT itself (RFC 7519 4.1).
const OF_THE_TOKEN: [&str; 7] = ["iss", "aud", "exp", "iat", "nbf", "jti", "sub"];
/// What may stand outside alone: who asks, how, and what the path of the request says (as dex has it).
const OUTSIDE: [&str; 3] = ["client_id", "request", "connector_id"];
/// Parameters that would change what is asked for, were they taken from outside.
const PARAMETERS: [&str; 17] = [
    "response_type",
    "redirect_uri",
    "scope",
    "state",
    "nonce",
    "response_mode",
    "code_challenge",
    "code_challenge_method",
    "prompt",
    "max_age",
    "login_hint",
    "id_token_hint",
    "acr_values",
    "claims",
    "resource",
    "display",
    "dpop_jkt",
];

/// The parameters of a request whose verified object has these claims.
///
/// # Errors
/// `invalid_request_object`: a request within a request, a claim that is no parameter's value, or a
/// parameter outside that is not inside or says something else.
pub fn parameters(claims: &Map<String, Value>, outside: &Params) -> Result<Params, ErrorResponse> {
    if claims.contains_key("request") || claims.contains_key("request_uri") {
        return Err(invalid("it must not hold request or request_uri"));
    }
    if claims.contains_key("sub") {
        return Err(invalid("it must not hold sub: it could be taken for a client_assertion"));
    }
    let mut pairs = Vec::new();
    for (name, value) in claims.iter().filter(|(name, _)| !OF_THE_TOKEN.contains(&name.as_str())) {
        for text in texts(name, value)? {
            pairs.push((name.clone(), text));
        }
    }
    let inside: Params = pairs.into_iter().collect();
    for (name, value) in outside.pairs().filter(|(name, _)| !OUTSIDE.contains(name)) {
        let said = inside.all(name).any(|inside| inside == value);
        let silent = inside.get(name).is_none();
        if !said && (!silent || PARAMETERS.contains(&name)) {
            let why = format!("{name} outside must be inside too, and the same");
            return Err(invalid(&why));
        }
    }
    if inside.get("client_id").is_some_and(|id| outside.get("client_id") != Some(id)) {
        return Err(invalid("client_id inside is another"));
    }
    let added = ["client_id", "connector_id"].into_iter().filter_map(|name| {
        let silent = inside.get(name).is_none();
        Some((name, outside.get(name).filter(|_| silent)?))
    });
    Ok(added.fold(inside.clone(), |params, (name, value)| params.with(name, value)))
}

/// The values of a claim as parameters have them: numbers as text, objects as JSON, lists as several.
fn texts(name: &str, value: &Value) -> Result<Vec<String>, ErrorResponse> {
    match value {
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Number(number) => Ok(vec![number.to_string()]),
        Value::Object(_) => Ok(vec![value.to_string()]),
        Value::Array(several) if name == "resource" => several
            .iter()
            .map(|one| one.as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .ok_or_else(|| invalid("resource must be texts")),
        _ => Err(invalid(&format!("{name} must be a text, a number or an object"))),
    }
}

fn invalid(why: &str) -> ErrorResponse {
    ErrorResponse::new(ErrorCode::InvalidRequestObject, &format!("request: {why}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(claims: &Value, outside: &str) -> Result<Params, ErrorCode> {
        let outside = Params::parse(outside.as_bytes()).unwrap();
        parameters(claims.as_object().unwrap(), &outside).map_err(|error| error.error)
    }

    #[test]
    fn what_is_inside_counts_and_what_is_outside_too_must_agree() {
        let claims = json!({
            "iss": "web", "aud": "https://id.example.org", "exp": 1, "client_id": "web",
            "state": "s", "max_age": 60, "resource": ["https://a/", "https://b/"],
            "claims": {"userinfo": {"email": null}},
        });
        let params = read(&claims, "client_id=web&request=a.b.c&state=s&utm=1").unwrap();
        let expected = [
            ("claims", r#"{"userinfo":{"email":null}}"#),
            ("client_id", "web"),
            ("max_age", "60"),
            ("resource", "https://a/"),
            ("resource", "https://b/"),
            ("state", "s"),
        ];
        assert_eq!(params.pairs().collect::<Vec<_>>(), expected);
        for outside in [
            "client_id=web&state=other",
            "client_id=web&nonce=n",
            "client_id=other",
            "client_id=web&redirect_uri=https://evil.example/",
            "client_id=web&max_age=61",
        ] {
            assert_eq!(read(&claims, outside), Err(ErrorCode::InvalidRequestObject), "{outside}");
        }
    }

    #[test]
    fn a_request_within_a_request_and_what_is_no_parameter_are_refused() {
        for claims in [
            json!({"request": "a.b.c"}),
            json!({"request_uri": "urn:x"}),
            json!({"sub": "web"}),
            json!({"state": null}),
            json!({"state": ["a"]}),
            json!({"prompt": true}),
            json!({"resource": [1]}),
        ] {
            let refused = read(&claims, "client_id=web");
            assert_eq!(refused, Err(ErrorCode::InvalidRequestObject), "{claims}");
        }
    }

    proptest! {
        #[test]
        fn any_claims_are_answered(names in proptest::collection::vec("[a-z_]{1,12}", 0..6), text in "\\PC{0,40}") {
            let claims = names.iter().map(|name| (name.clone(), json!(text))).collect();
            if let Ok(params) = parameters(&claims, &Params::default()) {
                prop_assert!(params.get("request").is_none() && params.get("request_uri").is_none());
            }
        }
    }
}
