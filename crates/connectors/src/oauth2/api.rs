//! Questions to a vendor's API, with a user's token.
//!
//! What always holds: the token goes to the API's own origin, below its own path, whatever address an answer names as the
//! next page; a list has a largest number of pages and of things; nothing of an answer's body is in an error.

use std::fmt;

use claviger_domain::no_verdict::NoVerdict;
use http::{HeaderMap, Request, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use thiserror::Error;
use url::Url;

use crate::http::{Http, retry_after};

/// Most things of one list that are taken: groups above all.
const MAX_ITEMS: usize = 20_000;
/// Most pages of one list that are read, of a hundred things each where the vendor allows that.
const MAX_PAGES: usize = 200;

/// Why nothing is known about a user.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ApiError {
    /// The vendor does not take the token.
    #[error("{0}")]
    TokenRefused(String),
    /// A verdict: the vendor, or the administrator of the connector, does not want this user. It is told to them.
    #[error("{0}")]
    Refused(String),
    /// No answer, or none now.
    #[error("{0}")]
    Unavailable(NoVerdict),
    /// An answer that is not what it should be.
    #[error("{0}")]
    Unusable(String),
}

impl ApiError {
    /// What it comes to where only a refusal of the user is a verdict.
    pub fn no_verdict(self) -> NoVerdict {
        match self {
            Self::Unavailable(why) => why,
            Self::TokenRefused(why) | Self::Refused(why) | Self::Unusable(why) => why.into(),
        }
    }
}

/// How a vendor says where a list goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paging {
    /// By the header `Link` (RFC 8288); the answer is the list.
    Link,
    /// By the member `next`; the list is the member `values`.
    Members,
    /// By the member `@odata.nextLink`; the list is the member `value` (`OData` 4.01 JSON 4.5.5).
    OData,
}

/// What a vendor answered.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header, where it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The member `message` of an error, or what RFC 6750 3 has instead.
    pub fn message(&self) -> Option<String> {
        let body: Map<String, Value> = serde_json::from_slice(&self.body).ok()?;
        let said = body.get("message").or_else(|| body.get("error_description"))?;
        Some(said.as_str()?.to_owned())
    }

    /// Whether it says that too much was asked.
    pub fn is_rate_limit(&self) -> bool {
        let is_refusal = [StatusCode::FORBIDDEN, StatusCode::TOO_MANY_REQUESTS];
        is_refusal.contains(&self.status)
            && (self.status == StatusCode::TOO_MANY_REQUESTS
                || self.headers.contains_key(header::RETRY_AFTER)
                || self.header("x-ratelimit-remaining") == Some("0")
                || self.message().is_some_and(|text| text.contains("rate limit")))
    }

    /// What was `said` of it, and that it is a rate limit where it is one.
    pub fn no_verdict(&self, said: String) -> NoVerdict {
        if !self.is_rate_limit() {
            return said.into();
        }
        let why = format!("{said}: its rate limit is reached, {}", self.again());
        NoVerdict::busy(why, retry_after(&self.headers))
    }

    /// When to ask again, in words.
    pub fn again(&self) -> String {
        let number = |name: &str| self.header(name)?.parse::<u64>().ok();
        if let Some(seconds) = number("retry-after") {
            return format!("again in {seconds} s");
        }
        match number("x-ratelimit-reset").or_else(|| number("ratelimit-reset")) {
            Some(at) => format!("again at {at} (Unix time)"),
            None => "again in a minute".to_owned(),
        }
    }
}

/// A list, and the headers of its pages.
#[derive(Debug)]
pub struct Listed<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// One for each page.
    pub headers: Vec<HeaderMap>,
}

/// What an answer that is no success says against a user, where it does.
pub type Verdict<'a> = Box<dyn Fn(&Answer) -> Option<String> + Send + Sync + 'a>;

/// A vendor's API as one user sees it.
pub struct Api<'a> {
    pub(super) http: &'a Http,
    pub(super) base: &'a Url,
    pub(super) token: &'a str,
    pub(super) vendor: &'static str,
    pub(super) headers: &'static [(&'static str, &'static str)],
    pub(super) verdict: Verdict<'a>,
}

impl fmt::Debug for Api<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Api({:?})", self.base.as_str())
    }
}

impl<'a> Api<'a> {
    /// An API below this base, of a vendor whose refusals are no verdicts.
    pub fn of(http: &'a Http, base: &'a Url, token: &'a str, vendor: &'static str) -> Self {
        let headers = &[("accept", "application/json")];
        Self { http, base, token, vendor, headers, verdict: Box::new(|_| None) }
    }
}

