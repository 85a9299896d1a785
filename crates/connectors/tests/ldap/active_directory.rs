//! What slapd never says: Active Directory's ways, and answers that are not LDAP at all.

use claviger_connectors::Resolved;
use claviger_domain::connector::{Authenticated, RecheckError};
use serde_json::{Value, json};

use crate::fixture::{PASSWORD, Service, ldap};
use crate::scripted::*;

const BASE: &str = "DC=ad,DC=example,DC=test";
const ADA: &str = "CN=Ada Lovelace,OU=Staff,DC=ad,DC=example,DC=test";
const SERVICE: &str = "CN=claviger,CN=Users,DC=ad,DC=example,DC=test";
const GUID: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xff];
const GUID_TEXT: &str = "03020100-0504-0706-0809-0a0b0c0d0eff";
const IN_CHAIN: &str = "member:1.2.840.113556.1.4.1941:";

fn connector(server: &Scripted) -> Value {
    json!({
        "displayName": "Active Directory",
        "recheckIntervalSeconds": 300,
        "upstream": { "ldap": {
            "urls": [server.url()],
            "tls": { "mode": "Plaintext" },
            "bind": { "dn": SERVICE, "passwordSecretRef": { "name": "ad", "key": "password" } },
            "userSearch": {
                "baseDN": BASE,
                "filter": "(&(objectCategory=person)(!(userAccountControl:1.2.840.113556.1.4.803:=2)))",
                "usernameAttributes": ["sAMAccountName", "userPrincipalName"],
                "idAttribute": "objectGUID",
                "nameAttribute": "displayName",
            },
            "timeouts": { "connectSeconds": 5, "operationSeconds": 5 },
        }},
    })
}

fn service(spec: &Value) -> Service {
    let mut resolved = Resolved::default();
    resolved.insert("ad", "password", b"service".to_vec());
    Service::new(spec, &resolved)
}

fn ada(dn: &str, account_control: &str) -> Vec<u8> {
    entry(
        dn.as_bytes(),
        &[
            ("objectGUID", &GUID),
            ("displayName", b"Ada Lovelace"),
            ("userAccountControl", account_control.as_bytes()),
        ],
    )
}

/// Binds everybody, finds ada with three referrals around her.
async fn domain_controller(account_control: &'static str) -> Scripted {
    Scripted::start(move |request| match request {
        Request::Bind { .. } => vec![bound(0, "")],
        Request::Search { .. } => vec![
            referral("ldap://ForestDnsZones.ad.example.test"),
            ada(ADA, account_control),
            referral("ldap://DomainDnsZones.ad.example.test"),
            referral("ldap://ad.example.test/CN=Configuration"),
            done(0),
        ],
    })
    .await
}

#[tokio::test]
async fn binary_identifier_is_written_as_a_guid_and_referrals_are_ignored() {
    let server = domain_controller("512").await;
    let identity = service(&connector(&server)).identity("ada").await;
    assert_eq!(identity.user_id, GUID_TEXT);
    assert_eq!(identity.name.as_deref(), Some("Ada Lovelace"));
}

#[tokio::test]
async fn moved_user_is_found_by_the_bytes_of_the_guid() {
    const MOVED: &str = "CN=Ada King,OU=Staff,DC=ad,DC=example,DC=test";
    let server = Scripted::start(|request| match request {
        Request::Bind { .. } => vec![bound(0, "")],
        search if search.is_search_of(ADA) => vec![done(32)],
        search if search.contains(&GUID) => vec![ada(MOVED, "512"), done(0)],
        search if search.contains(b"sAMAccountName") => vec![ada(ADA, "512"), done(0)],
        Request::Search { .. } => vec![done(0)],
    })
    .await;
    let service = service(&connector(&server));
    let known = service.login("ada", PASSWORD).await.unwrap();
    let fresh = service.recheck(&known).await.unwrap();
    assert_eq!(fresh.identity.user_id, GUID_TEXT);
    assert_ne!(fresh.data, known.data);
}

#[tokio::test]
async fn disabled_account_neither_signs_in_nor_refreshes() {
    let enabled = domain_controller("512").await;
    let known: Authenticated = service(&connector(&enabled)).login("ada", PASSWORD).await.unwrap();
    let disabled = domain_controller("514").await;
    let service = service(&connector(&disabled));
    assert!(service.refusal("ada", PASSWORD).await.contains("disabled"));
    let gone = service.recheck(&known).await.unwrap_err();
    assert!(matches!(&gone, RecheckError::Gone(why) if why.contains("disabled")), "{gone:?}");
}

