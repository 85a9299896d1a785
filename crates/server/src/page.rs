//! The pages: templates compiled in, escaped by askama. All work without scripts, and but two have none.

use askama::Template;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use claviger_domain::client::ClientPages;
use claviger_domain::issuer::Issuer;

use crate::endpoint::asset;

/// What every page of an issuer shows.
#[derive(Debug)]
pub struct Frame<'a> {
    /// Heading.
    pub title: &'a str,
    /// Logo.
    pub logo_url: Option<&'a str>,
    /// Path of the style sheet.
    pub style: String,
}

impl<'a> Frame<'a> {
    /// The frame of an issuer's pages.
    pub fn of(issuer: &'a Issuer) -> Self {
        Self {
            title: &issuer.title,
            logo_url: issuer.logo_url.as_deref(),
            style: format!("{}/static/{}", issuer.url.path(), asset::style_name()),
        }
    }
}

/// The choice among connectors.
#[derive(Debug, Template)]
#[template(path = "choose.html")]
pub struct ChoosePage<'a> {
    /// Frame.
    pub frame: Frame<'a>,
    /// Name of the client.
    pub client: &'a str,
    /// Link and label of each connector.
    pub connectors: Vec<(String, &'a str)>,
}

/// The form for name and password.
#[derive(Debug, Template)]
#[template(path = "login.html")]
pub struct LoginPage<'a> {
    /// Frame.
    pub frame: Frame<'a>,
    /// Name of the connector.
    pub connector: &'a str,
    /// Name of the client.
    pub client: &'a str,
    /// Label of the first field.
    pub username_label: &'a str,
    /// What was typed before, or the login hint.
    pub username: &'a str,
    /// Form token.
    pub csrf: String,
    /// What went wrong at the last try.
    pub problem: Option<&'a str>,
    /// Link to the choice among connectors, if there is a choice.
    pub back: Option<String>,
}

/// The choice between the account this browser is signed in with and another.
#[derive(Debug, Template)]
#[template(path = "account.html")]
pub struct AccountPage<'a> {
    /// Frame.
    pub frame: Frame<'a>,
    /// Name of the client.
    pub client: &'a str,
    /// What a person would call the user.
    pub user: &'a str,
    /// Where the form goes.
    pub action: String,
    /// Form token.
    pub csrf: String,
}

/// The question whether to sign out.
#[derive(Debug, Template)]
#[template(path = "logout.html")]
pub struct LogoutPage<'a> {
    /// Frame.
    pub frame: Frame<'a>,
    /// Name of the application that asks.
    pub client: Option<&'a str>,
    /// Where the form goes.
    pub action: String,
    /// The request, to be sent again.
    pub fields: Vec<(&'static str, &'a str)>,
    /// Form token.
    pub csrf: String,
}

/// That the user is signed out.
#[derive(Debug, Template)]
#[template(path = "signed_out.html")]
pub struct SignedOutPage<'a> {
    /// Frame.
    pub frame: Frame<'a>,
    /// Addresses of the clients that are told in frames.
    pub frames: Vec<&'a str>,
    /// Where the user goes when they have loaded.
    pub next: Option<&'a str>,
    /// Seconds after which the user goes there all the same.
    pub patience: u32,
    /// Path of the script that goes there.
    pub script: String,
}

/// The question whether to sign out at an upstream.
#[derive(Debug, Template)]
#[template(path = "upstream_logout.html")]
pub struct UpstreamLogoutPage<'a> {
    /// Frame.
    pub frame: Frame<'a>,
    /// Name of the application that asks.
    pub client: Option<&'a str>,
    /// Name of the connector.
    pub upstream: &'a str,
    /// Where users sign out there.
    pub location: &'a str,
}

/// The question whether a client may know the user.
#[derive(Template)]
#[template(path = "consent.html")]
pub struct ConsentPage<'a> {
    /// Frame.
    pub frame: Frame<'a>,
    /// Name of the client.
    pub client: &'a str,
    /// What a person would call the user.
    pub user: &'a str,
    /// The client's ID, if it is a tenant's: its name is its own word.
    pub tenant_id: Option<&'a str>,
    /// Pages about the client, by its own word.
    pub pages: &'a ClientPages,
    /// What the client gets to know, in words.
    pub reveals: Vec<&'a str>,
    /// Where the form goes.
    pub action: String,
    /// Form token.
    pub csrf: String,
    /// Sealed grant.
    pub grant: &'a str,
    /// Link to sign in as somebody else.
    pub other: String,
}

