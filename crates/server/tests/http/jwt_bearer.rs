//! `jwt-bearer`: a ServiceAccount's token is a grant where the client lists the account, and nowhere else.

use std::sync::Arc;

use axum::http::StatusCode;
use claviger_domain::client::{Client, Grant, Introspection, ServiceAccount};
use claviger_domain::fakes::{CLUSTER_ISSUER, World};
use claviger_domain::policy::Condition;
use claviger_domain::ports::Clock;
use claviger_jose::{Algorithm, KeySet, PrivateKey, Signer};
use claviger_protocol::subject;
use serde_json::{Value, json};

use crate::rig::{Answer, Rig, claims};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const ACCOUNT: &str = "system:serviceaccount:team:app";

struct Cluster {
    rig: Rig,
    signer: Signer,
}

impl Cluster {
    fn with(change: impl FnOnce(&mut World)) -> Self {
        let key = PrivateKey::generate(Algorithm::RS256, 2_048).unwrap();
        let rig = Rig::with(|world| {
            world.issuer.grants.insert(Grant::JwtBearer);
            world.change_client("cli", |client| {
                client.grants = [Grant::JwtBearer].into();
                let account = ServiceAccount { subject: ACCOUNT.into(), uid: None };
                client.workloads.service_accounts = vec![account];
                client.workloads.service_account_groups = vec!["robots".into()];
            });
            world.publishers.publish("cluster", KeySet::new([key.public_key().clone()]).to_json());
            change(world);
        });
        Self { rig, signer: Signer::new(&key).unwrap() }
    }

    fn new() -> Self {
        Self::with(|_| {})
    }

    /// What the API server makes, for half an hour.
    fn claims(&self) -> Value {
        let now = self.rig.world.clock.now();
        json!({
            "iss": CLUSTER_ISSUER, "sub": ACCOUNT, "aud": ["https://id.example.org"],
            "iat": now, "nbf": now, "exp": now + 300, "jti": "b1f2",
            "kubernetes.io": {
                "namespace": "team", "pod": {"name": "app-0", "uid": "uid-of-pod"},
                "serviceaccount": {"name": "app", "uid": "uid-of-app"},
            },
        })
    }

