//! What an assertion must say to be believed (SAML Profiles 4.1.4.3), read from what its signature covers and by the clock
//! that is passed in.
//!
//! What always holds: it is by this identity provider, for us, for this address, an answer to this very request, not ten
//! minutes old, and says when it ends; what is not known is not passed over.

use claviger_domain::trip::ANSWER_SECONDS;
use jiff::Timestamp;

use super::refusal::{Part, Refusal};
use super::response::{ASSERTION, PROTOCOL, Signed, shortened};
use super::xml::{Element, is_space};

/// Seconds by which two clocks may differ.
pub const SKEW: i64 = 60;
const BEARER: &str = "urn:oasis:names:tc:SAML:2.0:cm:bearer";

/// What an answer is held against.
#[derive(Debug, Clone)]
pub struct Expected<'e> {
    /// `entityID` of the identity provider.
    pub issuer: &'e str,
    /// Ours.
    pub audience: &'e str,
    /// Where it was to be sent.
    pub address: &'e str,
    /// ID of our request.
    pub request: &'e str,
    /// The ways to sign in that are wanted; empty if any is.
    pub contexts: &'e [String],
    /// Seconds since the Unix epoch.
    pub now: i64,
}

/// An assertion that is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Believed {
    /// Its ID.
    pub id: String,
    /// The user's name, as it stands there.
    pub name_id: String,
    /// What kind of name that is; empty if it does not say.
    pub name_id_format: String,
    /// Whether that name is one of another provider's, or for another service (`NameQualifier`, `SPNameQualifier`).
    pub is_foreign_name: bool,
    /// `NameQualifier`, as it stands there.
    pub name_qualifier: Option<String>,
    /// `SPNameQualifier`, as it stands there.
    pub sp_name_qualifier: Option<String>,
    /// Which session of the user's there it came of.
    pub session_index: Option<String>,
    /// When they proved themselves.
    pub authenticated_at: i64,
    /// By which way.
    pub context: Option<String>,
    /// What else it says of them, in its order.
    pub attributes: Vec<Attribute>,
}

/// One attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// `Name`.
    pub name: String,
    /// `FriendlyName`; empty if it has none.
    pub friendly_name: String,
    /// Its values, as far as they are text, with the white space that stands in them.
    pub values: Vec<String>,
}

/// Judges what the signature covers: a Response, or an Assertion. `envelope` is the Response as it came: it may only refuse.
///
/// # Errors
/// [`Refusal`].
pub fn judge(
    envelope: &Element,
    covered: &Element,
    signed: Signed,
    expected: &Expected<'_>,
) -> Result<Believed, Refusal> {
    let assertion = match (covered.is(PROTOCOL, "Response"), covered.is(ASSERTION, "Assertion")) {
        (true, _) => {
            check_envelope(covered, true, expected)?;
            covered.only(ASSERTION, "Assertion").ok_or(Refusal::NotOneAssertion)?
        }
        (_, true) => covered,
        (false, false) => return Err(Refusal::NotOneAssertion),
    };
    check_envelope(envelope, signed.response, expected)?;
    check_assertion(assertion, expected)
}

fn check_envelope(
    response: &Element,
    is_signed: bool,
    expected: &Expected<'_>,
) -> Result<(), Refusal> {
    match response.attribute("InResponseTo") {
        None | Some("") => return Err(Refusal::Unsolicited),
        Some(request) if request == expected.request => {}
        Some(_) => return Err(Refusal::WrongInResponseTo),
    }
    match response.attribute("Destination") {
        Some(place) if place == expected.address => {}
        // SAML Bindings 3.5.5.2: whoever signs it must say it.
        None | Some("") if !is_signed => {}
        place => return Err(Refusal::WrongDestination(shortened(place.unwrap_or_default()))),
    }
    if let Some(issuer) = response.only(ASSERTION, "Issuer") {
        check_issuer(issuer, expected.issuer)?;
    }
    check_issued(response, "Response", expected.now)
}

