//! Credentials that Claviger makes for a client, ready for `envFrom`.
//!
//! What always holds: the Secret is owned by its client and dies with it; only one that is owned by
//! this very client, by UID, is ever changed.

use aws_lc_rs::rand;
use claviger_api::{OAuth2Client, labels};
use data_encoding::BASE64URL_NOPAD;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};

use super::{Done, ReconcileError, Reconciler, secret_for};
use crate::assess::client_secret::ClientSecret;
use crate::secret::Use;

/// Bytes of randomness in a secret: 256 bits.
const ENTROPY: usize = 32;
/// Longest label value Kubernetes takes.
const LONGEST_LABEL: usize = 63;

/// Brings one generated Secret to what its client wants.
///
/// # Errors
/// [`ReconcileError`].
pub async fn reconcile(
    reconciler: &mut Reconciler,
    secret: &ClientSecret,
) -> Result<Done, ReconcileError> {
    let fresh = generate()?;
    let Some(wanted) = secret.wanted(|| fresh) else {
        return Ok(Done::Settled);
    };
    let observed = secret.observed.as_deref();
    if observed.is_none() && reconciler.is_taken(&secret.key).await? {
        return Ok(Done::Again);
    }
    let mut body = secret_for(&secret.key, observed, Use::Client, wanted.data);
    body.annotations_mut().insert(labels::ROTATION.to_owned(), wanted.rotation);
    if secret.client.len() <= LONGEST_LABEL {
        body.labels_mut().insert(labels::CLIENT.to_owned(), secret.client.clone());
    }
    if observed.is_none() {
        body.metadata.owner_references = Some(vec![owner(secret)]);
    }
    reconciler.write(&secret.key, observed, &body).await
}

fn owner(secret: &ClientSecret) -> OwnerReference {
    OwnerReference {
        api_version: OAuth2Client::api_version(&()).into_owned(),
        kind: OAuth2Client::kind(&()).into_owned(),
        name: secret.client.clone(),
        uid: secret.client_uid.clone(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

fn generate() -> Result<String, ReconcileError> {
    let mut random = [0; ENTROPY];
    rand::fill(&mut random).map_err(|_| ReconcileError::Key("no randomness".into()))?;
    Ok(BASE64URL_NOPAD.encode(&random))
}
