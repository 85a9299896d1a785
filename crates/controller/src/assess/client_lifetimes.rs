//! How long the tokens and sessions of an OAuth2Client live.

use claviger_api::{OAuth2ClientSpec, OIDCIssuer, TenantPolicy};
use claviger_domain::issuer::Lifetimes;

/// How long a client's tokens and sessions live: its own numbers, else its issuer's; of two the stricter.
pub fn lifetimes(
    spec: &OAuth2ClientSpec,
    issuer: &OIDCIssuer,
    policy: Option<&TenantPolicy>,
) -> Lifetimes {
    let defaults = &issuer.spec.lifetimes;
    let bound =
        |value: i32, bound: Option<i32>| i64::from(bound.map_or(value, |bound| value.min(bound)));
    let token = policy.map(|policy| policy.max_id_token_lifetime_seconds);
    let session = policy.map(|policy| policy.max_refresh_token_lifetime_seconds);
    let absolute = bound(
        spec.refresh_token_absolute_seconds.unwrap_or(defaults.refresh_token_absolute_seconds),
        session,
    );
    let idle = spec.refresh_token_idle_seconds.unwrap_or(defaults.refresh_token_idle_seconds);
    Lifetimes {
        id_token: bound(
            spec.id_token_lifetime_seconds.unwrap_or(defaults.id_token_lifetime_seconds),
            token,
        ),
        access_token: bound(
            spec.access_token_lifetime_seconds.unwrap_or(defaults.access_token_lifetime_seconds),
            token,
        ),
        refresh_idle: i64::from(idle).min(absolute),
        refresh_absolute: absolute,
        refresh_grace: i64::from(defaults.refresh_grace_seconds),
    }
}
