//! Atlassian Crowd, by the REST API for applications (`/rest/usermanagement/1`).
//!
//! What always holds: a user is the key their directory gives them, unless the administrator says otherwise, and is looked for by
//! it, so that a renamed user is found and who took a name over is not; an inactive account is let in nowhere; Crowd's own word
//! that there is no such user ends a session, and nothing else that it or somebody before it may answer.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use claviger_api::connector::atlassian_crowd::{
    AtlassianCrowdGroups, AtlassianCrowdUpstream, AtlassianCrowdUserID,
};
use claviger_api::connector::http::EmailVerification;
use claviger_domain::connector::{
    Authenticated, ConnectorData, LoginError, PasswordLogin, Recheck, RecheckError,
};
use claviger_domain::identity::Identity;
use data_encoding::BASE64;
use http::{Method, Request, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use url::Url;

use crate::account_api::{Failure, ask, in_time, read, read_part, require_usable, trouble};
use crate::http::Http;
use crate::oauth2::{Answer, secret_refs as shared_refs, url};
use crate::{BuildError, Probe, ProbeError, Purpose, Resolved, SecretRef};

/// What messages call it.
const NAME: &str = "Crowd";
/// Things on one page, as Crowd has it by default.
const PAGE: usize = 1_000;
/// Most groups of one user that are taken.
const MAX_GROUPS: usize = 20_000;
/// What Crowd says against the user, and not of itself.
const OF_THE_USER: [&str; 7] = [
    "INVALID_USER_AUTHENTICATION",
    "USER_NOT_FOUND",
    "INACTIVE_ACCOUNT",
    "EXPIRED_CREDENTIAL",
    "INVALID_CREDENTIAL",
    "INVALID_USER",
    "ILLEGAL_ARGUMENT",
];

/// One Crowd.
pub struct AtlassianCrowd {
    spec: AtlassianCrowdUpstream,
    username_label: String,
    credentials: SecretString,
    base: Url,
    http: Http,
}

impl fmt::Debug for AtlassianCrowd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AtlassianCrowd({:?})", self.base.as_str())
    }
}

/// A user, in part.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    name: String,
    key: Option<String>,
    active: bool,
    email: Option<String>,
    display_name: Option<String>,
}

/// One page of a user's groups.
#[derive(Deserialize)]
struct Groups {
    groups: Vec<Group>,
}

/// What a search for users finds.
#[derive(Deserialize)]
struct Found {
    users: Vec<Value>,
}

#[derive(Deserialize)]
struct Group {
    name: String,
}

/// What Crowd says instead of an answer.
#[derive(Deserialize)]
struct Refusal {
    reason: String,
}

/// Which keys of which Secrets the connector needs.
pub fn secret_refs(spec: &AtlassianCrowdUpstream) -> Vec<SecretRef> {
    let mut references = shared_refs(None, &spec.tls);
    let password = &spec.application_password_secret_ref;
    references.push(SecretRef::new(password, Purpose::ServicePassword));
    references
}

impl AtlassianCrowd {
    /// Contacts nobody.
    ///
    /// # Errors
    /// [`BuildError`] names the field and the fix.
    pub fn new(spec: &AtlassianCrowdUpstream, resolved: &Resolved) -> Result<Self, BuildError> {
        let at = &spec.application_password_secret_ref;
        let password = resolved.password(&at.name, &at.key, Purpose::ServicePassword)?;
        let pair = format!("{}:{}", spec.application_name, password.expose_secret());
        let root = spec.url.trim_end_matches('/');
        Ok(Self {
            username_label: spec.username_prompt.clone().unwrap_or_else(|| "Username".into()),
            credentials: format!("Basic {}", BASE64.encode(pair.as_bytes())).into(),
            base: url("atlassianCrowd", "url", &format!("{root}/rest/usermanagement/1"))?,
            http: Http::trusting(&spec.tls, resolved)?,
            spec: spec.clone(),
        })
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
    ) -> http::request::Builder {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(path.split('/'));
        }
        url.query_pairs_mut().extend_pairs(query);
        Request::builder()
            .method(method)
            .uri(url.as_str())
            .header(header::AUTHORIZATION, self.credentials.expose_secret())
            .header(header::ACCEPT, "application/json")
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Answer, Failure> {
        let request = self.request(Method::GET, path, query);
        ask(&self.http, request.body(Vec::new())).await
    }

