//! The value every request reads once: all issuers in service.

use std::sync::Arc;

use crate::issuer::Issuer;

/// Everything in service, as one consistent value.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Issuers in service. No two have the same URL.
    pub issuers: Vec<Arc<Issuer>>,
}

impl Snapshot {
    /// The issuer that serves a request, and the path below it (beginning with a slash, or empty).
    ///
    /// `host` is the request's authority; a default port may be left out. The longest issuer path wins.
    pub fn route<'p>(&self, host: &str, path: &'p str) -> Option<(&Arc<Issuer>, &'p str)> {
        self.issuers
            .iter()
            .filter(|issuer| same_authority(&issuer.url.authority(), host, issuer.url.is_https()))
            .filter_map(|issuer| {
                let rest = path.strip_prefix(issuer.url.path())?;
                (rest.is_empty() || rest.starts_with('/')).then_some((issuer, rest))
            })
            .max_by_key(|(issuer, _)| issuer.url.path().len())
    }
}

fn same_authority(configured: &str, requested: &str, https: bool) -> bool {
    let default_port = if https { ":443" } else { ":80" };
    let bare = |authority: &str| {
        authority.strip_suffix(default_port).unwrap_or(authority).to_ascii_lowercase()
    };
    bare(configured) == bare(requested)
}
