//! A vendor that is away, endless, elsewhere, somebody else, or not what it should be.

use claviger_api::Reason;
use claviger_domain::connector::{LoginError, RecheckError};
use claviger_testkit::CertificateAuthority;
use claviger_testkit::vendor::{CLIENT_SECRET, Scripted, Style};
use serde_json::{Value, json};

use crate::fixture::{Service, made, spec};

const EMAILS: &str = "/api/v3/user/emails";
const ORGANIZATIONS: &str = "/api/v3/user/orgs";

async fn member() -> Service {
    Service::start(Style::Github, json!({"groups": "All"})).await
}

#[tokio::test]
async fn a_token_goes_to_no_address_that_an_answer_names() {
    let trap = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let port = trap.local_addr().unwrap().port();
    let service = member().await;
    let own = service.vendor.url().to_owned();
    let plain = own.replace("https", "http");
    for next in [
        format!("https://localhost:{port}/api/v3/user/orgs?page=2"),
        format!("https://127.0.0.1:{port}/api/v3/user/orgs"),
        "https://169.254.169.254/latest/meta-data".to_owned(),
        format!("{plain}/api/v3/user/orgs?page=2"),
        format!("{own}/elsewhere"),
        "//evil.example/api/v3/".to_owned(),
    ] {
        service.take_log();
        service.vendor.conduct().next_pages.insert(EMAILS.into(), next.clone());
        let LoginError::Unusable(why) = service.sign_in().await.unwrap_err() else {
            panic!("{next}")
        };
        assert!(why.contains("outside its API"), "{next}: {why}");
        let asked = service.take_log();
        assert_eq!(asked.len(), 3, "token, user, emails: {asked:?}");
    }
    let asked = trap.accept();
    assert!(asked.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
}

#[tokio::test]
async fn redirects_are_not_followed_and_an_answer_has_an_end() {
    let service = member().await;
    let elsewhere = Scripted::new(302, "").header("location", "https://169.254.169.254/");
    for (answer, words) in [
        (elsewhere, "redirects are not followed"),
        (Scripted::new(200, "x".repeat(5_000_000)), "longer than"),
    ] {
        service.vendor.conduct().answers.insert("/api/v3/user".into(), answer);
        let error = service.sign_in().await.unwrap_err();
        assert!(matches!(&error, LoginError::Unavailable(why) if why.contains(words)), "{error:?}");
    }
}

#[tokio::test]
async fn a_list_is_read_to_its_end_and_has_one() {
    let service = member().await;
    let organizations = |count: i64| -> Value {
        (0..count).map(|n| json!({"login": format!("org-{n}"), "id": n})).collect()
    };
    service.say("/api/v3/user/teams", json!([]));
    service.say(ORGANIZATIONS, organizations(250));
    let groups = service.sign_in().await.unwrap().identity.groups;
    assert_eq!(groups.len(), 250);
    let pages = service.take_log().into_iter().filter(|path| path.starts_with(ORGANIZATIONS));
    assert_eq!(pages.count(), 3);
    service.say(ORGANIZATIONS, organizations(20_001));
    let LoginError::Unusable(why) = service.sign_in().await.unwrap_err() else {
        panic!("too long")
    };
    assert!(why.contains("20000"), "{why}");
    let round = format!("{}{ORGANIZATIONS}?per_page=100&page=1", service.vendor.url());
    service.say(ORGANIZATIONS, organizations(1));
    service.vendor.conduct().next_pages.insert(ORGANIZATIONS.into(), round);
    service.take_log();
    let LoginError::Unusable(why) = service.sign_in().await.unwrap_err() else {
        panic!("a circle")
    };
    assert!(why.contains("200 pages"), "{why}");
    assert_eq!(service.take_log().len(), 203, "token, user, emails, and as many pages");
}

#[tokio::test]
async fn a_rate_limit_is_no_verdict_and_says_when_to_come_again() {
    let service = member().await;
    let known = service.sign_in().await.unwrap();
    let secondary = r#"{"message":"You have exceeded a secondary rate limit. Please wait."}"#;
    for (answer, words, seconds) in [
        (Scripted::new(403, secondary).header("retry-after", "50"), "again in 50 s", 50),
        (Scripted::new(429, "{}"), "again in a minute", 60),
        (
            Scripted::new(403, r#"{"message":"API rate limit exceeded"}"#)
                .header("x-ratelimit-remaining", "0")
                .header("x-ratelimit-reset", "1764000000"),
            "1764000000",
            60,
        ),
    ] {
        service.vendor.conduct().answers.insert("/api/v3/user".into(), answer);
        let RecheckError::Unavailable(why) = service.again(&known).await.unwrap_err() else {
            panic!("{words}")
        };
        assert!(why.contains(words), "{why}");
        assert_eq!(why.retry_after(), Some(seconds), "{why}");
        let LoginError::Unavailable(why) = service.sign_in().await.unwrap_err() else {
            panic!("{words}")
        };
        assert_eq!(why.retry_after(), Some(seconds), "{why}");
    }
    service.vendor.conduct().answers.clear();
    service.again(&known).await.unwrap();
}

/// Where a refresh token is used up on the way, what to ask with next is kept all the same.
#[tokio::test]
async fn a_rate_limit_is_told_from_an_outage_wherever_on_the_way_it_is_met() {
    let service = Service::start(Style::Gitlab, json!({})).await;
    let known = service.sign_in().await.unwrap();
    let limited = || Scripted::new(429, "{}").header("retry-after", "7");
    let away = || Scripted::new(503, "{}").header("retry-after", "7");
    for (answer, seconds) in [(limited(), Some(7)), (away(), None)] {
        service.vendor.conduct().answers.insert("/oauth/token".into(), answer);
        let RecheckError::Unavailable(why) = service.again(&known).await.unwrap_err() else {
            panic!("nothing was used up")
        };
        assert_eq!(why.retry_after(), seconds, "{why}");
    }
    let mut known = known;
    for (answer, seconds) in [(limited(), Some(7)), (away(), None)] {
        service.vendor.conduct().answers.clear();
        service.vendor.conduct().answers.insert("/oauth/userinfo".into(), answer);
        let error = service.again(&known).await.unwrap_err();
        let RecheckError::Interrupted { why, data } = error else { panic!("{error:?}") };
        assert_eq!(why.retry_after(), seconds, "{why}");
        known.data = Some(data);
    }
    service.vendor.conduct().answers.clear();
    service.again(&known).await.unwrap();
}

#[tokio::test]
async fn ready_says_who_is_away_and_who_is_not_trusted() {
    let service = member().await;
    let probe = service.built.probe.clone().unwrap();
    probe.probe().await.unwrap();
    let other = CertificateAuthority::create("somebody's").unwrap();
    let untrusted = spec(&service.vendor, Style::Github, (&json!({}), other.certificate_pem()));
    let untrusted = made(&untrusted, CLIENT_SECRET).unwrap();
    let said = untrusted.probe.unwrap().probe().await.unwrap_err();
    assert_eq!(said.reason, Reason::UpstreamUntrusted.as_str(), "{said}");
    let broken = Scripted::new(502, "<html>");
    service.vendor.conduct().answers.insert("/login/oauth/access_token".into(), broken);
    let said = probe.probe().await.unwrap_err();
    assert_eq!(said.reason, Reason::UpstreamUnusable.as_str(), "{said}");
    let authority = service.authority.certificate_pem();
    let unconnected = spec(&service.vendor, Style::Github, (&json!({}), authority));
    let unconnected = made(&unconnected, CLIENT_SECRET).unwrap();
    drop(service);
    let said = unconnected.probe.unwrap().probe().await.unwrap_err();
    assert_eq!(said.reason, Reason::UpstreamUnreachable.as_str(), "{said}");
}

#[tokio::test]
async fn what_is_answered_badly_is_said_by_place_alone() {
    let service = member().await;
    service.say(ORGANIZATIONS, json!([{"login": "top-secret"}]));
    let LoginError::Unusable(why) = service.sign_in().await.unwrap_err() else { panic!("no id") };
    assert!(why.contains("line 1") && !why.contains("top-secret"), "{why}");
}
