//! `client_credentials`: tokens about the client itself, without a session and without any request.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use claviger_domain::client::{ClientSubject, Grant, Introspection};
use claviger_domain::fakes::World;
use claviger_domain::issuer::{ClientEntry, SubjectFormat};
use claviger_protocol::subject;
use serde_json::{Value, json};

use crate::rig::{Answer, CREDENTIALS, Rig, claims};

fn rig_with(change: impl FnOnce(&mut World)) -> Rig {
    Rig::with(|world| {
        world.issuer.connectors.truncate(1);
        world.issuer.grants.insert(Grant::ClientCredentials);
        world.change_client("kubernetes", |client| {
            client.grants.insert(Grant::ClientCredentials);
            client.introspection = Introspection::OwnTokens;
            client.as_subject = ClientSubject {
                groups: vec!["robots".into()],
                username: Some("deployer".into()),
                claims: [("role".to_owned(), "deployer".to_owned())].into(),
            };
        });
        change(world);
    })
}

fn rig() -> Rig {
    rig_with(|_| {})
}

async fn ask(rig: &Rig, scope: &str) -> Answer {
    rig.token(&[("grant_type", "client_credentials"), ("scope", scope)]).await
}

#[track_caller]
fn assert_refused(answer: &Answer, error: &str) {
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
    assert_eq!(answer.json()["error"], error, "{answer:?}");
}

#[tokio::test]
async fn a_client_gets_a_token_about_itself_and_nothing_is_stored_or_read() {
    let rig = rig();
    let plain = ask(&rig, "").await;
    assert_eq!(plain.status, StatusCode::OK, "{plain:?}");
    let tokens = plain.json();
    let members: BTreeSet<_> = tokens.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, BTreeSet::from(["access_token", "expires_in", "token_type"]));
    let access = claims(&tokens["access_token"]);
    assert_eq!(access["sub"], subject::encode("kubernetes", ""));
    assert_eq!(access["client_id"], "kubernetes");
    assert!(access.get("auth_time").is_none(), "nobody signed in: {access}");
    let userinfo = rig.userinfo(tokens["access_token"].as_str().unwrap()).await;
    let expected = json!({"sub": subject::encode("kubernetes", ""), "role": "deployer"});
    assert_eq!(userinfo.json(), expected);

    let full = ask(&rig, "openid profile groups email").await.json();
    assert_eq!(full["scope"], "openid profile groups", "it has no mail address");
    let id_token = claims(&full["id_token"]);
    assert_eq!(id_token["aud"], "kubernetes");
    assert_eq!(id_token["groups"], json!(["robots"]));
    assert_eq!(id_token["name"], "deployer");
    assert_eq!(id_token["role"], "deployer");
    assert_eq!(id_token["preferred_username"], "deployer");
    for absent in ["email", "email_verified", "auth_time", "nonce", "federated_claims"] {
        assert!(id_token.get(absent).is_none(), "{absent} in {id_token}");
    }
    assert!(full.get("refresh_token").is_none());
    let groups = ask(&rig, "openid groups").await.json();
    assert!(claims(&groups["id_token"]).get("name").is_none(), "scope profile was not asked for");
    assert!(rig.store_requests().is_empty());
    let audit = rig.world.audit.take();
    assert_eq!(audit.len(), 3, "{audit:?}");
    assert!(audit.iter().all(|event| event.contains("client_credentials")), "{audit:?}");
}

