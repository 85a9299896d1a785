//! The provider's word that a user has signed out there, true and false.

use claviger_connectors::Upstream;
use claviger_domain::connector::Login;
use claviger_domain::upstream_logout::{NoticeError, SignedOutThere};
use claviger_jose::{Algorithm, KeySet, PrivateKey, Signer};
use claviger_testkit::openid_provider::CLIENT_ID;
use serde_json::{Value, json};

use crate::fixture::{Service, now};

const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

fn claims(service: &Service, change: &Value) -> Value {
    let mut claims = json!({
        "iss": service.provider.url(), "aud": CLIENT_ID, "iat": now(), "exp": now() + 120,
        "jti": "j1", "events": {EVENT: {}}, "sub": "248289761001", "sid": "there",
    });
    let members = claims.as_object_mut().unwrap();
    members.extend(change.as_object().unwrap().clone());
    members.retain(|_, value| !value.is_null());
    claims
}

fn signed(service: &Service, typ: Option<&str>, change: &Value) -> String {
    let claims = claims(service, change);
    Signer::new(&service.provider.conduct().key).unwrap().sign(typ, &claims).unwrap()
}

async fn read(built: &Upstream, token: &str) -> Result<SignedOutThere, NoticeError> {
    let Login::Redirect(login) = &built.login else { panic!("{:?}", built.login) };
    login.notices().unwrap().read(token, now()).await
}

async fn refused(service: &Service, typ: Option<&str>, change: Value) -> &'static str {
    match read(&service.built, &signed(service, typ, &change)).await {
        Err(NoticeError::Refused { reason, .. }) => reason,
        other => panic!("{change}: {other:?}"),
    }
}

#[tokio::test]
async fn a_logout_token_says_who_has_signed_out_and_from_which_session() {
    let service = Service::start(json!({})).await;
    for typ in [Some("logout+jwt"), Some("JWT"), None] {
        let told = read(&service.built, &signed(&service, typ, &json!({}))).await.unwrap();
        assert_eq!((told.user_id.as_str(), told.sids), ("248289761001", vec!["there".to_owned()]));
        assert!((now() - told.at).abs() < 60);
    }
    let all = read(&service.built, &signed(&service, None, &json!({"sid": null}))).await.unwrap();
    assert!(all.sids.is_empty(), "{all:?}");
    let shared = json!({"aud": ["another", CLIENT_ID]});
    read(&service.built, &signed(&service, None, &shared)).await.unwrap();
}

