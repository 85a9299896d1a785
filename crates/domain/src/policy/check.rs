//! Names and cost of an expression, told from its tree alone.
//!
//! The library evaluates without a limit, so what cannot end soon is never evaluated: for every part there is an
//! upper bound on what comes out, for the largest user that [`Facts`](super::Facts) takes, and on the work it takes
//! to get there. The unit is about a value copied, 32 bytes of text, or one byte matched by 128 bytes of a pattern.
//!
//! Texts of a list share a bound: for 1024 groups of at most 512 bytes, 65,536 bytes in all, 128 are that long at most.
//! Since work is convex in the length of an element, all of a list come to no more than these and empty ones.

use std::collections::{BTreeMap, BTreeSet};

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators,
};

use regex::Regex;

use super::rewrite::{Built, built};
use super::{CompileError, facts, pattern};

/// Most work one evaluation may come to, in values copied: about a tenth of a second.
pub const MAX_COST: u64 = 4_000_000;
/// Deepest tree.
const MAX_DEPTH: usize = 48;
/// What calling a function takes beside its operands.
const CALL: u64 = 10;
/// Bytes of a compiled pattern that one byte of a text meets for one unit.
const PATTERN_BYTES: u64 = 128;
/// Most lists within lists whose elements are told apart by their length.
const MAX_SHARING: usize = 4;

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
    /// Its fields.
    pub fields: Fields,
}

/// The fields of a variable.
#[derive(Debug, Clone, Copy)]
pub enum Fields {
    /// It has none.
    None,
    /// These.
    Named(&'static [&'static str]),
    /// Nobody knows which.
    Any,
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
    /// Bytes of it, if it is a text.
    text: u64,
    /// The largest element, where there are some.
    each: Option<Box<Bound>>,
    /// Whether it may be a list, a map or a text at any depth, and is like its own elements.
    tree: bool,
}

impl Bound {
    fn scalar() -> Self {
        Self { nodes: 1, ..Self::default() }
    }

    fn text(bytes: usize) -> Self {
        Self::text_of(bytes as u64)
    }

    fn text_of(bytes: u64) -> Self {
        Self { nodes: 1, bytes, text: bytes, ..Self::default() }
    }

    fn list(items: usize, nodes: usize, bytes: usize, each: Self) -> Self {
        let (items, nodes, bytes) = (items as u64, nodes as u64 + 1, bytes as u64);
        Self { items, nodes, bytes, text: 0, each: Some(Box::new(each)), tree: false }
    }

    /// So many values in all, so many bytes of texts, each text so long.
    fn tree(nodes: u64, bytes: u64, text: u64) -> Self {
        Self { items: nodes, nodes, bytes, text, each: None, tree: true }
    }

    /// The longest text at any depth.
    fn longest(&self) -> u64 {
        if self.tree { self.text } else { self.bytes }
    }

    fn size(&self) -> u64 {
        self.nodes.saturating_add(self.bytes / 32)
    }

    fn each(&self) -> Self {
        self.each.as_deref().cloned().unwrap_or_else(|| self.clone())
    }

    /// The smallest element: of a tree one that may still have fields.
    fn smallest(&self) -> Self {
        if self.tree { Self::tree(1, 0, 0) } else { Self::scalar() }
    }

    /// How many elements can be as large as the largest: no more than it goes into the whole.
    fn large(&self, each: &Self) -> u64 {
        let by_bytes = if each.bytes == 0 { 0 } else { self.bytes.div_ceil(each.bytes) };
        let by_nodes = if each.items == 0 { 0 } else { self.nodes.div_ceil(each.nodes.max(1)) };
        by_bytes.saturating_add(by_nodes).min(self.items)
    }

    /// One or the other.
    fn or(self, other: Self) -> Self {
        if self.tree || other.tree {
            let (nodes, bytes) = (self.nodes.max(other.nodes), self.bytes.max(other.bytes));
            return Self::tree(nodes, bytes, self.longest().max(other.longest()));
        }
        Self {
            items: self.items.max(other.items),
            nodes: self.nodes.max(other.nodes),
            bytes: self.bytes.max(other.bytes),
            text: self.text.max(other.text),
            each: either(self.each, other.each),
            tree: false,
        }
    }

