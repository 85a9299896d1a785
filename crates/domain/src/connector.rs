//! The two things an upstream can do: sign a user in, and say later whether that still holds.
//!
//! A connector reports what the upstream said; what is let through (allowed groups, mail domains,
//! prefix) is decided here by [`IdentityPolicy`], for every connector alike, at login and at refresh.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use regex::RegexSet;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::claim_mapping::{ClaimMapping, MappingError};
use crate::compact;
use crate::identity::Identity;
use crate::no_verdict::NoVerdict;
use crate::proxy::ProxyLogin;
use crate::trip::RedirectLogin;

/// One upstream that is in service at an issuer.
#[derive(Debug, Clone)]
pub struct Connector {
    /// `metadata.uid` of the Connector; sessions pin it.
    pub uid: String,
    /// `metadata.name`: the connector ID in `sub`, in paths and in `federated_claims`.
    pub name: String,
    /// What users see.
    pub display_name: String,
    /// The authentication context class its users reach (`acr`), as its administrator says.
    pub acr: Option<String>,
    /// What of the upstream's answer is let through.
    pub policy: IdentityPolicy,
    /// How a user signs in.
    pub login: Login,
    /// Whether and how the upstream is asked again at refresh.
    pub refresh: Refresh,
    /// How a user signs out there, if the upstream has such a thing.
    pub sign_out: Option<Arc<dyn SignOut>>,
}

/// Signs a user's browser out at an upstream, after they signed out here.
#[async_trait]
pub trait SignOut: Send + Sync + fmt::Debug {
    /// Where the browser goes for that; `None` where its user cannot sign out there.
    async fn location(&self, leaving: &Leaving<'_>) -> Option<String>;
}

/// A browser on its way to sign out at an upstream.
#[derive(Debug, Clone)]
pub struct Leaving<'l> {
    /// Where it comes back to, an address of ours, where the upstream can be told.
    pub return_to: &'l str,
    /// Where the upstream answers sign-ins: what we may be known by there.
    pub callback: String,
    /// What the connector gave at sign-in for this ([`Arrival`](crate::trip::Arrival)), where the browser has a session or a
    /// ticket.
    pub data: Option<&'l ConnectorData>,
    /// Unpredictable: 128 bits as 22 base64url characters.
    pub id: String,
    /// Seconds since the Unix epoch.
    pub now: i64,
}

/// How a user signs in at a connector.
#[derive(Debug, Clone)]
pub enum Login {
    /// Our own form asks for name and password.
    Password(Arc<dyn PasswordLogin>),
    /// A trusted proxy has authenticated the user, and says so at the listener made for it.
    Proxy(Arc<dyn ProxyLogin>),
    /// The upstream's own pages: the browser is sent there and comes back.
    Redirect(Arc<dyn RedirectLogin>),
}

/// Whether an upstream can vouch for a user again after login.
#[derive(Debug, Clone)]
pub enum Refresh {
    /// It cannot: no refresh token is given.
    Unsupported,
    /// It cannot, but the administrator lets sessions go on without its word.
    Offline {
        /// Seconds after sign-in.
        seconds: i64,
    },
    /// Answered from memory; asked at every refresh.
    Memory(Arc<dyn Recheck>),
    /// Asked over the network, no more often than `interval_seconds`.
    Upstream {
        /// The upstream.
        recheck: Arc<dyn Recheck>,
        /// Least seconds between two questions about one session; 0 asks at every refresh.
        interval_seconds: i64,
    },
}

impl Refresh {
    /// Whether anybody is asked about a user while they are away.
    pub fn asks(&self) -> bool {
        matches!(self, Self::Memory(_) | Self::Upstream { .. })
    }

    /// Whether a question about a user of whom the connector kept this uses it up.
    pub fn consumes(&self, data: Option<&ConnectorData>) -> bool {
        match self {
            Self::Unsupported | Self::Offline { .. } => false,
            Self::Memory(recheck) | Self::Upstream { recheck, .. } => recheck.consumes(data),
        }
    }

    /// Whether somebody vouches, or need not, for a user of whom the connector kept this.
    pub fn is_possible(&self, data: Option<&ConnectorData>) -> bool {
        match self {
            Self::Unsupported => false,
            Self::Offline { .. } => true,
            Self::Memory(recheck) | Self::Upstream { recheck, .. } => recheck.can_ask(data),
        }
    }
}

/// What a connector wants back at the next re-check. Opaque; kept sealed in the session only.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectorData(#[serde(with = "compact::data")] pub Vec<u8>);

