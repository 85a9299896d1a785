//! The addresses of an OAuth2Client, and whether its issuer admits them for tenants.

use claviger_api::condition::Reason;
use claviger_api::{OAuth2ClientSpec, TenantPolicy};
use claviger_domain::client::RedirectUri;

use crate::assess::findings::Findings;

/// The redirect URIs of a client; what is wrong with them and with its post-logout URIs is reported.
pub fn redirect_uris(
    spec: &OAuth2ClientSpec,
    policy: Option<&TenantPolicy>,
    signs_in: bool,
    findings: &mut Findings,
) -> Vec<RedirectUri> {
    let mut uris = Vec::new();
    for raw in &spec.redirect_uris {
        match RedirectUri::parse(raw) {
            Ok(uri) => uris.push(uri),
            Err(error) => {
                findings.reject(Reason::InvalidSpec, format!("redirectURIs: {raw:?}: {error}"));
            }
        }
    }
    let post_logout = &spec.post_logout_redirect_uris;
    for raw in spec.redirect_uris.iter().chain(post_logout) {
        let admitted = policy.is_none_or(|policy| {
            let hosts = &policy.allowed_redirect_uri_hosts;
            host_of(raw).is_some_and(|host| admits_host(hosts, &host))
        });
        if !admitted {
            findings.reject(
                Reason::TenantPolicyViolation,
                format!("the host of {raw:?} is not in the issuer's tenants.allowedRedirectURIHosts: remove the URI, or ask the issuer's administrator"),
            );
        }
    }
    if signs_in && uris.is_empty() && findings.is_accepted() {
        findings.reject(
            Reason::InvalidSpec,
            "redirectURIs is empty, so nobody could sign in: add at least one",
        );
    }
    uris
}

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
