//! One reflector per kind: list, then watch, for ever.
//!
//! ```text
//! API server ─list/watch→ follow() ─Change→ Sink (world.rs)
//! ```
//! What always holds:
//! - a reflector never gives up: every failure is retried with a growing pause;
//! - a relist replaces what was known in one step, so nothing is ever half there;
//! - bookmarks are passed on: they prove that no event was missed, which the staleness bound
//!   needs (`kube::runtime::watcher` keeps them to itself);
//! - only what the API server says of its objects confirms anything: a list, an event, a bookmark. That
//!   it accepted a watch says nothing, for its cache may be behind;
//! - when nothing was confirmed for [`Rhythm::silence`], through however many connections, it lists again;
//! - so it does when the process stood still: what lies in its buffers may be as old as that, and would
//!   confirm a moment nobody vouched for.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::api::{Api, DynamicObject, ListParams, WatchEvent, WatchParams};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::bounds::Bounds;
use crate::world::{ObjectKey, Objects};

/// Objects per page of a list: what client-go asks for.
const PAGE_SIZE: u32 = 500;
/// Bookmarks come about every 60 s: a silence of this length is only to be met where something is wrong.
const BOOKMARKS_COME: Duration = Duration::from_secs(90);
/// Longest wait for the first byte of a list or watch.
const ANSWER: Duration = Duration::from_secs(15);
/// First pause after a failure; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause, which bounds how late a healed permission or API server is noticed.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// An API server that starts denies everything until it has read its rules; so long, a denial takes
/// nothing away.
const STARTING: Duration = Duration::from_secs(3);

/// A watch that ends sooner than this is followed by a pause, so that a server which closes at once
/// is not asked in a tight loop.
const SHORTEST_WATCH: Duration = Duration::from_secs(1);

/// How often a watch must say something, so that a replica which is not cut off never goes stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rhythm {
    /// A watch that confirmed nothing for this long is taken for dead.
    pub silence: Duration,
    /// `timeoutSeconds` of a watch. An API server sends a bookmark about every 60 s, and 2 s before it
    /// ends a watch: where that is too rare, watches must be short.
    pub timeout: Option<u32>,
}

/// A part of the silence in which a watch that waits looks at the time at least once.
const PULSES: u32 = 6;

impl Rhythm {
    /// Three fifths of the staleness bound may pass in silence; the rest is for listing again.
    pub fn of(bounds: Bounds) -> Self {
        let seconds = bounds.staleness * 3 / 5;
        let silence = Duration::from_secs(seconds.into());
        let timeout = (silence < BOOKMARKS_COME).then(|| (seconds / 2 + 2).max(4));
        Self { silence, timeout }
    }

    fn pulse(self) -> Duration {
        self.silence / PULSES
    }

    /// Whether the process stood still since this time: a watch waits for a pulse at most.
    fn stood_still(self, since: Instant) -> bool {
        since.elapsed() >= 2 * self.pulse()
    }
}

