//! `Retry-After` of an answer that refuses, kept where kube's errors can show it.
//!
//! kube reads the body of a refusal alone. API priority and fairness refuses with a header and plain
//! text, so without this nobody would learn how long to wait.

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use kube::client::DynBody;
use kube::core::Status;
use kube::core::response::StatusDetails;
use tower::BoxError;

/// A refusal that is larger is not read at all.
const LARGEST_REFUSAL: usize = 64 * 1024;

/// The answer; a refusal with a `Retry-After` says so in its `Status`.
///
/// # Errors
/// When the body of a refusal cannot be read.
pub async fn into_status(
    answer: Response<Box<DynBody>>,
) -> Result<Response<Box<DynBody>>, BoxError> {
    let Some(seconds) = asked(answer.status(), answer.headers()) else { return Ok(answer) };
    let (mut parts, body) = answer.into_parts();
    let body = read(body).await?;
    let status = with_retry_after(parts.status, &body, seconds);
    let body = Bytes::from(serde_json::to_vec(&status)?);
    parts.headers.remove(header::CONTENT_LENGTH);
    Ok(Response::from_parts(parts, in_memory(body)))
}

async fn read(mut body: Box<DynBody>) -> Result<Vec<u8>, BoxError> {
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if read.len() + data.len() > LARGEST_REFUSAL {
            return Err("the API server's refusal is too large to read".into());
        }
        read.extend_from_slice(&data);
    }
    Ok(read)
}

fn in_memory(body: Bytes) -> Box<DynBody> {
    Box::new(Full::new(body).map_err(|never| -> BoxError { match never {} }))
}

/// Seconds to wait, where the answer is a refusal that says it. Dates are not read: the API server
/// sends seconds.
fn asked(status: StatusCode, headers: &HeaderMap) -> Option<u32> {
    if !status.is_client_error() && !status.is_server_error() {
        return None;
    }
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()
}

fn with_retry_after(code: StatusCode, body: &[u8], seconds: u32) -> Status {
    let mut status = serde_json::from_slice::<Status>(body).unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(body);
        let reason = code.canonical_reason().unwrap_or_default().replace(' ', "");
        Status::failure(text.trim(), &reason).with_code(code.as_u16())
    });
    let details = status.details.get_or_insert_with(|| StatusDetails {
        name: String::new(),
        group: String::new(),
        kind: String::new(),
        uid: String::new(),
        causes: Vec::new(),
        retry_after_seconds: 0,
    });
    details.retry_after_seconds = details.retry_after_seconds.max(seconds);
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u16, retry_after: Option<&str>, body: &'static str) -> Response<Box<DynBody>> {
        let mut answer = Response::builder().status(code);
        if let Some(value) = retry_after {
            answer = answer.header(header::RETRY_AFTER, value);
        }
        answer.body(in_memory(Bytes::from(body))).unwrap()
    }

    async fn body(answer: Response<Box<DynBody>>) -> Bytes {
        into_status(answer).await.unwrap().into_body().collect().await.unwrap().to_bytes()
    }

    #[tokio::test]
    async fn a_refusal_in_plain_text_says_how_long_to_wait() {
        let text = "Too many requests, please try again later.\n";
        let said: Status =
            serde_json::from_slice(&body(answer(429, Some("7"), text)).await).unwrap();
        assert_eq!((said.code, said.reason.as_str()), (429, "TooManyRequests"));
        assert_eq!(said.message, text.trim());
        assert_eq!(said.details.unwrap().retry_after_seconds, 7);
    }

    #[tokio::test]
    async fn a_status_keeps_what_it_says() {
        let text = r#"{"kind":"Status","status":"Failure","code":504,"reason":"Timeout","message":"m",
                       "details":{"retryAfterSeconds":9}}"#;
        let said: Status =
            serde_json::from_slice(&body(answer(504, Some("3"), text)).await).unwrap();
        assert_eq!((said.code, said.reason.as_str()), (504, "Timeout"));
        assert_eq!(said.details.unwrap().retry_after_seconds, 9);
    }

    #[tokio::test]
    async fn everything_else_passes_untouched() {
        for answer in [
            answer(200, Some("3"), "{}"),
            answer(429, None, "{}"),
            answer(503, Some("Wed, 25 Nov 2026 20:00:00 GMT"), "{}"),
        ] {
            assert_eq!(body(answer).await, "{}");
        }
    }
}
