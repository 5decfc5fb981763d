//! The kinds of mistakes in expressions.

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::{BinOp, Expr, ExprMethodCall, Lit, UnOp};

/// Statements that do something, and can be left out without leaving a name undefined.
pub(crate) fn is_removable(expr: &Expr) -> bool {
    match expr {
        Expr::Try(tried) => is_removable(&tried.expr),
        Expr::MethodCall(_) | Expr::Call(_) | Expr::Assign(_) => true,
        Expr::Binary(binary) => is_assignment(&binary.op),
        _ => false,
    }
}

fn is_assignment(op: &BinOp) -> bool {
    matches!(
        op,
        BinOp::AddAssign(_) | BinOp::SubAssign(_) | BinOp::MulAssign(_) | BinOp::DivAssign(_)
    )
}

/// A kind, what is replaced, and by what.
type Change = (&'static str, Span, String);

/// The mistakes that can be made at an expression.
pub(crate) fn changes<'s>(expr: &Expr, text: &dyn Fn(Span) -> &'s str) -> Vec<Change> {
    let of = |e: &Expr| text(e.span());
    let whole = expr.span();
    match expr {
        Expr::Binary(binary) => {
            let Some((kind, op)) = other_operator(&binary.op) else { return Vec::new() };
            let (left, right) = (of(&binary.left), of(&binary.right));
            if is_assignment(&binary.op) {
                return vec![(kind, whole, format!("{left} {op} {right}"))];
            }
            vec![(kind, whole, format!("({left}) {op} ({right})"))]
        }
        Expr::Unary(unary) => match unary.op {
            UnOp::Not(_) => vec![("negation", whole, format!("({})", of(&unary.expr)))],
            UnOp::Neg(_) => vec![("sign", whole, format!("({})", of(&unary.expr)))],
            _ => Vec::new(),
        },
        Expr::Lit(literal) => other_literal(&literal.lit)
            .map(|(kind, other)| (kind, whole, other))
            .into_iter()
            .collect(),
        Expr::MethodCall(call) => method(call, whole, text),
        _ => Vec::new(),
    }
}

fn other_operator(op: &BinOp) -> Option<(&'static str, &'static str)> {
    Some(match op {
        BinOp::Lt(_) => ("bound", "<="),
        BinOp::Le(_) => ("bound", "<"),
        BinOp::Gt(_) => ("bound", ">="),
        BinOp::Ge(_) => ("bound", ">"),
        BinOp::Eq(_) => ("equality", "!="),
        BinOp::Ne(_) => ("equality", "=="),
        BinOp::And(_) => ("logic", "||"),
        BinOp::Or(_) => ("logic", "&&"),
        BinOp::Add(_) => ("arithmetic", "-"),
        BinOp::Sub(_) => ("arithmetic", "+"),
        BinOp::Mul(_) => ("arithmetic", "/"),
        BinOp::Div(_) => ("arithmetic", "*"),
        BinOp::Rem(_) => ("arithmetic", "/"),
        BinOp::AddAssign(_) => ("arithmetic", "-="),
        BinOp::SubAssign(_) => ("arithmetic", "+="),
        BinOp::MulAssign(_) => ("arithmetic", "/="),
        BinOp::DivAssign(_) => ("arithmetic", "*="),
        _ => return None,
    })
}

/// One more, a hundredth more, or the opposite.
fn other_literal(literal: &Lit) -> Option<(&'static str, String)> {
    match literal {
        Lit::Int(int) => {
            let value: u128 = int.base10_parse().ok()?;
            Some(("number", format!("{}{}", value + 1, int.suffix())))
        }
        Lit::Float(float) => {
            let value: f64 = float.base10_parse().ok()?;
            let other = if value == 0.0 { 0.01 } else { value * 1.01 };
            Some(("number", format!("{other:?}{}", float.suffix())))
        }
        Lit::Bool(bool) => Some(("truth", (!bool.value).to_string())),
        _ => None,
    }
}

/// Methods that are mistaken for one another.
const OTHERS: [(&str, &str); 18] = [
    ("min", "max"),
    ("max", "min"),
    ("any", "all"),
    ("all", "any"),
    ("first", "last"),
    ("last", "first"),
    ("is_some", "is_none"),
    ("is_none", "is_some"),
    ("is_ok", "is_err"),
    ("is_err", "is_ok"),
    ("floor", "ceil"),
    ("ceil", "floor"),
    ("round", "floor"),
    ("is_some_and", "is_none_or"),
    ("is_none_or", "is_some_and"),
    ("wrapping_add", "wrapping_sub"),
    ("saturating_add", "saturating_sub"),
    ("saturating_sub", "saturating_add"),
];

/// Methods that are forgotten.
const FORGOTTEN: [&str; 11] =
    ["abs", "trim", "clamp", "sqrt", "filter", "or", "or_else", "rev", "skip", "take", "exp"];

/// Methods that say yes or no.
const QUESTIONS: [&str; 7] =
    ["is_empty", "contains", "starts_with", "ends_with", "exists", "is_finite", "is_multiple_of"];

/// Methods whose closure says yes or no.
const PREDICATES: [&str; 9] = [
    "filter",
    "find",
    "position",
    "any",
    "all",
    "take_while",
    "skip_while",
    "retain",
    "is_some_and",
];

fn method<'s>(call: &ExprMethodCall, whole: Span, text: &dyn Fn(Span) -> &'s str) -> Vec<Change> {
    let name = call.method.to_string();
    let receiver = text(call.receiver.span());
    let mut changes = Vec::new();
    if let Some((_, other)) = OTHERS.iter().find(|(one, _)| *one == name) {
        let arguments: Vec<&str> = call.args.iter().map(|a| text(a.span())).collect();
        let mutated = format!("{receiver}.{other}({})", arguments.join(", "));
        changes.push(("method", whole, mutated));
    }
    if FORGOTTEN.contains(&name.as_str()) {
        changes.push(("forgotten", whole, format!("({receiver})")));
    }
    if QUESTIONS.contains(&name.as_str()) {
        changes.push(("condition", whole, format!("!({})", text(whole))));
    }
    if let (true, Some(Expr::Closure(closure))) =
        (PREDICATES.contains(&name.as_str()), call.args.first())
    {
        let body = closure.body.span();
        changes.push(("condition", body, format!("!({})", text(body))));
    }
    changes
}
