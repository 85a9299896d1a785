//! What a user, a client or the cluster holds, changed by a byte or more: worth nothing at the server it is presented to.
//!
//! Each was good before it was changed: that is seen when the site opens.

use std::sync::{Mutex, OnceLock, PoisonError};

use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use axum::http::{HeaderValue, Request};
use claviger_domain::dpop;
use claviger_domain::fakes::{CLUSTER_ISSUER, REDIRECT_URI};
use claviger_jose::{Algorithm, PrivateKey, Signer};
use claviger_protocol::client_auth::JWT_BEARER;
use claviger_protocol::{device, jwt_bearer, token_exchange};
use serde_json::{Value, json};

use super::signed::{ACCOUNT, NOW};
use super::site::{
    Answer, CHALLENGE, HOST_NAME, INITIAL_TOKEN, SIGNING, Site, WORKLOAD, encode, get, post, site,
    token_request, userinfo,
};
use crate::edits::edited;

const URL: &str = "https://id.example.org";

type Presented = Box<dyn Fn(&str) -> Request<Body> + Send>;

/// Something that is good, and how it is presented.
struct Artefact {
    what: &'static str,
    text: String,
    presented: Presented,
}

impl Artefact {
    fn new(
        what: &'static str,
        text: String,
        presented: impl Fn(&str) -> Request<Body> + Send + 'static,
    ) -> Self {
        Self { what, text, presented: Box::new(presented) }
    }
}

/// The first byte chooses what somebody holds, the rest are edits: changed, it is worth nothing.
pub fn edited_artefact(bytes: &[u8]) {
    static ARTEFACTS: OnceLock<Mutex<Vec<Artefact>>> = OnceLock::new();
    let Some((which, script)) = bytes.split_first() else { return };
    let site = site();
    let artefacts = ARTEFACTS.get_or_init(|| Mutex::new(artefacts(&site)));
    let artefacts = artefacts.lock().unwrap_or_else(PoisonError::into_inner);
    let artefact = &artefacts[usize::from(*which) % artefacts.len()];
    let changed = edited(&artefact.text, script);
    // White space and what follows a semicolon are not part of a header's value.
    let sent = changed.split(';').next().map(str::trim);
    if sent == Some(&artefact.text) || sent == Some("") {
        return;
    }
    let answer = site.send((artefact.presented)(&changed));
    answer.check(&site);
    let what = artefact.what;
    assert!(is_refused(&answer), "a changed {what} is answered by {}: {changed}", answer.status);
}

/// Whether an answer gives nothing: by its status, or by where it sends the browser. One that complains of what came with
/// the artefact, or of its time, knows it.
fn is_refused(answer: &Answer) -> bool {
    let known = ["invalid_client_metadata", "authorization_pending", "slow_down"];
    let known = known.iter().any(|word| answer.body.contains(word));
    let told = |location: String| location.contains("error=login_required");
    !known && (answer.status.is_client_error() || answer.location().is_some_and(told))
}

/// All of them, each of which is good: one like it was taken.
fn artefacts(site: &Site) -> Vec<Artefact> {
    let made = [of_browsers(site), of_tokens(site), of_signers(site), of_clients(site)];
    let twins = [of_browsers(site), of_tokens(site), of_signers(site), of_clients(site)];
    for twin in twins.into_iter().flatten() {
        let answer = site.send((twin.presented)(&twin.text));
        let (what, body) = (twin.what, &answer.body);
        assert!(!is_refused(&answer), "a good {what}: {}: {body}", answer.status);
    }
    site.world.sessions.take_requests();
    site.world.registry.take_requests();
    made.into_iter().flatten().collect()
}

/// Cookies, the token of a form, the code that a browser carries, a pushed request.
fn of_browsers(site: &Site) -> Vec<Artefact> {
    let (code, _) = site.signed_in(&site.begin());
    let (_, ticket) = site.signed_in(&site.begin());
    let (name, ticket) = ticket.split_once('=').expect("a name and a value");
    let name = name.to_owned();
    let begun = site.begin();
    let begun_too = site.begin();
    let (cookie, csrf) = (begun.cookie.clone(), begun_too.csrf.clone());
    let pushed = site.send(post("/par", None, &[&CREDENTIALS[1..], &authorization()].concat()));
    let pushed: Value = serde_json::from_str(&pushed.body).expect("a pushed request");
    let pushed = pushed["request_uri"].as_str().expect("a request_uri").to_owned();
    vec![
        Artefact::new("code", code, |code| token_request("code", code)),
        Artefact::new("cookie", cookie, move |cookie| begun.typed(cookie, &begun.csrf)),
        Artefact::new("form token", csrf, move |csrf| begun_too.typed(&begun_too.cookie, csrf)),
        Artefact::new("browser ticket", ticket.to_owned(), move |ticket| {
            let silent = encode(&[&authorization()[..], &[("prompt", "none")]].concat());
            get(&format!("/auth?{silent}"), Some(&format!("{name}={ticket}")))
        }),
        Artefact::new("request_uri", pushed, |uri| {
            let query = encode(&[("client_id", "kubernetes"), ("request_uri", uri)]);
            get(&format!("/auth?{query}"), None)
        }),
    ]
}

