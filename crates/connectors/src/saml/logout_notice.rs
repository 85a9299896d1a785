//! The provider's messages about signing out: its request that a user's sessions end here, and its answer to ours.
//!
//! ```text
//! query ─→ redirect: signed by the provider? ─→ inflated ─→ xml (strict) ─→ for us, by it, now ─→ whom it is about
//! ```
//! What always holds: nothing is read of what no certificate of the provider signed; a user is meant by their `NameID` alone, of
//! the format that sign-ins have here.

use async_trait::async_trait;
use claviger_domain::single_logout::{Asked, Here, Message, SingleLogout, address_of};
use claviger_domain::upstream_logout::{NoticeError, SignedOutThere};

use super::ServiceProvider;
use super::assertion::{SKEW, check_issued, check_issuer, time};
use super::claims::{UNSPECIFIED, format_uri};
use super::metadata::MetadataError;
use super::provider::IdentityProvider;
use super::redirect::{Kind, Received};
use super::refusal::{Part, Refusal};
use super::response::{ASSERTION, PROTOCOL, check_status, shortened};
use super::xml::{Element, is_space};
use claviger_api::connector::saml::{SamlNameIdFormat, SamlUpstream};

/// Most sessions that one request names.
const MAX_SESSIONS: usize = 32;
/// Longest ID that is answered, in bytes.
const MAX_ID: usize = 256;
const PARTIAL: &str = "urn:oasis:names:tc:SAML:2.0:status:PartialLogout";

#[async_trait]
impl SingleLogout for ServiceProvider {
    async fn read(&self, query: &str, here: &Here) -> Result<Message, NoticeError> {
        if self.key.is_none() {
            return Err(Refusal::NoSingleLogout.into());
        }
        let received = Received::of(query)?;
        let provider = self.source.believed(here.now).await.map_err(|error| unavailable(&error))?;
        let by = match received.verify(&provider.certificates) {
            Err(Refusal::BadSignature) => {
                let changed = self.source.changed(&provider).await;
                let changed = changed.ok_or(Refusal::BadSignature)?;
                received.verify(&changed.certificates).map(|()| changed)
            }
            verified => verified.map(|()| provider),
        };
        Ok(self.understood(&received, by?.as_ref(), here)?)
    }

    async fn answer(&self, asked: &Asked, done: bool, here: &Here) -> Result<String, NoticeError> {
        let provider = self.source.get(here.now).await.map_err(|error| unavailable(&error))?;
        Ok(self.reply(&provider, (asked, done), here)?)
    }
}

impl ServiceProvider {
    /// Reads a message that is the provider's.
    fn understood(
        &self,
        received: &Received<'_>,
        provider: &IdentityProvider,
        here: &Here,
    ) -> Result<Message, Refusal> {
        let relay_state = received.relay_state()?;
        let message = Element::parse(&received.document()?)?;
        let name = match received.kind {
            Kind::Request => "LogoutRequest",
            Kind::Response => "LogoutResponse",
        };
        if !message.is(PROTOCOL, name) || message.attribute("Version") != Some("2.0") {
            return Err(Refusal::NotALogoutMessage(name));
        }
        check_addresses(&message, &provider.entity_id, &address_of(&here.callback))?;
        check_issued(&message, name, here.now)?;
        if received.kind == Kind::Response {
            return response(&message);
        }
        if provider.single_logout.is_none() {
            return Err(Refusal::NoSingleLogout);
        }
        let names = Names {
            spec: &self.spec,
            issuer: &provider.entity_id,
            audience: self.entity_id(&here.callback),
        };
        let id = good_for(&message, here.now)?;
        let told = names.told(&message).map_err(NoticeError::from);
        Ok(Message::Request(Asked { told, id, relay_state }))
    }
}

