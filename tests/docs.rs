//! The documentation against the code: metrics, routes, settings, problem codes and links. No
//! server is needed.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use posthaste_producer::http::problem::Code;
use posthaste_shared::config::settings::SETTINGS;
use posthaste_shared::domain::event::EventType;
use posthaste_shared::domain::wire_format::WireFormat;
use posthaste_shared::telemetry::metrics::Metrics;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path))
        .unwrap_or_else(|error| panic!("{path} cannot be read: {error}"))
}

/// Every word of `text` that begins with `posthaste_`.
fn metric_names(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("posthaste_"))
        .collect()
}

#[test]
fn every_metric_is_documented_and_nothing_else() {
    let rendered = Metrics::new().render();
    let real: BTreeSet<&str> = rendered
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert!(real.len() > 10, "{rendered}");
    let page = read("docs/metrics.md");
    let documented = metric_names(&page);
    for name in &real {
        assert!(
            documented.contains(name),
            "docs/metrics.md does not mention {name}"
        );
    }
    for name in documented {
        // A histogram is queried by the names of its series.
        let series = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix));
        let known = real.contains(name) || series.is_some_and(|name| real.contains(name));
        assert!(known, "docs/metrics.md mentions {name}, which is no metric");
    }
}

#[test]
fn every_attribute_of_spans_is_documented() {
    let page = read("docs/tracing.md");
    for name in posthaste_shared::telemetry::trace::names::ALL {
        assert!(
            page.contains(&format!("`{name}`")),
            "docs/tracing.md does not mention {name}"
        );
    }
}

#[test]
fn every_route_is_documented() {
    let document = serde_json::to_value(posthaste_producer::http::openapi())
        .expect("the OpenAPI document is JSON");
    let paths = document["paths"].as_object().expect("it has paths");
    assert!(paths.len() > 20, "{paths:?}");
    let page = read("docs/http-api.md");
    for (path, item) in paths {
        for method in ["get", "post", "put", "patch", "delete"]
            .iter()
            .filter(|method| item.get(method).is_some())
        {
            let heading = format!("`{} {path}`", method.to_uppercase());
            assert!(page.contains(&heading), "docs/http-api.md has no {heading}");
        }
    }
}

#[test]
fn every_problem_code_is_documented_with_its_status() {
    let page = read("docs/http-api.md");
    for code in Code::ALL {
        let row = format!("| `{}` | {} |", code.as_str(), code.status().as_u16());
        assert!(page.contains(&row), "docs/http-api.md has no row {row}");
    }
}

#[test]
fn every_setting_is_documented() {
    let page = read("docs/configuration.md");
    for setting in SETTINGS {
        assert!(
            page.contains(&format!("`{}`", setting.env)),
            "docs/configuration.md does not mention {}",
            setting.env
        );
    }
}

#[test]
fn deployments_name_only_settings_that_there_are() {
    let known: BTreeSet<String> = SETTINGS
        .iter()
        .flat_map(|setting| [setting.env.to_owned(), format!("{}_FILE", setting.env)])
        .collect();
    let mut files = Vec::new();
    collect(&root().join("deploy"), &mut files);
    let mut named = BTreeSet::new();
    for file in files {
        // What is no text, such as Python's compiled files, names nothing.
        let Ok(text) = std::fs::read_to_string(&file) else {
            continue;
        };
        for word in text.split(|c: char| !c.is_ascii_uppercase() && c != '_') {
            // `POSTHASTE_…` alone stands for all of them.
            if word.starts_with("POSTHASTE_") && word != "POSTHASTE_" {
                assert!(
                    known.contains(word),
                    "{} names {word}, which is no setting",
                    file.display()
                );
                named.insert(word.to_owned());
            }
        }
    }
    for needed in [
        "POSTHASTE_DATABASE_URL",
        "POSTHASTE_BROKER_URL",
        "POSTHASTE_MASTER_KEY",
        "POSTHASTE_LISTEN",
    ] {
        assert!(
            named.contains(needed),
            "nothing in deploy/ sets {needed}: was it read?"
        );
    }
}

/// All files below `folder`.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder can be listed") {
        let entry = entry.expect("a folder can be listed");
        if entry.file_type().expect("an entry has a type").is_dir() {
            collect(&entry.path(), files);
        } else {
            files.push(entry.path());
        }
    }
}

#[test]
fn every_event_type_is_documented() {
    let page = read("docs/events.md");
    for kind in EventType::ALL {
        assert!(
            page.contains(&format!("`{}`", kind.as_str())),
            "docs/events.md does not mention {}",
            kind.as_str()
        );
    }
}

#[test]
fn every_wire_format_has_a_page_with_all_its_settings() {
    let index = read("docs/wire-formats/README.md");
    for format in WireFormat::ALL {
        let name = format.as_str();
        assert!(
            index.contains(&format!("[`{name}`]({name}.md)")),
            "docs/wire-formats/README.md does not list {name}"
        );
        let page = read(&format!("docs/wire-formats/{name}.md"));
        let schema = posthaste_worker::wire::of(format).info().settings;
        let settings = schema["properties"]
            .as_object()
            .expect("the schema has properties");
        for setting in settings.keys() {
            assert!(
                page.contains(&format!("| `{setting}`")),
                "docs/wire-formats/{name}.md has no row for {setting}"
            );
        }
        assert!(
            page.contains("posthaste endpoint add"),
            "docs/wire-formats/{name}.md has no example to copy"
        );
    }
    for setting in ["webhook_id", "traceparent", "transform"] {
        assert!(
            index.contains(&format!("| `{setting}` |")),
            "docs/wire-formats/README.md has no row for {setting}"
        );
    }
}

#[test]
fn relative_links_lead_to_files() {
    let mut pages = Vec::new();
    collect_markdown(root(), &mut pages);
    assert!(!pages.is_empty(), "no page was found");
    let mut broken = Vec::new();
    for page in pages {
        let text = std::fs::read_to_string(&page).expect("a page can be read");
        let folder = page.parent().expect("a page is in a folder");
        for target in relative_links(&text) {
            if !folder.join(&target).exists() {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(
        broken.is_empty(),
        "links that lead nowhere:\n{}",
        broken.join("\n")
    );
}

/// Markdown files below `folder`, without what is built, downloaded or hidden.
fn collect_markdown(folder: &Path, pages: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder can be listed") {
        let entry = entry.expect("a folder can be listed");
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        if entry.file_type().expect("an entry has a type").is_dir() {
            if !name.starts_with('.') && name != "target" && name != "node_modules" {
                collect_markdown(&path, pages);
            }
        } else if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
}

/// The files that the links of a page lead to, without `#…`; code blocks do not count.
fn relative_links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        let targets = line
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split([')', ' ']).next());
        for target in targets {
            let file = target.split('#').next().unwrap_or("");
            let elsewhere =
                file.contains("://") || file.starts_with("mailto:") || file.starts_with('/');
            if !file.is_empty() && !elsewhere {
                links.push(file.to_owned());
            }
        }
    }
    links
}

#[test]
fn links_are_found_outside_code_blocks() {
    let text =
        "See [a](b.md#c), [d](https://e.f) and [g](#h).\n```\n[i](j.md)\n```\n![k](../l.svg)";
    assert_eq!(relative_links(text), ["b.md", "../l.svg"]);
}
