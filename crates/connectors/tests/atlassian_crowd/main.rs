//! The connector to Atlassian Crowd, against a fake that speaks its documented API and lies where a test wants it to.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use claviger_api::{ConnectorSpec, Reason};
use claviger_connectors::{Resolved, Upstream, build, secret_refs};
use claviger_domain::connector::{
    Authenticated, Login, LoginError, PasswordLogin, RecheckError, Refresh,
};
use claviger_testkit::CertificateAuthority;
use claviger_testkit::crowd::{APPLICATION_PASSWORD, Crowd, PASSWORD, Person};
use claviger_testkit::vendor::Scripted;
use secrecy::SecretString;
use serde_json::{Value, json};

const API: &str = "/crowd/rest/usermanagement/1";
const NOT_FOUND: &str = r#"{"reason":"USER_NOT_FOUND","message":"no such user"}"#;

struct Service {
    crowd: Crowd,
    built: Upstream,
    authority: CertificateAuthority,
}

impl Service {
    async fn start(change: Value) -> Self {
        let authority = CertificateAuthority::create("crowd").unwrap();
        let crowd = Crowd::start(&authority).await.unwrap();
        let built = made(&crowd, (&change, authority.certificate_pem()), APPLICATION_PASSWORD);
        Self { crowd, built, authority }
    }

    fn rebuilt(&self, change: &Value, password: &str) -> Upstream {
        made(&self.crowd, (change, self.authority.certificate_pem()), password)
    }

    async fn sign_in(&self, name: &str, password: &str) -> Result<Authenticated, LoginError> {
        login(&self.built).authenticate(name, &SecretString::from(password)).await
    }

    async fn ada(&self) -> Authenticated {
        self.sign_in("ada", PASSWORD).await.unwrap()
    }

    async fn again(&self, known: &Authenticated) -> Result<Authenticated, RecheckError> {
        again(&self.built, known).await
    }

    fn script(&self, asked: &str, answer: Scripted) {
        let (method, path) = asked.split_once(' ').unwrap();
        self.crowd.script(&format!("{method} {API}{path}"), answer);
    }

    fn take_log(&self) -> Vec<String> {
        self.crowd.take_log().into_iter().map(|line| line.replace(API, "")).collect()
    }
}

fn login(built: &Upstream) -> Arc<dyn PasswordLogin> {
    let Login::Password(login) = &built.login else { panic!("{:?}", built.login) };
    Arc::clone(login)
}

async fn again(built: &Upstream, known: &Authenticated) -> Result<Authenticated, RecheckError> {
    let Refresh::Upstream { recheck, .. } = &built.refresh else { panic!("{:?}", built.refresh) };
    recheck.recheck(&known.identity, known.data.as_ref()).await
}

fn made(crowd: &Crowd, (change, authority): (&Value, &str), password: &str) -> Upstream {
    let mut upstream = crowd.upstream(authority);
    for (name, value) in change.as_object().unwrap() {
        upstream["atlassianCrowd"][name] = value.clone();
    }
    let spec = json!({"displayName": "Crowd", "upstream": upstream});
    let spec: ConnectorSpec = serde_json::from_value(spec).unwrap();
    let mut resolved = Resolved::default();
    for reference in secret_refs(&spec) {
        resolved.insert(&reference.name, &reference.key, password.as_bytes().to_vec());
    }
    build("crowd", &spec, &resolved).unwrap()
}

#[tokio::test]
async fn a_user_is_the_key_of_their_directory_with_nested_groups() {
    let service = Service::start(json!({})).await;
    let known = service.ada().await;
    let identity = &known.identity;
    assert_eq!(identity.user_id, "557057:1815");
    assert_eq!(identity.preferred_username.as_deref(), Some("ada"));
    assert_eq!(identity.name.as_deref(), Some("Ada Lovelace"));
    assert_eq!(identity.email.as_deref(), Some("ada@example.com"));
    assert!(!identity.email_verified, "Crowd says nothing of it");
    assert_eq!(identity.groups, ["acme", "everybody"]);
    assert_eq!(known.raw["user"]["last-name"], "Lovelace", "for a claim mapping");
    let groups = "GET /user/group/nested?username=ada&start-index=0&max-results=1000";
    assert_eq!(service.take_log(), ["POST /authentication?username=ada", groups]);
    service.again(&known).await.unwrap();
    assert_eq!(service.take_log(), ["GET /user?key=557057%3A1815", groups]);

    let change = json!({"groups": "Direct", "emailVerification": "Always"});
    let direct = service.rebuilt(&change, APPLICATION_PASSWORD);
    let known = login(&direct).authenticate("Ada", &SecretString::from(PASSWORD)).await.unwrap();
    assert_eq!(known.identity.groups, ["acme"]);
    assert!(known.identity.email_verified);
}

