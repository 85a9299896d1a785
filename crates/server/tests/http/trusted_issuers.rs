//! Exchange of tokens of other issuers: only what the client's object lists, for nobody's benefit but whom it names.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::hmac;
use axum::http::StatusCode;
use claviger_domain::client::{Client, ClientAuthentication, Grant, Introspection};
use claviger_domain::fakes::World;
use claviger_domain::issuer::{ClientEntry, SubjectFormat};
use claviger_domain::policy::Condition;
use claviger_domain::ports::Clock;
use claviger_domain::trusted_issuer::{GroupsClaim, TrustedIssuer};
use claviger_domain::workload::AllowedWorkloads;
use claviger_jose::{Algorithm, KeySet, PrivateKey, Signer};
use claviger_protocol::subject;
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use crate::rig::{Answer, Rig, claims};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const CI: &str = "https://token.ci.example";
const DISCOVERY: &str = "https://token.ci.example/.well-known/openid-configuration";
const KEYS: &str = "https://token.ci.example/keys";
const SUB: &str = "repo:my-org/my-repo:ref:refs/heads/main";

fn trusted() -> TrustedIssuer {
    let one = |value: &str| [value.to_owned()].into();
    TrustedIssuer {
        issuer: CI.into(),
        audience: "https://id.example.org".into(),
        jwks_uri: None,
        algorithms: vec![Algorithm::RS256, Algorithm::ES256],
        rules: BTreeMap::from([
            ("repository".to_owned(), one("my-org/my-repo")),
            ("ref".to_owned(), one("refs/heads/main")),
        ]),
        groups: vec!["ci".into()],
        groups_claim: Some(GroupsClaim { claim: "teams".into(), prefix: "ci:".into() }),
        max_life: 900,
    }
}

/// An issuer of a CI system, and Claviger, whose client `cli` (Public) trusts it and whose `target` lists `cli`.
struct Ci {
    rig: Rig,
    key: PrivateKey,
}

impl Ci {
    fn with(change: impl FnOnce(&mut World)) -> Self {
        let key = PrivateKey::generate(Algorithm::ES256, 0).unwrap();
        let rig = Rig::with(|world| {
            world.issuer.grants.insert(Grant::TokenExchange);
            let Some(ClientEntry::InService(model)) =
                world.issuer.clients.get("kubernetes").cloned()
            else {
                panic!("no such client");
            };
            let target = Client {
                uid: "uid-of-target".into(),
                id: "target".into(),
                workloads: AllowedWorkloads {
                    brought_by: ["cli".to_owned()].into(),
                    ..AllowedWorkloads::default()
                },
                ..(*model).clone()
            };
            world.issuer.clients.insert("target".into(), ClientEntry::InService(Arc::new(target)));
            world.change_client("cli", |client| {
                client.grants = [Grant::TokenExchange].into();
                client.workloads.trusted_issuers = vec![trusted()];
            });
            world.publishers.publish(KEYS, KeySet::new([key.public_key().clone()]).to_json());
            world
                .publishers
                .publish(DISCOVERY, json!({"issuer": CI, "jwks_uri": KEYS}).to_string());
            change(world);
        });
        Self { rig, key }
    }

    fn new() -> Self {
        Self::with(|_| {})
    }

    /// What a job's token says.
    fn claims(&self) -> Value {
        let now = self.rig.world.clock.now();
        json!({
            "iss": CI, "sub": SUB, "aud": "https://id.example.org",
            "iat": now, "nbf": now, "exp": now + 300, "jti": "7b3f",
            "repository": "my-org/my-repo", "ref": "refs/heads/main", "run_attempt": "2",
            "actor": "octocat", "email": "octocat@example.org", "groups": ["admins"],
        })
    }

    fn sign(&self, claims: &Value) -> String {
        Signer::new(&self.key).unwrap().sign(Some("JWT"), claims).unwrap()
    }

