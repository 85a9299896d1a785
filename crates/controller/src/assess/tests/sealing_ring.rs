//! The sealing rings: what becomes of their Secret, and what an administrator asks for by it.

use claviger_seal::{Context, KeyRing, KeyState, OpenError, Purpose, RingKind};

use super::sealing::{Known, SECRET_NAME, Store};
use super::*;

const CONTEXT: Context<'_> = Context { issuer_uid: "issuer", object_name: None, client_uid: None };

impl Fixture {
    fn rings(&mut self) -> Known {
        match self.assess().sealing {
            Sealing::Known(known) => known,
            other => panic!("{other:?}"),
        }
    }

    fn annotate(&mut self, name: &str, value: &str) {
        self.made += 1;
        let key = ObjectKey::new(HOME, SECRET_NAME);
        let secret = self.world.secrets.get_mut(&key).map(Arc::make_mut).unwrap();
        secret.metadata.resource_version = Some(self.made.to_string());
        let annotations = secret.metadata.annotations.get_or_insert_default();
        annotations.insert(name.to_owned(), value.to_owned());
    }

    fn restarted(self) -> Self {
        Self { memo: Memo::new(Arc::new(())), ..self }
    }
}

fn ids(rings: &Rings) -> Vec<String> {
    rings.keys().map(|key| key.id().to_owned()).collect()
}

fn seal(ring: &KeyRing, purpose: Purpose) -> String {
    ring.seal(purpose, &CONTEXT, i64::MAX, b"x")
}

fn open(known: &Known, purpose: Purpose, text: &str) -> Result<Vec<u8>, OpenError> {
    known.ring.as_ref().unwrap().open(purpose, &CONTEXT, 0, text)
}

#[test]
fn without_a_sealing_ring_nothing_is_served_and_the_replica_is_not_ready() {
    let mut fixture = Fixture::new();
    fixture.remove_secret(HOME, SECRET_NAME);
    let assessment = fixture.assess();
    assert!(assessment.snapshot.issuers.is_empty());
    assert!(!assessment.readiness.is_ready());
    assert!(matches!(assessment.sealing, Sealing::Missing));
}

#[test]
fn a_ring_that_is_deleted_broken_or_unknown_to_its_secret_is_used_from_memory_and_written_again() {
    let cases: [fn(&mut Fixture); 4] = [
        |fixture| drop(fixture.remove_secret(HOME, SECRET_NAME)),
        |fixture| fixture.put_sealing_document("{"),
        |fixture| fixture.put_sealing_document(""),
        |fixture| fixture.secret((HOME, SECRET_NAME), labels::SECRET_SEALING_RING, &[]),
    ];
    for (at, change) in cases.into_iter().enumerate() {
        let mut fixture = Fixture::new();
        let before = fixture.rings();
        assert_eq!(before.store, Store::Same);
        change(&mut fixture);
        let assessment = fixture.assess();
        assert!(assessment.issuer("main").is_some() && assessment.readiness.is_ready(), "{at}");
        let after = fixture.rings();
        assert_eq!((after.store, ids(&after.rings)), (Store::Differs, ids(&before.rings)), "{at}");
        let forgot = fixture.restarted().assess().sealing;
        assert!(matches!(forgot, Sealing::Missing | Sealing::Unreadable(_)), "{at}: {forgot:?}");
    }
}