#[tokio::test]
async fn refusal_is_logged_in_words() {
    let server = Scripted::start(|request| match request {
        bind if bind.is_bind_as(ADA) => {
            vec![bound(49, "80090308: AcceptSecurityContext error, data 775, v4563")]
        }
        Request::Bind { .. } => vec![bound(0, "")],
        Request::Search { .. } => vec![ada(ADA, "512"), done(0)],
    })
    .await;
    let why = service(&connector(&server)).refusal("ada", PASSWORD).await;
    assert_eq!(why, "the account is locked (data 775)");
}

#[tokio::test]
async fn server_that_wants_tls_is_a_fault_of_the_connector() {
    let server =
        Scripted::start(|_| vec![bound(8, "BindSimple: Transport encryption required.")]).await;
    let why = service(&connector(&server)).outage("ada").await;
    assert!(
        why.contains("strongerAuthRequired") && why.contains("use ldaps:// or StartTLS"),
        "{why}"
    );
}

#[tokio::test]
async fn users_bind_that_the_server_cannot_judge_is_no_verdict() {
    for code in [51, 52, 80, 8, 10] {
        let server = Scripted::start(move |request| match request {
            bind if bind.is_bind_as(ADA) => vec![bound(code, "")],
            Request::Bind { .. } => vec![bound(0, "")],
            Request::Search { .. } => vec![ada(ADA, "512"), done(0)],
        })
        .await;
        service(&connector(&server)).outage("ada").await;
    }
}

#[tokio::test]
async fn nested_groups_are_asked_for_with_the_matching_rule() {
    let server = Scripted::start(|request| match request {
        Request::Bind { .. } => vec![bound(0, "")],
        search
            if search.contains(b"1.2.840.113556.1.4.1941") && search.contains(ADA.as_bytes()) =>
        {
            vec![
                entry(b"CN=Admins,DC=ad,DC=example,DC=test", &[("cn", b"Admins")]),
                entry(b"CN=Nested,DC=ad,DC=example,DC=test", &[("CN", b"Nested")]),
                done(0),
            ]
        }
        Request::Search { .. } => vec![ada(ADA, "512"), done(0)],
    })
    .await;
    let mut spec = connector(&server);
    ldap(&mut spec)["groupSearch"] = json!({
        "baseDN": BASE,
        "userMatchers": [{ "userAttribute": "DN", "groupAttribute": IN_CHAIN }],
        "nestedDepth": 0,
    });
    assert_eq!(service(&spec).identity("ada").await.groups, ["Admins", "Nested"]);
}

fn memberships(range: std::ops::Range<usize>) -> Vec<Vec<u8>> {
    range.map(|n| format!("CN=group-{n},DC=ad,DC=example,DC=test").into_bytes()).collect()
}

#[tokio::test]
async fn long_list_that_is_sent_in_parts_is_asked_for_to_its_end() {
    let server = Scripted::start(|request| match request {
        Request::Bind { .. } => vec![bound(0, "")],
        search if search.contains(b"memberOf;range=1500-*") => {
            vec![many(ADA.as_bytes(), "memberOf;range=1500-*", &memberships(1500..1600)), done(0)]
        }
        // The whole entry would do as well; what is looked at here is the list alone.
        Request::Search { .. } => {
            let list = ("memberOf;range=0-1499", memberships(0..1500));
            vec![entry_with(ADA.as_bytes(), &[("objectGUID", &GUID)], &list), done(0)]
        }
    })
    .await;
    let mut spec = connector(&server);
    ldap(&mut spec)["groupsFromAttribute"] = json!({});
    let groups = service(&spec).identity("ada").await.groups;
    assert_eq!((groups.len(), groups[1599].as_str()), (1600, "group-1599"));
}

