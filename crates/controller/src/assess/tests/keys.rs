use super::*;
use crate::world::Obstacle;
use claviger_jose::PublicKey;

fn main_key(assessment: &Assessment, condition: &str) -> String {
    assessment.word("SigningKey", (HOME, "main"), condition)
}

#[test]
fn the_jwks_holds_the_active_and_the_next_key_and_one_signer_per_algorithm() {
    let mut fixture = Fixture::new();
    let kids = fixture.ring("main", &["ES256"]);
    let assessment = fixture.assess();
    let keys = &assessment.issuer("main").unwrap().keys;
    let published: Vec<&str> = keys.key_set.keys().iter().map(PublicKey::kid).collect();
    assert_eq!(published, kids);
    assert_eq!(keys.signers[&Algorithm::ES256].kid(), kids[0]);
    assert!(keys.jwks.contains(&kids[1]));
    assert!(!keys.jwks.contains("\"d\""), "a private key is published");
}

#[test]
fn a_signer_is_built_once_and_kept() {
    let mut fixture = Fixture::new();
    let signer = |assessment: &Assessment| {
        Arc::clone(&assessment.issuer("main").unwrap().keys.signers[&Algorithm::ES256])
    };
    let first = signer(&fixture.assess());
    fixture.client(HOME, "app", json!({}));
    assert!(Arc::ptr_eq(&first, &signer(&fixture.assess())));
    let key = ObjectKey::new(HOME, &secret_name("main"));
    let secret = fixture.world.secrets.get_mut(&key).map(Arc::make_mut).unwrap();
    secret.metadata.resource_version = Some("touched".into());
    assert!(Arc::ptr_eq(&first, &signer(&fixture.assess())), "another version, the same key");
}

#[test]
fn several_signing_keys_merge_and_the_first_gives_the_default() {
    let mut fixture = Fixture::new();
    fixture.signing_key("wide", json!({"algorithm": "ES384"}));
    fixture.ring("wide", &["ES384"]);
    fixture.issuer("main", json!({"signingKeys": [{"name": "main"}, {"name": "wide"}]}));
    fixture.client(HOME, "app", json!({"idTokenSigningAlgorithm": "ES384"}));
    let assessment = fixture.assess();
    let keys = &assessment.issuer("main").unwrap().keys;
    assert_eq!(keys.signers.len(), 2);
    assert_eq!(keys.key_set.keys().len(), 4);
    assert_eq!(keys.default_algorithm, Algorithm::ES256);
    assert_eq!(assessment.served("app").unwrap().id_token_algorithm, Algorithm::ES384);
}

#[test]
fn a_second_signing_key_that_is_missing_leaves_the_issuer_in_service() {
    let mut fixture = Fixture::new();
    fixture.issuer("main", json!({"signingKeys": [{"name": "main"}, {"name": "gone"}]}));
    let assessment = fixture.assess();
    let main = (HOME, "main");
    assert_eq!(assessment.word("OIDCIssuer", main, "Ready"), "False/SigningKeyNotFound");
    assert!(assessment.issuer("main").is_some());
}

#[test]
fn a_revoked_key_leaves_the_jwks_at_once_and_the_next_one_signs() {
    let mut fixture = Fixture::new();
    let kids = fixture.ring("main", &["ES256"]);
    fixture.signing_key("main", json!({"algorithm": "ES256", "revokedKeyIDs": [kids[0]]}));
    let assessment = fixture.assess();
    let keys = &assessment.issuer("main").unwrap().keys;
    assert!(keys.key_set.get(&kids[0]).is_none());
    assert_eq!(keys.signers[&Algorithm::ES256].kid(), kids[1]);
}

#[test]
fn the_first_key_is_planned_and_said_to_be_under_way() {
    let mut fixture = Fixture::new();
    fixture.remove_secret(HOME, &secret_name("main"));
    let assessment = fixture.assess();
    assert_eq!(main_key(&assessment, "ResolvedRefs"), "False/Progressing");
    assert_eq!(assessment.signing_keys.len(), 1);
    assert!(assessment.signing_keys[0].observed.is_none());
    assert!(assessment.issuer("main").is_none());
}

#[test]
fn a_deleted_key_secret_is_served_from_memory_and_planned_anew_with_the_same_keys() {
    let mut fixture = Fixture::new();
    let kids = fixture.ring("main", &["ES256"]);
    let secret = fixture.remove_secret(HOME, &secret_name("main"));
    fixture.world.remembered.insert(ObjectKey::new(HOME, &secret_name("main")), secret);
    let assessment = fixture.assess();
    let keys = &assessment.issuer("main").unwrap().keys;
    assert_eq!(keys.signers[&Algorithm::ES256].kid(), kids[0]);
    let plan = &assessment.signing_keys[0];
    assert!(plan.observed.is_none());
    assert_eq!(plan.ring.keys.iter().map(|key| key.kid.clone()).collect::<Vec<_>>(), kids);
}

