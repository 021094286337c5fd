//! What is a script and what is not, and what becomes of its types.

use posthaste_worker::script::{MAX_SOURCE_BYTES, ScriptError, ScriptProblem, compile};

use crate::{failure, returned};

fn refused(source: &str) -> ScriptProblem {
    compile(source).unwrap_err()
}

#[track_caller]
fn assert_refused(source: &str, line: u32, column: u32, words: &str) {
    let problem = refused(source);
    assert_eq!(
        (problem.line, problem.column),
        (Some(line), Some(column)),
        "{problem}"
    );
    assert!(problem.message.contains(words), "{problem}");
}

#[test]
fn syntax_errors_name_their_place() {
    assert_refused(
        "export default () => {\n  return 1 +;\n}",
        2,
        13,
        "Unexpected token",
    );
    assert_refused(
        "export default () => {\n  let a = 1;\n  let a = 2;\n}",
        3,
        7,
        "already been declared",
    );
    assert_refused(
        "export default () => /(/;",
        1,
        23,
        "Unterminated capturing group",
    );
    let problem = refused("export default () => {\n  return 1 +;\n}");
    assert!(
        problem.to_string().starts_with("line 2, column 13: "),
        "{problem}"
    );
}

#[test]
fn a_default_export_is_a_function() {
    assert_refused("const a = 1;\n", 1, 1, "no default export");
    assert_refused("module.exports = () => 1;", 1, 1, "no default export");
    for (value, kind) in [
        ("{ send() {} }", "an object"),
        ("[1]", "an array"),
        ("'x'", "a string"),
        ("`x`", "a string"),
        ("12", "a number"),
        ("null", "null"),
        ("class {}", "a class"),
        ("({ a: 1 } as const)", "an object"),
    ] {
        assert_refused(&format!("\nexport default {value};"), 2, 16, kind);
    }
    for source in [
        "export default () => 1",
        "export default async function send() {}",
        "function send() {}\nexport { send as default }",
        "const send = () => 1;\nexport default send;",
        "export default (((e) => e) satisfies (e: unknown) => unknown)",
    ] {
        assert!(compile(source).is_ok(), "{source}");
    }
}

#[test]
fn imports_of_values_are_refused() {
    let end = "\nexport default () => a;";
    for import in [
        "import { a } from 'https://deno.land/x/a/mod.ts';",
        "import 'side-effect';",
        "import a from 'a';",
        "import * as a from 'a';",
        "export { a } from 'a';",
        "export * from 'a';",
        "import a = require('a');",
        "const a = await import('a');",
    ] {
        let problem = refused(&format!("\n{import}{end}"));
        assert_eq!(problem.line, Some(2), "{import}: {problem}");
        assert!(
            problem.message.contains("scripts cannot import modules"),
            "{import}: {problem}"
        );
    }
    assert_refused(
        "export default () =>\n  import('a')",
        2,
        3,
        "scripts cannot import modules",
    );
}

#[test]
fn imports_of_types_vanish() {
    for source in [
        "import { A, B } from 'https://deno.land/x/a/mod.ts';\nexport default (e: A): B => e;",
        "import type { A } from 'a';\nexport default (e: A) => e;",
        "import { type A } from 'a';\nexport default (e: A) => e;",
        "export type { A } from 'a';\nexport default (e: import('a').A) => e;",
    ] {
        compile(source).unwrap_or_else(|problem| panic!("{source}: {problem}"));
    }
}

#[test]
fn decorators_and_long_sources_are_refused() {
    assert_refused(
        "function d() {}\n@d class A {}\nexport default () => new A()",
        2,
        1,
        "decorators",
    );
    let longest = format!(
        "export default () => 1{}",
        " ".repeat(MAX_SOURCE_BYTES - 22)
    );
    assert!(compile(&longest).is_ok());
    let problem = refused(&format!("{longest} "));
    assert_eq!(
        problem.to_string(),
        "the script has 102401 bytes; 102400 are allowed"
    );
}

