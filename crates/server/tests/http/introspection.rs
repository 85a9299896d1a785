//! `/token/introspect`: what a token is good for, told to those who may ask; one read at most.

use axum::http::StatusCode;
use claviger_domain::client::{Client, Introspection};
use claviger_domain::fakes::World;
use claviger_domain::issuer::ClientEntry;
use serde_json::{Value, json};
use std::sync::Arc;

use crate::rig::{Answer, CREDENTIALS, Rig};

const INACTIVE: &str = r#"{"active":false}"#;
/// A resource server.
const SERVER: [(&str, &str); 2] = [("client_id", "server"), ("client_secret", "s3cret")];

/// `kubernetes` may ask about its own tokens, `server` about what is said.
fn rig(server: Introspection) -> Rig {
    Rig::with(|world| {
        world.issuer.connectors.truncate(1);
        let Some(ClientEntry::InService(own)) = world.issuer.clients.get("kubernetes") else {
            panic!("no such client");
        };
        let own = Client { introspection: Introspection::OwnTokens, ..(**own).clone() };
        let server = Client {
            uid: "uid-of-server".into(),
            id: "server".into(),
            introspection: server,
            ..own.clone()
        };
        for client in [own, server] {
            let entry = ClientEntry::InService(Arc::new(client));
            let id = match &entry {
                ClientEntry::InService(client) => client.id.clone(),
                ClientEntry::OutOfService(_) => unreachable!(),
            };
            world.issuer.clients.insert(id, entry);
        }
    })
}

async fn tokens(rig: &Rig) -> Value {
    let code = rig.browser().code(&[]).await;
    let tokens = rig.redeem(&code).await.json();
    rig.store_requests();
    tokens
}

fn text<'t>(tokens: &'t Value, name: &str) -> &'t str {
    tokens[name].as_str().unwrap()
}

async fn by_server(rig: &Rig, token: &str) -> Answer {
    rig.post("/token/introspect", &[&SERVER[..], &[("token", token)]].concat()).await
}

/// The configuration changes under the tokens.
fn change(rig: &Rig, change: impl FnOnce(&mut World)) {
    let mut world = World::new();
    world.issuer = rig.world.issuer.clone();
    change(&mut world);
    rig.replace_issuer(world.issuer);
}

#[tokio::test]
async fn an_access_token_is_explained_for_one_read() {
    let rig = rig(Introspection::Forbidden);
    let tokens = tokens(&rig).await;
    let now = 1_767_225_600;
    let answer = rig.introspect(text(&tokens, "access_token")).await;
    assert_eq!(rig.store_requests(), ["get"]);
    assert_eq!((answer.status, answer.header("cache-control")), (StatusCode::OK, "no-store"));
    let mut known = answer.json();
    let jti = known["jti"].take();
    assert!(jti.as_str().is_some_and(|jti| jti.len() >= 22), "{jti}");
    let id_token = crate::rig::claims(&tokens["id_token"]);
    assert_eq!(
        known,
        json!({
            "active": true,
            "token_use": "access_token",
            "token_type": "Bearer",
            "scope": "openid email profile groups offline_access",
            "client_id": "kubernetes",
            "username": "alice",
            "iss": "https://id.example.org",
            "sub": id_token["sub"],
            "aud": "https://id.example.org/userinfo",
            "exp": now + 600,
            "iat": now,
            "jti": null,
            "auth_time": now,
        })
    );
}

#[tokio::test]
async fn a_refresh_token_is_explained_to_its_own_client_while_it_is_the_current_one() {
    let rig = rig(Introspection::AllTokens);
    let first = tokens(&rig).await;
    rig.world.clock.advance(60);
    let second = rig.refresh(text(&first, "refresh_token")).await.json();
    rig.store_requests();
    let known = rig.introspect(text(&second, "refresh_token")).await.json();
    assert_eq!(rig.store_requests(), ["get"]);
    assert_eq!(known["token_use"], "refresh_token");
    assert_eq!(known["iat"], 1_767_225_660);
    assert_eq!(known["exp"], 1_767_225_660 + 7 * 86_400);
    assert!(known.get("token_type").is_none() && known.get("jti").is_none());
    let old = rig.introspect(text(&first, "refresh_token")).await;
    assert_eq!(old.body, INACTIVE, "it was rotated");
    rig.store_requests();
    let foreign = by_server(&rig, text(&second, "refresh_token")).await;
    assert_eq!(foreign.body, INACTIVE, "not even for a client that may see all access tokens");
    assert!(rig.store_requests().is_empty());
}

