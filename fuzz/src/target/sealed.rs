//! What browsers and clients carry for us: nothing opens that we did not seal, for what and whom we sealed it.

use std::sync::OnceLock;

use claviger_domain::refresh_token::{Binding, RefreshToken, connector_tag};
use claviger_seal::{Context, KeyRing, Purpose, Rings};
use secrecy::ExposeSecret;

use crate::edits;

const NOW: i64 = 1_767_225_600;
const CONTEXT: Context<'_> =
    Context { issuer_uid: "uid-of-issuer", object_name: Some("object"), client_uid: None };
const BINDING: Binding<'_> = Binding { issuer_uid: "uid-of-issuer", client_uid: "uid-of-client" };
const PLAIN: &[u8] = b"{\"what\": \"we carry\"}";

fn ring() -> &'static KeyRing {
    static RING: OnceLock<KeyRing> = OnceLock::new();
    RING.get_or_init(|| KeyRing::generate(NOW).expect("a ring can be made"))
}

/// No text opens, for any purpose, nor is it a refresh token.
pub fn any_text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for purpose in Purpose::ALL {
        assert!(ring().open(purpose, &CONTEXT, NOW, text).is_err(), "{text} opens as {purpose}");
    }
    assert!(RefreshToken::decode(text, ring(), BINDING, NOW).is_err(), "{text} is a refresh token");
}

/// The first byte chooses a purpose, the rest are edits: what we sealed for it opens unchanged, never otherwise, and for no
/// other purpose.
pub fn edited(bytes: &[u8]) {
    static BLOBS: OnceLock<Vec<(Purpose, String)>> = OnceLock::new();
    let blobs = BLOBS.get_or_init(|| {
        let seal = |purpose| (purpose, ring().seal(purpose, &CONTEXT, NOW + 60, PLAIN));
        Purpose::ALL.into_iter().map(seal).collect()
    });
    let Some((which, script)) = bytes.split_first() else { return };
    let (sealed_for, blob) = &blobs[usize::from(*which) % blobs.len()];
    let changed = edits::edited(blob, script);
    for purpose in Purpose::ALL {
        let opened = ring().open(purpose, &CONTEXT, NOW, &changed);
        let good = changed == *blob && purpose == *sealed_for;
        assert_eq!(opened.is_ok(), good, "{changed}, sealed for {sealed_for}, opens as {purpose}");
    }
}

/// Edits of a good refresh token: it is one unchanged, and never otherwise.
pub fn edited_refresh_token(script: &[u8]) {
    static TOKEN: OnceLock<String> = OnceLock::new();
    let good = TOKEN.get_or_init(|| {
        let token = RefreshToken {
            session: "session".into(),
            generation: 41,
            not_after: NOW + 60,
            connector_tag: connector_tag("connector"),
            key: Some("thumbprint".into()),
        };
        token.encode(ring(), BINDING).expose_secret().to_owned()
    });
    let changed = edits::edited(good, script);
    let read = RefreshToken::decode(&changed, ring(), BINDING, NOW);
    assert_eq!(read.is_ok(), changed == *good, "a changed refresh token is good: {changed}");
    let stranger = Binding { client_uid: "uid-of-another", ..BINDING };
    assert!(RefreshToken::decode(&changed, ring(), stranger, NOW).is_err());
}

/// The rings' Secret, which whoever may write it could write anything into: read the same after it was printed.
pub fn ring_document(bytes: &[u8]) {
    let Ok(rings) = Rings::from_json(bytes) else { return };
    let printed = rings.to_json().expect("rings can be printed");
    let again = Rings::from_json(&printed).expect("what we print can be read");
    let ids = |rings: &Rings| rings.keys().map(|key| key.id().to_owned()).collect::<Vec<_>>();
    assert_eq!(ids(&rings), ids(&again));
    assert_eq!(rings.revoked(), again.revoked());
}
