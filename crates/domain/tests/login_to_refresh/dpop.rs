//! Tokens that are bound to a key: what a proof must be, and what a token is worth without one.

use aws_lc_rs::digest;
use claviger_domain::authorize::{self, AuthorizeError};
use claviger_domain::client::{ClientAuthentication, Grant};
use claviger_domain::dpop::{self, Proof, ProofError};
use claviger_domain::fakes::{REDIRECT_URI, World, alice};
use claviger_domain::identity::Identity;
use claviger_domain::login::Outcome;
use claviger_domain::ports::Clock;
use claviger_domain::request_source;
use claviger_domain::token::{self, TokenError};
use claviger_domain::userinfo::{self, UserinfoError};
use claviger_jose::{Algorithm, PrivateKey, Signer};
use claviger_protocol::client_auth::ClientCredentials;
use claviger_protocol::error::ErrorCode;
use claviger_protocol::response_type::Delivery;
use claviger_protocol::token::{TokenRequest, TokenResponse};
use data_encoding::BASE64URL_NOPAD;
use proptest::prelude::*;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::rig::{VERIFIER, begin, code, encode, query, refresh_token, request, sign_in};

/// A client's key.
struct Holder {
    jwk: Value,
    signer: Signer,
}

impl Holder {
    fn new(algorithm: Algorithm) -> Self {
        let key = PrivateKey::generate(algorithm, 2_048).unwrap();
        let mut jwk = key.public_jwk();
        jwk.as_object_mut()
            .unwrap()
            .retain(|name, _| !["kid", "use", "alg"].contains(&name.as_str()));
        Self { jwk, signer: Signer::new(&key).unwrap() }
    }

    fn prove(&self, claims: &Value) -> String {
        self.signer.sign_showing(&self.jwk, "dpop+jwt", claims).unwrap()
    }

    /// A good proof for the token endpoint.
    fn for_tokens(&self, world: &World) -> String {
        self.prove(&claims(world))
    }
}

fn claims(world: &World) -> Value {
    let now = world.clock.now();
    json!({
        "htm": "POST", "htu": "https://id.example.org/token", "iat": now,
        "jti": world.provider.random_id(), "nonce": dpop::nonce(&world.issuer, now),
    })
}

/// A world whose client `kubernetes` is a public one.
fn public() -> World {
    let mut world = World::new();
    world.change_client("kubernetes", |client| {
        client.authentication = ClientAuthentication::Public;
    });
    world
}

async fn ask(
    world: &World,
    form: &[(&str, &str)],
    proof: Option<&str>,
) -> Result<TokenResponse, TokenError> {
    let secret = [("client_id", "kubernetes"), ("client_secret", "s3cret")];
    let by = match world.issuer.client("kubernetes") {
        Some(claviger_domain::issuer::ClientEntry::InService(c)) if c.is_confidential() => {
            &secret[..]
        }
        _ => &secret[..1],
    };
    let credentials = ClientCredentials::from_parts(None, &encode(by)).unwrap();
    let request = TokenRequest::parse(&encode(form)).unwrap();
    token::exchange(&world.provider, &world.issuer, &credentials, request, proof).await
}

async fn redeem(world: &World, proof: Option<&str>) -> Result<TokenResponse, TokenError> {
    let code = code(world, "local").await;
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", REDIRECT_URI),
        ("code_verifier", VERIFIER),
    ];
    ask(world, &form, proof).await
}

async fn refresh(
    world: &World,
    token: &str,
    proof: Option<&str>,
) -> Result<TokenResponse, TokenError> {
    ask(world, &[("grant_type", "refresh_token"), ("refresh_token", token)], proof).await
}

fn refused(outcome: Result<TokenResponse, TokenError>) -> (ErrorCode, String) {
    match outcome {
        Err(TokenError::Refused { code, description }) => (code, description),
        other => panic!("{other:?}"),
    }
}

