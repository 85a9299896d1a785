//! The password grant: off unless switched on, one answer for every failure, and counted with the login form.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::http::StatusCode;
use claviger_domain::client::{ClientAuthentication, Grant};
use claviger_domain::connector::Login;
use claviger_domain::fakes::{TableUpstream, World, alice};
use claviger_domain::identity::Identity;
use claviger_domain::policy::Condition;

use crate::rig::{Answer, Rig, claims};

fn rig_with(change: impl FnOnce(&mut World)) -> Rig {
    Rig::with(|world| {
        world.issuer.grants.insert(Grant::Password);
        world.change_client("kubernetes", |client| {
            client.grants.insert(Grant::Password);
            client.password_connector = Some("local".into());
        });
        change(world);
    })
}

async fn ask(rig: &Rig, change: &[(&str, &str)]) -> Answer {
    let mut form = vec![
        ("grant_type", "password"),
        ("username", "alice"),
        ("password", "wonderland"),
        ("scope", "openid email groups offline_access"),
    ];
    for (name, value) in change {
        form.retain(|(known, _)| known != name);
        form.push((name, value));
    }
    rig.token(&form).await
}

/// Why sign-ins were refused since this was asked last.
fn reasons(rig: &Rig) -> Vec<String> {
    let events = rig.world.audit.take().into_iter();
    let refused = events.filter(|event| event.starts_with("LoginRefused"));
    refused.map(|event| event.split('"').nth(5).unwrap_or_default().to_owned()).collect()
}

#[track_caller]
fn assert_refused(answer: &Answer, error: &str) {
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
    assert_eq!(answer.json()["error"], error, "{answer:?}");
}

#[tokio::test]
async fn a_right_password_is_worth_tokens_for_one_stored_session() {
    let rig = rig_with(|_| {});
    let tokens = ask(&rig, &[]).await;
    assert_eq!(tokens.status, StatusCode::OK, "{tokens:?}");
    assert_eq!(rig.store_requests(), ["create"]);
    let tokens = tokens.json();
    let id_token = claims(&tokens["id_token"]);
    assert_eq!(id_token["email"], "alice@example.org");
    assert_eq!(id_token["amr"], serde_json::json!(["pwd"]));
    assert_eq!(id_token["aud"], "kubernetes");
    let refreshed = rig.refresh(tokens["refresh_token"].as_str().unwrap()).await;
    assert_eq!(refreshed.status, StatusCode::OK, "{refreshed:?}");
    let again = ask(&rig, &[("scope", "openid")]).await.json();
    assert!(again.get("refresh_token").is_none(), "not asked for: {again}");
    assert_eq!(rig.world.sessions.all().len(), 2, "each sign-in is one of its own");
}

#[tokio::test]
async fn it_is_off_unless_issuer_and_client_switch_it_on() {
    let nowhere = Rig::new();
    assert_refused(&ask(&nowhere, &[]).await, "unsupported_grant_type");
    let offered = Rig::with(|world| {
        world.issuer.grants.insert(Grant::Password);
    });
    assert_refused(&ask(&offered, &[]).await, "unauthorized_client");
    let nameless = rig_with(|world| {
        world.change_client("kubernetes", |client| client.password_connector = None);
    });
    assert_refused(&ask(&nameless, &[]).await, "unauthorized_client");
    let public = rig_with(|world| {
        world.change_client("kubernetes", |client| {
            client.authentication = ClientAuthentication::Public;
        });
    });
    let form = [
        ("client_id", "kubernetes"),
        ("grant_type", "password"),
        ("username", "alice"),
        ("password", "wonderland"),
        ("scope", "openid"),
    ];
    assert_refused(&public.post("/token", &form).await, "unauthorized_client");
    for rig in [nowhere, offered, nameless, public] {
        assert_eq!(rig.store_requests(), Vec::<&str>::new());
    }
}

