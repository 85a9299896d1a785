//! Who may sign in by which name, and what is said of them.

use std::time::Duration;

use anyhow::ensure;
use claviger_connectors::build;
use claviger_domain::connector::LoginError;
use claviger_testkit::samba::{NET_BIOS_DOMAIN, user_dn};
use claviger_testkit::{Slapd, eventually};
use serde_json::json;

use crate::fixture::*;

#[tokio::test]
async fn user_is_identified_by_the_guid_as_microsoft_writes_it() {
    let samba = domain().await;
    let ada = Service::with(&samba, &json!({})).identity("ada").await;
    let guid = samba.read(&user_dn("ada"), "objectGUID").unwrap();
    // In Microsoft's order, the first three fields have their lowest byte first.
    let hex: Vec<String> = guid.iter().map(|byte| format!("{byte:02x}")).collect();
    let field = |bytes: &[usize]| bytes.iter().map(|n| hex[*n].as_str()).collect::<String>();
    let fields = [field(&[3, 2, 1, 0]), field(&[5, 4]), field(&[7, 6]), field(&[8, 9])];
    let expected = format!("{}-{}", fields.join("-"), field(&[10, 11, 12, 13, 14, 15]));
    assert_eq!(ada.user_id, expected);
    assert_eq!(ada.email.as_deref(), Some("ada.lovelace@example.com"));
    assert!(ada.email_verified);
    assert_eq!(ada.name.as_deref(), Some("Ada Lovelace"));
    assert_eq!(ada.preferred_username.as_deref(), Some("ada"));
}

#[tokio::test]
async fn settings_choose_identifier_user_name_mail_and_claims() {
    let samba = domain().await;
    let service = Service::with(
        &samba,
        &json!({
            "idAttribute": "ObjectSID", "preferredUsername": "UserPrincipalName",
            "emailVerification": "Unverified", "claimAttributes": { "givenName": "givenName" },
        }),
    );
    let ada = service.identity("ada").await;
    assert!(ada.user_id.starts_with("S-1-5-21-"), "{}", ada.user_id);
    assert_eq!(ada.preferred_username.as_deref(), Some("ada@corp.example.com"));
    assert_eq!(ada.email.as_deref(), Some("ada.lovelace@example.com"));
    assert!(!ada.email_verified);
    assert_eq!(ada.extra["given_name"], "Ada");
    service.recheck(&service.signed_in("ada").await).await.unwrap();
}

#[tokio::test]
async fn one_user_signs_in_by_each_name_that_is_taken() {
    let samba = domain().await;
    let default = Service::with(&samba, &json!({}));
    let ada = default.identity("ada").await.user_id;
    // The second is the principal name of every account, whatever stands in userPrincipalName.
    for name in ["ada@corp.example.com", "ada@ad.example.test", "ADA", "Ada@CORP.example.com"] {
        assert_eq!(default.identity(name).await.user_id, ada, "{name}");
    }
    for name in ["ada.lovelace@example.com", "EXAMPLE\\ada", "ada@elsewhere.example.com"] {
        assert_eq!(default.refusal(name, PASSWORD).await, "no entry matches the user name");
    }
    let others = Service::with(
        &samba,
        &json!({ "loginNames": ["Mail", "DownLevelLogonName"], "netBIOSDomain": NET_BIOS_DOMAIN }),
    );
    for name in ["ada.lovelace@example.com", "EXAMPLE\\ada", "example\\ada"] {
        assert_eq!(others.identity(name).await.user_id, ada, "{name}");
    }
    for name in ["ada", "ada@corp.example.com", "OTHER\\ada"] {
        assert_eq!(others.refusal(name, PASSWORD).await, "no entry matches the user name");
    }
}

#[tokio::test]
async fn what_looks_like_a_filter_or_nothing_finds_nobody() {
    let samba = domain().await;
    let service = Service::with(&samba, &json!({}));
    for name in
        ["*", "a*", "ada)(objectClass=*", "*)(sAMAccountName=ada", "ada\0", "\\2a", "(", "@"]
    {
        assert_eq!(
            service.refusal(name, PASSWORD).await,
            "no entry matches the user name",
            "{name}"
        );
    }
    assert_eq!(service.refusal("ada", "").await, "empty user name or password");
    assert_eq!(service.refusal("", PASSWORD).await, "empty user name or password");
}

#[tokio::test]
async fn two_users_of_one_name_sign_in_by_it_never() {
    let samba = domain().await;
    samba.replace(&user_dn("grace"), "mail", "ada.lovelace@example.com").unwrap();
    let service = Service::with(&samba, &json!({ "loginNames": ["Mail"] }));
    let error = service.login("ada.lovelace@example.com", PASSWORD).await.unwrap_err();
    assert!(
        matches!(&error, LoginError::Unusable(why) if why.contains("more than one")),
        "{error:?}"
    );
}

#[tokio::test]
async fn wrong_password_is_told_from_other_refusals_by_the_domains_own_code() {
    let samba = domain().await;
    let service = Service::with(&samba, &json!({}));
    assert_eq!(service.refusal("ada", "wrong").await, "wrong password (data 52e)");
}

