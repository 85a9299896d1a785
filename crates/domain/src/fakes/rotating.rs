//! An upstream with pages of its own, that gives another refresh token for each it takes.

use std::sync::Mutex;

use async_trait::async_trait;
use claviger_protocol::form::Params;
use claviger_protocol::response_type::Delivery;
use tokio::sync::Semaphore;

use super::lock;
use crate::connector::{Authenticated, ConnectorData, LoginError, Recheck, RecheckError};
use crate::identity::Identity;
use crate::no_verdict::NoVerdict;
use crate::trip::{Arrival, RedirectLogin, Trip};
use crate::upstream_logout::{LogoutNotices, NoticeError, SignedOutThere};
use crate::upstream_token::{Presented, PresentedError, UpstreamTokens};
use serde_json::{Map, Value};

/// What comes of a browser that comes back.
#[derive(Debug, Clone)]
pub enum Answer {
    /// This user, who proved themselves then.
    User(Option<i64>),
    /// No.
    Refused,
    /// Something that is not believed.
    Forged,
}

/// An upstream of one user.
#[derive(Debug)]
pub struct RotatingUpstream {
    identity: Mutex<Option<Identity>>,
    raw: Mutex<Map<String, Value>>,
    answer: Mutex<Answer>,
    /// How often it rotated; its refresh token that is good now.
    generation: Mutex<u32>,
    gives: Mutex<bool>,
    /// Why it does not answer.
    away: Mutex<Option<NoVerdict>>,
    /// Whether it rotates, and then says nothing of the user.
    breaks_off: Mutex<bool>,
    /// The client that may bring its ID tokens.
    bearer: Mutex<String>,
    /// Questions that may be answered: a test holds them up.
    gate: Semaphore,
}

impl RotatingUpstream {
    /// An upstream that knows this user.
    pub fn of(identity: Identity) -> Self {
        Self {
            identity: Mutex::new(Some(identity)),
            raw: Mutex::default(),
            answer: Mutex::new(Answer::User(None)),
            generation: Mutex::new(0),
            gives: Mutex::new(true),
            away: Mutex::default(),
            breaks_off: Mutex::new(false),
            bearer: Mutex::default(),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
        }
    }

    /// What a browser brings back from now on.
    pub fn set_answer(&self, answer: Answer) {
        *lock(&self.answer) = answer;
    }

    /// Whether it gives refresh tokens.
    pub fn set_gives(&self, gives: bool) {
        *lock(&self.gives) = gives;
    }

    /// Takes it away, or brings it back.
    pub fn set_away(&self, away: bool) {
        *lock(&self.away) = away.then(|| "away".into());
    }

    /// It says that it is asked too much: again after so many seconds.
    pub fn set_busy(&self, retry_after: u32) {
        *lock(&self.away) = Some(NoVerdict::busy("busy", Some(retry_after)));
    }

    /// Takes what it is asked with and says nothing of the user, or does again.
    pub fn set_breaks_off(&self, breaks_off: bool) {
        *lock(&self.breaks_off) = breaks_off;
    }

    /// The client of this ID, and no other, may bring its ID tokens.
    pub fn set_bearer(&self, client: &str) {
        client.clone_into(&mut lock(&self.bearer));
    }

    /// What it says of its user, in its own words.
    pub fn set_raw(&self, raw: &Value) {
        *lock(&self.raw) = raw.as_object().cloned().unwrap_or_default();
    }

    /// Its user is another by now, or gone.
    pub fn set_user(&self, identity: Option<Identity>) {
        *lock(&self.identity) = identity;
    }

    /// Lets no question be answered until [`open_gate`](Self::open_gate).
    pub fn close_gate(&self) {
        self.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    /// Lets one question be answered.
    pub fn open_gate(&self) {
        self.gate.add_permits(1);
    }

    fn data(&self) -> Option<ConnectorData> {
        lock(&self.gives).then(|| ConnectorData(lock(&self.generation).to_be_bytes().to_vec()))
    }
}

#[async_trait]
impl RedirectLogin for RotatingUpstream {
    async fn depart(&self, trip: &Trip<'_>) -> Result<Delivery, LoginError> {
        if let Some(why) = lock(&self.away).clone() {
            return Err(LoginError::Unavailable(why));
        }
        let (state, nonce) = (trip.state, trip.nonce());
        let place = format!("https://idp.example.com/authorize?state={state}&nonce={nonce}");
        Ok(Delivery::Redirect(place))
    }

    fn tokens(&self) -> Option<&dyn UpstreamTokens> {
        Some(self)
    }