    async fn exchange(&self, token: &str, further: &[(&str, &str)]) -> Answer {
        let form = [
            ("client_id", "cli"),
            ("grant_type", GRANT),
            ("subject_token_type", ID_TOKEN),
            ("subject_token", token),
        ];
        self.rig.post("/token", &[&form[..], further].concat()).await
    }

    async fn to_target(&self, claims: &Value) -> Answer {
        self.exchange(&self.sign(claims), &[("audience", "target")]).await
    }

    fn asked(&self) -> Vec<String> {
        self.rig.world.publishers.take_asked()
    }
}

#[track_caller]
fn assert_refused(answer: &Answer, error: &str, named: &str) {
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
    assert_eq!(answer.json()["error"], error, "{answer:?}");
    let why = answer.json()["error_description"].as_str().unwrap_or_default().to_owned();
    assert!(why.contains(named), "{named:?} in {why}");
}

#[tokio::test]
async fn a_job_gets_an_id_token_for_the_target_and_is_nobody_elses_user() {
    let ci = Ci::new();
    let answer = ci.to_target(&ci.claims()).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let exchanged = answer.json();
    assert_eq!(exchanged["issued_token_type"], ID_TOKEN);
    assert_eq!((&exchanged["token_type"], &exchanged["expires_in"]), (&json!("N_A"), &json!(300)));
    assert_eq!(exchanged["scope"], "openid groups");
    assert!(exchanged.get("refresh_token").is_none());
    let id_token = claims(&exchanged["access_token"]);
    assert_eq!((&id_token["aud"], &id_token["azp"]), (&json!("target"), &json!("cli")));
    assert_eq!(id_token["sub"], subject::encode(&format!("{CI}#{SUB}"), ""));
    assert_eq!(id_token["groups"], json!(["ci"]), "what it says of its groups counts nothing");
    assert_eq!(id_token["exp"], ci.claims()["exp"], "no longer than what went in");
    for absent in ["email", "name", "preferred_username", "auth_time", "repository", "actor", "sid"]
    {
        assert!(id_token.get(absent).is_none(), "{absent} in {id_token}");
    }
    assert!(ci.rig.store_requests().is_empty());
    let audit = ci.rig.world.audit.take();
    assert!(audit.len() == 1 && audit[0].contains("WorkloadAdmitted"), "{audit:?}");
    assert!(audit[0].contains(SUB), "{audit:?}");
    for _ in 0..3 {
        assert_eq!(ci.to_target(&ci.claims()).await.status, StatusCode::OK);
    }
    assert_eq!(ci.asked(), [DISCOVERY, KEYS], "its keys are asked for once");
}

#[tokio::test]
async fn what_could_not_be_good_is_refused_and_nobody_is_asked_for_keys() {
    let ci = Ci::new();
    let now = ci.claims()["iat"].as_i64().unwrap();
    let long = "x".repeat(17_000);
    for (name, value, named) in [
        ("iss", json!("https://other.example"), "trustedIssuers"),
        ("iss", json!("https://token.ci.example/"), "trustedIssuers"),
        ("iss", Value::Null, "iss"),
        ("aud", json!("https://other.example"), "aud must be"),
        ("aud", json!(["https://id.example.org", "https://vault.example"]), "nothing else"),
        ("aud", json!([]), "aud"),
        ("aud", Value::Null, "aud"),
        ("exp", json!(now), "expired"),
        ("exp", json!(now + 901), "lives for more than 900 s"),
        ("exp", Value::Null, "exp"),
        ("iat", Value::Null, "iat"),
        ("iat", json!(now + 61), "not valid yet"),
        ("nbf", json!(now + 61), "not valid yet"),
        ("sub", Value::Null, "sub"),
        ("sub", json!(""), "sub"),
        ("sub", json!("a\nb"), "sub"),
        ("repository", json!("my-org/other"), "claim repository"),
        ("repository", json!("my-org/my-repo2"), "claim repository"),
        ("repository", json!("MY-ORG/my-repo"), "claim repository"),
        ("repository", json!({"x": "my-org/my-repo"}), "claim repository"),
        ("repository", Value::Null, "claim repository"),
        ("ref", json!("refs/heads/feature"), "claim ref"),
        ("cnf", json!({"jkt": "x"}), "cnf"),
        ("teams", json!({"a": 1}), "claim teams"),
        ("teams", json!(["a", 1]), "claim teams"),
        ("actor", json!(long), "16384"),
    ] {
        let mut claims = ci.claims();
        claims[name] = value.clone();
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        }
        assert_refused(&ci.to_target(&claims).await, "invalid_request", named);
    }
    assert!(ci.asked().is_empty());
    assert!(ci.rig.world.audit.take().is_empty());
}

