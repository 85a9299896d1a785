//! The service account's token.
//!
//! What always holds: whoever finds it in memory waits for nobody, else one asks; it is asked for anew shortly before its end and
//! where Keystone no longer takes it; who was just refused is not tried again at once, since wrong passwords lock accounts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use secrecy::SecretString;
use serde_json::Value;
use tokio::sync::Mutex;

use super::api::{Credentials, Issued};
use crate::account_api::Failure;

/// How long before its end a token is no longer used.
const MARGIN: Duration = Duration::from_mins(1);
/// Longest a token is used, whatever Keystone says of its end.
const LONGEST: Duration = Duration::from_hours(1);
/// How long a refusal of the account is believed.
const REFUSED: Duration = Duration::from_secs(30);

/// Our account, and what is known of its token.
pub struct ServiceToken {
    /// Who we are.
    pub credentials: Credentials,
    /// Where the token is good.
    pub scope: Value,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    token: Option<(Instant, Arc<SecretString>)>,
    refused: Option<(Instant, Failure)>,
}

impl ServiceToken {
    /// Of this account.
    pub fn new(credentials: Credentials, scope: Value) -> Self {
        Self { credentials, scope, known: Mutex::default() }
    }

    /// The token, from memory unless that is `stale` or at its end; else by asking.
    ///
    /// # Errors
    /// What asking failed by.
    pub async fn get(
        &self,
        stale: Option<&Arc<SecretString>>,
        ask: impl Future<Output = Result<Issued, Failure>>,
    ) -> Result<Arc<SecretString>, Failure> {
        let mut known = self.known.lock().await;
        if let Some((until, token)) = &known.token
            && Instant::now() < *until
            && !stale.is_some_and(|stale| Arc::ptr_eq(stale, token))
        {
            return Ok(Arc::clone(token));
        }
        if let Some((at, refused)) = &known.refused
            && at.elapsed() < REFUSED
        {
            return Err(refused.clone());
        }
        let asked = ask.await;
        known.note(&asked);
        asked.map(|issued| issued.token)
    }

    /// Keeps what somebody was told who asked.
    pub async fn note(&self, asked: &Result<Issued, Failure>) {
        self.known.lock().await.note(asked);
    }
}

impl Known {
    fn note(&mut self, asked: &Result<Issued, Failure>) {
        let now = Instant::now();
        match asked {
            Ok(issued) => {
                let lasts = issued.lifetime.saturating_sub(MARGIN).min(LONGEST);
                let token = (now + lasts, Arc::clone(&issued.token));
                *self = Self { token: Some(token), refused: None };
            }
            Err(failure @ Failure::Account(_)) => self.refused = Some((now, failure.clone())),
            Err(_) => {}
        }
    }
}
