//! That a script cannot have more than its share, and cannot harm the process.

use posthaste_worker::script::{Returned, ScriptError};
use std::time::{Duration, Instant};

use crate::{call, call_within, failure, returned};

#[tokio::test]
async fn a_function_is_called_with_its_argument() {
    let called = call(
        "export default (e) => ({ ...e, b: [1, 2.5, 'ü'] })",
        r#"{"a":"\u00e9"}"#,
    )
    .await;
    assert_eq!(
        called.result,
        Ok(Returned::Json(r#"{"a":"é","b":[1,2.5,"ü"]}"#.into()))
    );
    for nothing in ["undefined", "() => 1", "Symbol()"] {
        let called = call(&format!("export default async () => {nothing}"), "null").await;
        assert_eq!(called.result, Ok(Returned::Nothing), "{nothing}");
    }
    assert_eq!(returned("export default () => null").await, "null");
}

#[tokio::test]
async fn endless_scripts_end_at_the_deadline() {
    for source in [
        "export default () => { while (true) {} }",
        "while (true) {}\nexport default () => 1",
        "export default () => { try { while (true) {} } catch { return 1 } finally { while (true) \
         {} } }",
        "export default async () => { for (;;) await null }",
        "export default async () => { const again = () => queueMicrotask(again); again(); await \
         new Promise(() => {}) }",
        "export default () => /^(a+)+$/.test('a'.repeat(60) + 'b')",
        "export default () => { const a = []; a.length = 4e6; a.sort(() => { while (true) {} }); \
         [3, 2, 1].sort(() => { while (true) {} }) }",
        "export default async () => { await new Promise((done) => setTimeout(done, 60_000)) }",
        "export default async () => { setInterval(() => {}, 0); await new Promise(() => {}) }",
        "export default () => ({ toJSON() { while (true) {} } })",
        "export default () => { throw { get message() { while (true) {} }, toString() { while \
         (true) {} } } }",
        "export default () => { throw Object.defineProperty(new Error, 'message', { get() { while \
         (true) {} } }) }",
    ] {
        let begun = Instant::now();
        let called = call_within(source, "null", Duration::from_millis(300)).await;
        assert_eq!(called.result, Err(ScriptError::TimedOut), "{source}");
        assert!(
            begun.elapsed() < Duration::from_secs(3),
            "{source}: {:?}",
            begun.elapsed()
        );
    }
}

#[tokio::test]
async fn memory_is_bounded() {
    for source in [
        "export default () => new ArrayBuffer(1e9).byteLength",
        "export default () => 'x'.repeat(1e9)",
        "export default () => { const all = []; while (true) all.push({ a: all.length }) }",
        "export default () => { let s = 'x'; while (true) s += s }",
        "export default () => { let s = ''; while (true) s = 'abc' + s + 'abc'.repeat(1000) }",
        "export default () => { const all = []; while (true) all.push(new Uint8Array(1000)) }",
        "export default () => new Array(1e8).fill(1)",
        "export default () => JSON.parse('[' + '[1],'.repeat(5e6) + '1]')",
        "export default async () => { while (true) await Promise.all(Array.from({ length: 1e7 }, \
         async (_, i) => ({ i }))) }",
        "const all = []; while (true) all.push([]);\nexport default () => 1",
        "export default () => { const m = new Map(); for (let i = 0; ; i++) m.set(i, {}) }",
        "globalThis.keep = []; export default () => { while (true) \
         globalThis.keep.push(`${globalThis.keep.length}`.repeat(10)) }",
    ] {
        let error = failure(source).await;
        let fits = match &error {
            ScriptError::OutOfMemory => true,
            ScriptError::Threw { text } => {
                text.contains("RangeError") || text.contains("string too long")
            }
            _ => false,
        };
        assert!(fits, "{source}: {error:?}");
    }
}

#[tokio::test]
async fn a_script_may_catch_that_memory_is_short() {
    let source =
        "export default () => { try { 'x'.repeat(1e9) } catch (error) { return String(error) } }";
    assert_eq!(returned(source).await, r#""InternalError: out of memory""#);
}

/// What runs with almost no memory left may fail in any way but one.
#[tokio::test]
async fn the_edge_of_memory_does_no_harm() {
    for act in [
        "console.log([{}])",
        "new URL('https://a.b/?c=d')",
        "await fetch('https://10.0.0.1/')",
        "null.a",
    ] {
        for freed in 0..8 {
            let source = format!(
                "export default async () => {{
                   const keep = [];
                   for (let size = 4096; size >= 64;) {{
                     try {{ keep.push(new ArrayBuffer(size)) }} catch {{ size /= 2 }}
                   }}
                   while (keep.at(-1).byteLength < 4096) keep.pop();
                   for (let i = 0; i < {freed} * 4; i++) keep.pop();
                   try {{ {act} }} catch {{}}
                   return keep.length > 0;
                 }}"
            );
            let called = call(&source, "null").await;
            let fits = matches!(
                &called.result,
                Ok(Returned::Json(_))
                    | Err(ScriptError::OutOfMemory
                        | ScriptError::Threw { .. }
                        | ScriptError::Fetch { .. })
            );
            assert!(fits, "{act}, {freed}: {:?}", called.result);
        }
    }
}

#[tokio::test]
async fn deep_recursion_is_an_error() {
    for source in [
        "export default () => { const deeper = (n) => deeper(n + 1) + 1; return deeper(0) }",
        "export default () => JSON.parse('['.repeat(1e6))",
        "export default () => { let a = []; for (let i = 0; i < 1e5; i++) a = [a]; return a }",
        "export default () => { let a = []; for (let i = 0; i < 1e5; i++) a = [a]; return \
         a.flat(Infinity).length + String(a) }",
        "export default () => new RegExp('('.repeat(1e5)).test('a')",
        "export default () => eval('('.repeat(1e6))",
        "export default () => { const p = new Proxy({}, { get: (t, k, r) => r[k] }); return p.a }",
        "export default () => { let f = () => 1; for (let i = 0; i < 1e5; i++) f = f.bind(); \
         return f() }",
    ] {
        let error = failure(source).await;
        let fits = match &error {
            ScriptError::Threw { text } => ["RangeError", "InternalError", "SyntaxError"]
                .iter()
                .any(|kind| text.contains(kind)),
            ScriptError::OutOfMemory => true,
            _ => false,
        };
        assert!(fits, "{source}: {error:?}");
    }
}

#[tokio::test]
async fn what_is_returned_is_bounded() {
    let long = "export default () => 'x'.repeat(256 * 1024 - 2)";
    assert_eq!(returned(long).await.len(), 256 * 1024);
    let error = failure("export default () => 'x'.repeat(256 * 1024 - 1)").await;
    let text = "the script returned 262145 bytes of JSON; 262144 are allowed".to_owned();
    assert_eq!(error, ScriptError::Threw { text });
}

#[tokio::test]
async fn the_console_is_kept_up_to_a_bound() {
    let called = call(
        "export default () => { console.log('a', 1, { b: [2n, new Error('c')] }); \
              console.error(null) }",
        "null",
    )
    .await;
    assert_eq!(called.console, "a 1 {\"b\":[2n,[Error: c]]}\nnull\n");
    let called = call(
        "export default () => { for (;;) { console.log('x'.repeat(100)); if (Math.random() < \
         0.001) break } }",
        "null",
    )
    .await;
    assert!(called.console.len() < 5_000, "{}", called.console.len());
    let called = call(
        "export default () => { for (let i = 0; i < 1e4; i++) console.log(i, 'x'.repeat(100)) }",
        "null",
    )
    .await;
    assert!(
        called
            .console
            .ends_with("… (cut: only the first 4 KiB are kept)"),
        "{}",
        called.console
    );
    let called = call(
        "export default async () => { Promise.reject(new Error('lost')); await null; return 1 }",
        "null",
    )
    .await;
    assert_eq!(called.result, Ok(Returned::Json("1".into())));
    assert_eq!(
        called.console,
        "Unhandled rejection: Error: lost (line 1, column 49)\n"
    );
}

#[tokio::test]
async fn what_can_never_settle_is_told() {
    let begun = Instant::now();
    let error = failure("export default () => new Promise(() => {})").await;
    let ScriptError::Threw { text } = error else {
        panic!("{error:?}")
    };
    assert!(text.contains("can never come"), "{text}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn timers_are_bounded() {
    let error = failure("export default () => { for (;;) setTimeout(() => {}, 1e6) }").await;
    let ScriptError::Threw { text } = error else {
        panic!("{error:?}")
    };
    assert!(
        text.starts_with("RangeError: a script may have 1000 timers waiting"),
        "{text}"
    );
}

#[tokio::test]
async fn calls_share_nothing() {
    let source = "globalThis.count = (globalThis.count ?? 0) + 1; Array.prototype.count = \
                  globalThis.count;\n\
                  export default () => [globalThis.count, [].count, typeof Deno, typeof __host]";
    for _ in 0..3 {
        assert_eq!(returned(source).await, r#"[1,1,"undefined","undefined"]"#);
    }
}
