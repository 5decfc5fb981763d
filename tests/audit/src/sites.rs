//! Where mistakes can be planted in a source file.

use std::ops::Range;

use anyhow::{Context, Result};
use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Block, Expr, ImplItemFn, ItemFn, ReturnType, Signature, Stmt, TraitItemFn};

use crate::list::Form;
use crate::operators;

/// One place, and the mistake that can be planted there.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    /// Function, with the type that it belongs to.
    pub(crate) function: String,
    /// Kind of mistake, so that a draw does not take the commonest alone.
    pub(crate) operator: &'static str,
    pub(crate) form: Form,
    /// Bytes of the source that are replaced; empty for a body.
    pub(crate) range: Range<usize>,
    pub(crate) original: String,
    pub(crate) mutated: String,
    /// Bytes of the function.
    pub(crate) function_range: Range<usize>,
}

/// All sites of a file, function by function.
pub(crate) fn sites(source: &str) -> Result<Vec<Site>> {
    let file = syn::parse_file(source).context("not a Rust file")?;
    let mut finder = Finder { source, path: Vec::new(), functions: Vec::new(), sites: Vec::new() };
    finder.visit_file(&file);
    Ok(finder.sites)
}

struct Finder<'s> {
    source: &'s str,
    /// Types and modules around.
    path: Vec<String>,
    /// Functions around, the innermost last.
    functions: Vec<(String, Range<usize>)>,
    sites: Vec<Site>,
}

impl Finder<'_> {
    fn text(&self, span: Span) -> &str {
        &self.source[span.byte_range()]
    }

    fn add(&mut self, operator: &'static str, form: Form, range: Range<usize>, mutated: String) {
        let Some((function, function_range)) = self.functions.last().cloned() else { return };
        let original = self.source[range.clone()].to_string();
        self.sites.push(Site {
            function,
            operator,
            form,
            range,
            original,
            mutated,
            function_range,
        });
    }

    fn expression(&mut self, operator: &'static str, span: Span, mutated: String) {
        self.add(operator, Form::Expression, span.byte_range(), mutated);
    }

    fn function(&mut self, signature: &Signature, attributes: &[Attribute], body: &Block) {
        if signature.constness.is_some() || is_not_built(attributes) {
            return;
        }
        let outer = self.functions.last().map(|(name, _)| name.clone());
        let name = outer.into_iter().chain(self.path.clone()).chain([signature.ident.to_string()]);
        let name = name.collect::<Vec<_>>().join("::");
        self.functions.push((name, body.span().byte_range()));
        if let Some(mutated) = default_of(&signature.output) {
            let start = body.brace_token.span.open().byte_range().end;
            self.add("body", Form::Body, start..start, mutated.into());
        }
        let path = std::mem::take(&mut self.path);
        visit::visit_block(self, body);
        self.path = path;
        self.functions.pop();
    }

    /// Expressions that a macro is given first, as a condition.
    fn condition_of_macro(&mut self, mac: &syn::Macro) {
        if !mac.path.is_ident("ensure") {
            return;
        }
        let first = mac.parse_body_with(|input: syn::parse::ParseStream<'_>| {
            let first: Expr = input.parse()?;
            input.parse::<proc_macro2::TokenStream>()?;
            Ok(first)
        });
        if let Ok(first) = first {
            self.expression("condition", first.span(), format!("!({})", self.text(first.span())));
            Visit::visit_expr(self, &first);
        }
    }
}

/// Code that the tests do not build.
fn is_not_built(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else {
            return attribute.path().is_ident("test");
        };
        let text = list.tokens.to_string();
        let is_cfg = list.path.is_ident("cfg");
        is_cfg && (text == "test" || text.contains("cuda") && !text.contains("not"))
    })
}

/// A function's return at once.
fn default_of(output: &ReturnType) -> Option<&'static str> {
    let ReturnType::Type(_, ty) = output else { return Some("return;") };
    let syn::Type::Path(path) = &**ty else { return Some("return Default::default();") };
    let last = path.path.segments.last()?.ident.to_string();
    Some(match last.as_str() {
        "Result" | "PluginResult" | "Checked" => "return Ok(Default::default());",
        _ => "return Default::default();",
    })
}