/// What the token endpoint gave.
fn of_tokens(site: &Site) -> Vec<Artefact> {
    let (code, _) = site.signed_in(&site.begin());
    let tokens = site.send(token_request("code", &code));
    let tokens: Value = serde_json::from_str(&tokens.body).expect("tokens");
    let token = |name: &str| tokens[name].as_str().expect("a token").to_owned();
    vec![
        Artefact::new("refresh token", token("refresh_token"), |token| {
            token_request("refresh_token", token)
        }),
        Artefact::new("access token", token("access_token"), userinfo),
        Artefact::new("subject token", token("access_token"), |token| {
            let form = [
                ("grant_type", token_exchange::GRANT_TYPE),
                ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
                ("subject_token", token),
            ];
            post("/token", None, &[&CREDENTIALS[..], &form].concat())
        }),
        // One whose key is gone is passed over; an address that only it could vouch for is not.
        Artefact::new("id_token_hint", token("id_token"), |hint| {
            let query = [("id_token_hint", hint), ("post_logout_redirect_uri", REDIRECT_URI)];
            get(&format!("/logout?{}", encode(&query)), None)
        }),
    ]
}

/// What clients, the cluster and holders of keys sign.
fn of_signers(site: &Site) -> Vec<Artefact> {
    let sign = |signer: &Signer, claims: Value| signer.sign(None, &claims).expect("a token");
    let assertion = || {
        let jti = site.world.provider.random_id();
        json!({"iss": SIGNING, "sub": SIGNING, "aud": URL, "exp": NOW + 60, "jti": jti})
    };
    let account = json!({
        "iss": CLUSTER_ISSUER, "sub": ACCOUNT, "aud": [URL], "iat": NOW, "exp": NOW + 600,
    });
    let request = json!({
        "iss": SIGNING, "aud": URL, "exp": NOW + 600, "client_id": SIGNING, "response_type": "code",
        "redirect_uri": REDIRECT_URI, "scope": "openid", "connector_id": "local",
    });
    let key = PrivateKey::generate(Algorithm::ES256, 0).expect("a key can be made");
    let mut jwk = key.public_jwk();
    jwk.as_object_mut().expect("a JWK").retain(|name, _| !["kid", "use", "alg"].contains(&&**name));
    let proof = json!({
        "htm": "POST", "htu": format!("{URL}/token"), "iat": NOW,
        "jti": site.world.provider.random_id(), "nonce": dpop::nonce(&site.world.issuer, NOW),
    });
    let holder = Signer::new(&key).expect("a key can sign");
    let proof = holder.sign_showing(&jwk, "dpop+jwt", &proof).expect("a proof");
    let (code, _) = site.signed_in(&site.begin());
    vec![
        Artefact::new("client assertion", sign(&site.client, assertion()), |jwt| {
            pushed_by(SIGNING, jwt)
        }),
        Artefact::new("ServiceAccount's assertion", sign(&site.cluster, account.clone()), |jwt| {
            pushed_by(WORKLOAD, jwt)
        }),
        Artefact::new("jwt-bearer assertion", sign(&site.cluster, account), |jwt| {
            let grant = ("grant_type", jwt_bearer::GRANT_TYPE);
            let form = [("client_id", "cli"), grant, ("assertion", jwt), ("scope", "openid")];
            post("/token", None, &form)
        }),
        Artefact::new("request object", sign(&site.client, request), |jwt| {
            get(&format!("/auth?{}", encode(&[("client_id", SIGNING), ("request", jwt)])), None)
        }),
        Artefact::new("DPoP proof", proof, move |proof| {
            let mut request = token_request("code", &code);
            let proof = HeaderValue::from_str(proof).unwrap_or(HeaderValue::from_static("-"));
            request.headers_mut().insert("dpop", proof);
            request
        }),
    ]
}

/// A device's code that waits, and what lets a client register.
fn of_clients(site: &Site) -> Vec<Artefact> {
    let device = [&CREDENTIALS[..], &[("scope", "openid")]].concat();
    let device = site.send(post("/device/code", None, &device));
    let device: Value = serde_json::from_str(&device.body).expect("two codes");
    let device = device["device_code"].as_str().expect("a device code").to_owned();
    vec![
        Artefact::new("initial access token", INITIAL_TOKEN.to_owned(), |token| {
            let bearer = HeaderValue::from_str(&format!("Bearer {token}"));
            let request = Request::post("/register")
                .header(HOST, HOST_NAME)
                .header(AUTHORIZATION, bearer.unwrap_or(HeaderValue::from_static("Bearer")))
                .header(CONTENT_TYPE, "application/json");
            request.body(Body::from("[]")).expect("a request")
        }),
        Artefact::new("device code", device, |code| {
            let form = [("grant_type", device::GRANT_TYPE), ("device_code", code)];
            post("/token", None, &[&CREDENTIALS[..], &form].concat())
        }),
    ]
}

/// How the confidential client says who it is.
const CREDENTIALS: [(&str, &str); 2] = [("client_id", "kubernetes"), ("client_secret", "s3cret")];

/// An authorization request of it.
fn authorization() -> [(&'static str, &'static str); 7] {
    [
        ("connector_id", "local"),
        ("client_id", "kubernetes"),
        ("response_type", "code"),
        ("redirect_uri", REDIRECT_URI),
        ("scope", "openid"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ]
}

/// The same, pushed by a client that proves itself by this assertion.
fn pushed_by(client: &str, assertion: &str) -> Request<Body> {
    let form = [
        ("client_id", client),
        ("client_assertion_type", JWT_BEARER),
        ("client_assertion", assertion),
        ("response_type", "code"),
        ("redirect_uri", REDIRECT_URI),
        ("scope", "openid"),
    ];
    post("/par", None, &form)
}
