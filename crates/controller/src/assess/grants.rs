//! Which grants a client may use: those it asks for that its issuer offers, and to a tenant those of the
//! issuer's `tenants`.

use std::collections::BTreeSet;

use claviger_api::condition::Reason;
use claviger_api::{OAuth2ClientSpec, OIDCIssuerSpec, TenantPolicy};
use claviger_domain::client::Grant;

use crate::assess::findings::Findings;

/// What is granted; what is not is noted, and a client without any first token is refused.
pub fn grants(
    spec: &OAuth2ClientSpec,
    issuer: &OIDCIssuerSpec,
    tenant: Option<&TenantPolicy>,
    findings: &mut Findings,
) -> BTreeSet<Grant> {
    let mut grants = BTreeSet::new();
    for grant in &spec.grants {
        let allowed = tenant.is_none_or(|policy| policy.allowed_grants.contains(grant));
        if allowed && issuer.grants.contains(grant) {
            grants.insert(domain_grant(*grant));
        } else {
            let word = grant.as_str();
            findings.note(format!("the issuer does not offer grant {word} to this client"));
        }
    }
    // Neither is anything to begin with: somebody must sign in first, or another issuer vouch for them.
    let needs_a_token = |grant: &Grant| match grant {
        Grant::RefreshToken => true,
        Grant::TokenExchange => spec.trusted_issuers.is_empty(),
        Grant::AuthorizationCode
        | Grant::ClientCredentials
        | Grant::DeviceCode
        | Grant::JwtBearer
        | Grant::Password => false,
    };
    if grants.iter().all(needs_a_token) {
        let reason = match tenant {
            Some(_) => Reason::TenantPolicyViolation,
            None => Reason::InvalidSpec,
        };
        findings.reject(reason, "the issuer offers this client no grant it could get a first token with: ask its administrator for authorization_code, or the one this client uses, in spec.grants and spec.tenants.allowedGrants");
    }
    grants
}

/// The grant requests know.
pub fn domain_grant(grant: claviger_api::Grant) -> Grant {
    match grant {
        claviger_api::Grant::AuthorizationCode => Grant::AuthorizationCode,
        claviger_api::Grant::RefreshToken => Grant::RefreshToken,
        claviger_api::Grant::ClientCredentials => Grant::ClientCredentials,
        claviger_api::Grant::TokenExchange => Grant::TokenExchange,
        claviger_api::Grant::DeviceCode => Grant::DeviceCode,
        claviger_api::Grant::JwtBearer => Grant::JwtBearer,
        claviger_api::Grant::Password => Grant::Password,
    }
}
