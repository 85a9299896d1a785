//! What no domain controller says on demand, by one that is told to: tokens with ten thousand groups, bytes where words
//! should be, nothing where something must be. TLS is taken off in front of it.

use claviger_connectors::Resolved;
use claviger_domain::connector::{LoginError, RecheckError};
use claviger_testkit::CertificateAuthority;
use serde_json::{Value, json};

use crate::fixture::{PASSWORD, Service};
use crate::front::{Front, acceptor};
use crate::scripted::*;

const BASE: &str = "DC=ad,DC=example,DC=test";
const ADA: &str = "CN=Ada Lovelace,OU=Staff,DC=ad,DC=example,DC=test";
const GUID: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xff];
/// An ordinary account in good standing.
const ACCOUNT: [(&str, &[u8]); 4] = [
    ("userAccountControl", b"512"),
    ("msDS-User-Account-Control-Computed", b"0"),
    ("accountExpires", b"0"),
    ("pwdLastSet", b"133000000000000000"),
];

fn sid(number: u32) -> Vec<u8> {
    let domain: Vec<u8> =
        [21_u32, 1, 2, 3, number].iter().flat_map(|part| part.to_le_bytes()).collect();
    [vec![1, 5, 0, 0, 0, 0, 0, 5], domain].concat()
}

/// `ada` with these attributes besides, or instead.
fn ada(change: &[(&str, &[u8])]) -> Vec<u8> {
    let mut attributes: Vec<(&str, &[u8])> = vec![("objectGUID", &GUID)];
    attributes.extend(ACCOUNT);
    attributes.retain(|(name, _)| change.iter().all(|(other, _)| other != name));
    attributes.extend(change.iter().filter(|(_, value)| !value.is_empty()));
    entry(ADA.as_bytes(), &attributes)
}

/// A connector at a controller that binds everybody and answers searches so.
async fn service(
    change: &Value,
    script: impl Fn(&Request) -> Vec<Vec<u8>> + Send + Sync + 'static,
) -> (Service, Scripted, Front) {
    let server = Scripted::start(move |request| match request {
        Request::Bind { .. } => vec![bound(0, "")],
        search @ Request::Search { .. } => script(search),
    })
    .await;
    let authority = CertificateAuthority::create("Claviger test domain").unwrap();
    let tls = acceptor(&authority.server(&[], &[]).unwrap(), None);
    let address = server.url().replace("ldap://", "");
    let front = Front::start(&address, "127.0.0.1", Some(tls)).await;
    let mut upstream = json!({
        "urls": [front.url("ldaps")],
        "tls": { "caBundle": authority.certificate_pem() },
        "bind": { "name": "claviger", "passwordSecretRef": { "name": "ad", "key": "password" } },
        "baseDN": BASE,
        "timeouts": { "connectSeconds": 5, "operationSeconds": 5 },
    });
    for (name, value) in change.as_object().unwrap() {
        upstream[name] = value.clone();
    }
    let spec = json!({
        "displayName": "x", "recheckIntervalSeconds": 300, "upstream": { "activeDirectory": upstream },
    });
    let mut resolved = Resolved::default();
    resolved.insert("ad", "password", b"service".to_vec());
    (Service::new(&spec, &resolved), server, front)
}

/// Searches for the token of the user whose entry it is.
fn of_token(search: &Request) -> bool {
    search.is_search_of(ADA) && search.contains(b"tokenGroups")
}

