//! Sessions that somebody with kubectl forged, cut, swapped or edited: each is refused or harmless, for
//! their authority is what is sealed; and nothing a stranger sends is ever written down.

use anyhow::{Context, Result, ensure};
use claviger_testkit::browser::{Landing, Page, query_value};
use claviger_testkit::relying_party::claims;
use claviger_testkit::scene::{LOCAL_USER, Manifests, REDIRECT_URI, SCOPE};
use claviger_testkit::{
    Browser, ControlPlane, Directory, Installation, Login, RelyingParty, Scene,
};
use serde_json::{Value, json};

/// A second user, with the password of the first.
const SECOND_USER: Login<'static> = Login { username: "second@local.example.com", ..LOCAL_USER };
/// As often as strangers knock.
const MANY: usize = 100;

/// The example with a second user and a second client.
async fn scene(plane: &ControlPlane) -> Result<Scene> {
    let change = |manifests: &mut Manifests| {
        if let Ok(user) = manifests.find("LocalUser", "admin") {
            let mut second = user.clone();
            second["metadata"]["name"] = "second".into();
            second["spec"]["email"] = SECOND_USER.username.into();
            second["spec"]["preferredUsername"] = "second".into();
            manifests.push(second);
        }
        manifests.push(json!({
            "apiVersion": "claviger.dev/v1alpha1", "kind": "OAuth2Client",
            "metadata": {"name": "cli"},
            "spec": {"issuerRef": {"name": "main"}, "clientID": "cli", "type": "Public",
                "redirectURIs": [REDIRECT_URI], "consent": "Skip"},
        }));
        if let Ok(issuer) = manifests.find("OIDCIssuer", "main") {
            issuer["spec"]["lifetimes"] = json!({"refreshGraceSeconds": 0});
        }
    };
    let scene =
        Scene::start_in(Installation::create(plane).await?, Directory::None, change).await?;
    scene.installation().wait_for("oauth2client/cli", "Ready").await?;
    Ok(scene)
}

async fn second_client(scene: &Scene) -> Result<RelyingParty> {
    let pem = scene.installation().authority().certificate_pem();
    RelyingParty::discover(&scene.issuer(), pem, ("cli", None), REDIRECT_URI).await
}

/// One signed-in user: the client, its refresh token, and the session behind it.
struct SignedIn<'s> {
    scene: &'s Scene,
    party: RelyingParty,
    token: String,
}

impl<'s> SignedIn<'s> {
    async fn at(scene: &'s Scene, party: &RelyingParty, who: Login<'_>) -> Result<Self> {
        let tokens = party.log_in(SCOPE, who).await?;
        Ok(Self { scene, party: party.clone(), token: refresh_token(&tokens)?.to_owned() })
    }

    async fn new(scene: &'s Scene) -> Result<Self> {
        Self::at(scene, &scene.relying_party().await?, LOCAL_USER).await
    }

    /// The session's name, as its refresh token says it.
    fn session(&self) -> &str {
        self.token.split('.').nth(1).unwrap_or_default()
    }

    fn stored(&self) -> Result<Value> {
        let json = ["get", "session", self.session(), "-o", "json"];
        Ok(serde_json::from_str(&self.scene.installation().kubectl(&json)?)?)
    }

    fn edit(&self, kind: &str, patch: &Value) -> Result<String> {
        let patch = patch.to_string();
        let arguments = ["patch", "session", self.session(), "--type", kind, "-p", &patch];
        self.scene.installation().kubectl(&arguments)
    }

    fn edit_spec(&self, spec: &Value) -> Result<String> {
        self.edit("merge", &json!({"spec": spec}))
    }

    /// Refreshes, and says what that cost.
    async fn refresh(&mut self) -> Result<(Value, Vec<(String, usize)>)> {
        let mark = self.scene.installation().plane().audit_log().mark()?;
        let tokens = self.party.refresh(&self.token).await?.tokens()?;
        refresh_token(&tokens)?.clone_into(&mut self.token);
        Ok((tokens, self.scene.installation().requests_since(mark)?))
    }

