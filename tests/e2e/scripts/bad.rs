//! Bad scripts: each fails by itself, and says what is wrong with it.

use serde_json::json;

use super::{gateway, sms};
use crate::wire_formats::{Scene, end, error};

/// What a script does wrong, the attempt's result, the delivery's reason, the error's code, and
/// what is told.
const BAD: &[(&str, &str, &str, &str, &str)] = &[
    (
        "while (true) {}",
        "timeout",
        "retries_exhausted",
        "timeout",
        "1000 ms",
    ),
    (
        "await new Promise((done) => setTimeout(done, 60000));",
        "timeout",
        "retries_exhausted",
        "timeout",
        "1000 ms",
    ),
    (
        "await new Promise(() => {});",
        "script",
        "rejected",
        "script_threw",
        "pending",
    ),
    (
        "new ArrayBuffer(1024 ** 3);",
        "script",
        "rejected",
        "script_memory",
        "32 MiB of memory",
    ),
    (
        "const all = []; for (;;) all.push(new Uint8Array(1024 ** 2));",
        "script",
        "rejected",
        "script_memory",
        "32 MiB of memory",
    ),
    (
        "\"x\".repeat(1024 ** 3 - 1).length;",
        "script",
        "rejected",
        "script_memory",
        "32 MiB of memory",
    ),
    (
        "const f = () => f() + 1; f();",
        "script",
        "rejected",
        "script_threw",
        "stack",
    ),
    (
        "throw new Error(\"out of credit\");",
        "script",
        "rejected",
        "script_threw",
        "out of credit (line 2, column",
    ),
    (
        "await Promise.reject(new TypeError(\"gateway said no\"));",
        "script",
        "rejected",
        "script_threw",
        "TypeError: gateway said no",
    ),
    (
        "await Promise.reject(\"just text\");",
        "script",
        "rejected",
        "script_threw",
        "just text",
    ),
    (
        "const a = 1;\n  const b = 2;\n  return e.nothing.deeper;",
        "script",
        "rejected",
        "script_threw",
        "line 4, column",
    ),
    (
        "return { toJSON() { throw new Error(\"not to be told\"); } };",
        "script",
        "rejected",
        "script_threw",
        "not to be told (line 2",
    ),
    (
        "Deno.exit(1);",
        "script",
        "rejected",
        "script_threw",
        "line 2",
    ),
    (
        "await fetch(\"http://169.254.169.254/latest/meta-data/\");",
        "blocked",
        "blocked",
        "private_address",
        "169.254.169.254",
    ),
    (
        "await fetch(\"http://2852039166/\");",
        "blocked",
        "blocked",
        "private_address",
        "169.254.169.254",
    ),
    (
        "await fetch(\"http://[::ffff:169.254.169.254]/\");",
        "blocked",
        "blocked",
        "private_address",
        "169.254.169.254",
    ),
    (
        "await fetch(\"http://10.0.0.1/\");",
        "blocked",
        "blocked",
        "private_address",
        "10.0.0.1",
    ),
];

#[tokio::test]
async fn each_fails_by_itself_and_says_why() {
    let scene = Scene::start().await;
    for (body, result, reason, code, told) in BAD {
        let script = format!(
            "export default async function (e) {{\n  {body}\n  return {{ code: \"ok\" }};\n}}\n"
        );
        // All but those that take for ever have time, however busy the machine.
        let timeout_ms = if *code == "timeout" { 1_000 } else { 30_000 };
        let endpoint = gateway(&scene, &script, timeout_ms, 0).await;
        let delivery = scene.outcome(&endpoint, sms()).await;
        assert_eq!(end(&delivery), ("failed", *reason), "{body} {delivery}");
        let attempt = &delivery["attempts"][0];
        assert_eq!(
            (&attempt["result"], &attempt["number"]),
            (&json!(result), &json!(1)),
            "{body}"
        );
        assert_eq!(error(&delivery, 0, "code"), *code, "{body}");
        let text = error(&delivery, 0, "text");
        assert!(text.contains(told), "{body} {text}");
        assert_eq!(delivery["last_error"], text);
        let took = attempt["duration_ms"].as_f64().unwrap();
        if *code == "timeout" {
            assert!((1_000.0..4_000.0).contains(&took), "{body} {took} ms");
        }
    }
    // The program is none the worse for all that.
    let endpoint = gateway(
        &scene,
        "export default () => ({ code: \"ok\" });",
        30_000,
        0,
    )
    .await;
    assert_eq!(end(&scene.outcome(&endpoint, sms()).await).0, "delivered");
    assert!(!scene.up.log().contains("panicked"), "{}", scene.up.log());
}

#[tokio::test]
async fn nothing_is_left_from_call_to_call() {
    let scene = Scene::start().await;
    let script = r#"let calls = 0;
        export default () => {
          globalThis.seen = (globalThis.seen ?? 0) + 1;
          Object.prototype.leak = 1;
          console.log(++calls, globalThis.seen, "leak" in {});
          return { code: "ok" };
        };"#;
    let endpoint = gateway(&scene, script, 30_000, 0).await;
    for _ in 0..3 {
        let delivery = scene.outcome(&endpoint, sms()).await;
        assert_eq!(
            delivery["attempts"][0]["console"].as_str().unwrap().trim(),
            "1 1 true",
            "{delivery}"
        );
    }
    let other = gateway(
        &scene,
        "export default () => { console.log({}.leak, globalThis.seen); };",
        30_000,
        0,
    )
    .await;
    let delivery = scene.outcome(&other, sms()).await;
    assert_eq!(
        delivery["attempts"][0]["console"].as_str().unwrap().trim(),
        "undefined undefined",
        "{delivery}"
    );
}

#[tokio::test]
async fn what_it_writes_to_the_console_is_cut() {
    let scene = Scene::start().await;
    let script =
        "export default () => { for (let n = 0; n < 100000; n++) console.log(\"line\", n); };";
    let endpoint = gateway(&scene, script, 30_000, 0).await;
    let delivery = scene.outcome(&endpoint, sms()).await;
    let console = delivery["attempts"][0]["console"]
        .as_str()
        .expect("a console");
    assert!(
        console.starts_with("line 0\nline 1\n") && console.len() < 4_300,
        "{} {console}",
        console.len()
    );
    // Of one that fails as well: there it is needed most.
    let script =
        "export default () => { console.error(\"about to\"); throw new Error(\"fail\"); };";
    let endpoint = gateway(&scene, script, 30_000, 0).await;
    let delivery = scene.outcome(&endpoint, sms()).await;
    assert_eq!(end(&delivery), ("failed", "rejected"));
    assert_eq!(
        delivery["attempts"][0]["console"]
            .as_str()
            .expect("a console")
            .trim(),
        "about to"
    );
}
