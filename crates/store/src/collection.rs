//! Objects of one kind in one namespace, a page at a time, metadata alone: listed, or deleted.
//!
//! A page of deletions is a `deletecollection` with `limit`: the API server lists that many, deletes
//! them one after another and answers with what it listed. kube's own `delete_collection` sends no
//! limit and has every deleted object returned whole: a thousand sessions would be megabytes.

use std::time::Duration;

use http::Method;
use kube::Resource;
use kube::api::{ListParams, ObjectMeta};
use kube::core::Request;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use thiserror::Error;

/// Longest time a page may take: the largest takes a second on a healthy API server.
const PAGE_DEADLINE: Duration = Duration::from_secs(30);

/// Pages of one kind in one namespace.
#[derive(Clone)]
pub struct Collection {
    client: kube::Client,
    request: Request,
}

/// Why there was no page.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PageError {
    /// The API server has too much to do, or cannot be reached: slow down.
    #[error("API server is busy: {message}")]
    Busy {
        /// For logs.
        message: String,
        /// How long it asked us to wait.
        retry_after: Option<Duration>,
    },
    /// The place to go on from is too old (410): begin again.
    #[error("the list changed too much to go on with it")]
    Expired,
    /// The object (or its kind) is gone, or changed meanwhile (404, 409).
    #[error("the object changed or is gone")]
    Changed,
    /// The API server says no, and will again.
    #[error("API server refused: {0}")]
    Refused(String),
}

impl PageError {
    /// The word in metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Busy { .. } => "Busy",
            Self::Expired => "Expired",
            Self::Changed => "Changed",
            Self::Refused(_) => "Refused",
        }
    }
}

/// A page of deletions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deleted {
    /// How many objects were deleted.
    pub count: usize,
    /// Whether there are more to delete.
    pub more: bool,
}

/// A page of a list.
#[derive(Debug)]
pub struct Page<T> {
    /// The objects.
    pub items: Vec<T>,
    /// Where the next page begins.
    pub next: Option<String>,
    /// How many objects come after this page; only said of lists without a selector.
    pub remaining: Option<i64>,
}

/// The metadata of an object, without `managedFields` and the like.
#[derive(Debug, Deserialize)]
pub struct Metadata {
    /// Its metadata.
    pub metadata: ObjectMeta,
}

#[derive(Deserialize)]
struct List<T> {
    metadata: ListMetadata,
    /// `null` where there are none: an empty list of Go.
    items: Option<Vec<T>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct ListMetadata {
    #[serde(rename = "continue")]
    next: String,
    remaining_item_count: Option<i64>,
}

impl Collection {
    /// The objects of kind `K` in a namespace.
    pub fn of<K: Resource<DynamicType = ()>>(client: kube::Client, namespace: &str) -> Self {
        Self { client, request: Request::new(K::url_path(&(), Some(namespace))) }
    }

    /// Deletes at most `limit` of the objects that a selector matches.
    ///
    /// # Errors
    /// [`PageError`]; a part of the page may have been deleted.
    pub async fn delete_page(&self, selector: &str, limit: u32) -> Result<Deleted, PageError> {
        self.delete_listed(&params(selector, limit, None)).await
    }

    async fn delete_listed(&self, params: &ListParams) -> Result<Deleted, PageError> {
        let mut request = self.request.list_metadata(params).map_err(bad)?;
        *request.method_mut() = Method::DELETE;
        let list: List<IgnoredAny> = self.answer(request).await?;
        Ok(Deleted {
            count: list.items.map_or(0, |items| items.len()),
            more: !list.metadata.next.is_empty(),
        })
    }

    /// Deletes the object of this name, by the same verb (`deletecollection`).
    ///
    /// # Errors
    /// [`PageError`].
    pub async fn delete_named(&self, name: &str) -> Result<Deleted, PageError> {
        let params = ListParams::default().fields(&format!("metadata.name={name}"));
        self.delete_listed(&params).await
    }

