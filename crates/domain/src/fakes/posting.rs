//! An upstream whose pages make the browser post an answer that is good once.

use std::sync::Mutex;

use async_trait::async_trait;
use claviger_protocol::form::Params;
use claviger_protocol::response_type::Delivery;
use serde_json::Map;

use super::lock;
use crate::connector::{Authenticated, LoginError};
use crate::identity::Identity;
use crate::trip::{Arrival, Description, RedirectLogin, Trip};

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
            authenticated: Authenticated { identity, raw: Map::new(), data: None },
            time: Some(trip.now),
            amr: Vec::new(),
            once: answer.get("Answer").map(str::to_owned),
            sign_out: None,
        })
    }
}
