//! Which peers an authProxy connector believes: real certificates, rustls' verdict.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::net::IpAddr;

use claviger_api::ConnectorSpec;
use claviger_connectors::{BuildError, Resolved, build, secret_refs};
use claviger_domain::connector::{Login, Refresh};
use claviger_domain::proxy::{ProxyError, ProxyRequest};
use claviger_testkit::CertificateAuthority;
use claviger_testkit::pki::CertifiedKey;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

const HERE: &str = "10.1.2.3";

fn spec(change: &Value, offline: i32) -> ConnectorSpec {
    let mut upstream = json!({
        "clientCASecretRef": {"name": "proxy", "key": "ca.crt"},
        "allowedClientNames": ["proxy.example.com", "spiffe://example.com/proxy"],
    });
    for (field, value) in change.as_object().unwrap() {
        upstream[field] = value.clone();
    }
    serde_json::from_value(json!({
        "displayName": "Proxy",
        "allowedGroups": ["staff"],
        "offlineSessionSeconds": offline,
        "upstream": {"authProxy": upstream},
    }))
    .unwrap()
}

fn resolved(pem: &str) -> Resolved {
    let mut resolved = Resolved::default();
    resolved.insert("proxy", "ca.crt", pem.as_bytes().to_vec());
    resolved
}

/// 2030: the certificates of tests are good for centuries.
const NOW: i64 = 1_900_000_000;

/// Signs alice in from an address with a certificate, at a moment.
fn attempt(
    authority: &CertificateAuthority,
    change: &Value,
    (identity, source, now): (&CertifiedKey, &str, i64),
) -> Result<Vec<String>, ProxyError> {
    let built = build("proxy", &spec(change, 0), &resolved(authority.certificate_pem())).unwrap();
    let Login::Proxy(login) = built.login else { panic!("{:?}", built.login) };
    let leaf = CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes()).unwrap();
    let source: IpAddr = source.parse().unwrap();
    let headers: [(&str, &[u8]); 1] = [("x-remote-user", b"alice")];
    let request = ProxyRequest { source, certificates: &[leaf.as_ref()], headers: &headers };
    login.authenticate(&request, now).map(|authenticated| authenticated.identity.groups)
}

fn word(result: Result<Vec<String>, ProxyError>) -> &'static str {
    result.map_or_else(|error| error.reason(), |_| "Believed")
}

#[test]
fn a_certificate_needs_this_authority_this_purpose_and_one_of_the_names() {
    let authority = CertificateAuthority::create("proxies").unwrap();
    let stranger = CertificateAuthority::create("proxies").unwrap();
    let named = |names: &[&str]| authority.client_named(names).unwrap();
    let table = [
        ("its DNS name", named(&["proxy.example.com"]), "Believed"),
        ("its DNS name in capitals", named(&["PROXY.example.com"]), "Believed"),
        ("its URI", named(&["spiffe://example.com/proxy"]), "Believed"),
        ("one of several", named(&["a.example.com", "proxy.example.com"]), "Believed"),
        ("another DNS name", named(&["app.example.com"]), "NameNotAllowed"),
        ("a name below", named(&["a.proxy.example.com"]), "NameNotAllowed"),
        ("a wildcard", named(&["*.example.com"]), "NameNotAllowed"),
        ("another URI", named(&["spiffe://example.com/proxy2"]), "NameNotAllowed"),
        ("the DNS name as a URI", named(&["spiffe://proxy.example.com"]), "NameNotAllowed"),
        ("no name", named(&[]), "NameNotAllowed"),
        (
            "an authority of the same name",
            stranger.client_named(&["proxy.example.com"]).unwrap(),
            "UntrustedCertificate",
        ),
        (
            "a server's certificate",
            authority.server(&["proxy.example.com"], &[]).unwrap(),
            "UntrustedCertificate",
        ),
    ];
    for (what, identity, wanted) in &table {
        let result = attempt(&authority, &json!({}), (identity, HERE, NOW));
        assert_eq!(word(result), *wanted, "{what}");
    }
}

#[test]
fn the_common_name_is_not_looked_at() {
    let authority = CertificateAuthority::create("proxies").unwrap();
    let identity = authority.client_named(&[]).unwrap(); // its common name is `client`
    let change = json!({"allowedClientNames": ["client"]});
    assert_eq!(word(attempt(&authority, &change, (&identity, HERE, NOW))), "NameNotAllowed");
    let identity = authority.client_named(&["client"]).unwrap();
    assert_eq!(word(attempt(&authority, &change, (&identity, HERE, NOW))), "Believed");
}

