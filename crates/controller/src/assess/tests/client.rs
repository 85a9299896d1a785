use super::*;
use crate::assess::client_secret::ClientSecret;
use crate::world::Obstacle;
use claviger_domain::client::{ClientAuthentication, ClientKeys, Grant, Introspection};
use secrecy::ExposeSecret;

fn confidential(authentication: Value) -> Value {
    json!({"type": "Confidential", "authentication": authentication})
}

fn generated(name: &str) -> Value {
    confidential(json!({"generatedSecret": {"name": name}}))
}

/// A tenant client with this spec, assessed.
fn tenant(spec: Value) -> Assessment {
    let mut fixture = Fixture::new();
    fixture.client(HOME, "kubernetes", json!({}));
    fixture.client(TENANT, "app", spec);
    fixture.assess()
}

fn secrets(client: &Client) -> Vec<String> {
    match &client.authentication {
        ClientAuthentication::Secret(all) => {
            all.iter().map(|secret| secret.expose_secret().to_owned()).collect()
        }
        _ => Vec::new(),
    }
}

#[test]
fn a_home_client_has_its_own_name_or_the_id_it_chose() {
    let mut fixture = Fixture::new();
    fixture.client(HOME, "plain", json!({}));
    fixture.client(HOME, "chosen", json!({"clientID": "kubernetes"}));
    let assessment = fixture.assess();
    assert!(assessment.served("plain").is_some() && assessment.served("kubernetes").is_some());
    assert!(assessment.entry("chosen").is_none());
}

#[test]
fn a_tenant_client_is_always_its_namespace_and_name() {
    let assessment = tenant(json!({}));
    assert!(assessment.served("team-a/app").is_some());
    assert!(assessment.entry("app").is_none());
}

#[test]
fn no_field_gives_a_tenant_another_client_id() {
    for id in ["kubernetes", "app", "team-a/app", "team-b/app", "claviger/app"] {
        let assessment = tenant(json!({"clientID": id}));
        assert_eq!(assessment.client_word(TENANT, "app", "Accepted"), "False/ClientIDNotAllowed");
        let issuer = assessment.issuer("main").unwrap();
        assert_eq!(issuer.clients.keys().collect::<Vec<_>>(), ["kubernetes"], "{id}");
        let served = assessment.served("kubernetes").unwrap();
        assert_eq!(served.redirect_uris.len(), 1);
        assert_eq!(assessment.client_secrets.len(), 0);
    }
}

#[test]
fn a_slash_keeps_home_ids_and_tenant_ids_apart() {
    let mut fixture = Fixture::new();
    fixture.client(HOME, "sly", json!({"clientID": "team-a/app"}));
    fixture.client(TENANT, "app", json!({}));
    let assessment = fixture.assess();
    assert_eq!(assessment.client_word(HOME, "sly", "Accepted"), "False/InvalidSpec");
    let uid = assessment.served("team-a/app").unwrap().uid.clone();
    let app = &fixture.world.clients[&ObjectKey::new(TENANT, "app")];
    assert_eq!(Some(uid), app.metadata.uid);
}

#[test]
fn of_two_clients_with_one_id_the_oldest_has_it_even_out_of_service() {
    let mut fixture = Fixture::new();
    fixture.client(HOME, "kubernetes", json!({}));
    fixture.client(HOME, "late", json!({"clientID": "kubernetes"}));
    let assessment = fixture.assess();
    assert_eq!(assessment.client_word(HOME, "late", "Accepted"), "False/ClientIDConflict");
    assert_eq!(assessment.client_word(HOME, "kubernetes", "Ready"), "True/Ready");
    let mut broken = Fixture::new();
    broken.client(HOME, "kubernetes", generated("nowhere"));
    broken.client(HOME, "late", json!({"clientID": "kubernetes"}));
    let assessment = broken.assess();
    assert_eq!(assessment.client_word(HOME, "late", "Accepted"), "False/ClientIDConflict");
    assert!(matches!(assessment.entry("kubernetes"), Some(ClientEntry::OutOfService(_))));
}

#[test]
fn the_same_id_at_two_issuers_is_no_conflict() {
    let mut fixture = Fixture::new();
    fixture.issuer("other", json!({"url": "https://other.example.com"}));
    fixture.client(HOME, "app", json!({}));
    let other = json!({"clientID": "app", "issuerRef": {"name": "other", "namespace": HOME}});
    fixture.client(HOME, "app2", other);
    let assessment = fixture.assess();
    for name in ["main", "other"] {
        assert!(assessment.issuer(name).unwrap().client("app").is_some(), "{name}");
    }
}

