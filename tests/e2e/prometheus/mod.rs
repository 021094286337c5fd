//! What is shipped for Prometheus and Grafana.

mod live;
mod queries;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::prometheus::{promtool, shipped};
use crate::support::required;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let entries =
        std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
    files.retain(|file| file.extension().is_some_and(|found| found == extension));
    files.sort();
    assert!(!files.is_empty(), "{}", dir.display());
    files
}

fn dashboards() -> Vec<Value> {
    let read = |file: &PathBuf| {
        serde_json::from_str(&std::fs::read_to_string(file).unwrap()).expect("JSON")
    };
    files(&root().join("deploy/grafana/dashboards"), "json")
        .iter()
        .map(read)
        .collect()
}

fn panels(dashboard: &Value) -> &Vec<Value> {
    dashboard["panels"].as_array().expect("panels")
}

#[test]
fn rules_are_valid_and_each_alert_fires_when_it_should_and_only_then() {
    let rules = files(&shipped().join("rules"), "yml");
    promtool(&["check", "config"], &[shipped().join("prometheus.yml")]);
    promtool(&["check", "rules"], &rules);
    promtool(&["test", "rules"], &files(&shipped().join("tests"), "yml"));
    let text: String = rules
        .iter()
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect();
    let alerts: Vec<_> = text.split("- alert: ").skip(1).collect();
    assert_eq!(alerts.len(), 8);
    let mut runbooks = BTreeSet::new();
    for alert in alerts {
        let name = alert.lines().next().unwrap();
        let runbook = alert
            .split("runbook: docs/runbooks/")
            .nth(1)
            .expect(name)
            .lines()
            .next()
            .unwrap();
        let page =
            std::fs::read_to_string(root().join("docs/runbooks").join(runbook)).expect(runbook);
        for heading in [name, "## What it means", "## How to check", "## What to do"] {
            assert!(page.contains(heading), "{runbook} has no {heading}");
        }
        let tests = shipped().join("tests").join(runbook.replace(".md", ".yml"));
        let tests = std::fs::read_to_string(tests).expect("a test of this name");
        let of_alert = format!("alertname: {name}\n        exp_alerts:");
        assert!(
            tests.contains(&format!("{of_alert} []\n")),
            "{name}: no test that it does not fire"
        );
        assert!(
            tests.contains(&format!("{of_alert}\n          - exp_labels")),
            "{name}: no test that it fires"
        );
        runbooks.insert(runbook.to_owned());
    }
    let pages = files(&root().join("docs/runbooks"), "md").into_iter();
    let pages: BTreeSet<_> = pages
        .map(|file| file.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    runbooks.insert("README.md".to_owned());
    assert_eq!(pages, runbooks, "runbooks and alerts");
}

#[test]
fn dashboards_have_the_types_that_grafana_says() {
    let script = root().join("tests/interop/grafana/check.cjs");
    let mut command = std::process::Command::new("node");
    command
        .env("NODE_PATH", required("POSTHASTE_TEST_NODE_PATH"))
        .arg(script);
    let output = command
        .args(files(&root().join("deploy/grafana/dashboards"), "json"))
        .output()
        .expect("node");
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{out}{err}");
    assert!(out.contains("4 dashboards, 0 faults"), "{out}");
}

#[test]
fn dashboards_are_laid_out_and_described() {
    let mut uids = BTreeSet::new();
    let all = dashboards();
    for dashboard in &all {
        assert!(
            uids.insert(dashboard["uid"].as_str().unwrap()),
            "{}",
            dashboard["uid"]
        );
        let mut ids = BTreeSet::new();
        let mut cells = BTreeSet::new();
        for panel in panels(dashboard) {
            let what = format!("{}: {}", dashboard["uid"], panel["title"]);
            assert!(
                ids.insert(panel["id"].as_u64().unwrap()),
                "{what}: its id is not its own"
            );
            let side = |name: &str| panel["gridPos"][name].as_u64().expect(name);
            assert!(side("x") + side("w") <= 24, "{what}: wider than the page");
            for x in side("x")..side("x") + side("w") {
                for y in side("y")..side("y") + side("h") {
                    assert!(cells.insert((x, y)), "{what}: lies over another");
                }
            }
            if panel["type"] != "row" && panel["type"] != "text" {
                assert!(!panel["title"].as_str().unwrap().is_empty(), "{what}");
                assert!(
                    panel["description"].as_str().unwrap().ends_with('.'),
                    "{what}: no description"
                );
                assert!(
                    panel["fieldConfig"]["defaults"]["unit"].is_string(),
                    "{what}: no unit"
                );
            }
        }
    }
    for panel in all.iter().flat_map(panels) {
        for link in panel["links"].as_array().into_iter().flatten() {
            let uid = link["url"]
                .as_str()
                .unwrap()
                .strip_prefix("/d/")
                .expect("a dashboard");
            assert!(uids.contains(uid), "no dashboard {uid}");
        }
    }
}
