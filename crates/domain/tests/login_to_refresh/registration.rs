//! Dynamic registration: who may register, what they get, and what they may do with it afterwards.

use std::collections::BTreeSet;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use claviger_domain::client::{ClientAuthentication, Grant, ResponseType};
use claviger_domain::fakes::World;
use claviger_domain::issuer::{ClientEntry, OutOfService};
use claviger_domain::registration::{self, Bounds, Registered, Registration, RegistrationError};
use claviger_protocol::error::ErrorCode;
use secrecy::SecretString;
use serde_json::{Map, Value, json};

const INITIAL: &str = "initial-access-token-of-the-tests";

fn world() -> World {
    let mut world = World::new();
    world.issuer.registration = Some(Registration {
        namespace: "registered".into(),
        initial_access_tokens: vec!["another-initial-access-token-of-us".into(), INITIAL.into()],
        max_clients: 2,
        bounds: Bounds {
            grants: BTreeSet::from([Grant::AuthorizationCode, Grant::RefreshToken]),
            response_types: BTreeSet::from([ResponseType::Code]),
            scopes: ["openid", "email"].map(str::to_owned).into(),
            redirect_hosts: vec!["*.example.org".into()],
            jwks_hosts: vec!["keys.example.org".into()],
            back_channel_hosts: vec!["out.example.org".into()],
        },
    });
    world
}

fn web() -> Value {
    json!({"redirect_uris": ["https://app.example.org/callback"]})
}

async fn register(world: &World, said: &Value) -> Result<Registered, RegistrationError> {
    let token = SecretString::from(INITIAL);
    let body = said.to_string();
    registration::register(&world.provider, &world.issuer, Some(&token), body.as_bytes()).await
}

fn code(error: RegistrationError) -> ErrorCode {
    match error {
        RegistrationError::Refused(error) => error.error,
        other => panic!("{other:?}"),
    }
}

/// Puts a registered client where the control plane would.
fn serve(world: &mut World, answer: &Map<String, Value>) -> (String, SecretString) {
    let id = answer["client_id"].as_str().unwrap().to_owned();
    let name = id.split_once('/').unwrap().1.to_owned();
    let token = answer["registration_access_token"].as_str().unwrap();
    let hash = digest(&SHA256, token.as_bytes());
    let Some(ClientEntry::InService(client)) = world.issuer.clients.get("kubernetes") else {
        panic!()
    };
    let mut client = client.as_ref().clone();
    client.uid = format!("uid-of-{name}");
    client.id.clone_from(&id);
    client.registration_digest = Some(data_encoding::BASE64URL_NOPAD.encode(hash.as_ref()));
    if let Some(secret) = answer.get("client_secret").and_then(Value::as_str) {
        client.authentication = ClientAuthentication::Secret(vec![secret.into()]);
    }
    world.issuer.clients.insert(id, ClientEntry::InService(Arc::new(client)));
    (name, SecretString::from(token))
}

#[tokio::test]
async fn a_holder_of_an_initial_access_token_registers_a_client_with_one_write() {
    let world = world();
    let registered = register(&world, &web()).await.unwrap();
    let answer = &registered.answer;
    assert_eq!(world.registry.take_requests(), ["create"]);
    let id = answer["client_id"].as_str().unwrap();
    let name = id.strip_prefix("registered/").unwrap();
    assert_eq!(world.registry.secret(name).as_deref(), answer["client_secret"].as_str());
    assert_eq!(answer["client_secret"].as_str().unwrap().len(), 43);
    assert_eq!(answer["client_secret_expires_at"], 0);
    assert_eq!(answer["client_id_issued_at"], 1_767_225_600);
    assert_eq!(
        answer["registration_client_uri"],
        format!("https://id.example.org/register/{name}")
    );
    assert_eq!(answer["scope"], "email openid", "all the bounds admit");
    let event = world.audit.take();
    assert!(event[0].contains("Registered") && event[0].contains(id), "{event:?}");
    let other = register(&world, &web()).await.unwrap();
    assert_ne!(other.answer["registration_access_token"], answer["registration_access_token"]);
    let debug = format!("{registered:?}");
    assert!(!debug.contains(answer["client_secret"].as_str().unwrap()), "{debug}");
}

