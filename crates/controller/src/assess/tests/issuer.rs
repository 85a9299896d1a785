use super::*;
use claviger_domain::issuer::IssuerUrl;

fn word(fixture: &mut Fixture, condition: &str) -> String {
    fixture.assess().word("OIDCIssuer", (HOME, "main"), condition)
}

#[test]
fn a_broken_connector_never_takes_its_issuer_out_of_service() {
    let mut fixture = Fixture::new();
    fixture.issuer("main", json!({"connectors": [{"name": "local"}, {"name": "gone"}]}));
    let assessment = fixture.assess();
    let main = (HOME, "main");
    assert_eq!(assessment.word("OIDCIssuer", main, "Ready"), "False/ConnectorNotFound");
    assert_eq!(assessment.word("OIDCIssuer", main, "ResolvedRefs"), "True/ResolvedRefs");
    let issuer = assessment.issuer("main").unwrap();
    assert_eq!(issuer.connectors.len(), 1);
    assert!(issuer.unavailable_connectors.is_empty(), "nobody waits for what does not exist");
}

#[test]
fn an_issuer_out_of_service_is_not_in_the_snapshot() {
    let table = [
        (json!({"url": "http://id.example.com"}), "Accepted", "False/InvalidSpec"),
        (json!({"url": "https://id.example.com/?x"}), "Accepted", "False/InvalidSpec"),
        (json!({"signingKeys": [{"name": "no"}]}), "ResolvedRefs", "False/SigningKeyNotFound"),
        (json!({"tls": {"secretRef": {"name": "cert"}}}), "ResolvedRefs", "False/SecretNotFound"),
    ];
    for (spec, condition, wanted) in table {
        let mut fixture = Fixture::new();
        fixture.issuer("main", spec.clone());
        fixture.client(HOME, "app", json!({}));
        let assessment = fixture.assess();
        assert_eq!(assessment.word("OIDCIssuer", (HOME, "main"), condition), wanted, "{spec}");
        assert!(assessment.issuer("main").is_none(), "{spec}");
        assert_eq!(assessment.client_word(HOME, "app", "ResolvedRefs"), "False/IssuerNotReady");
        let url = spec["url"].as_str().unwrap_or("https://id.example.com");
        let unavailable: Vec<_> = IssuerUrl::parse(url).into_iter().collect();
        assert_eq!(assessment.snapshot.unavailable, unavailable, "{spec}");
    }
}

#[test]
fn http_is_served_where_it_was_asked_for() {
    let mut fixture = Fixture::new();
    fixture.issuer("main", json!({"url": "http://localhost:5556", "insecureHTTP": "Allowed"}));
    assert_eq!(word(&mut fixture, "Ready"), "True/Ready");
}

#[test]
fn of_two_issuers_with_one_url_the_oldest_has_it() {
    for url in ["https://id.example.com", "https://ID.example.com:443"] {
        let mut fixture = Fixture::new();
        fixture.issuer("second", json!({"url": url}));
        fixture.issuer("third", json!({"url": "https://id.example.com/third"}));
        let assessment = fixture.assess();
        let second = (HOME, "second");
        assert_eq!(assessment.word("OIDCIssuer", second, "Accepted"), "False/IssuerURLConflict");
        assert!(assessment.issuer("second").is_none());
        assert!(assessment.issuer("main").is_some() && assessment.issuer("third").is_some());
    }
}

#[test]
fn a_serving_certificate_needs_the_label_tls_and_both_keys() {
    let certificate = ("tls.crt", "-----BEGIN CERTIFICATE-----\nx");
    let key = ("tls.key", "-----BEGIN PRIVATE KEY-----\nx");
    let table = [
        ("connector", vec![certificate, key], "False/SecretNotLabelled"),
        ("tls", vec![certificate], "False/SecretKeyNotFound"),
        ("tls", vec![("tls.crt", "nonsense"), key], "False/SecretInvalid"),
        ("tls", vec![certificate, key], "True/ResolvedRefs"),
    ];
    for (label, data, wanted) in table {
        let mut fixture = Fixture::new();
        fixture.issuer("main", json!({"tls": {"secretRef": {"name": "cert"}}}));
        fixture.secret((HOME, "cert"), label, &data);
        assert_eq!(word(&mut fixture, "ResolvedRefs"), wanted);
    }
}