#[tokio::test]
async fn every_failure_is_one_answer_and_stores_nothing() {
    let rig = rig_with(|world| {
        let outsider = Identity { groups: vec!["visitors".into()], ..alice() };
        world.upstream.put("eve", "apple", outsider);
        let mut impostor = alice();
        impostor.groups.push("system:masters".into());
        world.upstream.put("mallory", "apple", impostor);
        let renamed = Identity { name: Some("Bob".into()), ..alice() };
        world.upstream.put("bob", "apple", renamed);
        let nobody_knows = Identity { email: None, ..alice() };
        world.upstream.put("carol", "apple", nobody_knows);
        let condition = "user.email.endsWith('@example.org') && user.name != 'Bob'";
        let condition = Condition::compile(condition, Some("not Bob")).unwrap();
        world.change_client("kubernetes", |client| {
            client.allowed_groups = BTreeSet::from(["developers".to_owned()]);
            client.condition = Some(Arc::new(condition));
        });
    });
    let wrong = ask(&rig, &[("password", "x")]).await;
    let unknown = ask(&rig, &[("username", "nobody")]).await;
    assert_refused(&wrong, "invalid_grant");
    assert_eq!(unknown.body, wrong.body, "nothing says which it was");
    assert_eq!(reasons(&rig), ["InvalidCredentials", "InvalidCredentials"]);
    for (username, reason) in [
        ("eve", "ClientPolicy"),
        ("bob", "ClientPolicy"),
        ("carol", "ConditionFailed"),
        ("mallory", "ReservedValue"),
    ] {
        let answer = ask(&rig, &[("username", username), ("password", "apple")]).await;
        assert_eq!((answer.status, &answer.body), (wrong.status, &wrong.body), "{username}");
        assert_eq!(reasons(&rig), [reason], "the log knows: {username}");
    }
    let resource = ask(&rig, &[("resource", "https://nowhere.example.org")]).await;
    assert_refused(&resource, "invalid_target");
    let resource = [("resource", "https://nowhere.example.org"), ("password", "x")];
    assert_refused(&ask(&rig, &resource).await, "invalid_target");
    assert_refused(&ask(&rig, &[("scope", "openid madeup")]).await, "invalid_scope");
    assert_refused(&ask(&rig, &[("scope", "email")]).await, "invalid_scope");
    assert_refused(&ask(&rig, &[("password", "")]).await, "invalid_request");
    assert_eq!(rig.store_requests(), Vec::<&str>::new());
    assert_eq!(ask(&rig, &[]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn what_the_connector_lets_through_is_what_tokens_say() {
    let rig = rig_with(|world| {
        let mut connector = (*world.issuer.connectors[0]).clone();
        connector.policy.group_prefix = "corp:".to_owned();
        connector.policy.email_domains = BTreeSet::from(["example.org".to_owned()]);
        let elsewhere = Identity { email: Some("dave@elsewhere.example".into()), ..alice() };
        world.upstream.put("dave", "apple", elsewhere);
        world.issuer.connectors[0] = Arc::new(connector);
    });
    let tokens = ask(&rig, &[]).await.json();
    let groups = claims(&tokens["id_token"])["groups"].as_array().unwrap().clone();
    assert!(!groups.is_empty());
    assert!(groups.iter().all(|group| group.as_str().unwrap().starts_with("corp:")), "{groups:?}");
    rig.world.audit.take();
    let dave = ask(&rig, &[("username", "dave"), ("password", "apple")]).await;
    assert_refused(&dave, "invalid_grant");
    assert_eq!(reasons(&rig), ["ConnectorPolicy"]);
}

#[tokio::test]
async fn an_entry_that_cannot_be_used_is_answered_like_a_wrong_password_and_counted() {
    let wrong = ask(&rig_with(|_| {}), &[("password", "x")]).await;
    let rig = rig_with(|world| world.upstream.set_unusable(true));
    for _ in 0..11 {
        let answer = ask(&rig, &[]).await;
        assert_eq!((answer.status, &answer.body), (wrong.status, &wrong.body));
        assert_eq!(reasons(&rig), ["Unusable"], "the log knows");
    }
    assert_eq!(ask(&rig, &[]).await.status, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn the_clients_policy_about_connectors_and_acr_holds() {
    let rig = rig_with(|world| {
        world.change_client("kubernetes", |client| {
            client.required_acr = BTreeSet::from(["gold".to_owned()]);
        });
    });
    assert_refused(&ask(&rig, &[]).await, "unauthorized_client");
    let gone = rig_with(|world| {
        world.change_client("kubernetes", |client| {
            client.password_connector = Some("gone".into());
        });
    });
    assert_eq!(ask(&gone, &[]).await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn one_connector_checks_and_no_other_that_the_issuer_offers() {
    let rig = rig_with(|world| {
        let mut other = (*world.issuer.connectors[1]).clone();
        let elsewhere = Arc::new(TableUpstream::default());
        elsewhere.put("alice", "elsewhere", alice());
        other.login = Login::Password(elsewhere);
        world.issuer.connectors[1] = Arc::new(other);
    });
    assert_refused(&ask(&rig, &[("password", "elsewhere")]).await, "invalid_grant");
    assert_refused(
        &ask(&rig, &[("connector", "directory"), ("password", "elsewhere")]).await,
        "invalid_grant",
    );
    assert_eq!(ask(&rig, &[]).await.status, StatusCode::OK);
    let barred = rig_with(|world| {
        world.change_client("kubernetes", |client| {
            client.allowed_connectors = Some(BTreeSet::from(["directory".to_owned()]));
        });
    });
    assert_refused(&ask(&barred, &[]).await, "unauthorized_client");
}

#[tokio::test]
async fn discovery_lists_the_grant_where_the_issuer_offers_it() {
    for (rig, offered) in [(Rig::new(), false), (rig_with(|_| {}), true)] {
        for path in ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"]
        {
            let metadata = rig.get(path).await.json();
            let grants = metadata["grant_types_supported"].as_array().unwrap().clone();
            assert_eq!(grants.contains(&"password".into()), offered, "{path}");
        }
    }
}

#[tokio::test]
async fn guesses_here_and_at_the_login_form_are_counted_together() {
    let rig = rig_with(|_| {});
    let mut browser = rig.browser();
    let form = browser.login_form(&[]).await;
    for _ in 0..6 {
        let answer = browser.sign_in(&form, "alice", "wrong").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    for _ in 0..5 {
        assert_refused(
            &ask(&rig, &[("username", " Alice "), ("password", "x")]).await,
            "invalid_grant",
        );
    }
    let waits = ask(&rig, &[]).await;
    assert_eq!(waits.status, StatusCode::TOO_MANY_REQUESTS, "the right one too: {waits:?}");
    assert_eq!(waits.json()["error"], "temporarily_unavailable");
    let seconds: u64 = waits.header("retry-after").parse().unwrap();
    assert!((1..=4).contains(&seconds), "{seconds}");
    let there = browser.sign_in(&form, "alice", "wonderland").await;
    assert_eq!(there.status, StatusCode::TOO_MANY_REQUESTS, "{there:?}");
    assert_refused(&ask(&rig, &[("username", "bob")]).await, "invalid_grant");
}

#[tokio::test]
async fn whoever_is_not_the_client_counts_for_nobody() {
    let rig = rig_with(|_| {});
    for _ in 0..12 {
        let form = [
            ("client_id", "kubernetes"),
            ("client_secret", "wrong"),
            ("grant_type", "password"),
            ("username", "alice"),
            ("password", "x"),
            ("scope", "openid"),
        ];
        let answer = rig.post("/token", &form).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{answer:?}");
    }
    assert_eq!(ask(&rig, &[]).await.status, StatusCode::OK, "nobody is locked out");
}