#[test]
fn a_client_of_somebody_elses_issuer_gets_no_status_no_entry_and_no_secret() {
    let mut fixture = Fixture::new();
    for namespace in [Value::Null, json!("other-operator")] {
        let reference = merged(json!({"name": "main"}), json!({"namespace": namespace}));
        let spec = merged(generated("creds"), json!({"issuerRef": reference}));
        fixture.client(TENANT, "app", spec);
        let assessment = fixture.assess();
        assert!(assessment.updates.iter().all(|u| u.resource.kind != "OAuth2Client"));
        assert!(assessment.issuer("main").unwrap().clients.is_empty());
        assert!(assessment.client_secrets.is_empty());
    }
}

#[test]
fn a_client_of_a_missing_issuer_is_told_so() {
    let assessment = tenant(json!({"issuerRef": {"name": "gone", "namespace": HOME}}));
    assert_eq!(assessment.client_word(TENANT, "app", "ResolvedRefs"), "False/IssuerNotFound");
}

#[test]
fn an_issuer_admits_only_the_namespaces_it_names() {
    let selector = |labels: Value| json!({"from": "Selector", "selector": {"matchLabels": labels}});
    let table = [
        (json!({"from": "Same"}), false),
        (json!({"from": "All"}), true),
        (selector(json!({"tenant": "yes"})), true),
        (selector(json!({"tenant": "no"})), false),
        (json!({"from": "Selector"}), false),
    ];
    for (namespaces, admitted) in table {
        let mut fixture = Fixture::new();
        fixture.issuer("main", json!({"allowedClients": {"namespaces": namespaces}}));
        fixture.client(TENANT, "app", generated("creds"));
        fixture.client(HOME, "app", json!({}));
        let assessment = fixture.assess();
        assert!(assessment.served("app").is_some(), "home is always admitted");
        let word = assessment.client_word(TENANT, "app", "Accepted");
        assert_eq!(word == "False/NamespaceNotAllowed", !admitted, "{namespaces}");
        assert_eq!(assessment.entry("team-a/app").is_some(), admitted, "{namespaces}");
        assert_eq!(assessment.client_secrets.len(), usize::from(admitted), "{namespaces}");
    }
}

#[test]
fn without_tenants_no_tenant_client_is_served() {
    let mut fixture = Fixture::new();
    fixture.issuer("main", json!({"tenants": null}));
    fixture.client(TENANT, "app", json!({}));
    let assessment = fixture.assess();
    assert_eq!(assessment.client_word(TENANT, "app", "Accepted"), "False/NamespaceNotAllowed");
    assert!(assessment.entry("team-a/app").is_none());
}

#[test]
fn a_tenant_that_asks_for_more_than_it_is_granted_is_refused_and_not_served() {
    let uris = |uri: &str| json!({"redirectURIs": ["https://app.example.com/callback", uri]});
    let attacks = [
        json!({"scopes": ["openid", "federated:id"]}),
        json!({"allowedConnectors": ["local", "ldap"]}),
        uris("https://evil.example.com/callback"),
        uris("https://app.example.com.evil.example/callback"),
        uris("https://app.example.com@evil.example/callback"),
        uris("https://app.example.com\\@evil.example/callback"),
        uris("https://team-a.example.com/callback"),
        uris("https://evilteam-a.example.com/callback"),
        uris("https://.team-a.example.com/callback"),
        json!({"postLogoutRedirectURIs": ["https://evil.example.com/bye"]}),
        uris("http://localhost/callback"),
        uris("http://127.0.0.1/callback"),
        uris("com.example.app:/callback"),
        uris("https://evil.example/?https://app.example.com/"),
    ];
    for spec in attacks {
        let assessment = tenant(spec.clone());
        let (status, reason, _) = assessment.said("OAuth2Client", (TENANT, "app"), "Accepted");
        assert_eq!(status, "False", "{spec}");
        assert!(["TenantPolicyViolation", "InvalidSpec"].contains(&reason.as_str()), "{spec}");
        assert!(assessment.served("team-a/app").is_none(), "{spec}");
        assert!(assessment.client_secrets.is_empty(), "{spec}");
    }
}