/// Whether an `Issuer` is the one that is expected.
///
/// # Errors
/// [`Refusal::WrongIssuer`].
pub fn check_issuer(issuer: &Element, expected: &str) -> Result<(), Refusal> {
    match issuer.text() {
        Some(text) if text == expected => Ok(()),
        text => Err(Refusal::WrongIssuer(shortened(text.unwrap_or_default()))),
    }
}

/// Whether a message was issued within the last ten minutes.
///
/// # Errors
/// [`Refusal::IssueInstant`].
pub fn check_issued(element: &Element, what: &'static str, now: i64) -> Result<(), Refusal> {
    let issued = time(element, "IssueInstant").ok_or(Refusal::IssueInstant(what))?;
    let is_recent = issued <= now + SKEW && now < issued + ANSWER_SECONDS + SKEW;
    is_recent.then_some(()).ok_or(Refusal::IssueInstant(what))
}

fn check_assertion(assertion: &Element, expected: &Expected<'_>) -> Result<Believed, Refusal> {
    if assertion.attribute("Version") != Some("2.0") {
        return Err(Refusal::Missing(Part::Version));
    }
    let id =
        assertion.attribute("ID").filter(|id| !id.is_empty()).ok_or(Refusal::Missing(Part::Id))?;
    let issuer = assertion.only(ASSERTION, "Issuer").ok_or(Refusal::Missing(Part::Issuer))?;
    check_issuer(issuer, expected.issuer)?;
    check_issued(assertion, "Assertion", expected.now)?;
    check_conditions(assertion, expected)?;
    let subject = assertion.only(ASSERTION, "Subject").ok_or(Refusal::Missing(Part::NameId))?;
    check_confirmations(subject, expected)?;
    let name = subject.only(ASSERTION, "NameID").ok_or(Refusal::Missing(Part::NameId))?;
    let text = name.exact_text().filter(|text| !text.chars().all(is_space));
    let text = text.ok_or(Refusal::Missing(Part::NameId))?;
    let Statement { at, context, session_index } = statement(assertion, expected)?;
    let said = |attribute| name.attribute(attribute).map(str::to_owned);
    Ok(Believed {
        id: id.to_owned(),
        name_id: text.to_owned(),
        name_id_format: name.attribute("Format").unwrap_or_default().to_owned(),
        is_foreign_name: [
            ("NameQualifier", expected.issuer),
            ("SPNameQualifier", expected.audience),
        ]
        .into_iter()
        .any(|(qualifier, ours)| name.attribute(qualifier).is_some_and(|said| said != ours)),
        name_qualifier: said("NameQualifier"),
        sp_name_qualifier: said("SPNameQualifier"),
        session_index,
        authenticated_at: at,
        context,
        attributes: attributes(assertion),
    })
}

/// Whether a span of time that `element` says holds now; one that must have an end is refused without.
fn check_span(element: &Element, end: &str, must_end: bool, now: i64) -> Result<(), Refusal> {
    if element.attribute("NotBefore").is_some() {
        let start = time(element, "NotBefore").ok_or(Refusal::NotYetValid)?;
        if now + SKEW < start {
            return Err(Refusal::NotYetValid);
        }
    }
    match element.attribute(end) {
        None if !must_end => Ok(()),
        None => Err(Refusal::Missing(Part::End)),
        Some(_) => {
            let end = time(element, end).ok_or(Refusal::Expired)?;
            if now >= end.saturating_add(SKEW) { Err(Refusal::Expired) } else { Ok(()) }
        }
    }
}

/// SAML Core 2.5.1: all of them hold, and one that is not known does not.
fn check_conditions(assertion: &Element, expected: &Expected<'_>) -> Result<(), Refusal> {
    let conditions = assertion.only(ASSERTION, "Conditions");
    let conditions = conditions.ok_or(Refusal::Missing(Part::Conditions))?;
    check_span(conditions, "NotOnOrAfter", false, expected.now)?;
    let mut restrictions = 0;
    for condition in conditions.children() {
        let name = condition.name.as_str();
        match (condition.namespace.as_str(), name) {
            (ASSERTION, "AudienceRestriction") => {
                let mut audiences = condition.all(ASSERTION, "Audience");
                if !audiences.any(|audience| audience.text() == Some(expected.audience)) {
                    return Err(Refusal::WrongAudience);
                }
                restrictions += 1;
            }
            // Every assertion is used once here, and none is passed on.
            (ASSERTION, "OneTimeUse" | "ProxyRestriction") => {}
            _ => return Err(Refusal::UnknownCondition(shortened(name))),
        }
    }
    if restrictions == 0 { Err(Refusal::Missing(Part::Audience)) } else { Ok(()) }
}

