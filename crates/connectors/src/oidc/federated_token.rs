//! A token that says who this process is, signed by somebody whom a provider trusts for it: workload identity federation,
//! where the cluster signs it and the kubelet lays it into a file.
//!
//! What always holds: the file is named by whoever starts the process, never by a Connector; it is read when it is needed, for
//! it is renewed; one that was made for anybody else, an API server above all, goes nowhere.

use std::path::PathBuf;

use claviger_jose::unverified_claims;
use serde_json::Value;
use tokio::fs::File;
use tokio::io::AsyncReadExt;

/// Longest token, in bytes.
const MAX_BYTES: u64 = 16 * 1_024;
/// For whom Entra ID wants such a token; what follows names its other clouds.
const AUDIENCE: &str = "api://AzureADTokenExchange";

/// Where it is.
#[derive(Debug, Clone)]
pub struct FederatedToken {
    path: PathBuf,
}

impl FederatedToken {
    /// The one in this file, which need not be there yet.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// What the file holds by now, at a time in seconds since the Unix epoch.
    ///
    /// # Errors
    /// Why it cannot be shown, and the fix, in words.
    pub async fn read(&self, now: i64) -> Result<String, String> {
        let place = self.path.display();
        let unreadable =
            |error: std::io::Error| format!("the federated token {place} cannot be read: {error}");
        let mut bytes = Vec::new();
        let file = File::open(&self.path).await.map_err(unreadable)?;
        file.take(MAX_BYTES).read_to_end(&mut bytes).await.map_err(unreadable)?;
        let token = String::from_utf8(bytes).map_err(|_| format!("{place} is not a token"))?;
        let token = token.trim_end();
        let claims = unverified_claims(token).map_err(|_| format!("{place} is not a token"))?;
        let audience = match claims.get("aud") {
            Some(Value::Array(several)) if several.len() == 1 => several.first(),
            one => one,
        };
        if !audience.and_then(Value::as_str).is_some_and(|aud| aud.starts_with(AUDIENCE)) {
            return Err(format!(
                "the federated token {place} is for another audience than {AUDIENCE} and is shown to nobody: let the \
                 projected volume ask for that one"
            ));
        }
        if claims.get("exp").and_then(Value::as_i64).is_none_or(|end| end <= now) {
            return Err(format!("the federated token {place} has expired: is it still renewed?"));
        }
        Ok(token.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64URL_NOPAD;
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_000;

    fn token(claims: &Value) -> String {
        let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        format!("{}.{}.c2ln", part(&json!({"alg": "RS256"})), part(claims))
    }

    async fn read(content: &str) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, content).unwrap();
        FederatedToken::at(path).read(NOW).await
    }

    #[tokio::test]
    async fn a_token_for_the_exchange_is_shown_as_it_stands_there() {
        for audience in
            [json!([AUDIENCE]), json!(AUDIENCE), json!(["api://AzureADTokenExchangeChina"])]
        {
            let token = token(&json!({"aud": audience, "exp": NOW + 1}));
            assert_eq!(read(&format!("{token}\n")).await.unwrap(), token);
        }
    }

    #[tokio::test]
    async fn one_for_anybody_else_is_shown_to_nobody() {
        for audience in [
            json!(["https://kubernetes.default.svc"]),
            json!([AUDIENCE, "https://kubernetes.default.svc"]),
            json!([]),
            Value::Null,
        ] {
            let said = read(&token(&json!({"aud": audience, "exp": NOW + 1}))).await.unwrap_err();
            assert!(said.contains("another audience"), "{audience}: {said}");
        }
    }

    #[tokio::test]
    async fn one_that_is_old_or_none_is_said_in_words_that_hold_nothing_of_it() {
        let old = token(&json!({"aud": AUDIENCE, "exp": NOW}));
        assert!(read(&old).await.unwrap_err().contains("has expired"));
        assert!(read(&token(&json!({"aud": AUDIENCE}))).await.unwrap_err().contains("has expired"));
        let long = format!("{old}{}", "a".repeat(20_000));
        for other in ["", "swordfish", long.as_str()] {
            let said = read(other).await.unwrap_err();
            assert!(said.ends_with("is not a token") && !said.contains("swordfish"), "{said}");
        }
        let missing = FederatedToken::at("/nonexistent/token".into()).read(NOW).await.unwrap_err();
        assert!(missing.contains("/nonexistent/token cannot be read"), "{missing}");
    }
}
