//! What an identity provider answers: an honest answer whose every part a test can change before it is signed.

use jiff::Timestamp;

use crate::signer::{RSA_SHA256, SHA256, Signer, template};

/// `entityID` of the identity provider.
pub const IDP: &str = "https://idp.example.com/saml";

/// What of an answer is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signs {
    Assertion,
    Response,
    Both,
    Nothing,
}

/// An answer. Parts are XML, or values of attributes; an attribute that is empty is left out.
#[derive(Debug, Clone)]
pub struct Answer {
    pub signs: Signs,
    pub signed_by: String,
    pub digested_by: String,
    pub issued: i64,
    pub assertion_issued: i64,
    pub assertion_id: String,
    pub destination: String,
    pub in_response_to: String,
    pub issuer: String,
    pub status: String,
    pub name_id: String,
    pub confirmations: String,
    pub conditions: String,
    pub statement: String,
    pub attributes: String,
}

/// A time as XML has it.
pub fn time(at: i64) -> String {
    Timestamp::from_second(at).unwrap().to_string()
}

/// A bearer confirmation.
pub fn bearer(recipient: &str, request: &str, until: i64) -> String {
    format!(
        "<saml:SubjectConfirmation Method=\"urn:oasis:names:tc:SAML:2.0:cm:bearer\"><saml:SubjectConfirmationData{}{} \
         NotOnOrAfter=\"{}\"/></saml:SubjectConfirmation>",
        attribute("Recipient", recipient),
        attribute("InResponseTo", request),
        time(until),
    )
}

/// Conditions for this audience, with these dates.
pub fn conditions(audience: &str, (from, until): (i64, i64)) -> String {
    format!(
        "<saml:Conditions NotBefore=\"{}\" NotOnOrAfter=\"{}\"><saml:AudienceRestriction><saml:Audience>{audience}\
         </saml:Audience></saml:AudienceRestriction></saml:Conditions>",
        time(from),
        time(until),
    )
}

/// An attribute of an element, unless it is empty.
fn attribute(name: &str, value: &str) -> String {
    if value.is_empty() { String::new() } else { format!(" {name}=\"{value}\"") }
}

/// An attribute of a user.
pub fn values(name: &str, values: &[&str]) -> String {
    let values: Vec<_> = values
        .iter()
        .map(|value| format!("<saml:AttributeValue>{value}</saml:AttributeValue>"))
        .collect();
    format!("<saml:Attribute Name=\"{name}\">{}</saml:Attribute>", values.concat())
}

impl Answer {
    /// An honest answer to this request, to be sent there.
    pub fn to(request: &str, callback: &str, now: i64) -> Self {
        Self {
            signs: Signs::Assertion,
            signed_by: RSA_SHA256.into(),
            digested_by: SHA256.into(),
            issued: now,
            assertion_issued: now,
            assertion_id: "assertion-1".into(),
            destination: callback.into(),
            in_response_to: request.into(),
            issuer: IDP.into(),
            status: "<samlp:StatusCode Value=\"urn:oasis:names:tc:SAML:2.0:status:Success\"/>"
                .into(),
            name_id:
                "<saml:NameID Format=\"urn:oasis:names:tc:SAML:2.0:nameid-format:persistent\">\
                      alice@corp</saml:NameID>"
                    .into(),
            confirmations: bearer(callback, request, now + 300),
            conditions: conditions(callback, (now - 10, now + 300)),
            statement: format!(
                "<saml:AuthnStatement AuthnInstant=\"{}\" SessionIndex=\"s1\"><saml:AuthnContext><saml:AuthnContextClassRef>\
                 urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport</saml:AuthnContextClassRef>\
                 </saml:AuthnContext></saml:AuthnStatement>",
                time(now - 30),
            ),
            attributes: [values("mail", &["alice@example.com"]), values("groups", &["dev", "ops"])]
                .concat(),
        }
    }

    /// The assertion, with an empty signature if it is to have one.
    pub fn assertion(&self) -> String {
        let signature = self.template(Signs::Assertion, &self.assertion_id);
        format!(
            "<saml:Assertion xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\" ID=\"{}\" Version=\"2.0\" IssueInstant=\"{}\">\
             <saml:Issuer>{}</saml:Issuer>{signature}<saml:Subject>{}{}</saml:Subject>{}{}\
             <saml:AttributeStatement>{}</saml:AttributeStatement></saml:Assertion>",
            self.assertion_id,
            time(self.assertion_issued),
            self.issuer,
            self.name_id,
            self.confirmations,
            self.conditions,
            self.statement,
            self.attributes,
        )
    }

    /// A response around this assertion, with an empty signature if it is to have one.
    pub fn around(&self, assertion: &str) -> String {
        format!(
            "<samlp:Response xmlns:samlp=\"urn:oasis:names:tc:SAML:2.0:protocol\" ID=\"response-1\" Version=\"2.0\" \
             IssueInstant=\"{}\"{}{}><saml:Issuer xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\">{}</saml:Issuer>{}\
             <samlp:Status>{}</samlp:Status>{assertion}</samlp:Response>",
            time(self.issued),
            attribute("Destination", &self.destination),
            attribute("InResponseTo", &self.in_response_to),
            self.issuer,
            self.template(Signs::Response, "response-1"),
            self.status,
        )
    }

    /// The whole answer, signed.
    pub fn signed(&self) -> String {
        self.signed_with(Signer::honest())
    }

    pub fn signed_with(&self, signer: &Signer) -> String {
        let mut assertion = self.assertion();
        if matches!(self.signs, Signs::Assertion | Signs::Both) {
            assertion = signer.sign(&assertion);
        }
        let response = self.around(&assertion);
        match self.signs {
            Signs::Response | Signs::Both => signer.sign(&response),
            Signs::Assertion | Signs::Nothing => response,
        }
    }

    fn template(&self, of: Signs, id: &str) -> String {
        if self.signs == of || self.signs == Signs::Both {
            template(id, &self.signed_by, &self.digested_by)
        } else {
            String::new()
        }
    }
}

/// The metadata of an identity provider that signs by this.
pub fn metadata(signer: &Signer) -> String {
    let lines = signer.certificate_pem.lines().filter(|line| !line.starts_with("-----"));
    let certificate: String = lines.collect();
    format!(
        "<?xml version=\"1.0\"?><!-- ours --><md:EntityDescriptor xmlns:md=\"urn:oasis:names:tc:SAML:2.0:metadata\" \
         entityID=\"{IDP}\"><md:IDPSSODescriptor protocolSupportEnumeration=\"urn:oasis:names:tc:SAML:2.0:protocol\">\
         <md:KeyDescriptor use=\"signing\"><ds:KeyInfo xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\"><ds:X509Data>\
         <ds:X509Certificate>\n{certificate}\n</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>\
         <md:SingleSignOnService Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST\" Location=\"https://idp.example.com/post\"/>\
         </md:IDPSSODescriptor></md:EntityDescriptor>"
    )
}
