//! A small world to assess: issuer `main` in namespace `claviger` with a local connector, a signing
//! key and a sealing ring, to which each test adds what it is about.
#![expect(clippy::needless_pass_by_value, reason = "json! reads best passed by value")]

mod claim_mapping;
mod client;
mod client_credentials;
mod client_logout;
mod condition;
mod connector;
mod custom_claims;
mod issuer;
mod keys;
mod password_grant;
mod registration;
mod sealing_ring;
mod unreadable;
mod workloads;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use claviger_api::labels;
use claviger_domain::client::Client;
use claviger_domain::issuer::{ClientEntry, Issuer};
use claviger_jose::PrivateKey;
use claviger_seal::Rings;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::signing_key::secret_name;
use super::*;
use crate::keyring::{Policy, Ring, RingKey, Stage};
use crate::ring_secret;
use crate::world::{ObjectKey, Objects, Progress, Source};

const HOME: &str = "claviger";
const TENANT: &str = "team-a";
/// A bcrypt hash: validated by form alone, so any will do.
const HASH: &str = "$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy";

struct Fixture {
    world: World,
    memo: Memo,
    now: i64,
    made: i64,
}

/// Status, reason and message of a condition.
type Said = (String, String, String);

impl Fixture {
    /// The small world, all in order.
    fn new() -> Self {
        let mut fixture = Self::empty();
        fixture.signing_key("main", json!({"algorithm": "ES256"}));
        fixture.ring("main", &["ES256"]);
        fixture.sealing_ring();
        fixture.connector("local", json!({"displayName": "Local", "upstream": {"local": {}}}));
        fixture.issuer("main", json!({}));
        fixture
    }

    fn empty() -> Self {
        let now = 1_800_000_000;
        let synced = Progress::Synced { confirmed_at: now };
        let sources =
            [Source::Clients, Source::Secrets(HOME.into()), Source::Secrets(TENANT.into())];
        let world = World {
            home: HOME.into(),
            sources: sources.into_iter().map(|source| (source, synced)).collect(),
            namespaces: BTreeMap::from([
                (HOME.to_owned(), BTreeMap::new()),
                (TENANT.to_owned(), BTreeMap::from([("tenant".to_owned(), "yes".to_owned())])),
            ]),
            ..World::default()
        };
        Self { world, memo: Memo::new(Arc::new(())), now, made: 0 }
    }

    fn assess(&mut self) -> Assessment {
        assess(self.world.clone(), &mut self.memo, Moment::at(self.now))
    }

    /// An object made later than all before it.
    fn object<K: DeserializeOwned>(&mut self, kind: &str, key: (&str, &str), spec: &Value) -> K {
        self.made += 1;
        let (namespace, name) = key;
        serde_json::from_value(json!({
            "apiVersion": "claviger.dev/v1alpha1",
            "kind": kind,
            "metadata": {
                "namespace": namespace,
                "name": name,
                "uid": format!("uid-{}", self.made),
                "generation": 1,
                "resourceVersion": self.made.to_string(),
                "creationTimestamp": format!("2026-01-01T00:{:02}:{:02}Z", self.made / 60, self.made % 60),
            },
            "spec": spec,
        }))
        .unwrap()
    }

    fn issuer(&mut self, name: &str, spec: Value) {
        let defaults = json!({
            "url": "https://id.example.com",
            "signingKeys": [{"name": "main"}],
            "connectors": [{"name": "local"}],
            "allowedClients": {"namespaces": {"from": "All"}},
            "tenants": {
                "allowedConnectors": ["local"],
                "allowedRedirectURIHosts": ["app.example.com", "*.team-a.example.com"],
            },
        });
        let object = self.object("OIDCIssuer", (HOME, name), &merged(defaults, spec));
        insert(&mut self.world.issuers, (HOME, name), object);
    }

    fn connector(&mut self, name: &str, spec: Value) {
        let object = self.object("Connector", (HOME, name), &spec);
        insert(&mut self.world.connectors, (HOME, name), object);
    }

    fn signing_key(&mut self, name: &str, spec: Value) {
        let object = self.object("SigningKey", (HOME, name), &spec);
        insert(&mut self.world.signing_keys, (HOME, name), object);
    }

    fn local_user(&mut self, name: &str, spec: Value) {
        let defaults = json!({
            "email": format!("{name}@example.com"),
            "passwordHash": {"secretRef": {"name": "hashes", "key": name}},
        });
        let object = self.object("LocalUser", (HOME, name), &merged(defaults, spec));
        insert(&mut self.world.local_users, (HOME, name), object);
    }

    /// A public client that needs nothing.
    fn client(&mut self, namespace: &str, name: &str, spec: Value) {
        let defaults = json!({
            "issuerRef": {"name": "main", "namespace": HOME},
            "type": "Public",
            "redirectURIs": ["https://app.example.com/callback"],
        });
        let object = self.object("OAuth2Client", (namespace, name), &merged(defaults, spec));
        insert(&mut self.world.clients, (namespace, name), object);
    }