#[tokio::test]
async fn only_the_issuers_own_signature_counts_by_an_algorithm_that_is_allowed() {
    let ci = Ci::new();
    let encode = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let parts = |header: &Value| format!("{}.{}", encode(header), encode(&ci.claims()));
    let kid = ci.key.public_key().kid().to_owned();
    let unsigned = format!("{}.", parts(&json!({"alg": "none", "typ": "JWT"})));
    let by_public_key = {
        let text = parts(&json!({"alg": "HS256", "typ": "JWT", "kid": kid}));
        let secret = KeySet::new([ci.key.public_key().clone()]).to_json();
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let mac = hmac::sign(&key, text.as_bytes());
        format!("{text}.{}", BASE64URL_NOPAD.encode(mac.as_ref()))
    };
    let stronger = PrivateKey::generate(Algorithm::ES384, 0).unwrap();
    let by_another_algorithm = Signer::new(&stronger).unwrap().sign(None, &ci.claims()).unwrap();
    let target = [("audience", "target")];
    for token in [&unsigned, &by_public_key, &by_another_algorithm] {
        assert_refused(&ci.exchange(token, &target).await, "invalid_request", "algorithm");
    }
    assert!(ci.asked().is_empty());
    let good = ci.sign(&ci.claims());
    let (rest, _) = good.rsplit_once('.').unwrap();
    let altered = format!("{rest}.{}", BASE64URL_NOPAD.encode(&[7; 64]));
    assert_refused(&ci.exchange(&altered, &target).await, "invalid_request", "signature");
    let forger = PrivateKey::generate(Algorithm::ES256, 0).unwrap();
    let unknown = Signer::new(&forger).unwrap().sign(None, &ci.claims()).unwrap();
    ci.rig.world.clock.advance(10);
    for _ in 0..20 {
        assert_refused(&ci.exchange(&unknown, &target).await, "invalid_request", "no key");
    }
    assert_eq!(ci.asked(), [DISCOVERY, KEYS, DISCOVERY, KEYS], "once, and once for a new key");
    let logout = Signer::new(&ci.key).unwrap().sign(Some("logout+jwt"), &ci.claims()).unwrap();
    assert_refused(&ci.exchange(&logout, &target).await, "invalid_request", "type");
}

