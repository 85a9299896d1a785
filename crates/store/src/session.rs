//! [`Sessions`] over `Session` objects: create, get, and some patches.
//!
//! A patch that assumes something is a JSON patch that begins with `test` operations, so that what it
//! assumes and what it changes are one atomic request (RFC 6902 4.6); the API server answers 422 when a
//! test fails. Revoking assumes nothing, not even that labels are left: it is a merge patch (RFC 7386).

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use claviger_api::{Session, SessionSpec, labels, time};
use claviger_domain::ports::{
    Activation, NewSession, RevocationReason, Rotation, SessionKind, SessionLabels, SessionState,
    Sessions, StoreError, StoredSession,
};
use kube::api::{
    Api, ApiResource, DynamicObject, ListParams, ObjectMeta, Patch, PatchParams, PostParams,
};
use serde_json::{Value, json};

use crate::garbage::tombstone_hour;
use crate::request::{Failure, within};
use crate::revoked::RevokedSessions;
use crate::write_gate::{Whose, WriteGate};

/// Name under which our writes stand in `managedFields`.
const FIELD_MANAGER: &str = "claviger-sessions";
/// Sessions of one browser that are listed at once, and how often: a browser has a session a client and sign-in.
const BROWSER_PAGE: u32 = 100;
const BROWSER_PAGES: usize = 20;
const LABELS_POINTER: &str = "/metadata/labels";
const EXPIRY_HOUR_POINTER: &str = "/metadata/labels/claviger.dev~1expiry-hour";

/// Sessions as Kubernetes objects in one namespace.
#[derive(Debug, Clone)]
pub struct KubeSessions {
    api: Api<Session>,
    /// The same, for lists in which one that cannot be read must not hide the others.
    untyped: Api<DynamicObject>,
    revoked: Arc<RevokedSessions>,
    gate: Arc<WriteGate>,
}

impl KubeSessions {
    /// Sessions in a namespace; `client` must be a [`crate::request_path_client`]. What this process
    /// revokes is known in `revoked` at once; all that it writes but revocations passes `gate`.
    pub fn new(
        client: kube::Client,
        namespace: &str,
        revoked: Arc<RevokedSessions>,
        gate: Arc<WriteGate>,
    ) -> Self {
        let kind = ApiResource::erase::<Session>(&());
        let untyped = Api::namespaced_with(client.clone(), namespace, &kind);
        Self { api: Api::namespaced(client, namespace), untyped, revoked, gate }
    }

    /// Gives a client's Active session another payload, if it still has this one.
    async fn replace_if_unchanged(
        &self,
        read: &StoredSession,
        payload: &str,
    ) -> Result<(), StoreError> {
        let operations = json!([
            {"op": "test", "path": "/spec/state", "value": "Active"},
            {"op": "test", "path": "/spec/clientUID", "value": read.client_uid},
            {"op": "test", "path": "/spec/payload", "value": read.payload},
            {"op": "replace", "path": "/spec/payload", "value": payload},
        ]);
        self.patch(&read.name, operations).await.map(drop)
    }

    /// The sessions with these labels: a list, a page at a time.
    async fn selected(&self, selector: &str) -> Result<Vec<StoredSession>, StoreError> {
        let mut params = ListParams::default().labels(selector).limit(BROWSER_PAGE);
        let mut found = Vec::new();
        for _ in 0..BROWSER_PAGES {
            let page = within(self.untyped.list(&params)).await?;
            params.continue_token = page.metadata.continue_.filter(|next| !next.is_empty());
            found.extend(page.items.into_iter().filter_map(readable));
            if params.continue_token.is_none() {
                return Ok(found);
            }
        }
        tracing::warn!(
            selector,
            found = found.len(),
            "a browser or user has more sessions than are looked at"
        );
        Ok(found)
    }

