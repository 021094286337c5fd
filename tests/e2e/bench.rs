//! `posthaste bench`: what it counts, and that it leaves nothing behind. Never how fast it was.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use crate::support::{Backend, Place, eventually, process, required};

/// Runs a bench in the place's directory and returns its JSON.
async fn bench(place: &Place, arguments: &[&str]) -> Value {
    let dir = place.dir.path().to_str().unwrap();
    let all = [&["bench", "--json", "--data-dir", dir], arguments].concat();
    let output = process::run(place, &all, &[], None).await;
    assert!(
        output.status.success(),
        "{arguments:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(left(place.dir.path()), [""; 0]);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What a bench left in its directory.
fn left(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned())
        .filter(|name| name.starts_with("posthaste-bench"))
        .collect()
}

fn number(value: &Value, path: &str) -> u64 {
    value
        .pointer(path)
        .and_then(Value::as_u64)
        .unwrap_or_else(|| panic!("{path} of {value}"))
}

#[tokio::test]
async fn a_backlog_is_delivered_and_counted_without_any_setup() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let file = place.dir.path().join("results.json");
    let path = file.to_str().unwrap();
    let arguments = ["backlog", "--messages", "300", "--json-file", path];
    let report = bench(&place, &arguments).await;
    let run = &report["runs"][0];
    assert_eq!(
        (
            number(run, "/accepted"),
            number(run, "/expected"),
            number(run, "/delivered"),
            number(run, "/lost"),
        ),
        (300, 300, 300, 0),
        "{run}"
    );
    assert_eq!(
        number(run, "/accounting/accounting/deliveries/delivered"),
        300
    );
    let names: Vec<&str> = run["processes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|process| process["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["api", "receiver", "up"]);
    let written: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(written, report);
}

#[tokio::test]
async fn healthy_endpoints_beside_sick_ones_are_counted_apart() {
    let place = Place::new(Backend::RabbitPostgres).await;
    let load = "sick-neighbours --endpoints 10 --sick 2 --rate 50 --duration 2s --warm-up 0s \
                --control --workers 2";
    let arguments: Vec<&str> = load.split_whitespace().collect();
    let report = bench(&place, &arguments).await;
    let (run, control) = (&report["runs"][0], &report["controls"][0]);
    for (run, expected) in [(run, 80), (control, 100)] {
        assert_eq!(number(run, "/accepted"), 100, "{run}");
        assert_eq!(number(run, "/delivered"), expected, "{run}");
        assert_eq!(number(run, "/lost"), 0, "{run}");
        // The same endpoints, so that they can be compared.
        assert_eq!(number(run, "/due_to_arrival/count"), 80, "{run}");
    }
    assert_eq!(
        (report["store"].as_str(), report["broker"].as_str()),
        (Some("postgres"), Some("rabbitmq"))
    );
}

#[tokio::test]
async fn what_waits_behind_a_slow_endpoint_is_timed() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let load = "behind-slow --messages 60 --behind 20 --endpoints 3 --delay 20ms";
    let arguments: Vec<&str> = load.split_whitespace().collect();
    let report = bench(&place, &arguments).await;
    let run = &report["runs"][0];
    assert_eq!((number(run, "/delivered"), number(run, "/lost")), (80, 0));
    let behind = &run["behind"];
    assert!(
        behind["others_done_seconds"].as_f64().unwrap() > 0.0
            && behind["slow_per_second"].as_f64().unwrap() > 0.0,
        "{behind}"
    );
}

#[tokio::test]
async fn wrong_use_is_refused_before_anything_starts() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    for (line, why) in [
        ("backlog --sick 3", "--sick has no meaning in backlog"),
        ("sick-neighbours --endpoints 5 --sick 5", "--endpoints"),
        ("steady --rate 0", "0.1 to 1000000"),
        ("steady --rate 1000000 --duration 1h", "10,000,000"),
        ("outage --outage 1m --duration 30s", "--outage"),
        ("accept --workers 2", "--workers"),
        ("backlog --behind 5", "--behind has no meaning in backlog"),
        ("behind-slow --endpoints 1", "--endpoints must be 2 or more"),
        ("backlog --duration 3s", "without --rate"),
        ("fan-out --tenants 2", "--tenants"),
        ("backlog --against /nonexistent", "No such file"),
        ("--payload 3", "a whole number from 32 to 1000000"),
        ("juggle", "possible values"),
    ] {
        let mut arguments = vec!["bench"];
        arguments.extend(line.split_whitespace());
        let output = process::run(&place, &arguments, &[], None).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line}: {said}");
        assert!(said.contains(why), "{line}: {said}");
    }
}

#[tokio::test]
async fn an_interrupted_bench_leaves_nothing() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let dir = place.dir.path();
    let arguments = ["bench", "steady", "--data-dir", dir.to_str().unwrap()];
    let mut child = process::command(&place, &arguments)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let log = eventually("the bench's processes run", async || {
        let inner = left(dir).pop()?;
        let log = dir.join(inner).join("up.log");
        let text = std::fs::read_to_string(&log).ok()?;
        text.contains("listening on").then_some(log)
    })
    .await;
    let sent = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
    let status = tokio::task::spawn_blocking(move || child.wait())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.code(), Some(130));
    assert!(!log.exists());
    assert_eq!(left(dir), [""; 0]);
}

/// Delivers what `examples/bare_pipeline.rs` would, one after the other.
const OTHER: &str = r#"
import sys, urllib.request
phase, count, url = sys.argv[1], int(sys.argv[3]), sys.argv[7]
assert sys.argv[8:] == ["--twice"], sys.argv
for number in range(count if phase == "drain" else 0):
    for _ in range(2 if number == 0 else 1):
        urllib.request.urlopen(urllib.request.Request(url, b'{"n":"%08d"}' % number)).read()
"#;

#[tokio::test]
async fn another_program_gets_the_same_backlog() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let program = place.dir.path().join("other");
    let python = required("POSTHASTE_TEST_PYTHON");
    std::fs::write(&program, format!("#!{python}{OTHER}")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = program.to_str().unwrap();
    let against = ["--against", program, "--against-arg=--twice"];
    let report = bench(&place, &[&["--messages", "50"][..], &against].concat()).await;
    let other = &report["controls"][0];
    for run in [&report["runs"][0], other] {
        assert_eq!(number(run, "/delivered"), 50, "{run}");
        assert_eq!(number(run, "/lost"), 0, "{run}");
    }
    assert_eq!(number(other, "/duplicated"), 1, "{other}");
    assert_eq!(other["processes"][1]["name"], "other");
}