fn cnf(token: &TokenResponse) -> Value {
    let token = token.access_token.expose_secret();
    let payload = BASE64URL_NOPAD.decode(token.split('.').nth(1).unwrap().as_bytes()).unwrap();
    serde_json::from_slice::<Value>(&payload).unwrap()["cnf"]["jkt"].clone()
}

#[tokio::test]
async fn a_proof_binds_the_tokens_of_a_public_client_to_its_key() {
    let world = public();
    let (holder, thief) = (Holder::new(Algorithm::ES256), Holder::new(Algorithm::RS256));
    let tokens = redeem(&world, Some(&holder.for_tokens(&world))).await.unwrap();
    assert_eq!(tokens.token_type, "DPoP");
    assert_eq!(cnf(&tokens), json!(holder.signer.kid()));
    let stolen = refresh_token(&tokens);
    world.sessions.take_requests();
    let by_thief = thief.for_tokens(&world);
    for proof in [None, Some(by_thief.as_str())] {
        let (code, why) = refused(refresh(&world, &stolen, proof).await);
        assert_eq!(code, ErrorCode::InvalidGrant, "{why}");
    }
    assert!(world.sessions.take_requests().is_empty(), "and nothing was asked or revoked");
    let next = refresh(&world, &stolen, Some(&holder.for_tokens(&world))).await.unwrap();
    assert_eq!((next.token_type, cnf(&next)), ("DPoP", json!(holder.signer.kid())));
    assert_eq!(world.sessions.take_requests(), ["rotate"]);
    let unbound = redeem(&world, None).await.unwrap();
    assert_eq!((unbound.token_type, cnf(&unbound)), ("Bearer", Value::Null));
}

/// A code whose request brought these parameters.
async fn code_of(world: &World, change: &[(&str, &str)]) -> String {
    let flow = begin(world, change).flow;
    match sign_in(world, &flow, "local", "wonderland").await.unwrap() {
        Outcome::Answer(Delivery::Redirect(location)) => query(&location, "code").unwrap(),
        other => panic!("{other:?}"),
    }
}

async fn redeem_code(
    world: &World,
    code: &str,
    proof: Option<&str>,
) -> Result<TokenResponse, TokenError> {
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", REDIRECT_URI),
        ("code_verifier", VERIFIER),
    ];
    ask(world, &form, proof).await
}

#[tokio::test]
async fn a_code_that_a_request_bound_to_a_key_is_worth_nothing_without_it() {
    for (mut world, groups) in [(World::new(), 2), (public(), 2), (World::new(), 200)] {
        world.change_client("kubernetes", |client| client.pkce_required = false);
        let groups = (0..groups).map(|n| format!("a-group-with-a-long-name-{n}")).collect();
        world.upstream.put("alice", "wonderland", Identity { groups, ..alice() });
        let (holder, thief) = (Holder::new(Algorithm::ES256), Holder::new(Algorithm::ES256));
        let code = code_of(&world, &[("dpop_jkt", holder.signer.kid())]).await;
        world.sessions.take_requests();
        let by_thief = thief.for_tokens(&world);
        for proof in [None, Some(by_thief.as_str())] {
            let (refused, why) = refused(redeem_code(&world, &code, proof).await);
            assert_eq!(refused, ErrorCode::InvalidGrant, "{why}");
        }
        assert!(world.sessions.take_requests().is_empty(), "and the code was not spent");
        let proof = holder.for_tokens(&world);
        let tokens = redeem_code(&world, &code, Some(&proof)).await.unwrap();
        assert_eq!(cnf(&tokens), json!(holder.signer.kid()));
    }
}

#[tokio::test]
async fn what_is_no_thumbprint_is_refused_and_never_taken_for_a_binding() {
    let world = World::new();
    for jkt in ["x", &"a".repeat(42), &"a".repeat(44), &format!("{}=", "a".repeat(42))] {
        let params = request(&[("dpop_jkt", jkt)]);
        let refused = authorize::begin(&world.provider, &world.issuer, &params).unwrap_err();
        let AuthorizeError::Answer(Delivery::Redirect(location)) = refused else { panic!("{jkt}") };
        assert_eq!(query(&location, "error").as_deref(), Some("invalid_request"), "{jkt}");
    }
}

