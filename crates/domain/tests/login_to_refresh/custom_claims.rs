//! Claims of an issuer's own in CEL: where they are said, what they can never say, and that one which fails gives no
//! token and costs nothing.

use std::sync::Arc;

use claviger_domain::claim::is_reserved;
use claviger_domain::client::Introspection;
use claviger_domain::custom_claim::{CustomClaim, CustomClaims};
use claviger_domain::discovery;
use claviger_domain::fakes::{World, alice};
use claviger_domain::identity::Identity;
use claviger_domain::introspection::introspect;
use claviger_domain::login::Outcome;
use claviger_domain::policy::{Expression, Facts};
use claviger_domain::ports::SessionState;
use claviger_domain::token::TokenError;
use claviger_domain::userinfo;
use claviger_protocol::error::ErrorCode;
use claviger_protocol::introspect::IntrospectionRequest;
use claviger_protocol::response_type::Delivery;
use claviger_protocol::token::TokenResponse;
use data_encoding::BASE64URL_NOPAD;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::rig::{SCOPE, begin, credentials, query, redeem, refresh, refresh_token, sign_in};

const TEAMS: &str = "user.groups.filter(g, g.startsWith('team-')).map(g, g.split('-')[1])";

fn set(world: &mut World, claims: &[(&str, &str, &str)]) {
    let claim = |(name, scope, expression): &(&str, &str, &str)| CustomClaim {
        name: (*name).to_owned(),
        scope: (*scope).to_owned(),
        expression: Arc::new(Expression::compile(expression, &Facts::OF_CLAIMS).unwrap()),
    };
    world.issuer.custom_claims = CustomClaims::new(claims.iter().map(claim).collect());
}

fn world(claims: &[(&str, &str, &str)]) -> World {
    let mut world = World::new();
    set(&mut world, claims);
    world.change_client("kubernetes", |client| {
        client.scopes.insert("teams".to_owned());
        client.introspection = Introspection::OwnTokens;
    });
    let groups = vec!["team-red".to_owned(), "staff".to_owned(), "team-blue".to_owned()];
    world.upstream.put("alice", "wonderland", Identity { groups, ..alice() });
    world
}

fn with_teams() -> String {
    format!("{SCOPE} teams")
}

/// Where a sign-in leads.
async fn location(world: &World, change: &[(&str, &str)]) -> String {
    let flow = begin(world, change).flow;
    match sign_in(world, &flow, "local", "wonderland").await.unwrap() {
        Outcome::Answer(Delivery::Redirect(location)) => location,
        other => panic!("{other:?}"),
    }
}

async fn tokens(world: &World, change: &[(&str, &str)]) -> TokenResponse {
    let location = location(world, change).await;
    let code = query(&location, "code").unwrap_or_else(|| panic!("{location}"));
    redeem(world, &code).await.unwrap()
}

fn id_token(response: &TokenResponse) -> Value {
    let token = response.id_token.as_ref().unwrap().expose_secret();
    let body = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64URL_NOPAD.decode(body.as_bytes()).unwrap()).unwrap()
}

fn at_userinfo(world: &World, response: &TokenResponse) -> Value {
    let token = response.access_token.expose_secret();
    let known = userinfo::answer(&world.provider, &world.issuer, token, None).unwrap();
    serde_json::to_value(known).unwrap()
}

#[tokio::test]
async fn a_scope_of_the_issuers_own_reveals_its_claims_to_clients_that_may_ask_for_it() {
    let world = world(&[
        ("teams", "teams", TEAMS),
        ("staff", "profile", "'staff' in user.groups"),
        ("contractor", "profile", "'contractors' in user.groups ? true : null"),
    ]);
    let asked = tokens(&world, &[("scope", &with_teams())]).await;
    for said in [id_token(&asked), at_userinfo(&world, &asked)] {
        assert_eq!(said["teams"], json!(["red", "blue"]));
        assert_eq!(said["staff"], true);
        assert!(said.get("contractor").is_none(), "null is a claim that is not there: {said}");
    }
    let refreshed = refresh(&world, &refresh_token(&asked)).await.unwrap();
    assert_eq!(id_token(&refreshed)["teams"], json!(["red", "blue"]));
    let silent = tokens(&world, &[]).await;
    assert!(id_token(&silent).get("teams").is_none(), "not asked for");
    assert_eq!(id_token(&silent)["staff"], true);
    let claims = r#"{"id_token":{"teams":null},"userinfo":{"staff":null}}"#;
    let by_name = tokens(&world, &[("scope", "openid"), ("claims", claims)]).await;
    assert_eq!(id_token(&by_name)["teams"], json!(["red", "blue"]));
    assert!(id_token(&by_name).get("staff").is_none());
    assert_eq!(at_userinfo(&world, &by_name)["staff"], true);
    assert!(at_userinfo(&world, &by_name).get("teams").is_none());

    let metadata = serde_json::to_value(discovery::metadata(&world.issuer)).unwrap();
    let holds = |list: &str, word: &str| metadata[list].as_array().unwrap().contains(&json!(word));
    assert!(holds("scopes_supported", "teams") && holds("claims_supported", "teams"));
    assert!(holds("claims_supported", "staff"));
    let scopes = metadata["scopes_supported"].as_array().unwrap();
    assert_eq!(scopes.iter().filter(|scope| **scope == json!("profile")).count(), 1);
}

