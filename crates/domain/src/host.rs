//! Hosts of URLs that clients name, and whether one of a list admits them.

/// Host of an http(s) URI in lower case, without port. A URI that is written so that a browser
/// might see another host (user, backslash) has none.
pub fn host_of(uri: &str) -> Option<String> {
    let rest = uri.strip_prefix("https://").or_else(|| uri.strip_prefix("http://"))?;
    let authority = rest.split(['/', '?', '#']).next()?;
    if authority.is_empty() || authority.contains(['@', '\\', '%']) {
        return None;
    }
    let host = match authority.strip_prefix('[') {
        Some(bracketed) => format!("[{}]", bracketed.split_once(']')?.0),
        None => authority.split_once(':').map_or(authority, |(host, _)| host).to_owned(),
    };
    Some(host.to_ascii_lowercase())
}

/// Whether a host is one of these, or below one that begins with `*.`.
pub fn admits_host(hosts: &[String], host: &str) -> bool {
    hosts.iter().any(|allowed| match allowed.strip_prefix("*.") {
        Some(parent) => {
            host.strip_suffix(parent).is_some_and(|sub| sub.len() > 1 && sub.ends_with('.'))
        }
        None => host == allowed,
    })
}
