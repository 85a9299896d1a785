//! Conditions: what Claviger says about an object, in the shape of the Kubernetes API
//! conventions.
//!
//! Types are positive (`True` is good) and few; reasons are one closed list, and the same word
//! stands in condition, Event, metric and log. `lastTransitionTime` moves only when the status
//! flips, so writing an unchanged verdict changes nothing. Time is passed in.

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::{Connector, LocalUser, OAuth2Client, OIDCIssuer, SigningKey, time};

/// Longest message the schema takes, in bytes; longer ones are cut at a character boundary.
const MAX_MESSAGE_BYTES: usize = 32_768;

/// What a condition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// The spec is valid and nobody else's claim is in the way. `False` takes the object out of
    /// service.
    Accepted,
    /// Everything it refers to is there and may be used. `False` takes the object out of service.
    ResolvedRefs,
    /// The summary: it is in service, and where it has an upstream, the upstream answers. An
    /// upstream that does not answer leaves the object in service.
    Ready,
    /// Of a SigningKey: the `rotationRequest` is honoured and a key of the algorithm that is asked for
    /// signs.
    Rotated,
    /// Of a SigningKey: keys can rotate as often as the spec says.
    ScheduleFeasible,
    /// Of a SigningKey: Claviger has withdrawn every key in `revokedKeyIDs`.
    RevokedKeysWithdrawn,
    /// Of a Connector: the TLS certificate that its upstream shows is not about to expire.
    UpstreamCertificateFresh,
}

impl ConditionType {
    /// The word in `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::ResolvedRefs => "ResolvedRefs",
            Self::Ready => "Ready",
            Self::Rotated => "Rotated",
            Self::ScheduleFeasible => "ScheduleFeasible",
            Self::RevokedKeysWithdrawn => "RevokedKeysWithdrawn",
            Self::UpstreamCertificateFresh => "UpstreamCertificateFresh",
        }
    }
}

/// `status` of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not.
    False,
    /// The check could not run.
    Unknown,
}

impl ConditionStatus {
    /// The word in `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $reason:ident,)+) => {
        /// Why a condition has its status: one closed list for all kinds.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[$doc])* $reason,)+
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$reason),+];

            /// The word in `reason`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$reason => stringify!($reason),)+
                }
            }
        }
    };
}

reasons! {
    // True
    /// `Accepted=True`.
    Accepted,
    /// `ResolvedRefs=True`.
    ResolvedRefs,
    /// `Ready=True`.
    Ready,
    /// `Accepted=True`, with a warning: this connector shares an issuer with others and has no
    /// `emailDomains`, `groupPrefix` or `allowedGroups`, so its users could pass for another's.
    ImpersonationPossible,

    /// `Rotated=True`.
    Rotated,
    /// `ScheduleFeasible=True`.
    Feasible,
    /// `RevokedKeysWithdrawn=True`: there are none.
    NothingRevoked,
    /// `RevokedKeysWithdrawn=True`: Claviger has done its part; the message says who may still trust
    /// them, and how to end that.
    Withdrawn,
    /// `UpstreamCertificateFresh=True`.
    CertificateFresh,

    // Accepted=False
    /// The spec says something that cannot be served; the message says what and how to fix it.
    InvalidSpec,
    /// An older OIDCIssuer has this URL.
    IssuerURLConflict,
    /// An older OAuth2Client at the issuer has this client ID.
    ClientIDConflict,
    /// A client outside the home namespace set `clientID`.
    ClientIDNotAllowed,
    /// The issuer's `allowedClients` does not admit clients of this namespace.
    NamespaceNotAllowed,
    /// The client asks for more than the issuer's `tenants` grants.
    TenantPolicyViolation,
    /// An older LocalUser has this mail address or user ID.
    UserConflict,
    /// The issuer has no signing key of the algorithm the client asks for.
    AlgorithmNotAvailable,

    // ResolvedRefs=False
    /// The Secret is not there.
    SecretNotFound,
    /// The Secret has no such key.
    SecretKeyNotFound,
    /// The Secret lacks the label `claviger.dev/secret` with the value for this use.
    SecretNotLabelled,
    /// Claviger may not read Secrets in that namespace; the message has the RoleBinding to apply.
    SecretAccessDenied,
    /// What the Secret holds is not what the field needs: no certificate, no password hash.
    SecretInvalid,
    /// A Secret of the generated name exists and belongs to somebody else; it is left alone.
    SecretNotOwned,
    /// The ConfigMap is not there, or lacks the label `claviger.dev/config-map`.
    ConfigMapNotFound,
    /// The ConfigMap has no such key.
    ConfigMapKeyNotFound,
    /// Claviger may not read ConfigMaps in its namespace.
    ConfigMapAccessDenied,
    /// The OIDCIssuer is not there.
    IssuerNotFound,
    /// The OIDCIssuer is there but out of service.
    IssuerNotReady,
    /// A Connector is not there.
    ConnectorNotFound,
    /// A Connector is there but out of service.
    ConnectorNotReady,
    /// A SigningKey is not there.
    SigningKeyNotFound,
    /// A SigningKey has no key that may sign yet.
    SigningKeyNotReady,

    // Ready=False or Unknown
    /// `Accepted` is False.
    NotAccepted,
    /// `ResolvedRefs` is False.
    RefsNotResolved,
    /// The upstream could not be reached.
    UpstreamUnreachable,
    /// The upstream's certificate was not trusted.
    UpstreamUntrusted,
    /// The upstream refused Claviger's own credentials.
    UpstreamRefusedCredentials,
    /// The upstream answered something that cannot be used, such as no entry at the base DN.
    UpstreamUnusable,
    /// Claviger was started without the listener this upstream needs.
    ListenerDisabled,
    /// The upstream has not been asked yet.
    NotProbed,
    /// Work is under way that ends by itself, such as making the first key.
    Progressing,
    /// Claviger could not write what the object asks for; it tries again.
    WriteFailed,
    /// The user is disabled.
    Disabled,
    /// The Secret does not hold the keys in force, as after a restore from an older backup; they are
    /// written back.
    SecretReplaced,

    // other conditions, False
    /// `Rotated=False`: the next key waits until every cache must have seen it; the message says when.
    RotationPending,
    /// `ScheduleFeasible=False`: the period is shorter than tokens and caches allow; the message says
    /// what is done instead and what to change.
    ImpossibleSchedule,
    /// `UpstreamCertificateFresh=False`: less than two weeks are left, or a quarter of its life if that is less; the
    /// message says whose it is and when it ends.
    UpstreamCertificateExpiring,
}