    fn secret(&mut self, key: (&str, &str), label: &str, data: &[(&str, &str)]) {
        self.made += 1;
        let (namespace, name) = key;
        let mut secret: Secret = serde_json::from_value(json!({"metadata": {
            "namespace": namespace,
            "name": name,
            "uid": format!("secret-{}", self.made),
            "resourceVersion": self.made.to_string(),
            "labels": {labels::SECRET: label},
        }}))
        .unwrap();
        let bytes = |(key, value): &(&str, &str)| {
            ((*key).to_owned(), ByteString(value.as_bytes().to_vec()))
        };
        secret.data = Some(data.iter().map(bytes).collect());
        insert(&mut self.world.secrets, key, secret);
    }

    /// A settled ring of fresh keys for a `SigningKey`.
    fn ring(&mut self, signing_key: &str, algorithms: &[&str]) -> Vec<String> {
        let mut ring = Ring::default();
        for algorithm in algorithms {
            let algorithm = algorithm.parse().unwrap();
            let policy = Policy {
                algorithm,
                rotation_period: 30 * 86_400,
                rotation_request: 0,
                longest_token_seconds: 600,
                overlap: 0,
                lead: 270,
                revoked: BTreeSet::new(),
            };
            while ring.step(self.now, &policy).needs_key {
                let key = PrivateKey::generate(algorithm, 2048).unwrap();
                let pem = key.to_pkcs8_pem().unwrap();
                ring.keys.push(RingKey::pending(key.kid().to_owned(), algorithm, pem, self.now));
            }
        }
        ring.confirm(self.now);
        ring.revision = 1;
        ring.lineage.clone_from(&ring.keys[0].kid);
        self.put_ring(signing_key, &ring);
        ring.keys.iter().map(|key| key.kid.clone()).collect()
    }

    /// A new version of a `SigningKey`'s Secret, with this ring.
    fn put_ring(&mut self, signing_key: &str, ring: &Ring) {
        let name = secret_name(signing_key);
        self.secret((HOME, &name), labels::SECRET_SIGNING_KEY, &[]);
        let key = ObjectKey::new(HOME, &name);
        let secret = self.world.secrets.get_mut(&key).map(Arc::make_mut).unwrap();
        secret.data = Some(ring_secret::encode(ring));
    }

    /// Labels a ring's Secret as the reconciler does.
    fn label_ring(&mut self, name: &str, signing_key: &str) {
        let key = ObjectKey::new(HOME, &secret_name(name));
        let secret = self.world.secrets.get_mut(&key).map(Arc::make_mut).unwrap();
        let labels = secret.metadata.labels.get_or_insert_default();
        labels.insert(labels::SIGNING_KEY.into(), signing_key.into());
    }

    fn sealing_ring(&mut self) {
        let rings = Rings::generate(self.now).unwrap();
        self.put_sealing_ring(&rings);
    }

    fn put_sealing_ring(&mut self, rings: &Rings) {
        let json = String::from_utf8(rings.to_json().unwrap().to_vec()).unwrap();
        self.put_sealing_document(&json);
    }

    fn put_sealing_document(&mut self, json: &str) {
        self.secret(
            (HOME, sealing::SECRET_NAME),
            labels::SECRET_SEALING_RING,
            &[(sealing::RING, json)],
        );
    }

    /// An object that does not fit its schema.
    fn unreadable(&mut self, source: Source, key: (&str, &str), spec: Value) {
        let object = self.object(&source.to_string(), key, &spec);
        insert(self.world.unreadable.entry(source).or_default(), key, object);
    }

    fn remove_secret(&mut self, namespace: &str, name: &str) -> Arc<Secret> {
        self.world.secrets.remove(&ObjectKey::new(namespace, name)).unwrap()
    }
}

fn insert<K>(objects: &mut Objects<K>, key: (&str, &str), object: K) {
    objects.insert(ObjectKey::new(key.0, key.1), Arc::new(object));
}

/// The defaults with the top-level fields that a test says otherwise.
fn merged(defaults: Value, spec: Value) -> Value {
    let (Value::Object(mut all), Value::Object(own)) = (defaults, spec) else { panic!() };
    all.extend(own);
    all.retain(|_, value| !value.is_null());
    Value::Object(all)
}

impl Assessment {
    fn said(&self, kind: &str, key: (&str, &str), condition: &str) -> Said {
        let key = ObjectKey::new(key.0, key.1);
        let update = self
            .updates
            .iter()
            .find(|update| update.resource.kind == kind && update.key == key)
            .unwrap_or_else(|| panic!("no status for {kind} {key}"));
        let status = update.tree().unwrap();
        let conditions = status["conditions"].as_array().unwrap();
        let found = conditions.iter().find(|one| one["type"] == condition).unwrap();
        let text = |field: &str| found[field].as_str().unwrap().to_owned();
        (text("status"), text("reason"), text("message"))
    }