/// The question which device the user lets in.
#[derive(Template)]
#[template(path = "device.html")]
pub struct DevicePage<'a> {
    /// Frame.
    pub frame: Frame<'a>,
    /// What a person would call the user.
    pub user: &'a str,
    /// What was typed before, or the address brought.
    pub user_code: &'a str,
    /// Where the form goes.
    pub action: String,
    /// Form token.
    pub csrf: String,
    /// Who signed in, sealed.
    pub sign_in: &'a str,
    /// What went wrong at the last try.
    pub problem: Option<&'a str>,
    /// Link to sign in as somebody else.
    pub other: String,
}

/// The question whether to let it in.
#[derive(Template)]
#[template(path = "device_confirm.html")]
pub struct DeviceConfirmPage<'a> {
    /// Frame.
    pub frame: Frame<'a>,
    /// Name of the client.
    pub client: &'a str,
    /// Its client ID, where it is a tenant's.
    pub tenant_id: Option<&'a str>,
    /// What a person would call the user.
    pub user: &'a str,
    /// The code, as the device shows it.
    pub user_code: &'a str,
    /// What the client gets to know, in words.
    pub reveals: Vec<&'a str>,
    /// Where the form goes.
    pub action: String,
    /// Form token.
    pub csrf: &'a str,
    /// Who signed in, sealed.
    pub sign_in: &'a str,
    /// Proves that this page was seen.
    pub token: &'a str,
    /// Link to sign in as somebody else.
    pub other: String,
}

/// What became of it.
#[derive(Debug, Template)]
#[template(path = "device_done.html")]
pub struct DeviceDonePage<'a> {
    /// Frame.
    pub frame: Frame<'a>,
    /// Name of the client.
    pub client: &'a str,
    /// Whether it was let in.
    pub approved: bool,
}

/// The answer to an authorization request, on its way to the client by POST. Sent by a script, or by the
/// user where scripts are off.
#[derive(Template)]
#[template(path = "form_post.html")]
pub struct FormPostPage<'a> {
    /// Frame.
    pub frame: Frame<'a>,
    /// Where the form goes: the redirect URI.
    pub action: &'a str,
    /// Names and values.
    pub fields: &'a [(&'static str, String)],
    /// Path of the script that sends the form.
    pub script: String,
}

/// The issuer's front page.
#[derive(Debug, Template)]
#[template(path = "home.html")]
pub struct HomePage<'a> {
    /// Frame.
    pub frame: Frame<'a>,
    /// The issuer identifier.
    pub issuer: &'a str,
}

/// A page that says why there is nothing else.
#[derive(Debug, Template)]
#[template(path = "error.html")]
struct FramedErrorPage<'a> {
    frame: Frame<'a>,
    heading: &'a str,
    message: &'a str,
}

/// Why there is no other page.
#[derive(Debug)]
pub struct ErrorPage<'a> {
    /// HTTP status.
    pub status: StatusCode,
    /// What happened, in a few words.
    pub heading: &'a str,
    /// What the user can do.
    pub message: &'a str,
}

/// Renders a page with a status.
pub fn render(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => (status, Html(html)).into_response(),
        Err(error) => {
            tracing::error!(%error, "failed to render a page");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// An error page of an issuer.
pub fn issuer_error(issuer: &Issuer, error: &ErrorPage<'_>) -> Response {
    let page = FramedErrorPage {
        frame: Frame::of(issuer),
        heading: error.heading,
        message: error.message,
    };
    render(error.status, &page)
}

/// An error page before any issuer is known: plain text, for there is no style to link to.
pub fn error(error: &ErrorPage<'_>) -> Response {
    (error.status, format!("{}\n\n{}\n", error.heading, error.message)).into_response()
}