/// One verdict, before it has a time: what a pure assessor says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What it is about.
    pub type_: ConditionType,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why.
    pub reason: Reason,
    /// All that is wrong, each with its fix. No secrets.
    pub message: String,
}

impl Verdict {
    /// It holds.
    pub fn holds(type_: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self { type_, status: ConditionStatus::True, reason, message: message.into() }
    }

    /// It does not hold.
    pub fn fails(type_: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self { type_, status: ConditionStatus::False, reason, message: message.into() }
    }

    /// The check could not run.
    pub fn unknown(type_: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self { type_, status: ConditionStatus::Unknown, reason, message: message.into() }
    }
}

/// Puts a verdict into a list of conditions, one per type, and says whether the list changed.
///
/// `generation` is the object's `metadata.generation`; `now` is in seconds since the Unix epoch
/// and is written only when the status differs from the one before.
pub fn set_condition(
    conditions: &mut Vec<Condition>,
    verdict: &Verdict,
    generation: i64,
    now: i64,
) -> bool {
    let known = conditions.iter_mut().find(|known| known.type_ == verdict.type_.as_str());
    let last_transition_time = known
        .as_ref()
        .filter(|known| known.status == verdict.status.as_str())
        .map_or_else(|| time::from_seconds(now), |known| known.last_transition_time.clone());
    let wanted = Condition {
        type_: verdict.type_.as_str().to_owned(),
        status: verdict.status.as_str().to_owned(),
        reason: verdict.reason.as_str().to_owned(),
        message: cut(&verdict.message).to_owned(),
        observed_generation: Some(generation),
        last_transition_time,
    };
    match known {
        Some(known) if *known == wanted => false,
        Some(known) => {
            *known = wanted;
            true
        }
        None => {
            conditions.push(wanted);
            true
        }
    }
}

fn cut(message: &str) -> &str {
    &message[..message.floor_char_boundary(MAX_MESSAGE_BYTES)]
}

/// A kind that reports conditions.
pub trait Conditioned {
    /// What was last said about the object; empty before the first look.
    fn conditions(&self) -> &[Condition];

    /// The condition of this type.
    fn condition(&self, type_: ConditionType) -> Option<&Condition> {
        self.conditions().iter().find(|condition| condition.type_ == type_.as_str())
    }
}

macro_rules! conditioned {
    ($($kind:ty),+) => {
        $(impl Conditioned for $kind {
            fn conditions(&self) -> &[Condition] {
                self.status.as_ref().map_or(&[], |status| &status.conditions)
            }
        })+
    };
}

conditioned!(OIDCIssuer, OAuth2Client, Connector, SigningKey, LocalUser);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn ready() -> Verdict {
        Verdict::holds(ConditionType::Ready, Reason::Ready, "in service")
    }

    fn unreachable() -> Verdict {
        Verdict::fails(ConditionType::Ready, Reason::UpstreamUnreachable, "no route to host")
    }

    #[test]
    fn the_same_verdict_again_changes_nothing() {
        let mut conditions = Vec::new();
        assert!(set_condition(&mut conditions, &ready(), 1, 100));
        let before = conditions.clone();
        assert!(!set_condition(&mut conditions, &ready(), 1, 200));
        assert_eq!(conditions, before);
    }

    #[test]
    fn the_transition_time_moves_only_when_the_status_flips() {
        let mut conditions = Vec::new();
        set_condition(&mut conditions, &unreachable(), 1, 100);
        let other =
            Verdict::fails(ConditionType::Ready, Reason::UpstreamUntrusted, "unknown issuer");
        assert!(set_condition(&mut conditions, &other, 2, 200));
        assert_eq!(time::to_seconds(&conditions[0].last_transition_time), 100);
        assert_eq!(conditions[0].reason, "UpstreamUntrusted");
        assert_eq!(conditions[0].observed_generation, Some(2));
        assert!(set_condition(&mut conditions, &ready(), 2, 300));
        assert_eq!(time::to_seconds(&conditions[0].last_transition_time), 300);
        assert_eq!(conditions.len(), 1);
    }

    #[test]
    fn an_overlong_message_is_cut_between_characters() {
        let mut conditions = Vec::new();
        let message = "ä".repeat(MAX_MESSAGE_BYTES);
        let verdict = Verdict::fails(ConditionType::Accepted, Reason::InvalidSpec, message);
        set_condition(&mut conditions, &verdict, 1, 100);
        assert_eq!(conditions[0].message.len(), MAX_MESSAGE_BYTES);
    }

    #[test]
    fn every_reason_is_one_word_the_schema_takes() {
        let words: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
        for word in words {
            assert!(word.len() <= 64 && word.starts_with(|c: char| c.is_ascii_uppercase()));
            assert!(word.chars().all(|c| c.is_ascii_alphanumeric()), "{word}");
        }
    }
}