#[tokio::test]
async fn no_client_has_a_scope_it_does_not_list_and_none_outlives_its_claims() {
    let mut world = world(&[("teams", "teams", TEAMS)]);
    let granted = tokens(&world, &[("scope", &with_teams())]).await;
    set(&mut world, &[]);
    let refreshed = refresh(&world, &refresh_token(&granted)).await.unwrap();
    assert_eq!(refreshed.scope, SCOPE, "withdrawn");
    assert!(id_token(&refreshed).get("teams").is_none());
    set(&mut world, &[("teams", "teams", TEAMS)]);
    world.change_client("kubernetes", |client| {
        client.scopes.remove("teams");
    });
    let params = crate::rig::request(&[("scope", &with_teams())]);
    let refused = claviger_domain::authorize::begin(&world.provider, &world.issuer, &params);
    let Err(claviger_domain::authorize::AuthorizeError::Answer(Delivery::Redirect(url))) = refused
    else {
        panic!("{refused:?}");
    };
    assert_eq!(query(&url, "error").as_deref(), Some("invalid_scope"));
    let by_name = tokens(&world, &[("claims", r#"{"id_token":{"teams":null}}"#)]).await;
    assert!(id_token(&by_name).get("teams").is_none(), "nor by name");
}

#[tokio::test]
async fn no_claim_says_what_an_api_server_would_take_for_power() {
    for expression in [
        "'system:masters'",
        "['a', 'system:masters']",
        "{'groups': ['system:masters']}",
        "{'system:masters': true}",
        "'sys' + 'tem:masters'",
        "user.groups.map(g, 'system:' + g)",
    ] {
        let mut world = world(&[("power", "profile", expression)]);
        let url = location(&world, &[]).await;
        assert_eq!(query(&url, "error").as_deref(), Some("access_denied"), "{expression}");
        assert!(world.sessions.take_requests().is_empty());
        world.issuer.allowed_system_values.insert("system:masters".into());
        let allowed = query(&location(&world, &[]).await, "code").is_some();
        assert_eq!(allowed, !expression.contains("+ g"), "{expression}");
    }
    for name in ["sub", "aud", "iss", "groups", "email", "name", "exp", "azp", "cnf", "acr", "sid"]
    {
        assert!(is_reserved(name), "{name}");
    }
}

#[tokio::test]
async fn a_claim_that_fails_gives_no_token_and_costs_neither_code_nor_session() {
    let fails: &[(&str, &str, &str)] = &[("mail", "profile", "user.claims.department")];
    let mut world = world(&[]);
    let granted = tokens(&world, &[]).await;
    let waiting = query(&location(&world, &[]).await, "code").unwrap();
    set(&mut world, fails);
    world.sessions.take_requests();
    let url = location(&world, &[]).await;
    assert_eq!(query(&url, "error").as_deref(), Some("server_error"));
    assert!(!url.contains("department"), "the log says which: {url}");
    assert!(world.sessions.take_requests().is_empty());
    let redeemed = redeem(&world, &waiting).await;
    let refreshed = refresh(&world, &refresh_token(&granted)).await;
    for outcome in [redeemed, refreshed] {
        let Err(TokenError::Refused { code: ErrorCode::ServerError, .. }) = outcome else {
            panic!("{outcome:?}");
        };
    }
    assert_eq!(world.sessions.take_requests(), ["get"], "nothing was created, rotated or revoked");
    // A live token is not called dead either: a resource server would sign its user out.
    for token in [granted.access_token.expose_secret(), refresh_token(&granted).as_str()] {
        let asked = IntrospectionRequest { token: token.into() };
        let from = credentials();
        let told = introspect(&world.provider, &world.issuer, &from, &asked).await;
        let Err(TokenError::Refused { code: ErrorCode::ServerError, .. }) = told else {
            panic!("{told:?}");
        };
    }
    assert_eq!(world.sessions.all()[0].state, SessionState::Active);
    set(&mut world, &[]);
    redeem(&world, &waiting).await.unwrap();
    refresh(&world, &refresh_token(&granted)).await.unwrap();
}
