//! The reference for operators, `docs/configuration.md`, written from the table of settings.

use std::fmt::Write as _;

use super::settings::{Kind, Profile, SETTINGS, Setting, UsedBy};
use super::value::{show_bytes, show_seconds};

const HEAD: &str = "\
# Configuration

<!-- Generated from shared/src/config/settings.rs; `cargo test -p posthaste-shared config` says when it is out of date. -->

A value is taken from the first of these that has one:

1. a flag of the command line (`posthaste <command> --help` lists them),
2. the environment variable `POSTHASTE_…`, or the file that `POSTHASTE_…_FILE` names (for secrets mounted as files; the
   newline at its end does not count). An empty variable counts as not set, where nothing else is said,
3. `posthaste.toml`: the file that `--config` names, else the one in the working directory if there is one,
4. the default.

In the file a setting stands under its name, or in a section: `database_url = \"…\"` and

```toml
[database]
url = \"postgres://posthaste:secret@db.internal/posthaste\"
```

say the same. A name that no setting has is refused. Durations are written as `500ms`, `10s`, `5m`, `24h` or `30d`; sizes
as `1048576`, `512KiB` or `16MiB`.

`posthaste doctor` prints the configuration that counts, with where each value came from and secrets redacted, and
checks it.
";

/// The reference as Markdown.
#[must_use]
pub fn reference_markdown() -> String {
    let mut page = HEAD.to_owned();
    for (used_by, title) in [
        (UsedBy::Everything, "Every process"),
        (UsedBy::Api, "The HTTP API (`api`, `up`)"),
        (UsedBy::Worker, "The worker (`worker`, `up`)"),
        (
            UsedBy::Client,
            "Client commands (`send`, `endpoint`, `delivery`, …)",
        ),
    ] {
        let _ = write!(page, "\n## {title}\n");
        for setting in SETTINGS.iter().filter(|setting| setting.used_by == used_by) {
            write_setting(&mut page, setting);
        }
    }
    page
}

fn write_setting(page: &mut String, setting: &Setting) {
    let _ = write!(page, "\n### `{}`\n\n{}\n\n", setting.key, setting.help);
    let other = setting
        .other_env
        .map(|name| format!(", else `{name}`"))
        .unwrap_or_default();
    let _ = writeln!(page, "- environment: `{}`{other}", setting.env);
    if let Some(values) = values(setting.kind) {
        let _ = writeln!(page, "- values: {values}");
    }
    let _ = writeln!(page, "- default: {}", default(setting));
    if setting.secret {
        let what = if setting.kind == Kind::Url {
            "a password in it is"
        } else {
            "it is"
        };
        let _ = writeln!(page, "- secret: {what} never shown or logged");
    }
}

fn values(kind: Kind) -> Option<String> {
    match kind {
        Kind::Text | Kind::Url => None,
        Kind::Path => Some("a path".to_owned()),
        Kind::Address => Some("an address with a port, such as `0.0.0.0:8080`".to_owned()),
        Kind::Duration {
            min_seconds,
            max_seconds,
        } => Some(format!(
            "a duration, `{}` to `{}`",
            show_seconds(min_seconds),
            show_seconds(max_seconds)
        )),
        Kind::Bytes { min, max } => Some(format!(
            "a size, `{}` to `{}`",
            show_bytes(min),
            show_bytes(max)
        )),
        Kind::Integer { min, max } => Some(format!("a whole number, {min} to {max}")),
        Kind::Bool => Some("`true` or `false`".to_owned()),
        Kind::Ratio => Some("a number, 0 to 1".to_owned()),
        Kind::Choice(words) => Some(
            words
                .iter()
                .map(|word| format!("`{word}`"))
                .collect::<Vec<_>>()
                .join(" or "),
        ),
    }
}

fn default(setting: &Setting) -> String {
    let mut text = setting
        .default
        .map_or_else(|| "not set".to_owned(), |value| format!("`{value}`"));
    for (profile, value) in setting.exceptions {
        let who = match profile {
            Profile::Up => "`up`",
            Profile::Api => "`api`",
            Profile::Worker => "`worker`",
            Profile::Tool => "commands that are not services",
        };
        let _ = write!(text, "; {who}: `{value}`");
    }
    text
}
