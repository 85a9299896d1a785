//! OIDCIssuer → conditions and the issuer requests see.
//!
//! What always holds: a connector that is missing or broken never takes its issuer out of service;
//! without a key that signs, a ring that seals or its certificate an issuer is out of service; of
//! two issuers with one URL the oldest has it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use claviger_api::condition::Reason;
use claviger_api::{InsecureHttp, OIDCIssuer, OIDCIssuerStatus};
use claviger_domain::browser_session::BrowserSessions;
use claviger_domain::custom_claim::CustomClaims;
use claviger_domain::device::DevicePolicy;
use claviger_domain::issuer::{
    ClientEntry, Issuer, IssuerUrl, Lifetimes, SessionLimits, TlsIdentity,
};
use claviger_domain::keys::SigningKeys;
use claviger_domain::registration::Registration;
use claviger_jose::{Algorithm, KeySet, Signer};
use kube::ResourceExt;
use secrecy::SecretString;

use crate::assess::age::by_age;
use crate::assess::client_requests::domain_response_type;
use crate::assess::condition::subject_format;
use crate::assess::connector::AssessedConnector;
use crate::assess::custom_claims::{ClaimMemo, custom_claims};
use crate::assess::findings::Findings;
use crate::assess::grants::domain_grant;
use crate::assess::registration::registration;
use crate::assess::sealing::Sealing;
use crate::assess::signing_key::AssessedSigningKey;
use crate::assess::unreadable::Unreadable;
use crate::moment::Moment;
use crate::secret::{self, Unresolved, Use};
use crate::world::World;

/// What issuers are made of.
#[derive(Debug)]
pub struct Parts<'a> {
    /// Connectors by name.
    pub connectors: &'a BTreeMap<String, AssessedConnector>,
    /// Signing keys by name.
    pub signing_keys: &'a BTreeMap<String, AssessedSigningKey>,
    /// The ring that seals.
    pub sealing: &'a Sealing,
    /// What cannot be decoded.
    pub unreadable: &'a Unreadable,
    /// When this is assessed.
    pub at: Moment,
    /// How long a copy of the JWKS may be kept, in seconds.
    pub max_age: u32,
}

/// The keys of one issuer.
#[derive(Debug, Clone)]
pub struct IssuerKeys {
    /// What is published.
    pub key_set: KeySet,
    /// What signs.
    pub signers: BTreeMap<Algorithm, Arc<Signer>>,
    /// Algorithms something signs with.
    pub algorithms: BTreeSet<Algorithm>,
    /// What signs for clients that ask for nothing else.
    pub default_algorithm: Algorithm,
}

/// What came of one issuer.
#[derive(Debug)]
pub struct AssessedIssuer {
    /// The object.
    pub object: Arc<OIDCIssuer>,
    /// What was found.
    pub findings: Findings,
    /// Its keys, if one signs.
    pub keys: Option<IssuerKeys>,
    custom_claims: CustomClaims,
    url: Option<IssuerUrl>,
    tls: Option<Arc<TlsIdentity>>,
    registration: Option<Registration>,
}

/// Assesses all issuers, by name.
pub fn assess(
    world: &World,
    parts: &Parts<'_>,
    claims: &mut ClaimMemo,
) -> BTreeMap<String, AssessedIssuer> {
    claims.turn();
    let mut taken: BTreeMap<(String, String), String> = BTreeMap::new();
    by_age(&world.issuers)
        .map(|object| {
            let mut assessed = assess_one(world, object, parts, claims);
            if let Some(url) = &assessed.url {
                let name = object.name_any();
                let place = (bare_authority(url), url.path().to_owned());
                let holder = taken.entry(place).or_insert_with(|| name.clone());
                if *holder != name {
                    assessed.findings.reject(
                        Reason::IssuerURLConflict,
                        format!("url {} belongs to the older OIDCIssuer {holder}: remove one of the two", url.as_str()),
                    );
                }
            }
            (object.name_any(), assessed)
        })
        .collect()
}

/// Host and port, without a port that goes without saying.
fn bare_authority(url: &IssuerUrl) -> String {
    let authority = url.authority();
    let default = if url.is_https() { ":443" } else { ":80" };
    authority.strip_suffix(default).map(ToOwned::to_owned).unwrap_or(authority)
}

