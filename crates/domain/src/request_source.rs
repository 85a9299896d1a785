//! Where an authorization request's parameters come from, before anything else looks at them:
//!
//! ```text
//! plain ──────────────────────────────┐
//! request_uri ─→ open what was sealed ├─→ parameters ─→ authorize::begin
//! request ─────→ the client's keys ───┘
//! ```
//! What always holds: only the client that pushed a request may use it, and only at the issuer it was
//! pushed to; an object is believed by the keys that are registered, never by any it brings; one that
//! must be pushed is taken from nowhere else. Nothing is stored.

use claviger_protocol::client_auth::ClientCredentials;
use claviger_protocol::error::{ErrorCode, ErrorResponse};
use claviger_protocol::form::Params;
use claviger_protocol::pushed_request::{PushedResponse, REQUEST_URI_PREFIX};
use claviger_protocol::request_object::{self, MAX_REQUEST_OBJECT};
use claviger_seal::{Context, Purpose};
use serde::{Deserialize, Serialize};

use crate::authorize;
use crate::client::{Client, ClientAuthentication};
use crate::dpop::{self, Proof};
use crate::issuer::{ClientEntry, Issuer};
use crate::provider::Provider;
use crate::token::{TokenError, authenticate};

/// How long a pushed request is good, in seconds (RFC 9126 2.2 recommends 5 to 600).
pub const PUSHED_SECONDS: i64 = 60;
/// Longest `request_uri`, in characters: addresses beyond 4 `KiB` meet proxies that cut them.
pub const MAX_REQUEST_URI: usize = 3_072;
/// What proves the client at `/par`, and is no part of its request.
const PROOFS: [&str; 3] = ["client_secret", "client_assertion", "client_assertion_type"];

/// A request that was pushed.
#[derive(Debug, Serialize, Deserialize)]
struct Pushed {
    /// UID of the client that pushed it.
    #[serde(rename = "c")]
    client_uid: String,
    /// Its parameters.
    #[serde(rename = "p")]
    params: Vec<(String, String)>,
}

impl Pushed {
    fn seal(&self, issuer: &Issuer, now: i64) -> String {
        let plain = serde_json::to_vec(self).unwrap_or_default();
        let until = now + PUSHED_SECONDS;
        let sealed = issuer.sealing.seal(Purpose::PushedRequest, &context(issuer), until, &plain);
        format!("{REQUEST_URI_PREFIX}{sealed}")
    }

    fn open(issuer: &Issuer, sealed: &str, now: i64) -> Option<Self> {
        let opened = issuer.sealing.open(Purpose::PushedRequest, &context(issuer), now, sealed);
        serde_json::from_slice(&opened.ok()?).ok()
    }
}

fn context(issuer: &Issuer) -> Context<'_> {
    Context { issuer_uid: &issuer.uid, object_name: None, client_uid: None }
}

/// Takes a client's request and gives what stands for it (RFC 9126 2).
///
/// # Errors
/// [`TokenError`]: who asks is not who they say, or the authorization endpoint would refuse it.
pub async fn push(
    provider: &Provider,
    issuer: &Issuer,
    credentials: &ClientCredentials,
    (params, proof): (Params, Option<&str>),
) -> Result<PushedResponse, TokenError> {
    let client = authenticate(provider, issuer, credentials, "/par").await?;
    if let Some(doubt) = provider.clock.doubt() {
        return Err(TokenError::unavailable(doubt));
    }
    let invalid = |why: &str| Err(TokenError::refused(ErrorCode::InvalidRequest, why));
    if params.get("request_uri").is_some() {
        return invalid("request_uri cannot be pushed");
    }
    let params = params.without(&PROOFS).with("client_id", &client.id);
    let params = match params.get("request").map(str::to_owned) {
        Some(object) => signed(provider, issuer, client, (&object, &params)).await?,
        None => params,
    };
    let params = bound_to_key(provider, issuer, client, (params, proof))?;
    authorize::check(provider, issuer, client, &params)
        .map_err(|(code, why)| TokenError::refused(code, why))?;
    let params = params.pairs().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    let pushed = Pushed { client_uid: client.uid.clone(), params };
    let request_uri = pushed.seal(issuer, provider.clock.now());
    if request_uri.len() > MAX_REQUEST_URI {
        return invalid("the request is too long: shorten scope, claims, state or resource");
    }
    Ok(PushedResponse { request_uri, expires_in: PUSHED_SECONDS })
}

