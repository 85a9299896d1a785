//! Questions to Keystone.
//!
//! What always holds: tokens and passwords go to the endpoint that the administrator wrote, below its path, whatever address
//! an answer names as the next page: of that the query alone is taken.

use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use http::{Method, Request, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use url::Url;

use super::NAME;
use super::service_token::ServiceToken;
use crate::account_api::{Failure, ask, read, trouble};
use crate::http::Http;
use crate::oauth2::Answer;

/// The header that brings the asker's token.
const TOKEN: &str = "x-auth-token";
/// The header of an answer that holds a new token.
const SUBJECT_TOKEN: &str = "x-subject-token";
/// The header of a refusal by which Keystone wants a second factor.
const RECEIPT: &str = "openstack-auth-receipt";
/// Most groups of one user that are taken.
const MAX_GROUPS: usize = 20_000;
/// Most pages of them.
const MAX_PAGES: usize = 200;

/// A name, its domain and its password.
pub struct Credentials {
    /// The user's name.
    pub name: String,
    /// Their domain, as a request names it.
    pub domain: Value,
    /// Their password.
    pub password: SecretString,
}

/// What came of a sign-in.
pub enum Signed {
    /// A token.
    In(Issued),
    /// Keystone's verdict, for logs.
    Refused(String),
}

/// A token, and whose it is.
pub struct Issued {
    /// The token.
    pub token: Arc<SecretString>,
    /// How long it is good, by Keystone's own clock.
    pub lifetime: Duration,
    /// Whose.
    pub user: Named,
    /// For which domain, if for one.
    pub domain: Option<Place>,
}

/// A user as a token names them.
#[derive(Deserialize)]
pub struct Named {
    /// Their ID.
    pub id: String,
    /// Their domain.
    pub domain: Place,
}

/// A domain as a token names it.
#[derive(Deserialize)]
pub struct Place {
    /// Its ID.
    pub id: String,
    /// Its name.
    pub name: String,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Token,
}

#[derive(Deserialize)]
struct Token {
    user: Named,
    domain: Option<Place>,
    issued_at: String,
    expires_at: String,
}

#[derive(Deserialize)]
struct UserAnswer {
    user: Map<String, Value>,
}

#[derive(Deserialize)]
struct UsersAnswer {
    users: Vec<Value>,
}

#[derive(Deserialize)]
struct DomainAnswer<T> {
    domain: T,
}

#[derive(Deserialize)]
struct DomainsAnswer {
    domains: Vec<Place>,
}

#[derive(Deserialize)]
struct GroupsAnswer {
    groups: Vec<Value>,
    #[serde(default)]
    links: Links,
    #[serde(default)]
    truncated: bool,
}

#[derive(Default, Deserialize)]
struct Links {
    next: Option<String>,
}

/// What Keystone says instead of an answer.
#[derive(Deserialize)]
struct Refusal {
    error: RefusalCode,
}

#[derive(Deserialize)]
struct RefusalCode {
    code: u16,
}

/// The endpoint and our account there.
pub struct Api {
    /// How it is asked.
    pub http: Http,
    /// Where it is, with its version.
    pub base: Url,
    /// Our token.
    pub token: ServiceToken,
    /// Whether that is for the users' domain, and not for the system.
    pub reads_one_domain: bool,
    /// Whether our account is one of the users that it may read.
    pub is_among_users: bool,
}

impl Api {
    /// Signs somebody in, for a token of this scope.
    ///
    /// # Errors
    /// [`Failure`]: no verdict.
    pub async fn sign_in(
        &self,
        credentials: &Credentials,
        scope: &Value,
    ) -> Result<Signed, Failure> {
        let body = json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": {
                "name": credentials.name, "domain": credentials.domain,
                "password": credentials.password.expose_secret(),
            }}},
            "scope": scope,
        }});
        let url = self.below(&["auth", "tokens"], None);
        let request = Request::builder()
            .method(Method::POST)
            .uri(url.as_str())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json");
        let answer = ask(&self.http, request.body(body.to_string().into_bytes())).await?;
        match answer.status {
            StatusCode::CREATED => issued(&answer).map(Signed::In),
            // A name or password that is none (RFC 9110 15.5.1), whoever typed it.
            StatusCode::UNAUTHORIZED | StatusCode::BAD_REQUEST => {
                Ok(Signed::Refused(refusal(&answer)))
            }
            _ => Err(trouble(NAME, "a token", &answer)),
        }
    }

    /// A token of ours that was asked for this moment; it is the one that is used from now on.
    ///
    /// # Errors
    /// [`Failure::Account`] where Keystone refuses the account.
    pub async fn fresh_token(&self) -> Result<Issued, Failure> {
        let asked = self.ask_for_token().await;
        self.token.note(&asked).await;
        asked
    }

    async fn ask_for_token(&self) -> Result<Issued, Failure> {
        let account = &self.token.credentials;
        match self.sign_in(account, &self.token.scope).await? {
            Signed::In(issued) => Ok(issued),
            Signed::Refused(why) => Err(Failure::Account(format!(
                "{why}, of the service account {:?}: correct serviceAccount (name, domain, passwordSecretRef), and give it the role reader where serviceAccount.scope says",
                account.name
            ))),
        }
    }

    /// A user by their ID; `None` if Keystone says there is none, where our account may see them.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn user(&self, id: &str) -> Result<Option<Map<String, Value>>, Failure> {
        let what = "a user";
        let answer = self.get(&self.below(&["users", id], None), what).await?;
        match answer.status {
            StatusCode::OK => Ok(Some(read::<UserAnswer>(NAME, what, &answer.body)?.user)),
            // It may be our account's domain that is not found, since it is disabled.
            StatusCode::NOT_FOUND if is_keystones(&answer) => self.sees_others().await,
            // To who may read one domain alone, somebody who is in none is somebody of another.
            StatusCode::FORBIDDEN if self.reads_one_domain && is_keystones(&answer) => {
                self.sees_others().await
            }
            _ => Err(failed(what, &answer)),
        }
    }

    /// Nobody, where our account may read users at all, and finds itself if it is one: then it is this one who is not there.
    async fn sees_others(&self) -> Result<Option<Map<String, Value>>, Failure> {
        let what = "users";
        let mut url = self.below(&["users"], None);
        url.query_pairs_mut().append_pair("name", &self.token.credentials.name);
        let answer = self.get(&url, what).await?;
        if answer.status == StatusCode::NOT_FOUND && is_keystones(&answer) {
            let why = "Keystone does not find the service account's own domain: enable it (openstack domain set --enable)";
            return Err(Failure::Account(why.into()));
        }
        let found = success::<UsersAnswer>(what, &answer)?.users;
        if self.is_among_users && found.is_empty() {
            let why = "Keystone finds neither the user nor the service account itself: no verdict about either";
            return Err(Failure::Unusable(why.into()));
        }
        Ok(None)
    }

    /// All groups of a user.
    ///
    /// # Errors
    /// [`Failure`]; a list that is too long, or cut short, is one.
    pub async fn groups(&self, id: &str) -> Result<Vec<Value>, Failure> {
        let what = "the user's groups";
        let mut groups = Vec::new();
        let mut query = None;
        for _ in 0..MAX_PAGES {
            let url = self.below(&["users", id, "groups"], query.as_deref());
            let answer = self.get(&url, what).await?;
            let page: GroupsAnswer = success(what, &answer)?;
            if page.truncated {
                return Err(Failure::Unusable(
                    "Keystone cut the list of the user's groups short: raise list_limit in its section [identity], or remove it".into(),
                ));
            }
            groups.extend(page.groups);
            if groups.len() > MAX_GROUPS {
                break;
            }
            let Some(next) = page.links.next else { return Ok(groups) };
            // Keystone behind a proxy may know itself by another address.
            query = Url::parse(&next).ok().and_then(|next| next.query().map(str::to_owned));
            if query.is_none() {
                let why = "Keystone's next page of the user's groups has no address";
                return Err(Failure::Unusable(why.into()));
            }
        }
        Err(Failure::Unusable(format!(
            "Keystone lists more than {MAX_GROUPS} groups of the user, or on more than {MAX_PAGES} pages"
        )))
    }

    /// A domain by its ID.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn domain<T: DeserializeOwned>(&self, id: &str) -> Result<T, Failure> {
        let what = "the domain";
        let answer = self.get(&self.below(&["domains", id], None), what).await?;
        success::<DomainAnswer<T>>(what, &answer).map(|answer| answer.domain)
    }

    /// The ID of the domain of this name.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn domain_of_name(&self, name: Option<&str>) -> Result<String, Failure> {
        let what = "the domain";
        let mut url = self.below(&["domains"], None);
        url.query_pairs_mut().append_pair("name", name.unwrap_or_default());
        let answer = self.get(&url, what).await?;
        let domains = success::<DomainsAnswer>(what, &answer)?.domains;
        let found = domains.into_iter().find(|domain| Some(domain.name.as_str()) == name);
        found.map(|domain| domain.id).ok_or_else(|| {
            Failure::Unusable("Keystone has no domain of that name: correct domain.name".into())
        })
    }

    /// Asks with our token; where that is no good any more, once again with a new one.
    async fn get(&self, url: &Url, what: &str) -> Result<Answer, Failure> {
        let token = self.token.get(None, self.ask_for_token()).await?;
        let answer = self.ask(url, &token).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let token = self.token.get(Some(&token), self.ask_for_token()).await?;
        let answer = self.ask(url, &token).await?;
        if answer.status == StatusCode::UNAUTHORIZED {
            let why = format!("Keystone gave a token and does not take it for {what}");
            return Err(Failure::Unusable(why));
        }
        Ok(answer)
    }

    async fn ask(&self, url: &Url, token: &SecretString) -> Result<Answer, Failure> {
        let request = Request::builder()
            .uri(url.as_str())
            .header(header::ACCEPT, "application/json")
            .header(TOKEN, token.expose_secret());
        ask(&self.http, request.body(Vec::new())).await
    }

    fn below(&self, path: &[&str], query: Option<&str>) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(path);
        }
        url.set_query(query);
        url
    }
}