    /// Merges a patch that assumes nothing; a session that is gone is no error.
    async fn merge(&self, name: &str, patch: Value, revokes: bool) -> Result<(), StoreError> {
        match within(self.api.patch_metadata(name, &params(), &Patch::Merge(patch))).await {
            Ok(_) => {
                if revokes {
                    self.revoked.insert(name);
                }
                Ok(())
            }
            Err(Failure::Answered(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn patch(&self, name: &str, operations: Value) -> Result<StoredSession, StoreError> {
        let patch = serde_json::from_value(operations).map_err(unavailable)?;
        let patched = within(self.api.patch(name, &params(), &Patch::Json::<()>(patch))).await;
        stored(patched.map_err(|error| match error {
            Failure::Answered(status) if matches!(status.code, 404 | 409 | 422) => {
                StoreError::PreconditionFailed
            }
            other => other.into(),
        })?)
    }
}

#[async_trait]
impl Sessions for KubeSessions {
    async fn create(&self, session: &NewSession) -> Result<(), StoreError> {
        let _permit = self.gate.pass(Whose::User(&session.labels.user_hash))?;
        let object = object(session);
        let params =
            PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
        match within(self.api.create(&params, &object)).await {
            Ok(_) => Ok(()),
            Err(Failure::Answered(status)) if status.is_already_exists() => {
                Err(StoreError::AlreadyExists)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn get(&self, name: &str) -> Result<Option<StoredSession>, StoreError> {
        match within(self.api.get(name)).await {
            Ok(session) => stored(session).map(Some),
            Err(Failure::Answered(status)) if status.code == 404 => Ok(None),
            Err(Failure::Unreadable(error)) => {
                tracing::warn!(session = name, error, "a session was edited into something else");
                Ok(None) // waiting heals nothing: it is nobody's
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn rotate(&self, rotation: &Rotation) -> Result<StoredSession, StoreError> {
        let _permit = self.gate.pass(Whose::Session(&rotation.name))?;
        let mut operations = vec![
            json!({"op": "test", "path": "/spec/state", "value": "Active"}),
            json!({"op": "test", "path": "/spec/generation", "value": rotation.from_generation}),
            json!({"op": "test", "path": "/spec/clientUID", "value": rotation.client_uid}),
            json!({"op": "replace", "path": "/spec/generation", "value": rotation.from_generation + 1}),
            json!({"op": "replace", "path": "/spec/rotatedAt", "value": time::from_seconds(rotation.rotated_at)}),
        ];
        if let Some(labels) = &rotation.labels {
            let labels = object_labels(labels, rotation.expires_at);
            operations.push(json!({"op": "add", "path": LABELS_POINTER, "value": labels}));
        }
        operations.extend(expiry(rotation.expires_at));
        if let Some(payload) = &rotation.payload {
            operations.push(json!({"op": "replace", "path": "/spec/payload", "value": payload}));
        }
        self.patch(&rotation.name, Value::Array(operations)).await
    }

    async fn activate(&self, activation: &Activation) -> Result<StoredSession, StoreError> {
        let _permit = self.gate.pass(Whose::Session(&activation.name))?;
        let mut operations = vec![
            json!({"op": "test", "path": "/spec/state", "value": "Pending"}),
            json!({"op": "test", "path": "/spec/clientUID", "value": activation.client_uid}),
            json!({"op": "replace", "path": "/spec/state", "value": "Active"}),
            json!({"op": "add", "path": "/spec/redemptionID", "value": activation.redemption_id}),
            json!({"op": "replace", "path": "/spec/rotatedAt", "value": time::from_seconds(activation.activated_at)}),
        ];
        operations.extend(expiry(activation.expires_at));
        self.patch(&activation.name, Value::Array(operations)).await
    }

    async fn of_browser(&self, browser_hash: &str) -> Result<Vec<StoredSession>, StoreError> {
        self.selected(&format!("{}={browser_hash}", labels::BROWSER_HASH)).await
    }

    async fn of_user(&self, user_hash: &str) -> Result<Vec<StoredSession>, StoreError> {
        // What is over takes no room from what is not.
        let (user, state, over) = (labels::USER_HASH, labels::STATE, labels::STATE_REVOKED);
        self.selected(&format!("{user}={user_hash},{state}!={over}")).await
    }

    async fn replace_payload(&self, name: &str, payload: &str) -> Result<(), StoreError> {
        let _permit = self.gate.pass(Whose::Session(name))?;
        let operations = json!([
            {"op": "test", "path": "/spec/state", "value": "Active"},
            {"op": "test", "path": "/spec/type", "value": "Browser"},
            {"op": "replace", "path": "/spec/payload", "value": payload},
        ]);
        self.patch(name, operations).await.map(drop)
    }

    async fn claim(&self, read: &StoredSession, payload: &str) -> Result<(), StoreError> {
        let _permit = self.gate.pass(Whose::Session(&read.name))?;
        self.replace_if_unchanged(read, payload).await
    }

    async fn keep(&self, claimed: &StoredSession, payload: &str) -> Result<(), StoreError> {
        match self.replace_if_unchanged(claimed, payload).await {
            // A connection that was idle while the upstream was asked may be dead by now, and what is not given back is
            // withheld from its user for minutes. If it was done after all, the second one fails its test.
            Err(StoreError::Unavailable { retry_after: None, .. }) => {
                self.replace_if_unchanged(claimed, payload).await
            }
            other => other,
        }
    }

    async fn revoke(
        &self,
        name: &str,
        reason: RevocationReason,
        now: i64,
    ) -> Result<(), StoreError> {
        self.merge(name, tombstone(reason, now), true).await
    }

    async fn end_and_tell(
        &self,
        name: &str,
        revoked: Option<RevocationReason>,
        now: i64,
    ) -> Result<(), StoreError> {
        self.merge(name, untold(revoked, now), revoked.is_some()).await
    }

    async fn settled(&self, name: &str) -> Result<(), StoreError> {
        self.merge(name, told(), false).await
    }
}

/// The merge patch that marks a session whose client is yet to be told.
fn untold(revoked: Option<RevocationReason>, now: i64) -> Value {
    let mut patch = revoked.map_or_else(|| json!({}), |reason| tombstone(reason, now));
    patch["metadata"]["labels"][labels::LOGOUT_PENDING] = json!(now.to_string());
    patch
}

/// The merge patch that takes the mark off.
pub(crate) fn told() -> Value {
    json!({"metadata": {"labels": {labels::LOGOUT_PENDING: null}}})
}

/// The merge patch that makes a session a tombstone.
pub(crate) fn tombstone(reason: RevocationReason, now: i64) -> Value {
    json!({
        "metadata": {"labels": {
            labels::STATE: labels::STATE_REVOKED,
            labels::EXPIRY_HOUR: tombstone_hour(now),
        }},
        "spec": {"state": "Revoked", "revokedReason": reason.as_str()},
    })
}

/// Every patch of ours names its author.
pub(crate) fn params() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() }
}

/// The operations that move a session's expiry, and the label garbage collection selects by.
fn expiry(expires_at: i64) -> [Value; 2] {
    [
        json!({"op": "replace", "path": "/spec/expiresAt", "value": time::from_seconds(expires_at)}),
        // Added, so that it comes back where somebody removed it.
        json!({"op": "add", "path": EXPIRY_HOUR_POINTER, "value": expiry_hour(expires_at)}),
    ]
}

/// Value of the label that garbage collection selects by.
pub(crate) fn expiry_hour(expires_at: i64) -> String {
    expires_at.div_euclid(3_600).to_string()
}

fn object_labels(of: &SessionLabels, expires_at: i64) -> BTreeMap<String, String> {
    [
        (labels::EXPIRY_HOUR, expiry_hour(expires_at)),
        (labels::ISSUER_HASH, of.issuer_hash.clone()),
        (labels::USER_HASH, of.user_hash.clone()),
        (labels::CLIENT_HASH, of.client_hash.clone()),
    ]
    .into_iter()
    .chain(of.browser_hash.iter().map(|hash| (labels::BROWSER_HASH, hash.clone())))
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

fn object(session: &NewSession) -> Session {
    Session {
        metadata: ObjectMeta {
            name: Some(session.name.clone()),
            labels: Some(object_labels(&session.labels, session.expires_at)),
            ..ObjectMeta::default()
        },
        spec: SessionSpec {
            state: match session.state {
                SessionState::Pending => claviger_api::SessionState::Pending,
                SessionState::Active => claviger_api::SessionState::Active,
                SessionState::Revoked => claviger_api::SessionState::Revoked,
            },
            type_: match session.kind {
                SessionKind::Client => claviger_api::SessionType::Client,
                SessionKind::Browser => claviger_api::SessionType::Browser,
            },
            generation: 0,
            client_uid: session.client_uid.clone(),
            client_id: session.client_id.clone(),
            connector: session.connector.clone(),
            user: session.user.clone(),
            rotated_at: time::from_seconds(session.rotated_at),
            expires_at: time::from_seconds(session.expires_at),
            redemption_id: session.redemption_id.clone(),
            revoked_reason: None,
            payload: session.payload.clone(),
        },
    }
}

/// A listed session; one that was edited into something else is nobody's, and is said.
fn readable(object: DynamicObject) -> Option<StoredSession> {
    let name = object.metadata.name.clone().unwrap_or_default();
    let session = object.try_parse::<Session>().map_err(|error| error.to_string());
    match session.and_then(|session| stored(session).map_err(|error| error.to_string())) {
        Ok(session) => Some(session),
        Err(error) => {
            tracing::warn!(session = name, error, "a session was edited into something else");
            None
        }
    }
}

pub(crate) fn stored(session: Session) -> Result<StoredSession, StoreError> {
    let spec = session.spec;
    Ok(StoredSession {
        name: session.metadata.name.ok_or_else(|| unavailable("session without a name"))?,
        state: match spec.state {
            claviger_api::SessionState::Pending => SessionState::Pending,
            claviger_api::SessionState::Active => SessionState::Active,
            claviger_api::SessionState::Revoked => SessionState::Revoked,
        },
        generation: spec.generation,
        client_uid: spec.client_uid,
        rotated_at: time::to_seconds(&spec.rotated_at),
        expires_at: time::to_seconds(&spec.expires_at),
        redemption_id: spec.redemption_id,
        payload: spec.payload,
    })
}

pub(crate) fn unavailable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable { message: error.to_string(), retry_after: None }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use kube::Config;
    use prometheus::Registry;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::api_time::ApiTime;
    use crate::client::request_path_client;
    use crate::write_gate::{Share, WriteLimits};

    /// An API server that says the same to everybody, and counts.
    struct Parrot {
        sessions: KubeSessions,
        asked: Arc<AtomicUsize>,
    }

    impl Parrot {
        async fn saying(answer: &str, writes: u32) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let asked = Arc::new(AtomicUsize::new(0));
            let (counter, answer) = (Arc::clone(&asked), answer.replace('\n', "\r\n"));
            tokio::spawn(async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    tokio::spawn(say(stream, answer.clone(), Arc::clone(&counter)));
                }
            });
            let config = Config::new(url.parse().unwrap());
            let client = request_path_client(&config, &Arc::new(ApiTime::default())).unwrap();
            let writes = NonZeroU32::new(writes).unwrap();
            let share = Share { per_minute: NonZeroU32::MIN, burst: NonZeroU32::new(2).unwrap() };
            let limits = WriteLimits {
                per_second: writes,
                burst: writes,
                in_flight: writes,
                per_user: share,
                per_session: share,
            };
            let gate = Arc::new(WriteGate::new(limits, &Registry::new()).unwrap());
            Self { sessions: KubeSessions::new(client, "home", Arc::default(), gate), asked }
        }

        fn asked(&self) -> usize {
            self.asked.swap(0, Ordering::SeqCst)
        }
    }

    async fn say(mut stream: TcpStream, answer: String, asked: Arc<AtomicUsize>) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        // A connection that is closed on unread bytes is reset, and the answer with it.
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
        stream.read_exact(&mut body).await.unwrap();
        asked.fetch_add(1, Ordering::SeqCst);
        stream.write_all(answer.as_bytes()).await.unwrap();
    }

    fn rotation() -> Rotation {
        Rotation {
            name: "name".into(),
            client_uid: "uid".into(),
            from_generation: 1,
            rotated_at: 0,
            expires_at: 0,
            payload: None,
            labels: None,
        }
    }

    /// What a rotation comes to, and how many requests it was.
    async fn rotated(answer: &str) -> (StoreError, usize) {
        let parrot = Parrot::saying(answer, 100).await;
        let error = parrot.sessions.rotate(&rotation()).await.unwrap_err();
        (error, parrot.asked())
    }

    #[tokio::test]
    async fn what_is_refused_at_the_door_did_not_happen_and_is_asked_once() {
        // Word for word what API priority and fairness says.
        let said = "HTTP/1.1 429 Too Many Requests\nRetry-After: 7\nConnection: close\n\n\
                    Too many requests, please try again later.\n";
        let (error, asked) = rotated(said).await;
        assert_eq!(asked, 1);
        let StoreError::Refused { message, retry_after: Some(7) } = error else {
            panic!("{error:?}");
        };
        assert!(message.contains("429: Too many requests"), "{message}");
    }

    #[tokio::test]
    async fn what_timed_out_may_have_happened_and_says_how_long_to_wait() {
        for code in [500, 503, 504] {
            let said = format!("HTTP/1.1 {code} X\nRetry-After: 9\nConnection: close\n\nsorry");
            let (error, asked) = rotated(&said).await;
            assert_eq!(asked, 1, "{code}");
            assert!(
                matches!(error, StoreError::Unavailable { retry_after: Some(9), .. }),
                "{error:?}"
            );
        }
        let (error, _) = rotated("HTTP/1.1 503 X\nConnection: close\n\nsorry").await;
        assert!(matches!(error, StoreError::Unavailable { retry_after: None, .. }), "{error:?}");
    }

    #[tokio::test]
    async fn what_is_to_be_kept_is_sent_once_more_where_nobody_answers() {
        let read = StoredSession {
            name: "name".into(),
            state: SessionState::Active,
            generation: 1,
            client_uid: "uid".into(),
            rotated_at: 0,
            expires_at: 0,
            redemption_id: None,
            payload: "sealed".into(),
        };
        for (answer, claims, keeps) in [
            ("HTTP/1.1 200 OK\nContent-Length: 50\n\n{", 1, 2),
            ("HTTP/1.1 503 X\nRetry-After: 9\nConnection: close\n\nsorry", 1, 1),
            ("HTTP/1.1 422 X\nConnection: close\n\nno", 1, 1),
        ] {
            let parrot = Parrot::saying(answer, 100).await;
            parrot.sessions.claim(&read, "claimed").await.unwrap_err();
            assert_eq!(parrot.asked(), claims, "{answer}");
            parrot.sessions.keep(&read, "kept").await.unwrap_err();
            assert_eq!(parrot.asked(), keeps, "{answer}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_may_have_happened() {
        let (error, asked) = rotated("HTTP/1.1 200 OK\nContent-Length: 50\n\n{").await;
        assert_eq!(asked, 1);
        assert!(matches!(error, StoreError::Unavailable { retry_after: None, .. }), "{error:?}");
    }

    #[tokio::test]
    async fn beyond_the_limit_nothing_is_asked_but_a_revocation() {
        let parrot = Parrot::saying("HTTP/1.1 404 Not Found\nConnection: close\n\n", 1).await;
        assert_eq!(
            parrot.sessions.rotate(&rotation()).await.unwrap_err(),
            StoreError::PreconditionFailed
        );
        assert_eq!(parrot.asked(), 1);
        let refused = parrot.sessions.rotate(&rotation()).await.unwrap_err();
        assert!(matches!(refused, StoreError::Refused { retry_after: Some(1), .. }), "{refused:?}");
        assert_eq!(parrot.asked(), 0);
        parrot.sessions.revoke("name", RevocationReason::CodeReplayed, 0).await.unwrap();
        assert_eq!(parrot.asked(), 1);
    }

    #[test]
    fn what_is_yet_to_be_told_says_since_when_and_ends_only_with_a_reason() {
        let marked = untold(None, 1_764_000_000);
        assert_eq!(
            marked,
            json!({"metadata": {"labels": {"claviger.dev/logout-pending": "1764000000"}}})
        );
        let ended = untold(Some(RevocationReason::SignedOut), 1_764_000_000);
        assert_eq!(ended["spec"], json!({"state": "Revoked", "revokedReason": "SignedOut"}));
        assert_eq!(ended["metadata"]["labels"][labels::STATE], labels::STATE_REVOKED);
        assert_eq!(ended["metadata"]["labels"][labels::LOGOUT_PENDING], "1764000000");
    }

    #[tokio::test]
    async fn one_session_that_cannot_be_read_hides_no_other_of_its_browser() {
        let session = |name: &str, generation: Value| {
            json!({
                "apiVersion": "claviger.dev/v1alpha1", "kind": "Session",
                "metadata": {"name": name},
                "spec": {
                    "state": "Active", "type": "Client", "generation": generation, "clientUID": "c",
                    "clientID": "c", "connector": "n", "user": "u",
                    "rotatedAt": "2025-01-01T00:00:00Z", "expiresAt": "2025-01-02T00:00:00Z", "payload": "p",
                },
            })
        };
        let list = json!({
            "apiVersion": "claviger.dev/v1alpha1", "kind": "SessionList", "metadata": {},
            "items": [session("edited", json!("many")), session("whole", json!(0))],
        });
        let body = list.to_string();
        let head = "HTTP/1.1 200 OK\nContent-Type: application/json\nConnection: close";
        let length = body.len();
        let parrot =
            Parrot::saying(&format!("{head}\nContent-Length: {length}\n\n{body}"), 1).await;
        let found = parrot.sessions.of_browser("b").await.unwrap();
        let names: Vec<_> = found.into_iter().map(|session| session.name).collect();
        assert_eq!(names, ["whole"]);
        assert_eq!(parrot.asked(), 1);
    }

    #[tokio::test]
    async fn a_list_without_an_end_is_left_after_so_many_pages() {
        let list = json!({
            "apiVersion": "claviger.dev/v1alpha1", "kind": "SessionList",
            "metadata": {"continue": "more"}, "items": [],
        });
        let body = list.to_string();
        let head = "HTTP/1.1 200 OK\nContent-Type: application/json\nConnection: close";
        let length = body.len();
        let parrot =
            Parrot::saying(&format!("{head}\nContent-Length: {length}\n\n{body}"), 1).await;
        assert!(parrot.sessions.of_browser("b").await.unwrap().is_empty());
        assert_eq!(parrot.asked(), BROWSER_PAGES);
    }

    fn new_session(user: &str) -> NewSession {
        NewSession {
            name: "name".into(),
            kind: SessionKind::Client,
            state: SessionState::Active,
            client_uid: "client".into(),
            client_id: "client".into(),
            connector: "local".into(),
            user: user.into(),
            labels: SessionLabels {
                issuer_hash: "issuer".into(),
                user_hash: user.into(),
                client_hash: "client".into(),
                browser_hash: None,
            },
            rotated_at: 0,
            expires_at: 0,
            redemption_id: None,
            payload: String::new(),
        }
    }

    #[tokio::test]
    async fn who_signs_in_or_refreshes_in_a_loop_is_refused_before_any_request() {
        let parrot = Parrot::saying("HTTP/1.1 404 Not Found\nConnection: close\n\n", 100).await;
        for _ in 0..10 {
            drop(parrot.sessions.create(&new_session("ann")).await);
            drop(parrot.sessions.rotate(&rotation()).await);
        }
        assert_eq!(parrot.asked(), 4, "two of each");
        let refused = parrot.sessions.create(&new_session("ann")).await.unwrap_err();
        assert!(matches!(refused, StoreError::Refused { retry_after: Some(1..), .. }));
        drop(parrot.sessions.create(&new_session("bob")).await);
        assert_eq!(parrot.asked(), 1);
    }
}
