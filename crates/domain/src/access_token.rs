//! Access tokens: JWTs (RFC 9068) for resource servers, with a sealed part for ourselves.
//!
//! What always holds: `aud` is a resource and never a client ID, since a kube-apiserver does not look at
//! `typ`; the signature, the type and the sealed part must all be good, and the sealed part belongs to this
//! `jti`; `/userinfo` needs no request to answer, for the sealed part holds what it answers.

use std::collections::BTreeMap;

use claviger_jose::{Algorithm, SignError, Signer, VerifyError, VerifyOptions, verify};
use claviger_protocol::claims::{AccessTokenClaims, Audience, Confirmation, FederatedClaims};
use claviger_seal::{Context, OpenError, Purpose};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::authentication::Authentication;
use crate::client::Grant;
use crate::issuer::Issuer;

/// `typ` of an access token (RFC 9068 2.1).
const TYPE: &str = "at+jwt";

/// What an access token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessToken {
    /// Unique ID.
    pub id: String,
    /// Session it belongs to; none where it is about the client itself.
    pub session: Option<String>,
    /// The grant it was given by, where there is no session: it holds while its client may use that.
    pub grant: Option<Grant>,
    /// `client_id` of the client it was given to.
    pub client_id: String,
    /// UID of that client: a re-created name inherits nothing.
    pub client_uid: String,
    /// The resources it is for.
    pub audience: Audience,
    /// Granted scopes, space-separated.
    pub scope: String,
    /// When it was made.
    pub issued_at: i64,
    /// When it dies.
    pub expires_at: i64,
    /// How the user signed in, where one did.
    pub authentication: Option<Authentication>,
    /// Thumbprint of the key it is bound to, if it is (RFC 9449 6).
    pub key: Option<String>,
    /// What it reveals at `/userinfo`.
    pub claims: UserClaims,
}

/// Claims about the user, as far as the granted scopes reveal them (OIDC Core 5.3.2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserClaims {
    /// `sub`.
    pub sub: String,
    /// With scope `email`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// With scope `email`; a JSON boolean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email_verified: Option<bool>,
    /// With scope `groups`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// With scope `profile`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// With scope `profile`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_username: Option<String>,
    /// With scope `federated:id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub federated_claims: Option<FederatedClaims>,
    /// All others, by name.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// Why a text is not one of this issuer's live access tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AccessTokenError {
    /// Not signed by us as an access token of this issuer, or past its time.
    #[error("{0}")]
    Token(#[from] VerifyError),
    /// Its sealed part is not ours, or not this token's.
    #[error("sealed part: {0}")]
    Sealed(#[from] OpenError),
}

/// The part for ourselves.
#[derive(Serialize, Deserialize)]
struct Sealed {
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    #[serde(rename = "g", default, skip_serializing_if = "Option::is_none")]
    grant: Option<Grant>,
    #[serde(rename = "u")]
    client_uid: String,
    #[serde(rename = "k")]
    claims: UserClaims,
}

impl AccessToken {
    /// The token's text.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn sign(&self, issuer: &Issuer, signer: &Signer) -> Result<String, SignError> {
        let sealed = Sealed {
            session: self.session.clone(),
            grant: self.grant,
            client_uid: self.client_uid.clone(),
            claims: self.claims.clone(),
        };
        let plain = rmp_serde::to_vec_named(&sealed)
            .map_err(|error| SignError::Claims(error.to_string()))?;
        let context = context(issuer, &self.id);
        let claims = AccessTokenClaims {
            iss: issuer.url.as_str().to_owned(),
            sub: self.claims.sub.clone(),
            aud: self.audience.clone(),
            client_id: self.client_id.clone(),
            exp: self.expires_at,
            iat: self.issued_at,
            jti: self.id.clone(),
            scope: self.scope.clone(),
            auth_time: self.authentication.as_ref().map(|a| a.time),
            acr: self.authentication.as_ref().and_then(|a| a.acr.clone()),
            amr: self.authentication.as_ref().map(|a| a.amr.clone()).unwrap_or_default(),
            cnf: self.key.clone().map(|jkt| Confirmation { jkt }),
            sealed: issuer.sealing.seal(Purpose::AccessToken, &context, self.expires_at, &plain),
        };
        signer.sign(Some(TYPE), &claims)
    }

    /// Reads a token.
    ///
    /// # Errors
    /// [`AccessTokenError`]: not ours, not this issuer's, or past its time.
    pub fn open(issuer: &Issuer, text: &str, now: i64) -> Result<Self, AccessTokenError> {
        // The clock of the replica that made it may be ahead of ours; its end is not moved by that.
        let expected = VerifyOptions {
            algorithms: &Algorithm::ALL,
            issuer: issuer.url.as_str(),
            audience: None,
            typ: Some(TYPE),
            leeway_seconds: crate::SKEW_SECONDS,
        };
        let claims = verify(&issuer.keys.key_set, text, now, &expected)?;
        let claims: AccessTokenClaims = serde_json::from_value(claims.into())
            .map_err(|_| AccessTokenError::Token(VerifyError::Malformed))?;
        if now >= claims.exp {
            return Err(VerifyError::Expired.into());
        }
        let context = context(issuer, &claims.jti);
        let plain = issuer.sealing.open(Purpose::AccessToken, &context, now, &claims.sealed)?;
        let sealed: Sealed = rmp_serde::from_slice(&plain).map_err(|_| OpenError::Malformed)?;
        Ok(Self {
            id: claims.jti,
            session: sealed.session,
            grant: sealed.grant,
            client_id: claims.client_id,
            client_uid: sealed.client_uid,
            audience: claims.aud,
            scope: claims.scope,
            issued_at: claims.iat,
            expires_at: claims.exp,
            authentication: claims.auth_time.map(|time| Authentication {
                time,
                acr: claims.acr,
                amr: claims.amr,
            }),
            key: claims.cnf.map(|cnf| cnf.jkt),
            claims: sealed.claims,
        })
    }
}

fn context<'a>(issuer: &'a Issuer, id: &'a str) -> Context<'a> {
    Context { issuer_uid: &issuer.uid, object_name: Some(id), client_uid: None }
}