#[tokio::test]
async fn while_the_issuer_is_away_or_not_itself_the_job_is_told_to_come_back() {
    let ci = Ci::with(|world| {
        let mix_up = json!({"issuer": "https://other.example", "jwks_uri": KEYS});
        world.publishers.publish(DISCOVERY, mix_up.to_string());
    });
    let answer = ci.to_target(&ci.claims()).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    assert_eq!(answer.json()["error"], "temporarily_unavailable");
    assert_eq!(ci.asked(), [DISCOVERY], "the keys of a mix-up are not asked for");
    let at = Ci::with(|world| {
        world.change_client("cli", |client| {
            let elsewhere = Some("https://nobody.example/keys".to_owned());
            client.workloads.trusted_issuers[0].jwks_uri = elsewhere;
        });
    });
    assert_eq!(at.to_target(&at.claims()).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(at.asked(), ["https://nobody.example/keys"]);
}

#[tokio::test]
async fn groups_of_a_claim_are_put_below_their_prefix_and_system_is_refused_as_everywhere() {
    let ci = Ci::new();
    let mut with_groups = ci.claims();
    with_groups["teams"] = json!(["a", "system:masters", "a", ""]);
    let answer = ci.to_target(&with_groups).await.json();
    let groups = &claims(&answer["access_token"])["groups"];
    assert_eq!(*groups, json!(["ci", "ci:a", "ci:system:masters"]));
    let narrow = [("audience", "target"), ("scope", "openid")];
    let narrow = ci.exchange(&ci.sign(&with_groups), &narrow).await.json();
    assert!(claims(&narrow["access_token"]).get("groups").is_none());
    let bad = Ci::with(|world| {
        world.change_client("cli", |client| {
            client.workloads.trusted_issuers[0].groups = vec!["system:masters".into()];
        });
    });
    let answer = bad.to_target(&bad.claims()).await;
    assert_refused(&answer, "invalid_grant", "system:");
    let mut plain_system = ci.claims();
    plain_system["sub"] = json!("system:masters");
    let answer = ci.to_target(&plain_system).await.json();
    let sub = claims(&answer["access_token"])["sub"].clone();
    assert_eq!(sub, subject::encode(&format!("{CI}#system:masters"), ""));
}

#[tokio::test]
async fn the_target_decides_and_a_workload_is_a_user_of_no_connector() {
    type Change = fn(&mut Client);
    let policies: [(&str, Change); 4] = [
        ("connectors", |client| client.allowed_connectors = Some(["local".into()].into())),
        ("groups", |client| client.allowed_groups = ["admins".into()].into()),
        ("acr", |client| client.required_acr = ["urn:example:strong".into()].into()),
        ("condition", everybody),
    ];
    for (what, policy) in policies {
        let ci = Ci::with(|world| world.change_client("target", policy));
        assert_refused(&ci.to_target(&ci.claims()).await, "invalid_request", "admits none");
        let own = ci.exchange(&ci.sign(&ci.claims()), &[]).await;
        assert_eq!(own.status, StatusCode::OK, "{what}: its own are another matter");
    }
    let ci = Ci::with(|world| {
        world.change_client("target", |client| client.allowed_groups = ["ci".into()].into());
    });
    assert_eq!(ci.to_target(&ci.claims()).await.status, StatusCode::OK);
    let at_its_own = Ci::with(|world| world.change_client("cli", everybody));
    let own = at_its_own.exchange(&at_its_own.sign(&at_its_own.claims()), &[]).await;
    assert_refused(&own, "invalid_request", "condition");
    for audience in ["kubernetes", "cli", "nobody"] {
        let answer = ci.exchange(&ci.sign(&ci.claims()), &[("audience", audience)]).await;
        assert_refused(&answer, "invalid_target", "does not accept");
    }
    for scope in ["openid offline_access", "openid federated:id", "openid made_up"] {
        let asked = [("audience", "target"), ("scope", scope)];
        let answer = ci.exchange(&ci.sign(&ci.claims()), &asked).await;
        assert_refused(&answer, "invalid_scope", "scope");
    }
}

/// A condition that everybody meets: it is about users, and a workload is none.
fn everybody(client: &mut Client) {
    client.condition = Some(Arc::new(Condition::compile("true", None).unwrap()));
}

#[tokio::test]
async fn a_target_that_lets_a_clients_users_in_lets_in_none_of_its_workloads() {
    let ci = Ci::with(|world| {
        world.change_client("target", |client| {
            let cli = std::mem::take(&mut client.workloads.brought_by);
            client.exchange_peers = cli.clone();
            client.trusted_peers = cli;
        });
    });
    let answer = ci.to_target(&ci.claims()).await;
    assert_refused(&answer, "invalid_target", "does not accept");
    assert!(ci.asked().is_empty());
}

#[tokio::test]
async fn an_access_token_for_a_resource_holds_while_its_client_may_exchange() {
    let api = "https://api.example.org";
    let ci = Ci::with(|world| {
        world.change_client("cli", |client| {
            client.allowed_resources = [api.to_owned()].into();
        });
        world.change_client("kubernetes", |client| client.introspection = Introspection::AllTokens);
    });
    let token = ci.sign(&ci.claims());
    for kind in [JWT, ACCESS_TOKEN] {
        let form = [
            ("client_id", "cli"),
            ("grant_type", GRANT),
            ("subject_token_type", kind),
            ("subject_token", token.as_str()),
        ];
        let asked = [("resource", api), ("scope", "openid groups")];
        let answer = ci.rig.post("/token", &[&form[..], &asked].concat()).await.json();
        assert_eq!(answer["issued_token_type"], ACCESS_TOKEN, "{answer}");
        let access = claims(&answer["access_token"]);
        assert_eq!((&access["aud"], &access["client_id"]), (&json!(api), &json!("cli")));
        let text = answer["access_token"].as_str().unwrap();
        let known = ci.rig.introspect(text).await.json();
        assert_eq!((&known["active"], &known["sub"]), (&json!(true), &access["sub"]));
    }
    let refused = ci.exchange(&token, &[("resource", "https://other.example")]).await;
    assert_refused(&refused, "invalid_target", "allowedResources");
    let own = ci.exchange(&token, &[]).await.json();
    let own = own["access_token"].as_str().unwrap().to_owned();
    assert_eq!(ci.rig.userinfo(&own).await.json()["groups"], json!(["ci"]));
    let again = ci.exchange(&own, &[("audience", "target")]).await;
    assert_refused(&again, "unauthorized_client", "public");
    let mut issuer = ci.rig.world.issuer.clone();
    issuer.grants.remove(&Grant::TokenExchange);
    ci.rig.replace_issuer(issuer);
    assert_eq!(ci.rig.introspect(&own).await.json()["active"], false);
}

#[tokio::test]
async fn who_trusts_nobody_exchanges_nothing_of_others() {
    let ci = Ci::with(|world| {
        world.change_client("cli", |client| client.workloads.trusted_issuers.clear());
    });
    assert_refused(&ci.to_target(&ci.claims()).await, "invalid_request", "trustedIssuers");
    let off = Ci::with(|world| {
        world.issuer.grants.remove(&Grant::TokenExchange);
    });
    assert_refused(&off.to_target(&off.claims()).await, "unsupported_grant_type", "not offered");
    let secret = Ci::with(|world| {
        world.change_client("cli", |client| {
            client.authentication = ClientAuthentication::Secret(vec!["s3cret".into()]);
        });
    });
    assert_eq!(secret.to_target(&secret.claims()).await.status, StatusCode::UNAUTHORIZED);
    assert!(ci.asked().is_empty() && off.asked().is_empty() && secret.asked().is_empty());
}

#[tokio::test]
async fn of_several_entries_for_one_issuer_the_first_that_fits_counts() {
    let ci = Ci::with(|world| {
        world.change_client("cli", |client| {
            let mut other = trusted();
            other.rules =
                BTreeMap::from([("ref".to_owned(), ["refs/heads/dev".to_owned()].into())]);
            other.groups = vec!["dev".into()];
            client.workloads.trusted_issuers.insert(0, other);
        });
    });
    let mut dev = ci.claims();
    dev["ref"] = json!("refs/heads/dev");
    for (token, group) in [(ci.claims(), "ci"), (dev, "dev")] {
        let answer = ci.to_target(&token).await.json();
        assert_eq!(claims(&answer["access_token"])["groups"], json!([group]));
    }
}

#[tokio::test]
async fn a_sub_says_whose_word_it_is_and_has_a_bound() {
    let ci = Ci::with(|world| world.issuer.subject = SubjectFormat::Plain);
    let answer = ci.to_target(&ci.claims()).await.json();
    assert_eq!(claims(&answer["access_token"])["sub"], format!(":{CI}#{SUB}"));
    let mut long = ci.claims();
    long["sub"] = json!("x".repeat(300));
    assert_refused(&ci.to_target(&long).await, "invalid_grant", "255");
}
