//! How a client proves who it is → what requests hold its proof against.
//!
//! What always holds: the method that is named decides, and nothing of another is taken; a client
//! outside home is no ServiceAccount but one of its own namespace, and has its keys asked for nowhere
//! but where its issuer's `tenants` says; inline keys are read once a generation.

use std::collections::BTreeSet;
use std::sync::Arc;

use claviger_api::condition::Reason;
use claviger_api::{
    ClientAuthenticationMethod, ClientType, JsonWebKey, JsonWebKeySet, OAuth2Client,
    OAuth2ClientSpec, ServiceAccountRef, TenantPolicy,
};
use claviger_domain::client::{ClientAuthentication, ClientKeys, ServiceAccount};
use claviger_domain::host::{admits_host, host_of};
use claviger_jose::{KeySet, PublicKey};
use kube::ResourceExt;
use serde_json::Value;

use crate::assess::client_secret::{self, ClientSecret};
use crate::assess::findings::Findings;
use crate::assess::read_before::ReadBefore;
use crate::world::World;

/// Inline keys that were read before, of a client's generation.
pub type KeyMemo = ReadBefore<Option<i64>, Result<Arc<KeySet>, String>>;

/// Whether a client that can keep a proof has one, and one that cannot has none.
pub fn check_fits_type(spec: &OAuth2ClientSpec, findings: &mut Findings) {
    let has_proof = spec.authentication.as_ref().is_some_and(|a| {
        a.secret_ref.is_some()
            || a.generated_secret.is_some()
            || a.jwks.is_some()
            || a.jwks_uri.is_some()
            || a.service_account.is_some()
    });
    match spec.type_ {
        ClientType::Public if has_proof => findings.reject(
            Reason::InvalidSpec,
            "a Public client cannot keep a secret: remove authentication, or set type to Confidential",
        ),
        ClientType::Confidential if !has_proof => findings.reject(
            Reason::InvalidSpec,
            "a Confidential client needs authentication: add secretRef, generatedSecret, jwks, jwksURI or serviceAccount, or set type to Public",
        ),
        _ => {}
    }
}

/// A client whose proof is assessed.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Everything known.
    pub world: &'a World,
    /// The client.
    pub client: &'a OAuth2Client,
    /// Its client ID and its issuer's URL.
    pub identity: (&'a str, &'a str),
    /// What bounds it, if it is outside home.
    pub policy: Option<&'a TenantPolicy>,
}

/// What the client's proof is held against, and the Secret to keep for it.
pub fn assess(
    subject: Subject<'_>,
    memo: &mut KeyMemo,
    findings: &mut Findings,
) -> (Option<ClientAuthentication>, Option<ClientSecret>) {
    let spec = &subject.client.spec;
    if spec.type_ == ClientType::Public {
        return (Some(ClientAuthentication::Public), None);
    }
    let Some(authentication) = &spec.authentication else {
        return (None, None);
    };
    match authentication.method {
        ClientAuthenticationMethod::None => (None, None),
        ClientAuthenticationMethod::ClientSecretBasic
        | ClientAuthenticationMethod::ClientSecretPost => {
            client_secret::assess(subject.world, subject.client, subject.identity, findings)
        }
        ClientAuthenticationMethod::PrivateKeyJwt => {
            let keys = match (&authentication.jwks, &authentication.jwks_uri) {
                (Some(jwks), None) => memo
                    .get(subject.client.uid(), subject.client.metadata.generation, || {
                        key_set(jwks).map(Arc::new)
                    })
                    .map(ClientKeys::Inline)
                    .map_err(|why| findings.reject(Reason::InvalidSpec, why))
                    .ok(),
                (None, Some(uri)) => published(uri, subject.policy, findings),
                _ => None,
            };
            (keys.map(ClientAuthentication::Keys), None)
        }
        ClientAuthenticationMethod::KubernetesServiceAccount => {
            let account = authentication.service_account.as_ref();
            let account = account.and_then(|account| service_account(account, subject, findings));
            (account.map(ClientAuthentication::ServiceAccount), None)
        }
    }
}

fn key_set(jwks: &JsonWebKeySet) -> Result<KeySet, String> {
    let keys = jwks.keys.iter().enumerate().map(|(at, key)| {
        public_key(key).map_err(|why| format!("authentication.jwks.keys[{at}]: {why}"))
    });
    let keys = keys.collect::<Result<Vec<PublicKey>, String>>()?;
    let ids: BTreeSet<&str> = keys.iter().map(PublicKey::kid).collect();
    if ids.len() < keys.len() {
        return Err("authentication.jwks: two keys have one kid: give each its own".to_owned());
    }
    Ok(KeySet::new(keys))
}

fn public_key(key: &JsonWebKey) -> Result<PublicKey, String> {
    if key.d.is_some() || key.k.is_some() {
        return Err(
            "it is a private or symmetric key: make another, and give its public half".into()
        );
    }
    match serde_json::to_value(key) {
        Ok(Value::Object(members)) => {
            PublicKey::from_jwk(&members).map_err(|error| error.to_string())
        }
        _ => Err("it cannot be read".to_owned()),
    }
}

fn published(
    uri: &str,
    policy: Option<&TenantPolicy>,
    findings: &mut Findings,
) -> Option<ClientKeys> {
    let host = host_of(uri).filter(|_| uri.starts_with("https://"));
    let Some(host) = host else {
        findings.reject(Reason::InvalidSpec, format!("jwksURI {uri:?} is no https URL of a host"));
        return None;
    };
    if policy.is_none_or(|policy| admits_host(&policy.allowed_jwks_uri_hosts, &host)) {
        return Some(ClientKeys::At(uri.to_owned()));
    }
    findings.reject(
        Reason::TenantPolicyViolation,
        format!("the host of jwksURI {uri:?} is not in the issuer's tenants.allowedJWKSURIHosts: put the keys in jwks, or ask the issuer's administrator"),
    );
    None
}

fn service_account(
    account: &ServiceAccountRef,
    subject: Subject<'_>,
    findings: &mut Findings,
) -> Option<ServiceAccount> {
    let own = subject.client.namespace().unwrap_or_default();
    let namespace = account.namespace.as_deref().unwrap_or(&own);
    if namespace != own && own != subject.world.home {
        findings.reject(
            Reason::TenantPolicyViolation,
            format!("serviceAccount.namespace must be the client's own, {own}: remove it, or make the client in namespace {namespace}"),
        );
        return None;
    }
    Some(ServiceAccount {
        subject: format!("system:serviceaccount:{namespace}:{}", account.name),
        uid: account.uid.clone(),
    })
}