#[tokio::test]
async fn a_stranger_registers_nothing_and_costs_no_request() {
    let mut world = world();
    let body = web().to_string();
    for token in [None, Some(""), Some("initial-access-token-of-the-test"), Some("x")] {
        let token = token.map(SecretString::from);
        let refused =
            registration::register(&world.provider, &world.issuer, token.as_ref(), body.as_bytes())
                .await;
        assert_eq!(refused.unwrap_err(), RegistrationError::Unauthorized);
    }
    world.issuer.registration = None;
    assert_eq!(register(&world, &web()).await.unwrap_err(), RegistrationError::Off);
    assert!(world.registry.take_requests().is_empty());
}

#[tokio::test]
async fn what_the_tenants_bounds_do_not_admit_is_refused_before_anything_is_written() {
    use ErrorCode::{InvalidClientMetadata, InvalidRedirectUri};
    let world = world();
    for (member, value, expected) in [
        ("redirect_uris", json!(["https://app.example.com/"]), InvalidRedirectUri),
        (
            "redirect_uris",
            json!(["https://app.example.org/", "http://127.0.0.1/"]),
            InvalidRedirectUri,
        ),
        ("redirect_uris", json!(["com.example.app:/callback"]), InvalidRedirectUri),
        ("post_logout_redirect_uris", json!(["https://evil.example.com/"]), InvalidRedirectUri),
        ("grant_types", json!(["authorization_code", "client_credentials"]), InvalidClientMetadata),
        (
            "grant_types",
            json!(["urn:ietf:params:oauth:grant-type:jwt-bearer"]),
            InvalidClientMetadata,
        ),
        ("id_token_signed_response_alg", json!("none"), InvalidClientMetadata),
        ("id_token_signed_response_alg", json!("RS512"), InvalidClientMetadata),
    ] {
        let mut said = web();
        said[member] = value;
        assert_eq!(code(register(&world, &said).await.unwrap_err()), expected, "{said}");
    }
    let mut said = web();
    said["response_types"] = json!(["id_token"]);
    said["grant_types"] = json!(["implicit"]);
    assert_eq!(code(register(&world, &said).await.unwrap_err()), InvalidClientMetadata);
    let mut said = web();
    said["token_endpoint_auth_method"] = json!("private_key_jwt");
    said["jwks_uri"] = json!("https://app.example.org/keys");
    assert_eq!(code(register(&world, &said).await.unwrap_err()), InvalidClientMetadata);
    said["jwks_uri"] = json!("https://keys.example.org/keys");
    assert!(world.registry.take_requests().is_empty());
    let by_keys = register(&world, &said).await.unwrap().answer;
    assert_eq!(by_keys.get("client_secret"), None);
}

