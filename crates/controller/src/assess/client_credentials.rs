//! What tokens say of a client itself: what it says, within what its type and its place admit.

use claviger_api::condition::Reason;
use claviger_api::{ClientType, OAuth2ClientSpec, TenantPolicy};
use claviger_domain::claim::is_reserved;
use claviger_domain::client::ClientSubject;

use crate::assess::findings::Findings;

/// What is granted. A tenant has no name, and no groups but those of its own namespace.
pub fn client_credentials(
    spec: &OAuth2ClientSpec,
    namespace: &str,
    tenant: Option<&TenantPolicy>,
    findings: &mut Findings,
) -> ClientSubject {
    let asked = spec.grants.contains(&claviger_api::Grant::ClientCredentials);
    if asked && spec.type_ == ClientType::Public {
        findings.reject(
            Reason::InvalidSpec,
            "grant client_credentials is for type Confidential: remove it, or set type to Confidential",
        );
    }
    let Some(claims) = &spec.client_credentials else { return ClientSubject::default() };
    if tenant.is_some() {
        let own = format!("{namespace}:");
        for group in claims.groups.iter().filter(|group| !is_below(group, &own)) {
            findings.reject(
                Reason::TenantPolicyViolation,
                format!("clientCredentials.groups: {group:?} must begin with {own:?} and go on: rename it, or remove it"),
            );
        }
        if claims.username.is_some() {
            findings.reject(
                Reason::TenantPolicyViolation,
                "clientCredentials.username is for clients in the issuer's own namespace: remove it",
            );
        }
        if !claims.claims.is_empty() {
            findings.reject(
                Reason::TenantPolicyViolation,
                "clientCredentials.claims is for clients in the issuer's own namespace: remove it",
            );
        }
    }
    for claim in claims.claims.iter().filter(|claim| is_reserved(&claim.name)) {
        findings.reject(
            Reason::InvalidSpec,
            format!(
                "clientCredentials.claims: {:?} has a meaning of its own: choose another name",
                claim.name
            ),
        );
    }
    let stated = claims.claims.iter().map(|claim| (claim.name.clone(), claim.value.clone()));
    ClientSubject {
        groups: claims.groups.clone(),
        username: claims.username.clone(),
        claims: stated.collect(),
    }
}

fn is_below(group: &str, prefix: &str) -> bool {
    group.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty())
}
