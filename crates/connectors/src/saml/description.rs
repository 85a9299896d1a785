//! Our own metadata (SAML Metadata 2.4.4), for the identity provider's administrator.

use claviger_api::connector::saml::{SamlBinding, SamlSignatures, SamlUpstream};
use claviger_domain::single_logout::address_of;
use claviger_domain::trip::Description;
use data_encoding::BASE64;
use quick_xml::escape::escape;

use super::claims::format_uri;
use super::provider::binding_uri;

/// The document, where the answers go to `callback`. `certificate` is that of the key that signs requests, in DER.
/// `signs_out` says whether we take messages about signing out.
pub fn describe(
    spec: &SamlUpstream,
    (entity_id, callback): (&str, &str),
    certificate: Option<&[u8]>,
    signs_out: bool,
) -> Description {
    let key = certificate.map_or_else(String::new, |der| {
        format!(
            "<md:KeyDescriptor use=\"signing\"><ds:KeyInfo xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\">\
             <ds:X509Data><ds:X509Certificate>{}</ds:X509Certificate></ds:X509Data></ds:KeyInfo>\
             </md:KeyDescriptor>",
            BASE64.encode(der)
        )
    });
    let single_logout = if signs_out {
        format!(
            "<md:SingleLogoutService Binding=\"{}\" Location=\"{}\"/>",
            binding_uri(SamlBinding::Redirect),
            escape(address_of(callback)),
        )
    } else {
        String::new()
    };
    let wants = matches!(spec.signatures, SamlSignatures::Assertion | SamlSignatures::Both);
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <md:EntityDescriptor xmlns:md=\"urn:oasis:names:tc:SAML:2.0:metadata\" entityID=\"{entity}\">\
         <md:SPSSODescriptor protocolSupportEnumeration=\"urn:oasis:names:tc:SAML:2.0:protocol\" \
         AuthnRequestsSigned=\"{signs}\" WantAssertionsSigned=\"{wants}\">{key}{single_logout}\
         <md:NameIDFormat>{format}</md:NameIDFormat>\
         <md:AssertionConsumerService Binding=\"{post}\" Location=\"{callback}\" index=\"0\" isDefault=\"true\"/>\
         </md:SPSSODescriptor></md:EntityDescriptor>\n",
        entity = escape(entity_id),
        signs = spec.signing.is_some(),
        format = format_uri(spec.name_id_format),
        post = binding_uri(SamlBinding::Post),
        callback = escape(callback),
    );
    Description { media_type: "application/samlmetadata+xml", body }
}