#[tokio::test]
async fn a_registered_client_is_told_of_sign_outs_where_the_bounds_admit_and_nowhere_else() {
    let mut world = world();
    for host in ["app.example.org", "keys.example.org", "out.example.com", "127.0.0.1"] {
        let mut said = web();
        said["backchannel_logout_uri"] = json!(format!("https://{host}/out"));
        let refused = code(register(&world, &said).await.unwrap_err());
        assert_eq!(refused, ErrorCode::InvalidClientMetadata, "{host}");
    }
    let mut said = web();
    said["backchannel_logout_uri"] = json!("https://out.example.org/out");
    let registration = world.issuer.registration.as_mut().unwrap();
    let hosts = std::mem::take(&mut registration.bounds.back_channel_hosts);
    let refused = register(&world, &said).await.unwrap_err();
    assert_eq!(code(refused), ErrorCode::InvalidClientMetadata, "nowhere by default");
    assert!(world.registry.take_requests().is_empty());

    world.issuer.registration.as_mut().unwrap().bounds.back_channel_hosts = hosts;
    said["frontchannel_logout_uri"] = json!("https://app.example.org/frame");
    let answer = register(&world, &said).await.unwrap().answer;
    for (member, value) in [
        ("backchannel_logout_uri", said["backchannel_logout_uri"].clone()),
        ("backchannel_logout_session_required", json!(false)),
        ("frontchannel_logout_uri", said["frontchannel_logout_uri"].clone()),
        ("frontchannel_logout_session_required", json!(true)),
    ] {
        assert_eq!(answer[member], value, "{member}");
    }
    let (name, token) = serve(&mut world, &answer);
    let mut said = Value::Object(answer);
    said["backchannel_logout_uri"] = json!("https://internal.example.com/out");
    let by = (name.as_str(), Some(&token));
    let changed =
        registration::update(&world.provider, &world.issuer, by, said.to_string().as_bytes()).await;
    assert_eq!(code(changed.unwrap_err()), ErrorCode::InvalidClientMetadata, "nor by a change");
}

#[tokio::test]
async fn scopes_are_narrowed_to_what_is_admitted_and_openid_is_always_there() {
    let world = world();
    for (wanted, given) in [("openid groups email", "email openid"), ("groups", "openid")] {
        let mut said = web();
        said["scope"] = json!(wanted);
        assert_eq!(register(&world, &said).await.unwrap().answer["scope"], given);
    }
}

#[tokio::test]
async fn beyond_the_number_of_clients_nobody_registers() {
    let mut world = world();
    for _ in 0..2 {
        let answer = register(&world, &web()).await.unwrap().answer;
        serve(&mut world, &answer);
    }
    assert_eq!(world.registry.take_requests().len(), 2);
    assert_eq!(code(register(&world, &web()).await.unwrap_err()), ErrorCode::AccessDenied);
    assert!(world.registry.take_requests().is_empty());
}

#[tokio::test]
async fn a_client_reads_changes_and_deletes_itself() {
    let mut world = world();
    let answer = register(&world, &web()).await.unwrap().answer;
    let (name, token) = serve(&mut world, &answer);
    world.registry.take_requests();

    let read =
        registration::read(&world.provider, &world.issuer, &name, Some(&token)).await.unwrap();
    assert_eq!(read["client_secret"], answer["client_secret"]);
    assert_eq!(read["registration_access_token"], answer["registration_access_token"]);
    assert_eq!(world.registry.take_requests(), ["read"]);

    let mut said = Value::Object(read);
    said["redirect_uris"] = json!(["https://other.example.org/callback"]);
    let by = (name.as_str(), Some(&token));
    let changed =
        registration::update(&world.provider, &world.issuer, by, said.to_string().as_bytes())
            .await
            .unwrap();
    assert_eq!(changed["redirect_uris"], json!(["https://other.example.org/callback"]));
    assert_eq!(world.registry.take_requests(), ["read", "replace"]);

    registration::delete(&world.provider, &world.issuer, &name, Some(&token)).await.unwrap();
    assert_eq!(world.registry.take_requests(), ["delete"]);
    let again = registration::read(&world.provider, &world.issuer, &name, Some(&token)).await;
    assert_eq!(again.unwrap_err(), RegistrationError::Unauthorized);
}