#[test]
fn a_foreign_secret_is_never_planned_to_be_written() {
    let key = ObjectKey::new(HOME, &secret_name("main"));
    let mut labelled = Fixture::new();
    labelled.remove_secret(HOME, &key.name);
    labelled.secret((HOME, &key.name), "connector", &[("password", "theirs")]);
    let assessment = labelled.assess();
    assert_eq!(main_key(&assessment, "ResolvedRefs"), "False/SecretNotOwned");
    assert!(assessment.signing_keys.is_empty());
    let mut unlabelled = Fixture::new();
    unlabelled.remove_secret(HOME, &key.name);
    unlabelled.world.obstacles.insert(key, Obstacle::Foreign);
    let assessment = unlabelled.assess();
    assert_eq!(main_key(&assessment, "ResolvedRefs"), "False/SecretNotOwned");
    assert!(assessment.signing_keys[0].observed.is_none(), "only ever a create");
}

#[test]
fn an_unreadable_key_secret_is_healed_from_memory_and_without_it_left_alone() {
    let mut fixture = Fixture::new();
    let kids = fixture.ring("main", &["ES256"]);
    fixture.assess();
    let name = secret_name("main");
    fixture.secret((HOME, &name), labels::SECRET_SIGNING_KEY, &[("ring.json", "{}")]);
    let assessment = fixture.assess();
    assert_eq!(main_key(&assessment, "Ready"), "False/SecretInvalid");
    assert!(assessment.issuer("main").is_some());
    let plan = &assessment.signing_keys[0];
    assert!(plan.observed.is_some() && !plan.intact, "written over what is there");
    assert_eq!(plan.ring.keys.iter().map(|key| key.kid.clone()).collect::<Vec<_>>(), kids);
    let mut restarted = Fixture { memo: Memo::new(Arc::new(())), ..fixture };
    let assessment = restarted.assess();
    assert_eq!(main_key(&assessment, "ResolvedRefs"), "False/SecretInvalid");
    assert!(assessment.issuer("main").is_none());
    assert!(assessment.signing_keys.is_empty());
}

#[test]
fn an_unreadable_key_secret_that_is_deleted_is_written_anew() {
    let mut fixture = Fixture::new();
    let kids = fixture.ring("main", &["ES256"]);
    fixture.assess();
    let name = secret_name("main");
    fixture.secret((HOME, &name), labels::SECRET_SIGNING_KEY, &[("ring.json", "{}")]);
    fixture.assess();
    let unreadable = fixture.remove_secret(HOME, &name);
    fixture.world.remembered.insert(ObjectKey::new(HOME, &name), unreadable);
    let planned = |assessment: &Assessment| -> Vec<String> {
        let plan = &assessment.signing_keys[0];
        assert!(plan.observed.is_none());
        plan.ring.keys.iter().map(|key| key.kid.clone()).collect()
    };
    let assessment = fixture.assess();
    assert_eq!(planned(&assessment), kids);
    assert!(assessment.issuer("main").is_some());
    let mut restarted = Fixture { memo: Memo::new(Arc::new(())), ..fixture };
    let assessment = restarted.assess();
    assert!(planned(&assessment).is_empty(), "new keys, for nobody knows the old ones");
    assert_eq!(main_key(&assessment, "ResolvedRefs"), "False/Progressing");
}

#[test]
fn a_key_under_another_keys_id_is_refused() {
    let mut fixture = Fixture::new();
    let kids = fixture.ring("main", &["ES256"]);
    let key = ObjectKey::new(HOME, &secret_name("main"));
    let secret = fixture.world.secrets.get_mut(&key).map(Arc::make_mut).unwrap();
    let data = secret.data.as_mut().unwrap();
    let other = data[&format!("{}.pem", kids[1])].clone();
    data.insert(format!("{}.pem", kids[0]), other);
    let (_, reason, message) = fixture.assess().said("SigningKey", (HOME, "main"), "ResolvedRefs");
    assert_eq!(reason, "SecretInvalid");
    assert!(message.contains("thumbprint"), "{message}");
}

