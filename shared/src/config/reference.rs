//! The reference for operators, `docs/configuration.md`, written from the table of settings.

use std::fmt::Write as _;

use super::settings::{Kind, Profile, SETTINGS, Setting, UsedBy};
use super::value::{show_bytes, show_seconds};

const HEAD: &str = include_str!("reference.md");

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