    /// `Accepted=True`, as `status/reason`.
    fn word(&self, kind: &str, key: (&str, &str), condition: &str) -> String {
        let (status, reason, _) = self.said(kind, key, condition);
        format!("{status}/{reason}")
    }

    fn client_word(&self, namespace: &str, name: &str, condition: &str) -> String {
        self.word("OAuth2Client", (namespace, name), condition)
    }

    fn issuer(&self, name: &str) -> Option<&Arc<Issuer>> {
        self.snapshot.issuers.iter().find(|issuer| issuer.name == name)
    }

    fn entry(&self, id: &str) -> Option<&ClientEntry> {
        self.issuer("main")?.client(id)
    }

    fn served(&self, id: &str) -> Option<&Arc<Client>> {
        match self.entry(id)? {
            ClientEntry::InService(client) => Some(client),
            ClientEntry::OutOfService(_) => None,
        }
    }
}

#[test]
fn the_small_world_is_in_order_and_all_of_it_is_served() {
    let mut fixture = Fixture::new();
    fixture.client(HOME, "kubernetes", json!({}));
    let assessment = fixture.assess();
    for (kind, name) in [
        ("OIDCIssuer", "main"),
        ("SigningKey", "main"),
        ("Connector", "local"),
        ("OAuth2Client", "kubernetes"),
    ] {
        assert_eq!(assessment.word(kind, (HOME, name), "Ready"), "True/Ready", "{kind}");
    }
    assert!(assessment.readiness.is_ready());
    assert!(assessment.served("kubernetes").is_some());
}

#[test]
fn a_world_whose_status_is_written_asks_for_no_write() {
    let mut fixture = Fixture::new();
    fixture.client(HOME, "kubernetes", json!({}));
    let first = fixture.assess();
    assert_eq!(first.updates.len(), 4);
    for update in first.updates.iter() {
        let world = &mut fixture.world;
        match update.resource.kind.as_str() {
            "OIDCIssuer" => put(&mut world.issuers, update, written),
            "Connector" => put(&mut world.connectors, update, written),
            "SigningKey" => put(&mut world.signing_keys, update, written),
            _ => put(&mut world.clients, update, written),
        }
    }
    fixture.now += 1_000;
    for progress in fixture.world.sources.values_mut() {
        *progress = Progress::Synced { confirmed_at: fixture.now };
    }
    assert!(fixture.assess().updates.is_empty());
}

fn written<K: serde::Serialize + DeserializeOwned>(object: &K, status: &Value) -> K {
    let mut json = serde_json::to_value(object).unwrap();
    json["status"] = status.clone();
    serde_json::from_value(json).unwrap()
}

fn put<K>(objects: &mut Objects<K>, update: &StatusUpdate, written: fn(&K, &Value) -> K) {
    let object = objects.get_mut(&update.key).unwrap();
    *object = Arc::new(written(object, &update.tree().unwrap()));
}

#[test]
fn a_world_that_nothing_confirms_mints_nothing_and_says_so() {
    let mut fixture = Fixture::new();
    let fresh = fixture.assess();
    assert_eq!(fresh.next, Some(fixture.now + 150));
    let keys = &fresh.issuer("main").unwrap().keys;
    assert_eq!((keys.signers.len(), keys.max_age_seconds), (1, 60));
    fixture.now += 150;
    let stale = fixture.assess();
    let keys = &stale.issuer("main").unwrap().keys;
    assert_eq!((keys.signers.len(), keys.max_age_seconds), (0, 0));
    assert!(!keys.key_set.keys().is_empty(), "what was signed can still be verified");
    assert!(!stale.readiness.is_ready());
}

#[test]
fn a_clock_in_doubt_signs_nothing_and_takes_no_key_out_of_the_jwks() {
    let mut fixture = Fixture::new();
    let mut ring = fixture.assess().signing_keys[0].ring.clone();
    let retiring = ring.keys[0].clone();
    let until = fixture.now + 600;
    ring.keys[0].stage = Stage::Retiring { retired_at: fixture.now, until };
    ring.keys[1].stage = Stage::Active { activated_at: fixture.now, longest_token_seconds: 600 };
    ring.revision += 1;
    fixture.put_ring("main", &ring);
    let hours_ahead = fixture.now + 6 * 3_600;
    let at = Moment { now: hours_ahead, elapsed: fixture.now, in_doubt: true };
    let published = |assessment: &Assessment| {
        let keys = &assessment.issuer("main").unwrap().keys;
        let is_there = keys.key_set.get(&retiring.kid).is_some();
        (is_there, keys.signers.len(), keys.max_age_seconds)
    };
    let doubted = assess(fixture.world.clone(), &mut fixture.memo, at);
    assert_eq!(published(&doubted), (true, 0, 0));
    assert!(!doubted.readiness.is_ready());
    let sure = Moment { in_doubt: false, ..at };
    let trusted = assess(fixture.world.clone(), &mut fixture.memo, sure);
    assert_eq!(published(&trusted), (false, 1, 60));
    assert!(trusted.readiness.is_ready());
}