#[tokio::test]
async fn user_in_ten_thousand_groups_is_refused_by_name_and_in_two_thousand_is_not() {
    for (count, by_identifier) in [(10_000, true), (10_000, false), (2_000, true)] {
        let sids: Vec<Vec<u8>> = (0..count).map(sid).collect();
        let token = many(ADA.as_bytes(), "tokenGroups", &sids);
        let search = if by_identifier { json!({ "nameAttribute": "SID" }) } else { json!({}) };
        let (service, _server, _front) =
            service(&json!({ "groupSearch": search }), move |search| match search {
                search if of_token(search) => vec![token.clone(), done(0)],
                _ => vec![ada(&[]), done(0)],
            })
            .await;
        match service.login("ada", PASSWORD).await {
            Ok(ada) => {
                assert_eq!((count, ada.identity.groups.len()), (2_000, 2_000));
                assert_eq!(ada.identity.groups[1_999], "S-1-5-21-1-2-3-1999");
            }
            Err(error) => {
                assert_eq!(count, 10_000);
                assert!(error.to_string().contains("in more than 2000 groups"), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn token_that_is_not_shown_is_no_token_without_groups() {
    for answer in [vec![entry(ADA.as_bytes(), &[]), done(0)], vec![done(0)]] {
        let (service, _server, _front) = service(&json!({}), move |search| match search {
            search if of_token(search) => answer.clone(),
            _ => vec![ada(&[]), done(0)],
        })
        .await;
        let error = service.login("ada", PASSWORD).await.unwrap_err();
        assert!(
            matches!(&error, LoginError::Unusable(why) if why.contains("Windows Authorization Access Group")),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn account_whose_state_is_not_shown_or_no_number_is_not_let_in() {
    for (attribute, _) in ACCOUNT {
        for value in [b"".as_slice(), b"never", &[0xff, 0xfe]] {
            let change = value.to_vec();
            let (service, _server, _front) =
                service(&json!({ "groupSearch": { "source": "None" } }), move |_| {
                    vec![ada(&[(attribute, &change)]), done(0)]
                })
                .await;
            let error = service.login("ada", PASSWORD).await.unwrap_err();
            assert!(
                matches!(&error, LoginError::Unusable(why) if why.contains(&format!("shows no {attribute}"))),
                "{attribute}: {error:?}"
            );
        }
    }
}

#[tokio::test]
async fn bytes_where_words_should_be_are_left_out() {
    let (service, _server, _front) = service(&json!({}), |search| match search {
        search if of_token(search) => {
            vec![many(ADA.as_bytes(), "tokenGroups", &[sid(512), sid(513)]), done(0)]
        }
        search if search.contains(b"objectSid") => vec![
            entry(b"CN=x", &[("sAMAccountName", &[0xff, 0xfe])]),
            entry(b"CN=y", &[("sAMAccountName", b"staff")]),
            referral("ldap://elsewhere.example.test"),
            done(0),
        ],
        _ => vec![ada(&[("mail", &[0xc3, 0x28]), ("displayName", &[0, 0xff])]), done(0)],
    })
    .await;
    let ada = service.login("ada", PASSWORD).await.unwrap();
    assert_eq!(ada.identity.user_id, "03020100-0504-0706-0809-0a0b0c0d0eff");
    assert_eq!((ada.identity.email, ada.identity.name), (None, None));
    assert!(!ada.identity.email_verified);
    assert_eq!(ada.identity.groups, ["staff"]);
    assert_eq!(ada.raw["dn"], ADA);
}

#[tokio::test]
async fn controller_without_an_answer_is_no_verdict() {
    let answers = std::sync::Arc::new(std::sync::atomic::AtomicU8::new(0));
    let code = std::sync::Arc::clone(&answers);
    let (service, _server, _front) =
        service(&json!({ "groupSearch": { "source": "None" } }), move |_| {
            match code.load(std::sync::atomic::Ordering::Relaxed) {
                0 => vec![ada(&[]), done(0)],
                code => vec![done(code)],
            }
        })
        .await;
    let known = service.login("ada", PASSWORD).await.unwrap();
    for code in [1, 3, 8, 10, 11, 50, 51, 52, 80] {
        answers.store(code, std::sync::atomic::Ordering::Relaxed);
        let error = service.recheck(&known).await.unwrap_err();
        assert!(matches!(error, RecheckError::Unavailable(_)), "{code}: {error:?}");
    }
    answers.store(0, std::sync::atomic::Ordering::Relaxed);
    service.recheck(&known).await.unwrap();
}