#[test]
fn what_is_somebody_elses_or_a_newer_releases_is_not_overwritten() {
    let cases: [fn(&mut Fixture); 2] = [
        |fixture| fixture.secret((HOME, SECRET_NAME), "connector", &[("password", "theirs")]),
        |fixture| fixture.put_sealing_document(r#"{"version": 3, "jewels": []}"#),
    ];
    for change in cases {
        let mut fixture = Fixture::new();
        fixture.assess();
        change(&mut fixture);
        let assessment = fixture.assess();
        assert!(assessment.issuer("main").is_some() && assessment.readiness.is_ready());
        assert_eq!(assessment.word("OIDCIssuer", (HOME, "main"), "Accepted"), "True/SecretInvalid");
        assert_eq!(fixture.rings().store, Store::Untouchable);
        let forgot = fixture.restarted().assess().sealing;
        assert!(matches!(forgot, Sealing::Blocked(_) | Sealing::Unreadable(_)), "{forgot:?}");
    }
}

#[test]
fn an_old_backup_takes_nothing_away_and_brings_nothing_back() {
    let mut fixture = Fixture::new();
    let backup = Rings::clone(&fixture.rings().rings);
    let schedule = fixture.rings().schedule;
    let mut live = backup.clone();
    while live.ring(RingKind::Short).keys()[0] == backup.ring(RingKind::Short).keys()[0] {
        while let Some(stepped) = live.step(fixture.now, &schedule, 0).unwrap() {
            live = stepped;
            fixture.put_sealing_ring(&live);
            fixture.assess();
        }
        fixture.now = live.due(&schedule, 0).unwrap();
    }
    let revoked = live.ring(RingKind::Long).active().unwrap().id().to_owned();
    live.revoke([revoked.as_str()]);
    fixture.put_sealing_ring(&live.completed(fixture.now).unwrap());
    let before = fixture.rings();
    fixture.put_sealing_ring(&backup);
    let after = fixture.rings();
    assert_eq!(after.store, Store::Differs);
    assert_eq!(ids(&after.rings), ids(&before.rings));
    assert_eq!(after.rings.revoked(), [revoked]);
}

#[test]
fn a_key_that_is_destroyed_is_not_kept_in_memory() {
    let mut fixture = Fixture::new();
    let old = fixture.rings().rings.ring(RingKind::Short).active().unwrap().id().to_owned();
    let mut rings = Rings::clone(&fixture.rings().rings);
    let schedule = fixture.rings().schedule;
    let mut held = true;
    while held {
        let known = format!("{:?}", fixture.memo.sealing);
        assert!(known.contains(&old));
        while let Some(stepped) = rings.step(fixture.now, &schedule, 0).unwrap() {
            rings = stepped;
            fixture.put_sealing_ring(&rings);
            fixture.assess();
        }
        held = ids(&rings).contains(&old);
        fixture.now = rings.due(&schedule, 0).unwrap();
    }
    let known = format!("{:?}", fixture.memo.sealing);
    assert!(!known.contains(&old), "{old} in {known}");
    fixture.remove_secret(HOME, SECRET_NAME);
    fixture.assess();
    assert!(!ids(&fixture.rings().rings).contains(&old));
}

#[test]
fn a_key_revoked_by_annotation_opens_nothing_at_once_and_stays_revoked_without_it() {
    let mut fixture = Fixture::new();
    let before = fixture.rings();
    let session = seal(before.ring.as_ref().unwrap(), Purpose::SessionPayload);
    let flow = seal(before.ring.as_ref().unwrap(), Purpose::Flow);
    let long = before.rings.ring(RingKind::Long);
    let (active, next) = (long.keys()[0].id().to_owned(), long.keys()[1].id().to_owned());
    let short = before.rings.ring(RingKind::Short).keys()[0].id().to_owned();
    fixture.annotate(labels::REVOKED_KEY_IDS, &format!(" {active}, {short},"));
    let after = fixture.rings();
    assert_eq!(after.store, Store::Differs, "the leader destroys the secrets");
    assert_eq!(after.complaints, Vec::<String>::new());
    assert_eq!(open(&after, Purpose::SessionPayload, &session), Err(OpenError::Revoked));
    assert_eq!(open(&after, Purpose::Flow, &flow), Err(OpenError::Revoked));
    let ring = after.ring.as_ref().unwrap();
    assert_eq!(ring.sealing_key(RingKind::Long).id(), next);
    fixture.put_sealing_ring(&before.rings);
    let without = fixture.rings();
    assert_eq!(open(&without, Purpose::SessionPayload, &session), Err(OpenError::Revoked));
}

#[test]
fn a_key_revoked_by_hand_in_the_document_is_written_out_of_it() {
    let mut fixture = Fixture::new();
    let rings = fixture.rings().rings;
    let id = rings.ring(RingKind::Long).keys()[0].id();
    let mut document: Value = serde_json::from_slice(&rings.to_json().unwrap()).unwrap();
    document["revoked"] = json!([id]);
    fixture.put_sealing_document(&document.to_string());
    let known = fixture.rings();
    assert_eq!(known.store, Store::Differs, "its secret still stands there");
    assert!(!ids(&known.rings).contains(&id.to_owned()));
}

#[test]
fn revoking_every_key_waits_for_the_leader_and_never_trusts_them_again() {
    let mut fixture = Fixture::new();
    let all = ids(&fixture.rings().rings).join(",");
    fixture.annotate(labels::REVOKED_KEY_IDS, &all);
    let assessment = fixture.assess();
    assert!(assessment.issuer("main").is_none() && !assessment.readiness.is_ready());
    let known = fixture.rings();
    assert!(known.ring.is_none() && known.store == Store::Differs);
    let completed = Rings::clone(&known.rings).completed(fixture.now).unwrap();
    let active = completed.ring(RingKind::Long).active().unwrap().state();
    assert_eq!(active, KeyState::Active { activated_at: fixture.now });
}

#[test]
fn a_rotation_is_asked_for_by_a_number() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.rings().request, 0);
    fixture.annotate(labels::ROTATION_REQUEST, "7");
    assert_eq!(fixture.rings().request, 7);
}

