//! What OpenShift alone does.

use claviger_api::Reason;
use claviger_domain::connector::{ConnectorData, LoginError, RecheckError};
use claviger_testkit::vendor::{CLIENT_SECRET, Scripted, Style};
use serde_json::{Value, json};

use crate::fixture::Service;

const METADATA: &str = "/.well-known/oauth-authorization-server";
const TOKEN: &str = "/oauth/token";
const MYSELF: &str = "/apis/user.openshift.io/v1/users/~";
const ACCOUNT: &str = "system:serviceaccount:claviger-system:claviger";

async fn oauth_client() -> Service {
    Service::start(Style::Openshift, json!({})).await
}

/// One whose client is a service account.
async fn service_account() -> Service {
    let service = Service::start(Style::Openshift, json!({"clientID": ACCOUNT})).await;
    service.vendor.conduct().client_id = ACCOUNT.into();
    service
}

fn unauthorized() -> Scripted {
    let status = r#"{"kind":"Status","status":"Failure","reason":"Unauthorized","code":401}"#;
    Scripted::new(401, status)
}

#[tokio::test]
async fn a_user_comes_back_by_their_uid_with_real_groups_alone() {
    let service = service_account().await;
    let known = service.sign_in().await.unwrap();
    let identity = &known.identity;
    assert_eq!(identity.user_id, "0b8f1c1e-1815");
    assert_eq!(identity.preferred_username.as_deref(), Some("ada"));
    assert_eq!(identity.name.as_deref(), Some("Ada Lovelace"));
    assert_eq!(identity.groups, ["acme"], "what begins with system: is no group of theirs");
    assert_eq!(identity.email, None, "OpenShift knows none");
    assert_eq!(known.raw["user"]["identities"][0], "htpasswd:ada", "for a claim mapping");
    assert_eq!(service.take_log(), [METADATA, TOKEN, MYSELF]);
    let form = service.vendor.conduct().forms.pop().unwrap();
    assert_eq!(form["client_id"], ACCOUNT, "in the form: HTTP Basic parts at a colon");
    let known = lasting(&service).await;
    service.take_log();
    let now = service.again(&known).await.unwrap();
    assert_eq!(now.data, known.data);
    assert_eq!(service.take_log(), [MYSELF], "by the token of the sign-in");
    assert!(!service.recheck().consumes(now.data.as_ref()), "any number may ask with it");
}

#[tokio::test]
async fn groups_follow() {
    let service = oauth_client().await;
    let known = lasting(&service).await;
    service
        .say(MYSELF, json!({"metadata": {"name": "ada", "uid": "0b8f1c1e-1815"}, "groups": null}));
    assert!(service.again(&known).await.unwrap().identity.groups.is_empty());
}

#[tokio::test]
async fn who_is_none_of_its_users_is_refused() {
    let service = oauth_client().await;
    service.say(
        MYSELF,
        json!({"metadata": {"name": "kube:admin"}, "groups": ["system:cluster-admins"]}),
    );
    let LoginError::Refused(why) = service.sign_in().await.unwrap_err() else { panic!("no UID") };
    assert!(why.contains("kube:admin"), "{why}");
}

#[tokio::test]
async fn a_token_at_its_end_is_not_asked_with_and_is_told_apart_from_one_taken_back() {
    let service = service_account().await;
    // The trip's clock stands in the past, so this token had its end long ago.
    let known = service.sign_in().await.unwrap();
    service.take_log();
    let error = service.again(&known).await.unwrap_err();
    assert!(
        matches!(&error, RecheckError::Gone(why) if why.contains("come to its end")),
        "{error:?}"
    );
    assert!(service.take_log().is_empty());
    let known = lasting(&service).await;
    service.vendor.conduct().revoke_all();
    let error = service.again(&known).await.unwrap_err();
    assert!(
        matches!(&error, RecheckError::Gone(why) if why.contains("does not take the user's token")),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_token_without_an_end_is_asked_with_for_good() {
    let service = service_account().await;
    service.vendor.conduct().expires_in = 0;
    // The trip's clock stands in the past.
    let known = service.sign_in().await.unwrap();
    service.again(&known).await.unwrap();
}

/// A refusal before the end is believed where the API server tells the service account who that is.
#[tokio::test]
async fn a_refusal_is_believed_of_an_api_server_that_is_well() {
    let service = service_account().await;
    let lasting = lasting(&service).await;
    service.again(&lasting).await.unwrap();
    service.take_log();
    service.vendor.conduct().answers.insert(MYSELF.into(), unauthorized());
    let error = service.again(&lasting).await.unwrap_err();
    assert!(
        matches!(&error, RecheckError::Unavailable(why) if why.contains("401 to the service account's")),
        "{error:?}"
    );
    assert_eq!(service.take_log(), [MYSELF, MYSELF]);
    service.vendor.conduct().answers.insert(MYSELF.into(), Scripted::new(503, "{}"));
    let error = service.again(&lasting).await.unwrap_err();
    assert!(matches!(error, RecheckError::Unavailable(_)), "{error:?}");
    service.vendor.conduct().answers.clear();
    service.again(&lasting).await.unwrap();
    service.vendor.conduct().revoke_all();
    let error = service.again(&lasting).await.unwrap_err();
    assert!(matches!(error, RecheckError::Gone(_)), "{error:?}");
    // An OAuthClient has no such witness: the refusal stands.
    let other = oauth_client().await;
    let known = self::lasting(&other).await;
    other.vendor.conduct().answers.insert(MYSELF.into(), unauthorized());
    assert!(matches!(other.again(&known).await.unwrap_err(), RecheckError::Gone(_)));
}

/// A sign-in whose token ends far from now, whatever the trip's clock says.
async fn lasting(service: &Service) -> claviger_domain::connector::Authenticated {
    let mut known = service.sign_in().await.unwrap();
    let kept: Value = serde_json::from_slice(&known.data.unwrap().0).unwrap();
    let (token, until) = (&kept["e"][0], kept["e"][1].as_i64().unwrap());
    assert_eq!(until, 1_764_000_000 + 86_400, "the trip's clock, and the seconds that were said");
    let later = json!({"e": [token, 9_000_000_000_i64]});
    known.data = Some(ConnectorData(later.to_string().into_bytes()));
    known
}

#[tokio::test]
async fn codes_go_where_the_cluster_says_if_that_is_one_place_with_tls() {
    let service = oauth_client().await;
    let probe = service.built.probe.clone().unwrap();
    probe.probe().await.unwrap();
    let own = service.vendor.url().to_owned();
    let said = |token: &str| json!({"issuer": own, "authorization_endpoint": format!("{own}/oauth/authorize"), "token_endpoint": token});
    for (document, words) in [
        (said("https://evil.example/oauth/token"), "another origin"),
        (said("http://localhost/oauth/token"), "not https"),
        (json!({"issuer": own}), "cannot be read"),
    ] {
        service.say(METADATA, document);
        let said = probe.probe().await.unwrap_err();
        assert_eq!(said.reason, Reason::UpstreamUnusable.as_str(), "{said}");
        assert!(said.message.contains(words), "{said}");
    }
    // What was said before is good meanwhile.
    assert!(service.depart().await.starts_with(&format!("{own}/oauth/authorize?")));
    service.say(METADATA, said(&format!("{own}/oauth/token")));
    service.vendor.conduct().secret = "rotated".into();
    let said = probe.probe().await.unwrap_err();
    assert_eq!(said.reason, Reason::UpstreamRefusedCredentials.as_str(), "{said}");
    service.vendor.conduct().secret = CLIENT_SECRET.into();
    probe.probe().await.unwrap();
}
