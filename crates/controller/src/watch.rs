//! One reflector per kind: list, then watch, for ever.
//!
//! ```text
//! API server ─list/watch→ follow() ─Change→ Sink (world.rs)
//! ```
//! What always holds:
//! - a reflector never gives up: every failure is retried with a growing pause;
//! - a relist replaces what was known in one step, so nothing is ever half there;
//! - bookmarks are passed on: they prove that no event was missed, which the 150 s staleness bound
//!   needs (`kube::runtime::watcher` keeps them to itself);
//! - a connection that says nothing for `SILENCE` is given up and opened again.

use std::fmt::Debug;
use std::time::Duration;

use futures::StreamExt;
use kube::api::{Api, DynamicObject, ListParams, WatchEvent, WatchParams};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

/// Objects per page of a list: what client-go asks for.
const PAGE_SIZE: u32 = 500;
/// Bookmarks come about every 60 s; a connection silent for longer than this is taken for dead.
const SILENCE: Duration = Duration::from_secs(90);
/// Longest wait for the first byte of a list or watch.
const ANSWER: Duration = Duration::from_secs(15);
/// First pause after a failure; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause, which bounds how late a healed permission or API server is noticed.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A watch that ends sooner than this is followed by a pause, so that a server which closes at once
/// is not asked in a tight loop.
const SHORTEST_WATCH: Duration = Duration::from_secs(1);

/// What a reflector learned.
#[derive(Debug)]
pub enum Change<K> {
    /// All there is now: everything known before and not in here is gone.
    Replaced(Vec<K>),
    /// One object was made or changed.
    Applied(K),
    /// One object is gone.
    Deleted(K),
    /// Nothing changed up to this moment.
    Confirmed,
    /// The API server refuses to show these objects to us.
    Denied,
}

/// Why one round of listing and watching ended.
enum End {
    /// The server closed an orderly watch, or it fell silent: go on from this resource version.
    Resume(String),
    /// The resource version is too old: list again.
    Relist,
    Denied,
    Failed(String),
}

/// Follows all objects of one kind that the API and the selector show; never returns.
///
/// `sink` gets every [`Change`] in order. `what` names the reflector in logs.
pub async fn follow<K>(
    api: Api<K>,
    labels: Option<&'static str>,
    what: &str,
    mut sink: impl FnMut(Change<K>) + Send,
) where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut pause = FIRST_PAUSE;
    let mut version: Option<String> = None;
    let mut denied = false;
    loop {
        let began = Instant::now();
        let end = match version.clone() {
            Some(from) => watch(&api, labels, from, &mut sink).await,
            None => match list(&api, labels).await {
                Ok((objects, listed)) => {
                    sink(Change::Replaced(objects));
                    denied = false;
                    version = Some(listed);
                    continue;
                }
                Err(end) => end,
            },
        };
        match end {
            End::Resume(from) => {
                version = Some(from);
                if began.elapsed() >= SHORTEST_WATCH {
                    pause = FIRST_PAUSE;
                    continue;
                }
            }
            End::Relist => version = None,
            End::Denied => {
                version = None;
                if !denied {
                    tracing::warn!(what, "not allowed to list and watch; grant it by RBAC");
                }
                denied = true;
                sink(Change::Denied);
            }
            End::Failed(error) => tracing::warn!(what, error, "failed to watch; trying again"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn list<K>(api: &Api<K>, labels: Option<&str>) -> Result<(Vec<K>, String), End>
where
    K: Clone + Debug + DeserializeOwned,
{
    let mut params = ListParams { limit: Some(PAGE_SIZE), ..ListParams::default() };
    params.label_selector = labels.map(ToOwned::to_owned);
    let mut objects = Vec::new();
    loop {
        let page = tokio::time::timeout(ANSWER, api.list(&params))
            .await
            .map_err(|_| End::Failed("list timed out".into()))?
            .map_err(|error| end_of(&error))?;
        objects.extend(page.items);
        params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if params.continue_token.is_none() {
            return Ok((objects, page.metadata.resource_version.unwrap_or_default()));
        }
    }
}

async fn watch<K>(
    api: &Api<K>,
    labels: Option<&str>,
    mut version: String,
    sink: &mut (impl FnMut(Change<K>) + Send),
) -> End
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let params =
        WatchParams { label_selector: labels.map(ToOwned::to_owned), ..WatchParams::default() };
    let mut events = match tokio::time::timeout(ANSWER, api.watch(&params, &version)).await {
        Ok(Ok(events)) => events.boxed(),
        Ok(Err(error)) => return end_of(&error),
        Err(_) => return End::Failed("watch timed out".into()),
    };
    sink(Change::Confirmed);
    loop {
        let event = match tokio::time::timeout(SILENCE, events.next()).await {
            Ok(Some(Ok(event))) => event,
            // An orderly end, or silence: open the watch again where we are.
            Ok(None) | Err(_) => return End::Resume(version),
            Ok(Some(Err(error))) => return resume_or(&error, version),
        };
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                version = object.resource_version().unwrap_or(version);
                sink(Change::Applied(object));
            }
            WatchEvent::Deleted(object) => {
                version = object.resource_version().unwrap_or(version);
                sink(Change::Deleted(object));
            }
            WatchEvent::Bookmark(bookmark) => {
                version = bookmark.metadata.resource_version;
                sink(Change::Confirmed);
            }
            WatchEvent::Error(status) if status.code == 410 => return End::Relist,
            WatchEvent::Error(status) if status.code == 403 => return End::Denied,
            WatchEvent::Error(status) => return End::Failed(status.message.clone()),
        }
    }
}

/// A broken connection is no reason to list again; the next watch says whether the version is old.
fn resume_or(error: &kube::Error, version: String) -> End {
    match error {
        kube::Error::Api(_) => end_of(error),
        other => {
            tracing::debug!(error = %other, "watch connection ended");
            End::Resume(version)
        }
    }
}

fn end_of(error: &kube::Error) -> End {
    match error {
        kube::Error::Api(status) if status.code == 410 => End::Relist,
        kube::Error::Api(status) if status.is_forbidden() => End::Denied,
        other => End::Failed(other.to_string()),
    }
}

impl Change<DynamicObject> {
    /// Gives the objects their type. One that cannot be decoded is logged and left out.
    pub fn decode<K: Resource + DeserializeOwned>(self) -> Change<K> {
        match self {
            Self::Replaced(all) => Change::Replaced(all.into_iter().filter_map(parse).collect()),
            Self::Applied(object) => parse(object).map_or(Change::Confirmed, Change::Applied),
            Self::Deleted(object) => parse(object).map_or(Change::Confirmed, Change::Deleted),
            Self::Confirmed => Change::Confirmed,
            Self::Denied => Change::Denied,
        }
    }
}

fn parse<K: Resource + DeserializeOwned>(object: DynamicObject) -> Option<K> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    match object.try_parse() {
        Ok(object) => Some(object),
        Err(error) => {
            tracing::error!(namespace, name, %error, "object left out: it does not fit its schema");
            None
        }
    }
}