/// A proof at `/par` binds the code as `dpop_jkt` would (RFC 9449 10.1).
fn bound_to_key(
    provider: &Provider,
    issuer: &Issuer,
    client: &Client,
    (params, proof): (Params, Option<&str>),
) -> Result<Params, TokenError> {
    let Some(jwt) = proof else { return Ok(params) };
    let proof = Proof { jwt, method: "POST", path: "/par", access_token: None };
    let key = dpop::verify(provider, issuer, proof).and_then(|verified| {
        // Anyone may say a public client's ID, and none shall use up its room; what a second use of the proof
        // gives is one more request that is bound to its key.
        if client.is_confidential() {
            verified.claim(provider, &client.uid)
        } else {
            Ok(verified.key)
        }
    })?;
    match params.get("dpop_jkt") {
        Some(said) if said != key => Err(TokenError::refused(
            ErrorCode::InvalidRequest,
            "dpop_jkt names another key than the DPoP header proves",
        )),
        _ => Ok(params.without(&["dpop_jkt"]).with("dpop_jkt", &key)),
    }
}

/// The parameters that a request at the authorization endpoint means.
///
/// # Errors
/// [`TokenError`], to be shown to the user: what it means cannot be told.
pub async fn resolve(
    provider: &Provider,
    issuer: &Issuer,
    params: Params,
) -> Result<Params, TokenError> {
    let client = params.get("client_id").and_then(|id| issuer.client(id));
    let Some(ClientEntry::InService(client)) = client else {
        return Ok(params); // refused in its place
    };
    let pushed = params.get("request_uri").and_then(|uri| uri.strip_prefix(REQUEST_URI_PREFIX));
    let object = params.get("request");
    let invalid = |why: &str| Err(TokenError::refused(ErrorCode::InvalidRequest, why));
    match (pushed, object) {
        (Some(_), Some(_)) => invalid("use request or request_uri, not both"),
        (Some(sealed), None) => {
            let found = Pushed::open(issuer, sealed, provider.clock.now());
            match found.filter(|pushed| pushed.client_uid == client.uid) {
                Some(pushed) => Ok(pushed.params.into_iter().collect()),
                None => Err(TokenError::refused(
                    ErrorCode::InvalidRequestUri,
                    "request_uri has expired or is none of this client's: begin again",
                )),
            }
        }
        _ if client.demands.pushed_requests => {
            invalid("this client must push its request first (RFC 9126)")
        }
        (None, Some(object)) if matches!(client.authentication, ClientAuthentication::Keys(_)) => {
            signed(provider, issuer, client, (object, &params)).await
        }
        _ => Ok(params),
    }
}

/// The parameters of a request object that one of the client's keys signed.
async fn signed(
    provider: &Provider,
    issuer: &Issuer,
    client: &Client,
    object: (&str, &Params),
) -> Result<Params, TokenError> {
    let refused = |error: ErrorResponse| {
        TokenError::refused(error.error, error.error_description.unwrap_or_default())
    };
    let ClientAuthentication::Keys(keys) = &client.authentication else {
        let why = "request needs a client with keys (private_key_jwt)";
        return Err(TokenError::refused(ErrorCode::RequestNotSupported, why));
    };
    if object.0.len() > MAX_REQUEST_OBJECT {
        let why = format!("request is longer than {MAX_REQUEST_OBJECT} bytes");
        return Err(TokenError::refused(ErrorCode::InvalidRequestObject, why));
    }
    let clock = provider.clock.as_ref();
    let whose = (client.id.as_str(), issuer.url.as_str());
    let claims = provider.assertions.verify_request(whose, keys, object.0, clock).await?;
    request_object::parameters(&claims, object.1).map_err(refused)
}
