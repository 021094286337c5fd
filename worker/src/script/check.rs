//! What a script may not have, found in its syntax tree.

use oxc_ast::ast::{
    Decorator, ExportDefaultDeclarationKind, Expression, ImportExpression, Program, Statement,
    TSExportAssignment, TSImportEqualsDeclaration,
};
use oxc_ast_visit::Visit;
use oxc_ast_visit::walk;
use oxc_span::{GetSpan, Span};

use super::ScriptProblem;
use super::enums;
use super::position::Positions;

const NO_IMPORTS: &str = "scripts cannot import modules: what they need must be in the script \
                          itself \
                          (imports of types alone are fine, and are left out)";
const NO_DEFAULT: &str = "there is no default export; a script must have one that is a function, \
                          such as `export default async function (notification) { … }`";

/// What is wrong, and where.
#[derive(Debug)]
pub(super) struct Found {
    span: Span,
    message: String,
}

impl Found {
    fn new(span: Span, message: impl Into<String>) -> Self {
        Self {
            span,
            message: message.into(),
        }
    }

    pub(super) fn at(self, positions: &Positions<'_>) -> ScriptProblem {
        ScriptProblem::new(Some(positions.of(self.span.start)), self.message)
    }
}

/// Checks what only the tree with types still has.
pub(super) fn before(program: &Program<'_>) -> Result<(), Found> {
    let mut search = Search(None);
    search.visit_program(program);
    if let Some(found) = search.0 {
        return Err(found);
    }
    enums::too_large(program).map_or(Ok(()), |(span, message)| Err(Found { span, message }))
}

/// Checks the tree without types: imports that are left are of values.
pub(super) fn after(program: &Program<'_>) -> Result<(), Found> {
    let mut default = None;
    for statement in &program.body {
        match statement {
            Statement::ImportDeclaration(import) => {
                return Err(Found::new(import.span, NO_IMPORTS));
            }
            Statement::ExportAllDeclaration(export) => {
                return Err(Found::new(export.span, NO_IMPORTS));
            }
            Statement::ExportNamedDeclaration(export) => {
                if export.source.is_some() {
                    return Err(Found::new(export.span, NO_IMPORTS));
                }
                if let Some(named) = export
                    .specifiers
                    .iter()
                    .find(|named| named.exported.name() == "default")
                {
                    default = Some((named.span, None));
                }
            }
            Statement::ExportDefaultDeclaration(export) => {
                default = Some((export.declaration.span(), no_function(&export.declaration)));
            }
            _ => {}
        }
    }
    match default {
        None => Err(Found::new(Span::default(), NO_DEFAULT)),
        Some((span, Some(kind))) => Err(Found::new(
            span,
            format!("the default export must be a function; this is {kind}"),
        )),
        Some((_, None)) => Ok(()),
    }
}

/// What a default export is that plainly is not a function; `None` where it is one or may be.
fn no_function(declaration: &ExportDefaultDeclarationKind<'_>) -> Option<&'static str> {
    match declaration {
        ExportDefaultDeclarationKind::ClassDeclaration(_) => Some("a class"),
        ExportDefaultDeclarationKind::TSInterfaceDeclaration(_) => Some("an interface"),
        declaration => declaration.as_expression().and_then(|expression| {
            match expression.get_inner_expression() {
                Expression::ClassExpression(_) => Some("a class"),
                Expression::ObjectExpression(_) => Some("an object"),
                Expression::ArrayExpression(_) => Some("an array"),
                Expression::StringLiteral(_) | Expression::TemplateLiteral(_) => Some("a string"),
                Expression::NumericLiteral(_) | Expression::BigIntLiteral(_) => Some("a number"),
                Expression::BooleanLiteral(_) => Some("a boolean"),
                Expression::NullLiteral(_) => Some("null"),
                Expression::RegExpLiteral(_) => Some("a regular expression"),
                _ => None,
            }
        }),
    }
}

/// Finds the first thing that no stage after would refuse in words that help.
struct Search(Option<Found>);

impl Search {
    fn found(&mut self, span: Span, message: &str) {
        if self.0.is_none() {
            self.0 = Some(Found::new(span, message));
        }
    }
}

impl<'a> Visit<'a> for Search {
    fn visit_import_expression(&mut self, import: &ImportExpression<'a>) {
        self.found(import.span, NO_IMPORTS);
    }

    fn visit_ts_import_equals_declaration(&mut self, import: &TSImportEqualsDeclaration<'a>) {
        if import.module_reference.is_external() {
            self.found(import.span, NO_IMPORTS);
        }
        walk::walk_ts_import_equals_declaration(self, import);
    }

    fn visit_ts_export_assignment(&mut self, export: &TSExportAssignment<'a>) {
        self.found(export.span, "write `export default` in place of `export =`");
    }

    fn visit_decorator(&mut self, decorator: &Decorator<'a>) {
        self.found(decorator.span, "decorators are not supported");
    }
}
