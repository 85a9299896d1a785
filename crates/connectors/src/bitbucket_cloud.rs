//! Bitbucket Cloud.
//!
//! What always holds: a user is their account's UUID; an address is verified where Bitbucket has confirmed it; groups are
//! workspaces by slug, from the list that is left since `/2.0/workspaces` and `/2.0/user/permissions/workspaces` answer 410.

use async_trait::async_trait;
use claviger_api::connector::bitbucket_cloud::{BitbucketCloudRoles, BitbucketCloudUpstream};
use claviger_domain::identity::Identity;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use url::Url;

use crate::oauth2::{
    Api, ApiError, Authentication, Endpoints, Paging, Service, Settings, User, Vendor,
    secret_refs as shared_refs, url,
};
use crate::{BuildError, Resolved, SecretRef};

/// Bitbucket Cloud.
#[derive(Debug)]
pub struct BitbucketCloud {
    spec: BitbucketCloudUpstream,
    api: Url,
}

/// `GET /user`.
#[derive(Deserialize)]
struct Account {
    uuid: String,
    display_name: Option<String>,
    username: Option<String>,
    nickname: Option<String>,
    #[serde(rename = "account_status")]
    status: Option<String>,
}

/// One of `GET /user/emails`.
#[derive(Serialize, Deserialize)]
struct Email {
    #[serde(rename = "email")]
    address: String,
    #[serde(default)]
    is_primary: bool,
    #[serde(default)]
    is_confirmed: bool,
}

/// One of `GET /user/workspaces`.
#[derive(Serialize, Deserialize)]
struct Access {
    #[serde(default)]
    administrator: bool,
    workspace: Workspace,
}

#[derive(Serialize, Deserialize)]
struct Workspace {
    slug: String,
    #[serde(default)]
    uuid: Option<String>,
}

/// Which keys of which Secrets the connector needs.
pub fn secret_refs(spec: &BitbucketCloudUpstream) -> Vec<SecretRef> {
    shared_refs(Some(&spec.client_secret_ref), &spec.tls)
}

/// Contacts nobody. `name` is for logs.
///
/// # Errors
/// [`BuildError`] names the field and the fix.
pub fn service(
    name: &str,
    spec: &BitbucketCloudUpstream,
    resolved: &Resolved,
) -> Result<Service<BitbucketCloud>, BuildError> {
    let web = spec.url.trim_end_matches('/');
    let settings = Settings {
        field: "bitbucketCloud",
        client_id: &spec.client_id,
        client_secret: Some(&spec.client_secret_ref),
        authentication: Authentication::Header,
        endpoints: Endpoints::Written {
            authorization: format!("{web}/site/oauth2/authorize"),
            token: format!("{web}/site/oauth2/access_token"),
        },
        tls: &spec.tls,
    };
    let api = url("bitbucketCloud", "apiURL", &spec.api_url)?;
    Service::new(name, &settings, BitbucketCloud { api, spec: spec.clone() }, resolved)
}

#[async_trait]
impl Vendor for BitbucketCloud {
    const NAME: &'static str = "Bitbucket";

    /// A consumer's permissions stand in its registration; Bitbucket takes none from a request.
    fn scopes(&self) -> Vec<String> {
        Vec::new()
    }

    fn api(&self) -> &Url {
        &self.api
    }

    async fn user(&self, api: &Api<'_>) -> Result<User, ApiError> {
        let said: Map<String, Value> = api.object("/user").await?;
        let account: Account = serde_json::from_value(Value::Object(said.clone()))
            .map_err(|_| ApiError::Unusable("Bitbucket's /user has no uuid".into()))?;
        if account.status.as_deref().is_some_and(|status| status != "active") {
            return Err(ApiError::Refused("the account at Bitbucket is not active".into()));
        }
        let emails = api.list::<Email>("/user/emails?pagelen=100", Paging::Members).await?.items;
        let listed = api.list::<Access>("/user/workspaces?pagelen=100", Paging::Members).await?;
        let mut groups = Vec::new();
        for access in &listed.items {
            let slug = &access.workspace.slug;
            groups.push(slug.clone());
            if access.administrator && self.spec.roles == BitbucketCloudRoles::Suffix {
                groups.push(format!("{slug}:administrator"));
            }
        }
        let email = emails.iter().find(|email| email.is_primary);
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        let identity = Identity {
            user_id: account.uuid,
            email: email.map(|email| email.address.clone()),
            email_verified: email.is_some_and(|email| email.is_confirmed),
            name: filled(account.display_name),
            preferred_username: filled(account.username).or_else(|| filled(account.nickname)),
            groups,
            extra: picture(&said).map(|url| ("picture".to_owned(), url)).into_iter().collect(),
        };
        let raw = Map::from_iter([
            ("user".to_owned(), Value::Object(said)),
            ("emails".to_owned(), json!(emails)),
            ("workspaces".to_owned(), json!(listed.items)),
        ]);
        Ok(User { identity, raw })
    }
}

fn picture(user: &Map<String, Value>) -> Option<Value> {
    user.get("links")?.get("avatar")?.get("href").filter(|url| url.is_string()).cloned()
}