    /// Both, one after the other.
    fn and(self, other: Self) -> Self {
        if self.tree || other.tree {
            let nodes = self.nodes.saturating_add(other.nodes);
            let bytes = self.bytes.saturating_add(other.bytes);
            return Self::tree(nodes, bytes, self.longest().saturating_add(other.longest()));
        }
        Self {
            items: self.items.saturating_add(other.items),
            nodes: self.nodes.saturating_add(other.nodes),
            bytes: self.bytes.saturating_add(other.bytes),
            text: self.text.saturating_add(other.text),
            each: either(self.each, other.each),
            tree: false,
        }
    }

    /// So many of it, and so many of another that is smaller.
    fn times(self, large: u64, other: &Self, small: u64) -> Self {
        let sum = |one: u64, another: u64| {
            one.saturating_mul(large).saturating_add(another.saturating_mul(small))
        };
        Self {
            items: large.saturating_add(small),
            nodes: sum(self.nodes, other.nodes).saturating_add(1),
            bytes: sum(self.bytes, other.bytes),
            text: 0,
            each: Some(Box::new(self)),
            tree: false,
        }
    }
}

fn either(one: Option<Box<Bound>>, other: Option<Box<Bound>>) -> Option<Box<Bound>> {
    match (one, other) {
        (Some(one), Some(other)) => Some(Box::new(one.or(*other))),
        (one, other) => one.or(other),
    }
}

/// How large a user is.
pub(super) struct Sizes {
    groups: usize,
    group: usize,
    /// Of groups, and of further claims.
    bytes: usize,
    nodes: usize,
    answer: usize,
}

/// The largest user that is looked at.
pub(super) const LARGEST: Sizes = Sizes {
    groups: facts::MAX_GROUPS,
    group: facts::MAX_GROUP,
    bytes: facts::MAX_BYTES,
    nodes: facts::MAX_NODES,
    answer: facts::MAX_ANSWER_NODES,
};
/// The largest user, and the largest answer, of an example, as its schema has it.
pub(super) const EXAMPLE: Sizes =
    Sizes { groups: 32, group: 256, bytes: 8_192, nodes: 16, answer: super::MAX_EXAMPLE_NODES };

impl Sizes {
    /// What a variable of such a user's, or a field of one, may hold.
    fn bound_of(&self, variable: &str, field: Option<&str>) -> Bound {
        let text = Bound::text(facts::MAX_TEXT);
        match (variable, field) {
            ("user", Some("groups")) => {
                Bound::list(self.groups, self.groups, self.bytes, Bound::text(self.group))
            }
            ("user", Some("claims")) => self.tree(self.nodes),
            ("upstream", _) => self.tree(self.answer),
            ("user", None) => {
                // By index any of its fields.
                let (nodes, bytes) = (self.groups + self.nodes + 16, 2 * self.bytes + 8_192);
                Bound::tree(nodes as u64, bytes as u64, facts::MAX_TEXT as u64)
            }
            ("scopes", _) => {
                Bound::list(facts::MAX_SCOPES, facts::MAX_SCOPES, facts::MAX_TEXT, text)
            }
            _ => text,
        }
    }

    /// At any depth a list, a map or a text.
    fn tree(&self, nodes: usize) -> Bound {
        Bound::tree(nodes as u64 + 1, self.bytes as u64, facts::MAX_TEXT as u64)
    }
}

/// A part's result, and the work to get there.
#[derive(Default)]
struct Found {
    bound: Bound,
    cost: u64,
}

/// What was found: the work, and the regular expressions by their text.
pub(super) struct Checked {
    pub cost: u64,
    pub patterns: BTreeMap<String, Regex>,
    /// Fields and texts that stand in it.
    pub names: BTreeSet<String>,
}