#[test]
fn hosts_below_a_wildcard_and_any_port_are_admitted() {
    let uris = json!([
        "https://one.team-a.example.com/x",
        "https://a.b.team-a.example.com:8443/",
        "https://APP.example.com/callback"
    ]);
    let assessment = tenant(json!({"redirectURIs": uris}));
    assert_eq!(assessment.client_word(TENANT, "app", "Ready"), "True/Ready");
}

#[test]
fn what_a_tenant_gets_by_default_is_cut_to_what_is_granted() {
    let mut fixture = Fixture::new();
    fixture.issuer(
        "main",
        json!({"tenants": {
            "allowedConnectors": ["local"],
            "allowedRedirectURIHosts": ["app.example.com"],
            "allowedScopes": ["openid", "email"],
            "allowedGrants": ["authorization_code"],
            "maxIDTokenLifetimeSeconds": 120,
            "maxRefreshTokenLifetimeSeconds": 3600,
        }}),
    );
    let long = json!({"idTokenLifetimeSeconds": 86_400, "refreshTokenIdleSeconds": 86_400,
        "refreshTokenAbsoluteSeconds": 31_536_000, "consent": "Skip"});
    fixture.client(TENANT, "app", long);
    let assessment = fixture.assess();
    let client = assessment.served("team-a/app").unwrap();
    assert_eq!(client.scopes.iter().map(String::as_str).collect::<Vec<_>>(), ["email", "openid"]);
    assert_eq!(client.grants.iter().copied().collect::<Vec<_>>(), [Grant::AuthorizationCode]);
    assert_eq!(client.lifetimes.id_token, 120);
    assert_eq!(client.lifetimes.access_token, 120);
    assert_eq!((client.lifetimes.refresh_idle, client.lifetimes.refresh_absolute), (3_600, 3_600));
    assert!(client.consent_required, "a tenant may not skip consent unless it is granted");
    assert!(client.allowed_connectors.as_ref().is_some_and(|only| only.contains("local")));
    let (_, _, message) = assessment.said("OAuth2Client", (TENANT, "app"), "Accepted");
    assert!(message.contains("scope groups is withheld"), "{message}");
}

#[test]
fn the_stricter_of_two_lifetimes_wins_whoever_said_it() {
    for (own, wanted) in [(60, 60), (3_600, 3_600), (7_200, 3_600)] {
        let asked = json!({"idTokenLifetimeSeconds": own, "accessTokenLifetimeSeconds": own});
        let assessment = tenant(asked);
        let lifetimes = assessment.served("team-a/app").unwrap().lifetimes;
        assert_eq!((lifetimes.id_token, lifetimes.access_token), (wanted, wanted));
    }
}

#[test]
fn consent_is_the_issuers_the_clients_or_the_tenants_whichever_may_say() {
    let table = [
        (HOME, "Required", None, Some("Skip"), false),
        (HOME, "Skip", None, None, false),
        (HOME, "Skip", None, Some("Required"), true),
        (TENANT, "Skip", Some("Required"), Some("Skip"), true),
        (TENANT, "Required", Some("ClientChoice"), Some("Skip"), false),
        (TENANT, "Required", Some("ClientChoice"), None, true),
    ];
    for (namespace, issuer, tenants, client, wanted) in table {
        let mut fixture = Fixture::new();
        let policy = json!({"allowedConnectors": ["local"],
            "allowedRedirectURIHosts": ["app.example.com"],
            "consent": tenants.unwrap_or("Required")});
        fixture.issuer("main", json!({"consent": issuer, "tenants": policy}));
        fixture.client(namespace, "app", json!({"consent": client}));
        let assessment = fixture.assess();
        let id = if namespace == HOME { "app" } else { "team-a/app" };
        assert_eq!(assessment.served(id).unwrap().consent_required, wanted, "{issuer} {client:?}");
    }
}

#[test]
fn a_tenant_without_granted_connectors_is_refused_instead_of_locked_out() {
    for grant in ["authorization_code", "urn:ietf:params:oauth:grant-type:device_code", "password"]
    {
        let mut fixture = Fixture::new();
        let tenants =
            json!({"allowedRedirectURIHosts": ["app.example.com"], "allowedGrants": [grant]});
        fixture.issuer("main", json!({"grants": [grant], "tenants": tenants}));
        fixture.client(TENANT, "app", json!({"grants": [grant]}));
        let assessment = fixture.assess();
        let (status, reason, message) =
            assessment.said("OAuth2Client", (TENANT, "app"), "Accepted");
        assert_eq!((status.as_str(), reason.as_str()), ("False", "TenantPolicyViolation"));
        assert!(message.contains("so nobody could sign in"), "{grant}: {message}");
    }
}