#[tokio::test]
async fn a_change_is_bounded_as_a_registration_is_and_names_its_client() {
    let mut world = world();
    let answer = register(&world, &web()).await.unwrap().answer;
    let (name, token) = serve(&mut world, &answer);
    world.registry.take_requests();
    for (member, value) in [
        ("client_id", json!("kubernetes")),
        ("client_id", Value::Null),
        ("client_secret", json!("not mine")),
        ("redirect_uris", json!(["https://evil.example.com/"])),
        ("grant_types", json!(["authorization_code", "client_credentials"])),
    ] {
        let mut said = Value::Object(answer.clone());
        said[member] = value;
        let by = (name.as_str(), Some(&token));
        let refused =
            registration::update(&world.provider, &world.issuer, by, said.to_string().as_bytes())
                .await;
        code(refused.unwrap_err());
        assert!(world.registry.take_requests().is_empty(), "{member}");
    }
    let mut said = Value::Object(answer.clone());
    said["token_endpoint_auth_method"] = json!("none");
    let by = (name.as_str(), Some(&token));
    let refused =
        registration::update(&world.provider, &world.issuer, by, said.to_string().as_bytes()).await;
    assert_eq!(code(refused.unwrap_err()), ErrorCode::InvalidClientMetadata);
    assert_eq!(world.registry.take_requests(), ["read"]);
}

#[tokio::test]
async fn nobody_manages_a_client_with_another_token() {
    let mut world = world();
    let mine = register(&world, &web()).await.unwrap().answer;
    let (name, _) = serve(&mut world, &mine);
    let others = register(&world, &web()).await.unwrap().answer;
    let (_, others) = serve(&mut world, &others);
    // One that no client registered has no token, the empty one least of all.
    let plain = "registered/plain";
    let Some(ClientEntry::InService(kubernetes)) = world.issuer.clients.get("kubernetes") else {
        panic!()
    };
    let mut client = kubernetes.as_ref().clone();
    client.id = plain.into();
    world.issuer.clients.insert(plain.into(), ClientEntry::InService(Arc::new(client)));
    world.registry.take_requests();
    for (name, token) in [
        (name.as_str(), Some(others)),
        (name.as_str(), Some(INITIAL.into())),
        (name.as_str(), None),
        ("plain", Some("".into())),
        ("../kubernetes", Some("".into())),
    ] {
        let refused =
            registration::delete(&world.provider, &world.issuer, name, token.as_ref()).await;
        assert_eq!(refused.unwrap_err(), RegistrationError::Unauthorized, "{name}");
    }
    assert!(world.registry.take_requests().is_empty());
}

#[tokio::test]
async fn what_is_taken_back_is_gone_though_a_deletion_fails() {
    for (failures, requests) in [
        (0, &["delete"][..]),
        (2, &["delete", "read", "delete", "read", "delete"]),
        (3, &["delete", "read", "delete", "read", "delete", "read"]),
    ] {
        let world = world();
        let registered = register(&world, &web()).await.unwrap();
        world.registry.take_requests();
        world.registry.fail_deletions(failures);
        registration::withdraw(&world.provider, &registered).await;
        assert_eq!(world.registry.take_requests(), requests, "{failures}");
    }
}

#[tokio::test]
async fn a_token_that_was_taken_back_is_worth_nothing_though_nobody_has_told_this_replica() {
    let mut world = world();
    let answer = register(&world, &web()).await.unwrap().answer;
    let (name, token) = serve(&mut world, &answer);
    world.registry.take_token_back(&name);
    world.registry.take_requests();
    let (provider, issuer) = (&world.provider, &world.issuer);
    let read = registration::read(provider, issuer, &name, Some(&token)).await;
    assert_eq!(read.unwrap_err(), RegistrationError::Unauthorized);
    let mut said = answer.clone();
    said["redirect_uris"] = json!(["https://evil.example.org/callback"]);
    let body = Value::Object(said).to_string();
    let by = (name.as_str(), Some(&token));
    let changed = registration::update(provider, issuer, by, body.as_bytes()).await;
    assert_eq!(changed.unwrap_err(), RegistrationError::Unauthorized);
    assert_eq!(world.registry.take_requests(), ["read", "read"], "nothing is written");
}

