//! Who gets tokens at a client without being a user: workloads that other issuers vouch for, and `ServiceAccounts`.
//!
//! What always holds: outside home no issuer is believed that the OIDCIssuer's `tenants` does not list, by no
//! other keys than its own and for no other audience than Claviger; no ServiceAccount of another namespace comes;
//! and no group is given but below the namespace's own name.

use claviger_api::condition::Reason;
use claviger_api::{OAuth2ClientSpec, ServiceAccountRef, TenantPolicy, TrustedIssuer};
use claviger_domain::client::ServiceAccount;
use claviger_domain::trusted_issuer::{self, GroupsClaim};
use claviger_domain::workload::AllowedWorkloads;

use crate::assess::algorithm;
use crate::assess::findings::Findings;

/// Where a client is, and what bounds it.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// URL of its issuer.
    pub issuer_url: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// The bounds, outside home.
    pub tenant: Option<&'a TenantPolicy>,
}

/// The workloads a client brings.
pub fn workloads(
    spec: &OAuth2ClientSpec,
    place: Place<'_>,
    findings: &mut Findings,
) -> AllowedWorkloads {
    let trusted = spec.trusted_issuers.iter();
    let trusted_issuers = trusted.map(|entry| trusted_issuer(entry, place, findings)).collect();
    let brought_by = spec.exchange_workloads_from.iter().cloned().collect();
    let Some(bearer) = &spec.jwt_bearer else {
        return AllowedWorkloads { trusted_issuers, brought_by, ..AllowedWorkloads::default() };
    };
    check_groups("jwtBearer.groups", &bearer.groups, place, findings);
    let accounts = bearer.service_accounts.iter();
    AllowedWorkloads {
        trusted_issuers,
        brought_by,
        service_accounts: accounts
            .filter_map(|account| service_account(account, place, findings))
            .collect(),
        service_account_groups: bearer.groups.clone(),
    }
}

fn trusted_issuer(
    entry: &TrustedIssuer,
    place: Place<'_>,
    findings: &mut Findings,
) -> trusted_issuer::TrustedIssuer {
    let TrustedIssuer { name, issuer, .. } = entry;
    if issuer == place.issuer_url {
        findings.reject(
            Reason::InvalidSpec,
            format!("trustedIssuers: {name} is this issuer itself, whose tokens are exchanged anyway: remove it"),
        );
    }
    check_tenant(entry, place, findings);
    trusted_issuer::TrustedIssuer {
        issuer: issuer.clone(),
        audience: entry.audience.clone().unwrap_or_else(|| place.issuer_url.to_owned()),
        jwks_uri: entry.jwks_uri.clone(),
        algorithms: entry.algorithms.iter().map(|wanted| algorithm(*wanted)).collect(),
        rules: entry
            .claims
            .iter()
            .map(|rule| (rule.claim.clone(), rule.values.iter().cloned().collect()))
            .collect(),
        groups: entry.groups.clone(),
        groups_claim: entry
            .groups_from
            .as_ref()
            .map(|from| GroupsClaim { claim: from.claim.clone(), prefix: from.prefix.clone() }),
        max_life: entry.max_token_lifetime_seconds.into(),
    }
}

fn check_tenant(entry: &TrustedIssuer, place: Place<'_>, findings: &mut Findings) {
    let Some(policy) = place.tenant else { return };
    let TrustedIssuer { name, issuer, .. } = entry;
    let mut violated = |why: String| {
        findings.reject(Reason::TenantPolicyViolation, format!("trustedIssuers: {name}: {why}"));
    };
    if !policy.allowed_trusted_issuers.contains(issuer) {
        violated(format!(
            "{issuer} is not in the issuer's tenants.allowedTrustedIssuers: remove it, or ask the issuer's administrator"
        ));
    }
    if entry.jwks_uri.is_some() {
        violated("jwksURI is for clients in the issuer's own namespace: remove it, the keys are found by discovery".to_owned());
    }
    if entry.audience.is_some() {
        violated("audience is for clients in the issuer's own namespace: remove it, and let the tokens be made for the issuer's URL".to_owned());
    }
    let prefix = entry.groups_from.as_ref().map(|from| &from.prefix);
    if let Some(prefix) = prefix.filter(|p| !p.starts_with(&own_groups(place.namespace))) {
        violated(format!(
            "groupsFrom.prefix {prefix:?} must begin with {:?}: lengthen it",
            own_groups(place.namespace)
        ));
    }
    check_groups(&format!("trustedIssuers: {name}: groups"), &entry.groups, place, findings);
}

/// Outside home, no group but below the namespace's own name.
fn check_groups(field: &str, groups: &[String], place: Place<'_>, findings: &mut Findings) {
    let own = own_groups(place.namespace);
    let is_below = |group: &str| group.strip_prefix(&own).is_some_and(|rest| !rest.is_empty());
    for group in groups.iter().filter(|group| place.tenant.is_some() && !is_below(group)) {
        findings.reject(
            Reason::TenantPolicyViolation,
            format!(
                "{field}: {group:?} must begin with {own:?} and go on: rename it, or remove it"
            ),
        );
    }
}

fn own_groups(namespace: &str) -> String {
    format!("{namespace}:")
}

fn service_account(
    account: &ServiceAccountRef,
    place: Place<'_>,
    findings: &mut Findings,
) -> Option<ServiceAccount> {
    let own = place.namespace;
    let namespace = account.namespace.as_deref().unwrap_or(own);
    if namespace != own && place.tenant.is_some() {
        findings.reject(
            Reason::TenantPolicyViolation,
            format!("jwtBearer.serviceAccounts: {namespace}/{} is not of the client's own namespace, {own}: remove it, or make the client in namespace {namespace}", account.name),
        );
        return None;
    }
    Some(ServiceAccount {
        subject: format!("system:serviceaccount:{namespace}:{}", account.name),
        uid: account.uid.clone(),
    })
}