#[test]
fn trusting_peers_opens_only_the_trusting_clients_own_audience() {
    let mut fixture = Fixture::new();
    fixture.client(HOME, "kubernetes", json!({}));
    fixture.client(TENANT, "app", json!({"trustedPeers": ["kubernetes", "team-a/app"]}));
    let assessment = fixture.assess();
    assert!(assessment.served("kubernetes").unwrap().trusted_peers.is_empty());
    assert_eq!(assessment.served("team-a/app").unwrap().trusted_peers.len(), 2);
}

#[test]
fn a_given_secret_needs_the_label_the_key_and_some_length() {
    let good = ("secret", "0123456789abcdef\n");
    let table = [
        ("connector", good, "False/SecretNotLabelled"),
        ("client", ("other", "0123456789abcdef"), "False/SecretKeyNotFound"),
        ("client", ("secret", "short"), "False/SecretInvalid"),
        ("client", good, "True/ResolvedRefs"),
    ];
    for (label, data, wanted) in table {
        let mut fixture = Fixture::new();
        let reference = json!({"secretRef": {"name": "mine", "key": "secret"}});
        fixture.client(HOME, "app", confidential(reference));
        fixture.secret((HOME, "mine"), label, &[data]);
        let assessment = fixture.assess();
        assert_eq!(assessment.client_word(HOME, "app", "ResolvedRefs"), wanted, "{label}");
        match assessment.entry("app") {
            Some(ClientEntry::InService(client)) => {
                assert_eq!(secrets(client), ["0123456789abcdef"]);
                assert_eq!(wanted, "True/ResolvedRefs");
            }
            entry => {
                assert!(matches!(entry, Some(ClientEntry::OutOfService(_))), "its sessions wait");
            }
        }
    }
}

#[test]
fn secrets_of_a_namespace_that_is_not_watched_or_is_forbidden_name_the_rolebinding() {
    let source = Source::Secrets(TENANT.to_owned());
    for progress in [None, Some(Progress::Denied)] {
        let mut fixture = Fixture::new();
        fixture.world.sources.remove(&source);
        fixture.world.sources.extend(progress.map(|progress| (source.clone(), progress)));
        fixture.client(TENANT, "app", generated("creds"));
        let assessment = fixture.assess();
        let (_, reason, message) = assessment.said("OAuth2Client", (TENANT, "app"), "ResolvedRefs");
        assert_eq!(reason, "SecretAccessDenied");
        assert!(message.contains("rolebinding claviger-secrets --namespace team-a"), "{message}");
        assert!(assessment.client_secrets.is_empty());
    }
}

#[test]
fn type_and_authentication_must_fit() {
    let public_with_secret =
        json!({"type": "Public", "authentication": {"generatedSecret": {"name": "x"}}});
    for spec in [public_with_secret, json!({"type": "Confidential"})] {
        let mut fixture = Fixture::new();
        fixture.client(HOME, "app", spec);
        let assessment = fixture.assess();
        assert_eq!(assessment.client_word(HOME, "app", "Accepted"), "False/InvalidSpec");
        assert!(assessment.served("app").is_none());
        assert!(assessment.client_secrets.is_empty());
    }
}

#[test]
fn an_algorithm_nobody_signs_is_refused() {
    let mut fixture = Fixture::new();
    fixture.client(HOME, "app", json!({"idTokenSigningAlgorithm": "RS256"}));
    fixture.client(HOME, "asks", json!({"userinfoSigningAlgorithm": "RS256"}));
    fixture.client(HOME, "signed", json!({"userinfoSigningAlgorithm": "ES256"}));
    let assessment = fixture.assess();
    assert_eq!(assessment.client_word(HOME, "app", "Accepted"), "False/AlgorithmNotAvailable");
    assert_eq!(assessment.client_word(HOME, "asks", "Accepted"), "False/AlgorithmNotAvailable");
    let signed = assessment.served("signed").unwrap().userinfo_algorithm;
    assert_eq!(signed, Some(Algorithm::ES256));
    assert!(matches!(assessment.entry("app"), Some(ClientEntry::OutOfService(_))));
}

