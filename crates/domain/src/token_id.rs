//! `jti` of an ID token: which session of ours it comes of, and a part that makes it the only one.
//!
//! An API server writes it into its audit log (`authentication.kubernetes.io/credential-id`), so an administrator
//! finds the Session there; and whoever presents the token is told whether that still stands. A session's name
//! is a hash and opens nothing. The token of a workload has no session, and its `jti` none either.

use crate::provider::Provider;

/// Characters of a session's name.
const NAME_LENGTH: usize = 32;

/// A `jti` that was never given before.
pub(crate) fn of_session(provider: &Provider, session: &str) -> String {
    format!("{session}.{}", provider.random_id())
}

/// The session that a `jti` names.
pub(crate) fn session_in(jti: &str) -> Option<&str> {
    let (session, _) = jti.split_once('.')?;
    let is_name = |byte: u8| matches!(byte, b'a'..=b'z' | b'2'..=b'7'); // base32
    (session.len() == NAME_LENGTH && session.bytes().all(is_name)).then_some(session)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::World;
    use crate::session::name_for_flow;

    #[test]
    fn it_names_the_session_and_is_another_each_time() {
        let provider = World::new().provider;
        let name = name_for_flow("issuer", "flow");
        let [one, other] = [(), ()].map(|()| of_session(&provider, &name));
        assert_ne!(one, other);
        assert_eq!((session_in(&one), session_in(&other)), (Some(&*name), Some(&*name)));
        let random = provider.random_id();
        for none in ["", ".", &random, "x.y", &format!("{}.x", name.to_uppercase()), &name] {
            assert_eq!(session_in(none), None, "{none}");
        }
    }
}
