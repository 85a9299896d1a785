//! [`Registry`] over `OAuth2Client`s, and the Secrets of those that have one.
//!
//! What always holds: a Secret is owned by its client, so that Kubernetes deletes it with it; nothing is written
//! but at the UID and version that were read.

mod spec;

use async_trait::async_trait;
use claviger_api::{OAuth2Client, labels};
use claviger_domain::registry::{Change, KeptClient, NewClient, Place, Registry, RegistryError};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams, Preconditions};
use kube::{Client, Resource};
use secrecy::{ExposeSecret, SecretString};

use crate::request::{Failure, within};

/// Name under which our writes stand in `managedFields`.
const FIELD_MANAGER: &str = "claviger-registration";

/// Clients as Kubernetes objects.
#[derive(Clone)]
pub struct KubeRegistry {
    client: Client,
    home: String,
}

impl std::fmt::Debug for KubeRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubeRegistry").finish_non_exhaustive()
    }
}

impl KubeRegistry {
    /// Clients of issuers in `home`; `client` must be a [`crate::request_path_client`].
    pub fn new(client: Client, home: &str) -> Self {
        Self { client, home: home.to_owned() }
    }

    fn clients(&self, place: &Place) -> Api<OAuth2Client> {
        Api::namespaced(self.client.clone(), &place.namespace)
    }

    async fn get(&self, place: &Place, uid: &str) -> Result<OAuth2Client, RegistryError> {
        let object = within(self.clients(place).get(&place.name)).await.map_err(error)?;
        let is_it = object.metadata.uid.as_deref() == Some(uid);
        if is_it { Ok(object) } else { Err(RegistryError::Gone) }
    }

    /// Deletes what a create whose answer was lost may have made.
    async fn take_back(&self, client: &NewClient) {
        let found = within(self.clients(&client.place).get(&client.place.name)).await;
        let ours = |object: &OAuth2Client| {
            let registration = object.spec.registration.as_ref();
            registration.is_some_and(|known| known.access_token_digest == client.token_digest)
        };
        let Some(object) = found.ok().filter(ours) else { return };
        let uid = object.metadata.uid.unwrap_or_default();
        if let Err(error) = self.delete(&client.place, &uid).await {
            let name = &client.place.name;
            tracing::warn!(name, %error, "a client that nobody was told of could not be deleted");
        }
    }

    /// Makes the Secret that the client refers to; where that fails the client goes too.
    async fn keep_secret(
        &self,
        place: &Place,
        client: &OAuth2Client,
        secret: &SecretString,
    ) -> Result<(), RegistryError> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &place.namespace);
        let object = secret_object(client, secret);
        let Err(failure) = within(secrets.create(&params(), &object)).await else { return Ok(()) };
        let uid = client.metadata.uid.clone().unwrap_or_default();
        if let Err(error) = self.delete(place, &uid).await {
            let name = &place.name;
            tracing::warn!(name, %error, "a client without its secret could not be deleted");
        }
        Err(creation_error(failure, place))
    }
}

#[async_trait]
impl Registry for KubeRegistry {
    async fn create(&self, client: &NewClient) -> Result<String, RegistryError> {
        let object = spec::object(client, &self.home)?;
        let created = match within(self.clients(&client.place).create(&params(), &object)).await {
            Ok(created) => created,
            Err(failure) => {
                if let Failure::Unanswered(_) = &failure {
                    self.take_back(client).await;
                }
                return Err(creation_error(failure, &client.place));
            }
        };
        if let Some(secret) = &client.secret {
            self.keep_secret(&client.place, &created, secret).await?;
        }
        Ok(created.metadata.uid.unwrap_or_default())
    }

    async fn read(&self, place: &Place, uid: &str) -> Result<KeptClient, RegistryError> {
        Ok(spec::kept(&self.get(place, uid).await?))
    }

    async fn replace(
        &self,
        place: &Place,
        uid: &str,
        change: Change<'_>,
    ) -> Result<i64, RegistryError> {
        // With the UID and version that were read: what somebody wrote in between is a conflict.
        let mut object = self.get(place, uid).await?;
        let kept = spec::kept(&object);
        let registered_at = kept.registered_at;
        spec::say(&mut object.spec, change.after(kept)?)?;
        let written = within(self.clients(place).replace(&place.name, &params(), &object)).await;
        written.map(|_| registered_at).map_err(error)
    }

    async fn delete(&self, place: &Place, uid: &str) -> Result<(), RegistryError> {
        let exactly = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let deleted = within(self.clients(place).delete(&place.name, &exactly)).await;
        deleted.map(drop).map_err(|failure| match error(failure) {
            RegistryError::Conflict => RegistryError::Gone, // another of the same name
            other => other,
        })
    }
}

fn params() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() }
}

fn secret_object(client: &OAuth2Client, secret: &SecretString) -> Secret {
    let name = client.metadata.name.clone().unwrap_or_default();
    let owner = OwnerReference {
        api_version: OAuth2Client::api_version(&()).into_owned(),
        kind: OAuth2Client::kind(&()).into_owned(),
        name: name.clone(),
        uid: client.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    };
    let labels = [
        (labels::SECRET, labels::SECRET_CLIENT),
        (labels::MANAGED_BY, labels::MANAGED_BY_CLAVIGER),
    ];
    let value = ByteString(secret.expose_secret().as_bytes().to_vec());
    Secret {
        metadata: ObjectMeta {
            name: Some(name),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some([(spec::SECRET_KEY.to_owned(), value)].into()),
        ..Secret::default()
    }
}

/// A name that is made by chance exists for nobody, so what is not found is the namespace.
fn creation_error(failure: Failure, place: &Place) -> RegistryError {
    match error(failure) {
        RegistryError::Gone => RegistryError::Unavailable(format!(
            "namespace {} is not there: create it",
            place.namespace
        )),
        RegistryError::Conflict => RegistryError::Unavailable("the name is taken".to_owned()),
        other => other,
    }
}

fn error(failure: Failure) -> RegistryError {
    match failure {
        // What the schema, the admission policy or a webhook says of such a client.
        Failure::Answered(status) if matches!(status.code, 400 | 422) => {
            RegistryError::Invalid(format!("the API server does not take it: {}", status.message))
        }
        Failure::Answered(status) if status.code == 404 => RegistryError::Gone,
        Failure::Answered(status) if status.code == 409 => RegistryError::Conflict,
        Failure::Answered(status) => RegistryError::Unavailable(format!(
            "API server answered {}: {}",
            status.code, status.message
        )),
        Failure::Unreadable(message) | Failure::Unanswered(message) => {
            RegistryError::Unavailable(message)
        }
    }
}