#[test]
fn public_clients_must_use_pkce_whatever_they_say() {
    let mut fixture = Fixture::new();
    fixture.client(HOME, "app", json!({"pkce": "Optional"}));
    assert!(fixture.assess().served("app").unwrap().pkce_required);
}

/// A Secret as Claviger makes it for the client of this UID.
fn add_generated(fixture: &mut Fixture, name: &str, owner: &str) {
    let data = [
        ("client_id", "team-a/app"),
        ("client_secret", "0123456789abcdef"),
        ("client_secret_previous", "fedcba9876543210"),
        ("issuer", "https://id.example.com"),
    ];
    fixture.secret((TENANT, name), "client", &data);
    let key = ObjectKey::new(TENANT, name);
    let secret = fixture.world.secrets.get_mut(&key).map(Arc::make_mut).unwrap();
    secret.metadata.owner_references = Some(vec![serde_json::from_value(json!({
        "apiVersion": "claviger.dev/v1alpha1", "kind": "OAuth2Client", "name": "app", "uid": owner,
    }))
    .unwrap()]);
    secret.metadata.annotations =
        Some(BTreeMap::from([(labels::ROTATION.to_owned(), "0".to_owned())]));
}

fn wanted(assessment: &Assessment) -> Option<&ClientSecret> {
    assessment.client_secrets.first()
}

#[test]
fn a_generated_secret_is_planned_then_served_with_the_one_before() {
    let mut fixture = Fixture::new();
    fixture.client(TENANT, "app", generated("creds"));
    let assessment = fixture.assess();
    assert_eq!(assessment.client_word(TENANT, "app", "ResolvedRefs"), "False/Progressing");
    assert!(wanted(&assessment).is_some_and(|secret| secret.observed.is_none()));
    let uid = wanted(&assessment).unwrap().client_uid.clone();
    add_generated(&mut fixture, "creds", &uid);
    let assessment = fixture.assess();
    let client = assessment.served("team-a/app").unwrap();
    assert_eq!(secrets(client), ["0123456789abcdef", "fedcba9876543210"]);
    assert!(wanted(&assessment).unwrap().wanted(|| "new".into()).is_none(), "nothing to write");
}

#[test]
fn a_secret_of_another_client_or_of_nobody_is_never_used_or_planned() {
    let mut other = Fixture::new();
    other.client(TENANT, "app", generated("creds"));
    add_generated(&mut other, "creds", "uid-of-the-client-before");
    let mut nobody = Fixture::new();
    nobody.client(TENANT, "app", generated("creds"));
    nobody.secret((TENANT, "creds"), "client", &[("client_secret", "0123456789abcdef")]);
    for fixture in [&mut other, &mut nobody] {
        let assessment = fixture.assess();
        assert_eq!(assessment.client_word(TENANT, "app", "ResolvedRefs"), "False/SecretNotOwned");
        assert!(assessment.served("team-a/app").is_none());
        assert!(assessment.client_secrets.is_empty());
    }
}

#[test]
fn an_unlabelled_secret_in_the_way_is_named_and_looked_at_again() {
    let mut fixture = Fixture::new();
    fixture.client(TENANT, "app", generated("creds"));
    fixture.world.obstacles.insert(ObjectKey::new(TENANT, "creds"), Obstacle::Foreign);
    let assessment = fixture.assess();
    assert_eq!(assessment.client_word(TENANT, "app", "ResolvedRefs"), "False/SecretNotOwned");
    assert!(wanted(&assessment).is_some_and(|secret| secret.observed.is_none()));
}

#[test]
fn one_invalid_client_never_hurts_another() {
    let mut fixture = Fixture::new();
    fixture.client(HOME, "good", json!({}));
    fixture.client(HOME, "bad", json!({"redirectURIs": ["nonsense"]}));
    fixture.client(TENANT, "worse", json!({"clientID": "good"}));
    let assessment = fixture.assess();
    assert!(assessment.served("good").is_some());
    assert!(matches!(assessment.entry("bad"), Some(ClientEntry::OutOfService(_))));
}