#[test]
fn a_certificate_is_good_only_in_its_time() {
    let authority = CertificateAuthority::create("proxies").unwrap();
    let identity = authority.client_named(&["proxy.example.com"]).unwrap();
    let at = |now| word(attempt(&authority, &json!({}), (&identity, HERE, now)));
    assert_eq!(at(NOW), "Believed");
    assert_eq!(at(0), "UntrustedCertificate", "1970");
    assert_eq!(at(100_000_000_000), "UntrustedCertificate", "the year 5138");
    assert_eq!(at(-1), "UntrustedCertificate");
}

#[test]
fn no_certificate_at_all_is_refused() {
    let authority = CertificateAuthority::create("proxies").unwrap();
    let built =
        build("proxy", &spec(&json!({}), 0), &resolved(authority.certificate_pem())).unwrap();
    let Login::Proxy(login) = built.login else { panic!("{:?}", built.login) };
    let source: IpAddr = HERE.parse().unwrap();
    let request = ProxyRequest { source, certificates: &[], headers: &[] };
    assert_eq!(login.authenticate(&request, NOW).unwrap_err().reason(), "UntrustedCertificate");
    assert!(login.verify_certificate(&[b"not DER"], NOW).is_err());
}

#[test]
fn the_source_is_an_addition_and_never_a_substitute() {
    let authority = CertificateAuthority::create("proxies").unwrap();
    let good = authority.client_named(&["proxy.example.com"]).unwrap();
    let bad = authority.client_named(&["app.example.com"]).unwrap();
    let networks = json!({"allowedSourceCIDRs": ["10.0.0.7/8", "2001:db8::/32"]});
    for (source, wanted) in [
        ("10.255.0.1", "Believed"),
        ("::ffff:10.255.0.1", "Believed"),
        ("2001:db8::1", "Believed"),
        ("11.0.0.1", "SourceNotAllowed"),
        ("::ffff:11.0.0.1", "SourceNotAllowed"),
        ("2001:db9::1", "SourceNotAllowed"),
    ] {
        assert_eq!(word(attempt(&authority, &networks, (&good, source, NOW))), wanted, "{source}");
        let other = word(attempt(&authority, &networks, (&bad, source, NOW)));
        assert_eq!(other, "NameNotAllowed", "{source}");
    }
}

#[test]
fn static_groups_are_everybodys_and_join_those_of_the_header() {
    let authority = CertificateAuthority::create("proxies").unwrap();
    let identity = authority.client_named(&["proxy.example.com"]).unwrap();
    let change =
        json!({"staticGroups": ["staff", "guests"], "headers": {"groups": "X-Remote-User"}});
    let names_one_header_twice =
        build("proxy", &spec(&change, 0), &resolved(authority.certificate_pem()));
    assert!(matches!(names_one_header_twice, Err(BuildError::AuthProxy(_))));
    let change = json!({"staticGroups": ["staff", "guests"]});
    let groups = attempt(&authority, &change, (&identity, HERE, NOW)).unwrap();
    assert_eq!(groups, ["staff", "guests"]);
}

#[test]
fn what_cannot_be_served_is_refused_with_the_field_and_the_fix() {
    let pem = CertificateAuthority::create("proxies").unwrap();
    let said = |spec: &ConnectorSpec, resolved: &Resolved| {
        build("proxy", spec, resolved).unwrap_err().to_string()
    };
    let good = resolved(pem.certificate_pem());
    let missing = said(&spec(&json!({}), 0), &Resolved::default());
    assert!(missing.contains("claviger.dev/secret=connector"), "{missing}");
    for no_ca in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let said = said(&spec(&json!({}), 0), &resolved(no_ca));
        assert!(said.contains("not usable as the authorities of the proxy's"), "{said}");
    }
    for (change, words) in [
        (json!({"allowedSourceCIDRs": ["10.0.0.0"]}), "allowedSourceCIDRs"),
        (json!({"allowedClientNames": ["*.example.com"]}), "allowedClientNames"),
        (json!({"allowedClientNames": ["127.0.0.1"]}), "allowedClientNames"),
        (json!({"headers": {"email": "X-Remote-User"}}), "headers: X-Remote-User"),
    ] {
        let said = said(&spec(&change, 0), &good);
        assert!(said.contains(words), "{said}");
    }
    let everybody = ConnectorSpec { allowed_groups: vec![], ..spec(&json!({}), 0) };
    assert!(said(&everybody, &good).contains("allowedGroups"));
}

#[test]
fn sessions_go_on_offline_only_as_long_as_the_spec_says() {
    let pem = CertificateAuthority::create("proxies").unwrap();
    let refresh = |seconds| {
        build("proxy", &spec(&json!({}), seconds), &resolved(pem.certificate_pem()))
            .unwrap()
            .refresh
    };
    assert!(matches!(refresh(0), Refresh::Unsupported));
    assert!(matches!(refresh(3600), Refresh::Offline { seconds: 3600 }));
    assert_eq!(secret_refs(&spec(&json!({}), 0)).len(), 1);
}
