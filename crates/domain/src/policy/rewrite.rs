//! `map` and `filter` as one pass: the library's own copy the list they build at every element. And fields of what
//! has none are errors: the library's own are `false`.

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};

/// The function that `map` and `filter` become. No text can name it: `@` begins no name.
pub(super) const COLLECT: &str = "@collect";

/// What a field below a variable's becomes: `@field(value, name)`.
pub(super) const FIELD: &str = "@field";
/// What `has` of one becomes.
pub(super) const HAS: &str = "@has";

/// Replaces every `map` and `filter` by `@collect(range, variable, element[, condition])`.
pub(super) fn collecting(expression: &mut IdedExpr) {
    match &mut expression.expr {
        Expr::Call(call) => {
            call.target.iter_mut().for_each(|target| collecting(target));
            call.args.iter_mut().for_each(collecting);
        }
        Expr::Comprehension(comprehension) => {
            collecting(&mut comprehension.iter_range);
            collecting(&mut comprehension.loop_step);
        }
        Expr::List(list) => list.elements.iter_mut().for_each(collecting),
        Expr::Map(map) => {
            for entry in &mut map.entries {
                if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                    collecting(&mut entry.key);
                    collecting(&mut entry.value);
                }
            }
        }
        Expr::Select(select) => collecting(&mut select.operand),
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) | Expr::Struct(_) => {}
    }
    if let Expr::Select(select) = &expression.expr
        && !matches!(&select.operand.expr, Expr::Ident(name) if name == "user" || name == "client")
    {
        let name = Expr::Literal(LiteralValue::String(select.field.as_str().into()));
        let args = vec![(*select.operand).clone(), IdedExpr { id: 0, expr: name }];
        let func_name = if select.test { HAS } else { FIELD }.to_owned();
        expression.expr = Expr::Call(CallExpr { func_name, target: None, args });
    }
    let Expr::Comprehension(comprehension) = &expression.expr else { return };
    let Some(built) = built(&comprehension.loop_step) else { return };
    let variable = IdedExpr { id: 0, expr: Expr::Ident(comprehension.iter_var.clone()) };
    let mut args = vec![comprehension.iter_range.clone(), variable, built.element.clone()];
    args.extend(built.condition.cloned());
    expression.expr = Expr::Call(CallExpr { func_name: COLLECT.to_owned(), target: None, args });
}

/// What a step adds to a list, and when.
pub(super) struct Built<'e> {
    pub element: &'e IdedExpr,
    pub condition: Option<&'e IdedExpr>,
}

/// The step of a `map` or `filter`: `@result + [element]`, or `condition ? @result + [element] : @result`.
pub(super) fn built(step: &IdedExpr) -> Option<Built<'_>> {
    let Expr::Call(call) = &step.expr else { return None };
    match (call.func_name.as_str(), call.args.as_slice()) {
        (operators::CONDITIONAL, [condition, then, _]) => {
            let Built { element, condition: None } = built(then)? else { return None };
            Some(Built { element, condition: Some(condition) })
        }
        (operators::ADD, [so_far, added]) => match (&so_far.expr, &added.expr) {
            (Expr::Ident(name), Expr::List(list)) if name.starts_with('@') => {
                let [element] = list.elements.as_slice() else { return None };
                Some(Built { element, condition: None })
            }
            _ => None,
        },
        _ => None,
    }
}