/// Which of the objects are looked at, and how often they must be confirmed.
type Selection = (Option<&'static str>, Rhythm);

/// What a reflector learned.
#[derive(Debug)]
pub enum Change<K> {
    /// All there is now: everything known before and not in here is gone.
    Replaced(Vec<K>),
    /// One object was made or changed.
    Applied(K),
    /// One object is gone, whatever it looked like.
    Deleted(ObjectKey),
    /// Nothing changed up to this moment.
    Confirmed,
    /// The API server refuses to show these objects to us.
    Denied,
}

/// Why one round of listing and watching ended.
enum End {
    /// The server closed an orderly watch: go on from this resource version.
    Resume(String),
    /// The resource version is too old, or nothing was confirmed for too long: list again.
    Relist,
    Denied,
    Failed(String),
}

/// Who is told, and when the API server last said something of its objects.
struct News<S> {
    sink: S,
    confirmed_at: Instant,
}

impl<S> News<S> {
    fn confirm<K>(&mut self, change: Change<K>)
    where
        S: FnMut(Change<K>),
    {
        self.confirmed_at = Instant::now();
        (self.sink)(change);
    }
}

/// Follows all objects of one kind that the API and the selector show; never returns.
///
/// `sink` gets every [`Change`] in order. `what` names the reflector in logs.
pub async fn follow<K>(
    api: Api<K>,
    selection: Selection,
    what: &str,
    sink: impl FnMut(Change<K>) + Send,
) where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut pause = FIRST_PAUSE;
    let mut version: Option<String> = None;
    let mut denied_since: Option<Instant> = None;
    let mut news = News { sink, confirmed_at: Instant::now() };
    loop {
        let began = Instant::now();
        let end = match version.clone() {
            Some(from) => watch(&api, selection, from, &mut news).await,
            None => match list(&api, selection.0).await {
                Ok((objects, listed)) => {
                    news.confirm(Change::Replaced(objects));
                    version = Some(listed);
                    continue;
                }
                Err(end) => end,
            },
        };
        match end {
            End::Resume(from) => {
                (version, denied_since) = (Some(from), None);
                if began.elapsed() >= SHORTEST_WATCH {
                    pause = FIRST_PAUSE;
                    continue;
                }
            }
            End::Relist => {
                (version, denied_since) = (None, None);
                if began.elapsed() >= SHORTEST_WATCH {
                    pause = FIRST_PAUSE;
                }
            }
            End::Denied => {
                version = None;
                if denied_since.is_none() {
                    tracing::warn!(
                        what,
                        "not allowed to list or to watch: grant the verbs list and watch by RBAC"
                    );
                }
                // A list between two watches that are denied does not end it: who may not do both, may not follow.
                let since = *denied_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= STARTING {
                    (news.sink)(Change::Denied);
                }
            }
            End::Failed(error) => {
                denied_since = None; // it was away: what it denies when it is back, it denies anew
                tracing::warn!(what, error, "failed to watch; trying again");
            }
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
        let began = Instant::now();
        let page = tokio::time::timeout(ANSWER, api.list(&params))
            .await
            .map_err(|_| End::Failed("list timed out".into()))?
            .map_err(|error| end_of(&error))?;
        // An answer that was there in time, to a process that was not.
        if began.elapsed() >= 2 * ANSWER {
            return Err(End::Failed("list timed out".into()));
        }
        objects.extend(page.items);
        params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if params.continue_token.is_none() {
            return Ok((objects, page.metadata.resource_version.unwrap_or_default()));
        }
    }
}

async fn watch<K>(
    api: &Api<K>,
    (labels, rhythm): Selection,
    mut version: String,
    news: &mut News<impl FnMut(Change<K>) + Send>,
) -> End
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let params = WatchParams {
        label_selector: labels.map(ToOwned::to_owned),
        timeout: rhythm.timeout,
        ..WatchParams::default()
    };
    let began = Instant::now();
    let mut events = match tokio::time::timeout(ANSWER, api.watch(&params, &version)).await {
        Ok(Ok(_)) if began.elapsed() >= 2 * ANSWER => return End::Relist,
        Ok(Ok(events)) => events.boxed(),
        Ok(Err(error)) => return end_of(&error),
        Err(_) => return End::Failed("watch timed out".into()),
    };
    let mut awake = Instant::now();
    loop {
        let silence = news.confirmed_at + rhythm.silence;
        let pulse = silence.min(awake + rhythm.pulse());
        let next = tokio::time::timeout_at(pulse, events.next()).await;
        if rhythm.stood_still(awake) {
            return End::Relist;
        }
        awake = Instant::now();
        let event = match next {
            Ok(Some(Ok(event))) => event,
            Err(_) if Instant::now() < silence => continue,
            // An orderly end: open the watch again where we are.
            Ok(None) => return End::Resume(version),
            Err(_) => return End::Relist,
            Ok(Some(Err(error))) => return resume_or(&error, version),
        };
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                version = object.resource_version().unwrap_or(version);
                news.confirm(Change::Applied(object));
            }
            WatchEvent::Deleted(object) => {
                version = object.resource_version().unwrap_or(version);
                news.confirm(Change::Deleted(ObjectKey::of(&object)));
            }
            WatchEvent::Bookmark(bookmark) => {
                version = bookmark.metadata.resource_version;
                news.confirm(Change::Confirmed);
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
    /// Gives the objects their type. What cannot be decoded is logged and goes to `unreadable`: it
    /// exists, but nobody knows what it says now.
    pub fn decode<K>(self, unreadable: &mut Objects<DynamicObject>) -> Change<K>
    where
        K: Resource + DeserializeOwned,
    {
        match self {
            Self::Replaced(all) => {
                unreadable.clear();
                Change::Replaced(
                    all.into_iter().filter_map(|one| parse(one, unreadable).ok()).collect(),
                )
            }
            Self::Applied(object) => {
                parse(object, unreadable).map_or_else(Change::Deleted, Change::Applied)
            }
            Self::Deleted(key) => {
                unreadable.remove(&key);
                Change::Deleted(key)
            }
            Self::Confirmed => Change::Confirmed,
            Self::Denied => {
                unreadable.clear();
                Change::Denied
            }
        }
    }
}

/// The object with its type, or the key it is now to be found under in `unreadable`.
fn parse<K: Resource + DeserializeOwned>(
    object: DynamicObject,
    unreadable: &mut Objects<DynamicObject>,
) -> Result<K, ObjectKey> {
    let key = ObjectKey::of(&object);
    match object.clone().try_parse() {
        Ok(parsed) => {
            unreadable.remove(&key);
            Ok(parsed)
        }
        Err(error) => {
            tracing::error!(%key, %error, "object out of service: it does not fit its schema");
            unreadable.insert(key.clone(), Arc::new(object));
            Err(key)
        }
    }
}

#[cfg(test)]
mod tests {
    use claviger_api::OAuth2Client;
    use kube::Client;
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::mpsc;

    use super::*;

    fn object(spec: &Value) -> Value {
        json!({
            "apiVersion": "claviger.dev/v1alpha1",
            "kind": "OAuth2Client",
            "metadata": {"namespace": "home", "name": "app", "uid": "1", "resourceVersion": "2"},
            "spec": spec,
        })
    }

    fn dynamic(spec: &Value) -> DynamicObject {
        serde_json::from_value(object(spec)).unwrap()
    }

    #[test]
    fn what_cannot_be_decoded_is_kept_apart_until_it_can_or_is_gone() {
        let broken = json!({"issuerRef": {"name": "main"}, "type": "Secretive"});
        let whole = json!({"issuerRef": {"name": "main"}, "type": "Public"});
        let mut unreadable = Objects::new();
        let mut told = |change: Change<DynamicObject>| {
            let change = change.decode::<OAuth2Client>(&mut unreadable);
            (kind(&change), unreadable.len())
        };
        assert_eq!(told(Change::Applied(dynamic(&broken))), ("deleted", 1));
        assert_eq!(told(Change::Confirmed), ("confirmed", 1));
        assert_eq!(told(Change::Applied(dynamic(&whole))), ("applied", 0));
        assert_eq!(told(Change::Replaced(vec![dynamic(&broken)])), ("replaced", 1));
        assert_eq!(told(Change::Deleted(ObjectKey::new("home", "app"))), ("deleted", 0));
    }

    fn kind<K>(change: &Change<K>) -> &'static str {
        match change {
            Change::Replaced(_) => "replaced",
            Change::Applied(_) => "applied",
            Change::Deleted(_) => "deleted",
            Change::Confirmed => "confirmed",
            Change::Denied => "denied",
        }
    }

    /// The head of a request.
    async fn head(stream: &mut TcpStream) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8(head).unwrap()
    }

    /// Answers a list, and a watch with these events and then with silence.
    async fn answer(mut stream: TcpStream, events: Vec<Value>) {
        let head = head(&mut stream).await;
        if !head.contains("watch=") {
            return list(stream).await;
        }
        stream.write_all(OK.as_bytes()).await.unwrap();
        for event in events {
            stream.write_all(format!("{event}\n").as_bytes()).await.unwrap();
        }
        std::future::pending::<()>().await;
    }

    const OK: &str =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";

    /// Answers with an empty list.
    async fn list(mut stream: TcpStream) {
        let list = json!({"apiVersion": "claviger.dev/v1alpha1", "kind": "OAuth2ClientList",
            "metadata": {"resourceVersion": "1"}, "items": []});
        stream.write_all(format!("{OK}{list}").as_bytes()).await.unwrap();
    }

    /// An API server whose every watch says this, for as long as the runtime lives.
    async fn server(events: Vec<Value>) -> Api<DynamicObject> {
        serve(move |stream, _| answer(stream, events.clone())).await
    }

    /// An API server that answers the n-th connection so, for as long as the runtime lives.
    async fn serve<F>(
        mut answer: impl FnMut(TcpStream, usize) -> F + Send + 'static,
    ) -> Api<DynamicObject>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            for n in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(answer(stream, n));
            }
        });
        let client = Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap();
        Api::all_with(client, &kube::api::ApiResource::erase::<OAuth2Client>(&()))
    }

    #[tokio::test]
    async fn that_a_watch_began_confirms_nothing() {
        let bookmark = json!({"apiVersion": "claviger.dev/v1alpha1", "kind": "OAuth2Client",
            "metadata": {"resourceVersion": "3"}});
        let api = server(vec![
            json!({"type": "ADDED", "object": object(&json!({}))}),
            json!({"type": "BOOKMARK", "object": bookmark}),
        ])
        .await;
        let (sender, mut told) = mpsc::unbounded_channel();
        let following = follow(api, (None, Rhythm::of(Bounds::default())), "test", move |change| {
            sender.send(kind(&change)).unwrap();
        });
        let said = async {
            let mut said = Vec::new();
            while said.len() < 3 {
                said.extend(told.recv().await);
            }
            said
        };
        tokio::select! {
            () = following => panic!("a reflector never ends"),
            said = said => assert_eq!(said, ["replaced", "applied", "confirmed"]),
        }
    }

    /// Refuses what was asked for want of a permission.
    async fn deny(mut stream: TcpStream) {
        let status =
            r#"{"kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden"}"#;
        let start =
            "HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";
        stream.write_all(format!("{start}{status}").as_bytes()).await.unwrap();
    }

    /// What a reflector of this API server says until it said `enough`, and when.
    async fn told(
        api: Api<DynamicObject>,
        mut enough: impl FnMut(&[(&'static str, Instant)]) -> bool,
    ) -> Vec<(&'static str, Instant)> {
        let (sender, mut news) = mpsc::unbounded_channel();
        let selection = (None, Rhythm::of(Bounds::default()));
        let following = follow(api, selection, "test", move |change: Change<DynamicObject>| {
            sender.send((kind(&change), Instant::now())).unwrap();
        });
        let listening = async {
            let mut said = Vec::new();
            while !enough(&said) {
                said.extend(news.recv().await);
            }
            said
        };
        let bounded = tokio::time::timeout(Duration::from_mins(1), listening);
        tokio::select! {
            () = following => panic!("a reflector never ends"),
            said = bounded => said.unwrap(),
        }
    }

    #[tokio::test]
    async fn what_is_denied_for_longer_than_an_api_server_starts_is_taken_away() {
        // Lists are allowed all the time, watches never.
        let api = serve(|mut stream, _| async move {
            let head = head(&mut stream).await;
            if head.contains("watch=") { deny(stream).await } else { list(stream).await }
        })
        .await;
        let said = told(api, |said| said.last().is_some_and(|(kind, _)| *kind == "denied")).await;
        let (first, last) = (said[0], *said.last().unwrap());
        assert_eq!(first.0, "replaced");
        assert!(last.1 - first.1 >= STARTING, "{:?}", last.1 - first.1);
    }

    #[tokio::test]
    async fn an_api_server_that_starts_twice_takes_nothing_away() {
        // At 0 s it starts, then it is away, and at 3.1 s it starts again: by the pauses between.
        let api = serve(|mut stream, n| async move {
            let head = head(&mut stream).await;
            match n {
                1 | 6 => deny(stream).await,
                2..=5 => drop(stream),
                _ if head.contains("watch=") => std::future::pending::<()>().await,
                _ => list(stream).await,
            }
        })
        .await;
        let said = told(api, |said| said.len() == 2).await;
        assert_eq!([said[0].0, said[1].0], ["replaced", "replaced"]);
        assert!(said[1].1 - said[0].1 >= STARTING, "{:?}", said[1].1 - said[0].1);
    }

    #[tokio::test]
    async fn a_watch_that_opens_and_confirms_nothing_for_too_long_ends_in_a_list() {
        let api = server(Vec::new()).await;
        let sink = |change: Change<DynamicObject>| panic!("nobody said {}", kind(&change));
        let rhythm = Rhythm::of(Bounds::default());
        let mut news = News { sink, confirmed_at: Instant::now() - rhythm.silence };
        let end = watch(&api, (None, rhythm), "1".into(), &mut news).await;
        assert!(matches!(end, End::Relist));
    }

    #[tokio::test]
    async fn what_lay_in_the_buffers_of_a_process_that_stood_still_confirms_nothing() {
        let bookmark = json!({"apiVersion": "claviger.dev/v1alpha1", "kind": "OAuth2Client",
            "metadata": {"resourceVersion": "3"}});
        let bookmark = json!({"type": "BOOKMARK", "object": bookmark});
        let api = server(vec![bookmark.clone(), bookmark]).await;
        let rhythm = Rhythm { silence: Duration::from_secs(9), timeout: None };
        let mut said = Vec::new();
        let sink = |change: Change<DynamicObject>| {
            said.push(kind(&change));
            // As by SIGSTOP, and for less than the silence.
            std::thread::sleep(2 * rhythm.pulse());
        };
        let mut news = News { sink, confirmed_at: Instant::now() };
        let end = watch(&api, (None, rhythm), "1".into(), &mut news).await;
        assert!(matches!(end, End::Relist));
        assert_eq!(said, ["confirmed"], "and not the second, which lay there meanwhile");
    }

    #[test]
    fn a_short_bound_makes_watches_short_and_the_default_leaves_them_as_they_are() {
        let rhythm = |staleness| Rhythm::of(Bounds { staleness, ..Bounds::default() });
        let default = Rhythm { silence: Duration::from_secs(90), timeout: None };
        assert_eq!(rhythm(150), default);
        for staleness in 10..150 {
            let Rhythm { silence, timeout } = rhythm(staleness);
            let bookmark = Duration::from_secs(u64::from(timeout.unwrap()) - 2);
            assert!(bookmark < silence, "{staleness}: {bookmark:?} of {silence:?}");
            assert!(silence < Duration::from_secs(staleness.into()));
        }
    }
}