/// The client of this name, put out of service with these secrets known.
fn suspend(world: &mut World, name: &str, secrets: Vec<SecretString>) {
    let id = format!("registered/{name}");
    let Some(ClientEntry::InService(client)) = world.issuer.clients.get(&id) else { panic!() };
    let (uid, registration_digest) = (client.uid.clone(), client.registration_digest.clone());
    let out =
        ClientEntry::OutOfService(Arc::new(OutOfService { uid, registration_digest, secrets }));
    world.issuer.clients.insert(id, out);
}

#[tokio::test]
async fn a_client_that_is_out_of_service_reads_mends_and_deletes_itself() {
    let mut world = world();
    let answer = register(&world, &web()).await.unwrap().answer;
    let (name, token) = serve(&mut world, &answer);
    world.registry.take_requests();
    for secret in [None, answer["client_secret"].as_str()] {
        serve(&mut world, &answer);
        suspend(&mut world, &name, secret.into_iter().map(SecretString::from).collect());
        let (provider, issuer) = (&world.provider, &world.issuer);
        let stranger = registration::read(provider, issuer, &name, Some(&INITIAL.into())).await;
        assert_eq!(stranger.unwrap_err(), RegistrationError::Unauthorized);
        assert!(world.registry.take_requests().is_empty());

        let mut said = registration::read(provider, issuer, &name, Some(&token)).await.unwrap();
        assert_eq!(said.get("client_secret").and_then(Value::as_str), secret);
        assert_eq!(world.registry.take_requests(), ["read"]);
        said["redirect_uris"] = json!(["https://mended.example.org/callback"]);
        let by = (name.as_str(), Some(&token));
        let body = Value::Object(said.clone()).to_string();
        let mended = registration::update(provider, issuer, by, body.as_bytes()).await.unwrap();
        assert_eq!(mended["redirect_uris"], said["redirect_uris"]);
        world.registry.take_requests();

        // What is not known is not taken for right, and what is wrong is so still.
        said.insert("client_secret".into(), json!("not mine"));
        let body = Value::Object(said).to_string();
        let refused = registration::update(provider, issuer, by, body.as_bytes()).await;
        assert_eq!(code(refused.unwrap_err()), ErrorCode::InvalidClientMetadata);
        assert!(world.registry.take_requests().is_empty());
    }
    registration::delete(&world.provider, &world.issuer, &name, Some(&token)).await.unwrap();
    assert_eq!(world.registry.take_requests(), ["delete"]);
}

#[tokio::test]
async fn while_the_api_server_is_away_registration_waits() {
    let world = world();
    world.registry.set_away(true);
    assert!(matches!(register(&world, &web()).await, Err(RegistrationError::Unavailable(_))));
}

#[tokio::test]
async fn a_change_is_tried_again_where_somebody_wrote_in_between() {
    let mut world = world();
    let answer = register(&world, &web()).await.unwrap().answer;
    let (name, token) = serve(&mut world, &answer);
    let said = Value::Object(answer).to_string();
    for (changes, succeeds) in [(1, true), (3, false)] {
        world.registry.take_requests();
        world.registry.change_after_reads(changes);
        let by = (name.as_str(), Some(&token));
        let changed =
            registration::update(&world.provider, &world.issuer, by, said.as_bytes()).await;
        // A good token is never called a bad one.
        assert_eq!(changed.is_ok(), succeeds, "{changed:?}");
        assert!(succeeds || matches!(changed, Err(RegistrationError::Unavailable(_))));
        let tries = if succeeds { 2 } else { 3 };
        assert_eq!(world.registry.take_requests(), ["read", "replace"].repeat(tries));
    }
}

#[tokio::test]
async fn pages_about_a_client_are_where_its_own_addresses_may_be() {
    let world = world();
    for (page, admitted) in
        [("https://app.example.org/policy", true), ("https://evil.example.com/policy", false)]
    {
        for member in ["client_uri", "logo_uri", "policy_uri", "tos_uri"] {
            let mut said = web();
            said[member] = json!(page);
            assert_eq!(register(&world, &said).await.is_ok(), admitted, "{said}");
        }
    }
}
