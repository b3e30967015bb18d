//! What a chat template may not say, because the engine's budget does not cover it.
//!
//! minijinja charges for every instruction and byte, but shares lists instead of copying them: `x = [x, x]` or
//! `x = x + x`, forty times, is a value that takes 2⁴⁰ steps to print or compare, and none of them is charged. So
//! templates may not put containers into containers; chat formats have no need to. Nothing here runs a template.

use minijinja::machinery::ast::{BinOp, BinOpKind, Call, CallArg, Expr, Filter, Spanned, Stmt};
use minijinja::machinery::{Token, parse, tokenize};
use minijinja::value::ValueKind;

use super::{syntax, syntax_error};
use crate::TemplateError;

/// Most tokens between the braces of one tag. The engine walks long chains (`a ~ a ~ ...`) by recursion and overflows
/// a stack of 2 MiB at some 7,000 links.
const MAX_TAG_TOKENS: usize = 1000;
/// Most `elif` in a template, for the same reason.
const MAX_ELIFS: usize = 1000;

/// Filters that build lists of lists, or a list many times as long.
pub(super) const NO_FILTERS: [&str; 7] = ["batch", "chain", "groupby", "slice", "sum", "zip", "pprint"];
/// Functions that build containers of anything, or show the engine's inside.
pub(super) const NO_FUNCTIONS: [&str; 2] = ["dict", "debug"];

/// Filters whose result is never a container.
const SCALAR_FILTERS: [&str; 17] = [
    "capitalize",
    "count",
    "float",
    "format",
    "indent",
    "int",
    "join",
    "length",
    "lower",
    "replace",
    "round",
    "string",
    "title",
    "tojson",
    "trim",
    "upper",
    "urlencode",
];

type Checked = Result<(), TemplateError>;

/// Checks the source of a template.
pub(super) fn check(source: &str) -> Checked {
    let (mut tag_tokens, mut elifs) = (0, 0);
    for token in tokenize(source, false, syntax()) {
        let (token, span) = token.map_err(|error| syntax_error(&error))?;
        match token {
            Token::VariableStart | Token::BlockStart => tag_tokens = 0,
            Token::Ident("elif") => elifs += 1,
            _ => tag_tokens += 1,
        }
        let line = usize::from(span.start_line);
        if tag_tokens > MAX_TAG_TOKENS {
            return Err(TemplateError::Unbounded { line, what: "a tag of more than 1000 words and signs" });
        }
        if elifs > MAX_ELIFS {
            return Err(TemplateError::Unbounded { line, what: "more than 1000 elif" });
        }
    }
    statement(&parse(source, "template", syntax()).map_err(|error| syntax_error(&error))?)
}

fn statement(node: &Stmt<'_>) -> Checked {
    match node {
        Stmt::Template(node) => body(&node.children),
        Stmt::EmitExpr(node) => expression(&node.expr),
        Stmt::EmitRaw(_) | Stmt::Continue(_) | Stmt::Break(_) => Ok(()),
        Stmt::ForLoop(node) => {
            expression(&node.iter)?;
            node.filter_expr.iter().try_for_each(expression)?;
            body(&node.body)?;
            body(&node.else_body)
        }
        Stmt::IfCond(node) => {
            expression(&node.expr)?;
            body(&node.true_body)?;
            body(&node.false_body)
        }
        Stmt::WithBlock(node) => {
            node.assignments.iter().try_for_each(|(target, value)| assignment(target, value))?;
            body(&node.body)
        }
        Stmt::Set(node) => assignment(&node.target, &node.expr),
        Stmt::SetBlock(node) => {
            node.filter.iter().try_for_each(expression)?;
            body(&node.body)
        }
        Stmt::AutoEscape(node) => {
            expression(&node.enabled)?;
            body(&node.body)
        }
        Stmt::FilterBlock(node) => {
            expression(&node.filter)?;
            body(&node.body)
        }
        Stmt::Macro(node) => {
            node.defaults.iter().try_for_each(expression)?;
            body(&node.body)
        }
        Stmt::CallBlock(node) => {
            call(&node.call)?;
            node.macro_decl.defaults.iter().try_for_each(expression)?;
            body(&node.macro_decl.body)
        }
        Stmt::Do(node) => call(&node.call),
    }
}

