//! GitHub: github.com, Enterprise Cloud with its own address, Enterprise Server.
//!
//! What always holds: a user is their account's number, never its name, which others can take; membership that GitHub
//! hides until a SAML sign-in is no membership, and is said in words; an address is verified where GitHub says so.

use std::collections::BTreeSet;

use async_trait::async_trait;
use claviger_api::connector::github::{GithubGroups, GithubTeamNames, GithubUpstream};
use claviger_api::connector::http::EmailVerification;
use claviger_domain::identity::Identity;
use claviger_domain::trip::Trip;
use data_encoding::BASE64;
use http::{HeaderMap, Method, Request, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use url::Url;

use crate::oauth2::organizations::{self, Wanted};
use crate::oauth2::{
    Answer, Api, ApiError, Authentication, Blame, Endpoints, Listed, Paging, Service, Settings,
    User, Vendor, secret_refs as shared_refs, url,
};
use crate::{BuildError, Resolved, SecretRef};

/// What GitHub hides from a token that its user has not authorized at an organization's SAML identity provider.
const SSO: &str = "x-github-sso";
/// Most hidden organizations whose names are looked up.
const MAX_HIDDEN: usize = 10;

/// One GitHub.
#[derive(Debug)]
pub struct Github {
    spec: GithubUpstream,
    api: Url,
}

/// `GET /user`.
#[derive(Deserialize)]
struct Account {
    id: u64,
    login: String,
    name: Option<String>,
    suspended_at: Option<String>,
}

/// One of `GET /user/emails`.
#[derive(Serialize, Deserialize)]
struct Email {
    #[serde(rename = "email")]
    address: String,
    #[serde(default)]
    primary: bool,
    #[serde(default)]
    verified: Option<bool>,
}

/// One of `GET /user/orgs`.
#[derive(Clone, Serialize, Deserialize)]
struct Organization {
    id: i64,
    login: String,
}

/// One of `GET /user/teams`.
#[derive(Serialize, Deserialize)]
struct Team {
    name: String,
    slug: String,
    organization: Organization,
}

/// What the user belongs to.
#[derive(Default)]
struct Memberships {
    organizations: Vec<Organization>,
    teams: Vec<Team>,
    /// Organizations that GitHub hides, by number.
    hidden: BTreeSet<i64>,
}

/// Which keys of which Secrets the connector needs.
pub fn secret_refs(spec: &GithubUpstream) -> Vec<SecretRef> {
    shared_refs(Some(&spec.client_secret_ref), &spec.tls)
}

/// Contacts nobody. `name` is for logs.
///
/// # Errors
/// [`BuildError`] names the field and the fix.
pub fn service(
    name: &str,
    spec: &GithubUpstream,
    resolved: &Resolved,
) -> Result<Service<Github>, BuildError> {
    let web = spec.url.trim_end_matches('/');
    let api = spec.api_url.clone().unwrap_or_else(|| api_of(web));
    let settings = Settings {
        field: "github",
        client_id: &spec.client_id,
        client_secret: Some(&spec.client_secret_ref),
        authentication: Authentication::Form,
        endpoints: Endpoints::Written {
            authorization: format!("{web}/login/oauth/authorize"),
            token: format!("{web}/login/oauth/access_token"),
        },
        tls: &spec.tls,
    };
    let vendor = Github { api: url("github", "apiURL", &api)?, spec: spec.clone() };
    Service::new(name, &settings, vendor, resolved)
}

/// Where the API of a GitHub is.
fn api_of(web: &str) -> String {
    match web.strip_prefix("https://") {
        Some(host) if host == "github.com" || host.ends_with(".ghe.com") => {
            format!("https://api.{host}")
        }
        _ => format!("{web}/api/v3"),
    }
}

#[async_trait]
impl Vendor for Github {
    const NAME: &'static str = "GitHub";

    fn scopes(&self) -> Vec<String> {
        let mut scopes = vec!["user:email".to_owned()];
        if self.reads_groups() {
            scopes.push("read:org".to_owned());
        }
        scopes
    }

    fn parameters(&self, trip: &Trip<'_>) -> Vec<(&'static str, String)> {
        trip.login_hint.map(|hint| ("login", hint.to_owned())).into_iter().collect()
    }

    fn api(&self) -> &Url {
        &self.api
    }

    fn headers(&self) -> &'static [(&'static str, &'static str)] {
        &[("accept", "application/vnd.github+json"), ("x-github-api-version", "2022-11-28")]
    }

    /// Those of an OAuth app, and of a GitHub App that opted out of expiration.
    fn has_lasting_tokens(&self) -> bool {
        true
    }

    fn blame(&self, code: &str, _description: &str) -> Blame {
        match code {
            "bad_verification_code" | "bad_refresh_token" | "unverified_user_email" => Blame::Grant,
            "incorrect_client_credentials" | "application_suspended" | "redirect_uri_mismatch" => {
                Blame::Client
            }
            other => Blame::by_rfc(other),
        }
    }

    fn verdict(&self, answer: &Answer) -> Option<String> {
        if answer.status != StatusCode::FORBIDDEN {
            return None;
        }
        if let Some(required) = answer.header(SSO).filter(|said| said.starts_with("required")) {
            let name = organization_of(required);
            return Some(sign_in_there(&[name.unwrap_or_else(|| "an organization".to_owned())]));
        }
        let is_suspended = answer
            .message()
            // An application's installation may be too: that is nobody's account.
            .is_some_and(|text| text.contains("account") && text.contains("suspended"));
        is_suspended.then(|| "the account at GitHub is suspended".to_owned())
    }

    async fn user(&self, api: &Api<'_>) -> Result<User, ApiError> {
        let said: Map<String, Value> = api.object("/user").await?;
        let account: Account = serde_json::from_value(Value::Object(said.clone()))
            .map_err(|_| ApiError::Unusable("GitHub's /user has no id and login".into()))?;
        if account.suspended_at.is_some() {
            return Err(ApiError::Refused("the account at GitHub is suspended".into()));
        }
        let emails: Listed<Email> = api.list("/user/emails?per_page=100", Paging::Link).await?;
        let memberships = self.memberships(api).await?;
        self.check_hidden(api, &memberships).await?;
        let groups = self.groups(&memberships).ok_or_else(|| {
            ApiError::Refused("the user is in none of the connector's organizations".to_owned())
        })?;
        let (email, email_verified) = self.address(&emails.items);
        let text = |name: &str| said.get(name)?.as_str().filter(|text| !text.is_empty());
        let extra = [("picture", "avatar_url"), ("profile", "html_url")];
        let extra = extra
            .iter()
            .filter_map(|(claim, member)| Some(((*claim).to_owned(), Value::from(text(member)?))));
        let identity = Identity {
            user_id: account.id.to_string(),
            email,
            email_verified,
            name: account.name.filter(|name| !name.is_empty()),
            preferred_username: Some(account.login),
            groups,
            extra: extra.collect(),
        };
        let raw = Map::from_iter([
            ("emails".to_owned(), json!(emails.items)),
            ("organizations".to_owned(), json!(memberships.organizations)),
            ("teams".to_owned(), json!(memberships.teams)),
            ("hiddenOrganizations".to_owned(), json!(memberships.hidden)),
            ("user".to_owned(), Value::Object(said)),
        ]);
        Ok(User { identity, raw })
    }

    /// The application itself may ask whether one of its tokens is good: an API that refuses every token, as one in
    /// trouble may, ends nobody's session.
    async fn is_revoked(
        &self,
        api: &Api<'_>,
        (id, secret): (&str, &str),
    ) -> Result<bool, ApiError> {
        let credentials = BASE64.encode(format!("{id}:{secret}").as_bytes());
        let request = Request::builder()
            .method(Method::POST)
            .uri(api.below(&format!("/applications/{id}/token"))?.as_str())
            .header(header::AUTHORIZATION, format!("Basic {credentials}"))
            .header(header::CONTENT_TYPE, "application/json");
        let request = self.headers().iter().fold(request, |request, (n, v)| request.header(*n, *v));
        let body = json!({"access_token": api.token()}).to_string().into_bytes();
        let answer = api.send(request.body(body)).await?;
        match answer.status {
            StatusCode::OK => Ok(false),
            StatusCode::NOT_FOUND => Ok(true),
            status => Err(ApiError::Unavailable(answer.no_verdict(format!(
                "GitHub refuses the user's token, and answered {} when asked whether it was revoked",
                status.as_u16()
            )))),
        }
    }
}

