//! A Keystone that is in trouble, lies, or has somebody else's pages before it: no verdict comes of it.

use claviger_domain::connector::{Authenticated, LoginError, RecheckError};
use claviger_testkit::keystone::PASSWORD;
use claviger_testkit::vendor::Scripted;
use serde_json::json;

use crate::fixture::Service;

async fn signed_in(name: &str) -> (Service, String, Authenticated) {
    let service = Service::start(name, json!({})).await;
    let ada = service.domain.user("ada", PASSWORD).await.unwrap();
    let known = service.sign_in("ada").await.unwrap();
    (service, ada, known)
}

async fn unavailable(service: &Service, known: &Authenticated) -> String {
    match service.again(known).await.unwrap_err() {
        RecheckError::Unavailable(why) => why.to_string(),
        error => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn only_keystones_own_word_that_there_is_no_such_user_is_a_verdict() {
    let (service, ada, known) = signed_in("lies").await;
    let asked = format!("GET /v3/users/{ada}");
    let elsewhere = Scripted::new(302, "").header("location", "https://169.254.169.254/");
    let somebody = known.raw["user"].to_string().replace(&ada, "mallory");
    for (answer, words) in [
        (Scripted::new(404, "<html>maintenance</html>"), "compare the url"),
        (Scripted::new(404, r#"{"error":{"code":503}}"#), "compare the url"),
        (Scripted::new(500, r#"{"error":{"code":500}}"#), "answered 500"),
        (Scripted::new(429, "{}").header("retry-after", "7"), "again in 7 s"),
        (Scripted::new(401, "{}"), "does not take it"),
        (Scripted::new(200, "<html>top-secret"), "cannot be read"),
        (Scripted::new(200, r#"{"user":{"id":"1"}}"#), "cannot be read"),
        (Scripted::new(200, format!(r#"{{"user":{somebody}}}"#)), "another user"),
        (Scripted::new(200, "x".repeat(5_000_000)), "longer than"),
        (elsewhere, "redirects are not followed"),
    ] {
        service.front.script(&asked, answer);
        let why = unavailable(&service, &known).await;
        assert!(why.contains(words) && !why.contains("top-secret"), "{why}");
    }
    service.front.conduct().answers.clear();
    service.again(&known).await.unwrap();
}

#[tokio::test]
async fn a_404_is_believed_where_others_are_seen() {
    let (service, ada, known) = signed_in("others").await;
    let nobody = Scripted::new(404, r#"{"error":{"code":404,"message":"Could not find"}}"#);
    service.front.script(&format!("GET /v3/users/{ada}"), nobody.clone());
    service.front.script("GET /v3/users", Scripted::new(503, "{}"));
    assert!(unavailable(&service, &known).await.contains("answered 503"));
    service.front.script("GET /v3/users", nobody);
    assert!(unavailable(&service, &known).await.contains("service account's own domain"));
    service.front.script("GET /v3/users", Scripted::new(200, r#"{"users":[]}"#));
    assert!(unavailable(&service, &known).await.contains("nor the service account itself"));
    service.front.conduct().answers.remove("GET /v3/users");
    let error = service.again(&known).await.unwrap_err();
    assert_eq!(error, RecheckError::Gone("the account is gone".into()));
}

#[tokio::test]
async fn a_list_that_was_cut_short_or_has_no_end_is_no_list() {
    let (service, ada, known) = signed_in("lists").await;
    let asked = format!("GET /v3/users/{ada}/groups");
    let cut = json!({"groups": [], "links": {"next": null}, "truncated": true});
    service.front.script(&asked, Scripted::new(200, cut.to_string()));
    let why = unavailable(&service, &known).await;
    assert!(why.contains("list_limit"), "{why}");
    let round =
        json!({"groups": [], "links": {"next": "http://inside:5000/v3/users/x/groups?marker=1"}});
    service.front.script(&asked, Scripted::new(200, round.to_string()));
    service.take_log(&ada);
    let why = unavailable(&service, &known).await;
    assert!(why.contains("200 pages"), "{why}");
    let log = service.take_log(&ada);
    assert_eq!(log.len(), 202, "user, domain, and as many pages");
    let own = "GET /v3/users/ID/groups?marker=1";
    assert!(log[3..].iter().all(|line| line == own), "of an address its query alone: {:?}", log[3]);
    let groups: Vec<_> =
        (0..20_001).map(|n| json!({"name": n.to_string(), "domain_id": "d"})).collect();
    let longer = json!({"groups": groups, "links": {}});
    service.front.script(&asked, Scripted::new(200, longer.to_string()));
    assert!(unavailable(&service, &known).await.contains("20000"));
}

#[tokio::test]
async fn a_sign_in_that_cannot_be_finished_is_nobodys_fault() {
    let (service, ada, _known) = signed_in("unfinished").await;
    let asked = format!("GET /v3/users/{ada}");
    let nobody = Scripted::new(404, r#"{"error":{"code":404,"message":"Could not find user"}}"#);
    service.front.script(&asked, nobody);
    let error = service.sign_in("ada").await.unwrap_err();
    assert!(matches!(error, LoginError::Unavailable(_)), "{error:?}");
    service.front.script(&asked, Scripted::new(502, ""));
    let error = service.sign_in("ada").await.unwrap_err();
    assert!(matches!(error, LoginError::Unavailable(_)), "{error:?}");
    service.front.conduct().answers.clear();
    service.front.script("POST /v3/auth/tokens", Scripted::new(201, "{}"));
    let error = service.sign_in("ada").await.unwrap_err();
    assert!(matches!(error, LoginError::Unusable(_)), "{error:?}");
}
