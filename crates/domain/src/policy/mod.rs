//! CEL: what an administrator or a tenant writes about users, read once and evaluated at their door.
//!
//! ```text
//! text ─→ syntax (bounds before parsing) ─→ cel's parser (a stack of its own) ─→ check (names, cost) ─→ Expression
//!                          Facts (one user at a door), Answer (an upstream's) ─→ evaluate ─→ bool · claim · error
//! ```
//! What always holds:
//! - an [`Expression`] that exists has a known end: its cost, for the largest user that [`Facts`] or [`Answer`] takes, is
//!   below a fixed bound, and its regular expressions are compiled;
//! - a name that nobody knows is refused when it is read, not when somebody signs in;
//! - whatever goes wrong is an error, a panic of the library included, and an error lets nobody in;
//! - errors carry names, never values: they are logged.

mod check;
mod condition;
mod evaluate;
mod facts;
mod parse;
mod pattern;
mod rewrite;
mod syntax;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cel::parser::Expression as Ast;
use regex::Regex;
use serde_json::Value as Json;
use thiserror::Error;

pub use check::{Fields, Variable, Variables};
pub use condition::{Condition, ConditionError};
pub use facts::{Answer, Facts, Scope};

/// Longest expression, in bytes: a screenful. Its schema says the same.
pub const MAX_LENGTH: usize = 2_048;
/// Most values in an upstream's answer of an example.
pub const MAX_EXAMPLE_NODES: usize = 256;
/// An expression that was read, checked and bounded.
#[derive(Debug)]
pub struct Expression {
    ast: Ast,
    patterns: Arc<BTreeMap<String, Regex>>,
    /// What it names itself: the only keys that errors may name.
    names: BTreeSet<String>,
    /// The work of one example.
    example_cost: u64,
}

/// Why a text is no expression. Every message names what to change.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CompileError {
    /// Too long.
    #[error("longer than 2048 bytes: shorten it")]
    TooLong,
    /// Too many operators, or nested too deeply.
    #[error("too many operators, or nested too deeply: simplify it")]
    TooComplex,
    /// What CEL has and is not taken here.
    #[error("{0} cannot be used here")]
    Unsupported(&'static str),
    /// Not CEL.
    #[error("not CEL: {0}")]
    Syntax(String),
    /// A name that means nothing here.
    #[error("unknown variable {name}: there are {known}")]
    UnknownVariable {
        /// The name.
        name: String,
        /// What there is.
        known: String,
    },
    /// A field that no user has.
    #[error("{variable} has no field {field}: it has {known}")]
    UnknownField {
        /// Whose field.
        variable: String,
        /// The field.
        field: String,
        /// What there is.
        known: String,
    },
    /// A function that does not exist, or not with so many arguments.
    #[error("unknown function {0}, or not with these arguments: there are {known}", known = check::FUNCTIONS)]
    UnknownFunction(String),
    /// It would take too long for a user in many groups.
    #[error(
        "too costly for a user in many groups: it goes through lists within lists; simplify it"
    )]
    TooCostly,
    /// Its examples together would take too long.
    #[error("too costly for so many examples: simplify it, or remove some")]
    TooManyExamples,
    /// A regular expression that is none, is too large, or is computed.
    #[error("matches: {0}")]
    Pattern(String),
}

/// Why an expression came to nothing for a user.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RunError {
    /// More groups or longer texts than are looked at.
    #[error(
        "the user has more groups (1024), longer ones (512 bytes), longer texts (1024 bytes) or more in all (64 KiB) than policies look at"
    )]
    TooLarge,
    /// A field that this user does not have.
    #[error("no such key: {0}; ask for it by has() first")]
    NoSuchKey(String),
    /// Operands of the wrong type, an index out of bounds, a division by zero.
    #[error("failed to evaluate: {0}")]
    Failed(&'static str),
    /// Not what was to come out.
    #[error("came out as {0}")]
    WrongType(&'static str),
    /// The library gave up.
    #[error("failed to evaluate: internal error")]
    Panicked,
}

impl Expression {
    /// Reads an expression over these variables.
    ///
    /// # Errors
    /// [`CompileError`].
    pub fn compile(text: &str, variables: &Variables) -> Result<Self, CompileError> {
        syntax::check(text)?;
        let mut ast = parse::parse(text)?;
        let check::Checked { patterns, names, .. } =
            check::check(&ast, variables, &check::LARGEST)?;
        let example_cost = check::check(&ast, variables, &check::EXAMPLE)?.cost;
        let patterns = Arc::new(patterns);
        rewrite::collecting(&mut ast);
        Ok(Self { ast, patterns, names, example_cost })
    }

    /// Whether it can be tried on so many examples in one go: all of them take no longer than one user may.
    ///
    /// # Errors
    /// [`CompileError::TooManyExamples`].
    pub fn affords(&self, examples: usize) -> Result<(), CompileError> {
        let all = self.example_cost.saturating_mul(examples as u64);
        if all > check::MAX_COST { Err(CompileError::TooManyExamples) } else { Ok(()) }
    }

    /// Whether it holds.
    ///
    /// # Errors
    /// [`RunError`]: nobody is let in by it.
    pub fn holds(&self, facts: &Facts<'_>) -> Result<bool, RunError> {
        self.holds_in(&facts.scope()?)
    }

    /// Whether it holds where these variables are.
    ///
    /// # Errors
    /// [`RunError`]: nobody is let in by it.
    pub fn holds_in(&self, scope: &Scope) -> Result<bool, RunError> {
        match evaluate::evaluate(self, scope)? {
            cel::Value::Bool(holds) => Ok(holds),
            other => Err(RunError::WrongType(evaluate::type_name(&other))),
        }
    }

    /// What it comes to, as the value of a claim; `None` for null.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn claim(&self, facts: &Facts<'_>) -> Result<Option<Json>, RunError> {
        self.value_in(&facts.scope()?)
    }

    /// What it comes to where these variables are, as the value of a claim; `None` for null.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn value_in(&self, scope: &Scope) -> Result<Option<Json>, RunError> {
        evaluate::json(&evaluate::evaluate(self, scope)?)
    }

    /// What it comes to where these variables are: the names of groups.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn texts_in(&self, scope: &Scope) -> Result<Vec<String>, RunError> {
        evaluate::texts(&evaluate::evaluate(self, scope)?)
    }
}
