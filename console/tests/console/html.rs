//! What every page must be: well formed, without code or style in it, each form with its token.

use crate::browser::Page;

/// Everything that pages write is escaped: what could let text through as it is, is used nowhere.
#[test]
fn nothing_is_written_without_being_escaped() {
    let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                seen += 1;
                let code = std::fs::read_to_string(&path).unwrap();
                assert!(!code.contains("PreEscaped"), "{}", path.display());
            }
        }
    }
    assert!(seen > 20, "{seen}");
}

const VOID: [&str; 5] = ["meta", "link", "input", "br", "hr"];

/// Panics where a page is not as it must be.
pub(crate) fn check(what: &str, page: &Page) {
    let html = &page.html;
    assert!(html.starts_with("<!DOCTYPE html>"), "{what}: {html}");
    let mut open: Vec<String> = Vec::new();
    let mut rest = html.as_str();
    let mut form: Option<(String, usize)> = None;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        let (tag, after) = split_tag(rest);
        rest = after;
        if tag.starts_with('!') {
            continue;
        }
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(
                open.pop().as_deref(),
                Some(name),
                "{what}: </{name}> closes it"
            );
            if name == "form" {
                let (method, hidden) = form.take().expect("an open form");
                let entering = ["/console/login", "/console/link"];
                let needs =
                    method.contains("post") && !entering.iter().any(|path| method.contains(path));
                assert!(
                    hidden == 2 || !needs,
                    "{what}: a form without its token or id: {method}"
                );
            }
            continue;
        }
        let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        for (attribute, value) in attributes_of(attributes) {
            assert_ne!(attribute, "style", "{what}: <{tag}>");
            assert!(!attribute.starts_with("on"), "{what}: <{tag}>");
            let value = value.to_ascii_lowercase();
            assert!(
                !value.trim_start().starts_with("javascript:"),
                "{what}: <{tag}>"
            );
            if matches!(attribute, "href" | "action" | "src") && !value.is_empty() {
                let own = value.starts_with("/console") || value.starts_with('#');
                assert!(own, "{what}: leads elsewhere: <{tag}>");
            }
        }
        match name {
            "script" => assert!(attributes.contains("src="), "{what}: <{tag}>"),
            "form" => form = Some((attributes.to_owned(), 0)),
            "input"
                if attributes.contains("name=\"form_token\"")
                    || attributes.contains("name=\"form_id\"") =>
            {
                form.as_mut().expect("a form").1 += 1;
            }
            _ => {}
        }
        if !VOID.contains(&name) {
            open.push(name.to_owned());
        }
    }
    assert_eq!(open, Vec::<String>::new(), "{what}: not closed");
    assert_eq!(html.matches("<h1").count(), 1, "{what}: one h1");
}

/// The text up to the end of a tag, which does not lie within an attribute's value.
fn split_tag(text: &str) -> (&str, &str) {
    let mut quoted = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '>' if !quoted => return (&text[..at], &text[at + 1..]),
            _ => {}
        }
    }
    panic!("a tag that does not end: {text}");
}

fn attributes_of(text: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = rest.find(['=', ' ']).unwrap_or(rest.len());
        let name = &rest[..end];
        rest = &rest[end..];
        let mut value = "";
        if let Some(quoted) = rest.strip_prefix("=\"") {
            (value, rest) = quoted.split_once('"').unwrap();
        }
        found.push((name, value));
        rest = rest.trim_start();
    }
    found
}