fn assess_one(
    world: &World,
    object: &Arc<OIDCIssuer>,
    parts: &Parts<'_>,
    claims: &mut ClaimMemo,
) -> AssessedIssuer {
    let mut findings = Findings::default();
    let url = issuer_url(object, &mut findings);
    if let Some(complaint) = parts.sealing.complaint() {
        findings.unresolved(Unresolved::new(Reason::SecretNotFound, complaint));
    }
    for remark in parts.sealing.remarks() {
        findings.warn(Reason::SecretInvalid, remark);
    }
    let keys = issuer_keys(object, parts, &mut findings);
    check_connectors(object, parts, &mut findings);
    let custom_claims = custom_claims(object, claims, &mut findings);
    let tls =
        object.spec.tls.as_ref().and_then(|tls| {
            findings.resolved(tls_identity(world, &tls.secret_ref.name)).map(Arc::new)
        });
    let registration = registration(world, object, &mut findings);
    AssessedIssuer {
        object: Arc::clone(object),
        findings,
        keys,
        custom_claims,
        registration,
        url,
        tls,
    }
}

fn issuer_url(object: &OIDCIssuer, findings: &mut Findings) -> Option<IssuerUrl> {
    match IssuerUrl::parse(&object.spec.url) {
        Ok(url) if url.is_https() || object.spec.insecure_http == InsecureHttp::Allowed => {
            Some(url)
        }
        Ok(_) => {
            findings.reject(
                Reason::InvalidSpec,
                "url must begin with https://; for a test without TLS set insecureHTTP to Allowed",
            );
            None
        }
        Err(error) => {
            findings.reject(Reason::InvalidSpec, format!("url: {error}"));
            None
        }
    }
}

/// All keys are published; the first `SigningKey` must be able to sign.
fn issuer_keys(
    object: &OIDCIssuer,
    parts: &Parts<'_>,
    findings: &mut Findings,
) -> Option<IssuerKeys> {
    let mut public = Vec::new();
    let mut signers: BTreeMap<Algorithm, Arc<Signer>> = BTreeMap::new();
    let mut default_algorithm = None;
    for (index, reference) in object.spec.signing_keys.iter().enumerate() {
        let name = &reference.name;
        let usable = match parts.signing_keys.get(name) {
            None => Err(Unresolved::new(
                Reason::SigningKeyNotFound,
                format!("SigningKey {name} not found: create it, or correct signingKeys"),
            )),
            Some(key) => key.ring.as_ref().map(|ring| (key, ring)).ok_or_else(|| not_ready(name)),
        };
        let signing = usable.and_then(|(key, ring)| {
            public.extend(ring.public(&key.revoked, parts.at.certainly_past()));
            ring.signer(&key.revoked).ok_or_else(|| not_ready(name))
        });
        match signing {
            Ok(signer) => {
                default_algorithm = default_algorithm.or(Some(signer.algorithm()));
                signers.entry(signer.algorithm()).or_insert_with(|| Arc::clone(signer));
            }
            Err(unresolved) if index == 0 => findings.unresolved(unresolved),
            Err(unresolved) => findings.unready(unresolved.reason, unresolved.message),
        }
    }
    Some(IssuerKeys {
        key_set: KeySet::new(public),
        algorithms: signers.keys().copied().collect(),
        signers,
        default_algorithm: default_algorithm?,
    })
}

fn not_ready(name: &str) -> Unresolved {
    Unresolved::new(
        Reason::SigningKeyNotReady,
        format!("SigningKey {name} has no key that signs: see its conditions"),
    )
}

fn check_connectors(object: &OIDCIssuer, parts: &Parts<'_>, findings: &mut Findings) {
    for reference in &object.spec.connectors {
        let name = &reference.name;
        match parts.connectors.get(name) {
            None if parts.unreadable.connectors.contains_key(name) => findings.unready(
                Reason::ConnectorNotReady,
                format!("Connector {name} does not fit its schema: apply it again"),
            ),
            None => findings.unready(
                Reason::ConnectorNotFound,
                format!("Connector {name} not found: create it, or correct connectors"),
            ),
            Some(connector) if connector.connector.is_none() => findings.unready(
                Reason::ConnectorNotReady,
                format!("Connector {name} is out of service: see its conditions"),
            ),
            Some(_) => {}
        }
    }
}

fn tls_identity(world: &World, name: &str) -> Result<TlsIdentity, Unresolved> {
    let pem = |key: &str, marker: &str| {
        let bytes = secret::resolve_value(world, &world.home, (name, key), Use::Tls)?;
        let text = std::str::from_utf8(bytes).ok().filter(|text| text.contains(marker));
        text.map(ToOwned::to_owned).ok_or_else(|| {
            Unresolved::new(
                Reason::SecretInvalid,
                format!("Secret {}/{name}: {key} is no PEM with {marker}", world.home),
            )
        })
    };
    Ok(TlsIdentity {
        certificate_pem: pem("tls.crt", "-----BEGIN CERTIFICATE-----")?,
        key_pem: SecretString::from(pem("tls.key", "PRIVATE KEY-----")?),
    })
}

impl AssessedIssuer {
    /// `metadata.name`.
    pub fn name(&self) -> &str {
        self.object.metadata.name.as_deref().unwrap_or_default()
    }