    async fn bring(&self, claims: &Value, scope: &str) -> Answer {
        let jwt = self.signer.sign(None, claims).unwrap();
        let form =
            [("client_id", "cli"), ("grant_type", GRANT), ("assertion", &jwt), ("scope", scope)];
        self.rig.post("/token", &form).await
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
async fn a_listed_service_account_gets_tokens_about_itself_that_end_with_its_own() {
    let cluster = Cluster::new();
    let answer = cluster.bring(&cluster.claims(), "openid groups").await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let tokens = answer.json();
    assert_eq!((&tokens["expires_in"], &tokens["scope"]), (&json!(300), &json!("openid groups")));
    assert!(tokens.get("refresh_token").is_none());
    let id_token = claims(&tokens["id_token"]);
    assert_eq!(id_token["aud"], "cli");
    assert_eq!(id_token["sub"], subject::encode("serviceaccount/team/app", ""));
    assert_eq!(id_token["groups"], json!(["robots"]));
    assert_eq!(id_token["exp"], cluster.claims()["exp"]);
    let known =
        json!({"namespace": "team", "serviceaccount": {"name": "app", "uid": "uid-of-app"}});
    assert_eq!(id_token["kubernetes.io"], known, "what is said of its pod is not repeated");
    for absent in ["email", "name", "preferred_username", "auth_time", "nonce", "azp"] {
        assert!(id_token.get(absent).is_none(), "{absent} in {id_token}");
    }
    let access = tokens["access_token"].as_str().unwrap();
    assert_eq!(cluster.rig.userinfo(access).await.json()["kubernetes.io"], known);
    let plain = cluster.bring(&cluster.claims(), "").await.json();
    assert!(plain.get("id_token").is_none() && plain.get("scope").is_none(), "{plain}");
    assert!(cluster.rig.store_requests().is_empty());
    assert_eq!(cluster.asked(), ["cluster"], "the API server is asked for keys, and once");
    let audit = cluster.rig.world.audit.take();
    assert!(audit.len() == 2 && audit[0].contains("serviceaccount/team/app"), "{audit:?}");
}

#[tokio::test]
async fn anybody_else_is_refused_and_no_key_is_asked_for() {
    let cluster = Cluster::new();
    let now = cluster.rig.world.clock.now();
    for (name, value, named) in [
        ("sub", json!("system:serviceaccount:team:other"), "another ServiceAccount"),
        ("sub", json!("system:serviceaccount:other:app"), "another ServiceAccount"),
        ("sub", json!("system:serviceaccount:team"), "another ServiceAccount"),
        ("sub", json!("system:masters"), "another ServiceAccount"),
        ("aud", json!(["https://kubernetes.default.svc"]), "aud"),
        ("exp", json!(now + 3_601), "more than an hour"),
        ("exp", json!(now - 60), "expired"),
        ("iat", json!(now + 61), "iat"),
    ] {
        let mut claims = cluster.claims();
        claims[name] = value;
        assert_refused(&cluster.bring(&claims, "openid").await, "invalid_grant", named);
    }
    for scope in ["openid offline_access", "openid federated:id", "made_up"] {
        let answer = cluster.bring(&cluster.claims(), scope).await;
        assert_refused(&answer, "invalid_scope", "scope");
    }
    assert!(cluster.asked().is_empty());
    let mut late = cluster.claims();
    late["exp"] = json!(now);
    assert_refused(&cluster.bring(&late, "openid").await, "invalid_grant", "expired");
    let forger = PrivateKey::generate(Algorithm::RS256, 2_048).unwrap();
    let forger = Cluster { signer: Signer::new(&forger).unwrap(), ..cluster };
    let by_stranger = forger.bring(&forger.claims(), "openid").await;
    assert_refused(&by_stranger, "invalid_grant", "no key");
    let mut foreign = forger.claims();
    foreign["iss"] = json!("https://other-cluster.example");
    assert_refused(&forger.bring(&foreign, "openid").await, "invalid_grant", "iss");
    assert!(forger.rig.world.audit.take().is_empty());
}

#[tokio::test]
async fn it_is_off_unless_issuer_and_client_say_so_and_a_secret_is_demanded_where_there_is_one() {
    let issuer = Cluster::with(|world| {
        world.issuer.grants.remove(&Grant::JwtBearer);
    });
    let answer = issuer.bring(&issuer.claims(), "openid").await;
    assert_refused(&answer, "unsupported_grant_type", "not offered");
    let client = Cluster::with(|world| {
        world.change_client("cli", |client| client.grants.clear());
    });
    let answer = client.bring(&client.claims(), "openid").await;
    assert_refused(&answer, "unauthorized_client", "grants");
    let nobody = Cluster::with(|world| {
        world.change_client("cli", |client| client.workloads.service_accounts.clear());
    });
    let answer = nobody.bring(&nobody.claims(), "openid").await;
    assert_refused(&answer, "invalid_grant", "another ServiceAccount");
    let cluster = Cluster::with(|world| {
        world.change_client("kubernetes", |client| {
            client.grants.insert(Grant::JwtBearer);
            let account =
                ServiceAccount { subject: ACCOUNT.into(), uid: Some("uid-of-app".into()) };
            client.workloads.service_accounts = vec![account];
            client.introspection = Introspection::OwnTokens;
        });
    });
    let jwt = cluster.signer.sign(None, &cluster.claims()).unwrap();
    let form = [("grant_type", GRANT), ("assertion", jwt.as_str())];
    let stranger = [&[("client_id", "kubernetes")], &form[..]].concat();
    let refused = cluster.rig.post("/token", &stranger).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{refused:?}");
    let tokens = cluster.rig.token(&form).await.json();
    let access = tokens["access_token"].as_str().unwrap().to_owned();
    assert_eq!(cluster.rig.introspect(&access).await.json()["active"], true);
    let mut issuer = cluster.rig.world.issuer.clone();
    issuer.grants.remove(&Grant::JwtBearer);
    cluster.rig.replace_issuer(issuer);
    assert_eq!(cluster.rig.introspect(&access).await.json()["active"], false);
    let mut reborn = cluster.claims();
    reborn["kubernetes.io"]["serviceaccount"]["uid"] = json!("another");
    cluster.rig.replace_issuer(cluster.rig.world.issuer.clone());
    let jwt = cluster.signer.sign(None, &reborn).unwrap();
    let answer = cluster.rig.token(&[("grant_type", GRANT), ("assertion", jwt.as_str())]).await;
    assert_refused(&answer, "invalid_grant", "another ServiceAccount");
}

#[tokio::test]
async fn the_clients_own_policy_counts_and_an_outage_is_no_verdict() {
    for groups in [["admins"], ["robots"]] {
        let cluster = Cluster::with(|world| {
            world.change_client("cli", |client| {
                client.allowed_groups = groups.map(str::to_owned).into();
            });
        });
        let answer = cluster.bring(&cluster.claims(), "openid").await;
        let good = answer.status == StatusCode::OK;
        assert_eq!(good, groups == ["robots"], "{answer:?}");
    }
    let strong = Cluster::with(|world| {
        world.change_client("cli", |client| client.required_acr = ["urn:strong".into()].into());
    });
    let answer = strong.bring(&strong.claims(), "openid").await;
    assert_refused(&answer, "invalid_grant", "requiredACR");
    let conditioned = Cluster::with(|world| {
        let everybody = Condition::compile("true", None).unwrap();
        world.change_client("cli", |client| client.condition = Some(Arc::new(everybody)));
    });
    let answer = conditioned.bring(&conditioned.claims(), "openid").await;
    assert_refused(&answer, "invalid_grant", "condition");
    let away = Cluster::with(|world| world.publishers.publish("cluster", "{".into()));
    let answer = away.bring(&away.claims(), "openid").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
}

#[tokio::test]
async fn another_audience_is_given_by_a_peer_that_takes_workloads_and_not_by_one_that_trusts_with_users()
 {
    let scope = "openid groups audience:server:client_id:kubernetes";
    let trusting = |change: fn(&mut Client)| {
        Cluster::with(|world| {
            world.change_client("kubernetes", |client| {
                client.trusted_peers = ["cli".to_owned()].into();
                client.exchange_peers = ["cli".to_owned()].into();
                change(client);
            });
        })
    };
    let users_alone = trusting(|_| {});
    let answer = users_alone.bring(&users_alone.claims(), scope).await;
    assert_refused(&answer, "invalid_scope", "exchangeWorkloadsFrom");
    assert!(users_alone.asked().is_empty());
    let both = trusting(|client| client.workloads.brought_by = ["cli".to_owned()].into());
    let answer = both.bring(&both.claims(), scope).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(claims(&answer.json()["id_token"])["aud"], json!(["kubernetes", "cli"]));
    let policies: [fn(&mut Client); 4] = [
        |client| client.allowed_connectors = Some(["local".into()].into()),
        |client| client.allowed_groups = ["admins".into()].into(),
        |client| client.required_acr = ["urn:example:strong".into()].into(),
        |client| client.condition = Some(Arc::new(Condition::compile("true", None).unwrap())),
    ];
    for policy in policies {
        let mut cluster =
            trusting(|client| client.workloads.brought_by = ["cli".to_owned()].into());
        cluster.rig.world.change_client("kubernetes", policy);
        cluster.rig.replace_issuer(cluster.rig.world.issuer.clone());
        let answer = cluster.bring(&cluster.claims(), scope).await;
        assert_refused(&answer, "invalid_scope", "condition");
    }
}
