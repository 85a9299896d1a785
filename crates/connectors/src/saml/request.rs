//! Our request (`AuthnRequest`, SAML Core 3.4.1), and how the browser carries it (SAML Bindings 3.4 and 3.5).

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use claviger_api::connector::saml::{SamlBinding, SamlUpstream};
use claviger_domain::trip::Trip;
use claviger_protocol::response_type::Delivery;
use data_encoding::BASE64;
use jiff::Timestamp;
use quick_xml::escape::escape;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretSlice};

use super::claims::format_uri;
use super::provider::{IdentityProvider, binding_uri};
use super::{redirect, signature};

/// The form field and query parameter that brings the flow's ID back.
pub const RELAY_STATE: &str = "RelayState";

/// The key that signs requests.
pub struct SigningKey {
    pair: KeyPair,
    der: SecretSlice<u8>,
}

impl SigningKey {
    /// Reads a private RSA key in PEM.
    ///
    /// # Errors
    /// Why it is none.
    pub fn from_pem(pem: &[u8]) -> Result<Self, String> {
        let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| error.to_string())?;
        let pair = match &key {
            PrivateKeyDer::Pkcs8(der) => KeyPair::from_pkcs8(der.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(der) => KeyPair::from_der(der.secret_pkcs1_der()),
            _ => return Err("it is no RSA key".into()),
        };
        let pair = pair.map_err(|_| "it is no RSA key of 2048 bits or more")?;
        Ok(Self { pair, der: key.secret_der().to_vec().into() })
    }

    /// Over a message of the Redirect binding.
    ///
    /// # Errors
    /// That it could not be signed.
    pub fn sign(&self, message: &str) -> Result<String, String> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        let signed = self.pair.sign(
            &RSA_PKCS1_SHA256,
            &SystemRandom::new(),
            message.as_bytes(),
            &mut signature,
        );
        signed.map_err(|_| "failed to sign the request")?;
        Ok(BASE64.encode(&signature))
    }
}

/// A request to one provider.
pub struct Request<'r> {
    /// What the administrator says.
    pub spec: &'r SamlUpstream,
    /// Whom it goes to.
    pub provider: &'r IdentityProvider,
    /// Our entity ID.
    pub entity_id: &'r str,
    /// What it is signed by, if it is.
    pub key: Option<&'r SigningKey>,
}

impl Request<'_> {
    /// Puts it on the browser's way.
    ///
    /// # Errors
    /// It could not be signed.
    pub fn deliver(&self, trip: &Trip<'_>) -> Result<Delivery, String> {
        match self.provider.sign_on.1 {
            SamlBinding::Redirect => self.by_redirect(trip).map(Delivery::Redirect),
            SamlBinding::Post => self.by_post(trip),
        }
    }

    fn by_redirect(&self, trip: &Trip<'_>) -> Result<String, String> {
        let message = self.message(trip, "");
        let message = (redirect::Kind::Request, message.as_str());
        redirect::location(&self.provider.sign_on.0, message, Some(trip.state), self.key)
    }

    fn by_post(&self, trip: &Trip<'_>) -> Result<Delivery, String> {
        let message = match self.key {
            None => self.message(trip, ""),
            Some(key) => {
                let unsigned = self.message(trip, &signature::template(&trip.request_id()));
                signature::sign(&unsigned, key.der.expose_secret())?
            }
        };
        let fields = vec![
            ("SAMLRequest", BASE64.encode(message.as_bytes())),
            (RELAY_STATE, trip.state.to_owned()),
        ];
        Ok(Delivery::Post { action: self.provider.sign_on.0.to_string(), fields })
    }

    /// The XML, with `signature` where one belongs.
    fn message(&self, trip: &Trip<'_>, signature: &str) -> String {
        let issued = Timestamp::from_second(trip.now).unwrap_or_default();
        // Nothing older can be asked for: SAML has no most seconds since the user proved themselves.
        let forced = trip.must_authenticate || trip.max_age.is_some();
        let forced = if forced { " ForceAuthn=\"true\"" } else { "" };
        format!(
            "<samlp:AuthnRequest xmlns:samlp=\"urn:oasis:names:tc:SAML:2.0:protocol\" \
             xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\" ID=\"{id}\" Version=\"2.0\" \
             IssueInstant=\"{issued}\" Destination=\"{destination}\"{forced} ProtocolBinding=\"{post}\" \
             AssertionConsumerServiceURL=\"{callback}\"><saml:Issuer>{entity}</saml:Issuer>{signature}\
             <samlp:NameIDPolicy Format=\"{format}\" AllowCreate=\"true\"/>{contexts}</samlp:AuthnRequest>",
            id = trip.request_id(),
            destination = escape(self.provider.sign_on.0.as_str()),
            post = binding_uri(SamlBinding::Post),
            callback = escape(trip.callback.as_str()),
            entity = escape(self.entity_id),
            format = format_uri(self.spec.name_id_format),
            contexts = self.contexts(),
        )
    }

    fn contexts(&self) -> String {
        let wanted = self.spec.requested_authn_contexts.iter();
        let mut classes = wanted.fold(String::new(), |mut classes, class| {
            classes.push_str("<saml:AuthnContextClassRef>");
            classes.push_str(&escape(class));
            classes.push_str("</saml:AuthnContextClassRef>");
            classes
        });
        if !classes.is_empty() {
            classes.insert_str(0, "<samlp:RequestedAuthnContext Comparison=\"exact\">");
            classes.push_str("</samlp:RequestedAuthnContext>");
        }
        classes
    }
}
