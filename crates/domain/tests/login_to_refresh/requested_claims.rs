//! What a request asks for by name: claims, users, ways to authenticate, resources.

use std::sync::Arc;

use claviger_domain::authorize::{self, AuthorizeError, Next};
use claviger_domain::fakes::{World, alice};
use claviger_domain::identity::Identity;
use claviger_domain::login::Outcome;
use claviger_domain::userinfo::{self, UserinfoError};
use claviger_protocol::response_type::Delivery;
use claviger_protocol::token::TokenResponse;
use data_encoding::BASE64URL_NOPAD;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::rig::{
    VERIFIER, begin, exchange, query, redeem, refresh, refresh_token, request, sign_in,
};

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64URL_NOPAD.decode(payload.as_bytes()).unwrap()).unwrap()
}

fn id_token(response: &TokenResponse) -> Value {
    claims(response.id_token.as_ref().unwrap().expose_secret())
}

async fn code(world: &World, change: &[(&str, &str)]) -> String {
    let flow = begin(world, change).flow;
    match sign_in(world, &flow, "local", "wonderland").await.unwrap() {
        Outcome::Answer(Delivery::Redirect(location)) => query(&location, "code").unwrap(),
        other => panic!("{other:?}"),
    }
}

/// The error a request ends in, at once or after sign-in.
async fn error(world: &World, change: &[(&str, &str)]) -> Option<String> {
    let flow = match authorize::begin(&world.provider, &world.issuer, &request(change)) {
        Ok(begun) => begun.flow,
        Err(AuthorizeError::Answer(Delivery::Redirect(location))) => {
            return query(&location, "error");
        }
        Err(other) => panic!("{other:?}"),
    };
    match sign_in(world, &flow, "local", "wonderland").await.unwrap() {
        Outcome::Answer(Delivery::Redirect(location)) => query(&location, "error"),
        other => panic!("{other:?}"),
    }
}

fn userinfo(world: &World, response: &TokenResponse) -> Value {
    let token = response.access_token.expose_secret();
    let answer = userinfo::answer(&world.provider, &world.issuer, token, None).unwrap();
    serde_json::to_value(answer).unwrap()
}

#[tokio::test]
async fn a_claim_asked_for_by_name_is_given_where_it_is_wanted_and_nowhere_else() {
    let world = World::new();
    let asked = json!({"id_token": {"email": null, "unknown": null}, "userinfo": {"name": {"essential": true}}});
    let asked = asked.to_string();
    let change = [("scope", "openid offline_access"), ("claims", asked.as_str())];
    let response = redeem(&world, &code(&world, &change).await).await.unwrap();
    let token = id_token(&response);
    assert_eq!((&token["email"], &token["name"]), (&json!("alice@example.org"), &Value::Null));
    assert_eq!(token.get("email_verified"), None, "it was not asked for");
    let known = userinfo(&world, &response);
    assert_eq!((&known["email"], &known["name"]), (&Value::Null, &json!("Alice Liddell")));
    let refreshed = refresh(&world, &refresh_token(&response)).await.unwrap();
    assert_eq!(id_token(&refreshed)["email"], "alice@example.org", "also later");
}

#[tokio::test]
async fn what_a_client_may_no_longer_ask_for_it_gets_no_longer() {
    let mut world = World::new();
    let api = "https://api.example.org";
    world.change_client("kubernetes", |client| {
        client.allowed_resources.insert(api.to_owned());
    });
    let asked = r#"{"id_token":{"email":null},"userinfo":{"email":null}}"#;
    let change = [("scope", "openid offline_access"), ("claims", asked), ("resource", api)];
    let response = redeem(&world, &code(&world, &change).await).await.unwrap();
    assert_eq!(id_token(&response)["email"], "alice@example.org");
    world.change_client("kubernetes", |client| {
        client.scopes.remove("email");
    });
    let refreshed = refresh(&world, &refresh_token(&response)).await.unwrap();
    assert_eq!(id_token(&refreshed).get("email"), None);
    world.change_client("kubernetes", |client| client.allowed_resources.clear());
    let refused = refresh(&world, &refresh_token(&refreshed)).await;
    assert!(refused.is_err(), "{refused:?}");
}

