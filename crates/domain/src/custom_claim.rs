//! Claims that an issuer computes of its users, in CEL, and the scopes that reveal them.
//!
//! What always holds: a custom claim has no name that anybody else gives a meaning ([`is_reserved`](crate::claim::is_reserved));
//! one that fails gives no token, since whoever reads tokens may let in whom no claim keeps out.

use std::sync::Arc;

use serde_json::Value;

use crate::client::Client;
use crate::issue::Subject;
use crate::policy::{Expression, Facts, RunError};

/// A claim that an issuer computes.
#[derive(Debug, Clone)]
pub struct CustomClaim {
    /// Its name.
    pub name: String,
    /// The scope that reveals it: one of ours or one of the issuer's own.
    pub scope: String,
    /// What it comes to; null is a claim that is not there.
    pub expression: Arc<Expression>,
}

/// Everything an issuer adds to what all issuers know.
#[derive(Debug, Clone, Default)]
pub struct CustomClaims(Vec<CustomClaim>);

impl CustomClaims {
    /// These claims.
    pub fn new(claims: Vec<CustomClaim>) -> Self {
        Self(claims)
    }

    /// The scope that reveals a claim, where it is one of these.
    pub fn scope_of(&self, claim: &str) -> Option<&str> {
        self.0.iter().find(|known| known.name == claim).map(|known| known.scope.as_str())
    }

    /// Whether a scope reveals one of these.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.0.iter().any(|known| known.scope == scope)
    }

    /// Whether tokens of a client may have one of these.
    pub fn concern(&self, client: &Client) -> bool {
        self.0.iter().any(|claim| client.scopes.contains(&claim.scope))
    }

    /// Names and scopes.
    pub fn names(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        self.0.iter().map(|claim| (claim.name.as_str(), claim.scope.as_str()))
    }

    /// The values of those that are shown, for a user whose `sub` is known.
    ///
    /// # Errors
    /// The name of the claim that failed, and why.
    pub fn values(
        &self,
        about: Subject<'_>,
        subject: &str,
        shows: impl Fn(&str) -> bool,
    ) -> Result<Vec<(String, Value)>, (String, RunError)> {
        let scopes: Vec<_> =
            about.scopes.iter().map(claviger_protocol::scope::Scope::as_str).collect();
        let facts = Facts {
            subject,
            identity: about.identity,
            connector: &about.connector.name,
            client_id: &about.client.id,
            scopes: &scopes,
            acr: "",
        };
        let mut values = Vec::new();
        for claim in self.0.iter().filter(|claim| shows(&claim.name)) {
            let value =
                claim.expression.claim(&facts).map_err(|error| (claim.name.clone(), error))?;
            values.extend(value.map(|value| (claim.name.clone(), value)));
        }
        Ok(values)
    }
}
