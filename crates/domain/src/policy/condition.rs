//! The condition of a client: whether a user may come in, by an expression of its own.

use thiserror::Error;

use super::{CompileError, Expression, Facts, RunError};

/// A condition that every user of a client must meet.
#[derive(Debug)]
pub struct Condition {
    expression: Expression,
    message: Option<String>,
}

/// Why a condition keeps a user out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConditionError {
    /// It says no.
    #[error("{0}")]
    NotMet(String),
    /// It says nothing: nobody knows, so nobody comes in.
    #[error("the client's condition could not be evaluated: {0}")]
    Failed(#[from] RunError),
}

/// What a user is told where the condition has no words of its own.
const NOT_MET: &str = "user does not meet the client's condition";

impl Condition {
    /// Reads a condition.
    ///
    /// # Errors
    /// [`CompileError`].
    pub fn compile(expression: &str, message: Option<&str>) -> Result<Self, CompileError> {
        let expression = Expression::compile(expression, &Facts::OF_CONDITIONS)?;
        Ok(Self { expression, message: message.map(str::to_owned) })
    }

    /// Whether it can be tried on so many examples in one go.
    ///
    /// # Errors
    /// [`CompileError::TooManyExamples`].
    pub fn affords(&self, examples: usize) -> Result<(), CompileError> {
        self.expression.affords(examples)
    }

    /// Whether it lets this user in.
    ///
    /// # Errors
    /// [`ConditionError`].
    pub fn check(&self, facts: &Facts<'_>) -> Result<(), ConditionError> {
        if self.expression.holds(facts)? {
            return Ok(());
        }
        Err(ConditionError::NotMet(self.message.clone().unwrap_or_else(|| NOT_MET.to_owned())))
    }
}
