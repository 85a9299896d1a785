//! ID tokens of a connector's provider, exchanged for ours: by whom, for whom, and never beyond its policy.

use std::sync::Arc;

use axum::http::StatusCode;
use claviger_domain::claim_mapping::{Denial, Rules};
use claviger_domain::connector::{Connector, Login};
use claviger_domain::fakes::{RotatingUpstream, World, alice};
use claviger_domain::identity::Identity;
use claviger_domain::policy::{Answer as Facts, Condition, Expression};
use serde_json::json;

use crate::rig::{Answer, Rig, claims, set_login};
use crate::token_exchange::rig_with;

const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

fn rig(change: impl FnOnce(&mut World)) -> (Rig, Arc<RotatingUpstream>) {
    let upstream = Arc::new(RotatingUpstream::of(alice()));
    upstream.set_bearer("kubernetes");
    let rig = rig_with(|world| {
        set_login(world, Login::Redirect(Arc::clone(&upstream) as _));
        change(world);
    });
    (rig, upstream)
}

fn connector(world: &mut World) -> &mut Connector {
    Arc::make_mut(&mut world.issuer.connectors[0])
}

fn in_seconds(rig: &Rig, seconds: i64) -> String {
    (rig.world.provider.clock.now() + seconds).to_string()
}

/// `further` replaces what is usual.
async fn exchange(rig: &Rig, token: &str, further: &[(&str, &str)]) -> Answer {
    let usual = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token", token),
        ("subject_token_type", ID_TOKEN),
        ("connector_id", "local"),
        ("audience", "target"),
    ];
    let is_replaced = |name: &str| further.iter().any(|(other, _)| *other == name);
    let usual = usual.into_iter().filter(|(name, _)| !is_replaced(name));
    let form: Vec<_> = usual.chain(further.iter().copied()).collect();
    rig.token(&form).await
}

