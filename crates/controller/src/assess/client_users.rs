//! Whose tokens an OAuth2Client gets, and what they say: connectors and scopes, with the tenants' bounds.

use std::collections::BTreeSet;

use claviger_api::condition::Reason;
use claviger_api::{OAuth2ClientSpec, OIDCIssuer, Scope, TenantPolicy};

use crate::assess::custom_claims::custom_scopes;
use crate::assess::findings::Findings;
use crate::assess::issuer::AssessedIssuer;

/// The scopes a client may be given.
pub fn scopes(
    spec: &OAuth2ClientSpec,
    issuer: &OIDCIssuer,
    policy: Option<&TenantPolicy>,
    findings: &mut Findings,
) -> BTreeSet<String> {
    let own = custom_scopes(spec, issuer, policy, findings).into_iter();
    let Some(policy) = policy else {
        let known = spec.scopes.iter().map(|scope| scope.as_str());
        return known.chain(own).map(str::to_owned).collect();
    };
    let mut scopes: BTreeSet<_> = own.map(str::to_owned).collect();
    for scope in &spec.scopes {
        if policy.allowed_scopes.contains(scope) {
            scopes.insert(scope.as_str().to_owned());
        } else if matches!(scope, Scope::OpenId | Scope::FederatedId) {
            // What nobody gets by default was asked for; and without openid there is nothing.
            violates(
                findings,
                format!(
                    "scope {} is not in the issuer's tenants.allowedScopes: remove it, or ask the issuer's administrator",
                    scope.as_str()
                ),
            );
        } else {
            findings.note(format!(
                "scope {} is withheld by the issuer's tenants.allowedScopes",
                scope.as_str()
            ));
        }
    }
    scopes
}

/// The connectors whose users may sign in; `None` is all that the issuer offers.
pub fn connectors(
    spec: &OAuth2ClientSpec,
    issuer: &AssessedIssuer,
    policy: Option<&TenantPolicy>,
    signs_in: bool,
    findings: &mut Findings,
) -> Option<BTreeSet<String>> {
    let wanted: BTreeSet<String> = spec.allowed_connectors.iter().cloned().collect();
    let offered: BTreeSet<&str> =
        issuer.object.spec.connectors.iter().map(|connector| connector.name.as_str()).collect();
    for name in wanted.iter().filter(|name| !offered.contains(name.as_str())) {
        findings.note(format!("connector {name} is not offered by the issuer"));
    }
    if !wanted.is_empty() && !wanted.iter().any(|name| offered.contains(name.as_str())) {
        findings.unresolved(crate::secret::Unresolved::new(
            Reason::ConnectorNotFound,
            "none of allowedConnectors is offered by the issuer: correct the names, or remove the field",
        ));
    }
    let Some(policy) = policy else {
        return (!wanted.is_empty()).then_some(wanted);
    };
    let allowed: BTreeSet<String> = policy.allowed_connectors.iter().cloned().collect();
    if signs_in && allowed.is_empty() {
        violates(findings, "the issuer's tenants.allowedConnectors is empty, so nobody could sign in: ask its administrator".to_owned());
    }
    for name in wanted.difference(&allowed) {
        violates(
            findings,
            format!(
                "connector {name} is not in the issuer's tenants.allowedConnectors: remove it, or ask the issuer's administrator"
            ),
        );
    }
    Some(if wanted.is_empty() { allowed } else { wanted.intersection(&allowed).cloned().collect() })
}

fn violates(findings: &mut Findings, message: String) {
    findings.reject(Reason::TenantPolicyViolation, message);
}
