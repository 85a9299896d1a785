//! OpenShift's own OAuth server, and the API server behind which it is asked who a token is about.
//!
//! What always holds: a user is their object's UID, never its name; the virtual groups (`system:…`) are none of theirs; a token is
//! asked with until the end that was said of it, and no longer; its refusal before that is a verdict where nobody, or another
//! witness, says that the API server is well.

use async_trait::async_trait;
use claviger_api::connector::openshift::OpenshiftUpstream;
use claviger_domain::identity::Identity;
use http::{Request, StatusCode, header};
use serde::Deserialize;
use serde_json::{Map, Value};
use url::Url;

use crate::oauth2::{
    Api, ApiError, Authentication, Endpoints, Service, Settings, User, Vendor,
    secret_refs as shared_refs, url,
};
use crate::{BuildError, Resolved, SecretRef};

/// Who a token is about, below the API server's address.
const MYSELF: &str = "/apis/user.openshift.io/v1/users/~";
/// How a client ID begins that is a service account's: then the secret is a token of that account.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// One cluster.
#[derive(Debug)]
pub struct Openshift {
    api: Url,
}

/// `GET /apis/user.openshift.io/v1/users/~`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Account {
    metadata: Metadata,
    full_name: Option<String>,
    groups: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    uid: Option<String>,
}

/// Which keys of which Secrets the connector needs.
pub fn secret_refs(spec: &OpenshiftUpstream) -> Vec<SecretRef> {
    shared_refs(Some(&spec.client_secret_ref), &spec.tls)
}

/// Contacts nobody. `name` is for logs.
///
/// # Errors
/// [`BuildError`] names the field and the fix.
pub fn service(
    name: &str,
    spec: &OpenshiftUpstream,
    resolved: &Resolved,
) -> Result<Service<Openshift>, BuildError> {
    let api = url("openshift", "url", &spec.url)?;
    let settings = Settings {
        field: "openshift",
        client_id: &spec.client_id,
        client_secret: Some(&spec.client_secret_ref),
        // A service account's ID has colons, which HTTP Basic would part.
        authentication: Authentication::Form,
        endpoints: Endpoints::Described {
            at: format!(
                "{}/.well-known/oauth-authorization-server",
                api.as_str().trim_end_matches('/')
            ),
        },
        tls: &spec.tls,
    };
    Service::new(name, &settings, Openshift { api }, resolved)
}

#[async_trait]
impl Vendor for Openshift {
    const NAME: &'static str = "OpenShift";

    fn scopes(&self) -> Vec<String> {
        vec!["user:info".to_owned()]
    }

    fn api(&self) -> &Url {
        &self.api
    }

    /// There are no refresh tokens. Whose tokens have no end (`accessTokenMaxAgeSeconds: 0`) has them until they are deleted.
    fn has_lasting_tokens(&self) -> bool {
        true
    }

    fn asks_until_tokens_end(&self) -> bool {
        true
    }

    fn says_zero_of_no_end(&self) -> bool {
        true
    }

    async fn user(&self, api: &Api<'_>) -> Result<User, ApiError> {
        let said: Map<String, Value> = api.object(MYSELF).await?;
        let account: Account = serde_json::from_value(Value::Object(said.clone()))
            .map_err(|_| ApiError::Unusable("OpenShift's answer for users/~ is no user".into()))?;
        let Some(uid) = account.metadata.uid.filter(|uid| !uid.is_empty()) else {
            let why = "the account is none of OpenShift's users, such as kube:admin";
            return Err(ApiError::Refused(why.into()));
        };
        let groups = account.groups.unwrap_or_default().into_iter();
        let identity = Identity {
            user_id: uid,
            email: None,
            email_verified: false,
            name: account.full_name.filter(|name| !name.is_empty()),
            preferred_username: Some(account.metadata.name),
            groups: groups.filter(|group| !group.starts_with("system:")).collect(),
            extra: std::collections::BTreeMap::new(),
        };
        let raw = Map::from_iter([("user".to_owned(), Value::Object(said))]);
        Ok(User { identity, raw })
    }

    /// OpenShift documents 401 for a token that has ended, was inactive for too long or was deleted: the user signs in again.
    /// But Kubernetes answers the same, word for word, where whatever checks tokens fails (k8s.io/apiserver,
    /// `filters.WithAuthentication`), as where the OAuth part of an API server is away. A service account's token is checked
    /// elsewhere in it: who is told who they are by the same API is told that it is well.
    async fn is_revoked(
        &self,
        api: &Api<'_>,
        (id, secret): (&str, &str),
    ) -> Result<bool, ApiError> {
        if !id.starts_with(SERVICE_ACCOUNT) {
            // Nobody else can be asked, so what is documented stands. Taken for an outage, a deleted token would keep its
            // session, refused by 503 at each refresh, until the end of the token, or for ever.
            return Ok(true);
        }
        let request = Request::builder()
            .uri(api.below(MYSELF)?.as_str())
            .header(header::AUTHORIZATION, format!("Bearer {secret}"))
            .header(header::ACCEPT, "application/json");
        let answer = api.send(request.body(Vec::new())).await?;
        match answer.status {
            StatusCode::OK => Ok(true),
            status => Err(ApiError::Unavailable(answer.no_verdict(format!(
                "OpenShift refuses the user's token, and answered {} to the service account's",
                status.as_u16()
            )))),
        }
    }
}