/// Whether a condition binds names, so that it cannot be negated.
fn binds(expr: &Expr) -> bool {
    struct Lets(bool);
    impl Visit<'_> for Lets {
        fn visit_expr_let(&mut self, _: &syn::ExprLet) {
            self.0 = true;
        }
        fn visit_expr_closure(&mut self, _: &syn::ExprClosure) {}
    }
    let mut lets = Lets(false);
    lets.visit_expr(expr);
    lets.0
}

impl Visit<'_> for Finder<'_> {
    fn visit_item_fn(&mut self, item: &ItemFn) {
        self.function(&item.sig, &item.attrs, &item.block);
    }

    fn visit_impl_item_fn(&mut self, item: &ImplItemFn) {
        self.function(&item.sig, &item.attrs, &item.block);
    }

    fn visit_trait_item_fn(&mut self, item: &TraitItemFn) {
        if let Some(body) = &item.default {
            self.function(&item.sig, &item.attrs, body);
        }
    }

    fn visit_item_mod(&mut self, item: &syn::ItemMod) {
        if !is_not_built(&item.attrs) {
            self.path.push(item.ident.to_string());
            visit::visit_item_mod(self, item);
            self.path.pop();
        }
    }

    fn visit_item_impl(&mut self, item: &syn::ItemImpl) {
        let of = item.trait_.as_ref().and_then(|(_, path, _)| path.segments.last());
        let of = of.map(|segment| segment.ident.to_string());
        // Nothing depends on what a debugger shows.
        if is_not_built(&item.attrs) || of.as_deref() == Some("Debug") {
            return;
        }
        let name = self.text(item.self_ty.span()).to_string();
        self.path.push(of.map_or_else(|| name.clone(), |of| format!("<{name} as {of}>")));
        visit::visit_item_impl(self, item);
        self.path.pop();
    }

    fn visit_item_trait(&mut self, item: &syn::ItemTrait) {
        self.path.push(item.ident.to_string());
        visit::visit_item_trait(self, item);
        self.path.pop();
    }

    // No expressions that run: patterns, types, constants, attributes.
    fn visit_attribute(&mut self, _: &Attribute) {}
    fn visit_pat(&mut self, _: &syn::Pat) {}
    fn visit_type(&mut self, _: &syn::Type) {}
    fn visit_item_const(&mut self, _: &syn::ItemConst) {}
    fn visit_item_static(&mut self, _: &syn::ItemStatic) {}
    fn visit_expr_const(&mut self, _: &syn::ExprConst) {}
    fn visit_angle_bracketed_generic_arguments(&mut self, _: &syn::AngleBracketedGenericArguments) {
    }

    fn visit_expr_repeat(&mut self, expr: &syn::ExprRepeat) {
        self.visit_expr(&expr.expr);
    }

    fn visit_macro(&mut self, mac: &syn::Macro) {
        self.condition_of_macro(mac);
    }

    fn visit_stmt(&mut self, stmt: &Stmt) {
        let is_removable = match stmt {
            Stmt::Expr(expr, Some(_)) => operators::is_removable(expr),
            Stmt::Macro(stmt) => ["ensure", "say", "eprintln", "writeln"]
                .iter()
                .any(|name| stmt.mac.path.is_ident(name)),
            _ => false,
        };
        if is_removable {
            self.add("statement", Form::Statement, stmt.span().byte_range(), String::new());
        }
        visit::visit_stmt(self, stmt);
    }

    fn visit_expr_if(&mut self, expr: &syn::ExprIf) {
        if !binds(&expr.cond) {
            let mutated = format!("!({})", self.text(expr.cond.span()));
            self.expression("condition", expr.cond.span(), mutated);
        }
        visit::visit_expr_if(self, expr);
    }

    fn visit_arm(&mut self, arm: &syn::Arm) {
        if let Some((_, guard)) = arm.guard.as_ref().filter(|(_, guard)| !binds(guard)) {
            let mutated = format!("!({})", self.text(guard.span()));
            self.expression("condition", guard.span(), mutated);
        }
        visit::visit_arm(self, arm);
    }

    fn visit_expr(&mut self, expr: &Expr) {
        if !binds(expr) || !matches!(expr, Expr::Binary(_)) {
            let source = self.source;
            let text = |span: Span| &source[span.byte_range()];
            for (operator, span, mutated) in operators::changes(expr, &text) {
                self.expression(operator, span, mutated);
            }
        }
        visit::visit_expr(self, expr);
    }
}
