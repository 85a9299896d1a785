//! Honest clients under load, while a test breaks things: each signs in, refreshes, signs in again. What
//! is not answered, or with "later", is asked again, the same token or code, at the next replica.
//!
//! What they hold in the end is held against what the API server stores ([`Held::reckon`]): every session
//! that is not over refreshes or was revoked for a said reason, and every login is there once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use reqwest::StatusCode;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::eventually::Deadline;
use crate::relying_party::Answer;
use crate::scene::{LOCAL_USER, SCOPE};
use crate::{RelyingParty, Scene, eventually};

/// Clients at once.
pub const CLIENTS: usize = 16;
/// Refreshes before a client signs in anew.
const REFRESHES: usize = 12;
/// For one thing to be done, faults included; less than a minute, for codes live no longer.
const PATIENCE: Duration = Duration::from_secs(55);
/// For one answer: longer than the API server's deadline, twice, and not for ever.
const ANSWER: Duration = Duration::from_secs(20);

/// Clients at work.
#[derive(Debug)]
pub struct Load {
    clients: JoinSet<Result<Vec<String>>>,
    shared: Arc<Shared>,
}

/// What has happened so far.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    logins: AtomicUsize,
    refreshes: AtomicUsize,
    unavailable: AtomicUsize,
    broken: AtomicUsize,
    spent_codes: AtomicUsize,
    lost_chains: AtomicUsize,
    /// What each client had answered.
    answers: [AtomicUsize; CLIENTS],
}

/// What happened, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Logins that got tokens.
    pub logins: usize,
    /// Refreshes that got tokens.
    pub refreshes: usize,
    /// Answers that said "later": 503.
    pub unavailable: usize,
    /// Requests without an answer.
    pub broken: usize,
    /// Codes whose first answer was lost and which were refused, as replayed, when asked again.
    pub spent_codes: usize,
    /// Refresh tokens that were refused.
    pub lost_chains: usize,
}

/// What the clients hold in the end.
#[derive(Debug)]
pub struct Held {
    /// The newest refresh token of every login.
    pub tokens: Vec<String>,
    /// What happened.
    pub figures: Figures,
}

/// What became of every stored session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reckoning {
    /// Sessions that refresh.
    pub live: usize,
    /// Revoked sessions by reason.
    pub revoked: BTreeMap<String, usize>,
}

impl Load {
    /// Sets [`CLIENTS`] to work on all replicas, and waits until each was answered twice.
    ///
    /// # Errors
    /// When the scene's client cannot be had, or nobody answers.
    pub async fn start(scene: &Scene) -> Result<Self> {
        let parties: Arc<[_]> = scene.relying_parties().await?.into();
        let shared = Arc::new(Shared::default());
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let client =
                Client { number, parties: Arc::clone(&parties), shared: Arc::clone(&shared) };
            clients.spawn(client.work());
        }
        let mut load = Self { clients, shared };
        load.until_all_are_answered().await?;
        Ok(load)
    }

    /// What has happened so far.
    pub fn figures(&self) -> Figures {
        self.shared.figures()
    }

    /// Waits until every client was answered with tokens, twice more (the first may have been asked for
    /// before), and says how long that took.
    ///
    /// # Errors
    /// When a client has given up, or is not answered.
    pub async fn until_all_are_answered(&mut self) -> Result<Duration> {
        let began = Instant::now();
        let answered =
            |shared: &Shared| shared.answers.each_ref().map(|count| count.load(Ordering::SeqCst));
        let before = answered(&self.shared);
        eventually(2 * PATIENCE, async || {
            if let Some(ended) = self.clients.try_join_next() {
                let ended = ended.context("a client panicked")?;
                return Ok(Err(ended.err().context("a client ended early")?));
            }
            let now = answered(&self.shared);
            let waiting = before.iter().zip(now).filter(|(before, now)| now < &(**before + 2));
            ensure!(waiting.count() == 0, "some clients wait: {:?}", self.figures());
            Ok(Ok(began.elapsed()))
        })
        .await?
    }

    /// Waits until that many more requests were answered with "later".
    ///
    /// # Errors
    /// When they are not.
    pub async fn until_told_later(&self, more: usize) -> Result<()> {
        let wanted = self.figures().unavailable + more;
        eventually(2 * PATIENCE, async || {
            ensure!(self.figures().unavailable >= wanted, "{:?}", self.figures());
            Ok(())
        })
        .await
    }

    /// Lets every client finish what it is at, and takes what they hold.
    ///
    /// # Errors
    /// What made a client give up.
    pub async fn finish(mut self) -> Result<Held> {
        self.shared.stop.store(true, Ordering::SeqCst);
        let mut tokens = Vec::new();
        while let Some(ended) = self.clients.join_next().await {
            tokens.extend(ended.context("a client panicked")??);
        }
        Ok(Held { tokens, figures: self.shared.figures() })
    }
}

