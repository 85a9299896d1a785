//! How the directory is reached: LDAPS, `StartTLS`, plaintext only when said; what is checked.

use claviger_api::Reason;
use claviger_connectors::{Purpose, SecretRef, build, secret_refs};
use claviger_testkit::CertificateAuthority;
use claviger_testkit::pki::CertifiedKey;
use serde_json::{Value, json};

use crate::fixture::*;
use crate::front::{Front, acceptor};

#[tokio::test]
async fn ldaps_start_tls_and_plaintext_serve_where_said() {
    let slapd = directory().await;
    slapd.add(&person("ada", "")).unwrap();
    let mut start_tls = connector(&slapd);
    ldap(&mut start_tls)["urls"] = json!([slapd.ldap_url()]);
    ldap(&mut start_tls)["tls"]["mode"] = json!("StartTLS");
    for (spec, protected) in
        [(connector(&slapd), true), (start_tls, true), (plain_connector(&slapd), false)]
    {
        let watch = Watch::on(&slapd);
        let service = Service::of(&spec, &slapd);
        service.probe().await.unwrap();
        service.identity("ada").await;
        service.refusal("ada", "wrong").await;
        let established = watch.text().matches(" TLS established").count();
        let expected = if protected { watch.connections() } else { 0 };
        assert_eq!(established, expected, "every connection or none: {}", watch.text());
        assert!(watch.connections() >= 3);
    }
}

#[tokio::test]
async fn certificate_of_another_authority_is_refused_with_the_fix() {
    let slapd = directory().await;
    slapd.add(&person("ada", "")).unwrap();
    let other = CertificateAuthority::create("other").unwrap();
    let mut resolved = resolved(&slapd);
    resolved.insert("directory", "ca.crt", other.certificate_pem().as_bytes().to_vec());
    let mut start_tls = connector(&slapd);
    ldap(&mut start_tls)["urls"] = json!([slapd.ldap_url()]);
    ldap(&mut start_tls)["tls"]["mode"] = json!("StartTLS");
    for spec in [connector(&slapd), start_tls] {
        let watch = Watch::on(&slapd);
        let service = Service::new(&spec, &resolved);
        let why = service.outage("ada").await;
        assert!(why.contains("UnknownIssuer") && why.contains("issuing CA"), "{why}");
        assert_eq!(service.probe().await.unwrap_err().0, "UpstreamUntrusted");
        assert_eq!(watch.binds(), 0, "no password without a checked server: {}", watch.text());
    }
    // Without a CA of the connector's, the system's are trusted, and this is none of them.
    let mut system = connector(&slapd);
    ldap(&mut system)["tls"] = json!({});
    let spec = serde_json::from_value(system.clone()).unwrap();
    match build("directory", &spec, &resolved) {
        Ok(_) => assert_eq!(
            Service::new(&system, &resolved).probe().await.unwrap_err().0,
            "UpstreamUntrusted"
        ),
        Err(error) => assert!(error.to_string().contains("system trusts no"), "{error}"),
    }
}

#[tokio::test]
async fn verification_is_skipped_only_when_said() {
    let slapd = directory().await;
    slapd.add(&person("ada", "")).unwrap();
    let mut spec = connector(&slapd);
    ldap(&mut spec)["tls"] = json!({ "serverVerification": "InsecureSkip" });
    Service::of(&spec, &slapd).identity("ada").await;
}

#[tokio::test]
async fn certificate_for_another_name_is_refused_with_the_fix() {
    let slapd = directory().await;
    let front = Front::start(&slapd.ldaps_address(), "127.0.0.2", None).await;
    let mut spec = connector(&slapd);
    ldap(&mut spec)["urls"] = json!([front.url("ldaps")]);
    let (reason, message) = Service::of(&spec, &slapd).probe().await.unwrap_err();
    assert_eq!(reason, "UpstreamUntrusted");
    assert!(message.contains("not valid for name"), "{message}");
    assert!(message.contains("use one of them in the Connector's URL"), "{message}");
}

#[tokio::test]
async fn authoritys_own_certificate_as_the_servers_is_refused_with_the_fix() {
    let slapd = directory().await;
    let authority = CertificateAuthority::create("home-made").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("ca.key");
    authority.save(&folder.path().join("ca.crt"), &key).unwrap();
    let own = CertifiedKey {
        certificate_pem: authority.certificate_pem().to_owned(),
        key_pem: std::fs::read_to_string(key).unwrap(),
    };
    let acceptor = acceptor(&own, None);
    let front = Front::start(&slapd.ldap_address(), "127.0.0.1", Some(acceptor)).await;
    let mut spec = connector(&slapd);
    ldap(&mut spec)["urls"] = json!([front.url("ldaps")]);
    ldap(&mut spec)["tls"] = json!({ "caBundle": authority.certificate_pem() });
    let (_, message) = Service::of(&spec, &slapd).probe().await.unwrap_err();
    assert!(message.contains("shows a CA certificate as its own"), "{message}");
}

