//! Dynamic registration: on only where what is registered would be served.

use claviger_domain::client::Grant;

use super::*;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn fixture(spec: Value) -> Fixture {
    let mut fixture = Fixture::new();
    fixture.secret((HOME, "initial"), "registration", &[("token", TOKEN), ("short", "0123")]);
    fixture.secret((HOME, "wrong"), "client", &[("token", TOKEN)]);
    let on = json!({
        "dynamicRegistration": {
            "namespace": TENANT,
            "initialAccessTokens": [{"name": "initial", "key": "token"}],
            "maxClients": 100,
        },
    });
    fixture.issuer("main", merged(on, spec));
    fixture
}

#[test]
fn what_may_be_registered_is_what_tenants_may_have() {
    let jwt_bearer = "urn:ietf:params:oauth:grant-type:jwt-bearer";
    let offered = json!(["authorization_code", "refresh_token", "password", jwt_bearer]);
    let tenants = json!({"grants": offered, "tenants": {
        "allowedGrants": ["authorization_code", "client_credentials", "password", jwt_bearer],
        "allowedScopes": ["openid", "email"],
        "allowedRedirectURIHosts": ["app.example.com"],
        "allowedBackChannelLogoutHosts": ["out.example.com"],
    }});
    let assessment = fixture(tenants).assess();
    let registration = assessment.issuer("main").unwrap().registration.clone().unwrap();
    assert_eq!(registration.namespace, TENANT);
    assert_eq!(registration.max_clients, 100);
    // The issuer itself offers no client_credentials, and no registration says what the last two need.
    assert_eq!(
        registration.bounds.grants.into_iter().collect::<Vec<_>>(),
        [Grant::AuthorizationCode]
    );
    assert_eq!(registration.bounds.scopes.into_iter().collect::<Vec<_>>(), ["email", "openid"]);
    assert_eq!(registration.bounds.redirect_hosts, ["app.example.com"]);
    assert!(registration.bounds.jwks_hosts.is_empty());
    assert_eq!(registration.bounds.back_channel_hosts, ["out.example.com"]);
    assert_eq!(assessment.word("OIDCIssuer", (HOME, "main"), "Ready"), "True/Ready");
}

#[test]
fn what_is_wrong_takes_registration_away_and_nothing_else() {
    let registration = |change: Value| {
        let base = json!({
            "namespace": TENANT,
            "initialAccessTokens": [{"name": "initial", "key": "token"}],
        });
        json!({"dynamicRegistration": merged(base, change)})
    };
    for (spec, reason) in [
        (registration(json!({"namespace": HOME})), "InvalidSpec"),
        (registration(json!({"namespace": "team-b"})), "SecretAccessDenied"),
        (
            registration(json!({"initialAccessTokens": [{"name": "initial", "key": "short"}]})),
            "SecretInvalid",
        ),
        (
            registration(json!({"initialAccessTokens": [{"name": "wrong", "key": "token"}]})),
            "SecretNotLabelled",
        ),
        (
            registration(json!({"initialAccessTokens": [{"name": "none", "key": "token"}]})),
            "SecretNotFound",
        ),
        (json!({"allowedClients": {"namespaces": {"from": "Same"}}}), "InvalidSpec"),
    ] {
        let assessment = fixture(spec.clone()).assess();
        assert_eq!(
            assessment.word("OIDCIssuer", (HOME, "main"), "Ready"),
            format!("False/{reason}"),
            "{spec}"
        );
        assert!(assessment.issuer("main").unwrap().registration.is_none(), "{spec}");
    }
}

#[test]
fn a_client_manages_itself_only_where_clients_register() {
    let digest = "d".repeat(43);
    let mut fixture = fixture(json!({}));
    let spec = json!({
        "registration": {"accessTokenDigest": digest},
        "information": {"policyURI": "https://app.example.com/policy"},
    });
    fixture.client(TENANT, "app", spec.clone());
    let elsewhere = json!({"information": {"logoURI": "https://evil.example.com/kubectl.png"}});
    fixture.client(TENANT, "lookalike", elsewhere.clone());
    fixture.client(HOME, "own", elsewhere);
    fixture.client(HOME, "app", spec);
    let assessment = fixture.assess();
    let registered = assessment.served("team-a/app").unwrap();
    assert_eq!(registered.registration_digest, Some(digest));
    assert_eq!(registered.pages.policy.as_deref(), Some("https://app.example.com/policy"));
    assert_eq!(assessment.served("app").unwrap().registration_digest, None);
    let word = assessment.client_word(TENANT, "lookalike", "Accepted");
    assert_eq!(word, "False/TenantPolicyViolation");
    assert!(assessment.served("own").is_some());
}

#[test]
fn a_client_that_is_out_of_service_is_known_by_its_uid_token_and_secrets() {
    let digest = "d".repeat(43);
    let said = |change: Value| {
        let spec = json!({
            "issuerRef": {"name": "main", "namespace": HOME},
            "type": "Confidential",
            "registration": {"accessTokenDigest": digest},
            "authentication": {"secretRef": {"name": "own", "key": "client_secret"}},
        });
        merged(spec, change)
    };
    for (spec, secret_is_there, is_readable) in [
        (said(json!({"redirectURIs": ["https://app.example.net/callback"]})), true, true),
        (said(json!({})), false, true),
        (said(json!({"redirectURIs": 7})), true, false),
    ] {
        let mut fixture = fixture(json!({}));
        if secret_is_there {
            fixture.secret((TENANT, "own"), "client", &[("client_secret", TOKEN)]);
        }
        if is_readable {
            fixture.client(TENANT, "own", spec.clone());
        } else {
            fixture.unreadable(Source::Clients, (TENANT, "own"), spec.clone());
        }
        let uid = format!("uid-{}", fixture.made);
        let assessment = fixture.assess();
        let Some(ClientEntry::OutOfService(client)) = assessment.entry(&format!("{TENANT}/own"))
        else {
            panic!("{spec}");
        };
        assert_eq!(client.uid, uid);
        assert_eq!(client.registration_digest.as_ref(), Some(&digest));
        let known = usize::from(secret_is_there && is_readable);
        assert_eq!(client.secrets.len(), known, "{spec}");
    }
}