impl Api<'_> {
    /// One object. `path` begins with a slash and goes below the base.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn object<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        let answer = self.get(&self.below(path)?).await?;
        self.read(path, &answer.body)
    }

    /// What is answered, whatever it is.
    ///
    /// # Errors
    /// [`ApiError::Unavailable`].
    pub async fn answer(&self, path: &str) -> Result<Answer, ApiError> {
        self.ask(&self.below(path)?).await
    }

    /// A whole list.
    ///
    /// # Errors
    /// [`ApiError`]; a list that is too long is one.
    pub async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        paging: Paging,
    ) -> Result<Listed<T>, ApiError> {
        let mut next = Some(self.below(path)?);
        let mut listed = Listed { items: Vec::new(), headers: Vec::new() };
        while let Some(url) = next {
            if listed.headers.len() == MAX_PAGES || listed.items.len() >= MAX_ITEMS {
                return Err(self.too_long(path));
            }
            let answer = self.get(&url).await?;
            let further = match paging {
                Paging::Link => {
                    listed.items.extend(self.read::<Vec<T>>(path, &answer.body)?);
                    next_link(&answer.headers)
                }
                Paging::Members => {
                    let page: Page<T> = self.read(path, &answer.body)?;
                    listed.items.extend(page.values);
                    page.next
                }
                Paging::OData => {
                    let page: ODataPage<T> = self.read(path, &answer.body)?;
                    listed.items.extend(page.value);
                    page.next
                }
            };
            next = further.map(|further| self.next_page(path, &url, &further)).transpose()?;
            listed.headers.push(answer.headers);
        }
        if listed.items.len() > MAX_ITEMS { Err(self.too_long(path)) } else { Ok(listed) }
    }

    fn too_long(&self, path: &str) -> ApiError {
        let what = shown(path);
        ApiError::Unusable(format!(
            "{} lists more than {MAX_ITEMS} things at {what}, or on more than {MAX_PAGES} pages",
            self.vendor
        ))
    }

    /// Asks with the user's token, and takes nothing but a success for an answer.
    async fn get(&self, url: &Url) -> Result<Answer, ApiError> {
        let answer = self.ask(url).await?;
        if answer.status == StatusCode::OK {
            return Ok(answer);
        }
        Err(self.refusal(url, &answer))
    }

    async fn ask(&self, url: &Url) -> Result<Answer, ApiError> {
        let bearer = format!("Bearer {}", self.token);
        let request = Request::builder().uri(url.as_str()).header(header::AUTHORIZATION, bearer);
        let request = self.headers.iter().fold(request, |request, (n, v)| request.header(*n, *v));
        self.send(request.body(Vec::new())).await
    }

    /// Asks in words of the vendor's own, whatever the answer.
    ///
    /// # Errors
    /// [`ApiError::Unavailable`].
    pub async fn send(&self, request: http::Result<Request<Vec<u8>>>) -> Result<Answer, ApiError> {
        let ours = |error: &dyn fmt::Display| ApiError::Unavailable(error.to_string().into());
        let request = request.map_err(|error| ours(&error))?;
        let answer = self.http.send(request).await.map_err(|error| ours(&error))?;
        let (parts, body) = answer.into_parts();
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }

    /// The user's token, for a question of the vendor's own.
    pub fn token(&self) -> &str {
        self.token
    }

    fn refusal(&self, url: &Url, answer: &Answer) -> ApiError {
        let (vendor, status, path) = (self.vendor, answer.status.as_u16(), url.path());
        let said = format!("{vendor} answered {status} for {path}");
        if answer.is_rate_limit() {
            return ApiError::Unavailable(answer.no_verdict(said));
        }
        if let Some(why) = (self.verdict)(answer) {
            return ApiError::Refused(why);
        }
        match answer.status {
            StatusCode::UNAUTHORIZED => {
                ApiError::TokenRefused(format!("{said}: it does not take the user's token"))
            }
            StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
                let fix = "compare the addresses in the Connector, and the permissions of the application there";
                ApiError::Unavailable(format!("{said}: {fix}").into())
            }
            _ => ApiError::Unavailable(said.into()),
        }
    }

    fn read<T: DeserializeOwned>(&self, path: &str, body: &[u8]) -> Result<T, ApiError> {
        serde_json::from_slice(body).map_err(|error| {
            // Where, and not what: its words may hold what was answered.
            let (line, column, what) = (error.line(), error.column(), shown(path));
            let vendor = self.vendor;
            ApiError::Unusable(format!(
                "the answer of {vendor} for {what} cannot be read, at line {line} column {column}"
            ))
        })
    }

    /// A URL below the base.
    ///
    /// # Errors
    /// [`ApiError::Unavailable`]: the path is none.
    pub fn below(&self, path: &str) -> Result<Url, ApiError> {
        if path.is_empty() {
            return Ok(self.base.clone());
        }
        let url = format!("{}{path}", self.base.as_str().trim_end_matches('/'));
        Url::parse(&url).map_err(|error| ApiError::Unavailable(format!("{url}: {error}").into()))
    }

    /// The address of a next page, if it is the API's own: the token goes there.
    fn next_page(&self, path: &str, page: &Url, said: &str) -> Result<Url, ApiError> {
        let below = self.base.path().trim_end_matches('/');
        let next = page.join(said).ok().filter(|next| {
            let same_origin = next.origin() == self.base.origin();
            same_origin && next.path().starts_with(&format!("{below}/"))
        });
        next.ok_or_else(|| {
            let (vendor, what) = (self.vendor, shown(path));
            ApiError::Unusable(format!("{vendor} names a next page of {what} outside its API"))
        })
    }
}

