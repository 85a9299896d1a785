//! The addresses of an OAuth2Client, of pages about it too, and whether its issuer admits them for tenants.

use std::collections::BTreeSet;

use claviger_api::condition::Reason;
use claviger_api::{OAuth2ClientSpec, TenantPolicy};
use claviger_domain::client::{ClientPages, RedirectUri};
use claviger_domain::host::{admits_host, host_of};

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
    let pages = pages(spec);
    let pages = [&pages.client, &pages.logo, &pages.policy, &pages.terms];
    for raw in spec.redirect_uris.iter().chain(post_logout).chain(pages.into_iter().flatten()) {
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

/// The addresses its users may be sent to after signing out.
pub fn post_logout(spec: &OAuth2ClientSpec) -> BTreeSet<String> {
    spec.post_logout_redirect_uris.iter().cloned().collect()
}

/// The pages about a client.
pub fn pages(spec: &OAuth2ClientSpec) -> ClientPages {
    let Some(information) = &spec.information else { return ClientPages::default() };
    ClientPages {
        client: information.client_uri.clone(),
        logo: information.logo_uri.clone(),
        policy: information.policy_uri.clone(),
        terms: information.tos_uri.clone(),
    }
}
