//! Who an identity provider is: from its metadata (SAML Metadata 2.4.3), or from what the administrator says.
//!
//! What always holds: there is at least one certificate that it signs with; every address is https.

use claviger_api::connector::saml::SamlBinding;
use data_encoding::BASE64;
use jiff::Timestamp;
use url::Url;

use super::response::SIGNATURE;
use super::xml::Element;

/// SAML 2.0 metadata.
const METADATA: &str = "urn:oasis:names:tc:SAML:2.0:metadata";
const PROTOCOL: &str = "urn:oasis:names:tc:SAML:2.0:protocol";
/// Seconds by which two clocks may differ.
const SKEW: i64 = 60;
/// Most certificates of one provider: each may be tried for a signature.
const MAX_CERTIFICATES: usize = 8;

/// The name of a binding.
pub fn binding_uri(binding: SamlBinding) -> &'static str {
    match binding {
        SamlBinding::Redirect => "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect",
        SamlBinding::Post => "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST",
    }
}

/// An identity provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityProvider {
    /// Its entity ID.
    pub entity_id: String,
    /// Where requests go, and how.
    pub sign_on: (Url, SamlBinding),
    /// The certificates that it signs with, in DER; never empty.
    pub certificates: Vec<Vec<u8>>,
    /// Where messages about signing out go, by Redirect, if it takes such.
    pub single_logout: Option<SingleLogoutService>,
    /// When its metadata is valid no more, if it says so.
    pub valid_until: Option<i64>,
}

/// Where an identity provider takes messages about signing out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SingleLogoutService {
    /// Requests.
    pub request: Url,
    /// Answers to its own.
    pub response: Url,
}

impl SingleLogoutService {
    /// One at this address, and for answers at the other if there is one.
    ///
    /// # Errors
    /// Why an address is not usable, in words.
    pub fn new(location: &str, response_location: Option<&str>) -> Result<Self, String> {
        let request = https(location)?;
        let response = response_location.map_or_else(|| Ok(request.clone()), https)?;
        Ok(Self { request, response })
    }
}

impl IdentityProvider {
    /// Puts one together.
    ///
    /// # Errors
    /// What is missing or not usable, in words.
    pub fn new(
        entity_id: &str,
        (url, binding): (&str, SamlBinding),
        certificates: Vec<Vec<u8>>,
    ) -> Result<Self, String> {
        if entity_id.is_empty() {
            return Err("it has no entity ID".into());
        }
        let url = https(url)?;
        if certificates.is_empty() {
            return Err(
                "it has no certificate to sign with, and without one no answer can be believed"
                    .into(),
            );
        }
        if certificates.len() > MAX_CERTIFICATES {
            return Err(format!("it has more than {MAX_CERTIFICATES} certificates to sign with"));
        }
        Ok(Self {
            entity_id: entity_id.to_owned(),
            sign_on: (url, binding),
            certificates,
            single_logout: None,
            valid_until: None,
        })
    }

    /// Reads metadata. `binding` is the one to send requests by; by default Redirect where it is offered.
    ///
    /// # Errors
    /// What is missing or not usable, in words.
    pub fn from_metadata(document: &[u8], binding: Option<SamlBinding>) -> Result<Self, String> {
        let entity = Element::parse_commented(document).map_err(|error| error.to_string())?;
        if !entity.is(METADATA, "EntityDescriptor") {
            return Err(
                "it is no EntityDescriptor of SAML 2.0: name the one of the provider alone".into(),
            );
        }
        let roles = entity.all(METADATA, "IDPSSODescriptor");
        let supports = |role: &&Element| {
            let protocols = role.attribute("protocolSupportEnumeration").unwrap_or_default();
            protocols.split_whitespace().any(|protocol| protocol == PROTOCOL)
        };
        let mut roles = roles.filter(supports);
        let role = roles.next().ok_or("it describes no identity provider of SAML 2.0")?;
        if roles.next().is_some() {
            return Err("it describes two identity providers of SAML 2.0".into());
        }
        let sign_on = sign_on(role, binding)?;
        let entity_id = entity.attribute("entityID").unwrap_or_default();
        let ends = [valid_until(&entity)?, valid_until(role)?];
        let provider = Self::new(entity_id, sign_on, certificates(role)?)?;
        let valid_until = ends.into_iter().flatten().min();
        Ok(Self { valid_until, single_logout: single_logout(role), ..provider })
    }

    /// Whether what is known of it may still be gone by.
    ///
    /// # Errors
    /// Since when not.
    pub fn check_validity(&self, now: i64) -> Result<(), String> {
        match self.valid_until {
            Some(end) if now >= end.saturating_add(SKEW) => {
                let end = Timestamp::from_second(end).unwrap_or_default();
                Err(format!("it is valid no more since {end} (validUntil)"))
            }
            _ => Ok(()),
        }
    }
}

fn https(url: &str) -> Result<Url, String> {
    let url = Url::parse(url).map_err(|error| format!("{url:?} is no URL: {error}"))?;
    if url.scheme() == "https" { Ok(url) } else { Err(format!("{url} is not https")) }
}

/// By Redirect alone; one that is not usable is none, for users sign in all the same.
fn single_logout(role: &Element) -> Option<SingleLogoutService> {
    let mut services = role.all(METADATA, "SingleLogoutService");
    let binding = Some(binding_uri(SamlBinding::Redirect));
    let service = services.find(|service| service.attribute("Binding") == binding)?;
    let response = service.attribute("ResponseLocation").filter(|place| !place.is_empty());
    SingleLogoutService::new(service.attribute("Location")?, response).ok()
}

fn valid_until(element: &Element) -> Result<Option<i64>, String> {
    let said = element.attribute("validUntil");
    let read = said.map(|said| {
        let end: Result<Timestamp, _> = said.parse();
        end.map(Timestamp::as_second).map_err(|_| format!("validUntil {said:?} is no time"))
    });
    read.transpose()
}

fn sign_on(role: &Element, wanted: Option<SamlBinding>) -> Result<(&str, SamlBinding), String> {
    let at = |binding| {
        let mut services = role.all(METADATA, "SingleSignOnService");
        let found =
            services.find(|service| service.attribute("Binding") == Some(binding_uri(binding)))?;
        Some((found.attribute("Location")?, binding))
    };
    let found = match wanted {
        Some(binding) => at(binding),
        None => at(SamlBinding::Redirect).or_else(|| at(SamlBinding::Post)),
    };
    found.ok_or_else(|| match wanted {
        Some(binding) => {
            format!("it offers no single sign-on service by {binding:?}: change requestBinding")
        }
        None => "it offers no single sign-on service by Redirect or Post".into(),
    })
}

/// Those for signing, and those for whatever use.
fn certificates(role: &Element) -> Result<Vec<Vec<u8>>, String> {
    let mut found = Vec::new();
    let keys = role.all(METADATA, "KeyDescriptor");
    let signing = keys.filter(|key| matches!(key.attribute("use"), None | Some("" | "signing")));
    for key in signing {
        for certificate in key.walk().filter(|part| part.is(SIGNATURE, "X509Certificate")) {
            let text: String = certificate.text().unwrap_or_default().split_whitespace().collect();
            let der = BASE64.decode(text.as_bytes());
            let der = der.map_err(|_| "one of its certificates is not base64")?;
            if !found.contains(&der) {
                found.push(der);
            }
        }
    }
    Ok(found)
}
