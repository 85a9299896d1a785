//! Atlassian Crowd's REST API for applications, as far as it signs users in and says of whom it consists: the paths, pages and
//! error bodies that Atlassian documents (Crowd 6). A test changes whom it knows.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use axum::Json;
use axum::body::Bytes;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::pki::CertificateAuthority;
use crate::web_service::WebService;

/// Name of the application that it lets in.
pub const APPLICATION: &str = "claviger";
/// That one's password, at first.
pub const APPLICATION_PASSWORD: &str = "the-crowds-password-of-claviger";
/// Password of `ada`.
pub const PASSWORD: &str = "wonderland";
const API: &str = "/crowd/rest/usermanagement/1";

/// A running Crowd that knows `ada`, who is of `acme` and, within that, of `everybody`.
#[derive(Debug)]
pub struct Crowd {
    service: WebService,
    people: Arc<Mutex<People>>,
}

/// Whom it knows.
#[derive(Debug, Default)]
pub struct People {
    /// The application's password.
    pub application_password: String,
    /// Users by name.
    pub users: BTreeMap<String, Person>,
}

/// A user.
#[derive(Debug, Clone, Default)]
pub struct Person {
    /// The directory's key; some give none.
    pub key: Option<String>,
    /// Password.
    pub password: String,
    /// Whether that has expired.
    pub expired: bool,
    /// Whether the account is in use.
    pub active: bool,
    /// Groups.
    pub direct: Vec<String>,
    /// Groups within which those are.
    pub nested: Vec<String>,
}

impl Deref for Crowd {
    type Target = WebService;

    fn deref(&self) -> &WebService {
        &self.service
    }
}

impl Crowd {
    /// Starts one with a certificate of this authority.
    ///
    /// # Errors
    /// When there is no port, or the certificate cannot be made.
    pub async fn start(authority: &CertificateAuthority) -> Result<Self> {
        let ada = Person {
            key: Some("557057:1815".to_owned()),
            password: PASSWORD.to_owned(),
            active: true,
            direct: vec!["acme".to_owned()],
            nested: vec!["everybody".to_owned()],
            ..Person::default()
        };
        let people = Arc::new(Mutex::new(People {
            application_password: APPLICATION_PASSWORD.to_owned(),
            users: BTreeMap::from([("ada".to_owned(), ada)]),
        }));
        let known = Arc::clone(&people);
        let answering = move |parts: Parts, body: Bytes| {
            let people = known.lock().unwrap_or_else(PoisonError::into_inner);
            let response = people.answer(&parts, &body);
            Box::pin(std::future::ready(response)) as futures::future::BoxFuture<'static, Response>
        };
        let service = WebService::start(authority, Box::new(answering)).await?;
        Ok(Self { service, people })
    }

    /// Whom it knows from now on.
    pub fn people(&self) -> MutexGuard<'_, People> {
        self.people.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes `ada`.
    pub fn change_ada(&self, change: impl FnOnce(&mut Person)) {
        if let Some(ada) = self.people().users.get_mut("ada") {
            change(ada);
        }
    }

    /// The `upstream` of a Connector to it, for a Secret `crowd`.
    pub fn upstream(&self, authority: &str) -> Value {
        json!({"atlassianCrowd": {
            "url": format!("{}/crowd", self.url()), "applicationName": APPLICATION,
            "applicationPasswordSecretRef": {"name": "crowd", "key": "password"},
            "tls": {"caBundle": authority},
        }})
    }
}

impl People {
    fn answer(&self, parts: &Parts, body: &[u8]) -> Response {
        let pair = format!("{APPLICATION}:{}", self.application_password);
        let basic = format!("Basic {}", data_encoding::BASE64.encode(pair.as_bytes()));
        let shown = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        if shown != Some(basic.as_str()) {
            // Tomcat's page, and no JSON.
            return (StatusCode::UNAUTHORIZED, "Application failed to authenticate")
                .into_response();
        }
        let query = reqwest::Url::parse(&format!("https://localhost{}", parts.uri));
        let query: BTreeMap<String, String> =
            query.map(|url| url.query_pairs().into_owned().collect()).unwrap_or_default();
        let said = |name: &str| query.get(name).map(String::as_str);
        let path = parts.uri.path().strip_prefix(API).unwrap_or_default();
        let name = said("username").unwrap_or_default().to_lowercase();
        match (parts.method.as_str(), path) {
            ("POST", "/authentication") => self.sign_in(&name, body),
            ("GET", "/user") => {
                let by_key = |(_, person): &(&String, &Person)| {
                    said("key").is_some_and(|key| person.key.as_deref() == Some(key))
                };
                let found = match said("key") {
                    Some(_) => self.users.iter().find(by_key),
                    None => self.users.get_key_value(&name),
                };
                match found {
                    Some((name, person)) => Json(person.said(name)).into_response(),
                    None => error(StatusCode::NOT_FOUND, "USER_NOT_FOUND"),
                }
            }
            ("GET", "/user/group/nested" | "/user/group/direct") => match self.users.get(&name) {
                Some(person) => {
                    let number = |name: &str, default: usize| {
                        said(name).and_then(|said| said.parse().ok()).unwrap_or(default)
                    };
                    let page = (number("start-index", 0), number("max-results", 1_000));
                    Json(person.groups(path.ends_with("nested"), page)).into_response()
                }
                None => error(StatusCode::NOT_FOUND, "USER_NOT_FOUND"),
            },
            ("GET", "/search") => {
                let users: Vec<_> =
                    self.users.keys().take(1).map(|name| json!({"name": name})).collect();
                Json(json!({"expand": "user", "users": users})).into_response()
            }
            _ => (StatusCode::NOT_FOUND, "<html>").into_response(),
        }
    }

    fn sign_in(&self, name: &str, body: &[u8]) -> Response {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        match self.users.get(name) {
            None => error(StatusCode::BAD_REQUEST, "USER_NOT_FOUND"),
            Some(person) if body["value"] != person.password.as_str() => {
                error(StatusCode::BAD_REQUEST, "INVALID_USER_AUTHENTICATION")
            }
            Some(person) if !person.active => error(StatusCode::BAD_REQUEST, "INACTIVE_ACCOUNT"),
            Some(person) if person.expired => error(StatusCode::BAD_REQUEST, "EXPIRED_CREDENTIAL"),
            Some(person) => Json(person.said(name)).into_response(),
        }
    }
}

impl Person {
    fn said(&self, name: &str) -> Value {
        let mut said = json!({
            "expand": "attributes",
            "link": {"href": format!("https://crowd.example.com{API}/user?username={name}"), "rel": "self"},
            "name": name, "first-name": "Ada", "last-name": "Lovelace", "display-name": "Ada Lovelace",
            "email": format!("{name}@example.com"), "active": self.active,
        });
        if let Some(key) = &self.key {
            said["key"] = key.clone().into();
        }
        said
    }

    fn groups(&self, nested: bool, (start, most): (usize, usize)) -> Value {
        let further: &[String] = if nested { &self.nested } else { &[] };
        let groups = self.direct.iter().chain(further).skip(start).take(most);
        json!({"expand": "group", "groups": groups.map(|name| json!({"name": name})).collect::<Vec<_>>()})
    }
}

fn error(status: StatusCode, reason: &str) -> Response {
    (status, Json(json!({"reason": reason, "message": "so it is"}))).into_response()
}
