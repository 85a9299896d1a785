//! Our messages about signing out (SAML Core 3.7), and what is kept of a sign-in for them.
//!
//! What always holds: they are signed (SAML Profiles 4.4.4.1), by Redirect alone, to the one address that the provider's metadata
//! or its administrator says.

use async_trait::async_trait;
use claviger_domain::connector::{ConnectorData, Leaving, SignOut};
use claviger_domain::single_logout::{Asked, Here};
use jiff::Timestamp;
use quick_xml::escape::escape;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::time::timeout;

use super::assertion::Believed;
use super::provider::IdentityProvider;
use super::redirect::{self, Kind};
use super::refusal::Refusal;
use super::response::{PROTOCOL, SUCCESS};
use super::{ServiceProvider, Source};

const RESPONDER: &str = "urn:oasis:names:tc:SAML:2.0:status:Responder";
const BY_USER: &str = "urn:oasis:names:tc:SAML:2.0:logout:user";
/// Seconds for which our request is good.
const GOOD_FOR: i64 = 300;
/// Longest that is kept of a sign-in, in bytes: the browser carries it.
const MAX_KEPT: usize = 768;
/// Longest session index that is kept in a session, in bytes.
const MAX_SESSION_INDEX: usize = 256;
/// How long a user who signs out waits to learn where to go.
const PATIENCE: Duration = Duration::from_secs(2);

/// By what a user is known there, as their assertion said it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// The provider's entity ID.
    #[serde(rename = "e")]
    by: String,
    #[serde(rename = "n")]
    name_id: String,
    #[serde(rename = "f", default, skip_serializing_if = "String::is_empty")]
    format: String,
    #[serde(rename = "q", default, skip_serializing_if = "Option::is_none")]
    name_qualifier: Option<String>,
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    sp_name_qualifier: Option<String>,
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    session_index: Option<String>,
}

impl Kept {
    fn of(believed: &Believed, by: &str) -> Self {
        Self {
            by: by.to_owned(),
            name_id: believed.name_id.clone(),
            format: believed.name_id_format.clone(),
            name_qualifier: believed.name_qualifier.clone(),
            sp_name_qualifier: believed.sp_name_qualifier.clone(),
            session_index: believed.session_index.clone(),
        }
    }

    fn xml(&self) -> String {
        let format = Some(&self.format).filter(|format| !format.is_empty());
        let attributes = [
            ("Format", format),
            ("NameQualifier", self.name_qualifier.as_ref()),
            ("SPNameQualifier", self.sp_name_qualifier.as_ref()),
        ];
        let attributes: String = attributes
            .into_iter()
            .filter_map(|(name, value)| Some(format!(" {name}=\"{}\"", escape(value?))))
            .collect();
        let index = self
            .session_index
            .as_deref()
            .map(|index| format!("<samlp:SessionIndex>{}</samlp:SessionIndex>", escape(index)));
        let name = escape(&self.name_id);
        format!("<saml:NameID{attributes}>{name}</saml:NameID>{}", index.unwrap_or_default())
    }
}

/// Who says what to whom.
struct Letter<'l> {
    /// `LogoutRequest` or `LogoutResponse`.
    name: &'static str,
    id: &'l str,
    now: i64,
    to: &'l str,
    from: &'l str,
    /// More attributes.
    more: String,
    body: String,
}

impl Letter<'_> {
    fn xml(&self) -> String {
        let Self { name, id, more, body, .. } = self;
        format!(
            "<samlp:{name} xmlns:samlp=\"{PROTOCOL}\" xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\" ID=\"_{id}\" \
             Version=\"2.0\" IssueInstant=\"{issued}\" Destination=\"{to}\"{more}><saml:Issuer>{from}</saml:Issuer>{body}\
             </samlp:{name}>",
            issued = Timestamp::from_second(self.now).unwrap_or_default(),
            to = escape(self.to),
            from = escape(self.from),
        )
    }
}

impl ServiceProvider {
    /// Whether users can sign out there, as far as is known without asking.
    pub fn signs_out(&self) -> bool {
        self.key.is_some()
            && match &self.source {
                Source::Given(provider) => provider.single_logout.is_some(),
                Source::Url(_) => true,
            }
    }

    /// What to keep of a sign-in to sign out by, and what to tell its sessions apart by.
    pub(super) fn kept(
        &self,
        believed: &Believed,
        by: &str,
    ) -> (Option<ConnectorData>, Option<ConnectorData>) {
        if !self.signs_out() {
            return (None, None);
        }
        let whole = serde_json::to_vec(&Kept::of(believed, by)).ok();
        let whole = whole.filter(|whole| whole.len() <= MAX_KEPT).map(ConnectorData);
        let index = believed.session_index.clone();
        let index = index.filter(|index| index.len() <= MAX_SESSION_INDEX);
        (whole, index.map(|index| ConnectorData(index.into_bytes())))
    }

    /// Where the browser brings our answer to a request.
    pub(super) fn reply(
        &self,
        provider: &IdentityProvider,
        (asked, done): (&Asked, bool),
        here: &Here,
    ) -> Result<String, Refusal> {
        let place = provider.single_logout.as_ref().ok_or(Refusal::NoSingleLogout)?;
        let key = self.key.as_ref().ok_or(Refusal::NoSingleLogout)?;
        let status = if done { SUCCESS } else { RESPONDER };
        let letter = Letter {
            name: "LogoutResponse",
            id: &here.id,
            now: here.now,
            to: place.response.as_str(),
            from: self.entity_id(&here.callback),
            more: format!(" InResponseTo=\"{}\"", escape(asked.id.as_str())),
            body: format!("<samlp:Status><samlp:StatusCode Value=\"{status}\"/></samlp:Status>"),
        };
        let message = (Kind::Response, letter.xml());
        let said = asked.relay_state.as_deref();
        redirect::location(&place.response, (message.0, &message.1), said, Some(key))
            .map_err(|_| Refusal::NoSingleLogout)
    }
}

#[async_trait]
impl SignOut for ServiceProvider {
    async fn location(&self, leaving: &Leaving<'_>) -> Option<String> {
        let kept: Kept = serde_json::from_slice(&leaving.data?.0).ok()?;
        let key = self.key.as_ref()?;
        let known = timeout(PATIENCE, self.source.get(leaving.now)).await;
        let known = known.map_err(|_| "it does not answer".to_owned());
        let provider = match known.and_then(|known| known.map_err(|error| error.to_string())) {
            Ok(provider) => provider,
            Err(error) => {
                let connector = &self.name;
                tracing::warn!(connector, error, "a user stays signed in at the identity provider");
                return None;
            }
        };
        // Who changed the provider may not tell one of the other's users.
        let place = provider.single_logout.as_ref().filter(|_| kept.by == provider.entity_id);
        let place = &place?.request;
        let until = Timestamp::from_second(leaving.now + GOOD_FOR).unwrap_or_default();
        let letter = Letter {
            name: "LogoutRequest",
            id: &leaving.id,
            now: leaving.now,
            to: place.as_str(),
            from: self.entity_id(&leaving.callback),
            more: format!(" NotOnOrAfter=\"{until}\" Reason=\"{BY_USER}\""),
            body: kept.xml(),
        };
        // The way back is in the browser's ticket: RelayState has 80 bytes (SAML Bindings 3.4.3).
        redirect::location(place, (Kind::Request, &letter.xml()), None, Some(key)).ok()
    }
}
