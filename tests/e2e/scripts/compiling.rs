//! Sources that are made to be large or slow to compile: they are refused, and nobody else notices.

use std::fmt::Write as _;
use std::process::Stdio;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::eventually;
use crate::wire_formats::Scene;

/// An enum of which each member is twice the one before: 1 KiB of source, terabytes of values.
fn doubling(salt: usize) -> String {
    let mut source = format!("enum Bomb {{\n  M0 = \"{salt:010}\",\n");
    for member in 1..40 {
        let _ = writeln!(
            source,
            "  M{member} = M{before} + M{before},",
            before = member - 1
        );
    }
    source + "}\nexport default (n) => n;\n"
}

/// One that no check before the parser knows: only its process keeps it from the others.
fn deep(salt: usize) -> String {
    format!(
        "// {salt}\nexport default function* () {{ {} }}",
        "yield ".repeat(16_000)
    )
}

#[tokio::test]
async fn sources_made_to_grow_are_refused_and_the_api_stays_at_hand() {
    let scene = Scene::start().await;
    let asked = (0..32).map(|n| {
        let api = &scene.api;
        let url = scene.receiver.url("/ok");
        let source = if n % 4 == 3 { deep(n) } else { doubling(n) };
        async move {
            let body =
                json!({ "url": url, "wire_format": "raw", "settings": { "transform": source } });
            api.call(Method::POST, "/v1/endpoints", Some(body)).await
        }
    });
    let mut all = Box::pin(futures::future::join_all(asked));
    let answers = loop {
        let cheap = tokio::time::timeout(Duration::from_secs(10), scene.api.get("/openapi.json"));
        tokio::select! {
            answers = &mut all => break answers,
            // Beside all of that, what costs nothing is answered. The bound is far above what it
            // takes.
            answered = cheap => {
                answered.expect("an answer while scripts are compiled");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    };
    for (n, (status, answer)) in answers.into_iter().enumerate() {
        // Where this machine is busy enough, one may have to ask again; nothing is taken in any
        // case.
        if status == StatusCode::SERVICE_UNAVAILABLE {
            assert_eq!(answer["code"], "unavailable", "{answer}");
            continue;
        }
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{n}: {answer}");
        assert_eq!(
            answer["errors"][0]["field"], "settings.transform",
            "{answer}"
        );
        let problem = answer["errors"][0]["problem"].as_str().unwrap();
        if n % 4 != 3 {
            assert!(
                problem.contains("line 17, column 3: the values of the script's enums"),
                "{problem}"
            );
        }
    }
}

/// The process that compiles bounds itself before it reads anything, and is not handed the
/// credentials of its parent.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_process_that_compiles_has_limits() {
    let program = crate::support::posthaste();
    let mut command = tokio::process::Command::new(program);
    command
        .arg("compile-script")
        // As the worker starts it: its bound is one of addresses, and the allocator would reserve
        // more than that.
        .env("MIMALLOC_ARENA_RESERVE", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let id = child.id().unwrap();
    let limits = eventually("limits", async || {
        let limits = std::fs::read_to_string(format!("/proc/{id}/limits")).unwrap();
        let cpu = limits
            .lines()
            .find(|line| line.starts_with("Max cpu time"))
            .unwrap();
        (!cpu.contains("unlimited")).then_some(limits)
    })
    .await;
    let space = limits
        .lines()
        .find(|line| line.starts_with("Max address space"))
        .unwrap();
    assert!(!space.contains("unlimited"), "{limits}");
    drop(child.stdin.take());
    let answer = child.wait_with_output().await.unwrap();
    assert!(answer.status.success());
    assert!(
        String::from_utf8_lossy(&answer.stdout).contains("there is no default export"),
        "{answer:?}"
    );
}