    /// The URL it asks for, whether it may have it or not.
    pub fn wanted_url(&self) -> Option<IssuerUrl> {
        IssuerUrl::parse(&self.object.spec.url).ok()
    }

    /// The status but for its conditions.
    pub fn status(&self) -> OIDCIssuerStatus {
        OIDCIssuerStatus {
            observed_generation: self.object.metadata.generation,
            jwks_uri: self.url.as_ref().map(|url| url.join("/keys")),
            conditions: Vec::new(),
        }
    }

    /// The issuer requests see, if it is in service. A stale one signs nothing and says that its
    /// keys must not be kept.
    pub fn serve(
        &self,
        parts: &Parts<'_>,
        clients: HashMap<String, ClientEntry>,
        stale: bool,
    ) -> Option<Arc<Issuer>> {
        if !self.findings.is_in_service() {
            return None;
        }
        let spec = &self.object.spec;
        let keys = self.keys.as_ref()?;
        let named = || spec.connectors.iter().filter_map(|c| parts.connectors.get(&c.name));
        let unreadable =
            spec.connectors.iter().filter_map(|c| parts.unreadable.connectors.get(&c.name));
        let unreadable = unreadable.cloned();
        let signing = SigningKeys {
            jwks: Arc::from(keys.key_set.to_json()),
            key_set: Arc::new(keys.key_set.clone()),
            signers: if stale { BTreeMap::new() } else { keys.signers.clone() },
            default_algorithm: keys.default_algorithm,
            max_age_seconds: if stale { 0 } else { parts.max_age },
        };
        let branding = spec.branding.as_ref();
        let title = branding.and_then(|branding| branding.title.clone());
        Some(Arc::new(Issuer {
            uid: self.object.uid().unwrap_or_default(),
            name: self.name().to_owned(),
            url: self.url.clone()?,
            title: title
                .or_else(|| spec.display_name.clone())
                .unwrap_or_else(|| self.name().to_owned()),
            logo_url: branding.and_then(|branding| branding.logo_url.clone()),
            clients,
            connectors: named().filter_map(|c| c.connector.clone()).collect(),
            unavailable_connectors: named()
                .filter(|connector| connector.connector.is_none())
                .filter_map(|connector| connector.object.uid())
                .chain(unreadable)
                .collect(),
            callback_connector: spec.default_callback_connector.clone(),
            keys: Arc::new(signing),
            sealing: Arc::clone(parts.sealing.ring()?),
            lifetimes: lifetimes(&spec.lifetimes),
            session_limits: session_limits(spec.session_limits),
            devices: devices(spec.device_authorizations),
            grants: spec.grants.iter().copied().map(domain_grant).collect(),
            response_types: spec.response_types.iter().copied().map(domain_response_type).collect(),
            browser_sessions: spec.browser_sessions.map(browser_sessions),
            registration: self.registration.clone(),
            subject: subject_format(&self.object),
            custom_claims: self.custom_claims.clone(),
            allowed_system_values: spec.allowed_system_values.iter().cloned().collect(),
            cors_allowed_origins: spec
                .cors
                .iter()
                .flat_map(|cors| cors.allowed_origins.iter().cloned())
                .collect(),
            tls: self.tls.clone(),
        }))
    }
}

fn browser_sessions(spec: claviger_api::BrowserSessions) -> BrowserSessions {
    let absolute = i64::from(spec.absolute_seconds);
    BrowserSessions {
        idle: i64::from(spec.idle_seconds).min(absolute),
        absolute,
        consent: i64::from(spec.remember_consent_seconds),
    }
}

fn session_limits(spec: claviger_api::SessionLimits) -> SessionLimits {
    SessionLimits {
        per_user: spec.per_user.unsigned_abs(),
        per_client: spec.per_client.unsigned_abs(),
        total: spec.total.unsigned_abs(),
    }
}

fn devices(spec: claviger_api::DeviceAuthorizations) -> DevicePolicy {
    let count = |number: i32| usize::try_from(number).unwrap_or_default();
    DevicePolicy {
        lifetime: i64::from(spec.lifetime_seconds),
        per_client: count(spec.per_client),
        total: count(spec.total),
    }
}

fn lifetimes(spec: &claviger_api::Lifetimes) -> Lifetimes {
    Lifetimes {
        id_token: i64::from(spec.id_token_lifetime_seconds),
        access_token: i64::from(spec.access_token_lifetime_seconds),
        refresh_idle: i64::from(spec.refresh_token_idle_seconds)
            .min(i64::from(spec.refresh_token_absolute_seconds)),
        refresh_absolute: i64::from(spec.refresh_token_absolute_seconds),
        refresh_grace: i64::from(spec.refresh_grace_seconds),
    }
}
