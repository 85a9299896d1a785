//! The token endpoints.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Form, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{CODE, Conduct, Site, Style};

/// What is wrong with a question.
enum Wrong {
    Client,
    Callback,
    Code,
    RefreshToken,
}

pub(super) async fn token(
    State(site): State<Arc<Site>>,
    headers: HeaderMap,
    Form(form): Form<BTreeMap<String, String>>,
) -> Response {
    let mut conduct = site.conduct();
    conduct.log.push(site.style.token().to_owned());
    conduct.forms.push(form.clone());
    if let Some(response) = conduct.scripted(site.style.token()) {
        return response;
    }
    if !knows(&conduct, &headers, &form) {
        return error(site.style, &Wrong::Client);
    }
    if of_callback(&site, &conduct, &form) {
        return error(site.style, &Wrong::Callback);
    }
    let of = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    let taken = match of("grant_type") {
        "authorization_code" => conduct.take_code(&of),
        "refresh_token" => conduct.take_refresh_token(of("refresh_token")),
        _ => Err(Wrong::Code),
    };
    let scope = match taken {
        Ok(scope) => scope,
        Err(wrong) => return error(site.style, &wrong),
    };
    Json(conduct.give(site.style, &scope)).into_response()
}

impl Conduct {
    /// The scopes of the code that the form brings.
    fn take_code<'f>(&mut self, of: &impl Fn(&str) -> &'f str) -> Result<String, Wrong> {
        let asked = self.asked.take_if(|asked| {
            let is_ours = s256(of("code_verifier")) == asked.challenge;
            is_ours && of("code") == CODE && of("redirect_uri") == asked.redirect_uri
        });
        asked.map(|asked| asked.scope).ok_or(Wrong::Code)
    }

    fn take_refresh_token(&mut self, used: &str) -> Result<String, Wrong> {
        if !self.refresh_tokens.contains(used) {
            return Err(Wrong::RefreshToken);
        }
        if self.rotates {
            self.refresh_tokens.clear();
        }
        self.access_tokens.clear();
        Ok(String::new())
    }

    fn give(&mut self, style: Style, asked: &str) -> Value {
        self.given += 1;
        let access_token = format!("access-{}", self.given);
        self.access_tokens.insert(access_token.clone());
        let mut answer = json!({"access_token": access_token, "token_type": "bearer"});
        let granted = self.granted.clone();
        match style {
            Style::Github => {
                answer["scope"] = granted.unwrap_or_else(|| asked.replace(' ', ",")).into();
            }
            Style::Gitlab | Style::Openshift | Style::Generic => {
                answer["scope"] = granted.unwrap_or_else(|| asked.to_owned()).into();
            }
            Style::BitbucketCloud => answer["scopes"] = "account email".into(),
            Style::Gitea => {}
        }
        if self.expires {
            answer["expires_in"] = self.expires_in.into();
        }
        if self.expires && style != Style::Openshift {
            if self.rotates || self.refresh_tokens.is_empty() {
                self.refresh_tokens.insert(format!("refresh-{}", self.given));
            }
            answer["refresh_token"] = self.refresh_tokens.last().cloned().into();
        }
        answer
    }
}

/// Whether it is the redirect URI that is looked at first, and no good: Gitea knows those registered, GitLab wants one.
fn of_callback(site: &Site, conduct: &Conduct, form: &BTreeMap<String, String>) -> bool {
    let said = form.get("redirect_uri");
    let is_code = form.get("grant_type").is_some_and(|grant| grant == "authorization_code");
    match site.style {
        Style::Gitea => {
            let registered = conduct.asked.as_ref().map(|asked| &asked.redirect_uri);
            said.is_some() && said != registered
        }
        Style::Gitlab => is_code && said.is_none(),
        Style::Github | Style::BitbucketCloud | Style::Openshift | Style::Generic => false,
    }
}

fn knows(conduct: &Conduct, headers: &HeaderMap, form: &BTreeMap<String, String>) -> bool {
    let posted = |name: &str, value: &str| form.get(name).is_some_and(|said| said == value);
    is_basic(headers, conduct)
        || (posted("client_id", &conduct.client_id) && posted("client_secret", &conduct.secret))
}

/// Whether we showed ourselves by HTTP Basic.
pub(super) fn is_basic(headers: &HeaderMap, conduct: &Conduct) -> bool {
    let Conduct { client_id, secret, .. } = conduct;
    let basic = data_encoding::BASE64.encode(format!("{client_id}:{secret}").as_bytes());
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    shown == Some(format!("Basic {basic}").as_str())
}

fn error(style: Style, wrong: &Wrong) -> Response {
    let (status, code, description) = match (style, wrong) {
        (Style::Github, Wrong::Client) => (
            StatusCode::OK,
            "incorrect_client_credentials",
            "The client_id and/or client_secret passed are incorrect.",
        ),
        (Style::Github, Wrong::Code) => {
            (StatusCode::OK, "bad_verification_code", "The code passed is incorrect or expired.")
        }
        (Style::Github, Wrong::RefreshToken) => (
            StatusCode::OK,
            "bad_refresh_token",
            "The refresh token passed is incorrect or expired.",
        ),
        (Style::Gitea, Wrong::Callback) => {
            (StatusCode::BAD_REQUEST, "unauthorized_client", "unexpected redirect URI")
        }
        (_, Wrong::Callback) => (
            StatusCode::BAD_REQUEST,
            "invalid_request",
            "Missing required parameter: redirect_uri.",
        ),
        (Style::Gitea, Wrong::Client) => {
            (StatusCode::BAD_REQUEST, "unauthorized_client", "invalid client secret")
        }
        (Style::Gitea, Wrong::Code) => {
            (StatusCode::BAD_REQUEST, "unauthorized_client", "client is not authorized")
        }
        (Style::Gitea, Wrong::RefreshToken) => {
            (StatusCode::BAD_REQUEST, "unauthorized_client", "unable to parse refresh token")
        }
        (Style::Openshift, Wrong::Client) => (
            StatusCode::BAD_REQUEST,
            "unauthorized_client",
            "The client is not authorized to request a token using this method.",
        ),
        (_, Wrong::Client) => (
            StatusCode::UNAUTHORIZED,
            "invalid_client",
            "Client authentication failed due to unknown client",
        ),
        (_, Wrong::Code | Wrong::RefreshToken) => (
            StatusCode::BAD_REQUEST,
            "invalid_grant",
            "The provided authorization grant is invalid, expired, revoked",
        ),
    };
    (status, Json(json!({"error": code, "error_description": description}))).into_response()
}

fn s256(verifier: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes());
    data_encoding::BASE64URL_NOPAD.encode(digest.as_ref())
}
