//! Client libraries of the outside world: scripts in `e2e/outside/<library>/` that a story speaks with.
//!
//! ```text
//! story (Rust)                              script (JavaScript, Python)
//!     │ settings: issuer, client, CA   →        │ the library: discovery, state, nonce, PKCE, checks of tokens
//!     │ ← ask {"browse": authorization URL}     │
//! Browser signs in                              │
//!     │ {"url": where it ended}        →        │ the library: token, userinfo, refresh, …
//!     │ ← done {what came of it}                │
//! ```
//!
//! - The library does everything but the user's part. It trusts the test's authority by its own settings: nothing is
//!   switched off.
//! - A script is one process and one conversation, a line of JSON at a time; it ends with its handle.
//! - `scripts/outside` has installed the library, in locked versions, outside the tree.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reqwest::Url;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::browser::Landing;
use crate::installation::repository;
use crate::process::tied;
use crate::scene::SCOPE;
use crate::{Browser, ControlPlane, Directory, Installation, Login, Scene};

/// Where the client is sent back to here. Libraries tell the redirect URI from the URL they were called at, and a URL
/// has a path.
pub const CALLBACK: &str = "http://localhost:8000/callback";

/// For a script to say the next thing: some requests at most, on a loaded machine.
const PATIENCE: Duration = Duration::from_mins(2);
/// The first Node that needs no flag for Web Cryptography; Debian 12 has 18.
const NODE_WITH_WEB_CRYPTOGRAPHY: u32 = 20;

/// A library and the language it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    /// npm's `openid-client`, a certified relying party.
    OpenidClient,
    /// Python's Authlib, in a Flask application.
    Authlib,
    /// AWS's SDK for Python.
    Boto3,
}

/// What a script says next.
#[derive(Debug)]
pub enum Saying {
    /// It wants something done, and an [`answer`](Outsider::answer).
    Ask(Value),
    /// It has ended; what came of it.
    Done(Value),
}

/// A script that runs.
#[derive(Debug)]
pub struct Outsider {
    name: String,
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    folder: TempDir,
}

/// The quickstart, whose client `kubernetes` may be sent back to [`CALLBACK`].
///
/// # Errors
/// With what is not as it should be.
pub async fn scene(plane: &ControlPlane, directory: Directory) -> Result<Scene> {
    let installation = Installation::create(plane).await?;
    Scene::start_in(installation, directory, |manifests| {
        // Not there: the library is refused.
        if let Ok(client) = manifests.find("OAuth2Client", "kubernetes") {
            client["spec"]["redirectURIs"] = json!([CALLBACK]);
        }
    })
    .await
}

/// The folder that `scripts/outside` has put something into; it does so first where that is missing, which may take
/// minutes.
///
/// # Errors
/// When it cannot.
pub async fn provided(what: &str) -> Result<PathBuf> {
    let script = repository().join("scripts/outside");
    let mut command = Command::new(&script);
    command.arg(what).stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
    let output = command.output().await.context("failed to start scripts/outside")?;
    ensure!(output.status.success(), "scripts/outside {what} failed; see above");
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim_end()))
}

impl Library {
    fn folder(self) -> &'static str {
        match self {
            Self::OpenidClient => "openid-client",
            Self::Authlib => "authlib",
            Self::Boto3 => "boto3",
        }
    }

    /// The command that runs `script` in `folder`, where this library's scripts stand.
    async fn command(self, script: &str, folder: &Path, authority: &Path) -> Result<Command> {
        let installed = provided(self.folder()).await?;
        let mut command = match self {
            Self::OpenidClient => {
                // A module is looked for beside the script that imports it.
                let modules = folder.join("node_modules");
                std::os::unix::fs::symlink(installed.join("node_modules"), modules)?;
                let mut command = tied("node");
                command.args(node_flags().await?).arg(format!("{script}.mjs"));
                command.env("NODE_EXTRA_CA_CERTS", authority);
                command
            }
            Self::Authlib | Self::Boto3 => {
                let mut command = tied(installed.join("bin/python"));
                // -B: nothing is written beside the scripts.
                command.arg("-B").arg(format!("{script}.py"));
                command.env("REQUESTS_CA_BUNDLE", authority).env("AWS_CA_BUNDLE", authority);
                command
            }
        };
        command.current_dir(folder).env("NO_PROXY", "*");
        Ok(command.into())
    }
}

fn copy_scripts(from: &Path, to: &Path) -> Result<()> {
    for entry in std::fs::read_dir(from)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "mjs" || extension == "py") {
            std::fs::copy(&path, to.join(path.file_name().unwrap_or_default()))?;
        }
    }
    Ok(())
}

async fn node_flags() -> Result<&'static [&'static str]> {
    let output = Command::new("node").arg("--version").output().await;
    let output = output.context("node is not there; run: make setup")?;
    let version = String::from_utf8(output.stdout)?;
    let major = version.trim_start_matches('v').split('.').next().unwrap_or_default();
    let major: u32 = major.parse().with_context(|| format!("node says {version:?}"))?;
    Ok(match major {
        NODE_WITH_WEB_CRYPTOGRAPHY.. => &[],
        _ => &["--experimental-global-webcrypto"],
    })
}

