//! What the authorization endpoint gives besides a code, how it travels, and what it costs.

use claviger_domain::authorize::{self, AuthorizeError};
use claviger_domain::client::ResponseType;
use claviger_domain::fakes::World;
use claviger_domain::login::Outcome;
use claviger_domain::ports::SessionState;
use claviger_domain::userinfo;
use claviger_jose::{Algorithm, Claims, VerifyOptions, left_half_hash, verify};
use claviger_protocol::response_type::Delivery;

use crate::rig::{begin, query, redeem, refresh_token, request, sign_in};

/// A world in which every response type is switched on.
fn world() -> World {
    let mut world = World::new();
    world.issuer.response_types.extend(ResponseType::ALL);
    world.change_client("kubernetes", |client| client.response_types.extend(ResponseType::ALL));
    world
}

/// The parameters in the fragment of the answer to a request of this type.
async fn fragment(world: &World, change: &[(&str, &str)]) -> Vec<(String, String)> {
    let flow = begin(world, change).flow;
    let outcome = sign_in(world, &flow, "local", "wonderland").await.unwrap();
    let Outcome::Answer(Delivery::Redirect(location)) = outcome else { panic!("{outcome:?}") };
    let url = url::Url::parse(&location).unwrap();
    assert_eq!(url.query(), None, "nothing in the query: {location}");
    let fragment = url.fragment().unwrap().as_bytes();
    url::form_urlencoded::parse(fragment).map(|(n, v)| (n.into_owned(), v.into_owned())).collect()
}

fn value<'a>(answer: &'a [(String, String)], name: &str) -> Option<&'a str> {
    answer.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

fn id_token(world: &World, token: &str) -> Claims {
    let expected = VerifyOptions {
        algorithms: &[Algorithm::ES256],
        issuer: "https://id.example.org",
        audience: Some("kubernetes"),
        typ: None,
        leeway_seconds: 0,
    };
    verify(&world.issuer.keys.key_set, token, 1_767_225_600, &expected).unwrap()
}

fn hash(text: &str) -> String {
    left_half_hash(Algorithm::ES256, text.as_bytes())
}

#[tokio::test]
async fn each_type_gives_what_its_words_say_and_binds_it_together() {
    for response_type in ResponseType::ALL.into_iter().filter(|t| *t != ResponseType::Code) {
        let world = world();
        let answer = fragment(&world, &[("response_type", response_type.as_str())]).await;
        let code = value(&answer, "code");
        let token = value(&answer, "access_token");
        assert_eq!(code.is_some(), response_type.has_code(), "{response_type}");
        assert_eq!(token.is_some(), response_type.has_token(), "{response_type}");
        assert_eq!(value(&answer, "state"), Some("st&te"));
        assert_eq!(value(&answer, "iss"), Some("https://id.example.org"));
        if response_type.has_token() {
            assert_eq!(value(&answer, "token_type"), Some("Bearer"));
            assert_eq!(value(&answer, "expires_in"), Some("600"));
        }
        let Some(given) = value(&answer, "id_token") else {
            assert!(!response_type.has_id_token());
            continue;
        };
        let claims = id_token(&world, given);
        assert_eq!(claims["nonce"], "n-0S6");
        assert_eq!(claims.get("c_hash").map(|h| h.as_str().unwrap()), code.map(hash).as_deref());
        assert_eq!(claims.get("at_hash").map(|h| h.as_str().unwrap()), token.map(hash).as_deref());
        assert_eq!(claims["s_hash"], hash("st&te").as_str());
        let alone = response_type == ResponseType::IdToken;
        assert_eq!(claims.contains_key("email"), alone, "{response_type}: OIDC Core 5.4");
    }
}