#[test]
fn all_that_is_wrong_with_a_client_is_said_at_once() {
    let assessment = tenant(json!({
        "clientID": "kubernetes",
        "scopes": ["openid", "federated:id"],
        "redirectURIs": ["https://evil.example/"],
        "type": "Confidential",
    }));
    let (_, _, message) = assessment.said("OAuth2Client", (TENANT, "app"), "Accepted");
    for part in ["clientID", "federated:id", "evil.example", "Confidential"] {
        assert!(message.contains(part), "{part} is missing in: {message}");
    }
}

#[test]
fn introspection_is_denied_unless_stated_and_never_shows_a_tenant_the_tokens_of_others() {
    let secret = confidential(json!({"secretRef": {"name": "mine", "key": "secret"}}));
    let assessed = |namespace: &str, spec: Value| {
        let mut fixture = Fixture::new();
        fixture.secret((namespace, "mine"), "client", &[("secret", "0123456789abcdef")]);
        fixture.client(namespace, "app", spec);
        fixture.assess()
    };
    let confidential = |word: Value| merged(secret.clone(), json!({"introspection": word}));
    for (namespace, id, word, wanted) in [
        (HOME, "app", json!(null), Introspection::Forbidden),
        (HOME, "app", json!("Forbidden"), Introspection::Forbidden),
        (HOME, "app", json!("OwnTokens"), Introspection::OwnTokens),
        (HOME, "app", json!("AllTokens"), Introspection::AllTokens),
        (TENANT, "team-a/app", json!(null), Introspection::Forbidden),
        (TENANT, "team-a/app", json!("OwnTokens"), Introspection::OwnTokens),
    ] {
        let assessment = assessed(namespace, confidential(word.clone()));
        assert_eq!(assessment.served(id).unwrap().introspection, wanted, "{namespace} {word}");
    }
    let greedy = assessed(TENANT, confidential(json!("AllTokens")));
    assert_eq!(greedy.client_word(TENANT, "app", "Accepted"), "False/TenantPolicyViolation");
    assert!(greedy.served("team-a/app").is_none());
    let public = assessed(HOME, json!({"introspection": "OwnTokens"}));
    assert_eq!(public.client_word(HOME, "app", "Accepted"), "False/InvalidSpec");
}

fn signing(authentication: Value) -> Value {
    let generated = json!({"generatedSecret": null});
    confidential(merged(merged(json!({"method": "private_key_jwt"}), generated), authentication))
}

/// A public key as it stands in a client's spec.
fn public_jwk(kid: &str) -> Value {
    let mut jwk = PrivateKey::generate(Algorithm::ES256, 0).unwrap().public_jwk();
    jwk["kid"] = kid.into();
    jwk
}

fn authentication(assessment: &Assessment, id: &str) -> Option<ClientAuthentication> {
    assessment.served(id).map(|client| client.authentication.clone())
}

#[test]
fn inline_keys_are_read_and_what_is_no_key_is_refused_by_its_place() {
    let keys = |keys: Value| tenant(signing(json!({"jwks": {"keys": keys}})));
    let assessment = keys(json!([public_jwk("a"), public_jwk("b")]));
    let Some(ClientAuthentication::Keys(ClientKeys::Inline(set))) =
        authentication(&assessment, "team-a/app")
    else {
        panic!("{}", assessment.said("OAuth2Client", (TENANT, "app"), "Accepted").2);
    };
    assert!(set.get("a").is_some() && set.get("b").is_some() && set.keys().len() == 2);
    let mut short = public_jwk("a");
    short["x"] = "AA".into();
    let mut private = public_jwk("a");
    private["d"] = "AA".into();
    for (bad, says) in [
        (json!([public_jwk("a"), short]), "jwks.keys[1]"),
        (json!([private]), "private"),
        (json!([public_jwk("a"), public_jwk("a")]), "two keys have one kid"),
    ] {
        let assessment = keys(bad);
        let message = assessment.said("OAuth2Client", (TENANT, "app"), "Accepted").2;
        assert_eq!(assessment.client_word(TENANT, "app", "Accepted"), "False/InvalidSpec");
        assert!(message.contains(says), "{message}");
        assert!(assessment.served("team-a/app").is_none());
    }
}

