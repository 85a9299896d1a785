//! An upstream whose pages make the browser post an answer that is good once.

use std::sync::Mutex;

use async_trait::async_trait;
use claviger_protocol::form::Params;
use claviger_protocol::response_type::Delivery;
use serde_json::Map;

use super::lock;
use crate::connector::{Authenticated, ConnectorData, Leaving, LoginError, SignOut};
use crate::identity::Identity;
use crate::single_logout::{Asked, Here, Message, SingleLogout};
use crate::trip::{Arrival, Description, RedirectLogin, Trip};
use crate::upstream_logout::{NoticeError, SignedOutThere};

/// An upstream of one user. Its answer is the form `State`, `Request` (what we asked by) and `Answer`, its name.
#[derive(Debug)]
pub struct PostingUpstream {
    identity: Mutex<Identity>,
}

impl PostingUpstream {
    /// An upstream that knows this user.
    pub fn of(identity: Identity) -> Self {
        Self { identity: Mutex::new(identity) }
    }

    /// Its user is another by now.
    pub fn set_user(&self, identity: Identity) {
        *lock(&self.identity) = identity;
    }
}

#[async_trait]
impl RedirectLogin for PostingUpstream {
    async fn depart(&self, trip: &Trip<'_>) -> Result<Delivery, LoginError> {
        let (state, request) = (trip.state, trip.request_id());
        let place = format!("https://idp.example.com/sso?state={state}&request={request}");
        Ok(Delivery::Redirect(place))
    }

    fn form_field(&self) -> Option<&'static str> {
        Some("State")
    }

    fn description(&self, callback: &str) -> Option<Description> {
        Some(Description { media_type: "application/xml", body: format!("<at>{callback}</at>") })
    }

    async fn arrive(&self, trip: &Trip<'_>, answer: &Params) -> Result<Arrival, LoginError> {
        if answer.get("Request") != Some(&trip.request_id()) {
            let message = "another's".into();
            return Err(LoginError::Unverified { reason: "WrongRequest", message });
        }
        let identity = lock(&self.identity).clone();
        Ok(Arrival {
            authenticated: Authenticated {
                identity,
                raw: Map::new(),
                data: Some(ConnectorData(b"there".to_vec())),
            },
            time: Some(trip.now),
            amr: Vec::new(),
            once: answer.get("Answer").map(str::to_owned),
            sign_out: Some(ConnectorData(b"alice there".to_vec())),
        })
    }

    fn single_logout(&self) -> Option<&dyn SingleLogout> {
        Some(self)
    }

    fn session_there(&self, data: Option<&ConnectorData>) -> Option<String> {
        String::from_utf8(data?.0.clone()).ok()
    }
}

/// Whoever brings what it gave at sign-in signs out at `/slo`.
#[async_trait]
impl SignOut for PostingUpstream {
    async fn location(&self, leaving: &Leaving<'_>) -> Option<String> {
        let who = std::str::from_utf8(&leaving.data?.0).ok()?.replace(' ', "+");
        Some(format!("https://idp.example.com/slo?who={who}&id={}", leaving.id))
    }
}

/// Its requests are `out=user session…`, as of now, and end nothing of `nobody`; its answers `to=ID&done=yes` or `done=no`.
#[async_trait]
impl SingleLogout for PostingUpstream {
    async fn read(&self, query: &str, here: &Here) -> Result<Message, NoticeError> {
        let refused =
            || NoticeError::Refused { reason: "Malformed", message: "it is no message".into() };
        let params = Params::parse(query.as_bytes()).map_err(|_| refused())?;
        if let Some(done) = params.get("done") {
            let to = params.get("to").map(str::to_owned);
            return Ok(Message::Response { to, done: done == "yes" });
        }
        let mut said = params.get("out").ok_or_else(refused)?.split(' ').map(str::to_owned);
        let user_id = said.next().ok_or_else(refused)?;
        Ok(Message::Request(Asked {
            told: match user_id.as_str() {
                "nobody" => Err(refused()),
                _ => Ok(SignedOutThere { user_id, sids: said.collect(), at: here.now }),
            },
            id: "request-1".into(),
            relay_state: params.get("RelayState").map(str::to_owned),
        }))
    }

    async fn answer(&self, asked: &Asked, done: bool, _: &Here) -> Result<String, NoticeError> {
        Ok(format!("https://idp.example.com/slo?to={}&done={done}", asked.id))
    }
}
