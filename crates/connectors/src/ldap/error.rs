//! Why a directory gave no answer, in words that name the fix, and what may be tried next.

use std::fmt;

use claviger_api::Reason;
use thiserror::Error;

/// A step of a conversation, for errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// TCP, TLS, `StartTLS`.
    Connect,
    /// Bind as the service account.
    ServiceBind,
    /// Bind as the user.
    UserBind,
    /// Any search.
    Search,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "the connection attempt",
            Self::ServiceBind => "the service account's bind",
            Self::UserBind => "the user's bind",
            Self::Search => "a search",
        })
    }
}

/// Why a directory gave no answer. None of these is a verdict about a user.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// No TCP connection, or no LDAP on it.
    #[error("failed to connect to {url}: {cause}")]
    Connect {
        /// The server.
        url: String,
        /// The wire error.
        cause: String,
    },
    /// The handshake failed.
    #[error("TLS with {url} failed: {cause}")]
    Tls {
        /// The server.
        url: String,
        /// The wire error and its fix.
        cause: String,
    },
    /// Silence.
    #[error(
        "{url} did not answer {step} in time: is it reachable, and are the Connector's timeouts long enough?"
    )]
    Timeout {
        /// The server.
        url: String,
        /// What it did not answer.
        step: Step,
    },
    /// The connection ended or said something that is not LDAP.
    #[error("{url} ended the connection during {step}: {cause}")]
    Lost {
        /// The server.
        url: String,
        /// When.
        step: Step,
        /// The wire error.
        cause: String,
    },
    /// The service account's bind was refused.
    #[error("{url} refused the service account {dn:?}: {result}: {fix}")]
    ServiceBind {
        /// The server.
        url: String,
        /// The service account, empty for anonymous.
        dn: String,
        /// LDAP result code, RFC 4511 appendix A.
        code: u32,
        /// Result in words.
        result: String,
        /// What to do.
        fix: &'static str,
    },
    /// A search was refused.
    #[error("{url} refused the search below {base:?}: {result}: {fix}")]
    Search {
        /// The server.
        url: String,
        /// The search base.
        base: String,
        /// LDAP result code, RFC 4511 appendix A.
        code: u32,
        /// Result in words.
        result: String,
        /// What to do.
        fix: &'static str,
    },
    /// Several servers, and none of them answered.
    #[error("no server of the directory answers: {causes}")]
    Everywhere {
        /// What each said, in order.
        causes: String,
        /// What the first one's failure is called.
        reason: Reason,
    },
    /// Every connection was in use until the deadline.
    #[error("no LDAP connection became free in time: the directory is slower than the logins come")]
    Busy,
}

/// Result codes we decide by (RFC 4511 appendix A.1).
pub mod code {
    pub const SUCCESS: u32 = 0;
    pub const OPERATIONS_ERROR: u32 = 1;
    pub const TIME_LIMIT_EXCEEDED: u32 = 3;
    pub const SIZE_LIMIT_EXCEEDED: u32 = 4;
    pub const STRONGER_AUTH_REQUIRED: u32 = 8;
    pub const ADMIN_LIMIT_EXCEEDED: u32 = 11;
    pub const CONFIDENTIALITY_REQUIRED: u32 = 13;
    pub const CONSTRAINT_VIOLATION: u32 = 19;
    pub const NO_SUCH_OBJECT: u32 = 32;
    pub const INVALID_DN_SYNTAX: u32 = 34;
    pub const INAPPROPRIATE_AUTHENTICATION: u32 = 48;
    pub const INVALID_CREDENTIALS: u32 = 49;
    pub const INSUFFICIENT_ACCESS_RIGHTS: u32 = 50;
    pub const BUSY: u32 = 51;
    pub const UNAVAILABLE: u32 = 52;
    pub const UNWILLING_TO_PERFORM: u32 = 53;
}

impl Error {
    /// Whether another server, or a new connection, might do better.
    pub fn is_of_this_connection(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::Tls { .. }
            | Self::Timeout { .. }
            | Self::Lost { .. }
            | Self::Everywhere { .. } => true,
            Self::ServiceBind { code, .. } | Self::Search { code, .. } => is_server_trouble(*code),
            Self::Busy => false,
        }
    }

    /// The word for conditions, metrics and logs.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Connect { .. } | Self::Timeout { .. } | Self::Lost { .. } | Self::Busy => {
                Reason::UpstreamUnreachable
            }
            Self::Tls { .. } => Reason::UpstreamUntrusted,
            Self::ServiceBind { .. } => Reason::UpstreamRefusedCredentials,
            Self::Search { .. } => Reason::UpstreamUnusable,
            Self::Everywhere { reason, .. } => *reason,
        }
    }

    /// The base of a search does not exist, or the service account may not see it.
    pub fn is_no_such_object(&self) -> bool {
        matches!(self, Self::Search { code: code::NO_SUCH_OBJECT, .. })
    }
}

/// Codes by which a server says that it cannot now, whoever asks.
pub fn is_server_trouble(code: u32) -> bool {
    matches!(code, code::OPERATIONS_ERROR | code::BUSY | code::UNAVAILABLE)
}

/// What to do about a refused bind of the service account.
pub fn service_bind_fix(code: u32) -> &'static str {
    match code {
        code::INVALID_CREDENTIALS | code::INVALID_DN_SYNTAX => {
            "check the account in bind and its password in the Secret"
        }
        code::STRONGER_AUTH_REQUIRED | code::CONFIDENTIALITY_REQUIRED => {
            "the server wants TLS: use ldaps:// or StartTLS"
        }
        code::INAPPROPRIATE_AUTHENTICATION | code::UNWILLING_TO_PERFORM => {
            "the server does not allow this kind of bind; name a service account with a password"
        }
        _ => "see the server's log",
    }
}

/// What to do about a refused search.
pub fn search_fix(code: u32) -> &'static str {
    match code {
        code::NO_SUCH_OBJECT => "check baseDN, and that the service account may read it",
        code::INSUFFICIENT_ACCESS_RIGHTS | code::OPERATIONS_ERROR => {
            "the service account may not search there; name one that may"
        }
        code::SIZE_LIMIT_EXCEEDED | code::TIME_LIMIT_EXCEEDED | code::ADMIN_LIMIT_EXCEEDED => {
            "narrow the filter, or raise the server's limits for the service account"
        }
        code::STRONGER_AUTH_REQUIRED | code::CONFIDENTIALITY_REQUIRED => {
            "the server wants TLS: use ldaps:// or StartTLS"
        }
        code::INVALID_DN_SYNTAX => "baseDN is not a distinguished name",
        _ => "see the server's log",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_another_server_might_not_have_are_known() {
        let (url, cause) = (String::new(), String::new());
        assert!(Error::Connect { url: url.clone(), cause }.is_of_this_connection());
        let bind = |code| Error::ServiceBind {
            url: url.clone(),
            dn: String::new(),
            code,
            result: String::new(),
            fix: "",
        };
        assert!(bind(52).is_of_this_connection());
        assert!(
            !bind(49).is_of_this_connection(),
            "the same password elsewhere would lock the account"
        );
    }
}