impl Shared {
    fn figures(&self) -> Figures {
        let read = |count: &AtomicUsize| count.load(Ordering::SeqCst);
        Figures {
            logins: read(&self.logins),
            refreshes: read(&self.refreshes),
            unavailable: read(&self.unavailable),
            broken: read(&self.broken),
            spent_codes: read(&self.spent_codes),
            lost_chains: read(&self.lost_chains),
        }
    }
}

struct Client {
    number: usize,
    parties: Arc<[RelyingParty]>,
    shared: Arc<Shared>,
}

impl Client {
    /// The newest refresh token of every login it made.
    async fn work(self) -> Result<Vec<String>> {
        let mut held = Vec::new();
        while !self.shared.stop.load(Ordering::SeqCst) {
            let Some(mut token) = self.log_in().await? else { continue };
            for _ in 0..REFRESHES {
                if self.shared.stop.load(Ordering::SeqCst) {
                    break;
                }
                match self.refresh(&token).await? {
                    Some(next) => token = next,
                    None => break,
                }
            }
            held.push(token);
        }
        Ok(held)
    }

    /// A login's refresh token, or `None` when its code turned out to be spent.
    async fn log_in(&self) -> Result<Option<String>> {
        let (code, verifier) = self.code().await?;
        let answer = self.ask(Question::Redeem { code: &code, verifier: &verifier }).await?;
        self.take(answer, &self.shared.logins, &self.shared.spent_codes)
    }

    /// A code and its verifier. Nothing is stored before it is redeemed, so a user may begin again.
    async fn code(&self) -> Result<(String, String)> {
        let deadline = Deadline::after(PATIENCE);
        let mut turn = self.number;
        loop {
            turn += 1;
            let whole = self.party(turn).code(SCOPE, LOCAL_USER);
            match tokio::time::timeout(ANSWER, whole).await.context("no code").flatten() {
                Ok((code, attempt)) => return Ok((code, attempt.verifier)),
                Err(missing) => deadline.pause_or(missing).await?,
            }
        }
    }

    /// The next refresh token, or `None` when this one was refused.
    async fn refresh(&self, token: &str) -> Result<Option<String>> {
        let answer = self.ask(Question::Refresh(token)).await?;
        self.take(answer, &self.shared.refreshes, &self.shared.lost_chains)
    }

    fn take(
        &self,
        answer: Answer,
        granted: &AtomicUsize,
        refused: &AtomicUsize,
    ) -> Result<Option<String>> {
        if answer.error() == "invalid_grant" {
            refused.fetch_add(1, Ordering::SeqCst);
            return Ok(None);
        }
        let token = refresh_token(&answer.tokens()?)?;
        granted.fetch_add(1, Ordering::SeqCst);
        self.shared.answers[self.number].fetch_add(1, Ordering::SeqCst);
        Ok(Some(token))
    }

    /// Asks one replica after the other until one decides.
    async fn ask(&self, question: Question<'_>) -> Result<Answer> {
        let deadline = Deadline::after(PATIENCE);
        let mut turn = self.number;
        loop {
            turn += 1;
            let asked = question.put_to(self.party(turn));
            let missing =
                match tokio::time::timeout(ANSWER, asked).await.context("no answer").flatten() {
                    Ok(answer) if answer.status != StatusCode::SERVICE_UNAVAILABLE => {
                        return Ok(answer);
                    }
                    Ok(answer) => {
                        self.shared.unavailable.fetch_add(1, Ordering::SeqCst);
                        anyhow!("{}: {}", answer.status, answer.body)
                    }
                    Err(error) => {
                        self.shared.broken.fetch_add(1, Ordering::SeqCst);
                        error
                    }
                };
            deadline.pause_or(missing).await?;
        }
    }

    fn party(&self, turn: usize) -> &RelyingParty {
        &self.parties[turn % self.parties.len()]
    }
}

/// What is asked again until it is decided.
#[derive(Clone, Copy)]
enum Question<'a> {
    Redeem { code: &'a str, verifier: &'a str },
    Refresh(&'a str),
}

impl Question<'_> {
    async fn put_to(self, party: &RelyingParty) -> Result<Answer> {
        match self {
            Self::Redeem { code, verifier } => party.redeem(code, verifier).await,
            Self::Refresh(token) => party.refresh(token).await,
        }
    }
}

