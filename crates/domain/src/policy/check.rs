//! Names and cost of an expression, told from its tree alone.
//!
//! The library evaluates without a limit, so what cannot end soon is never evaluated: for every part there is an
//! upper bound on what comes out, for the largest user that [`Facts`](super::Facts) takes, and on the work it takes
//! to get there. The unit is about a value copied or 32 bytes of text.

use std::collections::BTreeSet;

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators,
};

use super::rewrite::{Built, built};
use super::{CompileError, facts};

/// Most work one evaluation may come to, in values copied: about a tenth of a second.
pub const MAX_COST: u64 = 4_000_000;
/// Deepest tree.
const MAX_DEPTH: usize = 48;
/// What calling a function takes beside its operands.
const CALL: u64 = 10;

/// The functions there are.
pub(super) const FUNCTIONS: &str = "has, size, startsWith, endsWith, contains, matches, lowerAscii, split, string, int, all, exists, exists_one, map, filter";

/// Operators that give a scalar for nothing worth counting.
const UNARY: [&str; 3] = [operators::LOGICAL_NOT, operators::NEGATE, operators::NOT_STRICTLY_FALSE];
const ARITHMETIC: [&str; 6] = [
    operators::SUBSTRACT,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
];
/// Operators that look at all of both sides.
const COMPARISONS: [&str; 7] = [
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::LESS,
    operators::LESS_EQUALS,
    operators::GREATER,
    operators::GREATER_EQUALS,
    operators::IN,
];

/// The variables of one kind of expression.
#[derive(Debug)]
pub struct Variables(pub &'static [Variable]);

/// One variable.
#[derive(Debug)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// Its fields, where it has some.
    pub fields: &'static [&'static str],
}

impl Variables {
    fn names(&self) -> String {
        self.0.iter().map(|variable| variable.name).collect::<Vec<_>>().join(", ")
    }
}

/// How large a value may be.
#[derive(Debug, Clone, Default)]
struct Bound {
    /// Elements, when gone through.
    items: u64,
    /// Values in it at any depth, itself included.
    nodes: u64,
    /// Bytes of all texts in it.
    bytes: u64,
    /// The largest element.
    each: Option<Box<Bound>>,
}

impl Bound {
    fn scalar() -> Self {
        Self { nodes: 1, ..Self::default() }
    }

    fn text(bytes: usize) -> Self {
        Self { nodes: 1, bytes: bytes as u64, ..Self::default() }
    }

    fn list(items: usize, nodes: usize, bytes: usize, each: Self) -> Self {
        let (items, nodes, bytes) = (items as u64, nodes as u64 + 1, bytes as u64);
        Self { items, nodes, bytes, each: Some(Box::new(each)) }
    }

    fn size(&self) -> u64 {
        self.nodes.saturating_add(self.bytes / 32)
    }

    fn each(&self) -> Self {
        self.each.as_deref().cloned().unwrap_or_else(|| self.clone())
    }

    /// One or the other.
    fn or(self, other: Self) -> Self {
        Self {
            items: self.items.max(other.items),
            nodes: self.nodes.max(other.nodes),
            bytes: self.bytes.max(other.bytes),
            each: either(self.each, other.each),
        }
    }

    /// Both, one after the other.
    fn and(self, other: Self) -> Self {
        Self {
            items: self.items.saturating_add(other.items),
            nodes: self.nodes.saturating_add(other.nodes),
            bytes: self.bytes.saturating_add(other.bytes),
            each: either(self.each, other.each),
        }
    }

    /// As many of it as this.
    fn times(self, items: u64) -> Self {
        Self {
            items,
            nodes: self.nodes.saturating_mul(items).saturating_add(1),
            bytes: self.bytes.saturating_mul(items),
            each: Some(Box::new(self)),
        }
    }
}

fn either(one: Option<Box<Bound>>, other: Option<Box<Bound>>) -> Option<Box<Bound>> {
    match (one, other) {
        (Some(one), Some(other)) => Some(Box::new(one.or(*other))),
        (one, other) => one.or(other),
    }
}

/// What a variable of the user's, or a field of one, may hold.
fn bound_of(variable: &str, field: Option<&str>) -> Bound {
    let text = Bound::text(facts::MAX_TEXT);
    match (variable, field) {
        ("user", Some("groups")) => {
            let group = Bound::text(facts::MAX_GROUP);
            Bound::list(facts::MAX_GROUPS, facts::MAX_GROUPS, facts::MAX_BYTES, group)
        }
        ("user", Some("claims")) => {
            let each = Bound::list(facts::MAX_NODES, facts::MAX_NODES, facts::MAX_BYTES, text);
            Bound::list(facts::MAX_NODES, facts::MAX_NODES, facts::MAX_BYTES, each)
        }
        ("user", None) => {
            let groups = bound_of("user", Some("groups"));
            Bound::list(16, facts::MAX_GROUPS + facts::MAX_NODES, 2 * facts::MAX_BYTES, groups)
        }
        ("scopes", _) => Bound::list(facts::MAX_SCOPES, facts::MAX_SCOPES, facts::MAX_TEXT, text),
        _ => text,
    }
}