#[test]
fn inline_keys_are_read_once_a_generation() {
    let mut fixture = Fixture::new();
    fixture.client(HOME, "app", signing(json!({"jwks": {"keys": [public_jwk("a")]}})));
    let read = |fixture: &mut Fixture| match authentication(&fixture.assess(), "app") {
        Some(ClientAuthentication::Keys(ClientKeys::Inline(keys))) => keys,
        other => panic!("{other:?}"),
    };
    let (first, second) = (read(&mut fixture), read(&mut fixture));
    assert!(Arc::ptr_eq(&first, &second));
    let client = fixture.world.clients.get_mut(&ObjectKey::new(HOME, "app")).unwrap();
    let client = Arc::make_mut(client);
    client.metadata.generation = Some(2);
    let jwks = client.spec.authentication.as_mut().unwrap().jwks.as_mut().unwrap();
    jwks.keys[0].kid = Some("b".into());
    assert!(read(&mut fixture).get("b").is_some());
}

#[test]
fn a_tenants_keys_are_asked_for_only_where_its_issuer_allows() {
    let at = json!({"jwksURI": "https://keys.team-a.example.com/keys"});
    let refused = tenant(signing(at.clone()));
    assert_eq!(refused.client_word(TENANT, "app", "Accepted"), "False/TenantPolicyViolation");
    let message = refused.said("OAuth2Client", (TENANT, "app"), "Accepted").2;
    assert!(message.contains("allowedJWKSURIHosts"), "{message}");
    let mut fixture = Fixture::new();
    fixture.issuer(
        "main",
        json!({"tenants": {
            "allowedConnectors": ["local"],
            "allowedRedirectURIHosts": ["app.example.com"],
            "allowedJWKSURIHosts": ["*.team-a.example.com"],
        }}),
    );
    fixture.client(TENANT, "app", signing(at.clone()));
    fixture.client(HOME, "app", signing(json!({"jwksURI": "https://elsewhere.example/keys"})));
    let assessment = fixture.assess();
    for (id, uri) in [
        ("team-a/app", "https://keys.team-a.example.com/keys"),
        ("app", "https://elsewhere.example/keys"),
    ] {
        let found = authentication(&assessment, id);
        let Some(ClientAuthentication::Keys(ClientKeys::At(found))) = found else {
            panic!("{id}: {found:?}")
        };
        assert_eq!(found, uri);
    }
}

#[test]
fn a_tenant_is_a_service_account_of_its_own_namespace_and_of_no_other() {
    let account = |account: Value| {
        confidential(json!({"method": "kubernetes_service_account", "serviceAccount": account}))
    };
    let subject = |assessment: &Assessment, id: &str| match authentication(assessment, id) {
        Some(ClientAuthentication::ServiceAccount(account)) => Some(account.subject),
        _ => None,
    };
    for spec in [json!({"name": "robot"}), json!({"name": "robot", "namespace": TENANT})] {
        let assessment = tenant(account(spec));
        let found = subject(&assessment, "team-a/app");
        assert_eq!(found.as_deref(), Some("system:serviceaccount:team-a:robot"));
    }
    for namespace in [HOME, "kube-system"] {
        let assessment = tenant(account(json!({"name": "robot", "namespace": namespace})));
        let word = assessment.client_word(TENANT, "app", "Accepted");
        assert_eq!(word, "False/TenantPolicyViolation", "{namespace}");
        assert_eq!(subject(&assessment, "team-a/app"), None);
    }
    let mut fixture = Fixture::new();
    fixture.client(HOME, "app", account(json!({"name": "robot", "namespace": TENANT})));
    let found = subject(&fixture.assess(), "app");
    assert_eq!(found.as_deref(), Some("system:serviceaccount:team-a:robot"));
}

#[test]
fn the_secret_before_is_good_too_and_may_be_gone() {
    let mut fixture = Fixture::new();
    let reference = |key: &str| json!({"name": "mine", "key": key});
    let both = json!({"secretRef": reference("new"), "previousSecretRef": reference("old")});
    fixture.client(HOME, "app", confidential(both));
    let (new, old) = ("new-secret-of-the-app", "old-secret-of-the-app");
    fixture.secret((HOME, "mine"), labels::SECRET_CLIENT, &[("new", new), ("old", old)]);
    assert_eq!(secrets(fixture.assess().served("app").unwrap()), [new, old]);
    fixture.secret((HOME, "mine"), labels::SECRET_CLIENT, &[("new", new)]);
    let assessment = fixture.assess();
    assert_eq!(secrets(assessment.served("app").unwrap()), [new]);
    let message = assessment.said("OAuth2Client", (HOME, "app"), "Accepted").2;
    assert!(message.contains("previousSecretRef is not used"), "{message}");
}