impl fmt::Debug for ConnectorData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectorData({} bytes)", self.0.len())
    }
}

/// An upstream's answer about one user.
#[derive(Debug, Clone)]
pub struct Authenticated {
    /// The user, as the connector reads the answer.
    pub identity: Identity,
    /// The answer itself, for a claim mapping: claims, a user object, attributes with lists of texts.
    pub raw: Map<String, Value>,
    /// What to hand back at the next re-check.
    pub data: Option<ConnectorData>,
}

/// Signs users in by name and password.
#[async_trait]
pub trait PasswordLogin: Send + Sync + fmt::Debug {
    /// Label of the user-name field, such as `Email address`.
    fn username_label(&self) -> &str;

    /// Checks one attempt. Takes the same time whether the user exists or not, as far as the
    /// upstream allows. An empty password is refused before the upstream sees it.
    ///
    /// # Errors
    /// [`LoginError`] says whether the user, or the upstream, is at fault.
    async fn authenticate(
        &self,
        username: &str,
        password: &SecretString,
    ) -> Result<Authenticated, LoginError>;
}

/// Says later whether a user is still there, and who they are now.
#[async_trait]
pub trait Recheck: Send + Sync + fmt::Debug {
    /// Whether every question gets a verdict at once. A refresh then rotates first and asks
    /// afterwards, which saves a request; otherwise nothing is rotated before the answer is known.
    fn is_certain(&self) -> bool {
        false
    }

    /// Whether a question uses up what is asked with, as a refresh token that the upstream rotates: two must not ask
    /// about one session at once, and what is asked with stands in one session alone. It depends on what was kept: some
    /// upstreams give either kind.
    fn consumes(&self, _data: Option<&ConnectorData>) -> bool {
        false
    }

    /// Whether it can be asked at all about a user of whom it kept this.
    fn can_ask(&self, _data: Option<&ConnectorData>) -> bool {
        true
    }

    /// Looks the user up again.
    ///
    /// # Errors
    /// Only [`RecheckError::Gone`] is a verdict about the user; everything else is
    /// [`RecheckError::Unavailable`] and must not cost them their session.
    async fn recheck(
        &self,
        known: &Identity,
        data: Option<&ConnectorData>,
    ) -> Result<Authenticated, RecheckError>;
}

/// Why a sign-in at an upstream failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LoginError {
    /// Unknown user, wrong password, locked or disabled account: users are told one and the same.
    #[error("invalid credentials: {0}")]
    InvalidCredentials(String),
    /// The upstream could not be asked, or wants to be asked later.
    #[error("upstream unavailable: {0}")]
    Unavailable(NoVerdict),
    /// The upstream answered something the connector cannot use, such as an entry without the
    /// identifying attribute. The text names the fix for the administrator.
    #[error("unusable answer from the upstream: {0}")]
    Unusable(String),
    /// The upstream, or the user there, said no. The application is told so, in these words.
    #[error("{0}")]
    Refused(String),
    /// What the browser brought back is not what the upstream says to us: forged, of another sign-in, or too late.
    #[error("{message}")]
    Unverified {
        /// One word for audit and metrics, such as `WrongNonce`.
        reason: &'static str,
        /// For logs; holds no secret.
        message: String,
    },
}

/// Why a re-check gave no identity.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RecheckError {
    /// A verdict about this user: gone, disabled, renamed into somebody else.
    #[error("user no longer valid: {0}")]
    Gone(String),
    /// No verdict: outage, rate limit, wrong service password, unusable answer.
    #[error("upstream unavailable: {0}")]
    Unavailable(NoVerdict),
    /// No verdict either, though what was asked with is used up.
    #[error("upstream unavailable: {why}")]
    Interrupted {
        /// For logs.
        why: NoVerdict,
        /// What to ask with next.
        data: ConnectorData,
    },
}

/// What of an upstream's answer is let through.
#[derive(Debug, Clone, Default)]
pub struct IdentityPolicy {
    /// How the upstream's answer is read; the rest looks at what comes out.
    pub mapping: ClaimMapping,
    /// Groups of which the user must be in at least one, after the filter and before the prefix is added.
    /// Empty admits everybody.
    pub allowed_groups: BTreeSet<String>,
    /// Whether groups outside `allowed_groups` are dropped: for upstreams whose word nobody checks.
    pub only_allowed_groups: bool,
    /// Which groups are let through.
    pub groups: GroupFilter,
    /// Put before every group name.
    pub group_prefix: String,
    /// Mail domains admitted, lower case. Empty admits every domain.
    pub email_domains: BTreeSet<String>,
}

