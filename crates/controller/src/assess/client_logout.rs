//! How a client is told that a session is over, and whether its issuer admits that for tenants.
//!
//! What always holds: a frame has the origin of a redirect URI, which tenants are bound in; where Claviger itself goes
//! for a tenant is what `tenants.allowedBackChannelLogoutHosts` lists, and nowhere by default.

use claviger_api::condition::Reason;
use claviger_api::{LogoutTokenNames, OAuth2ClientSpec, TenantPolicy};
use claviger_domain::client::RedirectUri;
use claviger_domain::client_logout::{BackChannel, ClientLogout, Named};
use claviger_domain::host::{admits_host, host_of};

use crate::assess::findings::Findings;

/// How this client is told; what is wrong with it is reported.
pub fn client_logout(
    spec: &OAuth2ClientSpec,
    policy: Option<&TenantPolicy>,
    redirect_uris: &[RedirectUri],
    findings: &mut Findings,
) -> ClientLogout {
    ClientLogout {
        back_channel: back_channel(spec, policy, findings),
        front_channel: front_channel(spec, redirect_uris, findings),
    }
}

fn back_channel(
    spec: &OAuth2ClientSpec,
    policy: Option<&TenantPolicy>,
    findings: &mut Findings,
) -> Option<BackChannel> {
    let wanted = spec.back_channel_logout.as_ref()?;
    let uri = &wanted.uri;
    let Some(host) = host_of(uri).filter(|_| RedirectUri::parse(uri).is_ok()) else {
        findings.reject(
            Reason::InvalidSpec,
            format!("backChannelLogout.uri {uri:?} must be https, or http on loopback: correct it"),
        );
        return None;
    };
    if !policy.is_none_or(|policy| admits_host(&policy.allowed_back_channel_logout_hosts, &host)) {
        findings.reject(
            Reason::TenantPolicyViolation,
            format!("the host of backChannelLogout.uri {uri:?} is not in the issuer's tenants.allowedBackChannelLogoutHosts: remove it, or ask the issuer's administrator"),
        );
        return None;
    }
    let names = match wanted.names {
        LogoutTokenNames::Session => Named::Session,
        LogoutTokenNames::SessionAndUser => Named::SessionAndUser,
    };
    Some(BackChannel { uri: uri.clone(), names })
}

/// Front-Channel Logout 1.0 section 2: its domain, port and scheme are those of a registered redirect URI.
fn front_channel(
    spec: &OAuth2ClientSpec,
    redirect_uris: &[RedirectUri],
    findings: &mut Findings,
) -> Option<String> {
    let uri = &spec.front_channel_logout.as_ref()?.uri;
    let origin = RedirectUri::parse(uri).ok().and_then(|uri| uri.origin());
    let is_ours = origin.is_some_and(|origin| {
        redirect_uris.iter().any(|known| known.origin().is_some_and(|known| known == origin))
    });
    if is_ours {
        return Some(uri.clone());
    }
    findings.reject(
        Reason::InvalidSpec,
        format!("frontChannelLogout.uri {uri:?} has not the scheme, host and port of any of the redirectURIs: correct it, or add such a redirect URI"),
    );
    None
}
