//! Token exchange: another audience only where its own client says so, never wider and never longer.

use std::sync::Arc;

use axum::http::StatusCode;
use claviger_domain::client::{Client, Grant};
use claviger_domain::custom_claim::{CustomClaim, CustomClaims};
use claviger_domain::fakes::World;
use claviger_domain::issuer::{ClientEntry, OutOfService};
use claviger_domain::policy::{Condition, Expression, Facts};
use serde_json::{Value, json};

use crate::rig::{Answer, Rig, claims};

const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";

/// `kubernetes` exchanges; `target` lists it, `other` lists nobody.
pub fn rig_with(change: impl FnOnce(&mut World)) -> Rig {
    Rig::with(|world| {
        world.issuer.connectors.truncate(1);
        world.issuer.grants.extend([Grant::TokenExchange, Grant::ClientCredentials]);
        let Some(ClientEntry::InService(model)) = world.issuer.clients.get("kubernetes").cloned()
        else {
            panic!("no such client");
        };
        for (id, peers) in [("target", &["kubernetes"][..]), ("other", &[])] {
            let client = Client {
                uid: format!("uid-of-{id}"),
                id: id.into(),
                exchange_peers: peers.iter().map(|&peer| peer.to_owned()).collect(),
                ..(*model).clone()
            };
            world.issuer.clients.insert(id.into(), ClientEntry::InService(Arc::new(client)));
        }
        world.change_client("kubernetes", |client| {
            client.grants.extend([Grant::TokenExchange, Grant::ClientCredentials]);
        });
        change(world);
    })
}

fn rig() -> Rig {
    rig_with(|_| {})
}

async fn access_token(rig: &Rig) -> String {
    access_token_for(rig, &[]).await
}

async fn access_token_for(rig: &Rig, resources: &[&str]) -> String {
    let asked: Vec<_> = resources.iter().map(|resource| ("resource", *resource)).collect();
    let code = rig.browser().code(&asked).await;
    let tokens = rig.redeem(&code).await.json();
    rig.store_requests();
    rig.world.audit.take();
    tokens["access_token"].as_str().unwrap().to_owned()
}

async fn exchange(rig: &Rig, token: &str, further: &[(&str, &str)]) -> Answer {
    let form = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token_type", ACCESS_TOKEN),
        ("subject_token", token),
    ];
    rig.token(&[&form[..], further].concat()).await
}

#[track_caller]
fn assert_refused(answer: &Answer, error: &str) {
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
    assert_eq!(answer.json()["error"], error, "{answer:?}");
}

/// The configuration changes under the tokens.
fn change(rig: &Rig, change: impl FnOnce(&mut World)) {
    let mut world = World::new();
    world.issuer = rig.world.issuer.clone();
    change(&mut world);
    rig.replace_issuer(world.issuer);
}

#[tokio::test]
async fn a_listed_client_gets_an_id_token_for_the_target_and_nothing_else() {
    let rig = rig();
    let token = access_token(&rig).await;
    rig.world.clock.advance(100);
    let answer = exchange(&rig, &token, &[("audience", "target")]).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(rig.store_requests(), ["get"]);
    let exchanged = answer.json();
    assert_eq!(exchanged["issued_token_type"], ID_TOKEN);
    assert_eq!(exchanged["token_type"], "N_A");
    assert_eq!(exchanged["expires_in"], 500, "no longer than what went in");
    assert_eq!(exchanged["scope"], "openid email profile groups");
    assert!(exchanged.get("refresh_token").is_none() && exchanged.get("id_token").is_none());
    let id_token = claims(&exchanged["access_token"]);
    assert_eq!((&id_token["aud"], &id_token["azp"]), (&json!("target"), &json!("kubernetes")));
    assert_eq!(id_token["exp"], claims(&Value::from(token.as_str()))["exp"]);
    assert_eq!(id_token["sub"], claims(&Value::from(token.as_str()))["sub"]);
    assert_eq!(id_token["groups"], json!(["developers", "oncall"]));
    assert!(id_token.get("nonce").is_none());
    let audit = rig.world.audit.take();
    assert!(audit.len() == 1 && audit[0].contains("TokenExchanged"), "{audit:?}");
    let userinfo = rig.userinfo(exchanged["access_token"].as_str().unwrap()).await;
    assert_eq!(userinfo.status, StatusCode::UNAUTHORIZED, "an ID token is no access token");
}

