//! The value every request reads once: all issuers in service.

use std::sync::Arc;

use crate::issuer::{Issuer, IssuerUrl};

/// Everything in service, as one consistent value.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Issuers in service. No two have the same URL.
    pub issuers: Vec<Arc<Issuer>>,
    /// URLs of issuers that exist but are out of service: requests there wait (503).
    pub unavailable: Vec<IssuerUrl>,
    /// Whether it says what the cluster has. `false` until everything was listed once: what is not in it may exist.
    pub published: bool,
}

impl Snapshot {
    /// The issuer that serves a request, and the path below it (beginning with a slash, or empty).
    ///
    /// `host` is the request's authority; a default port may be left out. The longest issuer path wins.
    pub fn route<'p>(&self, host: &str, path: &'p str) -> Option<(&Arc<Issuer>, &'p str)> {
        self.issuers
            .iter()
            .filter_map(|issuer| Some((issuer, below(&issuer.url, host, path)?)))
            .max_by_key(|(issuer, _)| issuer.url.path().len())
    }

    /// The issuer of this UID, if it is in service.
    pub fn issuer_by_uid(&self, uid: &str) -> Option<&Arc<Issuer>> {
        self.issuers.iter().find(|issuer| issuer.uid == uid)
    }

    /// Whether the request is for an issuer that is out of service at the moment.
    pub fn is_unavailable(&self, host: &str, path: &str) -> bool {
        self.unavailable.iter().any(|url| below(url, host, path).is_some())
    }
}

/// The path below an issuer, if the request is for it.
fn below<'p>(url: &IssuerUrl, host: &str, path: &'p str) -> Option<&'p str> {
    if !same_authority(&url.authority(), host, url.is_https()) {
        return None;
    }
    let rest = path.strip_prefix(url.path())?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

fn same_authority(configured: &str, requested: &str, https: bool) -> bool {
    let default_port = if https { ":443" } else { ":80" };
    let bare = |authority: &str| {
        authority.strip_suffix(default_port).unwrap_or(authority).to_ascii_lowercase()
    };
    bare(configured) == bare(requested)
}
