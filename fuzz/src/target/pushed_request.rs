//! Pushed authorization requests (RFC 9126): a form of a client, and what stands for it.

use std::sync::{Mutex, OnceLock, PoisonError};

use claviger_domain::fakes::World;
use claviger_domain::request_source::{MAX_REQUEST_URI, push, resolve};
use claviger_protocol::client_auth::ClientCredentials;
use claviger_protocol::form::Params;
use claviger_protocol::pushed_request::REQUEST_URI_PREFIX;
use tokio::runtime::Runtime;

/// What was taken comes back to the client that pushed it, without what proved the client, and to no other.
pub fn push_and_resolve(bytes: &[u8]) {
    static SITE: OnceLock<Mutex<(Runtime, World)>> = OnceLock::new();
    let site = SITE.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        Mutex::new((runtime.expect("a runtime"), World::new()))
    });
    let site = site.lock().unwrap_or_else(PoisonError::into_inner);
    let (runtime, World { provider, issuer, sessions, .. }) = &*site;
    let Ok(params) = Params::parse(bytes) else { return };
    let Ok(credentials) = ClientCredentials::from_parts(None, &params) else { return };
    let pushed = push(provider, issuer, &credentials, (params.clone(), None));
    let Ok(pushed) = runtime.block_on(pushed) else { return };
    assert!(pushed.request_uri.len() <= MAX_REQUEST_URI, "{}", pushed.request_uri.len());
    assert!(pushed.request_uri.starts_with(REQUEST_URI_PREFIX));
    assert!(!pushed.request_uri.contains("s3cret"));
    let named = |client: &str| {
        let query = Params::default().with("client_id", client);
        let query = query.with("request_uri", &pushed.request_uri);
        runtime.block_on(resolve(provider, issuer, query))
    };
    let found = named(credentials.client_id()).expect("what was pushed is there");
    for (name, value) in found.pairs() {
        assert!(!name.starts_with("client_secret") && !name.starts_with("client_assertion"));
        let is_known = params.all(name).any(|said| said == value);
        assert!(is_known || (name, value) == ("client_id", credentials.client_id()), "{name}");
    }
    for (name, value) in params.pairs().filter(|(name, _)| !name.starts_with("client_")) {
        assert!(found.all(name).any(|kept| kept == value), "{name} is lost");
    }
    for other in ["kubernetes", "cli"].into_iter().filter(|id| *id != credentials.client_id()) {
        assert!(named(other).is_err(), "{other} uses what another pushed");
    }
    assert!(sessions.take_requests().is_empty(), "a request is stored");
}
