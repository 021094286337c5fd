//! Sources of scripts, in JavaScript and TypeScript.

use std::sync::LazyLock;

use posthaste_shared::domain::id::TenantId;
use posthaste_worker::script::{Compiler, Uncompiled};
use tokio::runtime::Runtime;

use super::Target;

pub(super) const TARGET: Target = Target {
    name: "scripts",
    about: "a script's source: compiled, or refused with a reason",
    run,
    tokens: &[
        "export default",
        "async function",
        "(notification)",
        "=>",
        "return",
        "await",
        "fetch(",
        "import",
        "enum",
        "type X =",
        "interface",
        "class",
        "static",
        "`${",
        "}`",
        "//",
        "/*",
        "*/",
        "\u{2028}",
        "yield",
        "let",
        "?.",
        "??=",
        "@d",
        "namespace",
        "declare",
        "as const",
        "satisfies",
    ],
};

/// Longer sources than people write take long to try, and are bounded elsewhere.
const LONGEST: usize = 4 * 1024;

fn run(input: &[u8]) {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
    static COMPILER: LazyLock<Compiler> = LazyLock::new(Compiler::in_threads);
    let Ok(source) = std::str::from_utf8(input) else {
        return;
    };
    let source = source.get(..LONGEST).unwrap_or(source);
    let compiled = RUNTIME.block_on(COMPILER.compile(&TenantId::default(), source));
    match compiled {
        Ok(_) => {}
        Err(Uncompiled::Refused(problem)) => {
            assert!(!problem.to_string().is_empty(), "refused without a reason");
        }
        Err(busy @ Uncompiled::Busy(_)) => panic!("the compiler broke: {busy}"),
    }
}
