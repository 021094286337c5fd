//! The same on the command line: what a page shows, as a request to the API and as a command.

use std::borrow::Cow;

use maud::{Markup, html};

use crate::parts::text::{copy, plain};

/// What a page shows, to be copied: the path of the API, with its query, and the words of the
/// command after `posthaste`.
pub(crate) fn commands(path: &str, words: &[&str]) -> Markup {
    let url = format!("\"$POSTHASTE_API_URL\"{}", quoted(path));
    let curl = format!("curl -H \"Authorization: Bearer $POSTHASTE_API_KEY\" {url}");
    let words: Vec<Cow<'_, str>> = words.iter().map(|word| quoted(word)).collect();
    let command = format!("posthaste {}", words.join(" "));
    html! {
        details.commands {
            summary { "On the command line" }
            @for (text, label) in [(&command, "Copy the command"), (&curl, "Copy the request")] {
                p { code { (plain(text)) } " " (copy(text, label)) }
            }
        }
    }
}

/// A word as a POSIX shell takes it for one, whatever is in it.
fn quoted(word: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(format!("'{}'", word.replace('\'', "'\\''")))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// What a shell makes of it.
    fn read(word: &str) -> String {
        let script = format!("printf %s {}", quoted(word));
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn a_shell_takes_every_id_for_one_word() {
        for word in [
            "order-1042",
            "",
            "it's",
            "$(touch x); `y` \"z\" \\ #!&|<>*?~",
            "--flag=x",
            "a b",
        ] {
            assert_eq!(read(word), word);
        }
    }
}
