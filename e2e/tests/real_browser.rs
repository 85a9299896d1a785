//! What a user sees and does, in Chromium: the pages with their style and under their policy, the form that a script sends,
//! the same without scripts, single sign-on and the way out.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use claviger_testkit::chromium::{Chromium, Scripts};
use claviger_testkit::relying_party::{Attempt, claims};
use claviger_testkit::scene::{LOCAL_USER, Manifests};
use claviger_testkit::{ControlPlane, Directory, Installation, PortLease, RelyingParty, Scene};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const SCOPE: &str = "openid email profile";

/// An application that remembers every request whole.
struct Application {
    address: String,
    brought: Arc<Mutex<Vec<String>>>,
    _port: PortLease,
}

impl Application {
    async fn start() -> Result<Self> {
        let port = PortLease::take()?;
        let listener = TcpListener::bind(("127.0.0.1", port.port())).await?;
        let brought = Arc::new(Mutex::new(Vec::new()));
        let memory = Arc::clone(&brought);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Each by itself: browsers open connections they may never use.
                let memory = Arc::clone(&memory);
                tokio::spawn(async move { welcome(stream, &memory).await });
            }
        });
        let address = format!("http://localhost:{}/callback", port.port());
        Ok(Self { address, brought, _port: port })
    }

    /// What was brought last to this path, whole.
    fn last(&self, path: &str) -> Option<String> {
        let brought = self.brought.lock().unwrap_or_else(PoisonError::into_inner);
        let to_path = |request: &&String| {
            request.split(' ').nth(1).is_some_and(|target| target.starts_with(path))
        };
        brought.iter().rev().find(to_path).cloned()
    }
}

/// Takes one request whole and greets.
async fn welcome(mut stream: TcpStream, memory: &Mutex<Vec<String>>) -> Result<()> {
    let mut request = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok()
            });
            if body.len() >= length.unwrap_or(0) {
                memory.lock().unwrap_or_else(PoisonError::into_inner).push(text);
                break;
            }
        }
        let read = stream.read(&mut chunk).await?;
        ensure!(read > 0, "cut off");
        request.extend_from_slice(&chunk[..read]);
    }
    let page = "<!doctype html><title>App</title><p>Welcome to the application</p>";
    let length = page.len();
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{page}"
    );
    Ok(stream.write_all(answer.as_bytes()).await?)
}

/// The quickstart with browser sessions, whose client asks for consent and is the application.
async fn scene(plane: &ControlPlane, application: &Application) -> Result<Scene> {
    let here = Installation::create(plane).await?;
    let address = application.address.clone();
    Scene::start_in(here, Directory::None, |manifests: &mut Manifests| {
        if let Ok(issuer) = manifests.find("OIDCIssuer", "main") {
            issuer["spec"]["browserSessions"] = json!({});
            issuer["spec"]["branding"] = json!({"title": "Example door"});
        }
        if let Ok(client) = manifests.find("OAuth2Client", "kubernetes") {
            client["spec"]["consent"] = json!("Required");
            client["spec"]["redirectURIs"] = json!([address]);
            client["spec"]["postLogoutRedirectURIs"] = json!([address]);
            let goodbye = address.replace("/callback", "/goodbye");
            client["spec"]["frontChannelLogout"] = json!({"uri": goodbye});
        }
    })
    .await
}

async fn party(scene: &Scene, application: &Application) -> Result<RelyingParty> {
    let secret = scene.client_secret().await?;
    let pem = scene.installation().authority().certificate_pem();
    let client = ("kubernetes", Some(secret.as_str()));
    RelyingParty::discover(&scene.issuer(), pem, client, &application.address).await
}

async fn chromium(scene: &Scene, scripts: Scripts) -> Result<Chromium> {
    Chromium::start(scene.serving().certificate_files().0, scripts).await
}

/// A request whose answer comes as a form.
fn by_form(attempt: &Attempt) -> String {
    let mut url = attempt.url.clone();
    url.query_pairs_mut().append_pair("response_mode", "form_post");
    url.into()
}

/// From the login page to the answer of the consent page.
async fn sign_in(browser: &Chromium) -> Result<()> {
    browser.type_into("login", LOCAL_USER.username).await?;
    browser.type_into("password", &format!("{}\u{e007}", LOCAL_USER.password)).await?; // Enter
    browser.wait_for_text("Allow Kubernetes?").await?;
    browser.press("button[value=approve]").await
}