    /// Lists at most `limit` of the objects that a selector matches (empty: all), as `T`:
    /// [`Metadata`], or nothing at all to count them.
    ///
    /// # Errors
    /// [`PageError`].
    pub async fn page<T: DeserializeOwned>(
        &self,
        selector: &str,
        limit: u32,
        next: Option<String>,
    ) -> Result<Page<T>, PageError> {
        let request = self.request.list_metadata(&params(selector, limit, next)).map_err(bad)?;
        let list: List<T> = self.answer(request).await?;
        let next = Some(list.metadata.next).filter(|next| !next.is_empty());
        let items = list.items.unwrap_or_default();
        Ok(Page { items, next, remaining: list.metadata.remaining_item_count })
    }

    /// Whether a selector matches anything: one request, one object.
    ///
    /// # Errors
    /// [`PageError`].
    pub async fn any(&self, selector: &str) -> Result<bool, PageError> {
        Ok(!self.page::<IgnoredAny>(selector, 1, None).await?.items.is_empty())
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        request: http::Request<Vec<u8>>,
    ) -> Result<List<T>, PageError> {
        within(self.client.request(request)).await
    }
}

/// One request with a deadline.
pub(crate) async fn within<T>(
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, PageError> {
    match tokio::time::timeout(PAGE_DEADLINE, request).await {
        Ok(answer) => answer.map_err(|error| page_error(&error)),
        Err(_) => Err(busy(format!("no answer within {PAGE_DEADLINE:?}"), None)),
    }
}

fn params(selector: &str, limit: u32, next: Option<String>) -> ListParams {
    ListParams {
        label_selector: Some(selector.to_owned()).filter(|selector| !selector.is_empty()),
        limit: Some(limit),
        continue_token: next,
        ..ListParams::default()
    }
}

fn bad(error: impl std::fmt::Display) -> PageError {
    PageError::Refused(error.to_string())
}

fn busy(message: String, retry_after: Option<Duration>) -> PageError {
    PageError::Busy { message, retry_after }
}

/// What an error of the client means for whoever asks for page after page.
fn page_error(error: &kube::Error) -> PageError {
    let kube::Error::Api(status) = error else {
        return match error {
            kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => bad(error),
            _ => busy(error.to_string(), None),
        };
    };
    let asked = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    let retry_after = (asked > 0).then(|| Duration::from_secs(asked.into()));
    match status.code {
        404 | 409 => PageError::Changed,
        410 => PageError::Expired,
        429 | 500..=599 => busy(format!("{}: {}", status.code, status.message), retry_after),
        code => PageError::Refused(format!("{code}: {}", status.message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    fn answered(code: u16) -> PageError {
        page_error(&kube::Error::Api(Status::failure("words", "Reason").with_code(code).boxed()))
    }

    #[test]
    fn what_passes_by_itself_is_told_from_what_does_not() {
        assert_eq!([429, 500, 503, 504].map(|code| answered(code).reason()), ["Busy"; 4]);
        assert_eq!(answered(410), PageError::Expired);
        assert_eq!([404, 409].map(|code| answered(code).reason()), ["Changed"; 2]);
        assert_eq!([400, 403, 422].map(|code| answered(code).reason()), ["Refused"; 3]);
    }

    #[test]
    fn an_empty_page_is_no_failure() {
        for items in ["null", "[]"] {
            let page = format!(
                r#"{{"kind": "PartialObjectMetadataList", "metadata": {{}}, "items": {items}}}"#
            );
            let list: List<Metadata> = serde_json::from_str(&page).unwrap();
            assert!(list.items.unwrap_or_default().is_empty());
        }
    }

    #[test]
    fn what_the_api_server_asks_for_is_heard() {
        let status: Status = serde_json::from_value(serde_json::json!({
            "status": "Failure", "code": 429, "details": {"retryAfterSeconds": 7},
        }))
        .unwrap();
        let PageError::Busy { retry_after, .. } = page_error(&kube::Error::Api(status.boxed()))
        else {
            panic!("not busy");
        };
        assert_eq!(retry_after, Some(Duration::from_secs(7)));
    }
}
