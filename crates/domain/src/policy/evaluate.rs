//! Evaluation of what [`check`](super::check) let through, and what may come of it.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use cel::common::ast::Expr;
use cel::extractors::This;
use cel::objects::Key;
use cel::{Context, ExecutionError, FunctionContext, Value};
use regex::Regex;
use serde_json::{Map, Value as Json};

use super::facts::{self, MAX_PARTS};
use super::rewrite::{COLLECT, FIELD, HAS};
use super::{Expression, RunError, Scope};

/// Most values in a claim.
const MAX_NODES: usize = 256;
/// Most bytes of text in a claim.
const MAX_BYTES: usize = 4_096;

/// What an expression comes to.
///
/// # Errors
/// [`RunError`].
pub(super) fn evaluate(expression: &Expression, scope: &Scope) -> Result<Value, RunError> {
    let run = || {
        let mut context = functions(&expression.patterns);
        for (name, value) in &scope.0 {
            context.add_variable_from_value(*name, value.clone());
        }
        context.resolve(&expression.ast)
    };
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result.map_err(|error| described(&error, &expression.names)),
        Err(_) => Err(RunError::Panicked),
    }
}

/// The functions of [`check::FUNCTIONS`](super::check::FUNCTIONS): ours where the library's would count bytes for
/// letters or compile a pattern at every call.
fn functions<'c>(patterns: &Arc<BTreeMap<String, Regex>>) -> Context<'c> {
    let mut context = Context::empty();
    context.add_function(COLLECT, collect);
    context.add_function(FIELD, |map: Value, name: Arc<String>| match map {
        Value::Map(map) => match map.get(&Key::String(Arc::clone(&name))) {
            Some(value) => Ok(value.clone()),
            None => Err(ExecutionError::NoSuchKey(name)),
        },
        _ => Err(ExecutionError::function_error("field", "no map")),
    });
    context.add_function(HAS, |map: Value, name: Arc<String>| match map {
        Value::Map(map) => Ok(map.get(&Key::String(name)).is_some()),
        _ => Err(ExecutionError::function_error("has", "no map")),
    });
    context.add_function("size", size);
    context.add_function("startsWith", |This(text): This<Arc<String>>, with: Arc<String>| {
        text.starts_with(with.as_str())
    });
    context.add_function("endsWith", |This(text): This<Arc<String>>, with: Arc<String>| {
        text.ends_with(with.as_str())
    });
    context.add_function("contains", |This(text): This<Arc<String>>, part: Arc<String>| {
        text.contains(part.as_str())
    });
    context.add_function("lowerAscii", |This(text): This<Arc<String>>| text.to_ascii_lowercase());
    context.add_function("split", split);
    context.add_function("string", string);
    context.add_function("int", int);
    let patterns = Arc::clone(patterns);
    let matches = move |This(text): This<Arc<String>>, pattern: Arc<String>| match patterns
        .get(pattern.as_str())
    {
        Some(regex) => Ok(Value::Bool(regex.is_match(&text))),
        None => Err(ExecutionError::function_error("matches", "unknown pattern")),
    };
    context.add_function("matches", matches);
    context
}

/// `map` and `filter` in one pass ([`rewrite`](super::rewrite)).
fn collect(call: &FunctionContext<'_, '_>) -> Result<Value, ExecutionError> {
    let wrong = || ExecutionError::function_error("map", "not a list");
    let [range, variable, element, condition @ ..] = call.args else { return Err(wrong()) };
    let Expr::Ident(name) = &variable.expr else { return Err(wrong()) };
    let items: Vec<Value> = match call.ptx.resolve(range)? {
        Value::List(items) => Arc::unwrap_or_clone(items),
        Value::Map(map) => map.map.keys().map(Value::from).collect(),
        _ => return Err(wrong()),
    };
    let mut collected = Vec::with_capacity(items.len());
    for item in items {
        let mut scope = call.ptx.new_inner_scope();
        scope.add_variable_from_value(name.as_str(), item);
        let wanted = match condition {
            [] => true,
            [condition, ..] => match scope.resolve(condition)? {
                Value::Bool(wanted) => wanted,
                _ => return Err(ExecutionError::NoSuchOverload),
            },
        };
        if wanted {
            collected.push(scope.resolve(element)?);
        }
    }
    Ok(Value::List(Arc::new(collected)))
}

fn size(This(value): This<Value>) -> Result<i64, ExecutionError> {
    let size = match value {
        Value::List(items) => items.len(),
        Value::Map(map) => map.map.len(),
        Value::String(text) => text.chars().count(),
        _ => return Err(ExecutionError::function_error("size", "no list, map or string")),
    };
    i64::try_from(size).map_err(|_| ExecutionError::NoSuchOverload)
}