#[tokio::test]
async fn a_proof_beside_a_pushed_request_binds_its_code() {
    let world = World::new();
    let (holder, other) = (Holder::new(Algorithm::ES256), Holder::new(Algorithm::ES256));
    let push = async |change: &[(&str, &str)], proof: &str| {
        let credentials = ClientCredentials::from_parts(
            None,
            &encode(&[("client_id", "kubernetes"), ("client_secret", "s3cret")]),
        );
        let pushed = (request(change), Some(proof));
        let (provider, issuer) = (&world.provider, &world.issuer);
        request_source::push(provider, issuer, &credentials.unwrap(), pushed).await
    };
    let proof = |holder: &Holder| {
        let mut claims = claims(&world);
        claims["htu"] = json!("https://id.example.org/par");
        holder.prove(&claims)
    };
    let elsewhere = push(&[], &holder.for_tokens(&world)).await.unwrap_err();
    let TokenError::Refused { code: ErrorCode::InvalidDpopProof, .. } = elsewhere else {
        panic!("a proof for /token: {elsewhere:?}");
    };
    let contradicts = push(&[("dpop_jkt", other.signer.kid())], &proof(&holder)).await.unwrap_err();
    let TokenError::Refused { code: ErrorCode::InvalidRequest, .. } = contradicts else {
        panic!("{contradicts:?}");
    };
    let once = proof(&holder);
    let pushed = push(&[], &once).await.unwrap();
    let again = push(&[], &once).await.unwrap_err();
    assert!(matches!(again, TokenError::Refused { code: ErrorCode::InvalidDpopProof, .. }));
    let by_reference =
        encode(&[("client_id", "kubernetes"), ("request_uri", pushed.request_uri.as_str())]);
    let params = request_source::resolve(&world.provider, &world.issuer, by_reference).await;
    let flow = authorize::begin(&world.provider, &world.issuer, &params.unwrap()).unwrap().flow;
    let Ok(Outcome::Answer(Delivery::Redirect(location))) =
        sign_in(&world, &flow, "local", "wonderland").await
    else {
        panic!("no code");
    };
    let code = query(&location, "code").unwrap();
    let (refused, why) = refused(redeem_code(&world, &code, None).await);
    assert_eq!(refused, ErrorCode::InvalidGrant, "{why}");
    let tokens = redeem_code(&world, &code, Some(&holder.for_tokens(&world))).await.unwrap();
    assert_eq!(cnf(&tokens), json!(holder.signer.kid()));
}

#[tokio::test]
async fn a_refresh_token_of_a_client_with_a_secret_is_bound_by_the_secret() {
    let world = World::new();
    let (first, second) = (Holder::new(Algorithm::ES256), Holder::new(Algorithm::ES384));
    let tokens = redeem(&world, Some(&first.for_tokens(&world))).await.unwrap();
    let proof = second.for_tokens(&world);
    let next = refresh(&world, &refresh_token(&tokens), Some(&proof)).await.unwrap();
    assert_eq!(cnf(&next), json!(second.signer.kid()));
}

#[tokio::test]
async fn a_proof_beside_nothing_that_is_good_takes_nobodys_room() {
    let world = public();
    let proof = Holder::new(Algorithm::ES256).for_tokens(&world);
    let form = [
        ("grant_type", "authorization_code"),
        ("code", "forged"),
        ("redirect_uri", REDIRECT_URI),
        ("code_verifier", VERIFIER),
    ];
    for _ in 0..2 {
        let (code, why) = refused(ask(&world, &form, Some(&proof)).await);
        assert_eq!(code, ErrorCode::InvalidGrant, "{why}");
    }
    redeem(&world, Some(&proof)).await.unwrap();
    let (code, why) = refused(redeem(&world, Some(&proof)).await);
    assert_eq!(code, ErrorCode::InvalidDpopProof, "{why}");
}

