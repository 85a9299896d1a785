//! The cookie that signs a user in everywhere (single sign-on).

use std::sync::OnceLock;

use claviger_domain::browser_session::{BrowserSessions, Ticket, cookie_name};
use claviger_domain::fakes::World;
use claviger_domain::issuer::Issuer;

use super::signed::NOW;
use crate::edits::edited;

const IDLE: i64 = 3_600;

/// Edits of a good cookie, or any cookie at all: it is a ticket unchanged, under its name, at its issuer and in its time, and
/// never otherwise.
pub fn browser_ticket(bytes: &[u8]) {
    static KNOWN: OnceLock<(Issuer, Issuer, String)> = OnceLock::new();
    let (issuer, other, good) = KNOWN.get_or_init(|| {
        let mut issuer = World::new().issuer;
        issuer.browser_sessions =
            Some(BrowserSessions { idle: IDLE, absolute: IDLE, consent: IDLE });
        let other = Issuer { uid: "uid-of-another".into(), ..issuer.clone() };
        let ticket = Ticket { session: "session".into(), checked_at: NOW };
        let cookie = ticket.cookie(&issuer, NOW);
        (issuer, other, cookie.value)
    });
    let name = cookie_name(issuer);
    let read = |issuer: &Issuer, name: &str, value: &str, now: i64| {
        Ticket::of(issuer, [("other", "value"), (name, value)], now)
    };
    if let Ok(text) = std::str::from_utf8(bytes) {
        assert_eq!(read(issuer, &name, text, NOW), None, "{text} is a ticket");
    }
    let changed = edited(good, bytes);
    let found = read(issuer, &name, &changed, NOW);
    let ticket = Ticket { session: "session".into(), checked_at: NOW };
    assert_eq!(found, (changed == *good).then_some(ticket), "a changed ticket: {changed}");
    assert_eq!(
        read(issuer, "session", &changed, NOW).is_some(),
        name == "session" && changed == *good
    );
    assert_eq!(read(other, &name, &changed, NOW), None, "another issuer's cookie");
    let theirs = cookie_name(other);
    assert_eq!(read(other, &theirs, &changed, NOW), None, "another issuer's ticket");
    assert_eq!(read(issuer, &name, &changed, NOW + IDLE + 61), None, "a ticket of yesterday");
}
