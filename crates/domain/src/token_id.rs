//! `jti` of an ID token: which session of ours it comes of, a part that makes it the only one, and which clients, by
//! their objects, it was made for.
//!
//! ```text
//! <session>.<random>.<a pin of each client in aud and azp>
//! ```
//! An API server writes it into its audit log (`authentication.kubernetes.io/credential-id`), so an administrator
//! finds the Session there; and whoever presents the token is told whether that still stands. A session's name
//! is a hash and opens nothing, and a pin is one of a UID: a client that takes the ID of one that is gone has another, and
//! the tokens of that are not its own. The token of a workload has no session, and its `jti` none either.

use crate::issuer::Issuer;
use crate::provider::Provider;
use crate::session::client_pin;

/// Characters of a session's name.
const NAME_LENGTH: usize = 32;

/// A `jti` that was never given before, of a token for the clients of these IDs.
pub(crate) fn of_session<'a>(
    provider: &Provider,
    issuer: &Issuer,
    session: &str,
    clients: impl IntoIterator<Item = &'a str>,
) -> String {
    let mut pins: Vec<String> = Vec::new();
    for entry in clients.into_iter().filter_map(|id| issuer.client(id)) {
        let pin = client_pin(&issuer.uid, entry.uid());
        if !pins.contains(&pin) {
            pins.push(pin);
        }
    }
    format!("{session}.{}.{}", provider.random_id(), pins.concat())
}

/// What the `jti` of a session's ID token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TokenId<'a> {
    /// Name of the session.
    pub session: &'a str,
    pins: &'a str,
}

impl<'a> TokenId<'a> {
    /// Reads a `jti`; `None` where it names no session.
    pub fn read(jti: &'a str) -> Option<Self> {
        let (session, rest) = jti.split_once('.')?;
        let is_name = |byte: u8| matches!(byte, b'a'..=b'z' | b'2'..=b'7'); // base32
        let (_, pins) = rest.split_once('.')?;
        (session.len() == NAME_LENGTH && session.bytes().all(is_name))
            .then_some(Self { session, pins })
    }

    /// Whether the token was made for the client whose object has this UID, or given to it.
    pub fn is_for(self, issuer: &Issuer, client_uid: &str) -> bool {
        let pin = client_pin(&issuer.uid, client_uid);
        self.pins.as_bytes().chunks_exact(pin.len()).any(|known| known == pin.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::World;
    use crate::session::name_for_flow;

    #[test]
    fn it_names_the_session_and_is_another_each_time() {
        let world = World::new();
        let (provider, issuer) = (&world.provider, &world.issuer);
        let name = name_for_flow("issuer", "flow");
        let [one, other] = [(), ()].map(|()| of_session(provider, issuer, &name, ["kubernetes"]));
        assert_ne!(one, other);
        let session = |jti| TokenId::read(jti).map(|id| id.session);
        assert_eq!((session(&one), session(&other)), (Some(&*name), Some(&*name)));
        let random = provider.random_id();
        for none in
            ["", ".", "..", &random, "x.y.z", &format!("{}.x.y", name.to_uppercase()), &name]
        {
            assert_eq!(session(none), None, "{none}");
        }
    }

    #[test]
    fn it_is_for_the_objects_of_its_clients_and_not_for_their_names() {
        let world = World::new();
        let (provider, issuer) = (&world.provider, &world.issuer);
        let name = name_for_flow("issuer", "flow");
        let uid = |id: &str| issuer.client(id).unwrap().uid();
        let is_for = |jti: &str, uid: &str| TokenId::read(jti).unwrap().is_for(issuer, uid);
        let both = of_session(provider, issuer, &name, ["cli", "kubernetes", "cli", "nobody"]);
        assert!(is_for(&both, uid("cli")) && is_for(&both, uid("kubernetes")));
        assert!(!is_for(&both, "another") && !is_for(&both, "") && !is_for(&both, "kubernetes"));
        let one = of_session(provider, issuer, &name, ["cli"]);
        assert!(is_for(&one, uid("cli")) && !is_for(&one, uid("kubernetes")));
        assert_eq!(both.len() - one.len(), 8, "each once");
        assert!(!is_for(&of_session(provider, issuer, &name, []), ""));
    }
}
