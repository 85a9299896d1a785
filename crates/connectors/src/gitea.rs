//! Gitea and Forgejo, whose API is the same here.
//!
//! What always holds: a user is their account's number, never its name; an address is verified where the server says so.

use async_trait::async_trait;
use claviger_api::connector::gitea::{GiteaGroups, GiteaUpstream};
use claviger_domain::identity::Identity;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use url::Url;

use crate::oauth2::organizations::{self, Organization, Wanted};
use crate::oauth2::{
    Answer, Api, ApiError, Authentication, Blame, Endpoints, Paging, Service, Settings, User,
    Vendor, secret_refs as shared_refs, url,
};
use crate::{BuildError, Resolved, SecretRef};

/// What its token endpoint says of a code or a refresh token, though its word for it is `unauthorized_client`.
const OF_THE_GRANT: [&str; 4] = [
    "client is not authorized",
    "failed PKCE code challenge",
    "unable to parse refresh token",
    "token was already used",
];

/// How its API's word on the account begins, to whoever asks with the account's token, and what that means.
const VERDICTS: [(&str, &str); 4] = [
    ("This account is prohibited from sign", "the account may not sign in there"),
    ("User is prohibited from login", "the account may not sign in there"),
    ("This account is not activ", "the account is not active there"), // "activated", "active"
    ("You must change your password", "the account's password must be changed there first"),
];

/// One server.
#[derive(Debug)]
pub struct Gitea {
    spec: GiteaUpstream,
    api: Url,
}

/// `GET /user`.
#[derive(Deserialize)]
struct Account {
    id: u64,
    login: String,
    #[serde(default)]
    full_name: String,
    #[serde(default)]
    prohibit_login: bool,
}

/// One of `GET /user/emails`.
#[derive(Serialize, Deserialize)]
struct Email {
    #[serde(rename = "email")]
    address: String,
    #[serde(default)]
    primary: bool,
    #[serde(default)]
    verified: bool,
}

/// One of `GET /user/orgs`, or that of a team.
#[derive(Serialize, Deserialize)]
struct Member {
    id: i64,
    name: String,
}

/// One of `GET /user/teams`.
#[derive(Serialize, Deserialize)]
struct Team {
    name: String,
    organization: Option<Member>,
}

/// Which keys of which Secrets the connector needs.
pub fn secret_refs(spec: &GiteaUpstream) -> Vec<SecretRef> {
    shared_refs(Some(&spec.client_secret_ref), &spec.tls)
}

/// Contacts nobody. `name` is for logs.
///
/// # Errors
/// [`BuildError`] names the field and the fix.
pub fn service(
    name: &str,
    spec: &GiteaUpstream,
    resolved: &Resolved,
) -> Result<Service<Gitea>, BuildError> {
    let web = spec.url.trim_end_matches('/');
    let settings = Settings {
        field: "gitea",
        client_id: &spec.client_id,
        client_secret: Some(&spec.client_secret_ref),
        authentication: Authentication::Header,
        endpoints: Endpoints::Written {
            authorization: format!("{web}/login/oauth/authorize"),
            token: format!("{web}/login/oauth/access_token"),
        },
        tls: &spec.tls,
    };
    let api = url("gitea", "url", &format!("{web}/api/v1"))?;
    Service::new(name, &settings, Gitea { api, spec: spec.clone() }, resolved)
}

#[async_trait]
impl Vendor for Gitea {
    const NAME: &'static str = "Gitea";

    /// It keeps what a user agreed to first, and never asks again: who agreed to less than a connector wants later could not
    /// sign in any more. So the same is asked for whether groups are read or not. A server before 1.23 gives every token
    /// everything.
    fn scopes(&self) -> Vec<String> {
        ["openid", "read:user", "read:organization"].map(str::to_owned).into()
    }

    fn api(&self) -> &Url {
        &self.api
    }

    fn blame(&self, code: &str, description: &str) -> Blame {
        match code {
            "unauthorized_client" if OF_THE_GRANT.contains(&description) => Blame::Grant,
            other => Blame::by_rfc(other),
        }
    }

    fn verdict(&self, answer: &Answer) -> Option<String> {
        let said = answer.message().filter(|_| answer.status == StatusCode::FORBIDDEN)?;
        let verdict = VERDICTS.iter().find(|(words, _)| said.starts_with(words));
        verdict.map(|(_, why)| (*why).to_owned())
    }

    async fn user(&self, api: &Api<'_>) -> Result<User, ApiError> {
        let said: Map<String, Value> = api.object("/user").await?;
        let account: Account = serde_json::from_value(Value::Object(said.clone()))
            .map_err(|_| ApiError::Unusable("Gitea's /user has no id and login".into()))?;
        if account.prohibit_login {
            return Err(ApiError::Refused("the account may not sign in there".into()));
        }
        let emails = api.list::<Email>("/user/emails", Paging::Link).await?.items;
        let (listed, teams) = self.memberships(api).await?;
        let groups = self.groups(&listed, &teams).ok_or_else(|| {
            ApiError::Refused("the user is in none of the connector's organizations".to_owned())
        })?;
        let email = emails.iter().find(|email| email.primary);
        let picture = said.get("avatar_url").filter(|url| url.is_string()).cloned();
        let identity = Identity {
            user_id: account.id.to_string(),
            email: email.map(|email| email.address.clone()),
            email_verified: email.is_some_and(|email| email.verified),
            name: Some(account.full_name).filter(|name| !name.is_empty()),
            preferred_username: Some(account.login),
            groups,
            extra: picture.map(|url| ("picture".to_owned(), url)).into_iter().collect(),
        };
        let raw = Map::from_iter([
            ("user".to_owned(), Value::Object(said)),
            ("emails".to_owned(), json!(emails)),
            ("organizations".to_owned(), json!(listed)),
            ("teams".to_owned(), json!(teams)),
        ]);
        Ok(User { identity, raw })
    }
}

impl Gitea {
    fn reads_groups(&self) -> bool {
        self.spec.groups == GiteaGroups::All || !self.spec.organizations.is_empty()
    }

    async fn memberships(&self, api: &Api<'_>) -> Result<(Vec<Member>, Vec<Team>), ApiError> {
        if !self.reads_groups() {
            return Ok((Vec::new(), Vec::new()));
        }
        let organizations = api.list("/user/orgs?limit=50", Paging::Link).await?;
        let teams = api.list("/user/teams?limit=50", Paging::Link).await?;
        Ok((organizations.items, teams.items))
    }

    /// The user's groups; none where they are in no organization of the list.
    fn groups(&self, listed: &[Member], teams: &[Team]) -> Option<Vec<String>> {
        let of = |id: i64| {
            let there = teams.iter().filter(move |team| {
                team.organization.as_ref().is_some_and(|organization| organization.id == id)
            });
            there.map(|team| organizations::Team {
                key: team.name.clone(),
                names: vec![team.name.clone()],
            })
        };
        let member_of = listed.iter().map(|one| Organization {
            id: one.id,
            name: one.name.clone(),
            teams: of(one.id).collect(),
        });
        let wanted = self.spec.organizations.iter();
        let wanted: Vec<_> =
            wanted.map(|one| Wanted { name: &one.name, id: one.id, teams: &one.teams }).collect();
        let takes_all = self.spec.groups == GiteaGroups::All;
        organizations::groups(&wanted, takes_all, &member_of.collect::<Vec<_>>())
    }
}