#[tokio::test]
async fn a_renamed_user_is_found_and_who_takes_the_name_over_is_not_them() {
    let service = Service::start(json!({})).await;
    let known = service.ada().await;
    {
        let mut people = service.crowd.people();
        let ada = people.users.remove("ada").unwrap();
        people
            .users
            .insert("countess".into(), Person { direct: vec!["staff".into()], ..ada.clone() });
        people.users.insert("ada".into(), Person { key: Some("557057:2".into()), ..ada });
    }
    let now = service.again(&known).await.unwrap();
    assert_eq!(now.identity.preferred_username.as_deref(), Some("countess"));
    assert_eq!(now.identity.groups, ["staff", "everybody"]);
    assert_ne!(service.ada().await.identity.user_id, known.identity.user_id);
    // A Crowd that answers with the other one is not believed.
    let other = json!({"name": "ada", "key": "557057:2", "active": true});
    service.script("GET /user", Scripted::new(200, other.to_string()));
    let error = service.again(&known).await.unwrap_err();
    assert!(
        matches!(&error, RecheckError::Unavailable(why) if why.contains("another user")),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_directory_without_keys_needs_a_word_of_the_administrator() {
    let service = Service::start(json!({})).await;
    service.crowd.change_ada(|ada| ada.key = None);
    let LoginError::Unusable(why) = service.sign_in("ada", PASSWORD).await.unwrap_err() else {
        panic!("no key")
    };
    assert!(why.contains("set atlassianCrowd.userID to Name"), "{why}");
    let named = service.rebuilt(&json!({"userID": "Name"}), APPLICATION_PASSWORD);
    let known = login(&named).authenticate("ADA", &SecretString::from(PASSWORD)).await.unwrap();
    assert_eq!(known.identity.user_id, "ada");
    again(&named, &known).await.unwrap();
    let ada = service.crowd.people().users.remove("ada").unwrap();
    service.crowd.people().users.insert("grace".into(), ada);
    assert!(matches!(again(&named, &known).await.unwrap_err(), RecheckError::Gone(_)));
}

#[tokio::test]
async fn whoever_is_refused_is_refused_alike_and_the_log_knows_why() {
    let service = Service::start(json!({})).await;
    let refused = async |name: &str, password: &str| match service.sign_in(name, password).await {
        Err(LoginError::InvalidCredentials(why)) => why,
        other => panic!("{other:?}"),
    };
    assert!(refused("ada", "wrong").await.contains("INVALID_USER_AUTHENTICATION"));
    assert!(refused("nobody", PASSWORD).await.contains("USER_NOT_FOUND"));
    service.crowd.change_ada(|ada| ada.expired = true);
    assert!(refused("ada", PASSWORD).await.contains("EXPIRED_CREDENTIAL"));
    service.crowd.change_ada(|ada| ada.active = false);
    assert!(refused("ada", PASSWORD).await.contains("INACTIVE_ACCOUNT"));
    let inactive = json!({"name": "ada", "key": "557057:1815", "active": false});
    service.script("POST /authentication", Scripted::new(200, inactive.to_string()));
    assert!(refused("ada", PASSWORD).await.contains("inactive"));
    service.take_log();
    let long = "x".repeat(1_025);
    for (name, password) in [("", PASSWORD), ("ada", ""), ("ada", &long), (&long, PASSWORD)] {
        refused(name, password).await;
    }
    assert!(service.take_log().is_empty(), "Crowd need not see these");
}

#[tokio::test]
async fn who_is_inactive_or_gone_is_out_at_the_next_refresh_and_groups_follow() {
    let service = Service::start(json!({})).await;
    let known = service.ada().await;
    service.crowd.change_ada(|ada| ada.direct = vec!["on-call".into()]);
    let now = service.again(&known).await.unwrap();
    assert_eq!(now.identity.groups, ["on-call", "everybody"]);
    service.crowd.change_ada(|ada| ada.active = false);
    let error = service.again(&known).await.unwrap_err();
    assert_eq!(error, RecheckError::Gone("the account is inactive".into()));
    let mut other = service.crowd.people().users.remove("ada").unwrap();
    other.key = Some("557057:1".into());
    service.crowd.people().users.insert("grace".into(), other);
    let error = service.again(&known).await.unwrap_err();
    assert_eq!(error, RecheckError::Gone("the account is gone".into()));
    service.crowd.people().users.clear();
    let error = service.again(&known).await.unwrap_err();
    assert!(
        matches!(&error, RecheckError::Unavailable(why) if why.contains("no user at all")),
        "{error:?}"
    );
}

#[tokio::test]
async fn only_crowds_own_word_is_a_verdict() {
    let service = Service::start(json!({})).await;
    let known = service.ada().await;
    let elsewhere = Scripted::new(302, "").header("location", "https://169.254.169.254/");
    for (answer, words) in [
        (Scripted::new(404, "<html>maintenance</html>"), "compare the url"),
        (Scripted::new(404, r#"{"reason":"APPLICATION_NOT_FOUND"}"#), "compare the url"),
        (Scripted::new(500, r#"{"reason":"OPERATION_FAILED"}"#), "answered 500"),
        (Scripted::new(400, r#"{"reason":"OPERATION_FAILED"}"#), "OPERATION_FAILED"),
        (Scripted::new(400, NOT_FOUND), "USER_NOT_FOUND"),
        (Scripted::new(401, "Application failed to authenticate"), "applicationPasswordSecretRef"),
        (Scripted::new(403, r#"{"reason":"APPLICATION_ACCESS_DENIED"}"#), "Remote Addresses"),
        (Scripted::new(403, r#"{"reason":"<b>top-secret"}"#), "no reason"),
        (Scripted::new(429, "{}").header("retry-after", "7"), "again in 7 s"),
        (Scripted::new(200, "<html>top-secret"), "cannot be read"),
        (Scripted::new(200, r#"{"name":"ada","key":"557057:1815"}"#), "cannot be read"),
        (Scripted::new(200, "x".repeat(5_000_000)), "longer than"),
        (elsewhere, "redirects are not followed"),
    ] {
        service.script("GET /user", answer);
        let RecheckError::Unavailable(why) = service.again(&known).await.unwrap_err() else {
            panic!("{words}")
        };
        assert!(why.contains(words) && !why.contains("top-secret"), "{why}");
    }
    service.crowd.conduct().answers.clear();
    // Trouble is not taken for a wrong password either.
    for answer in [Scripted::new(400, r#"{"reason":"OPERATION_FAILED"}"#), Scripted::new(503, "")] {
        service.script("POST /authentication", answer);
        let error = service.sign_in("ada", PASSWORD).await.unwrap_err();
        assert!(matches!(error, LoginError::Unavailable(_)), "{error:?}");
    }
    service.crowd.conduct().answers.clear();
    // Groups that nobody tells are not none.
    service.script("GET /user/group/nested", Scripted::new(404, NOT_FOUND));
    assert!(matches!(service.again(&known).await.unwrap_err(), RecheckError::Unavailable(_)));
}

#[tokio::test]
async fn groups_are_read_to_their_end_and_have_one() {
    let service = Service::start(json!({})).await;
    let groups = |count: usize| (0..count).map(|n| format!("group-{n}")).collect::<Vec<_>>();
    service.crowd.change_ada(|ada| (ada.direct, ada.nested) = (groups(2_500), Vec::new()));
    let known = service.ada().await;
    assert_eq!(known.identity.groups.len(), 2_500);
    assert_eq!(known.identity.groups[2_499], "group-2499");
    let log = service.take_log();
    assert_eq!(log.len(), 4, "{log:?}");
    assert!(log[3].contains("start-index=2000"), "{log:?}");
    service.crowd.change_ada(|ada| ada.direct = groups(20_001));
    let LoginError::Unusable(why) = service.sign_in("ada", PASSWORD).await.unwrap_err() else {
        panic!("too many")
    };
    assert!(why.contains("20000"), "{why}");
}

#[tokio::test]
async fn ready_says_who_is_away_who_is_not_trusted_and_what_is_wrong_with_the_application() {
    let service = Service::start(json!({})).await;
    let probed = async |built: &Upstream| built.probe.as_ref().unwrap().probe().await;
    probed(&service.built).await.unwrap();
    // The password is changed there first, and then here: the connector is built anew.
    service.crowd.people().application_password = "rotated".into();
    let said = probed(&service.built).await.unwrap_err();
    assert_eq!(said.reason, Reason::UpstreamRefusedCredentials.as_str(), "{said}");
    assert!(!said.message.contains(APPLICATION_PASSWORD), "{said}");
    probed(&service.rebuilt(&json!({}), "rotated")).await.unwrap();
    let stranger = CertificateAuthority::create("somebody's").unwrap();
    let untrusted = made(&service.crowd, (&json!({}), stranger.certificate_pem()), "rotated");
    let said = probed(&untrusted).await.unwrap_err();
    assert_eq!(said.reason, Reason::UpstreamUntrusted.as_str(), "{said}");
    let elsewhere = json!({"url": service.crowd.url()});
    let said = probed(&service.rebuilt(&elsewhere, "rotated")).await.unwrap_err();
    assert!(said.message.contains("compare the url"), "{said}");
    let away = service.rebuilt(&json!({"url": "https://localhost:1"}), "rotated");
    let said = probed(&away).await.unwrap_err();
    assert_eq!(said.reason, Reason::UpstreamUnreachable.as_str(), "{said}");
}
