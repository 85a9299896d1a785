//! Signing out by messages that the browser carries between us and an upstream (SAML Profiles 4.4), in both directions.
//!
//! ```text
//! /logout ─→ ours has ended ─→ our request ─→ the upstream ─→ its answer ─→ /callback/{connector}/logout ─→ /logout ─→ the application
//! the upstream ─→ its request ─→ /callback/{connector}/logout ─→ sessions of that user end ─→ our answer ─→ the upstream
//! ```
//! What always holds: what the upstream did not sign ends nothing and costs the session store nothing; its answer to ours ends
//! nothing at all, whatever it says, and leads on only the browser that went there to ask; whether what it asked for is done is
//! said to it as it is, so that its user's other sign-outs go on.

use std::fmt;

use async_trait::async_trait;

use crate::connector::Login;
use crate::issuer::Issuer;
use crate::provider::Provider;
use crate::trip::callback_of;
use crate::upstream_logout::{NoticeError, SignedOutThere, end_told, note};

/// Where the browser of the user of a connector takes messages about signing out, below the address of its sign-ins.
pub fn address_of(callback: &str) -> String {
    format!("{callback}/logout")
}

/// Reads and answers messages about sign-outs.
#[async_trait]
pub trait SingleLogout: Send + Sync + fmt::Debug {
    /// What a browser brought, by its query as it came.
    ///
    /// # Errors
    /// [`NoticeError::Refused`] for what is not believed, [`NoticeError::Unavailable`] where the keys cannot be had.
    async fn read(&self, query: &str, here: &Here) -> Result<Message, NoticeError>;

    /// Where the browser brings our answer to a request; `done` says whether all of it has ended.
    ///
    /// # Errors
    /// [`NoticeError`]: there is no address, or no answer can be made.
    async fn answer(&self, asked: &Asked, done: bool, here: &Here) -> Result<String, NoticeError>;
}

/// Where and when a message is read.
#[derive(Debug, Clone)]
pub struct Here {
    /// Where the upstream answers sign-ins.
    pub callback: String,
    /// Unpredictable, for what is said in return: 128 bits as 22 base64url characters.
    pub id: String,
    /// Seconds since the Unix epoch.
    pub now: i64,
}

/// What the upstream says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A user has signed out there.
    Request(Asked),
    /// Ours was answered.
    Response {
        /// Which: by its ID as [`Leaving`](crate::connector::Leaving) had it.
        to: Option<String>,
        /// Whether the user is signed out there, and everywhere else.
        done: bool,
    },
}

/// What the upstream asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Who has signed out; or why a request that is the upstream's ends nothing.
    pub told: Result<SignedOutThere, NoticeError>,
    /// What its request is known by.
    pub id: String,
    /// What it wants back with the answer, unchanged.
    pub relay_state: Option<String>,
}

/// Where the browser goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// To the upstream, with our answer.
    Answer {
        /// Where that is.
        location: String,
        /// UID of the connector.
        connector_uid: String,
        /// Who has signed out, as the connector names them.
        user_id: Option<String>,
    },
    /// On from the upstream's answer to ours.
    Back {
        /// What users see of the connector.
        connector: String,
        /// Its UID.
        connector_uid: String,
        /// The ID of our request.
        to: Option<String>,
        /// Whether the user is signed out there.
        done: bool,
    },
}

/// Hears what a browser brought from the upstream of the connector of this name, and ends what it says is over.
///
/// # Errors
/// [`NoticeError`]; what has ended stays so.
pub async fn hear(
    provider: &Provider,
    issuer: &Issuer,
    connector: &str,
    query: &str,
) -> Result<Heard, NoticeError> {
    let connector = issuer.connectors.iter().find(|known| known.name == connector);
    let connector = connector.ok_or(NoticeError::NoConnector)?;
    let Login::Redirect(upstream) = &connector.login else { return Err(NoticeError::NoConnector) };
    let messages = upstream.single_logout().ok_or(NoticeError::NoConnector)?;
    if let Some(doubt) = provider.clock.doubt() {
        return Err(NoticeError::Unavailable(doubt));
    }
    let here = Here {
        callback: callback_of(issuer, &connector.name),
        id: provider.random_id(),
        now: provider.clock.now(),
    };
    let uid = connector.uid.clone();
    let message = messages.read(query, &here).await;
    match message.inspect_err(|error| note(provider, &connector.name, error))? {
        Message::Response { to, done } => {
            let connector = connector.display_name.clone();
            Ok(Heard::Back { connector, connector_uid: uid, to, done })
        }
        Message::Request(asked) => {
            let at = (connector.as_ref(), upstream.as_ref());
            let ended = match &asked.told {
                Ok(told) => end_told(provider, issuer, at, told).await.map_err(NoticeError::from),
                Err(error) => Err(error.clone()),
            };
            if let Err(error) = &ended {
                let connector = &connector.name;
                note(provider, connector, error);
                tracing::warn!(connector, %error, "a sign-out at an upstream did not end all");
            }
            let answer = messages.answer(&asked, ended.is_ok(), &here).await;
            let no_answer = |error: NoticeError| NoticeError::Unavailable(error.to_string());
            let location = answer.map_err(no_answer)?;
            let user_id = asked.told.ok().map(|told| told.user_id);
            Ok(Heard::Answer { location, connector_uid: uid, user_id })
        }
    }
}