/// The code in a form that was posted.
fn posted_code(application: &Application) -> Result<String> {
    let request = application.last("/callback").context("nobody came")?;
    ensure!(request.starts_with("POST /callback "), "{request}");
    let (_, body) = request.split_once("\r\n\r\n").context("no body")?;
    let mut pairs = body.split('&').filter_map(|pair| pair.split_once('='));
    let (_, code) = pairs.find(|(name, _)| *name == "code").context("no code in the form")?;
    Ok(code.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_signs_in_consents_comes_back_by_form_and_signs_out() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let application = Application::start().await?;
    let scene = scene(&plane, &application).await?;
    let party = party(&scene, &application).await?;
    let browser = chromium(&scene, Scripts::On).await?;

    let attempt = party.attempt(SCOPE)?;
    browser.open(&by_form(&attempt)).await?;
    browser.wait_for_text("Example door").await?;
    // The style sheet has passed the policy, and the field that is to be typed into has the focus.
    let rules = browser.run("return document.styleSheets[0].cssRules.length", vec![]).await?;
    ensure!(rules.as_u64() > Some(0), "no style: {rules}");
    let focus = browser.run("return document.activeElement.name", vec![]).await?;
    assert_eq!(focus, "login");
    // What the page does not allow does not run.
    let injected = "const s = document.createElement('script'); s.textContent = 'window.injected = 1'; \
                    document.body.append(s); return window.injected ?? null";
    assert_eq!(browser.run(injected, vec![]).await?, json!(null));

    sign_in(&browser).await?;
    browser.wait_for_text("Welcome to the application").await?;
    let code = posted_code(&application)?;
    let tokens = party.redeem(&code, &attempt.verifier).await?.tokens()?;

    // Again: nobody is asked anything.
    let again = party.attempt(SCOPE)?;
    browser.open(&by_form(&again)).await?;
    browser.wait_for_text("Welcome to the application").await?;
    let second = posted_code(&application)?;
    ensure!(second != code);
    party.redeem(&second, &again.verifier).await?.tokens()?;

    browser.open(&format!("{}/logout", scene.issuer())).await?;
    browser.wait_for_text("Sign out?").await?;
    browser.press("button[type=submit]").await?;
    browser.wait_for_text("You are signed out").await?;
    let token = tokens["access_token"].as_str().context("no access token")?;
    assert_eq!(party.userinfo(token).await?.0, reqwest::StatusCode::UNAUTHORIZED);
    browser.open(&by_form(&party.attempt(SCOPE)?)).await?;
    browser.wait_for_text("Sign in to Kubernetes").await?;

    browser.open(&format!("{}/auth?client_id=nobody", scene.issuer())).await?;
    browser.wait_for_text("Unknown client_id").await?;
    ensure!(browser.url().await?.starts_with(&scene.issuer()), "an error left the issuer");
    browser.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_scripts_the_user_sends_the_form() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let application = Application::start().await?;
    let scene = scene(&plane, &application).await?;
    let party = party(&scene, &application).await?;
    let browser = chromium(&scene, Scripts::Off).await?;

    let attempt = party.attempt(SCOPE)?;
    browser.open(&by_form(&attempt)).await?;
    sign_in(&browser).await?;
    browser.wait_for_text("You are being sent back").await?;
    ensure!(application.last("/callback").is_none(), "a script ran");
    browser.press("button[type=submit]").await?;
    browser.wait_for_text("Welcome to the application").await?;
    party.redeem(&posted_code(&application)?, &attempt.verifier).await?.tokens()?;
    browser.close().await
}

/// Front-Channel Logout 3: the page that says goodbye may frame the application, tells it, and goes on by itself.
#[tokio::test(flavor = "multi_thread")]
async fn the_browser_tells_the_application_that_its_user_signed_out() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let application = Application::start().await?;
    let scene = scene(&plane, &application).await?;
    let party = party(&scene, &application).await?;
    let browser = chromium(&scene, Scripts::On).await?;
    let attempt = party.attempt("openid")?;
    browser.open(&by_form(&attempt)).await?;
    sign_in(&browser).await?;
    browser.wait_for_text("Welcome to the application").await?;
    let tokens = party.redeem(&posted_code(&application)?, &attempt.verifier).await?.tokens()?;
    let id_token = tokens["id_token"].as_str().context("no ID token")?;

    let mut url = party.endpoint("end_session_endpoint")?;
    url.query_pairs_mut().extend_pairs([
        ("id_token_hint", id_token),
        ("post_logout_redirect_uri", &application.address),
        ("state", "bye"),
    ]);
    browser.open(url.as_str()).await?;
    browser.wait_for_text("Welcome to the application").await?;
    ensure!(browser.url().await?.ends_with("?state=bye"), "{}", browser.url().await?);
    let told = application.last("/goodbye").context("no frame was loaded")?;
    let sid = claims(id_token)?["sid"].as_str().context("no sid")?.to_owned();
    ensure!(told.starts_with("GET /goodbye?") && told.contains(&sid), "{told}");
    ensure!(told.contains("Sec-Fetch-Dest: iframe"), "{told}");
    browser.close().await
}