#[tokio::test]
async fn a_target_that_does_not_list_the_client_is_refused_before_anything_is_read() {
    let rig = rig();
    let token = access_token(&rig).await;
    for audience in ["other", "kubernetes", "cli", "nobody", "system:masters"] {
        let answer = exchange(&rig, &token, &[("audience", audience)]).await;
        assert_refused(&answer, "invalid_target");
        let same = "audience does not accept tokens exchanged by this client";
        assert_eq!(answer.json()["error_description"], same, "{audience}");
    }
    let twice = [("audience", "target"), ("audience", "other")];
    assert_refused(&exchange(&rig, &token, &twice).await, "invalid_target");
    let as_access_token = [("audience", "target"), ("requested_token_type", ACCESS_TOKEN)];
    assert_refused(&exchange(&rig, &token, &as_access_token).await, "invalid_target");
    let for_nobody = [("requested_token_type", ID_TOKEN)];
    assert_refused(&exchange(&rig, &token, &for_nobody).await, "invalid_target");
    let resource = [("audience", "target"), ("resource", "https://api.example.org")];
    assert_refused(&exchange(&rig, &token, &resource).await, "invalid_target");
    assert!(rig.store_requests().is_empty());
}

#[tokio::test]
async fn scopes_are_only_ever_fewer() {
    let rig = rig_with(|world| {
        world.change_client("target", |client| {
            client.scopes.remove("groups");
        });
    });
    let token = access_token(&rig).await;
    let all = exchange(&rig, &token, &[("audience", "target")]).await.json();
    assert_eq!(all["scope"], "openid email profile", "the target has no groups");
    assert!(claims(&all["access_token"]).get("groups").is_none());
    let narrow = [("scope", "openid email")];
    let narrow = exchange(&rig, &token, &narrow).await.json();
    assert_eq!(narrow["scope"], "openid email");
    let narrow = narrow["access_token"].as_str().unwrap();
    let wide = [("scope", "openid profile")];
    assert_refused(&exchange(&rig, narrow, &wide).await, "invalid_scope");
    let more = [("scope", "openid federated:id")];
    assert_refused(&exchange(&rig, &token, &more).await, "invalid_scope");
    let offline = exchange(&rig, &token, &[("scope", "openid offline_access")]).await.json();
    assert_eq!(offline["scope"], "openid");
    assert!(offline.get("refresh_token").is_none());
}

#[tokio::test]
async fn without_an_audience_it_is_an_access_token_for_resources_of_ones_own() {
    let api = "https://api.example.org";
    let rig = rig_with(|world| {
        world.change_client("kubernetes", |client| {
            client.allowed_resources = [api.to_owned(), "urn:other".to_owned()].into();
        });
    });
    let token = access_token_for(&rig, &[api]).await;
    rig.world.clock.advance(1);
    let answer = exchange(&rig, &token, &[("resource", api), ("scope", "openid")]).await.json();
    assert_eq!((&answer["token_type"], &answer["expires_in"]), (&json!("Bearer"), &json!(599)));
    assert_eq!(answer["issued_token_type"], ACCESS_TOKEN);
    let access = claims(&answer["access_token"]);
    assert_eq!(access["aud"], api);
    assert_eq!(access["client_id"], "kubernetes");
    assert_eq!(access["exp"], claims(&Value::from(token.as_str()))["exp"]);
    for refused in ["https://other.example.org", "urn:target", "urn:other"] {
        assert_refused(&exchange(&rig, &token, &[("resource", refused)]).await, "invalid_target");
    }
    let revoked = rig.revoke(&token).await;
    assert_eq!(revoked.status, StatusCode::OK);
    let exchanged = answer["access_token"].as_str().unwrap();
    rig.store_requests();
    assert_refused(&exchange(&rig, exchanged, &[("resource", api)]).await, "invalid_request");
    assert!(rig.store_requests().is_empty(), "it died with its session");
}

