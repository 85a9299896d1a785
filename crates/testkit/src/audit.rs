//! The API server's audit log, read by tests to count requests exactly.
//!
//! - Count by the user that only the tested operator is: then other tests on the same API server do not matter.
//! - The log blocks: an answer's line is there before its last byte leaves the API server. (Answers above
//!   4 KB with a declared length could be read in full a moment before; wrap counts of large lists in
//!   [`eventually`](crate::eventually).)
//! - One request is one [`AuditedRequest`], by audit ID. A watch is logged when it starts and again when it
//!   ends; it counts when it starts, so the end of a watch that began before the mark counts for nothing.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// The audit log of one control plane.
#[derive(Debug, Clone)]
pub struct AuditLog {
    path: PathBuf,
}

/// A place in the log: everything before it is past, and so is the line it lies within.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AuditMark {
    offset: u64,
}

/// One request as the API server saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditedRequest {
    /// Unique to this request.
    pub audit_id: String,
    /// Who asked, e.g. `system:serviceaccount:home:claviger`; empty when nobody was authenticated.
    pub user: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; for what is no
    /// resource, the HTTP method in small letters.
    pub verb: String,
    /// API group; empty for the core group and for what is no resource.
    pub group: String,
    /// Plural, e.g. `sessions`; empty for what is no resource (`/readyz`, `/apis`).
    pub resource: String,
    /// E.g. `status`; mostly empty.
    pub subresource: String,
    /// Empty for what is in no namespace.
    pub namespace: String,
    /// Empty for lists, and for `create`.
    pub name: String,
    /// Path and query.
    pub uri: String,
    /// HTTP status.
    pub code: u16,
    /// Non-empty if the request was made by impersonation, and as whom.
    pub impersonated_user: String,
}

impl AuditedRequest {
    /// `create sessions`, `patch oidcissuers/status`, `get /readyz`: what [`counts`] counts by.
    pub fn what(&self) -> String {
        let Self { verb, resource, subresource, .. } = self;
        match (resource.as_str(), subresource.as_str()) {
            ("", _) => format!("{verb} {}", self.uri.split('?').next().unwrap_or_default()),
            (_, "") => format!("{verb} {resource}"),
            _ => format!("{verb} {resource}/{subresource}"),
        }
    }
}

/// How often each thing was asked, by [`AuditedRequest::what`].
pub fn counts(requests: &[AuditedRequest]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for request in requests {
        *counts.entry(request.what()).or_default() += 1;
    }
    counts
}

impl AuditLog {
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// The end of the log as it is now.
    pub fn mark(&self) -> Result<AuditMark> {
        match std::fs::metadata(&self.path) {
            Ok(metadata) => Ok(AuditMark { offset: metadata.len() }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(AuditMark { offset: 0 }),
            Err(error) => Err(error).context("failed to look at the audit log"),
        }
    }

    /// The requests of `user` (authenticated as that, whomever it impersonated) since `mark`, oldest first.
    pub fn requests_since(&self, mark: AuditMark, user: &str) -> Result<Vec<AuditedRequest>> {
        let mut requests = self.all_requests_since(mark)?;
        requests.retain(|request| request.user == user);
        Ok(requests)
    }

    /// [`counts`] of what `user` asked since `mark`.
    pub fn counts_since(&self, mark: AuditMark, user: &str) -> Result<BTreeMap<String, usize>> {
        Ok(counts(&self.requests_since(mark, user)?))
    }

    /// Everybody's requests since `mark`, the API server's own among them, oldest first.
    pub fn all_requests_since(&self, mark: AuditMark) -> Result<Vec<AuditedRequest>> {
        let described = || format!("failed to read {}", self.path.display());
        let mut file = File::open(&self.path).with_context(described)?;
        let length = file.metadata().with_context(described)?.len();
        ensure!(
            length >= mark.offset,
            "{} was begun anew: it had {} bytes, and has {length}",
            self.path.display(),
            mark.offset
        );
        file.seek(SeekFrom::Start(mark.offset.saturating_sub(1))).with_context(described)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).with_context(described)?;
        parse(if mark.offset == 0 { &text } else { after_line_feed(&text) })
    }
}

/// What follows the first line feed. A long line grows the file bit by bit, so that a mark can lie within one.
fn after_line_feed(text: &[u8]) -> &[u8] {
    match text.iter().position(|byte| *byte == b'\n') {
        Some(at) => &text[at + 1..],
        None => &[],
    }
}

