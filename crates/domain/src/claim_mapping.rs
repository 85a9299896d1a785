//! What an upstream's answer says of a user, in an administrator's own words.
//!
//! What always holds: a mapping reads the answer and what the connector made of it, and says again only what it names; who the user is (`userID`) is the connector's to say; an address that a mapping
//! gives is verified only where the mapping says that too; an expression that fails says nothing, so nobody comes in by it, and nobody is put out.

use std::sync::Arc;

use serde_json::{Map, Value};
use thiserror::Error;

use crate::claim;
use crate::identity::Identity;
use crate::policy::{Answer, Expression, RunError, Scope};

/// How a connector's answers are read.
#[derive(Debug, Clone, Default)]
pub struct ClaimMapping(Arc<Rules>);

/// The expressions of a mapping. Those that are not there leave a field as the connector reads it.
#[derive(Debug, Default)]
pub struct Rules {
    /// Whom not to let in; asked first, in their order.
    pub deny: Vec<Denial>,
    /// `preferred_username`: text, or null.
    pub username: Option<Expression>,
    /// `name`: text, or null.
    pub name: Option<Expression>,
    /// `email`: text, or null.
    pub email: Option<Expression>,
    /// `email_verified`: true or false.
    pub email_verified: Option<Expression>,
    /// `groups`: a list of texts.
    pub groups: Option<Expression>,
    /// Further claims by name: what a claim may be, or null.
    pub claims: Vec<(String, Expression)>,
}

/// Whom not to let in.
#[derive(Debug)]
pub struct Denial {
    /// True for them.
    pub expression: Expression,
    /// What they are told.
    pub message: String,
}

/// Why a mapping gave no user.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MappingError {
    /// A verdict about the user, in the administrator's words.
    #[error("{0}")]
    Denied(String),
    /// An expression that failed: no verdict.
    #[error("claimMapping.{place} could not be evaluated: {error}")]
    Failed {
        /// Where it stands.
        place: String,
        /// Why; holds no values.
        error: RunError,
    },
}

impl From<Rules> for ClaimMapping {
    fn from(rules: Rules) -> Self {
        Self(Arc::new(rules))
    }
}

/// Whether a mapping may give this claim: none that has a field or a rule of its own.
pub fn may_give(claim: &str) -> bool {
    const OF_FIELDS: [&str; 6] =
        ["email", "email_verified", "groups", "name", "preferred_username", "federated_claims"];
    !OF_FIELDS.contains(&claim)
        && (!claim::is_reserved(claim) || claim::scope_of(claim).is_some_and(|s| s != "openid"))
}

impl ClaimMapping {
    /// Whether it may say nothing about a user.
    pub fn may_fail(&self) -> bool {
        !self.0.is_empty()
    }

    /// The user as this mapping reads the answer.
    ///
    /// # Errors
    /// [`MappingError`].
    pub fn apply(
        &self,
        identity: Identity,
        raw: &Map<String, Value>,
    ) -> Result<Identity, MappingError> {
        let rules = &*self.0;
        if !self.may_fail() {
            return Ok(identity);
        }
        let scope = Answer { identity: &identity, raw }.scope();
        let scope = scope.map_err(|error| failed("upstream", error))?;
        for (at, denial) in rules.deny.iter().enumerate() {
            let place = || format!("deny[{at}]");
            if denial.expression.holds_in(&scope).map_err(|error| failed(place(), error))? {
                return Err(MappingError::Denied(denial.message.clone()));
            }
        }
        rules.read(identity, &scope)
    }
}

impl Rules {
    fn is_empty(&self) -> bool {
        let Self { deny, username, name, email, email_verified, groups, claims } = self;
        let fields = [username, name, email, email_verified, groups];
        deny.is_empty() && claims.is_empty() && fields.iter().all(|field| field.is_none())
    }

    fn read(&self, mut user: Identity, scope: &Scope) -> Result<Identity, MappingError> {
        let texts = [
            ("username", &self.username, &mut user.preferred_username),
            ("name", &self.name, &mut user.name),
            ("email", &self.email, &mut user.email),
        ];
        for (place, expression, field) in texts {
            if let Some(expression) = expression {
                *field = text(expression, scope).map_err(|error| failed(place, error))?;
            }
        }
        if self.email.is_some() {
            user.email_verified = false; // the upstream spoke of another
        }
        if let Some(expression) = &self.email_verified {
            let verified = expression.holds_in(scope);
            user.email_verified = verified.map_err(|error| failed("emailVerified", error))?;
        }
        user.email_verified &= user.email.is_some();
        if let Some(expression) = &self.groups {
            let mut groups = expression.texts_in(scope).map_err(|error| failed("groups", error))?;
            let mut seen = std::collections::BTreeSet::new();
            groups.retain(|group| !group.is_empty() && seen.insert(group.clone()));
            user.groups = groups;
        }
        for (name, expression) in &self.claims {
            let value = expression.value_in(scope);
            match value.map_err(|error| failed(format!("claims: {name}"), error))? {
                Some(value) => user.extra.insert(name.clone(), value),
                None => user.extra.remove(name),
            };
        }
        Ok(user)
    }
}