/// SAML Profiles 4.1.4.3: at least one confirmation, by bearer, of which everything holds.
fn check_confirmations(subject: &Element, expected: &Expected<'_>) -> Result<(), Refusal> {
    let mut refused = Refusal::NoBearer;
    for confirmation in subject.all(ASSERTION, "SubjectConfirmation") {
        if confirmation.attribute("Method") != Some(BEARER) {
            continue;
        }
        let data = confirmation.only(ASSERTION, "SubjectConfirmationData");
        match data.ok_or(Refusal::NoBearer).and_then(|data| check_bearer(data, expected)) {
            Ok(()) => return Ok(()),
            Err(why) => refused = why,
        }
    }
    Err(refused)
}

fn check_bearer(data: &Element, expected: &Expected<'_>) -> Result<(), Refusal> {
    if data.attribute("Recipient") != Some(expected.address) {
        return Err(Refusal::WrongRecipient);
    }
    match data.attribute("InResponseTo") {
        None | Some("") => return Err(Refusal::Unsolicited),
        Some(request) if request == expected.request => {}
        Some(_) => return Err(Refusal::WrongInResponseTo),
    }
    check_span(data, "NotOnOrAfter", true, expected.now)
}

/// When and how the user proved themselves.
struct Statement {
    at: i64,
    context: Option<String>,
    session_index: Option<String>,
}

fn statement(assertion: &Element, expected: &Expected<'_>) -> Result<Statement, Refusal> {
    let statement = assertion.all(ASSERTION, "AuthnStatement").next();
    let statement = statement.ok_or(Refusal::Missing(Part::AuthnStatement))?;
    let at = time(statement, "AuthnInstant").ok_or(Refusal::Missing(Part::AuthnStatement))?;
    check_span(statement, "SessionNotOnOrAfter", false, expected.now)?;
    let context = statement.only(ASSERTION, "AuthnContext");
    let context = context.and_then(|context| context.only(ASSERTION, "AuthnContextClassRef"));
    let context = context.and_then(Element::text).filter(|text| !text.is_empty());
    let is_wanted = |context: &str| expected.contexts.iter().any(|wanted| wanted == context);
    if !expected.contexts.is_empty() && !context.is_some_and(is_wanted) {
        return Err(Refusal::WrongAuthnContext(shortened(context.unwrap_or_default())));
    }
    let session_index = statement.attribute("SessionIndex").filter(|index| !index.is_empty());
    let owned = |said: Option<&str>| said.map(str::to_owned);
    Ok(Statement { at, context: owned(context), session_index: owned(session_index) })
}

/// Values that are not text, as some identifiers are, are passed over.
fn attributes(assertion: &Element) -> Vec<Attribute> {
    let statements = assertion.all(ASSERTION, "AttributeStatement");
    let attributes = statements.flat_map(|statement| statement.all(ASSERTION, "Attribute"));
    attributes
        .map(|attribute| {
            let said = |name| attribute.attribute(name).unwrap_or_default().to_owned();
            let values = attribute.all(ASSERTION, "AttributeValue").filter_map(Element::exact_text);
            Attribute {
                name: said("Name"),
                friendly_name: said("FriendlyName"),
                values: values.map(str::to_owned).collect(),
            }
        })
        .collect()
}

/// A time that an attribute says: in UTC, or with an offset (SAML Core 1.3.3).
pub fn time(element: &Element, name: &str) -> Option<i64> {
    let said: Timestamp = element.attribute(name)?.parse().ok()?;
    Some(said.as_second())
}