#[test]
fn what_cannot_be_understood_is_complained_about_and_the_rest_is_done() {
    for nonsense in ["seven", "-1", "9223372036854775808", "1.0", "", "1,2"] {
        let mut fixture = Fixture::new();
        fixture.annotate(labels::ROTATION_REQUEST, nonsense);
        let known = fixture.rings();
        assert_eq!((known.request, known.complaints.len()), (0, 1), "{nonsense}");
        let assessment = fixture.assess();
        assert!(assessment.readiness.is_ready() && assessment.issuer("main").is_some());
        assert_eq!(assessment.word("OIDCIssuer", (HOME, "main"), "Accepted"), "True/SecretInvalid");
    }
    let mut fixture = Fixture::new();
    let id = fixture.rings().rings.ring(RingKind::Long).keys()[0].id().to_owned();
    fixture.annotate(labels::REVOKED_KEY_IDS, &format!("ring.json,{id},ÄÖÜ; x"));
    let known = fixture.rings();
    assert_eq!(known.complaints.len(), 1);
    assert!(known.complaints[0].contains("2 entries"), "{}", known.complaints[0]);
    assert!(!ids(&known.rings).contains(&id));
    assert_eq!(known.rings.revoked(), [id]);
}

#[test]
fn however_many_ids_are_revoked_the_rings_settle() {
    let mut fixture = Fixture::new();
    let own = ids(&fixture.rings().rings);
    let letters = |text: String| -> String {
        text.bytes().map(|digit| char::from(digit - b'0' + b'a')).collect()
    };
    let strangers = (0..600).map(|n| letters(format!("{n:08}")));
    let all: Vec<String> = strangers.chain([own[0].clone()]).collect();
    fixture.annotate(labels::REVOKED_KEY_IDS, &all.join(","));
    let first = fixture.rings();
    assert!(!ids(&first.rings).contains(&own[0]));
    assert_eq!(fixture.rings().rings, first.rings, "nothing moves any more");
}

#[test]
fn a_document_of_the_first_format_is_read_and_written_anew() {
    let mut fixture = Fixture::new().restarted();
    let document = json!({"keys": [{
        "id": "bbbbbbbb", "createdAt": 0, "state": "Active", "activatedAt": 0,
        "secret": "HwECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
    }]});
    fixture.put_sealing_document(&document.to_string());
    let known = fixture.rings();
    assert_eq!(known.store, Store::Differs);
    assert_eq!(known.ring.unwrap().sealing_key(RingKind::Short).id(), "bbbbbbbb");
}