#[tokio::test]
async fn it_is_off_unless_issuer_and_client_say_so_and_for_confidential_clients_alone() {
    let issuer = rig_with(|world| {
        world.issuer.grants.remove(&Grant::ClientCredentials);
    });
    assert_refused(&ask(&issuer, "").await, "unsupported_grant_type");
    let client = rig_with(|world| {
        world.change_client("kubernetes", |client| {
            client.grants.remove(&Grant::ClientCredentials);
        });
    });
    assert_refused(&ask(&client, "").await, "unauthorized_client");
    let public = rig_with(|world| {
        world.change_client("cli", |client| {
            client.grants.insert(Grant::ClientCredentials);
        });
    });
    let form = [("grant_type", "client_credentials"), ("client_id", "cli")];
    assert_refused(&public.post("/token", &form).await, "unauthorized_client");
    let guess = [("client_secret", "guess"), ("client_id", "kubernetes"), form[0]];
    assert_eq!(rig().post("/token", &guess).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn scopes_that_need_a_user_or_somebody_elses_trust_are_refused() {
    let trusting = |trusts: bool| {
        rig_with(|world| {
            world.change_client("cli", |client| {
                client.trusted_peers =
                    trusts.then(|| "kubernetes".to_owned()).into_iter().collect();
            });
        })
    };
    let rig = trusting(false);
    for scope in ["offline_access", "openid federated:id", "made_up", "openid offline_access"] {
        assert_refused(&ask(&rig, scope).await, "invalid_scope");
    }
    let peer = "audience:server:client_id:cli";
    assert_refused(&ask(&rig, &format!("openid {peer}")).await, "invalid_scope");
    let rig = trusting(true);
    assert_refused(&ask(&rig, peer).await, "invalid_scope");
    let tokens = ask(&rig, &format!("openid {peer}")).await.json();
    let id_token = claims(&tokens["id_token"]);
    assert_eq!(
        (&id_token["aud"], &id_token["azp"]),
        (&json!(["cli", "kubernetes"]), &json!("kubernetes"))
    );
}

#[tokio::test]
async fn a_resource_must_be_of_the_clients_list_and_is_never_a_client() {
    let rig = rig_with(|world| {
        world.change_client("kubernetes", |client| {
            client.allowed_resources = ["https://api.example.org", "cli"].map(str::to_owned).into();
        });
    });
    let ask = async |resource: &str| {
        rig.token(&[("grant_type", "client_credentials"), ("resource", resource)]).await
    };
    let tokens = ask("https://api.example.org").await.json();
    assert_eq!(claims(&tokens["access_token"])["aud"], "https://api.example.org");
    let userinfo = rig.userinfo(tokens["access_token"].as_str().unwrap()).await;
    assert_eq!(userinfo.status, StatusCode::UNAUTHORIZED, "it is for another resource");
    for refused in ["https://other.example.org", "cli", "kubernetes"] {
        assert_refused(&ask(refused).await, "invalid_target");
    }
}

#[tokio::test]
async fn the_mint_refuses_system_values_here_too() {
    for (groups, username, role) in [
        (vec!["system:masters"], None, "x"),
        (vec![], Some("system:admin"), "x"),
        (vec![], None, "system:masters"),
    ] {
        let rig = rig_with(|world| {
            world.change_client("kubernetes", |client| {
                client.as_subject = ClientSubject {
                    groups: groups.iter().map(|&group| group.to_owned()).collect(),
                    username: username.map(str::to_owned),
                    claims: [("role".to_owned(), role.to_owned())].into(),
                };
            });
        });
        assert_refused(&ask(&rig, "openid profile groups").await, "invalid_grant");
        assert_refused(&ask(&rig, "profile groups").await, "invalid_grant");
    }
}

#[tokio::test]
async fn its_sub_is_never_a_users() {
    let rig = rig_with(|world| world.issuer.subject = SubjectFormat::Plain);
    let tokens = ask(&rig, "").await.json();
    assert_eq!(claims(&tokens["access_token"])["sub"], ":kubernetes");
    assert_ne!(subject::encode("kubernetes", ""), subject::encode("kubernetes", "local"));
}

#[tokio::test]
async fn without_a_session_memory_alone_says_whether_it_holds() {
    let rig = rig();
    let tokens = ask(&rig, "groups profile").await.json();
    let token = tokens["access_token"].as_str().unwrap();
    let known = rig.introspect(token).await.json();
    assert_eq!(known["active"], true);
    assert_eq!(known["sub"], subject::encode("kubernetes", ""));
    assert!(known.get("auth_time").is_none() && known.get("username").is_none(), "{known}");
    let refused = rig.revoke(token).await;
    assert_refused(&refused, "unsupported_token_type");
    assert!(rig.store_requests().is_empty());

    let inactive = json!({"active": false});
    let changed = |change: fn(&mut World)| {
        let mut world = World::new();
        world.issuer = rig.world.issuer.clone();
        change(&mut world);
        rig.replace_issuer(world.issuer);
    };
    changed(|world| {
        world.change_client("kubernetes", |client| {
            client.grants.remove(&Grant::ClientCredentials);
        });
    });
    assert_eq!(rig.introspect(token).await.json(), inactive, "the grant was taken away");
    changed(|world| world.change_client("kubernetes", |client| client.uid = "another".into()));
    assert_eq!(rig.introspect(token).await.json(), inactive, "another client of this name");
    assert_eq!(rig.userinfo(token).await.status, StatusCode::UNAUTHORIZED);
    changed(|world| {
        world
            .issuer
            .clients
            .insert("kubernetes".into(), ClientEntry::OutOfService(std::sync::Arc::default()));
    });
    assert_eq!(rig.userinfo(token).await.status, StatusCode::UNAUTHORIZED);
    rig.world.clock.advance(601);
    rig.replace_issuer(rig.world.issuer.clone());
    assert_eq!(rig.introspect(token).await.json(), inactive, "past its time");
}

#[tokio::test]
async fn another_clients_token_is_answered_like_any_other_at_revocation() {
    let rig = rig();
    let tokens = ask(&rig, "").await.json();
    let token = tokens["access_token"].as_str().unwrap();
    let answer = rig.post("/token/revoke", &[("client_id", "cli"), ("token", token)]).await;
    assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, ""));
}

#[tokio::test]
async fn a_client_that_signs_nobody_in_has_no_authorization_endpoint() {
    let rig = rig_with(|world| {
        world.change_client("kubernetes", |client| {
            client.grants = BTreeSet::from([Grant::ClientCredentials]);
        });
    });
    let answer = rig.browser().authorize(&[]).await;
    assert_eq!(answer.redirect_param("error").as_deref(), Some("unauthorized_client"));
    let document = rig.get("/.well-known/openid-configuration").await.json();
    let grants = &document["grant_types_supported"];
    assert!(grants.as_array().unwrap().contains(&Value::from("client_credentials")), "{grants}");
}

#[tokio::test]
async fn a_clients_own_id_may_be_longer_than_the_name_of_a_workload() {
    let id = format!("{}/{}", "n".repeat(63), "c".repeat(253)); // the longest of a tenant
    for format in [SubjectFormat::Dex, SubjectFormat::Plain] {
        let rig = rig_with(|world| {
            world.issuer.subject = format;
            world.change_client("kubernetes", |client| client.id.clone_from(&id));
            let known = world.issuer.clients.remove("kubernetes").unwrap();
            world.issuer.clients.insert(id.clone(), known);
        });
        let basic = [("client_id", id.as_str()), CREDENTIALS[1]];
        let form = [("grant_type", "client_credentials"), ("scope", "openid")];
        let answer = rig.post("/token", &[&basic[..], &form].concat()).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let sub = claims(&answer.json()["id_token"])["sub"].clone();
        assert!(sub.as_str().unwrap().len() > 255, "{sub}");
    }
}