#[expect(clippy::needless_pass_by_value, reason = "the library hands its arguments over")]
fn split(This(text): This<Arc<String>>, at: Arc<String>) -> Result<Value, ExecutionError> {
    if at.is_empty() {
        return Err(ExecutionError::function_error("split", "nothing to split at"));
    }
    let parts: Vec<&str> = text.split(at.as_str()).take(MAX_PARTS + 1).collect();
    if parts.len() > MAX_PARTS {
        return Err(ExecutionError::function_error("split", "too many parts"));
    }
    Ok(Value::from(parts))
}

fn string(This(value): This<Value>) -> Result<Value, ExecutionError> {
    Ok(match value {
        Value::String(text) => Value::String(text),
        Value::Int(number) => Value::from(number.to_string()),
        Value::Bool(value) => Value::from(value.to_string()),
        _ => return Err(ExecutionError::function_error("string", "no string, int or bool")),
    })
}

fn int(This(value): This<Value>) -> Result<Value, ExecutionError> {
    match value {
        Value::Int(number) => Ok(Value::Int(number)),
        Value::String(text) => text
            .parse()
            .map(Value::Int)
            .map_err(|_| ExecutionError::function_error("int", "no number")),
        _ => Err(ExecutionError::function_error("int", "no string or int")),
    }
}

/// The library's error, without the values it holds.
fn described(error: &ExecutionError, names: &BTreeSet<String>) -> RunError {
    match error {
        ExecutionError::NoSuchKey(key) if names.contains(key.as_str()) => {
            RunError::NoSuchKey(key.to_string())
        }
        ExecutionError::NoSuchKey(_) => RunError::Failed("no such key"),
        ExecutionError::IndexOutOfBounds(_) => RunError::Failed("index out of bounds"),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => {
            RunError::Failed("division by zero")
        }
        ExecutionError::Overflow(..) => RunError::Failed("number out of range"),
        ExecutionError::FunctionError { .. } => {
            RunError::Failed("a function does not take this value")
        }
        _ => RunError::Failed("operands of types that do not go together"),
    }
}

/// What CEL calls a value's type.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Int(_) | Value::UInt(_) => "int",
        Value::Float(_) => "double",
        Value::String(_) => "string",
        Value::List(_) => "list",
        Value::Map(_) => "map",
        _ => "another type",
    }
}

/// A value as a claim: string, bool, int, a list of strings, or a map of those by name; `None` for null.
///
/// # Errors
/// [`RunError::WrongType`].
pub(super) fn json(value: &Value) -> Result<Option<Json>, RunError> {
    if matches!(value, Value::Null) {
        return Ok(None);
    }
    let mut room = Room { nodes: MAX_NODES, bytes: MAX_BYTES };
    match value {
        Value::Map(map) => {
            let mut members = Map::new();
            let mut entries: Vec<_> = map.map.iter().collect();
            entries.sort_by_key(|(key, _)| (*key).clone());
            for (key, value) in entries {
                let Key::String(name) = key else {
                    return Err(RunError::WrongType("a map whose keys are no strings"));
                };
                members.insert(room.text(name)?, room.flat(value)?);
            }
            Ok(Some(Json::Object(members)))
        }
        value => room.flat(value).map(Some),
    }
}

/// A list of texts, as long as lists of groups are.
///
/// # Errors
/// [`RunError::WrongType`].
pub(super) fn texts(value: &Value) -> Result<Vec<String>, RunError> {
    let Value::List(items) = value else { return Err(RunError::WrongType(type_name(value))) };
    let texts: Vec<String> = items
        .iter()
        .map(|item| match item {
            Value::String(text) => Ok(text.to_string()),
            _ => Err(RunError::WrongType("a list of other things than strings")),
        })
        .collect::<Result<_, _>>()?;
    let bytes: usize = texts.iter().map(String::len).sum();
    if texts.len() > facts::MAX_GROUPS
        || bytes > facts::MAX_BYTES
        || texts.iter().any(|text| text.len() > facts::MAX_GROUP)
    {
        return Err(RunError::WrongType(
            "more than 1024 groups, longer ones than 512 bytes, or more than 64 KiB",
        ));
    }
    Ok(texts)
}

struct Room {
    nodes: usize,
    bytes: usize,
}

impl Room {
    fn text(&mut self, text: &str) -> Result<String, RunError> {
        let left = (self.nodes.checked_sub(1), self.bytes.checked_sub(text.len()));
        let (Some(nodes), Some(bytes)) = left else {
            return Err(RunError::WrongType("more than 256 values or 4096 bytes"));
        };
        *self = Self { nodes, bytes };
        Ok(text.to_owned())
    }

    fn flat(&mut self, value: &Value) -> Result<Json, RunError> {
        match value {
            Value::String(text) => self.text(text).map(Json::String),
            Value::Bool(value) => Ok(Json::Bool(*value)),
            Value::Int(number) => Ok(Json::from(*number)),
            Value::List(items) => {
                let items = items.iter().map(|item| match item {
                    Value::String(text) => self.text(text).map(Json::String),
                    _ => Err(RunError::WrongType("a list of other things than strings")),
                });
                items.collect::<Result<_, _>>().map(Json::Array)
            }
            value => Err(RunError::WrongType(type_name(value))),
        }
    }
}
