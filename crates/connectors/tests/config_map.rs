//! Certificate authorities from a `ConfigMap`, at every connector that speaks to a server.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use claviger_api::{ConnectorSpec, Reason};
use claviger_connectors::{BuildError, Resolved, Upstream, build, config_map_ref, secret_refs};
use claviger_testkit::CertificateAuthority;
use serde_json::{Value, json};

/// Every upstream that has `tls`, with the least that it needs.
fn upstreams() -> Vec<(&'static str, Value)> {
    let client = json!({"clientID": "claviger", "clientSecretRef": {"name": "corp", "key": "s"}});
    let with = |more: Value| {
        let mut all = client.clone();
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    let bind = json!({"dn": "cn=claviger,dc=example,dc=com", "passwordSecretRef": {"name": "corp", "key": "s"}});
    let base = "dc=example,dc=com";
    vec![
        (
            "ldap",
            json!({
                "urls": ["ldaps://ldap.example.com"], "bind": bind,
                "userSearch": {"baseDN": base, "usernameAttributes": ["uid"]},
            }),
        ),
        (
            "activeDirectory",
            json!({
                "urls": ["ldaps://dc1.example.com"],
                "bind": {"name": "claviger@example.com", "passwordSecretRef": {"name": "corp", "key": "s"}},
                "baseDN": base,
            }),
        ),
        ("oidc", with(json!({"issuer": "https://idp.example.com"}))),
        ("saml", json!({"metadataURL": "https://idp.example.com/metadata", "attributes": {}})),
        ("google", with(json!({}))),
        ("linkedin", with(json!({}))),
        ("microsoft", with(json!({"tenant": "consumers"}))),
        ("github", with(json!({}))),
        ("gitlab", with(json!({}))),
        ("gitea", with(json!({"url": "https://git.example.com"}))),
        ("bitbucketCloud", with(json!({}))),
        (
            "oauth2",
            with(json!({
                "authorizationURL": "https://a.example.com/auth", "tokenURL": "https://a.example.com/token",
                "userinfoURL": "https://a.example.com/me",
            })),
        ),
        (
            "keystone",
            json!({
                "url": "https://keystone.example.com/v3", "domain": {"id": "default"},
                "serviceAccount": {
                    "name": "claviger", "passwordSecretRef": {"name": "corp", "key": "s"}, "scope": "System",
                },
            }),
        ),
    ]
}

fn made(spec: &ConnectorSpec, config_map: Option<&str>) -> Result<Upstream, BuildError> {
    let mut resolved = Resolved::default();
    resolved.config_map = config_map.map(str::to_owned);
    for reference in secret_refs(spec) {
        resolved.insert(&reference.name, &reference.key, b"a secret".to_vec());
    }
    build("corp", spec, &resolved)
}

#[test]
fn every_upstream_reads_its_authorities_from_the_config_map_that_it_names() {
    let authority = CertificateAuthority::create("corp").unwrap();
    for (kind, mut upstream) in upstreams() {
        upstream["tls"] = json!({"caConfigMapRef": {"name": "corp-ca"}});
        let spec = json!({"displayName": "Corp", "upstream": {kind: upstream}});
        let spec: ConnectorSpec = serde_json::from_value(spec).unwrap();
        let at = config_map_ref(&spec).unwrap();
        assert_eq!((at.name.as_str(), at.key.as_str()), ("corp-ca", "ca.crt"), "{kind}");
        let missing = made(&spec, None).unwrap_err();
        assert_eq!(missing.reason(), Reason::ConfigMapKeyNotFound, "{kind}: {missing}");
        let unusable = made(&spec, Some("no certificate")).unwrap_err().to_string();
        assert!(unusable.contains("CA bundle"), "{kind}: {unusable}");
        made(&spec, Some(authority.certificate_pem())).unwrap();
    }
}