    async fn is_refused(&self, what: &str) -> Result<()> {
        let answer = self.party.refresh(&self.token).await?;
        assert_eq!((answer.status.as_u16(), answer.error()), (400, "invalid_grant"), "{what}");
        Ok(())
    }
}

fn refresh_token(tokens: &Value) -> Result<&str> {
    tokens["refresh_token"].as_str().with_context(|| format!("no refresh_token in {tokens}"))
}

fn one_patch() -> Vec<(String, usize)> {
    vec![("patch sessions".to_owned(), 1)]
}

/// Nothing panicked, whatever came.
fn is_unharmed(scene: &Scene) -> Result<()> {
    let log = scene.operator()?.log()?;
    ensure!(!log.contains("panicked"), "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_fields_edited_by_hand_change_nothing() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = scene(&plane).await?;
    let mut login = SignedIn::new(&scene).await?;
    let before = login.stored()?;
    let far = "9999-01-01T00:00:00Z";
    for spec in [
        json!({"user": "root"}),
        json!({"clientID": "cli"}),
        json!({"connector": "ldap"}),
        json!({"expiresAt": far}),
        json!({"rotatedAt": far}),
    ] {
        login.edit_spec(&spec)?;
        let (tokens, cost) = login.refresh().await?;
        assert_eq!(cost, one_patch(), "{spec}");
        let id_token = claims(tokens["id_token"].as_str().context("no id_token")?)?;
        assert_eq!(id_token["email"], LOCAL_USER.username, "{spec}");
        assert_eq!(id_token["aud"], "kubernetes", "{spec}");
    }
    let after = login.stored()?;
    assert!(after["spec"]["expiresAt"].as_str() < Some("2100"), "{after}");
    assert_eq!(after["spec"]["payload"], before["spec"]["payload"]);

    // The refresh token itself dies with the session, whatever the object says.
    login.edit_spec(&json!({"expiresAt": far}))?;
    login.refresh().await?;
    let dies: i64 = login.token.split('.').nth(3).context("no time in it")?.parse()?;
    let year = 31_536_000;
    ensure!(dies < 1_800_000_000 + 20 * year, "{dies}");

    let immutable = login.edit_spec(&json!({"clientUID": "another"})).unwrap_err();
    ensure!(immutable.to_string().contains("immutable"), "{immutable}");
    is_unharmed(&scene)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_cannot_be_read_any_more_is_over_and_nobody_waits_for_it() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = scene(&plane).await?;
    for field in ["rotatedAt", "expiresAt"] {
        let unreadable = json!({field: "9999-12-31T23:59:59Z"}); // a time that no clock here can say
        let mut login = SignedIn::new(&scene).await?;
        login.edit_spec(&unreadable)?;
        // Who asks for fewer scopes is judged by what is stored.
        let form = [
            ("grant_type", "refresh_token"),
            ("refresh_token", login.token.as_str()),
            ("scope", "openid"),
        ];
        let answer = login.party.token(&form).await?;
        assert_eq!((answer.status.as_u16(), answer.error()), (400, "invalid_grant"), "{field}");
        // Any other refresh writes both times anew before it reads.
        login.refresh().await?;
    }
    is_unharmed(&scene)
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_removed_by_hand_come_back_with_the_next_refresh() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = scene(&plane).await?;
    let mut login = SignedIn::new(&scene).await?;
    let before = login.stored()?["metadata"]["labels"].clone();
    let names: Vec<&str> = before.as_object().context("no labels")?.keys().map(|k| &**k).collect();
    assert_eq!(names.len(), 4, "{before}");

    login.edit("merge", &json!({"metadata": {"labels": {"claviger.dev/expiry-hour": null}}}))?;
    assert_eq!(login.refresh().await?.1, one_patch(), "the hour comes back by the way");
    assert!(login.stored()?["metadata"]["labels"]["claviger.dev/expiry-hour"].is_string());

    login.edit("json", &json!([{"op": "remove", "path": "/metadata/labels"}]))?;
    assert!(login.stored()?["metadata"]["labels"].is_null());
    let (_, cost) = login.refresh().await?;
    let healing = [("get sessions".to_owned(), 1), ("patch sessions".to_owned(), 2)];
    assert_eq!(cost, healing);
    let after = login.stored()?["metadata"]["labels"].clone();
    for name in names.iter().filter(|name| **name != "claviger.dev/expiry-hour") {
        assert_eq!(after[*name], before[*name], "{name}");
    }
    assert_eq!(login.refresh().await?.1, one_patch(), "healed");
    is_unharmed(&scene)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reuse_ends_a_session_even_without_its_labels() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = scene(&plane).await?;
    let mut login = SignedIn::new(&scene).await?;
    let stolen = login.token.clone();
    login.refresh().await?;
    login.refresh().await?; // its successor was used, so it is no retry
    login.edit("json", &json!([{"op": "remove", "path": "/metadata/labels"}]))?;
    assert_eq!(login.party.refresh(&stolen).await?.error(), "invalid_grant");
    let stored = login.stored()?;
    assert_eq!(stored["spec"]["state"], "Revoked", "{stored}");
    assert_eq!(stored["metadata"]["labels"]["claviger.dev/state"], "Revoked");
    assert!(stored["metadata"]["labels"]["claviger.dev/expiry-hour"].is_string());
    login.is_refused("a revoked session").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_is_good_for_its_own_session_and_whole_alone() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = scene(&plane).await?;
    let (first, second) = (scene.relying_party().await?, second_client(&scene).await?);
    for (party, who, what) in
        [(&first, SECOND_USER, "two users"), (&second, LOCAL_USER, "two clients")]
    {
        let one = SignedIn::new(&scene).await?;
        let other = SignedIn::at(&scene, party, who).await?;
        let payload = |login: &SignedIn<'_>| anyhow::Ok(login.stored()?["spec"]["payload"].clone());
        let (of_one, of_other) = (payload(&one)?, payload(&other)?);
        one.edit_spec(&json!({"payload": of_other}))?;
        other.edit_spec(&json!({"payload": of_one}))?;
        one.is_refused(what).await?;
        other.is_refused(what).await?;
    }
    let whole = SignedIn::new(&scene).await?.stored()?["spec"]["payload"].clone();
    let whole = whole.as_str().context("no payload")?;
    let cut = &whole[..whole.len() / 2];
    let later = format!("C{}", &whole[1..]);
    for made_up in ["", "x", "ÄÖÜ", "AAAA", cut, &later, &"A".repeat(65_536)] {
        let login = SignedIn::new(&scene).await?;
        login.edit_spec(&json!({"payload": made_up}))?;
        login.is_refused(&made_up.chars().take(20).collect::<String>()).await?;
    }
    is_unharmed(&scene)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_or_state_set_by_hand_ends_the_session_at_most() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = scene(&plane).await?;
    for (spec, ends_as) in [
        // Not 1: in the second of the login that is what an honest retry looks like.
        (json!({"generation": 2}), "Revoked"),
        (json!({"generation": i64::MAX}), "Revoked"),
        (json!({"state": "Revoked"}), "Revoked"),
        (json!({"state": "Pending"}), "Pending"),
    ] {
        let login = SignedIn::new(&scene).await?;
        login.edit_spec(&spec)?;
        login.is_refused(&spec.to_string()).await?;
        assert_eq!(login.stored()?["spec"]["state"], ends_as, "{spec}");
        login.is_refused(&spec.to_string()).await?;
    }
    is_unharmed(&scene)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_made_by_hand_is_nobodys() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = scene(&plane).await?;
    let (one, other) = (SignedIn::new(&scene).await?, SignedIn::new(&scene).await?);
    // Another session's content under this name.
    let mut forged = other.stored()?;
    forged["metadata"] = json!({"name": one.session()});
    scene.installation().kubectl(&["delete", "session", one.session()])?;
    one.is_refused("deleted").await?;
    scene.installation().apply(&forged.to_string())?;
    one.is_refused("copied under another name").await?;

    // Before its code is redeemed, with the name its session will have.
    for state in ["Active", "Pending"] {
        let party = scene.relying_party().await?;
        let attempt = party.attempt(SCOPE)?;
        let browser = Browser::new(scene.installation().authority().certificate_pem())?;
        let form = page(browser.open(&attempt.url).await?)?;
        let flow = query_value(&form.url, "state")?;
        let typed = [("login", LOCAL_USER.username), ("password", LOCAL_USER.password)];
        let Landing::Application(landed) = browser.submit(&form, &typed).await? else {
            anyhow::bail!("no code");
        };
        let uid = ["get", "oidcissuer", "main", "-o", "jsonpath={.metadata.uid}"];
        let issuer_uid = scene.installation().kubectl(&uid)?;
        let name = claviger_domain::session::name_for_flow(&issuer_uid, &flow);
        forged["metadata"] = json!({"name": name});
        forged["spec"]["state"] = state.into();
        scene.installation().apply(&forged.to_string())?;
        let answer = party.redeem(&query_value(&landed, "code")?, &attempt.verifier).await?;
        assert_eq!((answer.status.as_u16(), answer.error()), (400, "invalid_grant"), "{state}");
    }
    is_unharmed(&scene)
}

fn page(landing: Landing) -> Result<Page> {
    match landing {
        Landing::Page(page) => Ok(page),
        Landing::Application(url) => anyhow::bail!("landed at {url}"),
    }
}

/// No Event, no condition, no write, no read: the operator asks the API server nothing for a stranger.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_a_stranger_sends_is_ever_written_down() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = scene(&plane).await?;
    let party = scene.relying_party().await?;
    let login = SignedIn::new(&scene).await?;
    let (code, _) = party.code(SCOPE, LOCAL_USER).await?;
    let browser = Browser::new(scene.installation().authority().certificate_pem())?;
    let form = page(browser.open(&party.attempt(SCOPE)?.url).await?)?;
    let cookies = browser.cookies(&form.url).context("no cookies")?;
    let mark = plane.audit_log().mark()?;
    for n in 0..MANY {
        let answer = party.redeem(&garbled(&code, n), &"v".repeat(43)).await?;
        assert_eq!((answer.status.as_u16(), answer.error()), (400, "invalid_grant"));
        let answer = party.refresh(&garbled(&login.token, n)).await?;
        assert_eq!((answer.status.as_u16(), answer.error()), (400, "invalid_grant"));
        let http = party.http();
        let begun = http.get(party.attempt(SCOPE)?.url).send().await?;
        assert_eq!(begun.status().as_u16(), 303);
        let mut unknown = party.attempt(SCOPE)?.url;
        unknown.query_pairs_mut().append_pair("client_id", &format!("stranger-{n}"));
        let refused = http.get(unknown).send().await?;
        assert_eq!(refused.status().as_u16(), 400);
        let forged = http.get(form.url.clone()).header("cookie", garbled(&cookies, n * 7 + 80));
        let shown = forged.send().await?;
        ensure!(shown.status().is_client_error(), "{n}: {}", shown.status());
    }
    for n in 0..3 {
        let password = format!("guess {n}");
        let wrong = [("login", LOCAL_USER.username), ("password", password.as_str())];
        let answer = page(browser.submit(&form, &wrong).await?)?;
        ensure!(answer.status.is_client_error() || answer.status.is_success(), "{}", answer.status);
    }
    assert_eq!(scene.installation().requests_since(mark)?, Vec::new());
    is_unharmed(&scene)
}

/// The text with one character another.
fn garbled(text: &str, at: usize) -> String {
    let at = at % text.len();
    let other = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
    format!("{}{other}{}", &text[..at], &text[at + 1..])
}