#[tokio::test]
async fn an_id_token_alone_stores_nothing_and_an_access_token_one_session() {
    let world = world();
    fragment(&world, &[("response_type", "id_token")]).await;
    fragment(&world, &[("response_type", "code id_token")]).await;
    assert!(world.sessions.take_requests().is_empty());

    let answer = fragment(&world, &[("response_type", "id_token token")]).await;
    assert_eq!(world.sessions.take_requests(), ["create"]);
    let token = value(&answer, "access_token").unwrap();
    let [session] = world.sessions.all().try_into().unwrap();
    assert_eq!((session.state, session.expires_at), (SessionState::Active, 1_767_226_200));
    assert!(userinfo::answer(&world.provider, &world.issuer, token, None).is_ok());
    world.sessions.take_requests();
    assert_eq!(value(&answer, "scope"), Some("openid email profile groups"), "OIDC Core 11");
}

#[tokio::test]
async fn a_replayed_code_takes_the_access_token_that_came_with_it_along() {
    let world = world();
    let answer = fragment(&world, &[("response_type", "code id_token token")]).await;
    let (code, token) = (value(&answer, "code").unwrap(), value(&answer, "access_token").unwrap());
    assert_eq!(world.sessions.take_requests(), ["create"]);
    let tokens = redeem(&world, code).await.unwrap();
    assert_eq!(world.sessions.take_requests(), ["get", "activate"]);
    refresh_token(&tokens);
    assert!(userinfo::answer(&world.provider, &world.issuer, token, None).is_ok());
    redeem(&world, code).await.unwrap_err();
    assert!(userinfo::answer(&world.provider, &world.issuer, token, None).is_err(), "revoked");
}

#[tokio::test]
async fn what_was_not_switched_on_is_refused_in_the_place_of_the_answer() {
    let mut world = World::new();
    let refused = |world: &World, change: &[(&str, &str)]| {
        let refused = authorize::begin(&world.provider, &world.issuer, &request(change));
        let Err(AuthorizeError::Answer(delivery)) = refused else { panic!("{refused:?}") };
        delivery
    };
    let error = |delivery: Delivery| match delivery {
        Delivery::Redirect(location) => {
            let place = if location.contains('#') { "fragment" } else { "query" };
            (place, query(&location.replace('#', "?"), "error").unwrap())
        }
        Delivery::Post { action, fields } => {
            assert_eq!(action, "https://app.example.org/callback");
            ("form", fields.into_iter().find(|(name, _)| *name == "error").unwrap().1)
        }
    };
    let hybrid = [("response_type", "code id_token")];
    assert_eq!(error(refused(&world, &hybrid)), ("fragment", "unsupported_response_type".into()));
    world.issuer.response_types.extend(ResponseType::ALL);
    assert_eq!(error(refused(&world, &hybrid)), ("fragment", "unauthorized_client".into()));
    let by_form = [("response_type", "code id_token"), ("response_mode", "form_post")];
    assert_eq!(error(refused(&world, &by_form)), ("form", "unauthorized_client".into()));
    let no_nonce = [("response_type", "code id_token"), ("nonce", "")];
    assert_eq!(error(refused(&world, &no_nonce)), ("fragment", "invalid_request".into()));
    let in_query = [("response_type", "code id_token"), ("response_mode", "query")];
    assert_eq!(error(refused(&world, &in_query)), ("fragment", "invalid_request".into()));
    assert_eq!(error(refused(&world, &[("scope", "email")])), ("query", "invalid_scope".into()));
}

#[tokio::test]
async fn a_code_may_come_by_form_and_a_client_that_may_not_use_codes_gets_none() {
    let mut world = world();
    let flow = begin(&world, &[("response_mode", "form_post")]).flow;
    let outcome = sign_in(&world, &flow, "local", "wonderland").await.unwrap();
    let Outcome::Answer(Delivery::Post { action, fields }) = outcome else { panic!("{outcome:?}") };
    assert_eq!(action, "https://app.example.org/callback");
    let names: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["code", "state", "iss"]);
    redeem(&world, &fields[0].1).await.unwrap();

    world.change_client("kubernetes", |client| client.grants.clear());
    let change = [("response_type", "code id_token")];
    let refused = authorize::begin(&world.provider, &world.issuer, &request(&change));
    assert!(matches!(refused, Err(AuthorizeError::Answer(_))), "{refused:?}");
    begin(&world, &[("response_type", "id_token")]);
}
