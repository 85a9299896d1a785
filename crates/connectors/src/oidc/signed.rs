//! What the provider has signed and somebody else brings: logout tokens, ID tokens for applications of its own.
//!
//! What always holds: a token is believed for its signature by an asymmetric key of the provider and for its issuer; the keys
//! are read anew for a signature that none of those known has made, and the token is looked at again only if they were.

use std::sync::Arc;

use claviger_jose::{Algorithm, Claims, VerifyError, VerifyOptions, verify};
use thiserror::Error;

use super::Provider;
use super::description::Description;
use super::metadata::MetadataError;

/// Seconds by which two clocks may differ.
const SKEW: i64 = 60;

/// Why a token is not believed.
#[derive(Debug, Error)]
pub enum SignedError {
    /// The provider's keys cannot be had.
    #[error(transparent)]
    Unavailable(#[from] MetadataError),
    /// None of the keys that were read last has signed it, and that was not just now: the provider may have another by now.
    #[error(
        "no key of this ID is known, and the provider's keys are not read more often than each half minute"
    )]
    KeyNotKnownYet,
    /// What is wrong with it.
    #[error(transparent)]
    Refused(#[from] VerifyError),
}

impl Provider {
    /// What a token of the provider's says that is good at this time, in seconds since the Unix epoch: for `audience` where one
    /// is named, of the type `typ` where one is named or of none that is said.
    ///
    /// # Errors
    /// [`SignedError`].
    pub(super) async fn believed(
        &self,
        token: &str,
        (audience, typ): (Option<&str>, Option<&str>),
        now: i64,
    ) -> Result<Claims, SignedError> {
        let verified = |by: &Description| {
            let options = VerifyOptions {
                algorithms: &Algorithm::ALL,
                issuer: by.issuer().as_str(),
                audience,
                typ,
                leeway_seconds: SKEW,
            };
            verify(by.key_set().ok_or(VerifyError::UnknownKey)?, token, now, &options)
        };
        let known = self.metadata.get(&self.http).await?;
        let doubt = match verified(&known) {
            Err(doubt @ (VerifyError::UnknownKey | VerifyError::Signature)) => doubt,
            verified => return Ok(verified?),
        };
        let now_known = self.metadata.again(&self.http).await?;
        if Arc::ptr_eq(&known, &now_known) {
            return Err(match doubt {
                VerifyError::UnknownKey => SignedError::KeyNotKnownYet,
                doubt => doubt.into(),
            });
        }
        Ok(verified(&now_known)?)
    }
}