#[tokio::test]
async fn a_client_learns_by_no_name_what_it_may_not_ask_for_by_scope() {
    let mut world = World::new();
    world.change_client("kubernetes", |client| {
        client.scopes.remove("email");
    });
    let asked = r#"{"id_token":{"email":{"essential":true}},"userinfo":{"email":null}}"#;
    let change = [("scope", "openid"), ("claims", asked)];
    let response = redeem(&world, &code(&world, &change).await).await.unwrap();
    assert_eq!(id_token(&response).get("email"), None);
    assert_eq!(userinfo(&world, &response).get("email"), None);
}

#[tokio::test]
async fn profile_address_and_phone_are_said_of_users_who_have_them() {
    let world = World::new();
    let extra = [
        ("given_name", json!("Alice")),
        ("address", json!({"country": "DE"})),
        ("phone_number", json!("+49 30 901820")),
    ];
    let extra = extra.map(|(name, value)| (name.to_owned(), value)).into();
    world.upstream.put("alice", "wonderland", Identity { extra, ..alice() });
    let response =
        redeem(&world, &code(&world, &[("scope", "openid profile")]).await).await.unwrap();
    let token = id_token(&response);
    assert_eq!((&token["given_name"], token.get("address")), (&json!("Alice"), None));
    let change = [("scope", "openid address phone")];
    let response = redeem(&world, &code(&world, &change).await).await.unwrap();
    let known = userinfo(&world, &response);
    assert_eq!(known["address"], json!({"country": "DE"}));
    assert_eq!(known["phone_number"], "+49 30 901820");
    assert_eq!(known.get("given_name"), None);
}

#[tokio::test]
async fn no_further_claim_smuggles_a_reserved_value_in() {
    let world = World::new();
    for hidden in [json!("system:admin"), json!({"formatted": ["x", {"y": "system:masters"}]})] {
        let extra = [("address".to_owned(), hidden)].into();
        world.upstream.put("alice", "wonderland", Identity { extra, ..alice() });
        let refused = error(&world, &[("scope", "openid address")]).await;
        assert_eq!(refused.as_deref(), Some("access_denied"));
        assert_eq!(error(&world, &[("scope", "openid")]).await, None, "where it is not said");
    }
}

#[tokio::test]
async fn the_user_must_be_the_one_the_request_names() {
    let world = World::new();
    let response = redeem(&world, &code(&world, &[]).await).await.unwrap();
    let hint = response.id_token.as_ref().unwrap().expose_secret().to_owned();
    let sub = id_token(&response)["sub"].as_str().unwrap().to_owned();
    world.clock.advance(90 * 86_400);
    assert_eq!(error(&world, &[("id_token_hint", &hint)]).await, None, "long expired");
    let named = json!({"id_token": {"sub": {"value": sub}}}).to_string();
    assert_eq!(error(&world, &[("claims", &named)]).await, None);
    let other = json!({"userinfo": {"sub": {"value": "somebody-else"}}}).to_string();
    assert_eq!(error(&world, &[("claims", &other)]).await.as_deref(), Some("login_required"));
    let both = [("claims", other.as_str()), ("id_token_hint", hint.as_str())];
    assert_eq!(error(&world, &both).await.as_deref(), Some("invalid_request"));
    let access_token = response.access_token.expose_secret();
    let swapped = error(&world, &[("id_token_hint", access_token)]).await;
    assert_eq!(swapped.as_deref(), Some("invalid_request"), "an access token is no ID token");
    let garbage = error(&world, &[("id_token_hint", "garbage")]).await;
    assert_eq!(garbage.as_deref(), Some("invalid_request"));
    world.upstream.put("alice", "wonderland", Identity { user_id: "another".into(), ..alice() });
    let hinted = error(&world, &[("id_token_hint", &hint)]).await;
    assert_eq!(hinted.as_deref(), Some("login_required"));
    let stranger = World::new();
    assert_eq!(error(&stranger, &[("id_token_hint", &hint)]).await, None, "its key is gone");
}

