//! The token endpoints.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Form, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{CLIENT_ID, CODE, Conduct, Site, Style};

/// What is wrong with a question.
enum Wrong {
    Client,
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
        let scope = self.granted.clone().unwrap_or_else(|| match style {
            Style::Github => asked.replace(' ', ","),
        });
        let mut answer =
            json!({"access_token": access_token, "token_type": "bearer", "scope": scope});
        if self.expires {
            answer["expires_in"] = 28_800.into();
            if self.rotates || self.refresh_tokens.is_empty() {
                self.refresh_tokens.insert(format!("refresh-{}", self.given));
            }
            answer["refresh_token"] = self.refresh_tokens.last().cloned().into();
        }
        answer
    }
}

fn knows(conduct: &Conduct, headers: &HeaderMap, form: &BTreeMap<String, String>) -> bool {
    let posted = |name: &str, value: &str| form.get(name).is_some_and(|said| said == value);
    is_basic(headers, &conduct.secret)
        || (posted("client_id", CLIENT_ID) && posted("client_secret", &conduct.secret))
}

/// Whether we showed ourselves by HTTP Basic.
pub(super) fn is_basic(headers: &HeaderMap, secret: &str) -> bool {
    let basic = data_encoding::BASE64.encode(format!("{CLIENT_ID}:{secret}").as_bytes());
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
    };
    (status, Json(json!({"error": code, "error_description": description}))).into_response()
}

fn s256(verifier: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes());
    data_encoding::BASE64URL_NOPAD.encode(digest.as_ref())
}