fn check_addresses(message: &Element, issuer: &str, address: &str) -> Result<(), Refusal> {
    let said = message.only(ASSERTION, "Issuer").ok_or(Refusal::Missing(Part::Issuer))?;
    check_issuer(said, issuer)?;
    // SAML Bindings 3.4.5.2: whoever signs it must say it.
    match message.attribute("Destination") {
        Some(place) if place == address => Ok(()),
        place => Err(Refusal::WrongDestination(shortened(place.unwrap_or_default()))),
    }
}

fn response(message: &Element) -> Result<Message, Refusal> {
    let is_partial =
        message.walk().any(|element| element.attribute("Value").is_some_and(|v| v == PARTIAL));
    let to = message.attribute("InResponseTo").and_then(|id| id.strip_prefix('_'));
    let to = to.map(str::to_owned);
    match check_status(message) {
        Ok(()) => Ok(Message::Response { to, done: !is_partial }),
        Err(Refusal::Status(_)) => Ok(Message::Response { to, done: false }),
        Err(refusal) => Err(refusal),
    }
}

/// The ID of a request that is still good (SAML Core 3.7.1).
fn good_for(message: &Element, now: i64) -> Result<String, Refusal> {
    let id = message.attribute("ID").filter(|id| !id.is_empty() && id.len() <= MAX_ID);
    let id = id.ok_or(Refusal::Missing(Part::Id))?;
    if message.attribute("NotOnOrAfter").is_some() {
        let end = time(message, "NotOnOrAfter").ok_or(Refusal::Expired)?;
        if now >= end.saturating_add(SKEW) {
            return Err(Refusal::Expired);
        }
    }
    Ok(id.to_owned())
}

/// By what users are known, and to whom.
struct Names<'n> {
    spec: &'n SamlUpstream,
    issuer: &'n str,
    audience: &'n str,
}

impl Names<'_> {
    /// Whom a request is about.
    fn told(&self, message: &Element) -> Result<SignedOutThere, Refusal> {
        if message.walk().any(|element| element.name.starts_with("Encrypted")) {
            return Err(Refusal::Encrypted);
        }
        let user_id = self.user(message)?;
        let at = time(message, "IssueInstant").ok_or(Refusal::IssueInstant("LogoutRequest"))?;
        Ok(SignedOutThere { user_id, sids: sessions(message)?, at })
    }

    fn user(&self, message: &Element) -> Result<String, Refusal> {
        if self.spec.attributes.user_id.is_some() {
            return Err(Refusal::KnownOtherwise);
        }
        let name = message.only(ASSERTION, "NameID").ok_or(Refusal::Missing(Part::NameId))?;
        let text = name.exact_text().filter(|text| !text.chars().all(is_space));
        let text = text.ok_or(Refusal::Missing(Part::NameId))?;
        let wanted = self.spec.name_id_format;
        let said = name.attribute("Format").unwrap_or_default();
        let is_any = wanted == SamlNameIdFormat::Unspecified || ["", UNSPECIFIED].contains(&said);
        if !is_any && said != format_uri(wanted) {
            return Err(Refusal::NameIdFormat(shortened(said)));
        }
        let ours = [("NameQualifier", self.issuer), ("SPNameQualifier", self.audience)];
        let is_foreign = ours
            .into_iter()
            .any(|(qualifier, ours)| name.attribute(qualifier).is_some_and(|said| said != ours));
        if is_foreign {
            return Err(Refusal::ForeignNameId);
        }
        Ok(text.to_owned())
    }
}

fn sessions(message: &Element) -> Result<Vec<String>, Refusal> {
    let named = message.all(PROTOCOL, "SessionIndex");
    let named: Vec<&str> = named.map(|index| index.exact_text().unwrap_or_default()).collect();
    if named.len() > MAX_SESSIONS || named.contains(&"") {
        return Err(Refusal::SessionIndex);
    }
    Ok(named.into_iter().map(str::to_owned).collect())
}

fn unavailable(error: &MetadataError) -> NoticeError {
    NoticeError::Unavailable(error.to_string())
}
