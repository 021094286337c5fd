//! From the source as written to bytecode: parse, check, drop the types, print, compile. Where the
//! time and the memory that this takes are bounded is [`super::compiler`].

use std::path::Path;
use std::thread;

use oxc_allocator::Allocator;
use oxc_codegen::{Codegen, CodegenOptions, CodegenReturn, CommentOptions};
use oxc_diagnostics::{Diagnostics, OxcDiagnostic};
use oxc_parser::{ParseOptions, Parser};
use oxc_semantic::SemanticBuilder;
use oxc_span::SourceType;
use oxc_transformer::{TransformOptions, Transformer};

use super::nesting;
use super::position::{Map, Position, Positions};
use super::{Compiled, MAX_SOURCE_BYTES, ScriptProblem, bytecode, check};

/// The parser goes one level deeper for each nested construct, and a source may nest as deep as it
/// is long. This much of address space is enough for the longest source of the deepest construct
/// that the tests know, which uses some 150 MiB of it; what is not used is never there.
pub(super) const STACK_BYTES: usize = 256 * 1024 * 1024;
/// The most plain JavaScript that a source may be turned into: ten times the longest one. Types are
/// left out of it; what makes it longer is what enums, namespaces and parameter properties are
/// written out as.
pub(super) const MAX_CODE_BYTES: usize = 1024 * 1024;
/// The most bytecode that is kept of a script.
pub(super) const MAX_BYTECODE_BYTES: usize = 4 * 1024 * 1024;
/// Places of the code for which the place as written is kept. A source of 100 KiB has some 30,000;
/// beyond this many, errors at run time name no place.
pub(super) const MAX_PLACES: usize = 100_000;

/// Compiles in a thread of its own, for the sake of its stack. Neither time nor memory is bounded
/// here.
pub(super) fn compile(source: &str) -> Result<Compiled, ScriptProblem> {
    if source.len() > MAX_SOURCE_BYTES {
        let problem = format!(
            "the script has {} bytes; {MAX_SOURCE_BYTES} are allowed",
            source.len()
        );
        return Err(ScriptProblem::of_all(problem));
    }
    nesting::check(source, &Positions::new(source))?;
    let failed = || ScriptProblem::of_all("the script cannot be compiled".to_owned());
    thread::scope(|scope| {
        let builder = thread::Builder::new()
            .name("script-compile".to_owned())
            .stack_size(STACK_BYTES);
        let thread = builder
            .spawn_scoped(scope, || translate(source))
            .map_err(|_| failed())?;
        thread.join().unwrap_or_else(|_| Err(failed()))
    })
}

fn translate(source: &str) -> Result<Compiled, ScriptProblem> {
    let positions = Positions::new(source);
    let allocator = Allocator::default();
    let options = ParseOptions {
        parse_regular_expression: true,
        ..ParseOptions::default()
    };
    let parsed = Parser::new(&allocator, source, SourceType::ts())
        .with_options(options)
        .parse();
    refuse(&parsed.diagnostics, &positions)?;
    let mut program = parsed.program;
    check::before(&program).map_err(|problem| problem.at(&positions))?;

    let semantic = SemanticBuilder::new_compiler()
        .with_excess_capacity(2.0)
        .with_enum_eval(true)
        .build(&program);
    refuse(&semantic.diagnostics, &positions)?;
    let scoping = semantic.semantic.into_scoping();
    let transformed = Transformer::new(
        &allocator,
        Path::new(bytecode::SCRIPT),
        &TransformOptions::default(),
    )
    .build_with_scoping(scoping, &mut program);
    refuse(&transformed.diagnostics, &positions)?;
    check::after(&program).map_err(|problem| problem.at(&positions))?;

    let options = CodegenOptions {
        comments: CommentOptions::disabled(),
        source_map_path: Some(bytecode::SCRIPT.into()),
        // Indentation of what is nested deep would be quadratic.
        indent_width: 0,
        ..CodegenOptions::default()
    };
    let CodegenReturn { code, map, .. } = Codegen::new()
        .with_options(options)
        .with_source_text(source)
        .build(&program);
    if code.len() > MAX_CODE_BYTES {
        let problem = format!(
            "the script becomes {} bytes of JavaScript when its types are left out; \
             {MAX_CODE_BYTES} are allowed",
            code.len()
        );
        return Err(ScriptProblem::of_all(problem));
    }
    let tokens = map.iter().flat_map(|map| map.get_tokens()).take(MAX_PLACES);
    let map = Map::new(tokens.map(|token| {
        let written = Position::from_zero(token.get_src_line(), token.get_src_col());
        (
            Position::from_zero(token.get_dst_line(), token.get_dst_col()),
            written,
        )
    }));
    match bytecode::compile(bytecode::SCRIPT, &code) {
        Ok(bytecode) if bytecode.bytes() > MAX_BYTECODE_BYTES => {
            let problem = format!(
                "the script becomes {} bytes of bytecode; {MAX_BYTECODE_BYTES} are allowed",
                bytecode.bytes()
            );
            Err(ScriptProblem::of_all(problem))
        }
        Ok(bytecode) => Ok(Compiled::new(bytecode, map)),
        Err(refused) => {
            let position = refused.position.and_then(|position| map.written(position));
            Err(ScriptProblem::new(position, refused.message))
        }
    }
}

/// The first error of a stage as the problem that it is.
fn refuse(diagnostics: &Diagnostics, positions: &Positions<'_>) -> Result<(), ScriptProblem> {
    diagnostics
        .errors()
        .next()
        .map_or(Ok(()), |error| Err(problem(error, positions)))
}

fn problem(error: &OxcDiagnostic, positions: &Positions<'_>) -> ScriptProblem {
    // Where there are several places, the others are what came before it and does not fit.
    let last = error.labels.iter().max_by_key(|label| label.offset());
    let position = last.map(|label| positions.of(label.offset()));
    let mut message = error.message.trim().to_owned();
    if let Some(label) = last.and_then(|label| label.label()) {
        message = format!("{message} ({label})");
    }
    if let Some(help) = &error.help {
        message = format!("{message}. {help}");
    }
    ScriptProblem::new(position, message)
}