/// One page of a list.
#[derive(serde::Deserialize)]
struct Page<T> {
    values: Vec<T>,
    #[serde(default)]
    next: Option<String>,
}

/// One page, as Microsoft has them.
#[derive(serde::Deserialize)]
struct ODataPage<T> {
    value: Vec<T>,
    #[serde(rename = "@odata.nextLink", default)]
    next: Option<String>,
}

/// A path without its query.
fn shown(path: &str) -> &str {
    path.split('?').next().unwrap_or_default()
}

/// The target of the link with the relation `next` (RFC 8288 3).
fn next_link(headers: &HeaderMap) -> Option<String> {
    let fields = headers.get_all(header::LINK).into_iter().filter_map(|field| field.to_str().ok());
    fields.flat_map(links).find(|(_, parameters)| is_next(parameters)).map(|(target, _)| target)
}

/// Targets and parameters of one field: `<target>; name=value, <target> …`.
fn links(field: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = field;
    while let Some((_, after)) = rest.split_once('<') {
        let Some((target, after)) = after.split_once('>') else { break };
        let end = after.find('<').unwrap_or(after.len());
        found
            .push((target.trim().to_owned(), after[..end].trim_end_matches([',', ' ']).to_owned()));
        rest = &after[end..];
    }
    found
}

fn is_next(parameters: &str) -> bool {
    parameters.split(';').filter_map(|parameter| parameter.split_once('=')).any(|(name, value)| {
        let relations = value.trim().trim_matches('"').split_ascii_whitespace();
        name.trim().eq_ignore_ascii_case("rel")
            && relations.into_iter().any(|relation| relation.eq_ignore_ascii_case("next"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(fields: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(header::LINK, field.parse().unwrap());
        }
        next_link(&headers)
    }

    #[test]
    fn the_next_page_is_the_link_of_that_relation_wherever_it_stands() {
        let github = r#"<https://api.github.com/user/orgs?page=1>; rel="prev", <https://api.github.com/user/orgs?page=3>; rel="next", <https://api.github.com/user/orgs?page=9>; rel="last""#;
        assert_eq!(next(&[github]).as_deref(), Some("https://api.github.com/user/orgs?page=3"));
        assert_eq!(next(&["<a>; rel=last", "<b>; rel=next"]).as_deref(), Some("b"));
        assert_eq!(next(&[r#"<a,b>; title="x"; rel="last next""#]).as_deref(), Some("a,b"));
        assert_eq!(next(&[r#"<a>; rel="nextish""#, "<b"]), None);
        assert_eq!(next(&[]), None);
    }

    fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut answer = Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: body.into(),
        };
        for (name, value) in headers {
            let name: http::HeaderName = name.parse().unwrap();
            answer.headers.insert(name, value.parse().unwrap());
        }
        answer
    }

    #[test]
    fn a_rate_limit_is_told_from_a_refusal() {
        let secondary = r#"{"message":"You have exceeded a secondary rate limit."}"#;
        assert!(answer(403, &[], secondary).is_rate_limit());
        assert!(answer(403, &[("retry-after", "60")], "{}").is_rate_limit());
        assert!(answer(403, &[("x-ratelimit-remaining", "0")], "{}").is_rate_limit());
        assert!(answer(429, &[], "<html>").is_rate_limit());
        let suspended = r#"{"message":"Sorry. Your account was suspended"}"#;
        assert!(!answer(403, &[("x-ratelimit-remaining", "7")], suspended).is_rate_limit());
        assert!(!answer(401, &[("retry-after", "60")], secondary).is_rate_limit());
        assert_eq!(answer(403, &[("retry-after", "60")], "{}").again(), "again in 60 s");
        let reset = answer(403, &[("x-ratelimit-reset", "1764000000")], "{}");
        assert!(reset.again().contains("1764000000"), "{}", reset.again());
    }
}