impl Held {
    /// One that some test put together by itself.
    pub fn of(tokens: Vec<String>) -> Self {
        Self { tokens, figures: Shared::default().figures() }
    }

    /// [`reckon`](Self::reckon), and that nothing was lost: every login that got tokens has its session,
    /// and nothing was revoked but what a lost answer cost: the code was spent, and presenting it again
    /// is a replay (RFC 6749 4.1.2).
    ///
    /// # Errors
    /// When it does not add up, exactly.
    pub async fn nothing_is_lost(&self, scene: &Scene) -> Result<Reckoning> {
        let figures = self.figures;
        ensure!(figures.lost_chains == 0, "refresh tokens were refused: {figures:?}");
        let reckoning = self.reckon(scene).await?;
        let replayed = reckoning.revoked.get("CodeReplayed").copied().unwrap_or_default();
        let revoked: usize = reckoning.revoked.values().sum();
        // A code that was refused for its age alone leaves no session behind.
        ensure!(
            (reckoning.live, revoked) == (figures.logins, replayed)
                && replayed <= figures.spent_codes,
            "{figures:?} do not add up to {reckoning:?}"
        );
        Ok(reckoning)
    }

    /// Holds the tokens against the stored sessions. Each token either refreshes, or its session was
    /// revoked for a said reason; each stored session that is not revoked is held by exactly one token.
    ///
    /// # Errors
    /// With the first that does not add up.
    pub async fn reckon(&self, scene: &Scene) -> Result<Reckoning> {
        let parties = scene.relying_parties().await?;
        let mut live = BTreeSet::new();
        for (n, token) in self.tokens.iter().enumerate() {
            let name = session_of(token)?;
            if self.refreshes(&parties, n).await? {
                ensure!(live.insert(name.clone()), "session {name} was handed out twice");
            } else {
                let stored = sessions(scene)?;
                let (state, reason) =
                    stored.get(&name).with_context(|| format!("{name} is gone"))?;
                ensure!(state == "Revoked" && !reason.is_empty(), "{name}: {state} {reason:?}");
            }
        }
        let mut revoked = BTreeMap::new();
        for (name, (state, reason)) in sessions(scene)? {
            match state.as_str() {
                "Active" => ensure!(live.contains(&name), "nobody holds session {name}"),
                "Revoked" if !reason.is_empty() => *revoked.entry(reason).or_default() += 1,
                _ => bail!("session {name} is {state} for {reason:?}"),
            }
        }
        Ok(Reckoning { live: live.len(), revoked })
    }

    async fn refreshes(&self, parties: &[RelyingParty], n: usize) -> Result<bool> {
        let mut turn = n;
        eventually(PATIENCE, async || {
            turn += 1;
            let answer = parties[turn % parties.len()].refresh(&self.tokens[n]).await?;
            match answer.status {
                StatusCode::OK => Ok(true),
                _ if answer.error() == "invalid_grant" => Ok(false),
                status => bail!("{status}: {}", answer.body),
            }
        })
        .await
    }
}

/// The refresh token in a token response.
///
/// # Errors
/// When there is none.
pub fn refresh_token(tokens: &Value) -> Result<String> {
    let token = tokens["refresh_token"].as_str();
    token.map(str::to_owned).with_context(|| format!("no refresh_token in {tokens}"))
}

/// The name of the session a refresh token is for: the second of its parts.
///
/// # Errors
/// When it is no refresh token of ours.
pub fn session_of(token: &str) -> Result<String> {
    let name = token.split('.').nth(1);
    name.map(str::to_owned).with_context(|| format!("{token} is no refresh token"))
}

/// The generation a refresh token is for: the third of its parts.
///
/// # Errors
/// When it is no refresh token of ours.
pub fn generation_of(token: &str) -> Result<i64> {
    let generation = token.split('.').nth(2).and_then(|part| part.parse().ok());
    generation.with_context(|| format!("{token} is no refresh token"))
}

/// State and reason of every stored session, by name.
///
/// # Errors
/// When they cannot be listed.
pub fn sessions(scene: &Scene) -> Result<BTreeMap<String, (String, String)>> {
    let path = "jsonpath={range .items[*]}{.metadata.name} {.spec.state} {.spec.revokedReason}{\"\\n\"}{end}";
    let lines = scene.installation().kubectl(&["get", "sessions", "-o", path])?;
    let mut sessions = BTreeMap::new();
    for line in lines.lines() {
        let mut words = line.split(' ').map(str::to_owned);
        let mut next = || words.next().unwrap_or_default();
        sessions.insert(next(), (next(), next()));
    }
    Ok(sessions)
}