#[tokio::test]
async fn resources_are_only_ever_fewer() {
    let api = "https://api.example.org";
    let userinfo = "https://id.example.org/userinfo";
    let rig = rig_with(|world| {
        world.change_client("kubernetes", |client| {
            client.allowed_resources = [api.to_owned(), "urn:other".to_owned()].into();
        });
    });
    let aud = |answer: &Answer| claims(&answer.json()["access_token"])["aud"].clone();
    let wide = access_token_for(&rig, &[api, "urn:other"]).await;
    let same = exchange(&rig, &wide, &[]).await;
    assert_eq!(aud(&same), json!([api, "urn:other"]), "what it was for, where nothing is said");
    let narrow = exchange(&rig, &wide, &[("resource", api)]).await;
    assert_eq!(aud(&narrow), api);
    let narrow = narrow.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(aud(&exchange(&rig, &narrow, &[]).await), api);
    for beyond in ["urn:other", userinfo] {
        let answer = exchange(&rig, &narrow, &[("resource", beyond)]).await;
        assert_refused(&answer, "invalid_target");
    }
    let plain = access_token(&rig).await;
    assert_eq!(aud(&exchange(&rig, &plain, &[]).await), userinfo);
    let answer = exchange(&rig, &plain, &[("resource", api)]).await;
    assert_refused(&answer, "invalid_target");
    assert!(answer.json()["error_description"].as_str().unwrap().contains(api), "{answer:?}");
    change(&rig, |world| {
        world.change_client("kubernetes", |client| {
            client.allowed_resources.remove("urn:other");
        });
    });
    assert_refused(&exchange(&rig, &wide, &[]).await, "invalid_target");
}

#[tokio::test]
async fn only_a_live_access_token_of_its_own_is_exchanged() {
    let rig = rig_with(|world| {
        world.change_client("other", |client| {
            client.grants.insert(Grant::TokenExchange);
        });
        world.change_client("target", |client| {
            client.exchange_peers.insert("other".into());
        });
    });
    let code = rig.browser().code(&[]).await;
    let tokens = rig.redeem(&code).await.json();
    let about_itself = rig.token(&[("grant_type", "client_credentials")]).await.json();
    rig.store_requests();
    let target = [("audience", "target")];
    let text = |tokens: &Value, name: &str| tokens[name].as_str().unwrap().to_owned();
    let access = text(&tokens, "access_token");
    for subject in [
        "x".to_owned(),
        format!("{access}x"),
        text(&tokens, "id_token"),
        text(&tokens, "refresh_token"),
        text(&about_itself, "access_token"),
    ] {
        assert_refused(&exchange(&rig, &subject, &target).await, "invalid_request");
    }
    let stolen = [
        ("client_id", "other"),
        ("client_secret", "s3cret"),
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token_type", ACCESS_TOKEN),
        ("subject_token", access.as_str()),
        ("audience", "target"),
    ];
    assert_refused(&rig.post("/token", &stolen).await, "invalid_request");
    assert!(rig.store_requests().is_empty());
    let name = rig.world.sessions.all()[0].name.clone();
    rig.world.sessions.delete(&name);
    assert_refused(&exchange(&rig, &access, &target).await, "invalid_request");
    assert_eq!(rig.store_requests(), ["get"], "a deleted session");
    let access = access_token(&rig).await;
    rig.world.clock.advance(600);
    assert_refused(&exchange(&rig, &access, &target).await, "invalid_request");
    assert!(rig.store_requests().is_empty(), "past its time");
}

