//! Sessions of connectors that cannot be asked again: how long they may go on, and the user policy
//! is applied to anew at every refresh.
//!
//! The session keeps the identity after policy. What policy added, the group prefix, is kept beside
//! it, so that it can be taken off again: applied twice, it would make other groups.

use serde_json::Map;

use crate::connector::{Authenticated, Connector, ConnectorData, IdentityPolicy, Refresh};
use crate::session::Payload;

/// What the session keeps for later refreshes: the prefix its groups carry.
pub(crate) fn data_of(policy: &IdentityPolicy) -> Option<ConnectorData> {
    let prefix = policy.group_prefix.as_bytes();
    (!prefix.is_empty()).then(|| ConnectorData(prefix.to_vec()))
}

/// The user as the upstream reported them at sign-in, less the groups policy dropped then.
pub(crate) fn as_reported(payload: &Payload) -> Authenticated {
    let mut identity = payload.identity.clone();
    let prefix = payload.upstream.data.as_ref().map_or(&[][..], |data| &data.0);
    if let Ok(prefix) = std::str::from_utf8(prefix) {
        for group in &mut identity.groups {
            if let Some(bare) = group.strip_prefix(prefix) {
                *group = bare.to_owned();
            }
        }
    }
    Authenticated { identity, raw: Map::new(), data: payload.upstream.data.clone() }
}

/// When a session ends that would end at `end`: never later than its connector lets it go on
/// without the upstream's word.
pub(crate) fn end(connector: &Connector, auth_time: i64, end: i64) -> i64 {
    match connector.refresh {
        Refresh::Offline { seconds } => end.min(auth_time.saturating_add(seconds)),
        Refresh::Unsupported | Refresh::Memory(_) | Refresh::Upstream { .. } => end,
    }
}