impl Outsider {
    /// Starts a script as the scene's client `kubernetes`. `settings` are added to what each is told: `issuer`,
    /// `client_id`, `client_secret`, `redirect_uri` and `scope`.
    ///
    /// # Errors
    /// When the library cannot be installed or the script not be started.
    pub async fn start(
        library: Library,
        script: &str,
        scene: &Scene,
        settings: Value,
    ) -> Result<Self> {
        let folder = tempfile::tempdir().context("failed to make a folder")?;
        let scripts = repository().join("e2e/outside").join(library.folder());
        let shared = repository().join("e2e/outside/conversation");
        for scripts in [shared, scripts] {
            copy_scripts(&scripts, folder.path())?;
        }
        let authority = scene.installation().authority_file()?;
        let mut command = library.command(script, folder.path(), &authority).await?;
        let errors = std::fs::File::create(folder.path().join("stderr"))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors).kill_on_drop(true);
        let mut child = command.spawn().context("failed to start a script")?;
        let input = child.stdin.take().context("a piped child has an input")?;
        let output = child.stdout.take().context("a piped child has an output")?;
        let output = BufReader::new(output).lines();
        let name = format!("{}/{script}", library.folder());
        let mut outsider = Self { name, child, input, output, folder };
        let mut told = json!({
            "issuer": scene.issuer(),
            "client_id": "kubernetes",
            "client_secret": scene.client_secret().await?,
            "redirect_uri": CALLBACK,
            "scope": SCOPE,
        });
        if let (Some(told), Value::Object(settings)) = (told.as_object_mut(), settings) {
            told.extend(settings);
        }
        outsider.answer(&told).await?;
        Ok(outsider)
    }

    /// What it says next.
    ///
    /// # Errors
    /// When it ends without having said that it is done, with its last words.
    pub async fn listen(&mut self) -> Result<Saying> {
        let line = timeout(PATIENCE, self.output.next_line()).await;
        let line = line.with_context(|| format!("{} says nothing", self.name))??;
        let Some(line) = line else {
            let status = self.child.wait().await?;
            let last_words = std::fs::read_to_string(self.folder.path().join("stderr"))?;
            bail!("{} ended with {status}:\n{last_words}", self.name);
        };
        let said: Value =
            serde_json::from_str(&line).with_context(|| format!("{} says {line:?}", self.name))?;
        match (said.get("ask"), said.get("done")) {
            (Some(question), None) => Ok(Saying::Ask(question.clone())),
            (None, Some(result)) => Ok(Saying::Done(result.clone())),
            _ => bail!("{} says {said}, which is neither ask nor done", self.name),
        }
    }

    /// Answers what it asked.
    ///
    /// # Errors
    /// When it has ended.
    pub async fn answer(&mut self, answer: &Value) -> Result<()> {
        let line = format!("{answer}\n");
        let sent = self.input.write_all(line.as_bytes()).await;
        sent.with_context(|| format!("{} has ended", self.name))
    }

    /// Lets it work by itself; returns what came of it.
    ///
    /// # Errors
    /// When it fails.
    pub async fn alone(mut self) -> Result<Value> {
        match self.listen().await? {
            Saying::Done(result) => Ok(result),
            Saying::Ask(question) => bail!("{} asks {question}", self.name),
        }
    }

    /// Answers each `browse` by letting this user sign in with a fresh browser; returns what came of it.
    ///
    /// # Errors
    /// When a sign-in fails, or the script.
    pub async fn signing_in(self, scene: &Scene, who: Login<'_>) -> Result<Value> {
        self.signing_in_and(scene, who, async |question| bail!("it asks {question}")).await
    }

    /// The same; whatever else it asks, this answers.
    ///
    /// # Errors
    /// When a sign-in fails, an answer, or the script.
    pub async fn signing_in_and(
        mut self,
        scene: &Scene,
        who: Login<'_>,
        mut answer: impl AsyncFnMut(Value) -> Result<Value>,
    ) -> Result<Value> {
        loop {
            let question = match self.listen().await? {
                Saying::Done(result) => return Ok(result),
                Saying::Ask(question) => question,
            };
            let answered = match question["browse"].as_str() {
                Some(url) => sign_in(scene, &url.parse()?, who).await,
                None => answer(question).await,
            };
            self.answer(&answered.with_context(|| self.name.clone())?).await?;
        }
    }
}

/// Signs in with a fresh browser: the URL it ends at, and the form it posts there where the answer is one.
async fn sign_in(scene: &Scene, authorize: &Url, who: Login<'_>) -> Result<Value> {
    /// What an answer may hold (OAuth 2.0 Form Post Response Mode).
    const FIELDS: [&str; 7] =
        ["code", "id_token", "access_token", "state", "iss", "error", "error_description"];
    let browser = Browser::new(scene.installation().authority().certificate_pem())?;
    if !authorize.query_pairs().any(|pair| pair == ("response_mode".into(), "form_post".into())) {
        return Ok(json!({"url": browser.sign_in(authorize, who).await?.as_str()}));
    }
    let Landing::Page(login) = browser.open(authorize).await? else { bail!("no login page") };
    let typed = [("login", who.username), ("password", who.password)];
    let Landing::Page(page) = browser.submit(&login, &typed).await? else { bail!("no form") };
    let said = |name: &&str| Some(((*name).to_owned(), page.form_field(name)?.into()));
    let form: serde_json::Map<String, Value> = FIELDS.iter().filter_map(said).collect();
    Ok(json!({"url": page.form_target()?.as_str(), "form": form}))
}
