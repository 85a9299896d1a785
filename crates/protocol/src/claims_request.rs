//! The `claims` parameter (OIDC Core 5.5): single claims, asked for by name.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::error::ErrorResponse;

/// Longest `claims` parameter, in bytes.
const MAX_LENGTH: usize = 2_048;
/// Most claims asked for in one place.
const MAX_CLAIMS: usize = 32;

/// The claims asked for, by the place they are wanted in. Unknown members are ignored (OIDC Core 5.5).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct ClaimsRequest {
    /// In the ID token.
    #[serde(default, deserialize_with = "wanted")]
    pub id_token: BTreeMap<String, ClaimRequest>,
    /// At `/userinfo`.
    #[serde(default, deserialize_with = "wanted")]
    pub userinfo: BTreeMap<String, ClaimRequest>,
}

/// How one claim is asked for (OIDC Core 5.5.1).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct ClaimRequest {
    /// Whether the client cannot do without.
    #[serde(default)]
    pub essential: bool,
    /// The one value wanted.
    #[serde(default)]
    value: Option<Value>,
    /// The values wanted, the best first.
    #[serde(default)]
    values: Vec<Value>,
}

impl ClaimRequest {
    /// The values wanted, as far as they are texts.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.value.iter().chain(&self.values).filter_map(Value::as_str)
    }
}

/// A claim asked for without saying more is `null`.
fn wanted<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, ClaimRequest>, D::Error> {
    let claims = Option::<BTreeMap<String, Option<ClaimRequest>>>::deserialize(from)?;
    let claims = claims.unwrap_or_default().into_iter();
    Ok(claims.map(|(name, request)| (name, request.unwrap_or_default())).collect())
}

impl ClaimsRequest {
    /// Reads a `claims` parameter.
    ///
    /// # Errors
    /// `invalid_request`: too long, no JSON object of the right shape, or more than 32 claims in one place.
    pub fn parse(text: &str) -> Result<Self, ErrorResponse> {
        let invalid = |why: &str| ErrorResponse::invalid_request(&format!("claims {why}"));
        if text.len() > MAX_LENGTH {
            return Err(invalid("is longer than 2048 bytes"));
        }
        let request: Self = serde_json::from_str(text).map_err(|error| {
            invalid(&format!("is not a JSON object as OIDC Core 5.5 has it: {error}"))
        })?;
        if request.id_token.len() > MAX_CLAIMS || request.userinfo.len() > MAX_CLAIMS {
            return Err(invalid("asks for more than 32 claims in one place"));
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The example of OIDC Core 5.5.
    #[test]
    fn the_specifications_example_is_read() {
        let request = ClaimsRequest::parse(
            r#"{"userinfo": {"given_name": {"essential": true}, "nickname": null, "email": {"essential": true},
                "picture": null}, "id_token": {"auth_time": {"essential": true},
                "acr": {"values": ["urn:mace:incommon:iap:silver"]}}, "unknown": 7}"#,
        )
        .unwrap();
        assert_eq!(request.userinfo.len(), 4);
        assert!(
            request.userinfo["given_name"].essential && !request.userinfo["nickname"].essential
        );
        let acr: Vec<_> = request.id_token["acr"].texts().collect();
        assert_eq!(acr, ["urn:mace:incommon:iap:silver"]);
        let one = ClaimsRequest::parse(r#"{"id_token":{"sub":{"value":"alice"}},"userinfo":null}"#);
        assert_eq!(one.unwrap().id_token["sub"].texts().collect::<Vec<_>>(), ["alice"]);
    }

    #[test]
    fn what_is_no_claims_request_is_refused_by_name() {
        let many: Vec<_> = (0..33).map(|n| format!("\"c{n}\":null")).collect();
        let many = format!("{{\"id_token\":{{{}}}}}", many.join(","));
        let long = format!("{{\"id_token\":{{}},\"x\":\"{}\"}}", "x".repeat(MAX_LENGTH));
        for text in [
            "",
            "null",
            "7",
            "\"\"",
            "{",
            r#"{"id_token":7}"#,
            r#"{"id_token":{"a":7}}"#,
            r#"{"id_token":{"a":{"essential":"yes"}}}"#,
            &many,
            &long,
        ] {
            let error = ClaimsRequest::parse(text).unwrap_err();
            assert!(error.error_description.unwrap().starts_with("claims "), "{text}");
        }
        assert_eq!(ClaimsRequest::parse("{}").unwrap(), ClaimsRequest::default());
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "\\PC{0,80}", name in "\\PC{0,20}", value in "\\PC{0,20}") {
            let _ = ClaimsRequest::parse(&text);
            let asked = serde_json::json!({"id_token": {&name: {"value": &value, "essential": true}}});
            let read = ClaimsRequest::parse(&asked.to_string()).unwrap();
            prop_assert!(read.id_token[&name].essential);
            prop_assert_eq!(read.id_token[&name].texts().collect::<Vec<_>>(), [value.as_str()]);
        }
    }
}
