//! `/register`: JSON, a bearer token, and a client that is served when it is told so.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{Method, StatusCode};
use claviger_domain::client::{ClientPages, Grant, ResponseType};
use claviger_domain::issuer::ClientEntry;
use claviger_domain::registration::{Bounds, Registration};
use serde_json::{Value, json};

use crate::rig::{Answer, Rig};

const INITIAL: &str = "initial-access-token-of-the-tests";

/// As long as the fake control plane may take.
const PATIENCE: Duration = Duration::from_millis(300);

fn rig() -> Rig {
    let mut rig = Rig::with(|world| {
        world.issuer.registration = Some(Registration {
            namespace: "registered".into(),
            initial_access_tokens: vec![INITIAL.into()],
            max_clients: 10,
            bounds: Bounds {
                grants: BTreeSet::from([Grant::AuthorizationCode]),
                response_types: BTreeSet::from([ResponseType::Code]),
                scopes: BTreeSet::from(["openid".to_owned()]),
                redirect_hosts: vec!["app.example.org".into()],
                jwks_hosts: Vec::new(),
                back_channel_hosts: Vec::new(),
            },
        });
    });
    rig.app = rig.app.waiting_for_clients(PATIENCE);
    rig.router = rig.app.clone().router();
    rig
}

async fn post(rig: &Rig, token: Option<&str>, content_type: &str, body: &str) -> Answer {
    let mut request = rig.request(Method::POST, "/register").header(CONTENT_TYPE, content_type);
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    rig.send(request.body(Body::from(body.to_owned())).unwrap()).await
}

fn web() -> String {
    json!({"redirect_uris": ["https://app.example.org/callback"]}).to_string()
}

/// The control plane: whatever client is asked for next is there, in service or not.
async fn control_plane(rig: &Rig, in_service: bool) {
    while rig.world.registry.take_requests().is_empty() {
        tokio::task::yield_now().await;
    }
    let event = rig.world.audit.take().concat();
    let id = event.split('"').find(|word| word.starts_with("registered/")).unwrap().to_owned();
    let mut issuer = rig.world.issuer.clone();
    let Some(ClientEntry::InService(client)) = issuer.clients.get("kubernetes") else { panic!() };
    let mut client = client.as_ref().clone();
    client.id.clone_from(&id);
    let entry = if in_service {
        ClientEntry::InService(Arc::new(client))
    } else {
        ClientEntry::OutOfService(Arc::default())
    };
    issuer.clients.insert(id, entry);
    rig.replace_issuer(issuer);
}

#[tokio::test]
async fn a_registered_client_is_served_when_it_is_told_so() {
    let rig = rig();
    let web = web();
    let (answer, ()) = tokio::join!(
        post(&rig, Some(INITIAL), "application/json", &web),
        control_plane(&rig, true)
    );
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(answer.header("cache-control"), "no-store");
    let said: Value = answer.json();
    let id = said["client_id"].as_str().unwrap();
    assert!(rig.snapshot.load().issuers[0].client(id).is_some());
    assert_eq!(rig.world.registry.take_requests(), [""; 0], "nothing is taken back");
}

#[tokio::test]
async fn a_client_that_turns_out_not_to_be_admitted_is_taken_back() {
    let rig = rig();
    let web = web();
    let (answer, ()) = tokio::join!(
        post(&rig, Some(INITIAL), "application/json", &web),
        control_plane(&rig, false)
    );
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.json()["error"], "invalid_client_metadata");
    assert_eq!(rig.world.registry.take_requests(), ["delete"]);

    let unseen = post(&rig, Some(INITIAL), "application/json", &web).await;
    assert_eq!(unseen.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(rig.world.registry.take_requests(), ["create", "delete"]);
}

#[tokio::test]
async fn refusals_are_json_and_say_what_is_wrong() {
    let rig = rig();
    for token in [None, Some("wrong")] {
        let answer = post(&rig, token, "application/json", &web()).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert_eq!(answer.json()["error"], "invalid_token");
        assert!(answer.header("www-authenticate").starts_with("Bearer error=\"invalid_token\""));
    }
    let form = post(&rig, Some(INITIAL), "application/x-www-form-urlencoded", "a=b").await;
    assert_eq!(form.json()["error_description"], "the body must be application/json");
    let elsewhere = json!({"redirect_uris": ["https://evil.example.com/"]}).to_string();
    let answer = post(&rig, Some(INITIAL), "application/json; charset=utf-8", &elsewhere).await;
    assert_eq!(
        (answer.status, &answer.json()["error"]),
        (StatusCode::BAD_REQUEST, &json!("invalid_redirect_uri"))
    );
    assert_eq!(rig.world.registry.take_requests(), [""; 0]);
}

#[tokio::test]
async fn an_issuer_without_registration_has_no_such_address() {
    let rig = Rig::new();
    assert_eq!(
        post(&rig, Some(INITIAL), "application/json", &web()).await.status,
        StatusCode::NOT_FOUND
    );
    let metadata = rig.get("/.well-known/openid-configuration").await.json();
    assert_eq!(metadata.get("registration_endpoint"), None);
    let metadata = self::rig().get("/.well-known/openid-configuration").await.json();
    assert_eq!(metadata["registration_endpoint"], "https://id.example.org/register");
}

#[tokio::test]
async fn the_consent_page_links_to_what_the_client_says_of_itself() {
    let rig = Rig::with(|world| {
        world.issuer.connectors.truncate(1);
        world.change_client("kubernetes", |client| {
            client.consent_required = true;
            client.pages = Arc::new(ClientPages {
                policy: Some("https://app.example.org/policy?a=1&b=<2>".into()),
                logo: Some("https://app.example.org/logo.png".into()),
                ..ClientPages::default()
            });
        });
    });
    let mut browser = rig.browser();
    let form = browser.login_form(&[]).await;
    let page = browser.sign_in(&form, "alice", "wonderland").await.body;
    assert!(
        page.contains(r#"<a href="https://app.example.org/policy?a=1&#38;b=&#60;2&#62;""#),
        "{page}"
    );
    assert!(page.contains(r#"src="https://app.example.org/logo.png""#), "{page}");
    assert!(!page.contains("terms of service"), "{page}");
}

#[tokio::test]
async fn a_stranger_is_refused_while_somebody_elses_registration_takes_its_turn() {
    let rig = rig();
    let web = web();
    let slow = post(&rig, Some(INITIAL), "application/json", &web); // nobody ever serves it
    let stranger = async {
        while rig.world.registry.take_requests().is_empty() {
            tokio::task::yield_now().await;
        }
        let begun = Instant::now();
        let answer = post(&rig, Some("wrong"), "application/json", &web).await;
        // Had it waited for its turn, what was taken back would be seen by now.
        (answer.status, rig.world.registry.take_requests(), begun.elapsed())
    };
    let (slow, (status, meanwhile, took)) = tokio::join!(slow, stranger);
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(meanwhile, [""; 0], "after {took:?}");
    assert_eq!(slow.status, StatusCode::SERVICE_UNAVAILABLE);
}