/// Whether Keystone itself says so, and not what stands before it.
fn is_keystones(answer: &Answer) -> bool {
    let said: Option<Refusal> = serde_json::from_slice(&answer.body).ok();
    said.is_some_and(|said| said.error.code == answer.status.as_u16())
}

fn success<T: DeserializeOwned>(what: &str, answer: &Answer) -> Result<T, Failure> {
    if answer.status != StatusCode::OK {
        return Err(failed(what, answer));
    }
    read(NAME, what, &answer.body)
}

fn failed(what: &str, answer: &Answer) -> Failure {
    if answer.status == StatusCode::FORBIDDEN {
        return Failure::Account(format!(
            "Keystone does not let the service account read {what}: give it the role reader on the users' domain (serviceAccount.scope: Domain), or on the system (System)"
        ));
    }
    trouble(NAME, what, answer)
}

/// Why somebody is refused, by what Keystone lets on.
fn refusal(answer: &Answer) -> String {
    if answer.status == StatusCode::BAD_REQUEST {
        return "Keystone takes this for no name or password (400)".to_owned();
    }
    if answer.headers.contains_key(RECEIPT) {
        return "Keystone wants a second factor, which this connector cannot bring".to_owned();
    }
    let said: Option<Value> = serde_json::from_slice(&answer.body).ok();
    let said = said.as_ref().and_then(|said| said["error"]["message"].as_str());
    let expired = said.is_some_and(|said| said.starts_with("The password is expired"));
    if expired {
        return "the password has expired (401)".to_owned();
    }
    "Keystone refuses the name, the password or the account (401)".to_owned()
}

fn issued(answer: &Answer) -> Result<Issued, Failure> {
    let said: TokenAnswer = read(NAME, "a token", &answer.body)?;
    let unusable = |why: &str| Failure::Unusable(format!("Keystone's answer for a token {why}"));
    let token = answer.header(SUBJECT_TOKEN).filter(|token| !token.is_empty());
    let token = token.ok_or_else(|| unusable("has no X-Subject-Token"))?;
    let time = |text: &str| DateTime::parse_from_rfc3339(text);
    let (Ok(from), Ok(until)) = (time(&said.token.issued_at), time(&said.token.expires_at)) else {
        return Err(unusable("does not say when it was given and when it ends"));
    };
    Ok(Issued {
        token: Arc::new(SecretString::from(token)),
        lifetime: (until - from).to_std().unwrap_or_default(),
        user: said.token.user,
        domain: said.token.domain,
    })
}
