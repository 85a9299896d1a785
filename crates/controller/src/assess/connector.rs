//! Connector → conditions, upstream and what to ask it.
//!
//! What always holds: a Connector reads only Secrets labelled `connector` in home; an upstream that
//! does not answer stays in service.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use claviger_api::condition::{ConditionType, Conditioned, Reason, Verdict};
use claviger_api::{Connector, ConnectorStatus, OIDCIssuer, Upstream, time};
use claviger_connectors::{BuildError, Resolved, build, config_map_ref, secret_refs};
use claviger_domain::connector::{Connector as DomainConnector, IdentityPolicy};
use kube::ResourceExt;

use crate::assess::claim_mapping::{MappingMemo, claim_mapping};
use crate::assess::findings::Findings;
use crate::assess::local_user::AssessedUser;
use crate::assess::unreadable::{Unreadable, UnreadableUser};
use crate::config_map;
use crate::probe::{ProbeResult, ProbeTarget, Probed};
use crate::secret::{self, Unresolved, Use};
use crate::upstream::{Cache, UpstreamKey};
use crate::world::{ObjectKey, Objects, World};

/// What came of one connector.
#[derive(Debug)]
pub struct AssessedConnector {
    /// The object.
    pub object: Arc<Connector>,
    /// What was found.
    pub findings: Findings,
    /// What requests see, if it is in service.
    pub connector: Option<Arc<DomainConnector>>,
    /// What to ask, if there is anything to ask.
    pub probe: Option<ProbeTarget>,
}

impl AssessedConnector {
    /// Whether there is something to say. While a new leader asks the upstream for the first time,
    /// what the one before said of this generation stands.
    pub fn is_settled(&self, world: &World) -> bool {
        let unasked =
            self.probe.as_ref().is_some_and(|probe| !world.probes.contains_key(&probe.key));
        let said = self.object.condition(ConditionType::Ready);
        !unasked
            || said.is_none_or(|said| said.observed_generation != self.object.metadata.generation)
    }

    /// The status but for its conditions.
    pub fn status(&self) -> ConnectorStatus {
        ConnectorStatus {
            observed_generation: self.object.metadata.generation,
            conditions: Vec::new(),
        }
    }
}

/// Assesses all connectors, by name.
pub fn assess(
    world: &World,
    users: &[AssessedUser],
    unreadable: &Unreadable,
    (cache, mappings): (&mut Cache, &mut MappingMemo),
    now: i64,
) -> BTreeMap<String, AssessedConnector> {
    mappings.turn();
    let sharing = sharing_an_issuer(&world.issuers);
    let assessed = world.connectors.values().map(|connector| {
        let mut findings = Findings::default();
        let policy = policy(connector, mappings, &mut findings);
        let users = (users, unreadable.users.as_slice());
        let mut assessed = assess_one(world, connector, users, (policy, findings), cache);
        if let Some(target) = &assessed.probe {
            judge(world.probes.get(&target.key), now, &mut assessed.findings);
        }
        if sharing.contains(&connector.name_any()) {
            warn_of_impersonation(&mut assessed);
        }
        (connector.name_any(), assessed)
    });
    let assessed = assessed.collect();
    cache.sweep();
    assessed
}

fn assess_one(
    world: &World,
    connector: &Arc<Connector>,
    users: (&[AssessedUser], &[UnreadableUser]),
    (policy, mut findings): (IdentityPolicy, Findings),
    cache: &mut Cache,
) -> AssessedConnector {
    let mut probe = None;
    let upstream = resolve(world, connector, users, &mut findings).and_then(|(key, resolved)| {
        let name = connector.name_any();
        match cache.get((&name, &key), || build(&name, &connector.spec, &resolved)) {
            Ok(upstream) => {
                let certificates = upstream.certificates.clone();
                let target = |probe| ProbeTarget { key, probe, certificates };
                probe = upstream.probe.clone().map(target);
                Some(upstream)
            }
            Err(error) => {
                refuse(&mut findings, &error);
                None
            }
        }
    });
    let spec = &connector.spec;
    if matches!(spec.upstream, Upstream::AuthProxy(_)) && !world.takes_proxies {
        findings.unready(
            Reason::ListenerDisabled,
            "nothing listens for trusted proxies: start Claviger with --auth-proxy-listen (in the chart, \
             authProxy.enabled: true)",
        );
    }
    let connector_in_service = upstream.filter(|_| findings.is_in_service()).map(|upstream| {
        Arc::new(DomainConnector {
            uid: connector.uid().unwrap_or_default(),
            name: connector.name_any(),
            display_name: spec.display_name.clone(),
            acr: spec.acr.clone(),
            policy,
            login: upstream.login,
            refresh: upstream.refresh,
            sign_out: upstream.sign_out,
        })
    });
    AssessedConnector {
        object: Arc::clone(connector),
        findings,
        connector: connector_in_service,
        probe,
    }
}