#[tokio::test]
async fn client_certificate_is_shown_to_a_server_that_asks() {
    let slapd = directory().await;
    slapd.add(&person("ada", "")).unwrap();
    let authority = CertificateAuthority::create("mutual").unwrap();
    let server = authority.server(&[], &[]).unwrap();
    let acceptor = acceptor(&server, Some(&authority));
    let front = Front::start(&slapd.ldap_address(), "127.0.0.1", Some(acceptor)).await;
    let mut spec = connector(&slapd);
    ldap(&mut spec)["urls"] = json!([front.url("ldaps")]);
    ldap(&mut spec)["tls"] = json!({ "caBundle": authority.certificate_pem() });
    let why = Service::of(&spec, &slapd).outage("ada").await;
    assert!(why.contains("does it ask for a client certificate?"), "{why}");
    ldap(&mut spec)["tls"]["clientCertificateSecretRef"] = json!({ "name": "client" });
    let client = authority.client("claviger", &[]).unwrap();
    let mut resolved = resolved(&slapd);
    resolved.insert("client", "tls.crt", client.certificate_pem.into_bytes());
    resolved.insert("client", "tls.key", client.key_pem.into_bytes());
    let service = Service::new(&spec, &resolved);
    service.probe().await.unwrap();
    service.identity("ada").await;
}

#[tokio::test]
async fn inline_authority_does_as_well() {
    let slapd = directory().await;
    let mut spec = connector(&slapd);
    ldap(&mut spec)["tls"] = json!({ "caBundle": slapd.ca_pem() });
    Service::of(&spec, &slapd).probe().await.unwrap();
}

/// Spoils `upstream.ldap`.
type Change = fn(&mut Value);

async fn build_error(change: Change) -> (Reason, String) {
    let slapd = directory().await;
    let mut spec = connector(&slapd);
    change(ldap(&mut spec));
    let spec = serde_json::from_value(spec).unwrap();
    let error = build("directory", &spec, &resolved(&slapd)).unwrap_err();
    (error.reason(), error.to_string())
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_by_name() {
    let cases: [(Reason, &str, Change); 8] = [
        (Reason::InvalidSpec, "ldaps://", |ldap| {
            ldap["urls"] = json!(["ldap://127.0.0.1"]);
        }),
        (Reason::InvalidSpec, "use bind", |ldap| {
            ldap["urls"] = json!(["ldaps://user:pw@127.0.0.1"]);
        }),
        (Reason::InvalidSpec, "no host", |ldap| {
            ldap["urls"] = json!(["ldaps:///"]);
        }),
        (Reason::SecretKeyNotFound, "bind password", |ldap| {
            ldap["bind"]["passwordSecretRef"]["key"] = json!("absent");
        }),
        (Reason::SecretKeyNotFound, "client certificate", |ldap| {
            ldap["tls"]["clientCertificateSecretRef"] = json!({ "name": "absent" });
        }),
        (Reason::InvalidSpec, "userSearch", |ldap| {
            ldap["userSearch"]["filter"] = json!("(a=b))(c=d)");
        }),
        (Reason::InvalidSpec, "attribute name", |ldap| {
            ldap["userSearch"]["usernameAttributes"] = json!(["uid)(x"]);
        }),
        (Reason::InvalidSpec, "distinguished name", |ldap| {
            ldap["userSearch"]["baseDN"] = json!("example.org");
        }),
    ];
    for (reason, fragment, change) in cases {
        let (found, message) = build_error(change).await;
        assert_eq!(found, reason, "{message}");
        assert!(message.contains(fragment), "{message}");
    }
}

#[tokio::test]
async fn secrets_that_cannot_be_right_are_refused_without_showing_them() {
    let slapd = directory().await;
    let spec = serde_json::from_value(connector(&slapd)).unwrap();
    for (key, value, fragment) in [
        ("password", &b"top-secret\n"[..], "line feed"),
        ("password", b"", "empty"),
        ("password", &[0xff, 0xfe], "UTF-8"),
        ("ca.crt", b"top-secret", "no usable PEM certificate"),
    ] {
        let mut resolved = resolved(&slapd);
        resolved.insert("directory", key, value.to_vec());
        let error = build("directory", &spec, &resolved).unwrap_err();
        assert_eq!(error.reason(), Reason::SecretInvalid, "{error}");
        let message = error.to_string();
        assert!(message.contains(fragment), "{message}");
        assert!(!message.contains("top-secret"), "{message}");
    }
}

#[tokio::test]
async fn needed_secrets_are_named() {
    let slapd = directory().await;
    let mut spec = connector(&slapd);
    ldap(&mut spec)["tls"]["clientCertificateSecretRef"] = json!({ "name": "client" });
    let refs = secret_refs(&serde_json::from_value(spec).unwrap());
    let of = |name: &str, key: &str, purpose| SecretRef {
        name: name.to_owned(),
        key: key.to_owned(),
        purpose,
    };
    assert_eq!(
        refs,
        [
            of("directory", "password", Purpose::BindPassword),
            of("directory", "ca.crt", Purpose::CertificateAuthority),
            of("client", "tls.crt", Purpose::ClientCertificate),
            of("client", "tls.key", Purpose::ClientKey),
        ]
    );
}
