//! Which tokens a client may ask about: what it says, within what its type and its place admit.

use claviger_api::condition::Reason;
use claviger_api::{ClientIntrospection, ClientType, OAuth2ClientSpec, TenantPolicy};
use claviger_domain::client::Introspection;

use crate::assess::findings::Findings;

/// What is granted. A tenant never sees other clients' tokens, a public client none at all.
pub fn introspection(
    spec: &OAuth2ClientSpec,
    tenant: Option<&TenantPolicy>,
    findings: &mut Findings,
) -> Introspection {
    let wanted = match spec.introspection {
        None | Some(ClientIntrospection::Forbidden) => return Introspection::Forbidden,
        Some(ClientIntrospection::OwnTokens) => Introspection::OwnTokens,
        Some(ClientIntrospection::AllTokens) => Introspection::AllTokens,
    };
    if spec.type_ == ClientType::Public {
        findings.reject(
            Reason::InvalidSpec,
            "a Public client cannot prove who asks: remove introspection, or set type to Confidential",
        );
        return Introspection::Forbidden;
    }
    if tenant.is_some() && wanted == Introspection::AllTokens {
        findings.reject(
            Reason::TenantPolicyViolation,
            "introspection AllTokens is for clients in the issuer's own namespace: set it to OwnTokens, or remove it",
        );
        return Introspection::Forbidden;
    }
    wanted
}
