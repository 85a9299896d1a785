//! Applications are told by the user's own browser: the page that says goodbye loads a frame for each, under a policy
//! that lets it load nothing else, and goes on when they have loaded (OpenID Connect Front-Channel Logout 1.0).

use anyhow::{Context, Result, bail, ensure};
use claviger_testkit::browser::{Browser, Landing, query_value};
use claviger_testkit::relying_party::claims;
use claviger_testkit::scene::{LOCAL_USER, Manifests, REDIRECT_URI};
use claviger_testkit::{
    ControlPlane, Directory, Installation, LogoutReceiver, RelyingParty, Scene,
};
use reqwest::{StatusCode, Url};
use serde_json::{Value, json};

/// The value of an attribute in the first tag that begins so, as a browser reads it.
fn attribute(html: &str, tag: &str, name: &str) -> Option<String> {
    let tag = html.split(tag).nth(1)?.split('>').next()?;
    let value = tag.split(&format!("{name}=\"")).nth(1)?.split('"').next()?;
    Some(value.replace("&#38;", "&").replace("&amp;", "&"))
}

async fn signed_in(party: &RelyingParty, browser: &Browser) -> Result<Value> {
    let attempt = party.attempt("openid")?;
    let landed = browser.sign_in(&attempt.url, LOCAL_USER).await?;
    party.redeem(&query_value(&landed, "code")?, &attempt.verifier).await?.tokens()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_that_says_goodbye_loads_a_frame_of_each_application_and_goes_on() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let here = Installation::create(&plane).await?;
    let receiver = LogoutReceiver::start(here.authority()).await?;
    let page = receiver.front_channel();
    let scene = Scene::start_in(here, Directory::None, |manifests: &mut Manifests| {
        if let Ok(issuer) = manifests.find("OIDCIssuer", "main") {
            issuer["spec"]["browserSessions"] = json!({});
        }
        if let Ok(client) = manifests.find("OAuth2Client", "kubernetes") {
            client["spec"]["postLogoutRedirectURIs"] = json!([REDIRECT_URI]);
            client["spec"]["frontChannelLogout"] = json!({"uri": page});
            if let Some(uris) = client["spec"]["redirectURIs"].as_array_mut() {
                uris.push(json!(page));
            }
        }
    })
    .await?;
    let party = scene.relying_party().await?;
    assert_eq!(party.metadata()["frontchannel_logout_supported"], true);
    assert_eq!(party.metadata()["frontchannel_logout_session_supported"], true);
    let browser = party.browser()?;
    let tokens = signed_in(&party, &browser).await?;
    let id_token = tokens["id_token"].as_str().context("no ID token")?;

    let mut url = party.endpoint("end_session_endpoint")?;
    url.query_pairs_mut().extend_pairs([
        ("id_token_hint", id_token),
        ("post_logout_redirect_uri", REDIRECT_URI),
        ("state", "bye"),
    ]);
    let Landing::Page(goodbye) = browser.open(&url).await? else { bail!("sent on at once") };
    assert_eq!(goodbye.status, StatusCode::OK, "{}", goodbye.html);
    let frame: Url = attribute(&goodbye.html, "<iframe ", "src").context("no frame")?.parse()?;
    let loaded = party.http().get(frame.clone()).send().await?;
    assert_eq!(loaded.status(), StatusCode::OK);
    let queries = receiver.take_frames();
    ensure!(queries.len() == 1, "{queries:?}");
    assert_eq!(query_value(&frame, "iss")?, scene.issuer());
    assert_eq!(query_value(&frame, "sid")?, claims(id_token)?["sid"]);
    assert_eq!(frame.as_str().split('?').next(), Some(page.as_str()));
    let onward: Url = attribute(&goodbye.html, "<a ", "href").context("no way on")?.parse()?;
    assert_eq!(query_value(&onward, "state")?, "bye");
    ensure!(onward.as_str().starts_with(REDIRECT_URI), "{onward}");
    let script = attribute(&goodbye.html, "<script ", "src").context("no script")?;
    let script: Url = party.endpoint("end_session_endpoint")?.join(&script)?;
    let script = party.http().get(script).send().await?;
    assert_eq!(script.status(), StatusCode::OK);

    // Once more: it is over, nobody is told again, and the way on is the same.
    let Landing::Application(landed) = browser.open(&url).await? else { bail!("asked") };
    assert_eq!(query_value(&landed, "state")?, "bye");
    Ok(())
}