/// Text that is not empty; null and empty text are none.
fn text(expression: &Expression, scope: &Scope) -> Result<Option<String>, RunError> {
    match expression.value_in(scope)? {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        Some(_) => Err(RunError::WrongType("something else than a string")),
    }
}

fn failed(place: impl Into<String>, error: RunError) -> MappingError {
    MappingError::Failed { place: place.into(), error }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn expression(text: &str) -> Expression {
        Expression::compile(text, &Answer::VARIABLES).unwrap()
    }

    fn ada() -> Identity {
        Identity {
            user_id: "7".into(),
            email: Some("ada@old.example".into()),
            email_verified: true,
            name: Some("Ada".into()),
            preferred_username: None,
            groups: vec!["staff".into()],
            extra: BTreeMap::from([("locale".into(), json!("de"))]),
        }
    }

    fn answer() -> Map<String, Value> {
        let answer = json!({
            "upn": "ada@corp.example", "department": "engines", "contractor": false,
            "roles": [{"name": "ops"}, {"name": "dev"}, {"name": "ops"}, {"name": ""}],
        });
        answer.as_object().unwrap().clone()
    }

    fn read(rules: Rules) -> Result<Identity, MappingError> {
        ClaimMapping::from(rules).apply(ada(), &answer())
    }

    #[test]
    fn what_a_mapping_does_not_name_stays_as_the_connector_reads_it() {
        assert_eq!(read(Rules::default()), Ok(ada()));
        let mapped = read(Rules {
            username: Some(expression("upstream.upn.split('@')[0]")),
            groups: Some(expression("user.groups + upstream.roles.map(r, r.name)")),
            claims: vec![
                ("department".into(), expression("upstream.department")),
                ("locale".into(), expression("null")),
            ],
            ..Rules::default()
        });
        let expected = Identity {
            preferred_username: Some("ada".into()),
            groups: vec!["staff".into(), "ops".into(), "dev".into()],
            extra: BTreeMap::from([("department".into(), json!("engines"))]),
            ..ada()
        };
        assert_eq!(mapped, Ok(expected));
    }

    #[test]
    fn an_address_that_a_mapping_gives_is_verified_where_it_says_so_too() {
        let email = || Some(expression("upstream.upn"));
        let mapped = read(Rules { email: email(), ..Rules::default() }).unwrap();
        assert_eq!(mapped.email.as_deref(), Some("ada@corp.example"));
        assert!(!mapped.email_verified);
        let email_verified = || Some(expression("!upstream.contractor"));
        let mapped =
            read(Rules { email: email(), email_verified: email_verified(), ..Rules::default() });
        assert!(mapped.unwrap().email_verified);
        let mapped = read(Rules {
            email: Some(expression("''")),
            email_verified: Some(expression("true")),
            ..Rules::default()
        });
        let mapped = mapped.unwrap();
        assert_eq!((mapped.email, mapped.email_verified), (None, false));
    }

    #[test]
    fn whom_a_mapping_denies_is_told_so_and_one_that_fails_says_nothing() {
        let denial = |text| Denial { expression: expression(text), message: "not you".into() };
        let denied = |text| read(Rules { deny: vec![denial(text)], ..Rules::default() });
        assert_eq!(
            denied("upstream.department == 'engines'"),
            Err(MappingError::Denied("not you".into()))
        );
        assert_eq!(denied("upstream.contractor"), Ok(ada()));
        let failed = |place: &str, error| Err(MappingError::Failed { place: place.into(), error });
        let missing = || RunError::NoSuchKey("suspended".into());
        assert_eq!(denied("upstream.suspended"), failed("deny[0]", missing()));
        assert_eq!(denied("!upstream.suspended"), failed("deny[0]", missing()));
        assert_eq!(denied("has(upstream.suspended)"), Ok(ada()));
        let groups = Some(expression("upstream.roles"));
        let wrong = RunError::WrongType("a list of other things than strings");
        assert_eq!(read(Rules { groups, ..Rules::default() }), failed("groups", wrong));
        let name = Some(expression("size(upstream.roles)"));
        let wrong = RunError::WrongType("something else than a string");
        assert_eq!(read(Rules { name, ..Rules::default() }), failed("name", wrong));
    }

    #[test]
    fn an_answer_larger_than_is_looked_at_lets_nobody_in() {
        let raw = json!({"roles": vec![0; 5_000]});
        let rules = Rules { name: Some(expression("'x'")), ..Rules::default() };
        let said = ClaimMapping::from(rules).apply(ada(), raw.as_object().unwrap());
        let error = RunError::TooLarge;
        assert_eq!(said, Err(MappingError::Failed { place: "upstream".into(), error }));
    }

    #[test]
    fn claims_that_have_a_field_or_a_meaning_of_their_own_are_not_a_mappings_to_give() {
        for claim in ["sub", "iss", "groups", "email_verified", "federated_claims", "clv", "aud"] {
            assert!(!may_give(claim), "{claim}");
        }
        for claim in ["department", "locale", "phone_number", "https://example.com/tier"] {
            assert!(may_give(claim), "{claim}");
        }
    }
}
