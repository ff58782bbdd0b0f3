//! No function over 70 lines, no file over 1,000 lines of code: sizes that a reader can hold.

use anyhow::Context as _;
use proc_macro2::Span;
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

use super::{Finding, Source};

const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 1_000;

pub(super) fn check(sources: &[Source]) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for source in sources {
        let place = source.path.display().to_string();
        let file = syn::parse_file(&source.text).with_context(|| place.clone())?;
        let mut sizes = Sizes { functions: Vec::new(), test_lines: 0 };
        sizes.visit_file(&file);
        for (name, line, lines) in sizes.functions {
            if lines > FUNCTION_LINES_MAX {
                let what = format!("`{name}` has {lines} lines, {FUNCTION_LINES_MAX} are the most");
                findings.push(Finding { place: format!("{place}:{line}"), what });
            }
        }
        let lines = source.text.lines().count() - sizes.test_lines;
        if lines > FILE_LINES_MAX {
            let what = format!("{lines} lines without tests, {FILE_LINES_MAX} are the most");
            findings.push(Finding { place, what });
        }
    }
    Ok(findings)
}

struct Sizes {
    /// Name, first line, number of lines.
    functions: Vec<(String, usize, usize)>,
    /// Lines inside `#[cfg(test)]` modules.
    test_lines: usize,
}

impl Sizes {
    fn note(&mut self, name: &syn::Ident, signature: Span, body: Span) {
        let first = signature.start().line;
        self.functions.push((name.to_string(), first, body.end().line + 1 - first));
    }
}

impl<'ast> Visit<'ast> for Sizes {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.note(&item.sig.ident, item.sig.span(), item.block.span());
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.note(&item.sig.ident, item.sig.span(), item.block.span());
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if item.content.is_some() && item.attrs.iter().any(is_cfg_test) {
            self.test_lines += item.span().end().line + 1 - item.span().start().line;
        }
        visit::visit_item_mod(self, item);
    }
}

fn is_cfg_test(attribute: &syn::Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute.parse_args::<syn::Ident>().is_ok_and(|argument| argument == "test")
}
