//! A user's browser, as far as a login needs one: cookies, forms, redirects one by one.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use reqwest::cookie::Jar;
use reqwest::header::LOCATION;
use reqwest::{Client, Response, StatusCode, Url};

use crate::peer::Peer;

/// A browser with cookies of its own, that trusts one authority.
#[derive(Debug, Clone)]
pub struct Browser {
    http: Client,
    jar: Arc<Jar>,
}

/// A page as the user sees it, with what a form on it would send.
#[derive(Debug, Clone)]
pub struct Page {
    /// Where it came from.
    pub url: Url,
    /// HTTP status.
    pub status: StatusCode,
    /// HTML.
    pub html: String,
}

/// Where a request led.
#[derive(Debug)]
pub enum Landing {
    /// A page of the provider.
    Page(Page),
    /// Back at the application: its redirect URI with the answer in the query.
    Application(Url),
}

impl Browser {
    /// A fresh browser that reaches this peer: the PEM of an authority, or one replica.
    ///
    /// # Errors
    /// When the PEM is none.
    pub fn new(peer: impl Into<Peer>) -> Result<Self> {
        let jar = Arc::new(Jar::default());
        let http = peer.into().client()?.cookie_provider(Arc::clone(&jar)).build()?;
        Ok(Self { http, jar })
    }

    /// The same browser, with its cookies, where another replica answers.
    ///
    /// # Errors
    /// When the peer's authority is none.
    pub fn at(&self, peer: impl Into<Peer>) -> Result<Self> {
        let jar = Arc::clone(&self.jar);
        let http = peer.into().client()?.cookie_provider(Arc::clone(&jar)).build()?;
        Ok(Self { http, jar })
    }

    /// Signs in: opens the authorization URL, chooses the connector if asked, fills in the form,
    /// consents if asked, and ends at the application's redirect URI.
    ///
    /// # Errors
    /// When another page comes than expected; its text is in the error.
    pub async fn sign_in(&self, authorize: &Url, who: Login<'_>) -> Result<Url> {
        let mut landing = self.open(authorize).await?;
        if let Landing::Page(page) = &landing
            && page.form_field("password").is_none()
            && let Some(link) = page.link_to_connector(who.connector)
        {
            landing = self.open(&link).await?;
        }
        let Landing::Page(form) = landing else { bail!("no login page: {landing:?}") };
        let fields = [("login", who.username), ("password", who.password)];
        match self.submit(&form, &fields).await? {
            Landing::Application(url) => Ok(url),
            Landing::Page(page) if page.html.contains("name=\"approval\"") => {
                match self.submit(&page, &[("approval", "approve")]).await? {
                    Landing::Application(url) => Ok(url),
                    Landing::Page(page) => bail!("consent led to {}: {}", page.status, page.html),
                }
            }
            Landing::Page(page) => bail!("login led to {}: {}", page.status, page.html),
        }
    }

    /// Signs in at the device page and decides about the device whose code the URL brings: `approve` or `deny`. Returns
    /// the last page.
    ///
    /// # Errors
    /// When another page comes than expected; its text is in the error.
    pub async fn decide_device(&self, url: &Url, who: Login<'_>, decision: &str) -> Result<Page> {
        let mut landing = self.open(url).await?;
        if let Landing::Page(page) = &landing
            && page.form_field("password").is_none()
            && let Some(link) = page.link_to_connector(who.connector)
        {
            landing = self.open(&link).await?;
        }
        if let Landing::Page(page) = &landing
            && page.form_field("password").is_some()
        {
            let fields = [("login", who.username), ("password", who.password)];
            landing = self.submit(page, &fields).await?;
        }
        let Landing::Page(entry) = landing else { bail!("no device page: {landing:?}") };
        let code = entry.form_field("user_code");
        let code = code.with_context(|| format!("no code is asked for: {}", entry.html))?;
        let Landing::Page(page) = self.submit(&entry, &[("user_code", &code)]).await? else {
            bail!("the code led away")
        };
        ensure!(page.form_field("confirmation").is_some(), "{}: {}", page.status, page.html);
        match self.submit(&page, &[("decision", decision)]).await? {
            Landing::Page(page) => Ok(page),
            Landing::Application(url) => bail!("the decision led to {url}"),
        }
    }