fn parse(text: &[u8]) -> Result<Vec<AuditedRequest>> {
    // What follows the last line feed is being written, and may end within a character.
    let end = text.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
    let complete = std::str::from_utf8(&text[..end]).context("the audit log is no text")?;
    let mut requests: Vec<AuditedRequest> = Vec::new();
    let mut places = HashMap::new();
    for line in complete.lines() {
        let event: Event = serde_json::from_str(line)
            .with_context(|| format!("failed to parse a line of the audit log: {line}"))?;
        if let Some(&place) = places.get(&event.audit_id) {
            requests[place] = event.into();
        } else if event.stage == "ResponseStarted" || event.verb != "watch" {
            places.insert(event.audit_id.clone(), requests.len());
            requests.push(event.into());
        }
    }
    Ok(requests)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(rename = "auditID")]
    audit_id: String,
    stage: String,
    verb: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    #[serde(default)]
    user: User,
    #[serde(default)]
    impersonated_user: User,
    #[serde(default)]
    object_ref: ObjectRef,
    #[serde(default)]
    response_status: Status,
}

#[derive(Deserialize, Default)]
struct User {
    #[serde(default)]
    username: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ObjectRef {
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
    api_group: String,
}

#[derive(Deserialize, Default)]
struct Status {
    #[serde(default)]
    code: u16,
}

impl From<Event> for AuditedRequest {
    fn from(event: Event) -> Self {
        Self {
            audit_id: event.audit_id,
            user: event.user.username,
            verb: event.verb,
            group: event.object_ref.api_group,
            resource: event.object_ref.resource,
            subresource: event.object_ref.subresource,
            namespace: event.object_ref.namespace,
            name: event.object_ref.name,
            uri: event.request_uri,
            code: event.response_status.code,
            impersonated_user: event.impersonated_user.username,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: &str, stage: &str, verb: &str, code: u16) -> String {
        format!(
            r#"{{"auditID":"{id}","stage":"{stage}","verb":"{verb}","requestURI":"/api/v1/pods?limit=1","user":{{"username":"ann"}},"objectRef":{{"resource":"pods","namespace":"here","apiVersion":"v1"}},"responseStatus":{{"metadata":{{}},"code":{code}}}}}
"#
        )
    }

    #[test]
    fn a_watch_counts_once_when_it_starts() {
        let log = line("1", "ResponseStarted", "watch", 200)
            + &line("2", "ResponseComplete", "list", 200)
            + &line("1", "ResponseComplete", "watch", 200);
        let requests = parse(log.as_bytes()).unwrap();
        assert_eq!(
            counts(&requests),
            BTreeMap::from([("watch pods".to_owned(), 1), ("list pods".to_owned(), 1)])
        );
    }

    #[test]
    fn the_end_of_a_watch_that_began_before_the_mark_counts_for_nothing() {
        let log = line("1", "ResponseComplete", "watch", 200);
        assert_eq!(parse(log.as_bytes()).unwrap(), []);
    }

    #[test]
    fn a_line_that_is_being_written_is_left_for_later() {
        let mut log = line("1", "ResponseComplete", "get", 404).into_bytes();
        log.extend(br#"{"auditID":"2","user":{"username":"J"#);
        log.push("ü".as_bytes()[0]);
        let requests = parse(&log).unwrap();
        assert_eq!(requests.len(), 1);
        assert_eq!((requests[0].user.as_str(), requests[0].code), ("ann", 404));
    }

    #[test]
    fn a_mark_that_was_set_while_a_line_was_being_written_is_after_that_line() {
        let folder = tempfile::tempdir().unwrap();
        let log = AuditLog::at(folder.path().join("audit.log"));
        let first = line("1", "ResponseComplete", "get", 200).replace("ann", "J\u{fc}rgen");
        let second = line("2", "ResponseComplete", "list", 200);
        let whole = first.clone() + &second;
        let since = |offset: usize, written: usize| {
            std::fs::write(&log.path, &whole.as_bytes()[..offset]).unwrap();
            let mark = log.mark().unwrap();
            std::fs::write(&log.path, &whole.as_bytes()[..written]).unwrap();
            let requests = log.all_requests_since(mark).unwrap();
            requests.into_iter().map(|request| request.audit_id).collect::<Vec<_>>()
        };
        assert_eq!(since(0, whole.len()), ["1", "2"]);
        for offset in 1..=first.len() {
            assert_eq!(since(offset, whole.len()), ["2"], "marked at {offset}");
        }
        assert_eq!(since(9, first.len() - 1), [""; 0], "it is being written still");
        assert_eq!(since(9, first.len() + 9), [""; 0], "and so is the next");
        assert_eq!(since(whole.len(), whole.len()), [""; 0]);
    }

    #[test]
    fn a_log_that_was_begun_anew_is_not_taken_for_one_in_which_nothing_happened() {
        let folder = tempfile::tempdir().unwrap();
        let log = AuditLog::at(folder.path().join("audit.log"));
        std::fs::write(&log.path, line("1", "ResponseComplete", "get", 200)).unwrap();
        let mark = log.mark().unwrap();
        assert_eq!(log.all_requests_since(mark).unwrap(), []);
        std::fs::write(&log.path, "").unwrap();
        let error = log.all_requests_since(mark).unwrap_err();
        assert!(error.to_string().contains("was begun anew"), "{error:#}");
    }
}