#[tokio::test]
async fn what_is_no_logout_token_of_this_provider_for_us_is_refused_by_name() {
    let service = Service::start(json!({})).await;
    let logout = Some("logout+jwt");
    for (reason, typ, change) in [
        ("WrongIssuer", logout, json!({"iss": "https://idp.example.com"})),
        ("WrongAudience", logout, json!({"aud": "another"})),
        ("WrongTime", logout, json!({"exp": now() - 61})),
        ("WrongTime", logout, json!({"iat": now() + 120})),
        ("WrongTime", logout, json!({"iat": now() - 700, "exp": now() + 3_600})),
        ("Malformed", logout, json!({"exp": null})),
        ("Malformed", logout, json!({"iat": null})),
        ("NoLogoutEvent", logout, json!({"events": null})),
        ("NoLogoutEvent", logout, json!({"events": {"https://example.com/other": {}}})),
        ("NoLogoutEvent", logout, json!({"events": {EVENT: true}})),
        ("NoLogoutEvent", logout, json!({"events": [EVENT]})),
        ("NotALogoutToken", logout, json!({"nonce": "n"})),
        ("NotALogoutToken", Some("at+jwt"), json!({})),
        ("NoJTI", logout, json!({"jti": null})),
        ("NoSubject", logout, json!({"sub": null})),
        ("NoSubject", logout, json!({"sub": ""})),
        ("WrongSID", logout, json!({"sid": 7})),
    ] {
        assert_eq!(refused(&service, typ, change.clone()).await, reason, "{change}");
    }
    let other = PrivateKey::generate(Algorithm::RS256, 2_048).unwrap();
    let forged = Signer::new(&other).unwrap().sign(logout, &claims(&service, &json!({}))).unwrap();
    let forged = read(&service.built, &forged).await.unwrap_err();
    let NoticeError::Unavailable(why) = forged else { panic!("{forged:?}") };
    assert!(why.contains("each half minute"), "the provider may have that key by now: {why}");
    let honest = signed(&service, logout, &json!({}));
    let (head, rest) = honest.split_once('.').unwrap();
    let body = claims(&service, &json!({"sub": "mallory"})).to_string();
    let body = data_encoding::BASE64URL_NOPAD.encode(body.as_bytes());
    let forged = format!("{head}.{body}.{}", rest.split_once('.').unwrap().1);
    let forged = read(&service.built, &forged).await.unwrap_err();
    assert!(matches!(forged, NoticeError::Refused { reason: "WrongSignature", .. }), "{forged:?}");
    let header = data_encoding::BASE64URL_NOPAD.encode(br#"{"alg":"none"}"#);
    let body = claims(&service, &json!({})).to_string();
    let body = data_encoding::BASE64URL_NOPAD.encode(body.as_bytes());
    let unsigned = read(&service.built, &format!("{header}.{body}.")).await.unwrap_err();
    assert!(matches!(unsigned, NoticeError::Refused { .. }), "{unsigned:?}");
}

#[tokio::test]
async fn an_id_token_signs_nobody_out() {
    let service = Service::start(json!({"signOut": "Provider"})).await;
    let kept = service.sign_in(&[]).await.unwrap().sign_out.unwrap();
    let id_token = String::from_utf8(kept.0).unwrap();
    let refused = read(&service.built, &id_token).await.unwrap_err();
    assert!(matches!(refused, NoticeError::Refused { reason: "NoLogoutEvent", .. }), "{refused:?}");
}

#[tokio::test]
async fn a_key_that_is_new_is_asked_for_once_and_a_provider_that_is_away_is_no_verdict() {
    let service = Service::start(json!({})).await;
    service.sign_in(&[]).await.unwrap();
    service.provider.conduct().log.clear();
    let stranger = PrivateKey::generate(Algorithm::RS256, 2_048).unwrap();
    for _ in 0..3 {
        let claims = claims(&service, &json!({}));
        let forged = Signer::new(&stranger).unwrap().sign(None, &claims).unwrap();
        read(&service.built, &forged).await.unwrap_err();
    }
    assert!(service.provider.conduct().log.is_empty(), "read half a minute ago at most");

    let away = Service::start(json!({})).await;
    away.provider.conduct().published = KeySet::new([]);
    let answer = read(&away.built, &signed(&away, None, &json!({}))).await.unwrap_err();
    assert!(matches!(answer, NoticeError::Unavailable(_)), "{answer:?}");
}

#[tokio::test]
async fn the_session_there_is_kept_and_users_known_by_another_claim_are_not_looked_for() {
    let service = Service::start(json!({})).await;
    service.provider.conduct().claims = json!({"sid": "there"});
    let data = service.sign_in(&[]).await.unwrap().authenticated.data;
    let Login::Redirect(login) = &service.built.login else { panic!() };
    assert_eq!(login.session_there(data.as_ref()).as_deref(), Some("there"));
    assert_eq!(login.session_there(None), None);
    service.provider.conduct().claims = json!({"sid": null});
    let known = service.sign_in(&[]).await.unwrap().authenticated.identity;
    let again = service.recheck().recheck(&known, data.as_ref()).await.unwrap();
    assert_eq!(login.session_there(again.data.as_ref()).as_deref(), Some("there"));

    let other = Service::start(json!({"claims": {"userID": "oid"}})).await;
    assert_eq!(refused(&other, None, json!({})).await, "UnknownUser");
}