    /// Opens a URL and follows redirects within the same origin.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn open(&self, url: &Url) -> Result<Landing> {
        let response = self.http.get(url.clone()).send().await?;
        self.land(response).await
    }

    /// Submits the form on a page: its hidden fields and these.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn submit(&self, page: &Page, fields: &[(&str, &str)]) -> Result<Landing> {
        let response = self.post(page, fields).await?;
        self.land(response).await
    }

    /// The same, without following where it leads.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn post(&self, page: &Page, fields: &[(&str, &str)]) -> Result<Response> {
        let mut form = page.hidden_fields();
        form.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let target = page.form_target()?;
        Ok(self.http.post(target).form(&form).send().await?)
    }

    /// The cookies the browser would send to a URL.
    pub fn cookies(&self, url: &Url) -> Option<String> {
        use reqwest::cookie::CookieStore;
        self.jar.cookies(url).and_then(|value| value.to_str().map(str::to_owned).ok())
    }

    async fn land(&self, mut response: Response) -> Result<Landing> {
        /// More redirects than any login has.
        const MAX_REDIRECTS: usize = 8;
        for _ in 0..MAX_REDIRECTS {
            let here = response.url().clone();
            if !response.status().is_redirection() {
                let status = response.status();
                return Ok(Landing::Page(Page { url: here, status, html: response.text().await? }));
            }
            let location = response.headers().get(LOCATION).context("redirect without Location")?;
            let next = here.join(location.to_str()?)?;
            if next.origin() != here.origin() {
                return Ok(Landing::Application(next));
            }
            response = self.http.get(next).send().await?;
        }
        bail!("more than {MAX_REDIRECTS} redirects")
    }
}

/// Who signs in, and where.
#[derive(Debug, Clone, Copy)]
pub struct Login<'a> {
    /// Name of the connector to choose if there are several.
    pub connector: &'a str,
    /// What goes into the first field.
    pub username: &'a str,
    /// What goes into the second.
    pub password: &'a str,
}

impl Page {
    /// The value of the input of this name, if there is one.
    pub fn form_field(&self, name: &str) -> Option<String> {
        self.inputs().into_iter().find(|input| input.name == name).map(|input| input.value)
    }

    fn hidden_fields(&self) -> Vec<(String, String)> {
        self.inputs()
            .into_iter()
            .filter(|input| input.kind == "hidden")
            .map(|input| (input.name, input.value))
            .collect()
    }

    /// Where its form goes.
    ///
    /// # Errors
    /// When it has none, or its address is none.
    pub fn form_target(&self) -> Result<Url> {
        let form = tags(&self.html, "form").next().context("no form on the page")?;
        match attribute(form, "action") {
            Some(action) if !action.is_empty() => Ok(self.url.join(&action)?),
            _ => Ok(self.url.clone()),
        }
    }

    fn link_to_connector(&self, connector: &str) -> Option<Url> {
        let wanted = format!("/auth/{connector}");
        tags(&self.html, "a")
            .filter_map(|tag| self.url.join(&attribute(tag, "href")?).ok())
            .find(|url| url.path().contains(&wanted))
    }

    fn inputs(&self) -> Vec<Input> {
        tags(&self.html, "input")
            .filter_map(|tag| {
                Some(Input {
                    name: attribute(tag, "name")?,
                    kind: attribute(tag, "type").unwrap_or_else(|| "text".into()),
                    value: attribute(tag, "value").unwrap_or_default(),
                })
            })
            .collect()
    }
}

struct Input {
    name: String,
    kind: String,
    value: String,
}

/// The texts between `<name` and `>`.
fn tags<'h>(html: &'h str, name: &'static str) -> impl Iterator<Item = &'h str> {
    html.split('<').filter_map(move |text| {
        let rest = text.strip_prefix(name)?;
        rest.starts_with(|c: char| c.is_whitespace() || c == '>')
            .then(|| rest.split('>').next().unwrap_or_default())
    })
}

/// The value of a double-quoted attribute, unescaped.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let wanted = format!(" {name}=\"");
    let normalized = tag.replace(['\n', '\t'], " ");
    let at = normalized.find(&wanted)? + wanted.len();
    let value = normalized[at..].split('"').next()?;
    Some(
        value
            .replace("&#38;", "&")
            .replace("&amp;", "&")
            .replace("&#34;", "\"")
            .replace("&quot;", "\"")
            .replace("&#60;", "<")
            .replace("&#62;", ">")
            .replace("&#39;", "'"),
    )
}

/// A value from the query of the URL a login ended at.
///
/// # Errors
/// When it is not there.
pub fn query_value(url: &Url, name: &str) -> Result<String> {
    let value = url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    ensure!(value.is_some(), "no {name} in {url}");
    value.context("checked above")
}