    /// Who they are, with what they are in.
    async fn described(&self, said: Map<String, Value>) -> Result<Authenticated, Failure> {
        let user = parsed(&said)?;
        let groups = self.groups(&user.name).await?;
        let user_id = self.id_of(&user)?;
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        let email = filled(user.email);
        let always = self.spec.email_verification == EmailVerification::Always;
        let identity = Identity {
            user_id,
            email_verified: email.is_some() && always,
            email,
            name: filled(user.display_name),
            preferred_username: Some(user.name),
            groups: groups.clone(),
            extra: BTreeMap::new(),
        };
        let raw = Map::from_iter([
            ("user".to_owned(), Value::Object(said)),
            ("groups".to_owned(), json!(groups)),
        ]);
        Ok(Authenticated { identity, raw, data: None })
    }

    fn id_of(&self, user: &User) -> Result<String, Failure> {
        match self.spec.user_id {
            // Crowd does not tell upper from lower case.
            AtlassianCrowdUserID::Name => Ok(user.name.to_lowercase()),
            AtlassianCrowdUserID::Key => {
                user.key.clone().filter(|key| !key.is_empty()).ok_or_else(|| {
                    Failure::Unusable(
                        "Crowd gives the user no key: set atlassianCrowd.userID to Name".to_owned(),
                    )
                })
            }
        }
    }

    /// All groups of the user of this name, page by page.
    async fn groups(&self, name: &str) -> Result<Vec<String>, Failure> {
        let what = "the user's groups";
        let path = match self.spec.groups {
            AtlassianCrowdGroups::Nested => "user/group/nested",
            AtlassianCrowdGroups::Direct => "user/group/direct",
        };
        let mut groups = Vec::new();
        loop {
            let (start, most) = (groups.len().to_string(), PAGE.to_string());
            let query =
                [("username", name), ("start-index", start.as_str()), ("max-results", &most)];
            let answer = self.get(path, &query).await?;
            let page: Groups = success(what, &answer)?;
            let is_last = page.groups.len() < PAGE;
            groups.extend(page.groups.into_iter().map(|group| group.name));
            if groups.len() > MAX_GROUPS {
                let why = format!("Crowd lists more than {MAX_GROUPS} groups of the user");
                return Err(Failure::Unusable(why));
            }
            if is_last {
                return Ok(groups);
            }
        }
    }

    /// One user of the application, if it has any.
    async fn any_users(&self) -> Result<Vec<Value>, Failure> {
        let query = [("entity-type", "user"), ("max-results", "1")];
        let answer = self.get("search", &query).await?;
        Ok(success::<Found>("a search", &answer)?.users)
    }

    /// The user that a session is of; `None` if Crowd says there is none.
    async fn find_again(&self, known: &Identity) -> Result<Option<Map<String, Value>>, Failure> {
        let by = match self.spec.user_id {
            AtlassianCrowdUserID::Key => "key",
            AtlassianCrowdUserID::Name => "username",
        };
        let answer = self.get("user", &[(by, &known.user_id)]).await?;
        if answer.status == StatusCode::NOT_FOUND
            && reason(&answer).as_deref() == Some("USER_NOT_FOUND")
        {
            // An application without a directory, or whose directory is still empty, has nobody.
            if self.any_users().await?.is_empty() {
                let why = "Crowd shows the application no user at all: give it a directory, or wait until that is synchronised";
                return Err(Failure::Unusable(why.into()));
            }
            return Ok(None);
        }
        let said: Map<String, Value> = success("a user", &answer)?;
        if self.id_of(&parsed(&said)?)? != known.user_id {
            let why = "Crowd describes another user than the one it was asked about";
            return Err(Failure::Unusable(why.into()));
        }
        Ok(Some(said))
    }
}