#[tokio::test]
async fn an_authentication_class_leads_to_the_connectors_that_reach_it() {
    let mut world = World::new();
    let demand =
        |acr: &str| json!({"id_token": {"acr": {"essential": true, "values": [acr]}}}).to_string();
    let unmet = error(&world, &[("claims", &demand("gold"))]).await;
    assert_eq!(unmet.as_deref(), Some("unmet_authentication_requirements"));
    assert_eq!(begin(&world, &[("acr_values", "gold")]).next, Next::Choose, "it was only a wish");

    Arc::make_mut(&mut world.issuer.connectors[0]).acr = Some("gold".into());
    let local = Next::Connector("local".into());
    for change in [("claims", demand("gold")), ("acr_values", "silver gold".into())] {
        let begun = begin(&world, &[(change.0, &change.1)]);
        assert_eq!(begun.next, local, "{change:?}");
        let elsewhere = sign_in(&world, &begun.flow, "directory", "wonderland").await;
        assert!(elsewhere.is_err(), "the choice is not the user's: {elsewhere:?}");
    }
    let response = redeem(&world, &code(&world, &[]).await).await.unwrap();
    let token = id_token(&response);
    assert_eq!((&token["acr"], &token["amr"]), (&json!("gold"), &json!(["pwd"])));
    assert_eq!(claims(response.access_token.expose_secret())["acr"], "gold");

    world.change_client("kubernetes", |client| {
        client.required_acr.insert("platinum".into());
    });
    let refreshed = refresh(&world, &refresh_token(&response)).await;
    assert!(refreshed.is_err(), "what is required now holds for sessions too: {refreshed:?}");
    assert_eq!(error(&world, &[]).await.as_deref(), Some("temporarily_unavailable"));
}

#[tokio::test]
async fn a_hint_with_a_mail_domain_leads_to_its_one_connector() {
    let mut world = World::new();
    let domains = |world: &mut World, index: usize| {
        let connector = Arc::make_mut(&mut world.issuer.connectors[index]);
        connector.policy.email_domains.insert("example.org".into());
    };
    let hinted = |world: &World| begin(world, &[("login_hint", "alice@EXAMPLE.org")]).next;
    assert_eq!(hinted(&world), Next::Choose);
    domains(&mut world, 1);
    assert_eq!(hinted(&world), Next::Connector("directory".into()));
    domains(&mut world, 0);
    assert_eq!(hinted(&world), Next::Choose, "two of them");
}

#[tokio::test]
async fn an_access_token_is_for_the_resources_asked_for_and_no_client_is_one() {
    let mut world = World::new();
    let api = "https://api.example.org";
    assert_eq!(error(&world, &[("resource", api)]).await.as_deref(), Some("invalid_target"));
    world.change_client("kubernetes", |client| {
        client.allowed_resources.extend([api.to_owned(), "cli".to_owned(), "urn:b".to_owned()]);
    });
    assert_eq!(error(&world, &[("resource", "cli")]).await.as_deref(), Some("invalid_target"));
    let response = redeem(&world, &code(&world, &[("resource", api)]).await).await.unwrap();
    assert_eq!(claims(response.access_token.expose_secret())["aud"], api);
    let token = response.access_token.expose_secret();
    let elsewhere = userinfo::answer(&world.provider, &world.issuer, token, None);
    assert_eq!(elsewhere, Err(UserinfoError::OtherResource));

    let token = refresh_token(&response);
    let narrow = |resource: &'static str| {
        [("grant_type", "refresh_token"), ("refresh_token", token.as_str()), ("resource", resource)]
    };
    world.sessions.take_requests();
    let beyond = exchange(&world, &narrow("urn:b")).await;
    assert!(beyond.is_err(), "{beyond:?}");
    assert_eq!(world.sessions.take_requests(), ["get"], "and the token was not used up");
    let refreshed = exchange(&world, &narrow("https://api.example.org")).await.unwrap();
    assert_eq!(claims(refreshed.access_token.expose_secret())["aud"], api);

    let beyond = [
        ("grant_type", "authorization_code"),
        ("code", &code(&world, &[("resource", api)]).await),
        ("redirect_uri", claviger_domain::fakes::REDIRECT_URI),
        ("code_verifier", VERIFIER),
        ("resource", "urn:b"),
    ];
    world.sessions.take_requests();
    assert!(exchange(&world, &beyond).await.is_err());
    assert!(world.sessions.take_requests().is_empty(), "nothing was consumed");
}

#[tokio::test]
async fn a_token_too_large_for_its_client_is_refused_when_the_user_signs_in() {
    let mut world = World::new();
    world.change_client("kubernetes", |client| client.max_id_token = 2_048);
    assert_eq!(error(&world, &[]).await, None);
    let groups: Vec<_> = (0..20).map(|n| format!("a-group-with-a-rather-long-name-{n}")).collect();
    world.upstream.put("alice", "wonderland", Identity { groups, ..alice() });
    assert_eq!(error(&world, &[]).await.as_deref(), Some("access_denied"));
    assert_eq!(error(&world, &[("scope", "openid")]).await, None, "without the groups it fits");
}
