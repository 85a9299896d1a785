//! Dynamic client registration (RFC 7591): a line for a bearer token, and metadata in JSON.
//!
//! Nobody registers without the token, and whoever has it registers nothing beyond the bounds, held here against another's
//! parser of URLs.

use std::collections::BTreeSet;
use std::sync::{Mutex, OnceLock, PoisonError};

use claviger_domain::client::{Grant, ResponseType};
use claviger_domain::fakes::World;
use claviger_domain::registration::{Bounds, Registration, RegistrationError, register, withdraw};
use claviger_protocol::registration::{ClientMetadata, RegisteredProof};
use secrecy::SecretString;
use serde_json::{Map, Value};
use tokio::runtime::Runtime;

/// The one that was given out.
const TOKEN: &str = "initial-access-token";

/// A registration: read, printed and read again it is the same, and it is made within the bounds or not at all.
pub fn registration(bytes: &[u8]) {
    static SITE: OnceLock<Mutex<(Runtime, World)>> = OnceLock::new();
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let Ok(token) = std::str::from_utf8(&bytes[..end]) else { return };
    let body = bytes.get(end + 1..).unwrap_or_default();
    let read = ClientMetadata::parse(body);
    if let Ok(metadata) = &read {
        is_bounded(metadata);
        let printed = serde_json::to_vec(&metadata.to_members()).expect("metadata print");
        assert_eq!(ClientMetadata::parse(&printed).as_ref(), Ok(metadata), "read otherwise");
    }
    let site = SITE.get_or_init(|| Mutex::new(open()));
    let site = site.lock().unwrap_or_else(PoisonError::into_inner);
    let (runtime, World { provider, issuer, registry, .. }) = &*site;
    let bearer = (!token.is_empty()).then(|| SecretString::from(token));
    match runtime.block_on(register(provider, issuer, bearer.as_ref(), body)) {
        Ok(made) => {
            assert_eq!(token, TOKEN, "registered without the token");
            assert_eq!(registry.take_requests(), ["create"]);
            is_within(&made.answer);
            assert!(made.client_id.starts_with("registered/dynamic-"), "{}", made.client_id);
            runtime.block_on(withdraw(provider, &made));
            assert_eq!(registry.take_requests(), ["delete"]);
            return;
        }
        Err(RegistrationError::Unauthorized) => assert_ne!(token, TOKEN, "the token is refused"),
        Err(RegistrationError::Refused(_)) => assert_eq!(token, TOKEN, "a stranger is answered"),
        Err(error) => panic!("{error}"),
    }
    assert!(registry.take_requests().is_empty(), "a refusal costs a request");
}

fn open() -> (Runtime, World) {
    let mut world = World::new();
    world.issuer.registration = Some(Registration {
        namespace: "registered".into(),
        initial_access_tokens: vec![TOKEN.into()],
        max_clients: 10,
        bounds: Bounds {
            grants: BTreeSet::from([Grant::AuthorizationCode, Grant::RefreshToken]),
            response_types: BTreeSet::from([ResponseType::Code]),
            scopes: ["openid", "email"].map(str::to_owned).into(),
            redirect_hosts: vec!["app.example.org".into(), "*.apps.example.org".into()],
            jwks_hosts: vec!["keys.example.org".into()],
            back_channel_hosts: vec!["out.example.org".into()],
        },
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    (runtime, world)
}

/// What any client may say of itself.
fn is_bounded(metadata: &ClientMetadata) {
    assert!(metadata.redirect_uris.len() <= 32 && metadata.post_logout_redirect_uris.len() <= 32);
    assert!(metadata.contacts.len() <= 8);
    let name = metadata.name.as_deref().unwrap_or_default();
    assert!(name.chars().count() <= 64 && !name.chars().any(char::is_control), "{name:?}");
    let pages = &metadata.pages;
    let back_channel = metadata.logout.back_channel.as_ref().map(|it| it.uri.clone());
    let pages = [&pages.client, &pages.logo, &pages.policy, &pages.terms, &back_channel];
    for page in pages.into_iter().flatten() {
        assert!(page.len() <= 512 && page.starts_with("https://"), "{page}");
        assert!(!page.contains(['"', ' ', '\\', '#']), "{page}");
    }
    if let RegisteredProof::KeysAt(uri) = &metadata.proof {
        assert!(uri.len() <= 512 && uri.starts_with("https://"), "{uri}");
    }
}

/// What was registered, as its answer says it.
fn is_within(answer: &Map<String, Value>) {
    let texts = |name: &str| -> Vec<String> {
        let several = answer.get(name).and_then(Value::as_array).into_iter().flatten();
        several.map(|one| one.as_str().expect("texts").to_owned()).collect()
    };
    let uris = texts("redirect_uris").into_iter().chain(texts("post_logout_redirect_uris"));
    let pages = ["client_uri", "logo_uri", "policy_uri", "tos_uri", "frontchannel_logout_uri"];
    let pages = pages.into_iter();
    let pages = pages.filter_map(|name| Some(answer.get(name)?.as_str()?.to_owned()));
    for uri in uris.chain(pages) {
        let host = host_of(&uri);
        let below = host.strip_suffix(".apps.example.org").is_some_and(|sub| !sub.is_empty());
        assert!(host == "app.example.org" || below, "{uri} goes to {host}");
    }
    if let Some(uri) = answer.get("jwks_uri").and_then(Value::as_str) {
        assert_eq!(host_of(uri), "keys.example.org", "{uri}");
    }
    if let Some(uri) = answer.get("backchannel_logout_uri").and_then(Value::as_str) {
        assert_eq!(host_of(uri), "out.example.org", "{uri}");
    }
    let grants = ["authorization_code", "refresh_token", "implicit"];
    assert!(texts("grant_types").iter().all(|grant| grants.contains(&grant.as_str())));
    let by_browser = !texts("redirect_uris").is_empty();
    assert!(!by_browser || texts("response_types").iter().all(|one| one == "code"));
    let scope = answer["scope"].as_str().expect("scopes");
    assert!(scope.split(' ').all(|scope| ["openid", "email"].contains(&scope)), "{scope}");
    let has_secret = answer.contains_key("client_secret");
    let method = answer["token_endpoint_auth_method"].as_str().expect("a method");
    assert_eq!(has_secret, method.starts_with("client_secret_"), "{method}");
}

/// Host as a browser sees it.
fn host_of(uri: &str) -> String {
    let url = url::Url::parse(uri).expect("a registered URI is a URL");
    assert!(url.username().is_empty() && url.password().is_none(), "{uri}");
    url.host_str().unwrap_or_default().to_owned()
}
