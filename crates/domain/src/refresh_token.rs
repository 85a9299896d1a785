//! Refresh tokens hold no stored secret: they are derived, and proven by a MAC.
//!
//! `clv_rt_<ring key>.<session>.<n>.<not after>.<connector tag>[~<key>].<mac>`, the MAC over issuer UID,
//! client UID and every other part. Forged, foreign and expired tokens are refused without any
//! API-server request, and the same generation always gives the same token again. The connector tag
//! says before any read whether an upstream must be asked (ADR 0001).
//!
//! The prefix is the format version. Another form gets another prefix and, so that no MAC is good for
//! both, another purpose; it is read one release before it is written (ADR 0004).

use aws_lc_rs::digest;
use claviger_seal::{KeyRing, Purpose};
use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use secrecy::SecretString;
use thiserror::Error;

const PREFIX: &str = "clv_rt_";
/// Longest text taken for a refresh token; ours are about 150 characters.
const MAX_LENGTH: usize = 512;

/// What a refresh token says once its MAC was found good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefreshToken {
    /// Name of the session it belongs to.
    pub session: String,
    /// The session's generation it is good for.
    pub generation: i64,
    /// When it dies.
    pub not_after: i64,
    /// [`connector_tag`] of the session's connector.
    pub connector_tag: String,
    /// Thumbprint of the key it is bound to, if it is.
    pub key: Option<String>,
}

/// Why a text is not one of our live refresh tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RefreshTokenError {
    /// Not of our form.
    #[error("malformed refresh token")]
    Malformed,
    /// Not made by us for this issuer and client.
    #[error("refresh token was not issued to this client by this issuer")]
    Forged,
    /// Past its time.
    #[error("refresh token has expired")]
    Expired,
}

/// Whom a refresh token is bound to.
#[derive(Debug, Clone, Copy)]
pub struct Binding<'a> {
    /// UID of the issuer.
    pub issuer_uid: &'a str,
    /// UID of the client.
    pub client_uid: &'a str,
}

/// Eight characters that stand for a connector's UID in refresh tokens.
pub fn connector_tag(connector_uid: &str) -> String {
    let hash = digest::digest(&digest::SHA256, connector_uid.as_bytes());
    BASE32_NOPAD.encode(&hash.as_ref()[..5]).to_ascii_lowercase()
}

impl RefreshToken {
    /// The token's text.
    pub fn encode(&self, ring: &KeyRing, binding: Binding<'_>) -> SecretString {
        let body = self.body();
        let (key_id, mac) = ring.mac(Purpose::RefreshMac, &parts(binding, &body));
        let mac = BASE64URL_NOPAD.encode(&mac);
        SecretString::from(format!("{PREFIX}{key_id}.{body}.{mac}"))
    }

    /// Reads a token and proves it.
    ///
    /// # Errors
    /// [`RefreshTokenError`]; every one of them is `invalid_grant` on the wire.
    pub fn decode(
        text: &str,
        ring: &KeyRing,
        binding: Binding<'_>,
        now: i64,
    ) -> Result<Self, RefreshTokenError> {
        use RefreshTokenError::{Expired, Forged, Malformed};
        if text.len() > MAX_LENGTH {
            return Err(Malformed);
        }
        let rest = text.strip_prefix(PREFIX).ok_or(Malformed)?;
        let (key_id, rest) = rest.split_once('.').ok_or(Malformed)?;
        let (body, mac) = rest.rsplit_once('.').ok_or(Malformed)?;
        let mac = BASE64URL_NOPAD.decode(mac.as_bytes()).map_err(|_| Malformed)?;
        let token = Self::parse_body(body).ok_or(Malformed)?;
        ring.verify_mac(Purpose::RefreshMac, key_id, &parts(binding, body), &mac)
            .map_err(|_| Forged)?;
        if now >= token.not_after {
            return Err(Expired);
        }
        Ok(token)
    }

    fn body(&self) -> String {
        let Self { session, generation, not_after, connector_tag, key } = self;
        let key = key.as_ref().map(|key| format!("~{key}")).unwrap_or_default();
        format!("{session}.{generation}.{not_after}.{connector_tag}{key}")
    }

    fn parse_body(body: &str) -> Option<Self> {
        let mut fields = body.split('.');
        let (session, generation, not_after) = (fields.next()?, fields.next()?, fields.next()?);
        let bound = fields.next()?;
        let (tag, key) = match bound.split_once('~') {
            Some((tag, key)) => (tag, Some(key.to_owned())),
            None => (bound, None),
        };
        let token = Self {
            session: session.to_owned(),
            generation: number(generation)?,
            not_after: number(not_after)?,
            connector_tag: tag.to_owned(),
            key,
        };
        fields.next().is_none().then_some(token)
    }
}

/// A non-negative decimal in its one canonical spelling.
fn number(text: &str) -> Option<i64> {
    let value: i64 = text.parse().ok()?;
    (value >= 0 && value.to_string() == text).then_some(value)
}

fn parts<'a>(binding: Binding<'a>, body: &'a str) -> [&'a [u8]; 3] {
    [binding.issuer_uid.as_bytes(), binding.client_uid.as_bytes(), body.as_bytes()]
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    const BINDING: Binding<'_> = Binding { issuer_uid: "issuer", client_uid: "client" };

    fn token() -> RefreshToken {
        RefreshToken {
            session: "session".into(),
            generation: 3,
            not_after: 100,
            connector_tag: connector_tag("connector"),
            key: None,
        }
    }

    #[test]
    fn a_token_of_another_version_is_malformed_and_never_misread() {
        let ring = KeyRing::generate(0).unwrap();
        let text = token().encode(&ring, BINDING);
        let decode = |text: &str| RefreshToken::decode(text, &ring, BINDING, 1);
        let text = text.expose_secret();
        assert_eq!(decode(text), Ok(token()));
        let body = text.strip_prefix(PREFIX).unwrap();
        for prefix in ["clv_rt2_", "clv_rt", "clv_at_", "CLV_RT_", ""] {
            let other = format!("{prefix}{body}");
            assert_eq!(decode(&other), Err(RefreshTokenError::Malformed), "{other}");
        }
        let longer = text.replacen(".3.", ".3.0.", 1);
        assert_eq!(decode(&longer), Err(RefreshTokenError::Malformed), "a field more");
    }
}