#[tokio::test]
async fn a_bound_token_is_exchanged_for_none_that_needs_no_key() {
    let mut world = World::new();
    world.issuer.grants.insert(Grant::TokenExchange);
    world.change_client("kubernetes", |client| {
        client.grants.insert(Grant::TokenExchange);
    });
    let holder = Holder::new(Algorithm::ES256);
    let bound = redeem(&world, Some(&holder.for_tokens(&world))).await.unwrap();
    let unbound = redeem(&world, None).await.unwrap();
    let exchange = async |subject: &TokenResponse, proof: Option<&str>| {
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("subject_token", subject.access_token.expose_secret()),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ];
        ask(&world, &form, proof).await
    };
    assert!(exchange(&unbound, None).await.is_ok());
    let (code, why) = refused(exchange(&bound, None).await);
    assert_eq!(code, ErrorCode::InvalidRequest, "{why}");
    let proof = holder.for_tokens(&world);
    for subject in [&bound, &unbound] {
        let (code, why) = refused(exchange(subject, Some(&proof)).await);
        assert_eq!(code, ErrorCode::InvalidDpopProof, "{why}");
    }
}

#[tokio::test]
async fn a_client_that_must_prove_possession_gets_nothing_without() {
    let mut world = World::new();
    world.change_client("kubernetes", |client| client.demands.dpop = true);
    let (code, why) = refused(redeem(&world, None).await);
    assert_eq!(code, ErrorCode::InvalidDpopProof, "{why}");
    assert!(world.sessions.take_requests().is_empty());
    let holder = Holder::new(Algorithm::PS256);
    assert!(redeem(&world, Some(&holder.for_tokens(&world))).await.is_ok());
}

#[tokio::test]
async fn a_proof_is_for_this_request_of_this_moment_and_used_once() {
    let world = public();
    let holder = Holder::new(Algorithm::ES256);
    let now = world.clock.now();
    let other_issuer = {
        let mut other = World::new();
        other.issuer.uid = "another".into();
        dpop::nonce(&other.issuer, now)
    };
    let late = dpop::nonce(&world.issuer, now - 300);
    for (name, value, code) in [
        ("htm", json!("GET"), ErrorCode::InvalidDpopProof),
        ("htm", Value::Null, ErrorCode::InvalidDpopProof),
        ("htu", json!("https://id.example.org/userinfo"), ErrorCode::InvalidDpopProof),
        ("htu", json!("https://other.example/token"), ErrorCode::InvalidDpopProof),
        ("iat", json!(now - 121), ErrorCode::InvalidDpopProof),
        ("iat", json!(now + 61), ErrorCode::InvalidDpopProof),
        ("iat", Value::Null, ErrorCode::InvalidDpopProof),
        ("jti", Value::Null, ErrorCode::InvalidDpopProof),
        ("jti", json!("a".repeat(257)), ErrorCode::InvalidDpopProof),
        ("nonce", Value::Null, ErrorCode::UseDpopNonce),
        ("nonce", json!("made up"), ErrorCode::UseDpopNonce),
        ("nonce", json!(late), ErrorCode::UseDpopNonce),
        ("nonce", json!(other_issuer), ErrorCode::UseDpopNonce),
    ] {
        let mut claims = claims(&world);
        claims[name] = value.clone();
        let (found, why) = refused(redeem(&world, Some(&holder.prove(&claims))).await);
        assert_eq!(found, code, "{name}={value}: {why}");
    }
    let mut claims = claims(&world);
    claims["htu"] = json!("https://id.example.org/token?a=b#c");
    let proof = holder.prove(&claims);
    assert!(redeem(&world, Some(&proof)).await.is_ok());
    let (code, why) = refused(redeem(&world, Some(&proof)).await);
    assert_eq!(code, ErrorCode::InvalidDpopProof);
    assert!(why.contains("used before"), "{why}");
}