#[tokio::test]
async fn computers_and_whom_the_filter_excludes_are_no_users() {
    let samba = domain().await;
    let computer = "dn: CN=PC,CN=Computers,DC=ad,DC=example,DC=test\nobjectClass: computer\n\
                    sAMAccountName: PC$\nuserAccountControl: 4096\n";
    samba.add(computer).unwrap();
    samba.reset_password_of("CN=PC,CN=Computers,DC=ad,DC=example,DC=test", PASSWORD).unwrap();
    let service = Service::with(&samba, &json!({}));
    assert_eq!(service.refusal("PC$", PASSWORD).await, "no entry matches the user name");
    let named = Service::with(&samba, &json!({ "userSearch": { "filter": "(displayName=*)" } }));
    named.identity("ada").await;
    assert_eq!(named.refusal("grace", PASSWORD).await, "no entry matches the user name");
    let elsewhere =
        json!({ "userSearch": { "baseDN": "OU=Domain Controllers,DC=ad,DC=example,DC=test" } });
    let elsewhere = Service::with(&samba, &elsewhere);
    assert_eq!(elsewhere.refusal("ada", PASSWORD).await, "no entry matches the user name");
}

#[tokio::test]
async fn filters_that_would_break_out_are_refused_before_anybody_is_asked() {
    let samba = domain().await;
    for (field, filter) in [("userSearch", "(a=b))(c=d)"), ("groupSearch", "(a=b)(c=d)")] {
        let spec = connector_with(&samba, &json!({ field: { "filter": filter } }));
        let spec = serde_json::from_value(spec).unwrap();
        let error = build("corp", &spec, &resolved(&samba)).unwrap_err().to_string();
        assert!(error.starts_with(field) && error.contains("is not an LDAP filter"), "{error}");
    }
}

#[tokio::test]
async fn start_tls_serves_and_no_bind_travels_without_tls() {
    let samba = domain().await;
    let start_tls = json!({
        "urls": [samba.ldap_url()],
        "tls": { "mode": "StartTLS", "caSecretRef": { "name": "ad", "key": "ca.crt" } },
    });
    let service = Service::with(&samba, &start_tls);
    service.probe().await.unwrap();
    service.identity("ada").await;
    // The same by a plain LDAP connector, which may be told to go without: the domain controller will not have it.
    let plain = json!({
        "displayName": "x", "recheckIntervalSeconds": 300,
        "upstream": { "ldap": {
            "urls": [samba.ldap_url()], "tls": { "mode": "Plaintext" },
            "bind": {
                "dn": "claviger@ad.example.test",
                "passwordSecretRef": { "name": "ad", "key": "password" },
            },
            "userSearch": {
                "baseDN": "DC=ad,DC=example,DC=test", "usernameAttributes": ["sAMAccountName"],
            },
        }},
    });
    let plain = Service::new(&plain, &resolved(&samba));
    let (reason, message) = plain.probe().await.unwrap_err();
    assert_eq!(reason, "UpstreamRefusedCredentials");
    assert!(message.contains("strongerAuthRequired"), "{message}");
    assert!(message.ends_with("the server wants TLS: use ldaps:// or StartTLS"), "{message}");
}

#[tokio::test]
async fn probe_tells_a_domain_controller_from_another_directory() {
    let samba = domain().await;
    let service = Service::with(&samba, &json!({}));
    service.probe().await.unwrap();
    let nowhere = Service::with(&samba, &json!({ "baseDN": "DC=nowhere,DC=example,DC=test" }));
    let (reason, message) = nowhere.probe().await.unwrap_err();
    assert_eq!(reason, "UpstreamUnusable");
    assert!(message.contains("check baseDN"), "{message}");

    let slapd = Slapd::start().await.unwrap();
    let mut resolved = resolved(&samba);
    resolved.insert("ad", "ca.crt", slapd.ca_pem().as_bytes().to_vec());
    resolved.insert("ad", "password", claviger_testkit::slapd::ADMIN_PASSWORD.as_bytes().to_vec());
    let mut spec = connector_with(
        &samba,
        &json!({ "urls": [slapd.ldaps_url()], "baseDN": claviger_testkit::slapd::BASE_DN }),
    );
    spec["upstream"]["activeDirectory"]["bind"]["name"] = json!(claviger_testkit::slapd::ADMIN_DN);
    let (reason, message) = Service::new(&spec, &resolved).probe().await.unwrap_err();
    assert_eq!(reason, "UpstreamUnusable");
    assert!(
        message.contains("no domain controller") && message.ends_with("for other directories"),
        "{message}"
    );
}

#[tokio::test]
async fn wrong_authority_and_wrong_service_password_are_the_connectors_fault() {
    let samba = domain().await;
    let other = claviger_testkit::CertificateAuthority::create("other").unwrap();
    let mut wrong = resolved(&samba);
    wrong.insert("ad", "ca.crt", other.certificate_pem().as_bytes().to_vec());
    let service = Service::new(&connector(&samba), &wrong);
    assert!(service.outage("ada").await.contains("UnknownIssuer"));
    assert_eq!(service.probe().await.unwrap_err().0, "UpstreamUntrusted");

    let mut wrong = resolved(&samba);
    wrong.insert("ad", "password", b"wrong".to_vec());
    let service = Service::new(&connector(&samba), &wrong);
    let why = service.outage("ada").await;
    assert!(
        why.contains("wrong password (data 52e)") && why.contains("its password in the Secret"),
        "{why}"
    );
    assert_eq!(service.probe().await.unwrap_err().0, "UpstreamRefusedCredentials");
    // The account is not locked by this: the right password, given while running, serves.
    eventually(Duration::from_secs(5), async || {
        ensure!(Service::with(&samba, &json!({})).login("ada", PASSWORD).await.is_ok(), "not yet");
        Ok(())
    })
    .await
    .unwrap();
}
