//! In what a vendor's sign-in differs from OpenID Connect, and what is asked of the vendor beyond it.
//!
//! What always holds: what is not said here is as the standard has it.

use std::fmt;

use async_trait::async_trait;
use claviger_api::SecretKeyRef;
use claviger_api::connector::http::HttpTls;
use claviger_api::connector::oidc::{
    OidcClaims, OidcEmailVerification, OidcEndpoints, OidcOfflineAccess, OidcOfflinePrompt,
    OidcRefreshTokens, OidcSignOut, OidcUpstream, OidcUserinfo,
};
use claviger_domain::connector::Authenticated;
use serde_json::{Map, Value};

use super::tokens::Received;
use crate::http::Http;
use crate::oauth2::ApiError;

/// One vendor.
#[async_trait]
pub trait Vendor: Send + Sync + fmt::Debug {
    /// Further parameters of the authentication request.
    fn parameters(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// What its sign-in leaves out.
    fn omits(&self) -> Omissions {
        Omissions::default()
    }

    /// Whether a refresh token is good once: its sessions are then asked about by one refresh at a time.
    fn rotates(&self) -> bool {
        true
    }

    /// Whose issuer a token must name that says this of itself, where the vendor has one for each of its customers. What
    /// it says is not believed yet.
    fn issuer_of(&self, _claims: &Map<String, Value>) -> Option<String> {
        None
    }

    /// Judges a user by what the vendor alone knows, and says more of them; at sign-in and at every re-check.
    ///
    /// # Errors
    /// [`ApiError`]: only [`ApiError::Refused`] is a verdict.
    async fn complete(
        &self,
        http: &Http,
        received: &Received,
        user: &mut Authenticated,
    ) -> Result<(), ApiError>;

    /// Asks what a sign-in asks beyond the standard, short of a user.
    ///
    /// # Errors
    /// [`ApiError`].
    async fn probe(&self, _http: &Http) -> Result<(), ApiError> {
        Ok(())
    }
}

/// What a vendor's sign-in leaves out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Omissions {
    /// Its ID tokens do not say our nonce again.
    pub nonce: bool,
    /// It takes no PKCE.
    pub pkce: bool,
}

/// What every vendor's resource says, in the words of an OpenID provider's: names and addresses from the ID token, and no
/// refresh token asked for.
pub fn settings(
    issuer: &str,
    client_id: &str,
    client_secret: Option<&SecretKeyRef>,
    tls: &HttpTls,
) -> OidcUpstream {
    OidcUpstream {
        issuer: issuer.to_owned(),
        client_id: client_id.to_owned(),
        client_secret_ref: client_secret.cloned(),
        client_authentication: None,
        client_key: None,
        scopes: vec!["profile".to_owned(), "email".to_owned()],
        offline_access: OidcOfflineAccess::None,
        offline_prompt: OidcOfflinePrompt::None,
        refresh_tokens: OidcRefreshTokens::Rotating,
        userinfo: OidcUserinfo::Never,
        claims: OidcClaims::default(),
        email_verification: OidcEmailVerification::Claim,
        acr_values: Vec::new(),
        sign_out: OidcSignOut::Here,
        token_exchange: None,
        endpoints: OidcEndpoints::default(),
        tls: tls.clone(),
    }
}
