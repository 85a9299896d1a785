//! Discovery metadata (OpenID Connect Discovery 1.0, RFC 8414): what this issuer offers, and only that.

use std::collections::BTreeSet;

use claviger_jose::Algorithm;
use claviger_protocol::discovery::ProviderMetadata;
use claviger_protocol::response_type::{ResponseMode, ResponseType};

use crate::claim::CLAIMS;
use crate::client::{ClientAuthentication, Grant};
use crate::issuer::Issuer;
use crate::registration;
use crate::scopes::KNOWN_SCOPES;

/// Claims of ours that are not about the user.
const CLAIMS_OF_TOKENS: [&str; 14] = [
    "iss",
    "aud",
    "azp",
    "exp",
    "iat",
    "jti",
    "auth_time",
    "acr",
    "amr",
    "nonce",
    "at_hash",
    "c_hash",
    "s_hash",
    "sid",
];

/// The metadata document of an issuer.
pub fn metadata(issuer: &Issuer) -> ProviderMetadata {
    let strings = |values: &[&str]| owned(values.iter().copied());
    let acr: BTreeSet<&str> = issuer.connectors.iter().filter_map(|c| c.acr.as_deref()).collect();
    let claims_about_users = CLAIMS.into_iter().map(|(claim, _)| claim);
    let own = issuer.custom_claims.names();
    let methods = strings(&ClientAuthentication::METHODS);
    let proofs = methods.iter().filter(|method| *method != "none").cloned().collect();
    let signing: Vec<_> = issuer.keys.signers.keys().map(ToString::to_string).collect();
    ProviderMetadata {
        issuer: issuer.url.as_str().to_owned(),
        authorization_endpoint: issuer.url.join("/auth"),
        token_endpoint: issuer.url.join("/token"),
        jwks_uri: issuer.url.join("/keys"),
        userinfo_endpoint: issuer.userinfo_endpoint(),
        end_session_endpoint: issuer.url.join("/logout"),
        // What is told is that a browser's session is over: without one there is no `sid`.
        backchannel_logout_supported: issuer.browser_sessions.is_some(),
        backchannel_logout_session_supported: issuer.browser_sessions.is_some(),
        frontchannel_logout_supported: issuer.browser_sessions.is_some(),
        frontchannel_logout_session_supported: issuer.browser_sessions.is_some(),
        revocation_endpoint: issuer.url.join("/token/revoke"),
        introspection_endpoint: issuer.url.join("/token/introspect"),
        registration_endpoint: issuer
            .registration
            .as_ref()
            .map(|_| issuer.url.join(registration::PATH)),
        scopes_supported: distinct(
            KNOWN_SCOPES.into_iter().chain(own.clone().map(|(_, scope)| scope)),
        ),
        response_types_supported: owned(issuer.response_types.iter().map(|t| t.as_str())),
        response_modes_supported: owned(ResponseMode::ALL.iter().map(|mode| mode.as_str())),
        grant_types_supported: owned(grant_types(issuer)),
        acr_values_supported: owned(acr.into_iter()),
        subject_types_supported: strings(&["public"]),
        id_token_signing_alg_values_supported: signing.clone(),
        userinfo_signing_alg_values_supported: signing,
        token_endpoint_auth_methods_supported: methods.clone(),
        revocation_endpoint_auth_methods_supported: methods.clone(),
        introspection_endpoint_auth_methods_supported: proofs,
        token_endpoint_auth_signing_alg_values_supported: strings(
            &Algorithm::ALL.map(Algorithm::as_str),
        ),
        device_authorization_endpoint: issuer
            .grants
            .contains(&Grant::DeviceCode)
            .then(|| issuer.url.join("/device/code")),
        pushed_authorization_request_endpoint: issuer.url.join("/par"),
        require_pushed_authorization_requests: false,
        request_object_signing_alg_values_supported: strings(
            &Algorithm::ALL.map(Algorithm::as_str),
        ),
        dpop_signing_alg_values_supported: strings(&Algorithm::ALL.map(Algorithm::as_str)),
        claims_supported: owned(
            CLAIMS_OF_TOKENS
                .into_iter()
                .chain(claims_about_users)
                .chain(own.map(|(claim, _)| claim)),
        ),
        claim_types_supported: strings(&["normal"]),
        display_values_supported: strings(&["page"]),
        ui_locales_supported: strings(&["en"]),
        code_challenge_methods_supported: strings(&["S256"]),
        prompt_values_supported: strings(&["none", "login", "consent", "select_account"]),
        authorization_response_iss_parameter_supported: true,
        claims_parameter_supported: true,
        request_parameter_supported: true,
        request_uri_parameter_supported: false,
    }
}

/// The grants on offer, and what OAuth calls one: tokens from the authorization endpoint.
fn grant_types(issuer: &Issuer) -> impl Iterator<Item = &'static str> {
    let implicit = issuer.response_types.iter().any(|t| *t != ResponseType::Code);
    issuer.grants.iter().map(|grant| grant.as_str()).chain(implicit.then_some("implicit"))
}

fn distinct<'t>(texts: impl Iterator<Item = &'t str>) -> Vec<String> {
    let mut known: Vec<String> = Vec::new();
    for text in texts {
        if !known.iter().any(|one| one == text) {
            known.push(text.to_owned());
        }
    }
    known
}

fn owned<'t>(texts: impl Iterator<Item = &'t str>) -> Vec<String> {
    texts.map(str::to_owned).collect()
}