impl Github {
    fn reads_groups(&self) -> bool {
        self.spec.groups == GithubGroups::All || !self.spec.organizations.is_empty()
    }

    async fn memberships(&self, api: &Api<'_>) -> Result<Memberships, ApiError> {
        if !self.reads_groups() {
            return Ok(Memberships::default());
        }
        let organizations: Listed<Organization> =
            api.list("/user/orgs?per_page=100", Paging::Link).await?;
        let teams: Listed<Team> = api.list("/user/teams?per_page=100", Paging::Link).await?;
        let headers = organizations.headers.iter().chain(&teams.headers);
        Ok(Memberships {
            hidden: headers.flat_map(hidden_by).collect(),
            organizations: organizations.items,
            teams: teams.items,
        })
    }

    /// A hidden organization of the list: its groups are not there, and nobody may take them for none.
    async fn check_hidden(&self, api: &Api<'_>, all: &Memberships) -> Result<(), ApiError> {
        if all.hidden.is_empty() {
            return Ok(());
        }
        tracing::warn!(organizations = ?all.hidden, "GitHub hides organizations from a user's token until they sign in there by SAML");
        if self.spec.organizations.is_empty() {
            return Ok(());
        }
        let mut counting = Vec::new();
        for id in all.hidden.iter().take(MAX_HIDDEN) {
            let answer = api.answer(&format!("/organizations/{id}")).await?;
            let name = match answer.header(SSO) {
                Some(required) => organization_of(required),
                None => {
                    serde_json::from_slice(&answer.body).map(|said: Organization| said.login).ok()
                }
            };
            if self.counts(*id, name.as_deref()) {
                counting.push(name.unwrap_or_else(|| format!("organization number {id}")));
            }
        }
        if all.hidden.len() > MAX_HIDDEN {
            counting.push("many organizations".to_owned());
        }
        if counting.is_empty() { Ok(()) } else { Err(ApiError::Refused(sign_in_there(&counting))) }
    }