/// What the leader has learned of the upstream.
fn judge(probed: Option<&Probed>, now: i64, findings: &mut Findings) {
    let Some(probed) = probed else {
        return findings.unknown(Reason::NotProbed, "the upstream has not been asked yet");
    };
    if let ProbeResult::Failed { reason, message } = &probed.result {
        findings.unready(*reason, message);
    }
    let Some(certificate) = &probed.certificate else { return };
    let (server, end) = (&certificate.server, time::from_seconds(certificate.not_after).0);
    let fresh = ConditionType::UpstreamCertificateFresh;
    findings.also([if now < certificate.warning_from() {
        let message = format!("{server} shows a certificate that is good until {end}");
        Verdict::holds(fresh, Reason::CertificateFresh, message)
    } else {
        let message = format!(
            "the certificate that {server} shows ends at {end}, and nobody can sign in there afterwards: renew it"
        );
        Verdict::fails(fresh, Reason::UpstreamCertificateExpiring, message)
    }]);
}

/// What of the upstream's answers is let through.
fn policy(
    connector: &Connector,
    mappings: &mut MappingMemo,
    findings: &mut Findings,
) -> IdentityPolicy {
    let spec = &connector.spec;
    let (mapping, groups) = claim_mapping(connector, mappings, findings);
    IdentityPolicy {
        mapping,
        allowed_groups: spec.allowed_groups.iter().cloned().collect(),
        only_allowed_groups: matches!(spec.upstream, Upstream::AuthProxy(_)),
        groups,
        group_prefix: spec.group_prefix.clone().unwrap_or_default(),
        email_domains: spec.email_domains.iter().map(|d| d.to_lowercase()).collect(),
    }
}

/// Everything the connector needs, and the key that says which build of it that is.
fn resolve(
    world: &World,
    connector: &Connector,
    (users, unreadable): (&[AssessedUser], &[UnreadableUser]),
    findings: &mut Findings,
) -> Option<(UpstreamKey, Resolved)> {
    let mut resolved = Resolved::default();
    resolved.proxy.clone_from(&connector.spec.proxy_url);
    resolved.azure_federated_token_file.clone_from(&world.azure_federated_token_file);
    let mut inputs = BTreeSet::new();
    for reference in secret_refs(&connector.spec) {
        let (name, key) = (reference.name.as_str(), reference.key.as_str());
        let value = secret::resolve_value(world, &world.home, (name, key), Use::Connector);
        if let Some(value) = findings.resolved(value) {
            resolved.insert(name, key, value.to_vec());
            inputs.insert(secret_version(world, name));
        }
    }
    if let Some(at) = config_map_ref(&connector.spec) {
        let found = config_map::resolve(world, (&at.name, &at.key));
        if let Some((value, version)) = findings.resolved(found) {
            resolved.config_map = Some(value.to_owned());
            inputs.insert(version);
        }
    }
    if matches!(connector.spec.upstream, Upstream::Local(_)) {
        for user in users {
            inputs.insert(user.version.clone());
            match &user.row {
                Some(row) => resolved.local_users.push(row.clone()),
                None => {
                    resolved.suspended_users.insert(user.user_id.clone());
                }
            }
        }
        for user in unreadable {
            inputs.insert(user.version.clone());
            resolved.suspended_users.insert(user.user_id.clone());
        }
    }
    let key = UpstreamKey {
        uid: connector.uid().unwrap_or_default(),
        generation: connector.metadata.generation.unwrap_or_default(),
        inputs: inputs.into_iter().collect(),
    };
    findings.is_in_service().then_some((key, resolved))
}

fn secret_version(world: &World, name: &str) -> String {
    let secret = world.secrets.get(&ObjectKey::new(&world.home, name));
    let version = |secret: &Arc<_>| {
        let secret: &k8s_openapi::api::core::v1::Secret = secret;
        (secret.uid().unwrap_or_default(), secret.resource_version().unwrap_or_default())
    };
    let (uid, version) = secret.map(version).unwrap_or_default();
    format!("{name}/{uid}@{version}")
}

/// What a Secret holds is a matter of references, everything else of the spec.
fn refuse(findings: &mut Findings, error: &BuildError) {
    match error {
        BuildError::SecretMissing { .. } => {
            findings.unresolved(Unresolved::new(Reason::SecretKeyNotFound, error.to_string()));
        }
        BuildError::ConfigMapMissing { .. } => {
            findings.unresolved(Unresolved::new(Reason::ConfigMapKeyNotFound, error.to_string()));
        }
        BuildError::SecretUnusable { .. } => {
            findings.unresolved(Unresolved::new(Reason::SecretInvalid, error.to_string()));
        }
        _ => findings.reject(Reason::InvalidSpec, error.to_string()),
    }
}

/// Names of connectors that are not alone at some issuer.
fn sharing_an_issuer(issuers: &Objects<OIDCIssuer>) -> BTreeSet<String> {
    issuers
        .values()
        .filter(|issuer| issuer.spec.connectors.len() > 1)
        .flat_map(|issuer| issuer.spec.connectors.iter().map(|connector| connector.name.clone()))
        .collect()
}

fn warn_of_impersonation(assessed: &mut AssessedConnector) {
    let spec = &assessed.object.spec;
    let distinct = !spec.email_domains.is_empty()
        || !spec.allowed_groups.is_empty()
        || spec.group_prefix.as_ref().is_some_and(|prefix| !prefix.is_empty());
    if !distinct {
        assessed.findings.warn(
            Reason::ImpersonationPossible,
            "shares an issuer with other connectors, so its users could pass for theirs: set emailDomains, groupPrefix or allowedGroups",
        );
    }
}
