//! The APIs behind the tokens.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::token::is_basic;
use super::{Conduct, Site, Style, add};

/// What an honest vendor says about its one user.
pub(super) fn documents(style: Style, url: &str) -> BTreeMap<String, Value> {
    let said = match style {
        Style::Github => github(),
        Style::Gitlab => gitlab(),
        Style::Gitea => gitea(),
        Style::BitbucketCloud => bitbucket_cloud(),
        Style::Openshift => openshift(url),
        Style::Generic => generic(),
    };
    said.as_object()
        .into_iter()
        .flatten()
        .map(|(path, said)| (path.clone(), said.clone()))
        .collect()
}

fn github() -> Value {
    json!({
        "/api/v3/user": {
            "login": "ada", "id": 1815, "node_id": "MDQ6VXNlcjE4MTU=", "type": "User",
            "name": "Ada Lovelace", "email": null, "suspended_at": null,
            "avatar_url": "https://avatars.example.com/u/1815", "html_url": "https://github.example.com/ada",
        },
        "/api/v3/user/emails": [
            {"email": "ada@home.example", "primary": false, "verified": true, "visibility": null},
            {"email": "ada@example.com", "primary": true, "verified": true, "visibility": "private"},
        ],
        "/api/v3/user/orgs": [
            {"login": "acme", "id": 100, "description": "A company"},
            {"login": "hobby", "id": 101, "description": null},
        ],
        "/api/v3/user/teams": [
            {"id": 1, "name": "Site Admins", "slug": "site-admins", "parent": null,
             "organization": {"login": "acme", "id": 100}},
            {"id": 2, "name": "chess", "slug": "chess", "parent": null,
             "organization": {"login": "hobby", "id": 101}},
        ],
        "/api/v3/organizations/200": {"login": "secretive", "id": 200},
    })
}

fn gitlab() -> Value {
    json!({
        "/oauth/userinfo": {
            "sub": "1815", "name": "Ada Lovelace", "nickname": "ada", "preferred_username": "ada",
            "email": "ada@example.com", "email_verified": true,
            "profile": "https://gitlab.example.com/ada", "picture": "https://gitlab.example.com/ada.png",
            "groups": ["acme", "acme/platform"],
            "https://gitlab.org/claims/groups/owner": ["acme/platform"],
            "https://gitlab.org/claims/groups/developer": ["acme"],
        },
        "/api/v4/groups": [
            {"id": 1, "full_path": "acme"}, {"id": 2, "full_path": "acme/platform"},
            {"id": 3, "full_path": "partner/shared"},
        ],
    })
}

fn gitea() -> Value {
    json!({
        "/api/v1/user": {
            "id": 1815, "login": "ada", "full_name": "Ada Lovelace", "email": "ada@example.com",
            "avatar_url": "https://gitea.example.com/avatars/ada", "active": true, "prohibit_login": false,
        },
        "/api/v1/user/emails": [
            {"email": "ada@example.com", "verified": true, "primary": true, "user_id": 1815},
            {"email": "ada@home.example", "verified": true, "primary": false, "user_id": 1815},
        ],
        "/api/v1/user/orgs": [
            {"id": 100, "name": "acme", "username": "acme"}, {"id": 101, "name": "hobby", "username": "hobby"},
        ],
        "/api/v1/user/teams": [
            {"id": 1, "name": "Owners", "organization": {"id": 100, "name": "acme"}},
            {"id": 2, "name": "chess", "organization": {"id": 101, "name": "hobby"}},
        ],
    })
}

fn bitbucket_cloud() -> Value {
    json!({
        "/2.0/user": {
            "type": "user", "uuid": "{1815}", "account_id": "5b10", "display_name": "Ada Lovelace",
            "nickname": "ada", "username": "ada", "account_status": "active",
            "links": {"avatar": {"href": "https://bitbucket.example.com/ada.png"}},
        },
        "/2.0/user/emails": [
            {"type": "email", "email": "ada@home.example", "is_primary": false, "is_confirmed": true},
            {"type": "email", "email": "ada@example.com", "is_primary": true, "is_confirmed": true},
        ],
        "/2.0/user/workspaces": [
            {"type": "workspace_access", "administrator": true,
             "workspace": {"type": "workspace_base", "slug": "acme", "uuid": "{100}"}},
            {"type": "workspace_access", "administrator": false,
             "workspace": {"type": "workspace_base", "slug": "hobby", "uuid": "{101}"}},
        ],
    })
}

fn openshift(url: &str) -> Value {
    json!({
        "/.well-known/oauth-authorization-server": {
            "issuer": url, "authorization_endpoint": format!("{url}/oauth/authorize"),
            "token_endpoint": format!("{url}/oauth/token"),
            "scopes_supported": ["user:check-access", "user:full", "user:info"],
            "response_types_supported": ["code", "token"],
            "grant_types_supported": ["authorization_code", "implicit"],
            "code_challenge_methods_supported": ["plain", "S256"],
        },
        "/apis/user.openshift.io/v1/users/~": {
            "kind": "User", "apiVersion": "user.openshift.io/v1",
            "metadata": {"name": "ada", "uid": "0b8f1c1e-1815", "resourceVersion": "7"},
            "fullName": "Ada Lovelace", "identities": ["htpasswd:ada"],
            "groups": ["acme", "system:authenticated", "system:authenticated:oauth"],
        },
    })
}