fn body(statements: &[Stmt<'_>]) -> Checked {
    statements.iter().try_for_each(statement)
}

fn assignment(target: &Expr<'_>, value: &Expr<'_>) -> Checked {
    expression(value)?;
    if matches!(target, Expr::GetAttr(_)) && !is_plain(value) {
        return refuse(
            value,
            "putting a whole variable into a namespace (put a text, number or attribute there)",
        );
    }
    Ok(())
}

fn expression(expr: &Expr<'_>) -> Checked {
    match expr {
        Expr::Var(node) if node.id == "namespace" => refuse(expr, "namespace other than as a call"),
        Expr::Var(_) | Expr::Const(_) => Ok(()),
        Expr::Slice(node) => {
            expression(&node.expr)?;
            [&node.start, &node.stop, &node.step].into_iter().flatten().try_for_each(expression)
        }
        Expr::UnaryOp(node) => expression(&node.expr),
        Expr::BinOp(node) => {
            if matches!(node.op, BinOpKind::Add) && !is_scalar(&node.left) && !is_scalar(&node.right) {
                return refuse(expr, "+ between two values that may be lists (join texts with ~)");
            }
            expression(&node.left)?;
            expression(&node.right)
        }
        Expr::Compare(node) => {
            expression(&node.expr)?;
            node.ops.iter().try_for_each(|each| expression(&each.expr))
        }
        Expr::IfExpr(node) => {
            expression(&node.test_expr)?;
            expression(&node.true_expr)?;
            node.false_expr.iter().try_for_each(expression)
        }
        Expr::Filter(node) => {
            node.expr.iter().try_for_each(expression)?;
            arguments(&node.args)
        }
        Expr::Test(node) => {
            expression(&node.expr)?;
            arguments(&node.args)
        }
        Expr::GetAttr(node) => expression(&node.expr),
        Expr::GetItem(node) => {
            expression(&node.expr)?;
            expression(&node.subscript_expr)
        }
        Expr::Call(node) => call(node),
        Expr::List(node) => constants(expr, &node.items),
        Expr::Tuple(node) => constants(expr, &node.items),
        Expr::Map(node) => {
            constants(expr, &node.keys)?;
            constants(expr, &node.values)
        }
    }
}

fn call(node: &Spanned<Call<'_>>) -> Checked {
    if matches!(&node.expr, Expr::Var(callee) if callee.id == "namespace") {
        for argument in &node.args {
            match argument {
                CallArg::Kwarg(_, value) if is_plain(value) => {}
                CallArg::Pos(value)
                | CallArg::Kwarg(_, value)
                | CallArg::PosSplat(value)
                | CallArg::KwargSplat(value) => {
                    return refuse(
                        value,
                        "a namespace that begins with anything but texts and numbers by name",
                    );
                }
            }
        }
    } else {
        expression(&node.expr)?;
    }
    arguments(&node.args)
}

fn arguments(arguments: &[CallArg<'_>]) -> Checked {
    arguments.iter().try_for_each(|argument| expression(value_of(argument)))
}

fn value_of<'a, 'source>(argument: &'a CallArg<'source>) -> &'a Expr<'source> {
    match argument {
        CallArg::Pos(value)
        | CallArg::Kwarg(_, value)
        | CallArg::PosSplat(value)
        | CallArg::KwargSplat(value) => value,
    }
}

fn constants(whole: &Expr<'_>, items: &[Expr<'_>]) -> Checked {
    if items.iter().all(|item| matches!(item, Expr::Const(_))) {
        return Ok(());
    }
    refuse(whole, "a list, tuple or map of anything but texts and numbers")
}

/// Whether the value is surely no container, so that adding it to one fails.
fn is_scalar(expr: &Expr<'_>) -> bool {
    match expr {
        Expr::Const(node) => {
            matches!(
                node.value.kind(),
                ValueKind::String | ValueKind::Number | ValueKind::Bool | ValueKind::None
            )
        }
        Expr::BinOp(node) => match node.op {
            BinOpKind::Add => is_scalar(&node.left) || is_scalar(&node.right),
            _ => is_scalar_operation(node),
        },
        Expr::UnaryOp(_) | Expr::Compare(_) | Expr::Test(_) => true,
        Expr::IfExpr(node) => is_scalar(&node.true_expr) && node.false_expr.as_ref().is_none_or(is_scalar),
        Expr::Filter(node) => SCALAR_FILTERS.contains(&node.name),
        _ => false,
    }
}

fn is_scalar_operation(node: &Spanned<BinOp<'_>>) -> bool {
    !matches!(node.op, BinOpKind::Add | BinOpKind::Mul | BinOpKind::ScAnd | BinOpKind::ScOr)
}

/// Whether the value is surely no namespace, so that namespaces cannot hold each other.
fn is_plain(expr: &Expr<'_>) -> bool {
    match expr {
        Expr::Var(_) => false,
        Expr::Const(_) | Expr::UnaryOp(_) | Expr::Compare(_) | Expr::Test(_) | Expr::Slice(_) => true,
        // Lists and maps hold constants, messages hold texts, and namespaces what is plain itself.
        Expr::List(_) | Expr::Tuple(_) | Expr::Map(_) | Expr::GetAttr(_) | Expr::GetItem(_) => true,
        Expr::BinOp(node) => {
            !matches!(node.op, BinOpKind::ScAnd | BinOpKind::ScOr)
                || is_plain(&node.left) && is_plain(&node.right)
        }
        Expr::IfExpr(node) => is_plain(&node.true_expr) && node.false_expr.as_ref().is_none_or(is_plain),
        Expr::Filter(node) => is_plain_filter(node),
        Expr::Call(node) => {
            !matches!(&node.expr, Expr::Var(callee) if callee.id == "namespace")
                && node.args.iter().all(|argument| is_plain(value_of(argument)))
        }
    }
}

/// `default` may give back what it was given.
fn is_plain_filter(node: &Spanned<Filter<'_>>) -> bool {
    let passes = matches!(node.name, "default" | "d");
    !passes
        || node.expr.as_ref().is_some_and(is_plain)
            && node.args.iter().all(|argument| is_plain(value_of(argument)))
}

fn refuse(expr: &Expr<'_>, what: &'static str) -> Checked {
    Err(TemplateError::Unbounded { line: expr.span().start_line as usize, what })
}
