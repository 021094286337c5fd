//! The way of imports: down through the declared layers, and nowhere in a circle.

#![expect(clippy::unwrap_used, reason = "test code")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The rooms (files and folders) of a folder, and for each those that it imports.
type Arrows = BTreeMap<String, BTreeSet<String>>;

/// Each crate from the top down: a room imports only those behind it. Rooms that share a place do
/// not know each other.
const LAYERS: [(&str, &[&[&str]]); 5] = [
    (
        "src",
        &[
            &["main"],
            &["cli"],
            &["commands", "examples"],
            &["ending", "job", "global"],
            &["service"],
            &[
                "client",
                "connect",
                "master_key",
                "serving",
                "systemd",
                "wire_formats",
                "when",
            ],
            &["failure", "flags"],
            &["output"],
        ],
    ),
    (
        "producer/src",
        &[
            &["lib"],
            &["asyncapi", "client"],
            &["http", "draft"],
            &["enqueue"],
        ],
    ),
    (
        "console/src",
        &[
            &["lib"],
            &["routes"],
            &["pages"],
            &["entry"],
            &["parts"],
            &["state", "assets"],
            &["flood"],
        ],
    ),
    (
        "worker/src",
        &[
            &["lib"],
            &["worker", "probe"],
            &["background"],
            &["pipeline"],
            &["attempt"],
            &["wire"],
            &["script"],
            &["send", "planted"],
        ],
    ),
    (
        "shared/src",
        &[
            &["lib"],
            &["redrive"],
            &["services"],
            &["broker"],
            &["store"],
            &["telemetry"],
            &["config"],
            &["resolver"],
            &["egress", "clock", "tls"],
            &["domain", "repeat"],
            &["backoff", "error"],
            &["chance"],
        ],
    ),
];

/// Folders within which there is no declared order, and no circle either.
const WITHOUT_CIRCLES: [&str; 17] = [
    "console/src/entry",
    "console/src/pages",
    "console/src/parts",
    "src/commands/bench",
    "producer/src/http",
    "producer/src/http/endpoints",
    "producer/src/http/notifications",
    "worker/src/attempt",
    "worker/src/background",
    "worker/src/pipeline",
    "worker/src/pipeline/admit",
    "worker/src/script",
    "worker/src/send",
    "worker/src/wire",
    "shared/src/broker/amqp",
    "shared/src/domain",
    "shared/src/store",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if name != "tests" {
                rust_files(&path, files);
            }
        } else if name.ends_with(".rs")
            && name != "tests.rs"
            && !name.ends_with("fixture.rs")
            && name != "fixtures.rs"
        {
            files.push(path);
        }
    }
}

/// The code of a file, without comments and without its tests.
fn code(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap();
    let own = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    own.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The names that come right behind `prefix` in paths, also within braces.
fn names_behind<'a>(code: &'a str, prefix: &str) -> Vec<&'a str> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| is_name(c) || c == ':') {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        let parts = match rest.strip_prefix('{') {
            Some(group) => group
                .split('}')
                .next()
                .unwrap_or_default()
                .split(',')
                .map(str::trim)
                .collect(),
            None => vec![rest],
        };
        names.extend(
            parts
                .into_iter()
                .map(|part| part.split(|c| !is_name(c)).next().unwrap_or_default()),
        );
    }
    names
}

fn arrows(folder: &str) -> Arrows {
    let base = root().join(folder);
    let path = folder
        .split_once("src")
        .map_or("", |(_, rest)| rest)
        .replace('/', "::");
    let prefix = format!("crate{path}::");
    let mut files = Vec::new();
    rust_files(&base, &mut files);
    let mut all = Arrows::new();
    for file in files {
        let inner = file.strip_prefix(&base).unwrap();
        let first = inner
            .components()
            .next()
            .unwrap()
            .as_os_str()
            .to_str()
            .unwrap();
        let room = first.trim_end_matches(".rs").to_owned();
        let code = code(&file);
        let mut found = names_behind(&code, &prefix);
        if inner.components().count() == 1 && room != "mod" && room != "lib" {
            found.extend(names_behind(&code, "super::"));
        }
        let is_room =
            |name: &&str| base.join(name).is_dir() || base.join(format!("{name}.rs")).exists();
        let others = found
            .into_iter()
            .filter(is_room)
            .filter(|name| *name != room)
            .map(str::to_owned);
        all.entry(room.clone()).or_default().extend(others);
    }
    // What a folder's own file imports of its parts is how it is put together.
    all.remove("mod");
    all
}

/// A circle, if there is one.
fn circle(arrows: &Arrows) -> Option<Vec<String>> {
    fn follow(
        arrows: &Arrows,
        room: &str,
        way: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> bool {
        if let Some(at) = way.iter().position(|earlier| earlier == room) {
            way.drain(..at);
            return true;
        }
        if done.contains(room) {
            return false;
        }
        way.push(room.to_owned());
        if arrows
            .get(room)
            .into_iter()
            .flatten()
            .any(|next| follow(arrows, next, way, done))
        {
            return true;
        }
        way.pop();
        done.insert(room.to_owned());
        false
    }
    let mut done = BTreeSet::new();
    arrows.keys().find_map(|room| {
        let mut way = Vec::new();
        follow(arrows, room, &mut way, &mut done).then_some(way)
    })
}

#[test]
fn imports_go_down_through_the_layers() {
    for (folder, layers) in LAYERS {
        let height = |room: &str| layers.iter().position(|rooms| rooms.contains(&room));
        for (room, imported) in arrows(folder) {
            let own = height(&room)
                .unwrap_or_else(|| panic!("{folder}/{room} has no layer: give it one here"));
            for other in imported {
                let below = height(&other)
                    .unwrap_or_else(|| panic!("{folder}/{other} has no layer: give it one here"));
                assert!(
                    own < below,
                    "{folder}: {room} imports {other}, which is not below it"
                );
            }
        }
    }
}

#[test]
fn no_imports_go_in_a_circle() {
    for folder in WITHOUT_CIRCLES {
        let arrows = arrows(folder);
        assert!(arrows.len() > 1, "{folder} has rooms");
        assert_eq!(circle(&arrows), None, "{folder}");
    }
}

/// The console calls the operations of the API and knows neither the store nor the broker: what it
/// may name of the shared crate is the domain, whose types the views have.
#[test]
fn the_console_knows_no_store_and_no_broker() {
    let mut files = Vec::new();
    rust_files(&root().join("console/src"), &mut files);
    assert!(files.len() > 20, "{files:?}");
    for file in files {
        for name in names_behind(&code(&file), "posthaste_shared::") {
            assert_eq!(name, "domain", "{}", file.display());
        }
    }
}

#[test]
fn circles_and_names_are_found() {
    let arrow = |from: &str, to: &[&str]| {
        (
            from.to_owned(),
            to.iter().map(|to| (*to).to_owned()).collect(),
        )
    };
    let round = Arrows::from([arrow("a", &["b"]), arrow("b", &["c"]), arrow("c", &["b"])]);
    assert_eq!(circle(&round), Some(vec!["b".to_owned(), "c".to_owned()]));
    assert_eq!(
        circle(&Arrows::from([arrow("a", &["b", "c"]), arrow("b", &["c"])])),
        None
    );
    assert_eq!(
        names_behind(
            "use crate::{one, two::Three};\ncrate::four::x(); mycrate::five",
            "crate::"
        ),
        ["one", "two", "four"]
    );
}