    fn notices(&self) -> Option<&dyn LogoutNotices> {
        Some(self)
    }

    fn session_there(&self, data: Option<&ConnectorData>) -> Option<String> {
        data.map(|_| "there".to_owned())
    }

    async fn arrive(&self, trip: &Trip<'_>, answer: &Params) -> Result<Arrival, LoginError> {
        let forged =
            || LoginError::Unverified { reason: "WrongNonce", message: "another's".into() };
        if answer.get("nonce") != Some(&trip.nonce()) {
            return Err(forged());
        }
        let time = match lock(&self.answer).clone() {
            Answer::User(time) => time,
            Answer::Refused => return Err(LoginError::Refused("the other sign-in refused".into())),
            Answer::Forged => return Err(forged()),
        };
        let identity = lock(&self.identity).clone();
        let identity = identity.ok_or_else(|| LoginError::Unusable("nobody".into()))?;
        let raw = lock(&self.raw).clone();
        let authenticated = Authenticated { identity, raw, data: self.data() };
        let sign_out = Some(ConnectorData(b"what ends it there".to_vec()));
        Ok(Arrival { authenticated, time, amr: vec!["otp".into()], once: None, sign_out })
    }
}

/// Its ID tokens are the second in which they expire, about its user, of an authentication a minute ago or at `auth_time`, and of
/// a class that is wanted where it says an `acr`.
#[async_trait]
impl UpstreamTokens for RotatingUpstream {
    async fn believe(
        &self,
        id_token: &str,
        client: &str,
        now: i64,
    ) -> Result<Presented, PresentedError> {
        if let Some(why) = lock(&self.away).clone() {
            return Err(PresentedError::Unavailable(why.to_string()));
        }
        if *lock(&self.bearer) != client {
            return Err(PresentedError::Refused("another client may bring it".into()));
        }
        let forged = || PresentedError::Refused("it is forged".into());
        let expires_at = id_token.parse().map_err(|_| forged())?;
        let identity = lock(&self.identity).clone().ok_or_else(forged)?;
        let raw = lock(&self.raw).clone();
        let reached_acr = raw.contains_key("acr");
        let authenticated = Authenticated { identity, raw, data: None };
        let amr = vec!["otp".into()];
        let made = authenticated.raw.get("auth_time").and_then(Value::as_i64);
        Ok(Presented {
            authenticated,
            time: made.unwrap_or(now - 60),
            amr,
            reached_acr,
            expires_at,
        })
    }
}

/// Its logout tokens are `user sid`, as of now, or `user @time`; its data is of the session `there`.
#[async_trait]
impl LogoutNotices for RotatingUpstream {
    async fn read(&self, logout_token: &str, now: i64) -> Result<SignedOutThere, NoticeError> {
        let (user_id, sid) = logout_token.split_once(' ').ok_or_else(|| NoticeError::Refused {
            reason: "Malformed",
            message: "it is no token".into(),
        })?;
        let at = sid.strip_prefix('@').and_then(|time| time.parse().ok());
        let sid = Some(sid.to_owned()).filter(|sid| !sid.is_empty() && at.is_none());
        let sids = sid.into_iter().collect();
        Ok(SignedOutThere { user_id: user_id.to_owned(), sids, at: at.unwrap_or(now) })
    }
}

#[async_trait]
impl Recheck for RotatingUpstream {
    fn consumes(&self, _data: Option<&ConnectorData>) -> bool {
        true
    }

    fn can_ask(&self, data: Option<&ConnectorData>) -> bool {
        data.is_some()
    }

    async fn recheck(
        &self,
        _known: &Identity,
        data: Option<&ConnectorData>,
    ) -> Result<Authenticated, RecheckError> {
        let permit = self.gate.acquire().await;
        permit.map_err(|_| RecheckError::Unavailable("closed".into()))?.forget();
        if let Some(why) = lock(&self.away).clone() {
            return Err(RecheckError::Unavailable(why));
        }
        if data != self.data().as_ref() {
            return Err(RecheckError::Gone("that refresh token was used before".into()));
        }
        let identity = lock(&self.identity).clone();
        let identity = identity.ok_or_else(|| RecheckError::Gone("removed".into()))?;
        *lock(&self.generation) += 1;
        if *lock(&self.breaks_off)
            && let Some(data) = self.data()
        {
            return Err(RecheckError::Interrupted { why: "broke off".into(), data });
        }
        Ok(Authenticated { identity, raw: lock(&self.raw).clone(), data: self.data() })
    }
}