    /// Whether an organization is one of those listed; one whose name nobody says may be.
    fn counts(&self, id: i64, name: Option<&str>) -> bool {
        self.spec.organizations.iter().any(|listed| match (listed.id, name) {
            (Some(wanted), _) => wanted == id,
            (None, Some(name)) => listed.name.eq_ignore_ascii_case(name),
            (None, None) => true,
        })
    }

    /// The user's groups; none where they are in no organization of the list.
    fn groups(&self, all: &Memberships) -> Option<Vec<String>> {
        let member_of = all.organizations.iter().map(|organization| {
            let teams = all.teams.iter().filter(|team| team.organization.id == organization.id);
            organizations::Organization {
                id: organization.id,
                name: organization.login.clone(),
                teams: teams.map(|team| self.team(team)).collect(),
            }
        });
        let wanted = self.spec.organizations.iter();
        let wanted: Vec<_> =
            wanted.map(|one| Wanted { name: &one.name, id: one.id, teams: &one.teams }).collect();
        let takes_all = self.spec.groups == GithubGroups::All;
        organizations::groups(&wanted, takes_all, &member_of.collect::<Vec<_>>())
    }

    fn team(&self, team: &Team) -> organizations::Team {
        let names = match self.spec.team_names {
            GithubTeamNames::Slug => vec![team.slug.clone()],
            GithubTeamNames::Name => vec![team.name.clone()],
            GithubTeamNames::Both => vec![team.slug.clone(), team.name.clone()],
        };
        organizations::Team { key: team.slug.clone(), names }
    }

    /// The address of the user's that counts, and whether it is verified.
    fn address(&self, emails: &[Email]) -> (Option<String>, bool) {
        let is_verified = |email: &Email| {
            self.spec.email_verification == EmailVerification::Always
                || email.verified == Some(true)
        };
        let preferred = self.spec.preferred_email_domains.iter().find_map(|domain| {
            emails.iter().find(|email| is_verified(email) && is_at(&email.address, domain))
        });
        match preferred.or_else(|| emails.iter().find(|email| email.primary)) {
            Some(email) => (Some(email.address.clone()), is_verified(email)),
            None => (None, false),
        }
    }
}

fn is_at(address: &str, domain: &str) -> bool {
    address.rsplit_once('@').is_some_and(|(_, at)| at.eq_ignore_ascii_case(domain))
}

/// `partial-results; organizations=21955855,20582480`.
fn hidden_by(headers: &HeaderMap) -> Vec<i64> {
    let said = headers.get(SSO).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let numbers = said.strip_prefix("partial-results").and_then(|rest| rest.split_once('='));
    let numbers = numbers.map(|(_, numbers)| numbers).unwrap_or_default();
    numbers.split(',').filter_map(|number| number.trim().parse().ok()).collect()
}