#[tokio::test]
async fn the_targets_policy_decides_about_the_user() {
    type Change = fn(&mut Client);
    let policies: [(&str, Change); 4] = [
        ("condition", |client| {
            let condition = Condition::compile("client.id == 'target' && user.name == ''", None);
            client.condition = Some(Arc::new(condition.unwrap()));
        }),
        ("connectors", |client| client.allowed_connectors = Some(["directory".into()].into())),
        ("groups", |client| client.allowed_groups = ["admins".into()].into()),
        ("acr", |client| client.required_acr = ["urn:example:strong".into()].into()),
    ];
    for (what, policy) in policies {
        let rig = rig_with(|world| world.change_client("target", policy));
        let token = access_token(&rig).await;
        let answer = exchange(&rig, &token, &[("audience", "target")]).await;
        assert_refused(&answer, "invalid_request");
        let own = exchange(&rig, &token, &[]).await;
        assert_eq!(own.status, StatusCode::OK, "{what}: its own are another matter");
    }
    let rig = rig();
    let token = access_token(&rig).await;
    change(&rig, |world| {
        world.change_client("kubernetes", |client| client.allowed_groups = ["x".into()].into());
    });
    assert_refused(&exchange(&rig, &token, &[("audience", "target")]).await, "invalid_request");
    change(&rig, |world| {
        world.change_client("target", |client| client.exchange_peers.clear());
    });
    assert_refused(&exchange(&rig, &token, &[("audience", "target")]).await, "invalid_target");
}

#[tokio::test]
async fn it_is_off_by_default_and_for_confidential_clients_alone() {
    let grant = ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange");
    let rest = [("subject_token", "t"), ("subject_token_type", ACCESS_TOKEN)];
    let plain = Rig::new();
    let answer = plain.token(&[&[grant], &rest[..]].concat()).await;
    assert_refused(&answer, "unsupported_grant_type");
    let rig = rig_with(|world| {
        world.change_client("cli", |client| {
            client.grants.insert(Grant::TokenExchange);
        });
    });
    let public = [&[("client_id", "cli"), grant], &rest[..]].concat();
    assert_refused(&rig.post("/token", &public).await, "unauthorized_client");
    let other = [&[("client_id", "other"), ("client_secret", "s3cret"), grant], &rest[..]].concat();
    assert_refused(&rig.post("/token", &other).await, "unauthorized_client");
    let actor = [("actor_token", "t"), ("actor_token_type", ACCESS_TOKEN)];
    assert_refused(&exchange(&rig, "t", &actor).await, "invalid_request");
}

#[tokio::test]
async fn while_the_store_is_away_nobody_is_told_that_the_token_is_bad() {
    let rig = rig();
    let token = access_token(&rig).await;
    rig.world.sessions.set_unreadable(true);
    let answer = exchange(&rig, &token, &[("audience", "target")]).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
}

/// An ID token of a sign-in with these scopes.
async fn id_token(rig: &Rig, scope: &str) -> String {
    let code = rig.browser().code(&[("scope", scope)]).await;
    let tokens = rig.redeem(&code).await.json();
    rig.store_requests();
    rig.world.audit.take();
    tokens["id_token"].as_str().unwrap().to_owned()
}

/// An exchange of an ID token, by `kubernetes` or by another client.
async fn exchange_id(rig: &Rig, client: &str, token: &str, further: &[(&str, &str)]) -> Answer {
    let form = [
        ("client_id", client),
        ("client_secret", "s3cret"),
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token_type", ID_TOKEN),
        ("subject_token", token),
    ];
    rig.post("/token", &[&form[..], further].concat()).await
}

