//! Whether a client may have a user, by all it says of users themselves: its groups and its condition.
//!
//! Asked wherever a user arrives at a client: at sign-in and single sign-on (`admission`), when a
//! code is redeemed, at refresh, at token exchange and at introspection. Which connectors and classes of
//! authentication it takes is told before the user is known ([`Client::admits`]). Workloads are told apart
//! ([`admits_workload`]).

use claviger_protocol::scope::ScopeSet;
use thiserror::Error;

use crate::client::Client;
use crate::connector::Connector;
use crate::identity::Identity;
use crate::issue;
use crate::issuer::Issuer;
use crate::policy::{ConditionError, Facts, RunError};
use crate::token::TokenError;

/// A user at a client's door.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// The user, after the connector's policy.
    pub identity: &'a Identity,
    /// The connector they signed in with.
    pub connector: &'a Connector,
    /// The class of that sign-in.
    pub acr: Option<&'a str>,
    /// The scopes the client gets.
    pub scopes: &'a ScopeSet,
}

/// Why a client does not get a user.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotAdmitted {
    /// In none of its groups.
    #[error("user is in none of the client's allowedGroups")]
    Groups,
    /// Its condition says no, in these words.
    #[error("{0}")]
    Condition(String),
    /// Its condition says nothing. That is no verdict about the user: nobody's session ends by it.
    #[error("the client's condition could not be evaluated")]
    Unknown(RunError),
}

/// Whether the client may have the user.
///
/// # Errors
/// [`NotAdmitted`].
pub fn admit(issuer: &Issuer, client: &Client, arrival: Arrival<'_>) -> Result<(), NotAdmitted> {
    let Arrival { identity, connector, acr, scopes } = arrival;
    if !allows_groups(client, &identity.groups) {
        return Err(NotAdmitted::Groups);
    }
    let Some(condition) = &client.condition else { return Ok(()) };
    let scopes: Vec<_> = scopes.iter().map(claviger_protocol::scope::Scope::as_str).collect();
    let subject = issue::subject(issuer, connector, identity);
    let facts = Facts {
        subject: &subject,
        identity,
        connector: &connector.name,
        client_id: &client.id,
        scopes: &scopes,
        acr: acr.unwrap_or_default(),
    };
    condition.check(&facts).map_err(|error| match error {
        ConditionError::NotMet(message) => NotAdmitted::Condition(message),
        ConditionError::Failed(why) => {
            tracing::warn!(client = client.id, error = %why, "a client's condition could not be evaluated: its user is refused");
            NotAdmitted::Unknown(why)
        }
    })
}

fn allows_groups(client: &Client, groups: &[String]) -> bool {
    let allowed = &client.allowed_groups;
    allowed.is_empty() || groups.iter().any(|group| allowed.contains(group))
}

/// Whether a client takes a workload in these groups. That is a user of no connector and of no class of
/// authentication, and a condition is about users: what it would say of a workload nobody meant. At the client that
/// brings it itself the connectors do not matter, for that says whom it trusts.
pub fn admits_workload(client: &Client, groups: &[String], own: bool) -> bool {
    (own || client.allowed_connectors.is_none())
        && client.required_acr.is_empty()
        && client.condition.is_none()
        && allows_groups(client, groups)
}

impl From<NotAdmitted> for TokenError {
    fn from(refusal: NotAdmitted) -> Self {
        match refusal {
            NotAdmitted::Groups | NotAdmitted::Condition(_) => {
                Self::invalid_grant(refusal.to_string())
            }
            NotAdmitted::Unknown(_) => Self::unavailable(refusal.to_string()),
        }
    }
}