fn parsed(said: &Map<String, Value>) -> Result<User, Failure> {
    read_part(NAME, "a user", said)
}

/// Crowd's own word for what is wrong, if it is Crowd who answers.
fn reason(answer: &Answer) -> Option<String> {
    let said: Refusal = serde_json::from_slice(&answer.body).ok()?;
    let is_word = |byte: u8| byte.is_ascii_uppercase() || byte == b'_';
    (said.reason.len() <= 64 && said.reason.bytes().all(is_word)).then_some(said.reason)
}

fn success<T: DeserializeOwned>(what: &str, answer: &Answer) -> Result<T, Failure> {
    match answer.status {
        StatusCode::OK => read(NAME, what, &answer.body),
        _ => Err(failed(what, answer)),
    }
}

/// What is no verdict about a user.
fn failed(what: &str, answer: &Answer) -> Failure {
    let said = reason(answer).unwrap_or_else(|| "no reason".to_owned());
    match answer.status {
        StatusCode::UNAUTHORIZED => Failure::Account(format!(
            "Crowd refuses the application (401): correct applicationName and applicationPasswordSecretRef as they are in Crowd's Applications ({said})"
        )),
        StatusCode::FORBIDDEN if !answer.is_rate_limit() => Failure::Account(format!(
            "Crowd does not let the application in (403, {said}): add the addresses Claviger calls from to its Remote Addresses, and see that it is active"
        )),
        StatusCode::BAD_REQUEST => {
            Failure::Trouble(format!("Crowd answered 400 for {what}, and says {said}").into())
        }
        _ => trouble(NAME, what, answer),
    }
}

#[async_trait]
impl PasswordLogin for AtlassianCrowd {
    fn username_label(&self) -> &str {
        &self.username_label
    }

    async fn authenticate(
        &self,
        username: &str,
        password: &SecretString,
    ) -> Result<Authenticated, LoginError> {
        require_usable(username, password)?;
        in_time(NAME, async {
            let body = json!({"value": password.expose_secret()}).to_string().into_bytes();
            let request = self
                .request(Method::POST, "authentication", &[("username", username)])
                .header(header::CONTENT_TYPE, "application/json");
            let answer = ask(&self.http, request.body(body)).await?;
            let refused = |why: String| Err(LoginError::InvalidCredentials(why));
            if [StatusCode::BAD_REQUEST, StatusCode::NOT_FOUND].contains(&answer.status)
                && let Some(reason) = reason(&answer)
                && OF_THE_USER.contains(&reason.as_str())
            {
                return refused(format!("Crowd refuses the user: {reason}"));
            }
            let said: Map<String, Value> = success("the sign-in", &answer)?;
            let user = parsed(&said)?;
            if !user.active {
                return refused("Crowd has the account inactive".into());
            }
            Ok(self.described(said).await?)
        })
        .await
    }
}

#[async_trait]
impl Recheck for AtlassianCrowd {
    async fn recheck(
        &self,
        known: &Identity,
        _data: Option<&ConnectorData>,
    ) -> Result<Authenticated, RecheckError> {
        in_time(NAME, async {
            let gone = |why: &str| Err(RecheckError::Gone(why.to_owned()));
            let Some(said) = self.find_again(known).await? else {
                return gone("the account is gone");
            };
            if !parsed(&said)?.active {
                return gone("the account is inactive");
            }
            Ok(self.described(said).await?)
        })
        .await
    }
}

#[async_trait]
impl Probe for AtlassianCrowd {
    /// Asks for one user: the application's password and address are looked at first.
    async fn probe(&self) -> Result<(), ProbeError> {
        in_time(NAME, async {
            self.any_users().await?;
            Ok(())
        })
        .await
    }
}