/// `required; url=https://github.com/orgs/acme/sso?authorization_request=…`: only the name is said again.
fn organization_of(required: &str) -> Option<String> {
    let name = required.split("/orgs/").nth(1).and_then(|rest| rest.split('/').next());
    let is_name = |name: &&str| {
        let is_letter = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        !name.is_empty() && name.len() <= 64 && name.bytes().all(is_letter)
    };
    name.filter(is_name).map(str::to_owned)
}

fn sign_in_there(organizations: &[String]) -> String {
    format!(
        "GitHub hides the membership in {} until the user signs in at that organization by SAML single sign-on: open it at GitHub, then sign in here again",
        organizations.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn github(change: &Value) -> Github {
        let mut spec = json!({"clientID": "id", "clientSecretRef": {"name": "s", "key": "k"}});
        spec.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let spec = serde_json::from_value(spec).unwrap();
        Github { spec, api: Url::parse("https://api.github.com").unwrap() }
    }

    fn memberships() -> Memberships {
        let of = |value: Value| serde_json::from_value(value).unwrap();
        Memberships {
            organizations: of(json!([{"id": 1, "login": "Acme"}, {"id": 2, "login": "other"}])),
            teams: serde_json::from_value(json!([
                {"name": "Site Admins", "slug": "site-admins", "organization": {"id": 1, "login": "Acme"}},
                {"name": "dev", "slug": "dev", "organization": {"id": 2, "login": "other"}},
            ]))
            .unwrap(),
            hidden: BTreeSet::new(),
        }
    }

    fn groups(change: &Value) -> Option<Vec<String>> {
        github(change).groups(&memberships())
    }

    #[test]
    fn the_api_is_where_github_has_it() {
        assert_eq!(api_of("https://github.com"), "https://api.github.com");
        assert_eq!(api_of("https://octo.ghe.com"), "https://api.octo.ghe.com");
        assert_eq!(api_of("https://git.example.com"), "https://git.example.com/api/v3");
        assert_eq!(
            api_of("https://github.com.evil.example"),
            "https://github.com.evil.example/api/v3"
        );
    }

    #[test]
    fn teams_are_called_as_the_connector_says() {
        let named =
            |how: &str| groups(&json!({"organizations": [{"name": "acme"}], "teamNames": how}));
        assert_eq!(named("Name").unwrap(), ["Acme", "Acme:Site Admins"]);
        assert_eq!(named("Both").unwrap(), ["Acme", "Acme:site-admins", "Acme:Site Admins"]);
    }

    #[test]
    fn the_address_is_the_primary_one_or_a_verified_one_of_a_preferred_domain() {
        let emails: Vec<Email> = serde_json::from_value(json!([
            {"email": "home@example.net", "primary": true, "verified": true},
            {"email": "boss@corp.example", "primary": false, "verified": false},
            {"email": "me@Work.example", "primary": false, "verified": true},
            {"email": "me@evil.work.example", "primary": false, "verified": true},
        ]))
        .unwrap();
        let address = |change: Value| github(&change).address(&emails);
        assert_eq!(address(json!({})), (Some("home@example.net".into()), true));
        let preferred = json!({"preferredEmailDomains": ["corp.example", "work.example"]});
        assert_eq!(address(preferred), (Some("me@Work.example".into()), true), "a verified one");
        let unverified: Vec<Email> =
            serde_json::from_value(json!([{"email": "a@b", "primary": true}])).unwrap();
        assert_eq!(github(&json!({})).address(&unverified), (Some("a@b".into()), false));
        let always = github(&json!({"emailVerification": "Always"}));
        assert_eq!(always.address(&unverified), (Some("a@b".into()), true));
        assert_eq!(github(&json!({})).address(&[]), (None, false));
    }

    #[test]
    fn what_github_hides_is_read_from_its_header() {
        let mut headers = HeaderMap::new();
        assert!(hidden_by(&headers).is_empty());
        headers.insert(SSO, "partial-results; organizations=21955855,20582480".parse().unwrap());
        assert_eq!(hidden_by(&headers), [21_955_855, 20_582_480]);
        let required = "required; url=https://github.com/orgs/acme/sso?authorization_request=AZSC";
        assert_eq!(organization_of(required).as_deref(), Some("acme"));
        assert_eq!(organization_of("required; url=https://x/orgs/<script>/sso"), None);
    }

    #[test]
    fn little_is_asked_of_the_user() {
        assert_eq!(github(&json!({})).scopes(), ["user:email"]);
        assert_eq!(github(&json!({"groups": "All"})).scopes(), ["user:email", "read:org"]);
    }
}
