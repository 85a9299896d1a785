//! The library's parser, on a stack of its own: it is recursive, and a stack that overflows ends the process.
//!
//! [`syntax`](super::syntax) bounds how deep a text is; how much of the stack a level takes is the parser's affair, and
//! more than the threads that serve requests have for sixteen of them.

use std::thread::{Builder, scope};

use cel::parser::{Expression as Ast, Parser};

use super::{CompileError, syntax};

/// Bytes of the parser's stack: several times what the deepest text takes where nothing is optimized. Memory is taken as it
/// is used.
const STACK: usize = 32 * 1_024 * 1_024;

/// Parses a text that [`syntax::check`] let through.
///
/// # Errors
/// [`CompileError::Syntax`], also where the parser panicked.
pub(super) fn parse(text: &str) -> Result<Ast, CompileError> {
    let gave_up = || CompileError::Syntax("the parser gave up".into());
    scope(|scope| {
        let thread = Builder::new().name("cel-parser".into()).stack_size(STACK);
        let parser = thread.spawn_scoped(scope, || read(text)).map_err(|_| gave_up())?;
        parser.join().map_err(|_| gave_up())?
    })
}

fn read(text: &str) -> Result<Ast, CompileError> {
    Parser::new().max_recursion_depth(syntax::MAX_NESTING).parse(text).map_err(|errors| {
        let first = errors.errors.first().map(|e| {
            let (line, column) = e.pos;
            format!("{} at line {line}, column {column}", e.msg)
        });
        CompileError::Syntax(first.unwrap_or_default())
    })
}