/// Which groups of a user are let through, by patterns over their whole names.
#[derive(Debug, Clone, Default)]
pub struct GroupFilter {
    include: Option<RegexSet>,
    exclude: Option<RegexSet>,
}

/// Most memory the patterns of one list take when compiled, in bytes.
const MAX_PATTERNS: usize = 256 * 1_024;

impl GroupFilter {
    /// Lets through what matches one of `include` (all, if it lists none) and none of `exclude`.
    ///
    /// # Errors
    /// Which list holds what is no regular expression, or is too large, and why.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, String> {
        let compiled = |list: &str, patterns: &[String]| {
            if patterns.is_empty() {
                return Ok(None);
            }
            // Alone first: what closes a bracket it did not open must not reach out of its frame.
            for pattern in patterns {
                regex::Regex::new(pattern).map_err(|error| format!("{list}: {error}"))?;
            }
            let whole = patterns.iter().map(|pattern| format!("^(?:{pattern})$"));
            let set = regex::RegexSetBuilder::new(whole).size_limit(MAX_PATTERNS).build();
            set.map(Some).map_err(|error| format!("{list}: {error}"))
        };
        let (include, exclude) =
            (compiled("includeGroups", include)?, compiled("excludeGroups", exclude)?);
        Ok(Self { include, exclude })
    }

    /// Whether a group of this name, without prefix, is let through.
    pub fn lets_through(&self, group: &str) -> bool {
        self.include.as_ref().is_none_or(|set| set.is_match(group))
            && !self.exclude.as_ref().is_some_and(|set| set.is_match(group))
    }
}

/// Why policy refused a user the upstream had accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// Not in any of the connector's `allowedGroups`.
    #[error("user is in none of the connector's allowedGroups")]
    NotInAllowedGroups,
    /// No mail address in one of the connector's `emailDomains`.
    #[error("user's mail address is not verified in one of the connector's emailDomains")]
    EmailDomainNotAllowed,
    /// The upstream reported a user without an identifier.
    #[error("upstream reported a user without an identifier")]
    NoUserID,
    /// The claim mapping denies them, in its own words, or says nothing.
    #[error(transparent)]
    Mapping(#[from] MappingError),
}

impl PolicyError {
    /// Whether it is a verdict about the user. What is none must not cost them their session.
    pub fn is_verdict(&self) -> bool {
        !matches!(self, Self::Mapping(MappingError::Failed { .. }))
    }

    /// One word for audit.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Mapping(MappingError::Denied(_)) => "ClaimMapping",
            Self::Mapping(MappingError::Failed { .. }) => "ClaimMappingFailed",
            _ => "ConnectorPolicy",
        }
    }
}

impl IdentityPolicy {
    /// Reads an upstream's answer, and lets the user through, with the group prefix applied, or says why not.
    ///
    /// # Errors
    /// [`PolicyError`], at login and at refresh alike.
    pub fn admit(&self, authenticated: Authenticated) -> Result<Identity, PolicyError> {
        let Authenticated { identity, raw, .. } = authenticated;
        self.admit_mapped(self.mapping.apply(identity, &raw)?)
    }

    /// Lets through a user whom the mapping has read before: there is no new answer.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn admit_mapped(&self, mut identity: Identity) -> Result<Identity, PolicyError> {
        if identity.user_id.is_empty() {
            return Err(PolicyError::NoUserID);
        }
        if !self.email_domains.is_empty() && !self.email_admitted(&identity) {
            return Err(PolicyError::EmailDomainNotAllowed);
        }
        identity.groups.retain(|group| self.groups.lets_through(group));
        let must_be_in_one = !self.allowed_groups.is_empty() || self.only_allowed_groups;
        if must_be_in_one && !identity.groups.iter().any(|g| self.allowed_groups.contains(g)) {
            return Err(PolicyError::NotInAllowedGroups);
        }
        if self.only_allowed_groups {
            identity.groups.retain(|group| self.allowed_groups.contains(group));
        }
        if !self.group_prefix.is_empty() {
            for group in &mut identity.groups {
                group.insert_str(0, &self.group_prefix);
            }
        }
        Ok(identity)
    }

    fn email_admitted(&self, identity: &Identity) -> bool {
        identity.email_verified
            && identity
                .email
                .as_deref()
                .and_then(|email| email.rsplit_once('@'))
                .is_some_and(|(_, domain)| self.email_domains.contains(&domain.to_lowercase()))
    }
}