#[tokio::test]
async fn typescript_runs() {
    let source = r"
        interface Payload { to: string; body?: string }
        type Pair<T> = [T, T];
        enum Code { Ok = 'ok', Bad = 'bad' }
        const enum Level { Low = 1, High }
        namespace Names { export const suffix = '!' }
        abstract class Base { abstract name(): string }
        class Greeter extends Base {
            #count = 0;
            readonly greeting!: string;
            declare unused: number;
            constructor(private readonly who: string, public times: number = 2) { super() }
            name() { this.#count++; return this.who.repeat(this.times) + this.#count }
        }
        function pair<T extends string>(value: T): Pair<T> { return [value, value] }
        function over(value: string): string;
        function over(value: number): string;
        function over(value: unknown) { return String(value) }
        export default async function (e: Payload | null): Promise<unknown> {
            const fallback = { to: 'x' } satisfies Payload;
            const given = (e ?? fallback) as Payload;
            const first = pair<string>(given.to)[0]!;
            return [Code.Ok, Level.High, Names.suffix, new Greeter(first).name(),
                over(1), <string>first];
        }";
    assert_eq!(returned(source).await, r#"["ok",2,"!","xx1","1","x"]"#);
}

#[tokio::test]
async fn odd_sources_run() {
    for source in [
        "\u{feff}export default () => 1",
        "#!/usr/bin/env deno\nexport default () => 1",
        "'use strict';\r\nexport default () => {\r\n  return 1;\r\n}",
        "export default () => '\u{2028}😀é'.length - 3",
        "export default async (_: unknown) => { using_: for (const x of [1]) { break using_ } \
         return 1 }",
        "export const other = 2;\nexport default () => other - 1;\nexport { other as more };",
        "export default (() => { let f; return f = (n: unknown) => n ?? 1 })()",
        "var then = 1; export { then }; export default () => then",
        "export default () => Number(import.meta !== undefined)",
    ] {
        assert_eq!(returned(source).await, "1", "{source:?}");
    }
}

#[tokio::test]
async fn errors_name_the_place_in_the_source_as_written() {
    let source = "interface A {\n  b: string;\n}\n\nconst f = (a: A) => {\n  return (a as \
                  any).b();\n};\n\
                  export default (e: A) => f({ b: 'x' } as A);";
    let ScriptError::Threw { text } = failure(source).await else {
        panic!()
    };
    assert_eq!(text, "TypeError: not a function (line 6, column 21)");
    let ScriptError::Threw { text } =
        failure("type T = 1;\nexport default () => {\n  throw new Error('no');\n}").await
    else {
        panic!()
    };
    assert!(text.starts_with("Error: no (line 3, column "), "{text}");
    let ScriptError::Threw { text } = failure("export default () => { throw 'a string' }").await
    else {
        panic!()
    };
    assert_eq!(text, "\"a string\" (not an Error)");
}

#[tokio::test]
async fn the_top_level_may_await_and_its_failure_is_told() {
    let source = "const a = await new Promise((done) => setTimeout(() => done(7), 5));\nexport \
                  default () => a;";
    assert_eq!(returned(source).await, "7");
    let error = failure("let a: any = undefined;\na.b;\nexport default () => a;").await;
    let ScriptError::Unusable { text } = error else {
        panic!("{error:?}")
    };
    assert!(
        text.contains("top level") && text.contains("(line 2, column "),
        "{text}"
    );
    let error = failure("const a = 1;\nexport default a;").await;
    assert_eq!(
        error,
        ScriptError::Unusable {
            text: "the default export must be a function; it is of type number".into()
        }
    );
}

/// The parser recurses; no source that is allowed may take the process down.
#[test]
fn deep_sources_do_no_harm() {
    let all = MAX_SOURCE_BYTES - 100;
    for (open, middle, close) in [
        ("(", "1", ")"),
        ("[", "", "]"),
        ("{", "", "}"),
        ("!", "1", ""),
        ("a=>", "1", ""),
        ("a?1:", "1", ""),
        ("a=", "1", ""),
        ("if(a)", ";", ""),
        ("1+", "1", ""),
        ("a.", "b", ""),
        ("a(", "", ")"),
        ("`${", "1", "}`"),
        ("function a(){", "", "}"),
        ("class a{static{", "", "}}"),
        ("type a=A<", "B", ">"),
        ("typeof ", "1", ""),
        ("<A>", "1", ""),
        ("new ", "a", ""),
        ("a**", "1", ""),
    ] {
        let times = all / (open.len() + close.len());
        let source = format!(
            "export default (a) => 1;\n{}{middle}{}",
            open.repeat(times),
            close.repeat(times)
        );
        assert!(source.len() <= MAX_SOURCE_BYTES);
        let begun = std::time::Instant::now();
        let result = compile(&source).map(|_| ());
        println!("{open} x {times}: {result:?} in {:?}", begun.elapsed());
        assert!(
            begun.elapsed() < std::time::Duration::from_secs(30),
            "{open}"
        );
    }
}

/// The values of enums are worked out while a script is compiled, and could be made to grow without
/// end.
#[test]
fn enums_that_grow_are_refused_where_they_get_too_large() {
    let double = |first: &str, next: &dyn Fn(usize) -> String| {
        let members: Vec<String> = (1..40).map(next).collect();
        format!("{first}\n{}", members.join("\n"))
    };
    let bombs = [
        double("enum E { M0 = 'xxxxxxxxxx',", &|n| {
            format!("M{n} = M{0} + M{0},", n - 1)
        }) + "}",
        double("const enum E { M0 = 'xxxxxxxxxx',", &|n| {
            format!("M{n} = `${{M{0}}}${{M{0}}}`,", n - 1)
        }) + "}",
        double("enum E0 { A = 'xxxxxxxxxx' }", &|n| {
            format!("enum E{n} {{ A = E{0}.A + E{0}[\"A\"] }}", n - 1)
        }),
        double("enum E { M0 = 'xxxxxxxxxx' }", &|n| {
            format!("enum E {{ M{n} = (+M{0}) + (M{0}) }}", n - 1)
        }),
        double("namespace N { export enum E { M0 = 'xxxxxxxxxx',", &|n| {
            format!("M{n} = M{0} + M{0},", n - 1)
        }) + "} }",
        double("enum O { Z = (() => { enum E { M0 = 'xxxxxxxxxx',", &|n| {
            format!("M{n} = M{0} + M{0},", n - 1)
        }) + "} return 1 })() }",
        format!(
            "enum E {{ A = '{}', B = A\n{} }}",
            "x".repeat(50_000),
            "+A".repeat(20_000)
        ),
    ];
    for bomb in bombs {
        let problem = refused(&format!("{bomb}\nexport default () => 1"));
        assert!(
            problem.message.contains("enums come to more than"),
            "{problem}"
        );
        assert!(
            problem.line.is_some() && problem.column.is_some(),
            "{problem}"
        );
    }
    let long = refused(&format!(
        "namespace {} {{ export let a = 1 }}\nexport default () => 1",
        "N".repeat(300)
    ));
    assert!(
        long.message.contains("at most 200 bytes") && long.column == Some(11),
        "{long}"
    );
}

#[tokio::test]
async fn enums_that_somebody_wrote_keep_their_values() {
    let json = crate::returned(
        "enum Code { Ok = 'ok', Bad = Ok + '-not', Long = `${Ok}:${Bad}`, One = 1 << 3, Two, Sum \
         = One | Two }
         const enum Level { Low = -1, High = Code.Two }
         export default () => [Code.Bad, Code.Long, Code.Sum, Code[9], Level.Low, Level.High]",
    );
    assert_eq!(json.await, r#"["ok-not","ok:ok-not",9,"Sum",-1,9]"#);
}
