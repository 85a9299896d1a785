//! Apache's `mod_auth_openidc` guards a page: whoever asks for it is sent to sign in, and the page knows them by name.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use claviger_testkit::apache::Protection;
use claviger_testkit::browser::{Landing, Page};
use claviger_testkit::scene::{LDAP_USER, LOCAL_USER, Manifests};
use claviger_testkit::{
    Apache, Browser, ControlPlane, Directory, Installation, Login, PortLease, Scene, Setup,
    eventually,
};
use reqwest::StatusCode;
use serde_json::{Value, json};

/// The site's own client.
fn client(redirect_uri: &str, site: &str) -> Value {
    json!({
        "apiVersion": "claviger.dev/v1alpha1",
        "kind": "OAuth2Client",
        "metadata": {"name": "wiki"},
        "spec": {
            "issuerRef": {"name": "main"},
            "clientID": "wiki",
            "displayName": "Wiki",
            "type": "Confidential",
            "authentication": {
                "method": "client_secret_basic",
                "generatedSecret": {"name": "wiki-client"},
            },
            "redirectURIs": [redirect_uri],
            "postLogoutRedirectURIs": [format!("{site}/")],
            "backChannelLogout": {"uri": format!("{redirect_uri}?logout=backchannel")},
        },
    })
}

struct Site {
    scene: Scene,
    apache: Apache,
}

impl Site {
    async fn open(more: &str) -> Result<Self> {
        let plane = ControlPlane::from_env()?;
        let port = PortLease::take()?;
        let here = Installation::create(&plane).await?;
        let wiki = client(&Apache::redirect_uri_at(&port), &Apache::url_at(&port));
        let setup = Setup::new(Directory::Slapd)
            .flag("--outbound-allowed-networks=127.0.0.0/8")
            .flag(format!("--outbound-ca-file={}", here.authority_file()?.display()));
        let change = |all: &mut Manifests| {
            all.push(wiki);
            if let Ok(issuer) = all.find("OIDCIssuer", "main") {
                issuer["spec"]["browserSessions"] = json!({});
            }
        };
        let scene = Scene::start_as(here, &setup, change).await?;
        scene.installation().wait_for("oauth2client/wiki", "Ready").await?;
        let secret = scene.generated_secret("wiki-client").await?;
        let protection = Protection {
            issuer: &scene.issuer(),
            authority: scene.installation().authority(),
            client: ("wiki", &secret),
            group: "local:admins",
            more,
        };
        let apache = Apache::start(port, &protection).await?;
        Ok(Self { scene, apache })
    }

    fn browser(&self) -> Result<Browser> {
        Browser::new(self.scene.installation().authority().certificate_pem())
    }

    /// Asks for a page as somebody whom the site does not know yet, and signs in where that leads.
    async fn visit(&self, browser: &Browser, path: &str, who: Login<'_>) -> Result<Page> {
        let wanted = format!("{}{path}", self.apache.url()).parse()?;
        let Landing::Application(authorize) = browser.open(&wanted).await? else {
            bail!("nobody asked who we are");
        };
        assert!(authorize.as_str().starts_with(&self.scene.issuer()), "{authorize}");
        let landed = browser.sign_in(&authorize, who).await?;
        match browser.open(&landed).await? {
            Landing::Page(page) => Ok(page),
            Landing::Application(url) => bail!("sent on to {url}: {}", self.apache.log_tail()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_behind_apache_knows_who_signed_in() -> Result<()> {
    let site = Site::open("").await?;
    let browser = site.browser()?;
    let page = site.visit(&browser, "/private/", LDAP_USER).await?;
    assert_eq!(page.status, StatusCode::OK, "{}", site.apache.log_tail());
    assert_eq!(page.url.as_str(), format!("{}/private/", site.apache.url()));
    for expected in ["name: Alice Liddell", "email: alice@example.com", "groups: corp:developers"] {
        assert!(page.html.contains(expected), "no {expected} on the page: {}", page.html);
    }
    assert!(page.html.contains("user: alice@example.com"), "{}", page.html);

    // The site knows its visitor from now on, and a stranger as little as before.
    assert!(matches!(browser.open(&page.url).await?, Landing::Page(_)));
    assert!(matches!(site.browser()?.open(&page.url).await?, Landing::Application(_)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn apache_lets_a_group_in_and_keeps_the_others_out() -> Result<()> {
    let site = Site::open("").await?;
    let page = site.visit(&site.browser()?, "/private/admins/", LOCAL_USER).await?;
    assert_eq!(page.status, StatusCode::OK, "{}", site.apache.log_tail());
    assert!(page.html.contains("groups: local:admins"), "{}", page.html);
    let page = site.visit(&site.browser()?, "/private/admins/", LDAP_USER).await?;
    assert_eq!(page.status, StatusCode::FORBIDDEN, "{}", page.html);
    Ok(())
}

/// The module by itself: Back-Channel Logout 1.0 2.6 and 2.7.
#[tokio::test(flavor = "multi_thread")]
async fn apache_is_told_that_its_visitor_signed_out() -> Result<()> {
    let site = Site::open("").await?;
    let browser = site.browser()?;
    let page = site.visit(&browser, "/private/", LOCAL_USER).await?;
    assert_eq!(page.status, StatusCode::OK, "{}", site.apache.log_tail());
    let other = site.browser()?;
    site.visit(&other, "/private/", LOCAL_USER).await?;

    let logout = format!("{}/logout", site.scene.issuer()).parse()?;
    let Landing::Page(question) = browser.open(&logout).await? else { bail!("not asked") };
    let Landing::Page(done) = browser.submit(&question, &[]).await? else { bail!("sent away") };
    assert!(done.html.contains("You are signed out"), "{}", done.html);
    eventually(Duration::from_secs(20), async || {
        let landed = browser.open(&page.url).await?;
        let forgotten = matches!(landed, Landing::Application(_));
        ensure!(forgotten, "the site still knows its visitor: {}", site.apache.log_tail());
        Ok(())
    })
    .await?;
    let known = matches!(other.open(&page.url).await?, Landing::Page(_));
    assert!(known, "another browser of the same user was signed out");
    Ok(())
}

/// The module signs out at the issuer too, and the visitor comes back (RP-Initiated Logout 2).
#[tokio::test(flavor = "multi_thread")]
async fn apache_signs_its_visitor_out_everywhere() -> Result<()> {
    let site = Site::open("").await?;
    let browser = site.browser()?;
    let page = site.visit(&browser, "/private/", LOCAL_USER).await?;
    let home = format!("{}/", site.apache.url());
    let mut leave: reqwest::Url = format!("{}/private/redirect_uri", site.apache.url()).parse()?;
    leave.query_pairs_mut().append_pair("logout", &home);
    let Landing::Application(at_issuer) = browser.open(&leave).await? else {
        bail!("not sent to the issuer: {}", site.apache.log_tail())
    };
    let Landing::Application(landed) = browser.open(&at_issuer).await? else {
        bail!("asked at {at_issuer}")
    };
    assert_eq!(landed.as_str(), home);
    let Landing::Application(authorize) = browser.open(&page.url).await? else {
        bail!("still known")
    };
    let Landing::Page(form) = browser.open(&authorize).await? else { bail!("signed in unasked") };
    assert_eq!(form.status, StatusCode::OK);
    Ok(())
}
