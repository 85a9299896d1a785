//! An ID token of ours that comes back as a hint: at the authorization endpoint (OIDC Core 3.1.2.1) and at logout.
//!
//! What always holds: it counts however long ago it expired, and only as what its signature says; one whose key
//! is gone cannot be told from a stranger's and says nothing; a token of another type is no ID token.

use claviger_jose::{Algorithm, Claims, VerifyError, VerifyOptions, verify};

use crate::issuer::Issuer;

/// The claims of a hint; `None` where its key is gone. `audience` is the client it must have been issued to, if
/// that is known.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn claims_of(
    issuer: &Issuer,
    id_token: &str,
    audience: Option<&str>,
    now: i64,
) -> Result<Option<Claims>, VerifyError> {
    let expected = VerifyOptions {
        algorithms: &Algorithm::ALL,
        issuer: issuer.url.as_str(),
        audience,
        typ: None,
        leeway_seconds: i64::MAX,
    };
    match verify(&issuer.keys.key_set, id_token, now, &expected) {
        Ok(claims) => Ok(Some(claims)),
        Err(VerifyError::UnknownKey) => Ok(None),
        Err(error) => Err(error),
    }
}
