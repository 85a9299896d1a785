//! What an OAuth2Client may ask of the authorization endpoint: response types, resources and the browser's
//! session, with its issuer's and the tenants' bounds applied.

use std::collections::BTreeSet;

use claviger_api::condition::Reason;
use claviger_api::{OAuth2ClientSpec, OIDCIssuer, SessionSharing, TenantPolicy};
use claviger_domain::browser_session::Sharing;
use claviger_domain::client::ResponseType;

use crate::assess::findings::Findings;

/// The response types a client gets: its own, as far as its issuer offers them.
pub fn response_types(
    spec: &OAuth2ClientSpec,
    issuer: &OIDCIssuer,
    policy: Option<&TenantPolicy>,
    findings: &mut Findings,
) -> BTreeSet<ResponseType> {
    let mut granted = BTreeSet::new();
    for wanted in &spec.response_types {
        let word = wanted.as_str();
        if policy.is_some_and(|policy| !policy.allowed_response_types.contains(wanted)) {
            findings.reject(
                Reason::TenantPolicyViolation,
                format!("response type {word:?} is not in the issuer's tenants.allowedResponseTypes: remove it, or ask the issuer's administrator"),
            );
        } else if !issuer.spec.response_types.contains(wanted) {
            findings.note(format!("the issuer does not offer response type {word:?}"));
        } else {
            granted.insert(domain_response_type(*wanted));
        }
    }
    granted
}

/// The resources its access tokens may be for.
pub fn resources(
    spec: &OAuth2ClientSpec,
    policy: Option<&TenantPolicy>,
    findings: &mut Findings,
) -> BTreeSet<String> {
    let refused = |resource: &&String| {
        policy.is_some_and(|policy| !policy.allowed_resources.contains(resource))
    };
    for resource in spec.allowed_resources.iter().filter(refused) {
        findings.reject(
            Reason::TenantPolicyViolation,
            format!("resource {resource} is not in the issuer's tenants.allowedResources: remove it, or ask the issuer's administrator"),
        );
    }
    spec.allowed_resources.iter().cloned().collect()
}

/// Whether it takes part in single sign-on.
pub fn sharing(spec: &OAuth2ClientSpec, policy: Option<&TenantPolicy>) -> Sharing {
    let allowed = policy.is_none_or(|policy| policy.browser_sessions == SessionSharing::Shared);
    match spec.browser_sessions {
        SessionSharing::Shared if allowed => Sharing::Shared,
        SessionSharing::Shared | SessionSharing::Separate => Sharing::Separate,
    }
}

/// The response type requests know.
pub fn domain_response_type(response_type: claviger_api::ResponseType) -> ResponseType {
    match response_type {
        claviger_api::ResponseType::Code => ResponseType::Code,
        claviger_api::ResponseType::IdToken => ResponseType::IdToken,
        claviger_api::ResponseType::IdTokenToken => ResponseType::IdTokenToken,
        claviger_api::ResponseType::CodeIdToken => ResponseType::CodeIdToken,
        claviger_api::ResponseType::CodeToken => ResponseType::CodeToken,
        claviger_api::ResponseType::CodeIdTokenToken => ResponseType::CodeIdTokenToken,
    }
}
