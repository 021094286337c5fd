//! A bound on the values of TypeScript's enums, which are worked out while a script is compiled.
//!
//! `enum E { A = "x", B = A + A, C = B + B, … }` doubles with each member: 40 members of a few
//! bytes come to a terabyte. The transformer has no bound of its own, so the sizes are worked out
//! first, which takes no more than a walk over the tree. Names are matched without regard to scope,
//! which can only make a size too large.

use std::collections::HashMap;

use oxc_ast::ast::{
    Expression, Program, TSEnumDeclaration, TSEnumMember, TSEnumMemberName, TSModuleDeclaration,
    TSModuleDeclarationName,
};
use oxc_ast_visit::{Visit, walk};
use oxc_span::Span;

/// What all values, and all that is put together on the way to them, may come to, in bytes. A
/// script of the longest source has no use for more; what is written out is part of that source.
const MAX_BYTES: usize = 1024 * 1024;
/// The longest name of an enum or a namespace, in bytes: it is written anew for each of the
/// members, and for each place in it where one of them is used.
const MAX_NAME_BYTES: usize = 200;
/// No number is longer than this as text.
const NUMBER_BYTES: usize = 25;

/// The first thing that is too large, and what to do about it.
pub(super) fn too_large(program: &Program<'_>) -> Option<(Span, String)> {
    let mut sizes = Sizes {
        members: HashMap::new(),
        spent: 0,
        found: None,
    };
    sizes.visit_program(program);
    sizes.found
}

struct Sizes<'a> {
    /// The largest value of any member of a name, in bytes.
    members: HashMap<&'a str, usize>,
    /// What was put together so far.
    spent: usize,
    found: Option<(Span, String)>,
}

impl<'a> Sizes<'a> {
    fn check_name(&mut self, span: Span, name: &str) {
        if name.len() > MAX_NAME_BYTES && self.found.is_none() {
            let problem = format!(
                "the name of an enum or a namespace may have at most {MAX_NAME_BYTES} bytes; this \
                 one has {}",
                name.len()
            );
            self.found = Some((span, problem));
        }
    }

    fn member(&mut self, member: &TSEnumMember<'a>) {
        let size = member
            .initializer
            .as_ref()
            .map_or(NUMBER_BYTES, |value| self.size(value));
        self.spent = self.spent.saturating_add(size);
        if self.spent > MAX_BYTES && self.found.is_none() {
            let problem = format!(
                "the values of the script's enums come to more than {MAX_BYTES} bytes here: build \
                 long texts at run \
                 time, in a function or a constant"
            );
            self.found = Some((member.span, problem));
        }
        let name = match &member.id {
            TSEnumMemberName::Identifier(name) => name.name.as_str(),
            TSEnumMemberName::String(name) | TSEnumMemberName::ComputedString(name) => {
                name.value.as_str()
            }
            TSEnumMemberName::ComputedTemplateString(_) => return,
        };
        let known = self.members.entry(name).or_default();
        *known = (*known).max(size);
    }

    /// The largest that the value can be as text. What is put together on the way counts as spent.
    fn size(&mut self, value: &Expression<'a>) -> usize {
        match value {
            Expression::StringLiteral(text) => text.value.len(),
            Expression::Identifier(name) => self.member_size(name.name.as_str()),
            Expression::StaticMemberExpression(member) => {
                self.member_size(member.property.name.as_str())
            }
            Expression::ComputedMemberExpression(member) => match &member.expression {
                Expression::StringLiteral(name) => self.member_size(name.value.as_str()),
                _ => NUMBER_BYTES,
            },
            Expression::BinaryExpression(both) => {
                let size = self.size(&both.left).saturating_add(self.size(&both.right));
                self.spent = self.spent.saturating_add(size);
                size
            }
            Expression::UnaryExpression(of) => self.size(&of.argument),
            Expression::ParenthesizedExpression(of) => self.size(&of.expression),
            Expression::TemplateLiteral(template) => {
                let texts: usize = template
                    .quasis
                    .iter()
                    .map(|text| text.value.raw.len())
                    .sum();
                let size = template
                    .expressions
                    .iter()
                    .fold(texts, |sum, value| sum.saturating_add(self.size(value)));
                self.spent = self.spent.saturating_add(size);
                size
            }
            _ => NUMBER_BYTES,
        }
    }

    fn member_size(&self, name: &str) -> usize {
        self.members.get(name).copied().unwrap_or(NUMBER_BYTES)
    }
}

impl<'a> Visit<'a> for Sizes<'a> {
    fn visit_ts_enum_declaration(&mut self, declaration: &TSEnumDeclaration<'a>) {
        self.check_name(declaration.id.span, declaration.id.name.as_str());
        // Enums within the members' values come first, as they do where the values are worked out.
        walk::walk_ts_enum_declaration(self, declaration);
        for member in &declaration.body.members {
            if self.found.is_none() {
                self.member(member);
            }
        }
    }

    fn visit_ts_module_declaration(&mut self, declaration: &TSModuleDeclaration<'a>) {
        if let TSModuleDeclarationName::Identifier(name) = &declaration.id {
            self.check_name(name.span, name.name.as_str());
        }
        walk::walk_ts_module_declaration(self, declaration);
    }
}