/// A part's result, and the work to get there.
struct Found {
    bound: Bound,
    cost: u64,
}

/// Checks names and cost, and gives the regular expressions in it.
///
/// # Errors
/// [`CompileError`].
pub(super) fn check(
    expression: &IdedExpr,
    variables: &Variables,
) -> Result<BTreeSet<String>, CompileError> {
    let mut check = Check { variables, own: Vec::new(), patterns: BTreeSet::new() };
    let found = check.part(expression, 0)?;
    if found.cost.saturating_add(found.bound.size()) > MAX_COST {
        return Err(CompileError::TooCostly);
    }
    Ok(check.patterns)
}

struct Check<'v> {
    variables: &'v Variables,
    /// Variables of the macros around, the innermost last.
    own: Vec<(String, Bound)>,
    patterns: BTreeSet<String>,
}

impl Check<'_> {
    fn part(&mut self, part: &IdedExpr, depth: usize) -> Result<Found, CompileError> {
        if depth > MAX_DEPTH {
            return Err(CompileError::TooComplex);
        }
        let depth = depth + 1;
        match &part.expr {
            Expr::Literal(literal) => Ok(Found { bound: literal_bound(literal), cost: 1 }),
            Expr::Ident(name) => Ok(Found { bound: self.variable(name)?, cost: 1 }),
            Expr::Select(select) => {
                let found = match &select.operand.expr {
                    Expr::Ident(name) if !self.is_own(name) => self.field(name, &select.field)?,
                    _ => {
                        let operand = self.part(&select.operand, depth)?;
                        self.may_have_fields(&select.operand, &operand.bound, &select.field)?;
                        Found { bound: operand.bound.each(), cost: operand.cost }
                    }
                };
                let cost = found.cost.saturating_add(found.bound.size());
                let bound = if select.test { Bound::scalar() } else { found.bound };
                Ok(Found { bound, cost })
            }
            Expr::List(list) => {
                let mut all = Found { bound: Bound::scalar(), cost: 1 };
                for element in &list.elements {
                    let found = self.part(element, depth)?;
                    all = with_element(all, &found);
                }
                Ok(all)
            }
            Expr::Map(map) => {
                let mut all = Found { bound: Bound::scalar(), cost: 1 };
                for entry in &map.entries {
                    let EntryExpr::MapEntry(entry) = &entry.expr else {
                        return Err(CompileError::Unsupported("a message"));
                    };
                    let key = self.part(&entry.key, depth)?;
                    let value = self.part(&entry.value, depth)?;
                    all = with_element(with_element(all, &key), &value);
                }
                Ok(all)
            }
            Expr::Call(call) => self.call(call, depth),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension, depth),
            Expr::Struct(_) => Err(CompileError::Unsupported("a message")),
            Expr::Unspecified => Err(CompileError::Syntax("part of it is missing".into())),
        }
    }

    fn is_own(&self, name: &str) -> bool {
        self.own.iter().any(|(own, _)| own == name)
    }

    fn variable(&self, name: &str) -> Result<Bound, CompileError> {
        if let Some((_, bound)) = self.own.iter().rev().find(|(own, _)| own == name) {
            return Ok(bound.clone());
        }
        if self.variables.0.iter().any(|variable| variable.name == name) {
            return Ok(bound_of(name, None));
        }
        let known = self.variables.names();
        Err(CompileError::UnknownVariable { name: name.to_owned(), known })
    }

    fn field(&self, name: &str, field: &str) -> Result<Found, CompileError> {
        self.variable(name)?;
        let variable = self.variables.0.iter().find(|variable| variable.name == name);
        let fields = variable.map(|variable| variable.fields).unwrap_or_default();
        if fields.contains(&field) {
            return Ok(Found { bound: bound_of(name, Some(field)), cost: 1 });
        }
        let known = if fields.is_empty() { "none".to_owned() } else { fields.join(", ") };
        Err(CompileError::UnknownField {
            variable: name.to_owned(),
            field: field.to_owned(),
            known,
        })
    }

    /// The library takes a field of what has none for `false`, which a `!` would turn around.
    fn may_have_fields(
        &self,
        operand: &IdedExpr,
        bound: &Bound,
        field: &str,
    ) -> Result<(), CompileError> {
        let of_user = match &operand.expr {
            Expr::Select(outer) => match &outer.operand.expr {
                Expr::Ident(name) if !self.is_own(name) => Some(outer.field.as_str()),
                _ => None,
            },
            _ => None,
        };
        if bound.items > 0 && of_user.is_none_or(|outer| outer == "claims") {
            return Ok(());
        }
        let variable = of_user.unwrap_or("this value").to_owned();
        Err(CompileError::UnknownField { variable, field: field.to_owned(), known: "none".into() })
    }

    fn call(&mut self, call: &CallExpr, depth: usize) -> Result<Found, CompileError> {
        let mut operands = Vec::new();
        for operand in call.target.as_deref().into_iter().chain(&call.args) {
            operands.push(self.part(operand, depth)?);
        }
        let cost = operands.iter().fold(1, |sum: u64, o| sum.saturating_add(o.cost));
        let sizes = operands.iter().fold(0, |sum: u64, o| sum.saturating_add(o.bound.size()));
        let mut bounds = operands.into_iter().map(|operand| operand.bound);
        let mut next = || bounds.next().unwrap_or_default();
        let scalar = Bound::scalar();
        let (bound, own) = match (call.func_name.as_str(), call.target.is_some(), call.args.len()) {
            (operators::CONDITIONAL, false, 3) => {
                next();
                (next().or(next()), 0)
            }
            (operators::ADD, false, 2) => (next().and(next()), sizes.saturating_mul(2)),
            (operators::INDEX, false, 2) => {
                let each = next().each();
                (each.clone(), sizes.saturating_add(each.size()))
            }
            (name, false, 1) if UNARY.contains(&name) => (scalar, 0),
            (name, false, 2) if ARITHMETIC.contains(&name) => (scalar, 0),
            (name, false, 2) if COMPARISONS.contains(&name) => (scalar, sizes),
            (name, method, arguments) => {
                let subject = next();
                let bound = self.function(call, (name, method, arguments), subject)?;
                let own = CALL.saturating_add(sizes.saturating_mul(4)).saturating_add(bound.size());
                (bound, own)
            }
        };
        Ok(Found { bound, cost: cost.saturating_add(own) })
    }

    /// What a function gives.
    fn function(
        &mut self,
        call: &CallExpr,
        called: (&str, bool, usize),
        subject: Bound,
    ) -> Result<Bound, CompileError> {
        match called {
            ("size", true, 0)
            | ("size" | "int", false, 1)
            | ("startsWith" | "endsWith" | "contains", true, 1) => Ok(Bound::scalar()),
            ("matches", true, 1) => match &call.args[0].expr {
                Expr::Literal(LiteralValue::String(pattern)) => {
                    self.patterns.insert(pattern.inner().to_owned());
                    Ok(Bound::scalar())
                }
                _ => Err(CompileError::Pattern("the pattern must be a text as it stands".into())),
            },
            ("lowerAscii", true, 0) => Ok(subject),
            ("string", false, 1) => Ok(Bound::text(32).or(subject)),
            ("split", true, 1) => {
                let bytes = subject.bytes;
                let each = Bound { nodes: 1, bytes, ..Bound::default() };
                let items = facts::MAX_PARTS as u64;
                Ok(Bound { items, nodes: items + 1, bytes, each: Some(Box::new(each)) })
            }
            (name, _, _) => Err(CompileError::UnknownFunction(name.to_owned())),
        }
    }

    fn comprehension(
        &mut self,
        comprehension: &ComprehensionExpr,
        depth: usize,
    ) -> Result<Found, CompileError> {
        let ComprehensionExpr { iter_var, accu_var, loop_step, .. } = comprehension;
        let range = self.part(&comprehension.iter_range, depth)?;
        let (items, each) = (range.bound.items, range.bound.each());
        if self.variables.0.iter().any(|variable| variable.name == *iter_var) {
            return Err(CompileError::Unsupported("the name of a variable, given to another"));
        }
        let per_element = each.size().saturating_mul(4).saturating_add(CALL);
        self.own.push((accu_var.clone(), Bound::scalar()));
        self.own.push((iter_var.clone(), each));
        let (bound, step) = if let Some(Built { element: element_of, condition }) = built(loop_step)
        {
            let element = self.part(element_of, depth)?;
            let condition = condition.map(|condition| self.part(condition, depth)).transpose()?;
            let is_filter = matches!(&element_of.expr, Expr::Ident(name) if name == iter_var);
            let asked = condition.map_or(0, |condition| condition.cost);
            let step = element.cost.saturating_add(element.bound.size().saturating_mul(4));
            let all = if is_filter { range.bound.clone() } else { element.bound.times(items) };
            (all, step.saturating_add(asked))
        } else {
            let step = self.part(loop_step, depth)?;
            (Bound::scalar(), step.cost)
        };
        self.own.truncate(self.own.len() - 2);
        let turns = items.saturating_mul(step.saturating_add(per_element));
        let copied = range.bound.size().saturating_mul(2).saturating_add(bound.size());
        let cost = range.cost.saturating_add(turns).saturating_add(copied);
        Ok(Found { bound, cost })
    }
}

fn with_element(all: Found, element: &Found) -> Found {
    let size = element.bound.size();
    let grown =
        Bound { items: 1, each: Some(Box::new(element.bound.clone())), ..element.bound.clone() };
    let cost = all.cost.saturating_add(element.cost).saturating_add(size);
    Found { bound: all.bound.and(grown), cost }
}

fn literal_bound(literal: &LiteralValue) -> Bound {
    match literal {
        LiteralValue::String(text) => Bound::text(text.inner().len()),
        LiteralValue::Bytes(_)
        | LiteralValue::Boolean(_)
        | LiteralValue::Double(_)
        | LiteralValue::Int(_)
        | LiteralValue::Null
        | LiteralValue::UInt(_) => Bound::text(super::MAX_LENGTH),
    }
}