#[tokio::test]
async fn a_narrowed_token_is_explained_as_narrow_as_it_is() {
    let rig = rig(Introspection::Forbidden);
    let first = tokens(&rig).await;
    let form = [
        ("grant_type", "refresh_token"),
        ("refresh_token", text(&first, "refresh_token")),
        ("scope", "openid"),
    ];
    let narrow = rig.token(&form).await.json();
    let known = rig.introspect(text(&narrow, "access_token")).await.json();
    assert_eq!(known["scope"], "openid");
    assert!(known.get("username").is_none(), "no scope reveals a name: {known}");
}

#[tokio::test]
async fn only_a_client_that_may_see_all_tokens_sees_those_of_others() {
    for (server, active) in [(Introspection::OwnTokens, false), (Introspection::AllTokens, true)] {
        let rig = rig(server);
        let tokens = tokens(&rig).await;
        let answer = by_server(&rig, text(&tokens, "access_token")).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.json()["active"], active);
        if !active {
            assert_eq!(answer.body, INACTIVE);
            assert!(rig.store_requests().is_empty(), "and nobody was asked");
        }
    }
}

#[tokio::test]
async fn who_may_not_ask_is_told_so_before_the_token_is_looked_at() {
    let rig = rig(Introspection::Forbidden);
    let tokens = tokens(&rig).await;
    for token in [text(&tokens, "access_token"), "nonsense"] {
        let answer = by_server(&rig, token).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert_eq!(answer.json()["error"], "access_denied");
    }
    let public = [("client_id", "cli"), ("token", "t")];
    assert_eq!(rig.post("/token/introspect", &public).await.status, StatusCode::FORBIDDEN);
    let guess = [("client_id", "server"), ("client_secret", "guess"), ("token", "t")];
    let answer = rig.post("/token/introspect", &guess).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.header("www-authenticate").starts_with("Basic "));
    let answer = rig.post("/token/introspect", &CREDENTIALS).await;
    assert_eq!(answer.json()["error"], "invalid_request");
    assert!(rig.store_requests().is_empty());
}

#[tokio::test]
async fn forged_expired_and_revoked_tokens_are_inactive_without_a_request() {
    let rig = rig(Introspection::Forbidden);
    let tokens = tokens(&rig).await;
    let (access, refresh) = (text(&tokens, "access_token"), text(&tokens, "refresh_token"));
    for forged in ["x", "a.b.c", &format!("{access}x"), text(&tokens, "id_token")] {
        assert_eq!(rig.introspect(forged).await.body, INACTIVE);
    }
    assert!(rig.store_requests().is_empty());
    rig.revoke(access).await;
    rig.store_requests();
    for token in [access, refresh] {
        assert_eq!(rig.introspect(token).await.body, INACTIVE);
    }
    assert!(rig.store_requests().is_empty(), "memory knows");
    let young = self::tokens(&rig).await;
    rig.world.clock.advance(601);
    assert_eq!(rig.introspect(text(&young, "access_token")).await.body, INACTIVE);
    assert!(rig.store_requests().is_empty());
}

#[tokio::test]
async fn what_the_configuration_no_longer_lets_in_is_inactive() {
    type Change = fn(&mut World);
    let changes: [(&str, Change); 5] = [
        ("session deleted", |_| {}),
        ("connector gone", |world| world.issuer.connectors.clear()),
        ("connector no longer allowed", |world| {
            world.change_client("kubernetes", |c| c.allowed_connectors = Some([].into()));
        }),
        ("group no longer allowed", |world| {
            world.change_client("kubernetes", |c| c.allowed_groups = ["admins".into()].into());
        }),
        ("client created anew", |world| {
            world.change_client("kubernetes", |client| client.uid = "another".into());
        }),
    ];
    for (what, apply) in changes {
        let rig = rig(Introspection::Forbidden);
        let tokens = tokens(&rig).await;
        if what == "session deleted" {
            let name = rig.world.sessions.all()[0].name.clone();
            rig.world.sessions.delete(&name);
        }
        change(&rig, apply);
        for token in ["access_token", "refresh_token"] {
            assert_eq!(rig.introspect(text(&tokens, token)).await.body, INACTIVE, "{what}");
        }
    }
}

#[tokio::test]
async fn while_nobody_can_say_the_caller_is_told_to_wait() {
    let rig = rig(Introspection::Forbidden);
    let tokens = tokens(&rig).await;
    rig.world.sessions.set_unreadable(true);
    let answer = rig.introspect(text(&tokens, "access_token")).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(!answer.header("retry-after").is_empty());
    rig.world.sessions.set_unreadable(false);
    change(&rig, |world| {
        let uid = world.issuer.connectors[0].uid.clone();
        world.issuer.connectors.clear();
        world.issuer.unavailable_connectors.insert(uid);
    });
    let answer = rig.introspect(text(&tokens, "access_token")).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
}