/// Checks names and cost, and gives the regular expressions in it.
///
/// # Errors
/// [`CompileError`].
pub(super) fn check(
    expression: &IdedExpr,
    variables: &Variables,
    sizes: &Sizes,
) -> Result<Checked, CompileError> {
    let mut check = Check {
        variables,
        sizes,
        own: Vec::new(),
        patterns: BTreeMap::new(),
        names: BTreeSet::new(),
        sharing: 0,
    };
    let found = check.part(expression, 0)?;
    let cost = found.cost.saturating_add(found.bound.size());
    if cost > MAX_COST {
        return Err(CompileError::TooCostly);
    }
    let patterns = check.patterns.into_iter().map(|(text, (regex, _))| (text, regex)).collect();
    Ok(Checked { cost, patterns, names: check.names })
}

struct Check<'v> {
    variables: &'v Variables,
    sizes: &'v Sizes,
    /// Variables of the macros around, the innermost last.
    own: Vec<(String, Bound)>,
    /// Regular expressions and their size, by their text.
    patterns: BTreeMap<String, (Regex, u64)>,
    names: BTreeSet<String>,
    /// Lists around whose elements are told apart by their length.
    sharing: usize,
}

impl Check<'_> {
    fn part(&mut self, part: &IdedExpr, depth: usize) -> Result<Found, CompileError> {
        if depth > MAX_DEPTH {
            return Err(CompileError::TooComplex);
        }
        let depth = depth + 1;
        match &part.expr {
            Expr::Literal(literal) => {
                if let LiteralValue::String(text) = literal {
                    self.names.insert(text.inner().to_owned());
                }
                Ok(Found { bound: literal_bound(literal), cost: 1 })
            }
            Expr::Ident(name) => Ok(Found { bound: self.variable(name)?, cost: 1 }),
            Expr::Select(select) => {
                self.names.insert(select.field.clone());
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
            return Ok(self.sizes.bound_of(name, None));
        }
        let known = self.variables.names();
        Err(CompileError::UnknownVariable { name: name.to_owned(), known })
    }

    fn field(&self, name: &str, field: &str) -> Result<Found, CompileError> {
        self.variable(name)?;
        let variable = self.variables.0.iter().find(|variable| variable.name == name);
        let known = match variable.map(|variable| variable.fields) {
            Some(Fields::Any) => None,
            Some(Fields::Named(fields)) if fields.contains(&field) => None,
            Some(Fields::Named(fields)) => Some(fields.join(", ")),
            Some(Fields::None) | None => Some("none".to_owned()),
        };
        let Some(known) = known else {
            return Ok(Found { bound: self.sizes.bound_of(name, Some(field)), cost: 1 });
        };
        Err(CompileError::UnknownField {
            variable: name.to_owned(),
            field: field.to_owned(),
            known,
        })
    }

    /// The library takes a field of what has none for `false`, which a `!` would turn around: only further claims,
    /// maps as they stand, and elements that may be either have some, and `rewrite` asks again.
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
        // What is like its own elements is a further claim, an answer, or below one.
        if bound.tree || matches!(operand.expr, Expr::Map(_)) {
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
                let (bound, searched) = self.function(call, (name, method, arguments), &subject)?;
                let own = CALL
                    .saturating_add(sizes.saturating_mul(4))
                    .saturating_add(bound.size())
                    .saturating_add(searched);
                (bound, own)
            }
        };
        Ok(Found { bound, cost: cost.saturating_add(own) })
    }

    /// What a function gives, and what searching the text by a pattern takes.
    fn function(
        &mut self,
        call: &CallExpr,
        called: (&str, bool, usize),
        subject: &Bound,
    ) -> Result<(Bound, u64), CompileError> {
        let bound = match called {
            ("size", true, 0)
            | ("size" | "int", false, 1)
            | ("startsWith" | "endsWith" | "contains", true, 1) => Bound::scalar(),
            ("matches", true, 1) => {
                let Expr::Literal(LiteralValue::String(text)) = &call.args[0].expr else {
                    let why = "the pattern must be a text as it stands";
                    return Err(CompileError::Pattern(why.into()));
                };
                let size = self.pattern(text.inner())?;
                let places = subject.text.saturating_add(1);
                return Ok((Bound::scalar(), places.saturating_mul(size) / PATTERN_BYTES));
            }
            ("lowerAscii", true, 0) => Bound::text_of(subject.text),
            ("string", false, 1) => Bound::text(32).or(Bound::text_of(subject.text)),
            ("split", true, 1) => {
                let (items, bytes) = (facts::MAX_PARTS as u64, subject.text);
                let each = Some(Box::new(Bound::text_of(bytes)));
                Bound { items, nodes: items + 1, bytes, text: 0, each, tree: false }
            }
            (name, _, _) => return Err(CompileError::UnknownFunction(name.to_owned())),
        };
        Ok((bound, 0))
    }

    /// The size of a pattern, which is compiled when it is seen first.
    fn pattern(&mut self, text: &str) -> Result<u64, CompileError> {
        if let Some((_, size)) = self.patterns.get(text) {
            return Ok(*size);
        }
        if self.patterns.len() == pattern::MAX_PATTERNS {
            return Err(CompileError::TooComplex);
        }
        let (regex, size) = pattern::compile(text)?;
        self.patterns.insert(text.to_owned(), (regex, size as u64));
        Ok(size as u64)
    }

    fn comprehension(
        &mut self,
        comprehension: &ComprehensionExpr,
        depth: usize,
    ) -> Result<Found, CompileError> {
        let range = self.part(&comprehension.iter_range, depth)?;
        let iter_var = &comprehension.iter_var;
        if self.variables.0.iter().any(|variable| variable.name == *iter_var) {
            return Err(CompileError::Unsupported("the name of a variable, given to another"));
        }
        let (items, each) = (range.bound.items, range.bound.each());
        let large = range.bound.large(&each);
        let (one, other, large) = if large < items && self.sharing < MAX_SHARING {
            self.sharing += 1;
            let other = self.turn(comprehension, range.bound.smallest(), depth);
            let one = self.turn(comprehension, each, depth);
            self.sharing -= 1;
            (one?, other?, large)
        } else {
            (self.turn(comprehension, each, depth)?, Found::default(), items)
        };
        let small = items - large;
        let turns = one.cost.saturating_mul(large).saturating_add(other.cost.saturating_mul(small));
        let bound = match built(&comprehension.loop_step) {
            None => Bound::scalar(),
            Some(Built { element, .. }) => match &element.expr {
                Expr::Ident(name) if name == iter_var => range.bound.clone(),
                _ => one.bound.times(large, &other.bound, small),
            },
        };
        let copied = range.bound.size().saturating_mul(2).saturating_add(bound.size());
        let cost = range.cost.saturating_add(turns).saturating_add(copied);
        Ok(Found { bound, cost })
    }

    /// One element's turn: what it adds, where something is built, and the work.
    fn turn(
        &mut self,
        comprehension: &ComprehensionExpr,
        each: Bound,
        depth: usize,
    ) -> Result<Found, CompileError> {
        let ComprehensionExpr { iter_var, accu_var, loop_step, .. } = comprehension;
        let per_element = each.size().saturating_mul(4).saturating_add(CALL);
        self.own.push((accu_var.clone(), Bound::scalar()));
        self.own.push((iter_var.clone(), each));
        let (bound, step) = if let Some(Built { element, condition }) = built(loop_step) {
            let element = self.part(element, depth)?;
            let condition = condition.map(|condition| self.part(condition, depth)).transpose()?;
            let asked = condition.map_or(0, |condition| condition.cost);
            let step = element.cost.saturating_add(element.bound.size().saturating_mul(4));
            (element.bound, step.saturating_add(asked))
        } else {
            (Bound::scalar(), self.part(loop_step, depth)?.cost)
        };
        self.own.truncate(self.own.len() - 2);
        Ok(Found { bound, cost: step.saturating_add(per_element) })
    }
}

fn with_element(all: Found, element: &Found) -> Found {
    let size = element.bound.size();
    let grown = Bound {
        items: 1,
        text: 0,
        each: Some(Box::new(element.bound.clone())),
        tree: false,
        ..element.bound.clone()
    };
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
