//! A refresh at whose upstream a question uses up what it is asked with, as a refresh token that the upstream rotates.
//!
//! ```text
//! PATCH (this session is mine) ─→ ask ─→ policy ─→ PATCH (generation n → n+1, what to ask with next)
//!                                  └ no verdict, or no rotation ─→ PATCH (given back, with what to ask with next)
//! ```
//! What always holds: one refresh of a session asks, on all replicas; what the upstream gave to ask with next is kept
//! whatever fails afterwards; a claim that nobody gives back lapses.

use std::time::Duration;

use claviger_protocol::token::TokenResponse;

use super::{Authority, Refreshing};
use crate::connector::{Authenticated, Recheck, RecheckError};
use crate::ports::{StoreError, StoredSession};
use crate::session::Payload;
use crate::token::TokenError;

/// Longest one question may take where it uses up what it is asked with.
const ASK: Duration = Duration::from_secs(40);
/// Seconds for which one refresh has an upstream to itself: the question, the store's deadlines around it, and what two
/// clocks may differ by.
const CLAIM_SECONDS: i64 = 60 + crate::SKEW_SECONDS;
const TOO_SLOW: &str = "the upstream did not answer in time";
const CLAIMED: &str = "another refresh of this session is asking the upstream";

impl Refreshing<'_> {
    /// Where a question uses up what it is asked with: nobody else asks about this session meanwhile, on any replica,
    /// and what the upstream gives to ask with next is kept whatever happens afterwards.
    pub(super) async fn claim_then_ask(
        &self,
        recheck: &dyn Recheck,
        session: &StoredSession,
        mut payload: Payload,
    ) -> Result<TokenResponse, TokenError> {
        self.scopes(&payload)?; // a request that exceeds the grant must not cost anything
        let now = self.provider.clock.now();
        if payload.upstream.claimed_until.is_some_and(|until| now < until) {
            return Err(TokenError::unavailable(CLAIMED));
        }
        let mut claimed = payload.clone();
        claimed.upstream.claimed_until = Some(now.saturating_add(CLAIM_SECONDS));
        let held = StoredSession { payload: self.seal(&claimed), ..session.clone() };
        match self.provider.sessions.claim(session, &held.payload).await {
            Ok(()) => {}
            Err(StoreError::PreconditionFailed) => return Err(TokenError::unavailable(CLAIMED)),
            Err(error) => return Err(error.into()),
        }
        let asking = self.question(recheck, &payload);
        let answer = tokio::time::timeout(ASK, asking).await;
        match answer.unwrap_or_else(|_| Err(RecheckError::Unavailable(TOO_SLOW.into()))) {
            Ok(authenticated) => {
                let who = Authority::Upstream(recheck);
                payload = self.renewed(&held, payload, (who, authenticated)).await?;
            }
            Err(RecheckError::Gone(why)) => return Err(self.gone(&why).await),
            Err(RecheckError::Unavailable(why)) => {
                self.keep(&held, &payload).await; // given back: the next may ask
                return Err(why.into());
            }
            Err(RecheckError::Interrupted { why, data }) => {
                payload.upstream.data = Some(data);
                self.keep(&held, &payload).await;
                return Err(why.into());
            }
        }
        match self.rotate(&payload).await {
            Ok(response) => Ok(response),
            Err(error) => {
                self.keep(&held, &payload).await;
                Err(error)
            }
        }
    }

    /// The payload with what the upstream says by now, if policy still admits the user. What to ask with next is kept
    /// also where nobody can say.
    async fn renewed(
        &self,
        held: &StoredSession,
        payload: Payload,
        (who, authenticated): (Authority<'_>, Authenticated),
    ) -> Result<Payload, TokenError> {
        let mut renewed = payload;
        renewed.upstream.data.clone_from(&authenticated.data);
        renewed.upstream.claimed_until = None;
        let unchanged = renewed.clone();
        let judged = match self.admit(who, authenticated).await {
            Ok((identity, _)) => {
                renewed.identity = identity;
                renewed.upstream.checked_at = self.now;
                self.check_user(&renewed).await.and_then(|()| self.scopes(&renewed).map(drop))
            }
            Err(error) => Err(error),
        };
        if let Err(error) = judged {
            self.keep(held, &unchanged).await; // nothing is written where it has just been revoked
            return Err(error);
        }
        Ok(renewed)
    }

    /// Gives a claimed session this payload, unless somebody else wrote meanwhile.
    async fn keep(&self, held: &StoredSession, payload: &Payload) {
        let kept = self.provider.sessions.keep(held, &self.seal(payload)).await;
        if let Err(error) = kept
            && error != StoreError::PreconditionFailed
        {
            tracing::warn!(session = held.name, %error, "a session's claim is left to lapse");
        }
    }
}
