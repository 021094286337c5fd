//! A guard before the parser. Where the grammar is ambiguous (`(a=…` may begin an arrow function,
//! `a<…` type arguments) oxc tries one way and then the other, and keeps both in memory: time and
//! memory grow with the square of how deep such things nest. No script that somebody wrote comes
//! near these bounds.

use super::ScriptProblem;
use super::position::Positions;

/// Brackets of all kinds that may be open at once. Those in texts and comments count as well.
const MAX_DEPTH: usize = 250;
/// `<` that may follow each other without an end of a statement or block between them.
const MAX_LESS: usize = 250;

/// Refuses what nests deeper than any script that somebody wrote.
///
/// # Errors
/// Where it gets too deep.
pub(super) fn check(source: &str, positions: &Positions<'_>) -> Result<(), ScriptProblem> {
    let mut depth = 0_usize;
    let mut less = 0_usize;
    for (at, byte) in source.bytes().enumerate() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b'<' => less += 1,
            _ => {}
        }
        if matches!(byte, b';' | b'{' | b'}') {
            less = 0;
        }
        if depth > MAX_DEPTH || less > MAX_LESS {
            let problem = format!("more than {MAX_DEPTH} brackets are open here; no more may be");
            let place = u32::try_from(at).ok().map(|at| positions.of(at));
            return Err(ScriptProblem::new(place, problem));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::script::compile;

    /// Sources as long as may be, of what makes parsers go deep, each with the beginnings that lead
    /// elsewhere.
    #[test]
    fn no_source_is_too_much_for_the_compiler() {
        for piece in [
            "(", "[", "{", "(a=", "async(", "a<", "f<a<", "<a>(", "`${", "a=>", "!", "-~", "+1",
            ".b", "()", "a?b:",
        ] {
            for beginning in ["", "export default a=", "type A=", "let a:"] {
                let source = format!("{beginning}{}", piece.repeat(102_000 / piece.len()));
                // Whatever comes of it: it comes back.
                let _ = compile(&source);
            }
        }
    }

    #[test]
    fn says_where_it_gets_too_deep() {
        let problem = compile(&format!("export default () =>\n{}", "(".repeat(300))).unwrap_err();
        assert_eq!(
            (problem.line, problem.column),
            (Some(2), Some(251)),
            "{problem}"
        );
        assert!(
            compile(
                "export default (n) => { let a = 0; for (let i = 0; i < n; i++) { a += i < 3 \
                     ? 1 : 2 } return a }"
            )
            .is_ok()
        );
    }
}