#[tokio::test]
async fn an_id_token_is_exchanged_for_one_that_says_no_more_and_lives_no_longer() {
    let rig = rig();
    let token = id_token(&rig, "openid email offline_access").await;
    rig.world.clock.advance(100);
    let answer = exchange_id(&rig, "kubernetes", &token, &[("audience", "target")]).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(rig.store_requests(), ["get"]);
    let exchanged = answer.json();
    assert_eq!(
        (&exchanged["issued_token_type"], &exchanged["token_type"]),
        (&json!(ID_TOKEN), &json!("N_A"))
    );
    assert_eq!(
        (&exchanged["expires_in"], &exchanged["scope"]),
        (&json!(500), &json!("openid email"))
    );
    assert!(exchanged.get("refresh_token").is_none());
    let (new, old) = (claims(&exchanged["access_token"]), claims(&json!(token)));
    assert_eq!((&new["aud"], &new["azp"]), (&json!("target"), &json!("kubernetes")));
    for same in ["sub", "exp", "email", "email_verified", "auth_time"] {
        assert_eq!(new[same], old[same], "{same}");
    }
    for absent in ["groups", "name", "preferred_username", "nonce", "at_hash", "sid"] {
        assert!(
            new.get(absent).is_none(),
            "{absent}: the session has it, the subject token does not"
        );
    }
    assert_ne!(new["jti"], old["jti"]);
    let audit = rig.world.audit.take();
    assert!(audit.len() == 1 && audit[0].contains("TokenExchanged"), "{audit:?}");
    let narrow = [("audience", "target"), ("scope", "openid")];
    let narrow = exchange_id(&rig, "kubernetes", &token, &narrow).await.json();
    assert!(claims(&narrow["access_token"]).get("email").is_none());
    let wide = [("audience", "target"), ("scope", "openid groups")];
    let wide = exchange_id(&rig, "kubernetes", &token, &wide).await;
    assert_refused(&wide, "invalid_scope");
}