#[tokio::test]
async fn long_list_that_goes_on_nowhere_or_for_ever_is_no_list() {
    for (answer, why) in [
        (vec![done(0)], "sent only a part of memberOf"),
        (vec![entry(ADA.as_bytes(), &[]), done(0)], "sent only a part of memberOf"),
        (
            vec![
                many(ADA.as_bytes(), "memberOf;range=1500-2999", &memberships(1500..3000)),
                done(0),
            ],
            "more than 2000 groups",
        ),
    ] {
        let server = Scripted::start(move |request| match request {
            Request::Bind { .. } => vec![bound(0, "")],
            search if search.contains(b"memberOf;range=1500-*") => answer.clone(),
            Request::Search { .. } => {
                let list = ("memberOf;range=0-1499", memberships(0..1500));
                vec![entry_with(ADA.as_bytes(), &[("objectGUID", &GUID)], &list), done(0)]
            }
        })
        .await;
        let mut spec = connector(&server);
        ldap(&mut spec)["groupsFromAttribute"] = json!({});
        let error = service(&spec).login("ada", PASSWORD).await.unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

fn with_groups(server: &Scripted) -> Value {
    let mut spec = connector(server);
    ldap(&mut spec)["groupSearch"] = json!({
        "baseDN": "OU=Groups,DC=ad,DC=example,DC=test",
        "userMatchers": [{ "userAttribute": "DN", "groupAttribute": "member" }],
        "nestedDepth": 0,
    });
    spec
}

#[tokio::test]
async fn every_page_of_groups_is_asked_for_with_the_cookie_of_the_last() {
    let server = Scripted::start(|request| match request {
        Request::Bind { .. } => vec![bound(0, "")],
        search if !search.is_search_of("OU=Groups,DC=ad,DC=example,DC=test") => {
            vec![ada(ADA, "512"), done(0)]
        }
        search if search.contains(b"second") => {
            vec![entry(b"CN=c", &[("cn", b"c")]), done_page(b"")]
        }
        search if search.contains(b"first") => {
            vec![entry(b"CN=b", &[("cn", b"b")]), done_page(b"second")]
        }
        Request::Search { .. } => vec![entry(b"CN=a", &[("cn", b"a")]), done_page(b"first")],
    })
    .await;
    assert_eq!(service(&with_groups(&server)).identity("ada").await.groups, ["a", "b", "c"]);
    assert_eq!(server.requests().len(), 6, "two binds, one user, three pages");
}

#[tokio::test]
async fn pages_without_end_end_by_the_deadline_or_the_limit() {
    for endless in [vec![done_page(b"on")], vec![entry(b"CN=a", &[("cn", b"a")]), done_page(b"on")]]
    {
        let server = Scripted::start(move |request| match request {
            Request::Bind { .. } => vec![bound(0, "")],
            search if search.is_search_of("OU=Groups,DC=ad,DC=example,DC=test") => endless.clone(),
            Request::Search { .. } => vec![ada(ADA, "512"), done(0)],
        })
        .await;
        let mut spec = with_groups(&server);
        ldap(&mut spec)["timeouts"]["operationSeconds"] = json!(1);
        let why = service(&spec).login("ada", PASSWORD).await.unwrap_err().to_string();
        assert!(why.contains("in time") || why.contains("more than 2000 groups"), "{why}");
    }
}

#[tokio::test]
async fn nonsense_is_unavailable_and_never_a_panic_or_a_verdict() {
    let nonsense: [(&str, Vec<Vec<u8>>); 8] = [
        ("DN that is not UTF-8", vec![entry(&[0xff, 0xfe], &[]), done(0)]),
        ("entry without attributes", vec![tlv(0x64, &tlv(0x04, b"CN=x")), done(0)]),
        ("entry that is primitive", vec![tlv(0x44, b"x"), done(0)]),
        ("result without code", vec![tlv(0x65, b"")]),
        ("operation of another kind", vec![bound(0, "")]),
        ("unknown operation", vec![tlv(0x7e, b"")]),
        ("not even an operation", vec![tlv(0x04, b"hello")]),
        ("control that is none", vec![done_with_control(b"garbage")]),
    ];
    for (what, answers) in nonsense {
        let reply = answers.clone();
        let server = Scripted::start(move |request| match request {
            Request::Bind { .. } => vec![bound(0, "")],
            Request::Search { .. } => reply.clone(),
        })
        .await;
        let login = service(&connector(&server)).login("ada", PASSWORD).await;
        let unavailable = login.unwrap_err().to_string();
        assert!(unavailable.starts_with("upstream unavailable"), "{what}: {unavailable}");
    }
    for answer in [tlv(0x61, b""), tlv(0x61, b"\x05"), tlv(0x41, b"x")] {
        let server = Scripted::start(move |_| vec![answer.clone()]).await;
        service(&connector(&server)).outage("ada").await;
    }
}
