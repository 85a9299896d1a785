//! GitLab: gitlab.com or one's own.
//!
//! What always holds: a user is their account's number; an address is verified where GitLab has confirmed it; a group is its
//! full path, which says where in the tree it stands.

use std::collections::BTreeSet;

use async_trait::async_trait;
use claviger_api::connector::gitlab::{GitlabGroups, GitlabRoles, GitlabUpstream};
use claviger_domain::identity::Identity;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value};
use url::Url;

use crate::oauth2::{
    Answer, Api, ApiError, Authentication, Endpoints, Paging, Service, Settings, User, Vendor,
    secret_refs as shared_refs, url,
};
use crate::{BuildError, Resolved, SecretRef};

/// Roles that make a group, by the claims in which GitLab lists them.
const ROLES: [(&str, &str); 3] = [
    ("https://gitlab.org/claims/groups/owner", "owner"),
    ("https://gitlab.org/claims/groups/maintainer", "maintainer"),
    ("https://gitlab.org/claims/groups/developer", "developer"),
];
/// Words for an account that GitLab does not let in.
const OUT: [&str; 3] = ["blocked", "deactivated", "banned"];
/// Least role that counts: guest.
const ACCESSIBLE: &str = "/api/v4/groups?min_access_level=10&per_page=100";
/// The scope that this list needs.
const READ_API: &str = "read_api";

/// One GitLab.
#[derive(Debug)]
pub struct Gitlab {
    spec: GitlabUpstream,
    base: Url,
}

/// One of `GET /api/v4/groups`.
#[derive(Deserialize)]
struct Group {
    full_path: String,
}

/// Which keys of which Secrets the connector needs.
pub fn secret_refs(spec: &GitlabUpstream) -> Vec<SecretRef> {
    shared_refs(Some(&spec.client_secret_ref), &spec.tls)
}

/// Contacts nobody. `name` is for logs.
///
/// # Errors
/// [`BuildError`] names the field and the fix.
pub fn service(
    name: &str,
    spec: &GitlabUpstream,
    resolved: &Resolved,
) -> Result<Service<Gitlab>, BuildError> {
    let web = spec.url.trim_end_matches('/');
    let settings = Settings {
        field: "gitlab",
        client_id: &spec.client_id,
        client_secret: Some(&spec.client_secret_ref),
        authentication: Authentication::Header,
        endpoints: Endpoints::Written {
            authorization: format!("{web}/oauth/authorize"),
            token: format!("{web}/oauth/token"),
        },
        tls: &spec.tls,
    };
    let vendor = Gitlab { base: url("gitlab", "url", web)?, spec: spec.clone() };
    Service::new(name, &settings, vendor, resolved)
}

#[async_trait]
impl Vendor for Gitlab {
    const NAME: &'static str = "GitLab";

    fn scopes(&self) -> Vec<String> {
        let mut scopes = vec!["openid", "profile", "email"];
        if self.spec.groups == GitlabGroups::Accessible {
            scopes.push(READ_API);
        }
        scopes.into_iter().map(str::to_owned).collect()
    }

    fn api(&self) -> &Url {
        &self.base
    }

    /// It looks at the client and at the code only where there is one.
    fn probe_callback(&self) -> Option<&'static str> {
        Some("https://localhost/callback")
    }

    fn verdict(&self, answer: &Answer) -> Option<String> {
        let refuses = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&answer.status);
        let said = answer.message().filter(|said| refuses && said.contains("account"))?;
        let word = OUT.iter().find(|word| said.contains(**word))?;
        Some(format!("the account at GitLab is {word}"))
    }

    async fn user(&self, api: &Api<'_>) -> Result<User, ApiError> {
        let said: Map<String, Value> = api.object("/oauth/userinfo").await?;
        let text = |name: &str| {
            let text = said.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
            text.map(str::to_owned)
        };
        let user_id = text("sub").ok_or_else(|| {
            ApiError::Unusable("GitLab's userinfo has no sub: is the scope openid granted?".into())
        })?;
        let mut groups = paths(&said, "groups")?;
        if self.spec.groups == GitlabGroups::Accessible {
            let accessible = api.list::<Group>(ACCESSIBLE, Paging::Link).await?;
            groups.extend(accessible.items.into_iter().map(|group| group.full_path));
        }
        if self.spec.roles == GitlabRoles::Suffix {
            for (claim, role) in ROLES {
                let of_role = paths(&said, claim)?.into_iter();
                groups.extend(of_role.map(|path| format!("{path}:{role}")));
            }
        }
        let mut seen = BTreeSet::new();
        groups.retain(|group| seen.insert(group.clone()));
        let email = text("email");
        let extra = ["picture", "profile", "website"].into_iter();
        let identity = Identity {
            user_id,
            email_verified: email.is_some() && said.get("email_verified") == Some(&true.into()),
            email,
            name: text("name"),
            preferred_username: text("preferred_username").or_else(|| text("nickname")),
            groups,
            extra: extra
                .filter_map(|claim| Some((claim.to_owned(), text(claim)?.into())))
                .collect(),
        };
        Ok(User { identity, raw: said })
    }
}

/// The paths a claim lists; none where GitLab leaves it out.
fn paths(said: &Map<String, Value>, claim: &str) -> Result<Vec<String>, ApiError> {
    let Some(listed) = said.get(claim).filter(|listed| !listed.is_null()) else {
        return Ok(Vec::new());
    };
    serde_json::from_value(listed.clone()).map_err(|_| {
        ApiError::Unusable(format!("GitLab's userinfo has no list of paths as {claim}"))
    })
}