async fn refused(rig: &Rig, token: &str, further: &[(&str, &str)]) -> String {
    let answer = exchange(rig, token, further).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{further:?}: {answer:?}");
    answer.json()["error"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn it_becomes_an_id_token_that_ends_no_later_and_nothing_is_stored() {
    let (rig, _) = rig(|world| connector(world).policy.group_prefix = "corp:".into());
    let answer = exchange(&rig, &in_seconds(&rig, 100), &[]).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let said = answer.json();
    assert_eq!(said["issued_token_type"], ID_TOKEN);
    assert_eq!(said["expires_in"], 100);
    assert!(said.get("refresh_token").is_none(), "{said}");
    let id_token = claims(&said["access_token"]);
    let now = rig.world.provider.clock.now();
    assert_eq!(id_token["aud"], "target");
    assert_eq!(id_token["azp"], "kubernetes");
    assert_eq!(id_token["exp"], now + 100);
    assert_eq!(id_token["auth_time"], now - 60);
    assert_eq!(id_token["amr"], json!(["otp"]));
    assert_eq!(id_token["email"], json!(alice().email));
    let groups: Vec<_> = alice().groups.iter().map(|group| format!("corp:{group}")).collect();
    assert_eq!(id_token["groups"], json!(groups));
    assert_eq!(rig.store_requests(), Vec::<&str>::new());
    let audit = rig.world.audit.take();
    assert!(audit.len() == 1 && audit[0].contains("UpstreamTokenExchanged"), "{audit:?}");

    let again = [("subject_token", said["access_token"].as_str().unwrap()), ("connector_id", "")];
    assert_eq!(refused(&rig, "", &again).await, "invalid_request", "it is of no session");
}

#[tokio::test]
async fn what_is_not_believed_or_over_is_refused_and_an_upstream_that_is_away_is_no_verdict() {
    let (rig, upstream) = rig(|_| {});
    let good = in_seconds(&rig, 100);
    assert_eq!(refused(&rig, "forged", &[]).await, "invalid_request");
    assert_eq!(refused(&rig, &in_seconds(&rig, 0), &[]).await, "invalid_request", "expired");
    let access = [("subject_token_type", ACCESS_TOKEN)];
    assert_eq!(refused(&rig, &good, &access).await, "invalid_request");
    let nobodys = [("connector_id", "nobody")];
    assert_eq!(refused(&rig, &good, &nobodys).await, "invalid_request", "no such connector");
    upstream.set_away(true);
    let away = exchange(&rig, &good, &[]).await;
    assert_eq!(away.status, StatusCode::SERVICE_UNAVAILABLE, "{away:?}");
    assert_eq!(rig.store_requests(), Vec::<&str>::new());
}

#[tokio::test]
async fn the_connector_is_told_which_client_brings_it_and_not_whom_it_is_for() {
    let (rig, upstream) = rig(|_| {});
    let good = in_seconds(&rig, 100);
    for other in ["target", "other", ""] {
        upstream.set_bearer(other);
        assert_eq!(refused(&rig, &good, &[]).await, "invalid_request", "{other}");
    }
    assert_eq!(rig.store_requests(), Vec::<&str>::new());
    assert_eq!(rig.world.audit.take(), Vec::<String>::new());
    upstream.set_bearer("kubernetes");
    assert_eq!(exchange(&rig, &good, &[]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_target_takes_it_only_if_it_lists_the_client_and_for_an_id_token() {
    let (rig, _) = rig(|_| {});
    let good = in_seconds(&rig, 100);
    for further in [
        &[("audience", "other")][..],
        &[("audience", "kubernetes")],
        &[("audience", "")],
        &[("requested_token_type", ACCESS_TOKEN)],
        &[("requested_token_type", ACCESS_TOKEN), ("audience", "")],
    ] {
        assert_eq!(refused(&rig, &good, further).await, "invalid_target", "{further:?}");
    }
    for scope in ["openid audience:server:client_id:other", "openid unheard-of"] {
        let error = refused(&rig, &good, &[("scope", scope)]).await;
        assert_eq!(error, "invalid_scope", "{scope}");
    }
    let narrow = exchange(&rig, &good, &[("scope", "openid")]).await.json();
    let id_token = claims(&narrow["access_token"]);
    assert!(id_token.get("email").is_none() && id_token.get("groups").is_none(), "{id_token}");
    let offline = exchange(&rig, &good, &[("scope", "openid offline_access")]).await.json();
    assert!(offline.get("refresh_token").is_none(), "{offline}");
}

#[tokio::test]
async fn policy_of_connector_client_and_target_holds_as_at_a_sign_in() {
    let good = |rig: &Rig| in_seconds(rig, 100);
    let (allowed, _) = rig(|world| {
        connector(world).policy.allowed_groups = ["nobody-is-in-it".to_owned()].into();
    });
    assert_eq!(refused(&allowed, &good(&allowed), &[]).await, "invalid_request", "allowedGroups");
    for party in ["kubernetes", "target"] {
        let (barred, _) = rig(|world| {
            world.change_client(party, |client| {
                client.allowed_groups = ["nobody-is-in-it".to_owned()].into();
            });
        });
        assert_eq!(refused(&barred, &good(&barred), &[]).await, "invalid_request", "{party}");
        let (elsewhere, _) = rig(|world| {
            world.change_client(party, |client| {
                client.allowed_connectors = Some(["another".to_owned()].into());
            });
        });
        assert_eq!(refused(&elsewhere, &good(&elsewhere), &[]).await, "invalid_request", "{party}");
    }
    let (reserved, upstream) = rig(|_| {});
    let groups = vec!["system:masters".to_owned()];
    upstream.set_user(Some(Identity { groups, ..alice() }));
    let answer = exchange(&reserved, &good(&reserved), &[]).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
    let (public, _) = rig(|world| {
        world.change_client("kubernetes", |client| {
            client.authentication = claviger_domain::client::ClientAuthentication::Public;
        });
    });
    let form = [
        ("client_id", "kubernetes"), // and no secret: a public client has none
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token", &good(&public)),
        ("subject_token_type", ID_TOKEN),
        ("connector_id", "local"),
        ("audience", "target"),
    ];
    let answer = public.post("/token", &form).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
    assert_eq!(answer.json()["error"], "unauthorized_client");
}

#[tokio::test]
async fn what_a_token_says_of_its_authentication_is_no_more_than_was_reached_and_never_in_the_future()
 {
    let (rig, upstream) = rig(|world| connector(world).acr = Some("gold".into()));
    let said = async || {
        let tokens = exchange(&rig, &in_seconds(&rig, 100), &[]).await.json();
        claims(&tokens["access_token"])
    };
    let now = rig.world.provider.clock.now();
    let plain = said().await;
    assert!(plain.get("acr").is_none(), "what a sign-in here is worth says nothing: {plain}");
    assert!(plain.get("sid").is_none(), "of no session: {plain}");
    assert!(plain["jti"].as_str().unwrap().starts_with('.'), "of none: {plain}");
    upstream.set_raw(&json!({"acr": "anything", "auth_time": now + 40}));
    let strong = said().await;
    assert_eq!((&strong["acr"], &strong["auth_time"]), (&json!("gold"), &json!(now)));
}

#[tokio::test]
async fn a_class_that_client_or_target_want_must_have_been_reached_there() {
    for party in ["kubernetes", "target"] {
        let (rig, upstream) = rig(|world| {
            connector(world).acr = Some("gold".into());
            world.change_client(party, |client| client.required_acr = ["gold".to_owned()].into());
        });
        assert_eq!(refused(&rig, &in_seconds(&rig, 100), &[]).await, "invalid_request", "{party}");
        upstream.set_raw(&json!({"acr": "anything"}));
        let answer = exchange(&rig, &in_seconds(&rig, 100), &[]).await;
        assert_eq!(answer.status, StatusCode::OK, "{party}: {answer:?}");
    }
}

#[tokio::test]
async fn a_condition_of_client_or_target_that_is_not_met_refuses_and_one_that_fails_is_no_verdict()
{
    for party in ["kubernetes", "target"] {
        let with = |text: &str| {
            let condition = Some(Arc::new(Condition::compile(text, None).unwrap()));
            rig(|world| world.change_client(party, |client| client.condition = condition)).0
        };
        let not_met = with("false");
        assert_eq!(refused(&not_met, &in_seconds(&not_met, 100), &[]).await, "invalid_request");
        let fails = with("user.groups[99] == 'x'");
        let answer = exchange(&fails, &in_seconds(&fails, 100), &[]).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{party}: {answer:?}");
        let met = with("true");
        assert_eq!(exchange(&met, &in_seconds(&met, 100), &[]).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn what_the_connectors_mapping_denies_is_refused_and_where_it_fails_nobody_is_at_fault() {
    let expression = |text| Expression::compile(text, &Facts::VARIABLES).unwrap();
    let (rig, upstream) = rig(|world| {
        let deny = vec![Denial {
            expression: expression("upstream.suspended"),
            message: "suspended".into(),
        }];
        connector(world).policy.mapping = Rules { deny, ..Rules::default() }.into();
    });
    upstream.set_raw(&json!({"suspended": true}));
    assert_eq!(refused(&rig, &in_seconds(&rig, 100), &[]).await, "invalid_request");
    upstream.set_raw(&json!({}));
    let answer = exchange(&rig, &in_seconds(&rig, 100), &[]).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{answer:?}");
    assert_eq!(answer.json()["error"], "server_error");
    upstream.set_raw(&json!({"suspended": false}));
    assert_eq!(exchange(&rig, &in_seconds(&rig, 100), &[]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn scopes_are_those_that_client_and_target_both_may_have() {
    let without = |party: &'static str| {
        rig(move |world| {
            world.change_client(party, |client| {
                client.scopes.remove("groups");
            });
        })
        .0
    };
    for party in ["kubernetes", "target"] {
        let rig = without(party);
        let tokens = exchange(&rig, &in_seconds(&rig, 100), &[]).await.json();
        assert_eq!(tokens["scope"], "openid profile email", "{party}");
        assert!(claims(&tokens["access_token"]).get("groups").is_none(), "{party}: {tokens}");
    }
    let (peers, _) = rig(|world| {
        world.change_client("other", |client| client.trusted_peers = ["kubernetes".into()].into());
    });
    let asked = "openid offline_access audience:server:client_id:other";
    let tokens = exchange(&peers, &in_seconds(&peers, 100), &[("scope", asked)]).await.json();
    assert_eq!(tokens["scope"], "openid");
    let id_token = claims(&tokens["access_token"]);
    assert_eq!((&id_token["aud"], &id_token["azp"]), (&json!("target"), &json!("kubernetes")));
}

#[tokio::test]
async fn one_that_is_longer_than_the_target_takes_is_not_made() {
    let (rig, _) = rig(|world| world.change_client("target", |client| client.max_id_token = 64));
    assert_eq!(refused(&rig, &in_seconds(&rig, 100), &[]).await, "invalid_grant");
    assert_eq!(rig.world.audit.take(), Vec::<String>::new());
}