#[tokio::test]
async fn an_id_token_says_of_its_user_only_what_it_said_before_claim_by_claim() {
    let rig = rig();
    let asked = [("claims", r#"{"id_token":{"email":null,"name":null}}"#), ("scope", "openid")];
    let code = rig.browser().code(&asked).await;
    let tokens = rig.redeem(&code).await.json();
    let token = tokens["id_token"].as_str().unwrap();
    assert_eq!(claims(&tokens["id_token"])["name"], "Alice Liddell");
    let answer = exchange_id(&rig, "kubernetes", token, &[("audience", "target")]).await.json();
    let new = claims(&answer["access_token"]);
    assert_eq!(
        (&new["email"], &new["name"]),
        (&json!("alice@example.org"), &json!("Alice Liddell"))
    );
    for absent in ["email_verified", "preferred_username", "groups"] {
        assert!(new.get(absent).is_none(), "{absent} in {new}");
    }
}

#[tokio::test]
async fn a_claim_of_the_issuers_own_sees_the_scopes_of_an_exchange_and_is_shown_where_it_was() {
    let own = |name: &str, scope: &str, expression: &str| CustomClaim {
        name: name.to_owned(),
        scope: scope.to_owned(),
        expression: Arc::new(Expression::compile(expression, &Facts::OF_CLAIMS).unwrap()),
    };
    let rig = rig_with(|world| {
        let claims = [
            own("by_groups", "groups", "'groups' in scopes ? 'seen' : 'unseen'"),
            own("by_teams", "teams", "scopes"),
        ];
        world.issuer.custom_claims = CustomClaims::new(claims.into());
        for id in ["kubernetes", "target"] {
            world.change_client(id, |client| {
                client.scopes.insert("teams".into());
            });
        }
    });
    let code = rig.browser().code(&[("scope", "openid groups teams")]).await;
    let tokens = rig.redeem(&code).await.json();
    let token = tokens["id_token"].as_str().unwrap();
    let answer = exchange_id(&rig, "kubernetes", token, &[("audience", "target")]).await.json();
    let new = claims(&answer["access_token"]);
    assert_eq!(new["by_groups"], "seen", "{new}");
    let scopes = new["by_teams"].as_array().unwrap();
    assert!(scopes.contains(&json!("teams")) && scopes.contains(&json!("openid")), "{new}");
    let narrow = [("audience", "target"), ("scope", "openid teams")];
    let narrow = exchange_id(&rig, "kubernetes", token, &narrow).await.json();
    let narrow = claims(&narrow["access_token"]);
    assert!(narrow.get("by_groups").is_none() && narrow.get("groups").is_none(), "{narrow}");
    let code = rig.browser().code(&[("scope", "openid groups")]).await;
    let tokens = rig.redeem(&code).await.json();
    let token = tokens["id_token"].as_str().unwrap();
    let wide = [("audience", "target"), ("scope", "openid teams")];
    assert_refused(&exchange_id(&rig, "kubernetes", token, &wide).await, "invalid_scope");
}

#[tokio::test]
async fn an_id_token_may_be_exchanged_by_whom_it_is_for_and_by_who_has_it_and_by_nobody_else() {
    let rig = rig_with(|world| {
        for id in ["target", "other"] {
            world.change_client(id, |client| {
                client.grants.insert(Grant::TokenExchange);
                client.exchange_peers.extend(["target", "other"].map(str::to_owned));
            });
        }
    });
    let code = rig.browser().code(&[("scope", "openid groups")]).await;
    let tokens = rig.redeem(&code).await.json();
    rig.store_requests();
    let token = tokens["id_token"].as_str().unwrap().to_owned();
    let access = tokens["access_token"].as_str().unwrap().to_owned();
    for client in ["target", "other"] {
        let answer = exchange_id(&rig, client, &token, &[("audience", "other")]).await;
        assert_refused(&answer, "invalid_request");
    }
    assert!(rig.store_requests().is_empty());
    let answer = exchange_id(&rig, "kubernetes", &token, &[("audience", "target")]).await.json();
    let of_target = answer["access_token"].as_str().unwrap();
    let on = exchange_id(&rig, "target", of_target, &[("audience", "other")]).await;
    assert_eq!(on.status, StatusCode::OK, "{on:?}");
    let on = on.json()["access_token"].clone();
    assert_eq!((&claims(&on)["aud"], &claims(&on)["azp"]), (&json!("other"), &json!("target")));
    let last = exchange_id(&rig, "other", on.as_str().unwrap(), &[("audience", "other")]).await;
    assert_eq!(last.status, StatusCode::OK, "the session of the first of them goes on: {last:?}");
    let by_azp = exchange_id(&rig, "kubernetes", of_target, &[("audience", "target")]).await;
    assert_eq!(by_azp.status, StatusCode::OK, "{by_azp:?}");
    rig.store_requests();
    let stranger = exchange_id(&rig, "other", of_target, &[("audience", "other")]).await;
    assert_refused(&stranger, "invalid_request");
    assert_eq!(rig.revoke(&access).await.status, StatusCode::OK);
    rig.store_requests();
    for (client, token) in [("target", of_target), ("other", on.as_str().unwrap())] {
        let answer = exchange_id(&rig, client, token, &[("audience", "other")]).await;
        assert_refused(&answer, "invalid_request");
    }
    assert!(rig.store_requests().is_empty(), "it ended for all of them");
}

#[tokio::test]
async fn who_takes_the_id_of_a_client_that_is_gone_takes_none_of_its_tokens() {
    let rig = rig_with(|world| {
        for id in ["target", "other"] {
            world.change_client(id, |client| {
                client.grants.insert(Grant::TokenExchange);
                client.exchange_peers.extend(["kubernetes", "target", "other"].map(str::to_owned));
            });
        }
    });
    let token = id_token(&rig, "openid").await;
    let to = |audience| [("audience", audience)];
    let of_target = exchange_id(&rig, "kubernetes", &token, &to("target")).await.json();
    let of_target = of_target["access_token"].as_str().unwrap();
    let by_target = exchange_id(&rig, "target", of_target, &to("other")).await;
    assert_eq!(by_target.status, StatusCode::OK, "{by_target:?}");
    let by_target = by_target.json()["access_token"].as_str().unwrap().to_owned();
    rig.store_requests();
    // Its session and the client of that go on; the audience was deleted, and somebody else has its ID.
    change(&rig, |world| world.change_client("target", |client| client.uid = "uid-of-heir".into()));
    for token in [of_target, &by_target] {
        let heir = exchange_id(&rig, "target", token, &to("other")).await;
        assert_refused(&heir, "invalid_request");
    }
    assert!(rig.store_requests().is_empty(), "from the token alone");
    let by_azp = exchange_id(&rig, "kubernetes", of_target, &to("other")).await;
    assert_eq!(by_azp.status, StatusCode::OK, "who had it still has it: {by_azp:?}");
    let by_aud = exchange_id(&rig, "other", &by_target, &to("other")).await;
    assert_eq!(by_aud.status, StatusCode::OK, "{by_aud:?}");

    // One whose client waits is no bad token; one whose client is gone is.
    for (waits, status) in
        [(true, StatusCode::SERVICE_UNAVAILABLE), (false, StatusCode::BAD_REQUEST)]
    {
        change(&rig, |world| {
            let own = world.issuer.clients.remove("kubernetes").unwrap();
            if waits {
                let out = OutOfService { uid: own.uid().to_owned(), ..OutOfService::default() };
                let out = ClientEntry::OutOfService(Arc::new(out));
                world.issuer.clients.insert("kubernetes".into(), out);
            }
        });
        let answer = exchange_id(&rig, "other", &by_target, &to("other")).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
}

#[tokio::test]
async fn no_other_token_of_ours_passes_for_an_id_token_nor_an_id_token_for_another() {
    let rig = rig();
    let code = rig.browser().code(&[]).await;
    let tokens = rig.redeem(&code).await.json();
    let itself = [("grant_type", "client_credentials"), ("scope", "openid")];
    let itself = rig.token(&itself).await.json();
    rig.store_requests();
    let text = |tokens: &Value, name: &str| tokens[name].as_str().unwrap().to_owned();
    let id_token = text(&tokens, "id_token");
    let target = [("audience", "target")];
    for subject in [
        text(&tokens, "access_token"),
        text(&tokens, "refresh_token"),
        format!("{id_token}x"),
        "x".to_owned(),
    ] {
        let answer = exchange_id(&rig, "kubernetes", &subject, &target).await;
        assert_refused(&answer, "invalid_request");
    }
    let workload = exchange_id(&rig, "kubernetes", &text(&itself, "id_token"), &target).await;
    assert_refused(&workload, "invalid_request");
    let why = workload.json()["error_description"].as_str().unwrap().to_owned();
    assert!(why.contains("jti names none"), "{why}");
    let access = exchange_id(&rig, "kubernetes", &id_token, &[]).await;
    assert_refused(&access, "invalid_request");
    let jwt = "urn:ietf:params:oauth:token-type:jwt";
    let form = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token_type", jwt),
        ("subject_token", id_token.as_str()),
    ];
    assert_refused(&rig.token(&[&form[..], &target].concat()).await, "invalid_request");
    assert!(rig.store_requests().is_empty());
    rig.world.clock.advance(600);
    let late = exchange_id(&rig, "kubernetes", &id_token, &target).await;
    assert_refused(&late, "invalid_request");
    assert!(rig.store_requests().is_empty(), "past its time");
}

#[tokio::test]
async fn the_targets_policy_decides_about_the_user_of_an_id_token_too() {
    type Change = fn(&mut Client);
    let policies: [Change; 3] = [
        |client| client.allowed_connectors = Some(["directory".into()].into()),
        |client| client.allowed_groups = ["admins".into()].into(),
        |client| client.required_acr = ["urn:example:strong".into()].into(),
    ];
    for policy in policies {
        let rig = rig_with(|world| world.change_client("target", policy));
        let token = id_token(&rig, "openid").await;
        let answer = exchange_id(&rig, "kubernetes", &token, &[("audience", "target")]).await;
        assert_refused(&answer, "invalid_request");
    }
    let rig = rig();
    let token = id_token(&rig, "openid").await;
    rig.world.sessions.set_unreadable(true);
    let away = exchange_id(&rig, "kubernetes", &token, &[("audience", "target")]).await;
    assert_eq!(away.status, StatusCode::SERVICE_UNAVAILABLE);
}
