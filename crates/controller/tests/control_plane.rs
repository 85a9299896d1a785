//! The control plane on a real API server, as a `ServiceAccount` with the least it needs: run it below
//! `with-control-plane --`.

mod operator;

use std::pin::pin;

use anyhow::{Context, Result, ensure};
use claviger_api::labels;
use claviger_controller::secret::ORPHANED_AT;
use claviger_domain::client::ClientAuthentication;
use claviger_domain::issuer::Issuer;
use claviger_jose::Algorithm;
use claviger_testkit::{AuditMark, ControlPlane, Fault, Proxy, eventually};
use http::StatusCode;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use operator::{LIVE, Operator, PATIENCE, Stage};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

const RING: &str = "claviger-sealing-ring";
const KEYS: &str = "claviger-signing-key-main";

fn generated(name: &str, rotation: i32) -> Value {
    json!({
        "type": "Confidential",
        "authentication": {"generatedSecret": {"name": name, "rotation": rotation}},
    })
}

fn text(secret: &Secret, key: &str) -> Option<String> {
    let bytes = &secret.data.as_ref()?.get(key)?.0;
    String::from_utf8(bytes.clone()).ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn from_nothing_to_served_and_then_silent() -> Result<()> {
    let stage = Stage::set().await?;
    let operator = stage.start(true).await?;
    stage.issuer().await?;
    stage.client(&stage.home, "kubernetes", json!({})).await?;
    let issuer = operator.until_served().await?;
    assert_eq!(issuer.keys.signers.keys().collect::<Vec<_>>(), [&Algorithm::ES256]);
    assert_eq!(issuer.keys.key_set.keys().len(), 2, "the next key is published from the start");
    let home = stage.home.as_str();
    for (kind, name) in [
        ("OIDCIssuer", "main"),
        ("SigningKey", "main"),
        ("Connector", "local"),
        ("OAuth2Client", "kubernetes"),
    ] {
        stage.until((kind, home, name), "Ready", "True/Ready").await?;
    }
    assert!(operator.readiness.borrow().is_ready());
    stage.settle(&[&operator]).await?;
    let mark = stage.plane.audit_log().mark()?;
    let before = stage.get("OIDCIssuer", home, "main").await?.resource_version();
    for _ in 0..5 {
        stage.wake(&operator).await?;
    }
    assert_eq!(stage.writes_since(mark)?, Vec::<String>::new());
    assert_eq!(stage.get("OIDCIssuer", home, "main").await?.resource_version(), before);
    operator.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_is_live_within_a_second() -> Result<()> {
    let stage = Stage::set().await?;
    let operator = stage.start(true).await?;
    stage.issuer().await?;
    stage.client(&stage.home, "app", json!({})).await?;
    eventually(PATIENCE, async || operator.client("app")).await?;
    for lifetime in [61, 62, 63] {
        stage.client(&stage.home, "app", json!({"idTokenLifetimeSeconds": lifetime})).await?;
        eventually(LIVE, async || {
            let lives = operator.client("app")?.lifetimes.id_token;
            ensure!(lives == lifetime, "still {lives}");
            Ok(())
        })
        .await?;
    }
    let renamed = json!({"displayName": "Renamed", "upstream": {"local": {}}});
    stage.apply("Connector", &stage.home, "local", renamed).await?;
    eventually(LIVE, async || {
        let name = operator.issuer()?.connectors[0].display_name.clone();
        ensure!(name == "Renamed", "still {name}");
        Ok(())
    })
    .await?;
    stage.delete("OAuth2Client", &stage.home, "app").await?;
    eventually(LIVE, async || {
        ensure!(operator.issuer()?.client("app").is_none(), "still served");
        Ok(())
    })
    .await?;
    operator.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_heals_when_it_appears_with_its_label() -> Result<()> {
    let stage = Stage::set().await?;
    let operator = stage.start(true).await?;
    stage.issuer().await?;
    let home = stage.home.as_str();
    let reference = json!({"secretRef": {"name": "mine", "key": "secret"}});
    let spec = json!({"type": "Confidential", "authentication": reference});
    stage.client(home, "app", spec).await?;
    let app = ("OAuth2Client", home, "app");
    stage.until(app, "ResolvedRefs", "False/SecretNotFound").await?;
    assert!(operator.client("app").is_err());

    // Without its label it is not even seen.
    stage.secret(home, "mine", None, json!({"secret": "0123456789abcdef"})).await?;
    stage.wake(&operator).await?;
    let (word, message) = stage.condition(app.0, home, "app", "ResolvedRefs").await?;
    assert_eq!(word, "False/SecretNotFound");
    assert!(message.contains("claviger.dev/secret=client"), "{message}");

    let label = json!({"metadata": {"labels": {"claviger.dev/secret": "client"}}});
    stage.secrets(home).patch("mine", &PatchParams::default(), &Patch::Merge(&label)).await?;
    let client = eventually(LIVE, async || operator.client("app")).await?;
    let ClientAuthentication::Secret(secrets) = &client.authentication else { panic!() };
    assert_eq!(secrets[0].expose_secret(), "0123456789abcdef");
    stage.until(app, "Ready", "True/Ready").await?;
    operator.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_does_not_answer_is_unready_and_stays_offered() -> Result<()> {
    let stage = Stage::set().await?;
    let operator = stage.start(true).await?;
    stage.issuer().await?;
    let home = stage.home.as_str();
    let ldap = |port: u16| {
        json!({"displayName": "Directory", "upstream": {"ldap": {
            "urls": [format!("ldap://127.0.0.1:{port}")],
            "tls": {"mode": "Plaintext"},
            "userSearch": {"baseDN": "dc=example,dc=com", "usernameAttributes": ["uid"]},
        }}})
    };
    let lease = claviger_testkit::PortLease::take()?;
    stage.apply("Connector", home, "local", ldap(lease.port())).await?;
    let connector = ("Connector", home, "local");
    eventually(PATIENCE, async || {
        let (word, message) = stage.condition(connector.0, home, "local", "Ready").await?;
        ensure!(word.starts_with("False/Upstream"), "{word}: {message}");
        Ok(())
    })
    .await?;
    let accepted = stage.condition(connector.0, home, "local", "Accepted").await?.0;
    assert_eq!(accepted, "True/Accepted");
    assert_eq!(operator.until_served().await?.connectors.len(), 1);
    let events: Api<Event> = Api::namespaced(stage.admin.clone(), home);
    eventually(PATIENCE, async || {
        let all = events.list(&ListParams::default()).await?;
        let told = all.iter().any(|event| {
            let regarding = event.regarding.as_ref().and_then(|object| object.kind.as_deref());
            regarding == Some("Connector") && event.type_.as_deref() == Some("Warning")
        });
        ensure!(told, "no Event tells of the failure");
        Ok(())
    })
    .await?;
    operator.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_tenant_gets_a_token_for_the_cluster() -> Result<()> {
    let stage = Stage::set().await?;
    let operator = stage.start(true).await?;
    stage.issuer().await?;
    let (home, tenant) = (stage.home.as_str(), stage.tenant.as_str());
    stage.client(home, "kubernetes", json!({})).await?;
    let honest = eventually(PATIENCE, async || operator.client("kubernetes")).await?;
    let uris = |uri: &str| json!({"redirectURIs": [uri]});
    let attacks = [
        ("kubernetes", json!({"clientID": "kubernetes"}), "ClientIDNotAllowed"),
        ("own-name", json!({"clientID": "own-name"}), "ClientIDNotAllowed"),
        ("scope", json!({"scopes": ["openid", "federated:id"]}), "TenantPolicyViolation"),
        ("connector", json!({"allowedConnectors": ["other"]}), "TenantPolicyViolation"),
        ("host", uris("https://evil.example/callback"), "TenantPolicyViolation"),
        ("suffix", uris("https://app.example.com.evil.example/"), "TenantPolicyViolation"),
        ("loopback", uris("http://localhost/callback"), "TenantPolicyViolation"),
        ("scheme", uris("com.example.app:/callback"), "TenantPolicyViolation"),
    ];
    for (name, spec, reason) in &attacks {
        stage.client(tenant, name, spec.clone()).await?;
        let wanted = format!("False/{reason}");
        stage.until(("OAuth2Client", tenant, name), "Accepted", &wanted).await?;
        assert!(operator.client(&format!("{tenant}/{name}")).is_err(), "{name} is served");
    }
    assert_eq!(operator.client("kubernetes")?.uid, honest.uid);

    // Kinds that only count in home.
    let connector = json!({"displayName": "Mine", "upstream": {"local": {}}});
    stage.apply("Connector", tenant, "local", connector).await?;
    let user = json!({"email": "admin@example.com",
        "passwordHash": {"secretRef": {"name": "hash", "key": "hash"}}});
    stage.apply("LocalUser", tenant, "admin", user).await?;
    stage.apply("SigningKey", tenant, "mine", json!({"algorithm": "ES256"})).await?;
    let issuer = json!({"url": "https://evil.example.com", "signingKeys": [{"name": "mine"}]});
    stage.apply("OIDCIssuer", tenant, "mine", issuer).await?;
    let own = json!({"issuerRef": {"name": "mine"}});
    stage.client(tenant, "own-issuer", own).await?;
    stage.settle(&[&operator]).await?;
    for (kind, name) in [
        ("Connector", "local"),
        ("LocalUser", "admin"),
        ("SigningKey", "mine"),
        ("OIDCIssuer", "mine"),
        ("OAuth2Client", "own-issuer"),
    ] {
        let object = stage.get(kind, tenant, name).await?;
        assert_eq!(object.data.get("status"), None, "{kind} of a tenant is nobody's");
    }
    let issuer = operator.issuer()?;
    assert_eq!(operator.snapshot.load().issuers.len(), 1);
    assert_eq!(issuer.connectors.len(), 1);
    assert_eq!(
        issuer.connectors[0].uid,
        stage.get("Connector", home, "local").await?.uid().unwrap()
    );

    // A rename is a new object: the old ID does not come along.
    stage.delete("OAuth2Client", home, "kubernetes").await?;
    eventually(LIVE, async || {
        ensure!(operator.issuer()?.client("kubernetes").is_none(), "still served");
        Ok(())
    })
    .await?;
    stage.settle(&[&operator]).await?;
    let served = operator.issuer()?;
    assert!(served.client("kubernetes").is_none(), "a waiting attacker inherits nothing");
    operator.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_credentials_are_made_rotated_and_put_right() -> Result<()> {
    let stage = Stage::set().await?;
    let operator = stage.start(true).await?;
    stage.issuer().await?;
    let tenant = stage.tenant.as_str();
    let made = stage.client(tenant, "app", generated("creds", 0)).await?;
    let id = format!("{tenant}/app");
    eventually(PATIENCE, async || operator.client(&id)).await?;
    let first = stage.secrets(tenant).get("creds").await?;
    assert_eq!(text(&first, "client_id").as_deref(), Some(id.as_str()));
    assert_eq!(text(&first, "issuer"), Some(format!("https://{}.example.com", stage.home)));
    assert_eq!(first.labels().get(labels::SECRET).map(String::as_str), Some("client"));
    let owner = &first.owner_references()[0];
    assert_eq!((owner.kind.as_str(), &owner.uid), ("OAuth2Client", &made.uid().unwrap()));
    let old = text(&first, "client_secret").context("no client_secret")?;
    assert_eq!(old.len(), 43);

    stage.client(tenant, "app", generated("creds", 1)).await?;
    eventually(PATIENCE, async || {
        let client = operator.client(&id)?;
        let ClientAuthentication::Secret(live) = &client.authentication else { panic!() };
        let live: Vec<&str> = live.iter().map(ExposeSecret::expose_secret).collect();
        ensure!(live.len() == 2 && live[0] != old && live[1] == old, "{} live", live.len());
        Ok(())
    })
    .await?;

    let forged = json!({"stringData": {"client_id": "kubernetes"}});
    stage.secrets(tenant).patch("creds", &PatchParams::default(), &Patch::Merge(&forged)).await?;
    eventually(PATIENCE, async || {
        let now = stage.secrets(tenant).get("creds").await?;
        ensure!(text(&now, "client_id").as_deref() == Some(id.as_str()), "still forged");
        Ok(())
    })
    .await?;
    stage.secrets(tenant).delete("creds", &DeleteParams::default()).await?;
    eventually(PATIENCE, async || {
        let again = stage.secrets(tenant).get("creds").await?;
        ensure!(text(&again, "client_secret").is_some_and(|secret| secret != old), "not made anew");
        Ok(())
    })
    .await?;
    operator.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_secret_is_never_touched_and_makes_way_when_it_is_removed() -> Result<()> {
    let stage = Stage::set().await?;
    let tenant = stage.tenant.as_str();
    let theirs = json!({"client_secret": "theirs, and long enough"});
    let unlabelled = stage.secret(tenant, "one", None, theirs.clone()).await?;
    let labelled = stage.secret(tenant, "two", Some("client"), theirs).await?;
    let keys = stage.secret(&stage.home, KEYS, None, json!({"x": "y"})).await?;
    let operator = stage.start(true).await?;
    stage.issuer().await?;
    let key = ("SigningKey", stage.home.as_str(), "main");
    stage.until(key, "ResolvedRefs", "False/SecretNotOwned").await?;
    stage.secrets(&stage.home).delete(KEYS, &DeleteParams::default()).await?;
    operator.until_served().await?;
    assert_ne!(stage.secrets(&stage.home).get(KEYS).await?.uid(), keys.uid());

    for (client, secret) in [("app-one", &unlabelled), ("app-two", &labelled)] {
        let name = secret.name_any();
        stage.client(tenant, client, generated(&name, 0)).await?;
        let app = ("OAuth2Client", tenant, client);
        stage.until(app, "ResolvedRefs", "False/SecretNotOwned").await?;
        let now = stage.secrets(tenant).get(&name).await?;
        assert_eq!(now.resource_version(), secret.resource_version(), "{name} was touched");
        stage.secrets(tenant).delete(&name, &DeleteParams::default()).await?;
        eventually(PATIENCE, async || operator.client(&format!("{tenant}/{client}"))).await?;
        assert!(stage.secrets(tenant).get(&name).await?.owner_references().len() == 1);
    }
    operator.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_grants_nothing_is_told_which_rolebinding_to_apply() -> Result<()> {
    let stage = Stage::set_without_tenant_rights().await?;
    let operator = stage.start(true).await?;
    stage.issuer().await?;
    let tenant = stage.tenant.as_str();
    stage.client(tenant, "app", generated("creds", 0)).await?;
    stage.client(tenant, "public", json!({})).await?;
    let app = ("OAuth2Client", tenant, "app");
    let message = stage.until(app, "ResolvedRefs", "False/SecretAccessDenied").await?;
    assert!(message.contains(&format!("rolebinding claviger-secrets --namespace {tenant}")));
    eventually(PATIENCE, async || operator.client(&format!("{tenant}/public"))).await?;
    stage.grant_secrets(tenant).await?;
    eventually(PATIENCE, async || operator.client(&format!("{tenant}/app"))).await?;
    operator.stop().await
}

/// ID and secret of every key of both rings.
fn sealing_keys(secret: &Secret) -> Result<Vec<(Value, Value)>> {
    let document: Value =
        serde_json::from_str(&text(secret, "ring.json").context("no ring.json")?)?;
    let keys = ["long", "short"].map(|ring| document[ring]["keys"].as_array().cloned());
    let keys: Vec<_> = keys.into_iter().flatten().flatten().collect();
    ensure!(keys.len() == 4, "{document}");
    Ok(keys.iter().map(|key| (key["id"].clone(), key["secret"].clone())).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_outlive_their_secret_and_their_signing_key() -> Result<()> {
    let stage = Stage::set().await?;
    let operator = stage.start(true).await?;
    stage.issuer().await?;
    let kids = |issuer: &claviger_domain::issuer::Issuer| -> Vec<String> {
        issuer.keys.key_set.keys().iter().map(|key| key.kid().to_owned()).collect()
    };
    let before = kids(operator.until_served().await?.as_ref());
    let secrets = stage.secrets(&stage.home);
    let ring = sealing_keys(&secrets.get(RING).await?)?;
    assert!(secrets.get(KEYS).await?.owner_references().is_empty());

    for name in [KEYS, RING] {
        let old = secrets.get(name).await?.uid();
        secrets.delete(name, &DeleteParams::default()).await?;
        eventually(PATIENCE, async || {
            let restored = secrets.get(name).await?;
            ensure!(restored.uid() != old, "not restored");
            Ok(())
        })
        .await?;
    }
    assert_eq!(sealing_keys(&secrets.get(RING).await?)?, ring, "the very same keys");
    stage.settle(&[&operator]).await?;
    assert_eq!(kids(operator.issuer()?.as_ref()), before, "and the very same keys");

    stage.delete("SigningKey", &stage.home, "main").await?;
    eventually(PATIENCE, async || {
        ensure!(operator.issuer().is_err(), "still served without a SigningKey");
        Ok(())
    })
    .await?;
    let restored =
        stage.apply("SigningKey", &stage.home, "main", json!({"algorithm": "ES256"})).await?;
    assert_eq!(kids(operator.until_served().await?.as_ref()), before, "adopted on restore");
    eventually(PATIENCE, async || {
        let secret = secrets.get(KEYS).await?;
        let marked = secret.annotations().get(claviger_controller::secret::SIGNING_KEY_UID);
        ensure!(marked == restored.uid().as_ref(), "marked for {marked:?}");
        Ok(())
    })
    .await?;
    operator.stop().await
}

/// Until an annotation of the key Secret is there, or is not.
async fn until_orphaned(stage: &Stage, orphaned: bool) -> Result<()> {
    eventually(PATIENCE, async || {
        let secret = stage.secrets(&stage.home).get(KEYS).await?;
        let marked = secret.annotations().contains_key(ORPHANED_AT);
        ensure!(marked == orphaned, "marked: {marked}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_deleted_signing_key_are_marked_kept_and_after_the_grace_period_deleted()
-> Result<()> {
    let stage = Stage::set().await?;
    let operator = stage.start(true).await?;
    stage.issuer().await?;
    operator.until_served().await?;
    let spec = || json!({"algorithm": "ES256"});
    stage.delete("SigningKey", &stage.home, "main").await?;
    until_orphaned(&stage, true).await?;
    stage.apply("SigningKey", &stage.home, "main", spec()).await?;
    until_orphaned(&stage, false).await?;

    stage.delete("SigningKey", &stage.home, "main").await?;
    until_orphaned(&stage, true).await?;
    let secrets = stage.secrets(&stage.home);
    let almost_a_month_ago =
        k8s_openapi::jiff::Timestamp::from_second(Operator::now() - 29 * 86_400)?;
    let since = |at: String| json!({"metadata": {"annotations": {ORPHANED_AT: at}}});
    let params = PatchParams::default();
    let patch = since(almost_a_month_ago.to_string());
    secrets.patch(KEYS, &params, &Patch::Merge(patch)).await?;
    stage.settle(&[&operator]).await?;
    secrets.get(KEYS).await?;
    let patch = since("2026-01-01T00:00:00Z".into());
    secrets.patch(KEYS, &params, &Patch::Merge(patch)).await?;
    eventually(PATIENCE, async || {
        ensure!(secrets.get_opt(KEYS).await?.is_none(), "still there");
        Ok(())
    })
    .await?;
    assert!(secrets.get_opt(RING).await?.is_some(), "nothing else is deleted");
    stage.apply("SigningKey", &stage.home, "main", spec()).await?;
    operator.until_served().await?;
    operator.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_or_outdated_key_secret_is_written_over_and_nobody_signs_by_what_it_says()
-> Result<()> {
    let stage = Stage::set().await?;
    let operator = stage.start(true).await?;
    stage.issuer().await?;
    let signs = |issuer: &claviger_domain::issuer::Issuer| {
        issuer.keys.signers[&Algorithm::ES256].kid().to_owned()
    };
    let first = signs(operator.until_served().await?.as_ref());
    let secrets = stage.secrets(&stage.home);
    let backup = secrets.get(KEYS).await?.data;
    let spec = json!({"algorithm": "ES256", "revokedKeyIDs": [first]});
    stage.apply("SigningKey", &stage.home, "main", spec).await?;
    eventually(PATIENCE, async || {
        let secret = secrets.get(KEYS).await?;
        ensure!(text(&secret, &format!("{first}.pem")).is_none(), "its private key is still kept");
        ensure!(
            text(&secret, "ring.json").is_some_and(|ring| ring.contains("Published")),
            "no next"
        );
        Ok(())
    })
    .await?;
    // Nothing says any more that the first key was withdrawn: the backup alone would sign by it.
    stage.apply("SigningKey", &stage.home, "main", json!({"algorithm": "ES256"})).await?;
    let second = signs(operator.issuer()?.as_ref());
    assert_ne!(second, first);

    let broken = json!({"ring.json": "e30="});
    for data in [serde_json::to_value(backup)?, broken] {
        let patch = json!({"data": data});
        secrets.patch(KEYS, &PatchParams::default(), &Patch::Merge(patch)).await?;
        eventually(PATIENCE, async || {
            assert_eq!(signs(operator.issuer()?.as_ref()), second);
            let secret = secrets.get(KEYS).await?;
            ensure!(text(&secret, &format!("{first}.pem")).is_none(), "not written over yet");
            let ring = text(&secret, "ring.json").unwrap_or_default();
            ensure!(ring.contains(&second), "not healed yet: {ring}");
            Ok(())
        })
        .await?;
    }
    stage.until(("SigningKey", &stage.home, "main"), "Ready", "True/Ready").await?;
    operator.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_a_key_withdraws_it_at_once_and_makes_another() -> Result<()> {
    let stage = Stage::set().await?;
    let operator = stage.start(true).await?;
    stage.issuer().await?;
    let first = operator.until_served().await?.keys.signers[&Algorithm::ES256].kid().to_owned();
    let spec = json!({"algorithm": "ES256", "revokedKeyIDs": [first]});
    stage.apply("SigningKey", &stage.home, "main", spec).await?;
    eventually(LIVE, async || {
        let issuer = operator.issuer()?;
        ensure!(issuer.keys.key_set.get(&first).is_none(), "still published");
        ensure!(issuer.keys.signers[&Algorithm::ES256].kid() != first, "still signs");
        Ok(())
    })
    .await?;
    eventually(PATIENCE, async || {
        let secret = stage.secrets(&stage.home).get(KEYS).await?;
        ensure!(text(&secret, &format!("{first}.pem")).is_none(), "its private key is still kept");
        ensure!(operator.issuer()?.keys.key_set.keys().len() == 2, "no next key yet");
        Ok(())
    })
    .await?;
    operator.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ring_that_is_lost_while_sessions_exist_is_never_silently_replaced() -> Result<()> {
    let stage = Stage::set().await?;
    let time = "2026-01-01T00:00:00Z";
    let session = json!({"state": "Active", "type": "Client", "generation": 0,
        "clientUID": "c", "clientID": "app",
        "connector": "local", "user": "jane", "rotatedAt": time,
        "expiresAt": "2030-01-01T00:00:00Z", "payload": "sealed"});
    stage.apply("Session", &stage.home, "abc", session).await?;
    let operator = stage.start(true).await?;
    stage.issuer().await?;
    let issuer = ("OIDCIssuer", stage.home.as_str(), "main");
    eventually(PATIENCE, async || {
        let (_, message) = stage.condition(issuer.0, &stage.home, "main", "ResolvedRefs").await?;
        ensure!(message.contains("is lost and sessions exist"), "{message}");
        Ok(())
    })
    .await?;
    assert!(!operator.readiness.borrow().is_ready());
    assert!(stage.secrets(&stage.home).get_opt(RING).await?.is_none());
    stage.delete("Session", &stage.home, "abc").await?;
    operator.until_served().await?;
    assert!(operator.readiness.borrow().is_ready());
    operator.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_serves_what_the_leader_made_and_writes_nothing() -> Result<()> {
    let stage = Stage::set().await?;
    stage.issuer().await?;
    let mark = stage.plane.audit_log().mark()?;
    let follower = stage.start(false).await?;
    eventually(PATIENCE, async || {
        ensure!(follower.readiness.borrow().published, "nothing published yet");
        Ok(())
    })
    .await?;
    for _ in 0..3 {
        stage.wake(&follower).await?;
    }
    assert!(!follower.readiness.borrow().is_ready(), "nothing to seal with yet");
    assert_eq!(stage.writes_since(mark)?, Vec::<String>::new());

    let leader = stage.start(true).await?;
    let of_leader = leader.until_served().await?;
    let of_follower = follower.until_served().await?;
    assert_eq!(of_leader.keys.jwks, of_follower.keys.jwks);
    leader.stop().await?;
    follower.leadership.send_replace(true);
    stage.client(&stage.home, "app", json!({})).await?;
    stage.until(("OAuth2Client", &stage.home, "app"), "Ready", "True/Ready").await?;
    follower.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_was_away_is_followed_again_and_nothing_was_lost() -> Result<()> {
    let mut plane = ControlPlane::start(ControlPlane::builder()).await?;
    let stage = Stage::set_on(plane.clone()).await?;
    let operator = stage.start(true).await?;
    stage.issuer().await?;
    stage.client(&stage.home, "app", json!({})).await?;
    let before = eventually(PATIENCE, async || operator.client("app")).await?;
    plane.stop_api_server();
    assert_eq!(operator.client("app")?.uid, before.uid, "what was known is still served");
    plane.start_api_server().await?;
    stage.client(&stage.home, "app", json!({"idTokenLifetimeSeconds": 61})).await?;
    eventually(PATIENCE, async || {
        let lives = operator.client("app")?.lifetimes.id_token;
        ensure!(lives == 61, "still {lives}");
        Ok(())
    })
    .await?;
    assert!(operator.readiness.borrow().is_ready());
    operator.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_has_settled_who_has_something_left_to_write() -> Result<()> {
    let stage = Stage::set().await?;
    let proxy = Proxy::start(&stage.plane).await?;
    let operator = stage.start_by(&proxy.url(), true).await?;
    stage.issuer().await?;
    stage.until(("OIDCIssuer", &stage.home, "main"), "Ready", "True/Ready").await?;
    stage.settle(&[&operator]).await?;

    // On its way: the API server does not know of it yet.
    let mark = stage.plane.audit_log().mark()?;
    let trap = proxy.trap("create events", Fault::Hold);
    stage.client(&stage.home, "app", json!({})).await?;
    trap.sprung().await?;
    let looks = async {
        for _ in 0..3 {
            stage.look(&operator, &stage.home).await?;
        }
        anyhow::Ok(())
    };
    {
        let operators = [&operator];
        let mut settling = pin!(stage.settle(&operators));
        tokio::select! {
            biased;
            settled = &mut settling => panic!("{settled:?}, and an Event is on its way"),
            looked = looks => looked?,
        }
        drop(trap);
        settling.await?;
    }
    let told = ["patch oauth2clients/status", "create events"];
    assert_eq!(stage.writes_since(mark)?, told);

    // Refused, and tried again after a pause.
    let mark = stage.plane.audit_log().mark()?;
    let refused = Fault::Answer { status: StatusCode::SERVICE_UNAVAILABLE, retry_after: None };
    let trap = proxy.trap("patch oauth2clients/status", refused);
    stage.client(&stage.home, "app", json!({"idTokenLifetimeSeconds": 61})).await?;
    trap.sprung().await?;
    stage.settle(&[&operator]).await?;
    assert_eq!(stage.writes_since(mark)?, ["patch oauth2clients/status"]);
    operator.stop().await
}

/// Requests of the operators that changed something, by what and code.
fn done(stage: &Stage, mark: AuditMark, what: &str, code: u16) -> Result<usize> {
    let requests = stage.plane.audit_log().requests_since(mark, &stage.user())?;
    Ok(requests.iter().filter(|one| one.what() == what && one.code == code).count())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_leaders_make_one_ring_and_then_write_nothing() -> Result<()> {
    let stage = Stage::set().await?;
    let mark = stage.plane.audit_log().mark()?;
    let (one, two) = (stage.start(true).await?, stage.start(true).await?);
    stage.issuer().await?;
    stage.client(&stage.home, "app", generated("app-credentials", 0)).await?;
    let kids = |issuer: &Issuer| {
        let mut kids: Vec<_> =
            issuer.keys.key_set.keys().iter().map(|key| key.kid().to_owned()).collect();
        kids.sort();
        kids
    };
    let same = async || {
        let (one, two) =
            (kids(&one.until_served().await?.clone()), kids(&two.until_served().await?.clone()));
        ensure!(one == two, "{one:?} and {two:?}");
        Ok(one)
    };
    for (kind, name) in [
        ("OIDCIssuer", "main"),
        ("SigningKey", "main"),
        ("OAuth2Client", "app"),
        ("Connector", "local"),
    ] {
        stage.until((kind, &stage.home, name), "Ready", "True/Ready").await?;
    }
    assert_eq!(eventually(PATIENCE, same).await?.len(), 2);
    stage.settle(&[&one, &two]).await?;
    assert_eq!(
        done(&stage, mark, "create secrets", 201)?,
        3,
        "ring, key and credentials, once each"
    );
    silent(&stage, &one, &two).await?;

    // What both see and both mend: one of them wins, and nothing is mended twice.
    let kids_before = eventually(PATIENCE, same).await?;
    let mark = stage.plane.audit_log().mark()?;
    stage.secrets(&stage.home).delete(KEYS, &DeleteParams::default()).await?;
    stage.client(&stage.home, "app", generated("app-credentials", 1)).await?;
    eventually(PATIENCE, async || {
        let made = done(&stage, mark, "create secrets", 201)?;
        let rotated = done(&stage, mark, "update secrets", 200)?;
        ensure!((made, rotated) == (1, 1), "{made} made, {rotated} rotated");
        Ok(())
    })
    .await?;
    stage.settle(&[&one, &two]).await?;
    assert_eq!(eventually(PATIENCE, same).await?, kids_before, "restored, not replaced");
    assert_eq!(done(&stage, mark, "create secrets", 201)?, 1);
    assert_eq!(done(&stage, mark, "update secrets", 200)?, 1);
    silent(&stage, &one, &two).await?;
    one.stop().await?;
    two.stop().await
}

/// Both assess again and again, and neither writes.
async fn silent(stage: &Stage, one: &Operator, two: &Operator) -> Result<()> {
    let mark = stage.plane.audit_log().mark()?;
    for _ in 0..5 {
        stage.wake(one).await?;
        stage.wake(two).await?;
    }
    assert_eq!(stage.writes_since(mark)?, Vec::<String>::new());
    Ok(())
}
