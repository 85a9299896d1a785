//! Discovery metadata (OpenID Connect Discovery 1.0, RFC 8414): what this issuer offers, and only that.

use claviger_jose::Algorithm;
use claviger_protocol::discovery::ProviderMetadata;

use crate::client::ClientAuthentication;
use crate::issuer::Issuer;
use crate::scopes::KNOWN_SCOPES;

/// Claims a token of ours may carry.
const CLAIMS: [&str; 16] = [
    "iss",
    "sub",
    "aud",
    "azp",
    "exp",
    "iat",
    "jti",
    "auth_time",
    "nonce",
    "at_hash",
    "email",
    "email_verified",
    "groups",
    "name",
    "preferred_username",
    "federated_claims",
];

/// The metadata document of an issuer.
pub fn metadata(issuer: &Issuer) -> ProviderMetadata {
    let strings =
        |values: &[&str]| -> Vec<String> { values.iter().map(|v| (*v).to_owned()).collect() };
    let methods = strings(&ClientAuthentication::METHODS);
    let proofs = methods.iter().filter(|method| *method != "none").cloned().collect();
    ProviderMetadata {
        issuer: issuer.url.as_str().to_owned(),
        authorization_endpoint: issuer.url.join("/auth"),
        token_endpoint: issuer.url.join("/token"),
        jwks_uri: issuer.url.join("/keys"),
        userinfo_endpoint: issuer.userinfo_endpoint(),
        revocation_endpoint: issuer.url.join("/token/revoke"),
        introspection_endpoint: issuer.url.join("/token/introspect"),
        scopes_supported: strings(&KNOWN_SCOPES),
        response_types_supported: strings(&["code"]),
        response_modes_supported: strings(&["query"]),
        grant_types_supported: issuer.grants.iter().map(|g| g.as_str().to_owned()).collect(),
        subject_types_supported: strings(&["public"]),
        id_token_signing_alg_values_supported: issuer
            .keys
            .signers
            .keys()
            .map(ToString::to_string)
            .collect(),
        token_endpoint_auth_methods_supported: methods.clone(),
        revocation_endpoint_auth_methods_supported: methods.clone(),
        introspection_endpoint_auth_methods_supported: proofs,
        token_endpoint_auth_signing_alg_values_supported: strings(
            &Algorithm::ALL.map(Algorithm::as_str),
        ),
        claims_supported: strings(&CLAIMS),
        code_challenge_methods_supported: strings(&["S256"]),
        prompt_values_supported: strings(&["none", "login", "consent", "select_account"]),
        authorization_response_iss_parameter_supported: true,
        claims_parameter_supported: false,
        request_parameter_supported: false,
        request_uri_parameter_supported: false,
    }
}
