//! Which connector checks the passwords that a client was told: the one it names, if its users may sign in there and it
//! takes passwords at all.

use std::collections::BTreeSet;

use claviger_api::condition::Reason;
use claviger_api::{ClientType, OAuth2ClientSpec, TenantConsent, TenantPolicy, Upstream};
use claviger_domain::client::Grant;
use kube::ResourceExt;

use crate::assess::findings::Findings;
use crate::assess::issuer::AssessedIssuer;
use crate::world::World;

/// The connector's name, where the grant is granted. `allowed` are the connectors whose users may sign in; `None`
/// is all that the issuer offers.
pub fn password_connector(
    world: &World,
    (spec, policy): (&OAuth2ClientSpec, Option<&TenantPolicy>),
    issuer: &AssessedIssuer,
    (grants, allowed): (&BTreeSet<Grant>, Option<&BTreeSet<String>>),
    findings: &mut Findings,
) -> Option<String> {
    if !spec.grants.contains(&claviger_api::Grant::Password) {
        return None;
    }
    if spec.type_ == ClientType::Public {
        findings.reject(
            Reason::InvalidSpec,
            "grant password is for type Confidential: remove it, or set type to Confidential",
        );
    }
    if policy.is_some_and(|policy| policy.consent == TenantConsent::Required) {
        findings.reject(
            Reason::TenantPolicyViolation,
            "grant password asks nobody for consent, which tenants.consent of the issuer requires: remove the grant",
        );
    }
    let Some(name) = spec.password_grant.as_ref().map(|grant| &grant.connector) else {
        findings.reject(
            Reason::InvalidSpec,
            "grant password needs passwordGrant.connector: add it, or remove the grant",
        );
        return None;
    };
    let offered = issuer.object.spec.connectors.iter().any(|connector| connector.name == *name);
    if !offered || allowed.is_some_and(|allowed| !allowed.contains(name)) {
        findings.reject(
            Reason::InvalidSpec,
            format!("passwordGrant.connector: {name} is not among the connectors this client's users may sign in with: correct the name, or add it to allowedConnectors and to the issuer's connectors (and tenants.allowedConnectors)"),
        );
    }
    let connector = world.connectors.values().find(|connector| connector.name_any() == *name);
    if connector.is_some_and(|connector| !takes_passwords(&connector.spec.upstream)) {
        findings.reject(
            Reason::InvalidSpec,
            format!(
                "passwordGrant.connector: {name} takes no passwords: name one of kind local, ldap, activeDirectory, keystone or atlassianCrowd"
            ),
        );
    }
    grants.contains(&Grant::Password).then(|| name.clone())
}

fn takes_passwords(upstream: &Upstream) -> bool {
    match upstream {
        Upstream::Local(_)
        | Upstream::Ldap(_)
        | Upstream::ActiveDirectory(_)
        | Upstream::Keystone(_)
        | Upstream::AtlassianCrowd(_) => true,
        Upstream::AuthProxy(_)
        | Upstream::Oidc(_)
        | Upstream::Google(_)
        | Upstream::Microsoft(_)
        | Upstream::Linkedin(_)
        | Upstream::Saml(_)
        | Upstream::Github(_)
        | Upstream::Gitlab(_)
        | Upstream::Gitea(_)
        | Upstream::BitbucketCloud(_)
        | Upstream::OAuth2(_)
        | Upstream::Openshift(_) => false,
    }
}