#[tokio::test]
async fn a_proof_that_is_no_proof_is_refused() {
    let world = public();
    let holder = Holder::new(Algorithm::ES256);
    let claims = || claims(&world);
    let other = Holder::new(Algorithm::ES256);
    let mut private = holder.jwk.clone();
    private["d"] = json!("AA");
    let sign = |jwk: &Value, typ: &str| holder.signer.sign_showing(jwk, typ, &claims()).unwrap();
    let good = holder.for_tokens(&world);
    let (_, rest) = good.split_once('.').unwrap();
    let none = json!({"typ": "dpop+jwt", "alg": "none", "jwk": holder.jwk}).to_string();
    let symmetric = json!({"kty": "oct", "k": "c2VjcmV0"});
    for (what, jwt) in [
        ("another key's signature", sign(&other.jwk, "dpop+jwt")),
        ("a private key", sign(&private, "dpop+jwt")),
        ("a symmetric key", sign(&symmetric, "dpop+jwt")),
        ("another type", sign(&holder.jwk, "JWT")),
        ("no key", holder.signer.sign(Some("dpop+jwt"), &claims()).unwrap()),
        ("no signature", format!("{}.{rest}", BASE64URL_NOPAD.encode(none.as_bytes()))),
        ("a JWE", "a.b.c.d.e".to_owned()),
        ("nothing", String::new()),
        ("too long", "a".repeat(dpop::MAX_PROOF + 1)),
    ] {
        let (code, why) = refused(redeem(&world, Some(&jwt)).await);
        assert_eq!(code, ErrorCode::InvalidDpopProof, "{what}: {why}");
    }
}

#[tokio::test]
async fn userinfo_answers_a_bound_token_to_the_holder_of_its_key_alone() {
    let world = public();
    let (holder, thief) = (Holder::new(Algorithm::ES256), Holder::new(Algorithm::ES256));
    let tokens = redeem(&world, Some(&holder.for_tokens(&world))).await.unwrap();
    let bound = tokens.access_token.expose_secret();
    let ath = |token: &str| {
        BASE64URL_NOPAD.encode(digest::digest(&digest::SHA256, token.as_bytes()).as_ref())
    };
    let claims = |token: &str| {
        let mut claims = claims(&world);
        claims["htm"] = json!("GET");
        claims["htu"] = json!("https://id.example.org/userinfo");
        claims["ath"] = json!(ath(token));
        claims.as_object_mut().unwrap().remove("nonce");
        claims
    };
    let answer = |token: &str, jwt: Option<&str>| {
        let proof = jwt.map(|jwt| Proof {
            jwt,
            method: "GET",
            path: "/userinfo",
            access_token: Some(token),
        });
        userinfo::answer(&world.provider, &world.issuer, token, proof)
    };
    assert!(answer(bound, Some(&holder.prove(&claims(bound)))).is_ok());
    assert_eq!(answer(bound, None), Err(UserinfoError::Scheme));
    let by_thief = thief.prove(&claims(bound));
    assert_eq!(answer(bound, Some(&by_thief)), Err(UserinfoError::OtherKey));
    for change in [("ath", json!(ath("another"))), ("htm", json!("POST")), ("ath", Value::Null)] {
        let mut wrong = claims(bound);
        wrong[change.0] = change.1.clone();
        let refused = answer(bound, Some(&holder.prove(&wrong)));
        assert!(matches!(refused, Err(UserinfoError::Proof(ProofError::Invalid(_)))), "{change:?}");
    }
    let unbound = redeem(&world, None).await.unwrap();
    let unbound = unbound.access_token.expose_secret();
    let proof = holder.prove(&claims(unbound));
    assert_eq!(answer(unbound, Some(&proof)), Err(UserinfoError::Scheme));
    assert!(answer(unbound, None).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_proof_is_answered(text in "\\PC{0,80}", header in "\\PC{0,60}", claims in "\\PC{0,60}") {
        let world = World::new();
        let encode = |part: &str| BASE64URL_NOPAD.encode(part.as_bytes());
        for jwt in [text, format!("{}.{}.AA", encode(&header), encode(&claims))] {
            let proof = Proof { jwt: &jwt, method: "POST", path: "/token", access_token: None };
            prop_assert!(dpop::verify(&world.provider, &world.issuer, proof).is_err());
        }
    }
}