fn generic() -> Value {
    json!({
        "/userinfo": {
            "id": 1815, "login": "ada", "data": {"mail": "ada@example.com", "confirmed": true},
            "preferred_username": "ada", "name": "Ada Lovelace",
            "email": "ada@example.com", "email_verified": true, "teams": [{"name": "acme"}],
        },
    })
}

pub(super) async fn answer(
    State(site): State<Arc<Site>>,
    method: Method,
    headers: HeaderMap,
    uri: Uri,
    body: Bytes,
) -> Response {
    let mut conduct = site.conduct();
    let path = uri.path();
    conduct.log.push(uri.path_and_query().map_or(path, |all| all.as_str()).to_owned());
    if let Some(response) = conduct.scripted(path) {
        return response;
    }
    if site.style == Style::Github && method == Method::POST {
        return is_token_good(&conduct, &headers, (path, &body));
    }
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = shown.and_then(|shown| shown.strip_prefix("Bearer "));
    if let Some(response) = openshifts_own(site.style, &conduct, (path, token)) {
        return response;
    }
    if !token.is_some_and(|token| conduct.access_tokens.contains(token)) {
        return message(StatusCode::UNAUTHORIZED, "Bad credentials");
    }
    let mut response = match conduct.documents.get(path) {
        Some(Value::Array(items)) => page(&site, &conduct, (&uri, items)),
        Some(object) => Json(object.clone()).into_response(),
        None => message(StatusCode::NOT_FOUND, "Not Found"),
    };
    add(&mut response, conduct.headers.get(path).map(Vec::as_slice).unwrap_or_default());
    response
}

/// What OpenShift says without a user's token: where its OAuth server is, and to a service account who that is.
fn openshifts_own(
    style: Style,
    conduct: &Conduct,
    (path, token): (&str, Option<&str>),
) -> Option<Response> {
    if style != Style::Openshift {
        return None;
    }
    if path.starts_with("/.well-known/") {
        return conduct.documents.get(path).map(|said| Json(said.clone()).into_response());
    }
    let is_ours = conduct.client_id.starts_with("system:") && token == Some(&conduct.secret);
    let ours = json!({"kind": "User", "metadata": {"name": conduct.client_id}});
    is_ours.then(|| Json(ours).into_response())
}

/// `POST /applications/{client_id}/token` of GitHub.
fn is_token_good(conduct: &Conduct, headers: &HeaderMap, (path, body): (&str, &[u8])) -> Response {
    if path != format!("/api/v3/applications/{}/token", conduct.client_id) {
        return message(StatusCode::NOT_FOUND, "Not Found");
    }
    if !is_basic(headers, conduct) {
        return message(StatusCode::UNAUTHORIZED, "Bad credentials");
    }
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let token = body["access_token"].as_str().unwrap_or_default();
    if conduct.access_tokens.contains(token) {
        Json(json!({"id": 1, "token": token, "user": {"login": "ada"}})).into_response()
    } else {
        message(StatusCode::NOT_FOUND, "Not Found")
    }
}

fn message(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({"message": text}))).into_response()
}

/// One page of a list, and where the next is.
fn page(site: &Site, conduct: &Conduct, (uri, items): (&Uri, &[Value])) -> Response {
    let query: BTreeMap<String, String> = reqwest::Url::parse(&format!("{}{uri}", site.url))
        .map(|url| url.query_pairs().into_owned().collect())
        .unwrap_or_default();
    let number = |name: &str, default: usize| {
        query.get(name).and_then(|said| said.parse().ok()).unwrap_or(default)
    };
    let (wanted, parameter) = match site.style {
        Style::Github | Style::Gitlab | Style::Openshift | Style::Generic => {
            (number("per_page", 30), "per_page")
        }
        Style::Gitea => (number("limit", 50), "limit"),
        Style::BitbucketCloud => (number("pagelen", 10), "pagelen"),
    };
    let (length, at) = (wanted.min(conduct.page_size).max(1), number("page", 1));
    let start = length.saturating_mul(at.saturating_sub(1)).min(items.len());
    let end = start.saturating_add(length).min(items.len());
    let own = format!("{}{}?{parameter}={length}&page={}", site.url, uri.path(), at + 1);
    let next = (end < items.len()).then_some(own);
    let next = conduct.next_pages.get(uri.path()).cloned().or(next);
    if site.style == Style::BitbucketCloud {
        let mut body = json!({"values": items[start..end], "page": at, "size": items.len()});
        if let Some(next) = next {
            body["next"] = next.into();
        }
        return Json(body).into_response();
    }
    let mut response = Json(&items[start..end]).into_response();
    if let Some(next) = next {
        let link = format!("<{}{}>; rel=\"first\", <{next}>; rel=\"next\"", site.url, uri.path());
        add(&mut response, &[("link", link)]);
    }
    response
}
