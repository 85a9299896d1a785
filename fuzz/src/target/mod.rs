//! Every target, by name: one corpus folder each.

mod artefacts;
mod browser_ticket;
mod device;
mod form;
mod grant;
mod http;
mod jose;
mod logout;
mod messages;
mod policy;
mod pushed_request;
mod registration;
#[cfg(feature = "saml")]
mod saml;
mod sealed;
mod signed;
mod site;
mod values;

/// Something that reads bytes from outside.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, which is its corpus folder's.
    pub name: &'static str,
    /// Tries these bytes.
    ///
    /// # Panics
    /// When something does not hold that must.
    pub run: fn(&[u8]),
    /// Mutants that `make test` tries.
    pub mutants: u32,
    /// Whether what it tries catches panics of a library, which are no failures then.
    pub catches: bool,
}

const fn cheap(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run, mutants: 20_000, catches: false }
}

/// For what signs, verifies or goes through the whole server.
const fn dear(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run, mutants: 3_000, catches: false }
}

/// All of them.
pub const ALL: &[Target] = &[
    cheap("form", form::params),
    cheap("authorize", messages::authorize),
    cheap("token", messages::token),
    cheap("grant", grant::grant),
    cheap("device", device::request),
    cheap("user_code", device::user_code),
    cheap("registration", registration::registration),
    cheap("logout", logout::logout),
    cheap("request_object", messages::request_object),
    cheap("basic", messages::basic),
    cheap("bearer", messages::bearer),
    cheap("pkce", values::pkce),
    cheap("scope", values::scope),
    cheap("redirect_uri", values::redirect_uri),
    cheap("subject", values::subject),
    cheap("issuer_url", values::issuer_url),
    cheap("claims", values::claims),
    cheap("jwt", jose::token),
    cheap("jwks", jose::key_set),
    dear("edited_jwt", jose::edited_token),
    cheap("sealed", sealed::any_text),
    cheap("edited_sealed", sealed::edited),
    cheap("edited_mac", sealed::edited_refresh_token),
    cheap("ring", sealed::ring_document),
    cheap("browser_ticket", browser_ticket::browser_ticket),
    dear("pushed_request", pushed_request::push_and_resolve),
    dear("client_assertion", signed::client_assertion),
    dear("jwt_bearer", signed::jwt_bearer),
    dear("subject_token", signed::subject_token),
    dear("dpop", signed::dpop),
    Target { catches: true, ..dear("condition", policy::expression) },
    dear("http", http::request),
    dear("edited_artefact", artefacts::edited_artefact),
    #[cfg(feature = "saml")]
    dear("saml_answer", saml::answer),
    #[cfg(feature = "saml")]
    dear("saml_metadata", saml::metadata),
    #[cfg(feature = "saml")]
    dear("saml_logout", saml::logout),
];

/// The target of this name.
pub fn named(name: &str) -> Option<&'static Target> {
    ALL.iter().find(|target| target.name == name)
}