#[test]
fn status_reports_the_ring_and_is_never_read() {
    let mut fixture = Fixture::new();
    let kids = fixture.ring("main", &["ES256"]);
    let key = ObjectKey::new(HOME, "main");
    let forged = json!({"keys": [{"kid": "forged", "algorithm": "ES256", "state": "Active",
        "since": "2026-01-01T00:00:00Z"}]});
    let object = fixture.world.signing_keys.get_mut(&key).map(Arc::make_mut).unwrap();
    object.status = Some(serde_json::from_value(forged).unwrap());
    let assessment = fixture.assess();
    let update =
        assessment.updates.iter().find(|update| update.resource.kind == "SigningKey").unwrap();
    let said = update.tree().unwrap();
    let states: Vec<_> = said["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| (key["kid"].as_str().unwrap(), key["state"].as_str().unwrap()))
        .collect();
    assert_eq!(states, [(kids[0].as_str(), "Active"), (kids[1].as_str(), "Published")]);
    assert!(assessment.issuer("main").unwrap().keys.key_set.get("forged").is_none());
}

#[test]
fn a_rotation_wakes_the_publisher_in_time() {
    let mut fixture = Fixture::new();
    fixture.signing_key("main", json!({"algorithm": "ES256", "rotationPeriodSeconds": 600}));
    for progress in fixture.world.sources.values_mut() {
        *progress = Progress::Synced { confirmed_at: fixture.now + 10_000 };
    }
    let longest_token_and_lead = 600 + 270;
    assert_eq!(fixture.assess().next, Some(fixture.now + longest_token_and_lead));
    fixture.signing_key("main", json!({"algorithm": "ES256", "rotationPeriodSeconds": 900}));
    assert_eq!(fixture.assess().next, Some(fixture.now + 900));
}

/// Signing key and the keys in the JWKS.
fn served(assessment: &Assessment) -> (String, Vec<String>) {
    let keys = &assessment.issuer("main").unwrap().keys;
    let published = keys.key_set.keys().iter().map(|key| key.kid().to_owned()).collect();
    (keys.signers[&Algorithm::ES256].kid().to_owned(), published)
}

#[test]
fn an_older_or_another_ring_put_in_place_changes_no_replicas_signing_key() {
    let mut fixture = Fixture::new();
    let newer = fixture.ring("main", &["ES256"]);
    assert_eq!(served(&fixture.assess()), (newer[0].clone(), newer.clone()));
    let key = ObjectKey::new(HOME, &secret_name("main"));
    let secret = fixture.world.secrets[&key].clone();

    // A backup of another ring, whose Active key nobody has in a cache.
    let foreign = fixture.ring("main", &["ES256"]);
    let assessment = fixture.assess();
    let published = [foreign.clone(), newer.clone()].concat();
    assert_eq!(served(&assessment), (newer[0].clone(), published));
    assert_eq!(main_key(&assessment, "Ready"), "False/SecretReplaced");
    let plan = &assessment.signing_keys[0];
    assert!(plan.observed.is_some() && !plan.intact, "it is written back");

    // The leader's answer, and with it all is well.
    let mut healed = plan.ring.clone();
    healed.revision += 1;
    fixture.put_ring("main", &healed);
    let assessment = fixture.assess();
    assert_eq!(main_key(&assessment, "Ready"), "True/Ready");
    assert!(assessment.signing_keys[0].intact);

    // An older revision of the same ring takes nothing away.
    let mut old = Arc::unwrap_or_clone(secret);
    old.metadata.resource_version = Some("restored".into());
    fixture.world.secrets.insert(key, Arc::new(old));
    let assessment = fixture.assess();
    assert_eq!(main_key(&assessment, "Ready"), "False/SecretReplaced");
    assert_eq!(assessment.signing_keys[0].ring.keys.len(), 4);
    assert_eq!(served(&assessment).0, newer[0]);
}

#[test]
fn a_ring_that_no_leader_contests_for_the_lead_is_taken() {
    let mut fixture = Fixture::new();
    let ours = fixture.ring("main", &["ES256"]);
    fixture.assess();
    let theirs = fixture.ring("main", &["ES256"]);
    for (after, signs) in [(0, &ours[0]), (269, &ours[0]), (270, &theirs[0])] {
        let now = fixture.now + after;
        let mut memo = std::mem::replace(&mut fixture.memo, Memo::new(Arc::new(())));
        let mut world = fixture.world.clone();
        for progress in world.sources.values_mut() {
            *progress = Progress::Synced { confirmed_at: now };
        }
        let assessment = assess(world, &mut memo, Moment::at(now));
        fixture.memo = memo;
        assert_eq!(&served(&assessment).0, signs, "after {after} s");
    }
}

#[test]
fn a_rotation_that_was_asked_for_is_said_with_its_time_until_it_has_come() {
    for spec in [json!({"algorithm": "ES256", "rotationRequest": 1}), json!({"algorithm": "RS256"})]
    {
        let mut fixture = Fixture::new();
        assert_eq!(main_key(&fixture.assess(), "Rotated"), "True/Rotated");
        let mut ring = fixture.assess().signing_keys[0].ring.clone();
        fixture.signing_key("main", spec);
        let policy = fixture.assess().signing_keys[0].policy.clone();
        let step = |ring: &mut Ring, now| {
            while ring.step(now, &policy).needs_key {
                let key = PrivateKey::generate(policy.algorithm, 2048).unwrap();
                let pem = key.to_pkcs8_pem().unwrap();
                ring.keys.push(RingKey::pending(key.kid().into(), policy.algorithm, pem, now));
            }
            ring.confirm(now);
            ring.revision += 1;
        };
        step(&mut ring, fixture.now);
        fixture.put_ring("main", &ring);
        let assessment = fixture.assess();
        let (status, reason, message) = assessment.said("SigningKey", (HOME, "main"), "Rotated");
        assert_eq!((status.as_str(), reason.as_str()), ("False", "RotationPending"));
        let due = claviger_api::time::from_seconds(fixture.now + 270).0.to_string();
        assert!(message.contains(&due), "{message}");
        assert_eq!(main_key(&assessment, "Ready"), "True/Ready");
        step(&mut ring, fixture.now + 270);
        fixture.put_ring("main", &ring);
        assert_eq!(main_key(&fixture.assess(), "Rotated"), "True/Rotated");
    }
}

#[test]
fn a_schedule_that_tokens_do_not_allow_is_said_with_what_to_change() {
    let mut fixture = Fixture::new();
    fixture.signing_key("main", json!({"algorithm": "ES256", "rotationPeriodSeconds": 900}));
    assert_eq!(main_key(&fixture.assess(), "ScheduleFeasible"), "True/Feasible");
    fixture.client(HOME, "app", json!({"idTokenLifetimeSeconds": 7200}));
    let assessment = fixture.assess();
    let (_, reason, message) = assessment.said("SigningKey", (HOME, "main"), "ScheduleFeasible");
    assert_eq!(reason, "ImpossibleSchedule");
    assert!(message.contains("raise rotationPeriodSeconds to 7470"), "{message}");
    assert_eq!(assessment.signing_keys[0].policy.effective_period(), 7_470);
}

#[test]
fn a_withdrawn_key_is_said_with_who_may_still_trust_it() {
    let mut fixture = Fixture::new();
    let kids = fixture.ring("main", &["ES256"]);
    let withdrawn = "RevokedKeysWithdrawn";
    assert_eq!(main_key(&fixture.assess(), withdrawn), "True/NothingRevoked");
    fixture.signing_key("main", json!({"algorithm": "ES256", "revokedKeyIDs": [kids[0]]}));
    let assessment = fixture.assess();
    assert_eq!(main_key(&assessment, withdrawn), "False/Progressing");
    let plan = &assessment.signing_keys[0];
    let mut ring = plan.ring.clone();
    ring.step(fixture.now, &plan.policy);
    ring.revision += 1;
    fixture.put_ring("main", &ring);
    let (status, reason, message) = fixture.assess().said("SigningKey", (HOME, "main"), withdrawn);
    assert_eq!((status.as_str(), reason.as_str()), ("True", "Withdrawn"));
    assert!(message.contains("unbounded"), "{message}");
}

#[test]
fn the_longest_token_of_any_client_counts_for_retirement() {
    let mut fixture = Fixture::new();
    fixture.client(HOME, "app", json!({"idTokenLifetimeSeconds": 7200}));
    assert_eq!(fixture.assess().signing_keys[0].policy.longest_token_seconds, 7_200);
}

#[test]
fn keys_without_a_signing_key_are_orphans_and_nothing_else_is() {
    let mut fixture = Fixture::new();
    let orphans = |fixture: &mut Fixture| -> Vec<String> {
        fixture.assess().orphans.iter().map(|orphan| orphan.key.name.clone()).collect()
    };
    fixture.label_ring("main", "main");
    assert!(orphans(&mut fixture).is_empty(), "its SigningKey is there");
    for (name, label) in [("gone", "gone"), ("odd", "other"), ("broken", "broken")] {
        fixture.ring(name, &["ES256"]);
        fixture.label_ring(name, label);
    }
    fixture.unreadable(Source::SigningKeys, (HOME, "broken"), json!({}));
    assert_eq!(orphans(&mut fixture), [secret_name("gone")]);
    let key = ObjectKey::new(HOME, &secret_name("gone"));
    let secret = fixture.world.secrets.get_mut(&key).map(Arc::make_mut).unwrap();
    let since = claviger_api::time::from_seconds(fixture.now).0.to_string();
    let annotations = secret.metadata.annotations.get_or_insert_default();
    annotations.insert(crate::secret::ORPHANED_AT.into(), since);
    assert_eq!(fixture.assess().orphans[0].orphaned_at, Some(fixture.now));
    fixture.signing_key("gone", json!({"algorithm": "ES256"}));
    assert!(orphans(&mut fixture).is_empty(), "it was restored");
}
