//! The fields of a form: a label, what somebody typed, what it is for, and what is wrong with it.

use maud::{Markup, html};
use posthaste_producer::http::problem::{FieldProblem, Problem};

use crate::parts::layout::sentence;
use crate::parts::query::Query;
use crate::parts::text::plain;

/// What was typed, and what is wrong with it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a> {
    /// Each field's text, by the path of its member in the API.
    pub(crate) values: &'a Query,
    /// Why the form was not taken.
    pub(crate) problem: Option<&'a Problem>,
}

/// A field.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field<'a> {
    /// The path of its member in the API.
    pub(crate) name: &'a str,
    /// What it is called.
    pub(crate) label: &'a str,
    /// What it is for, with its bounds and its default; empty for nothing.
    pub(crate) help: &'a str,
}

/// A choice: its value, and what it says.
pub(crate) type Choice = (String, String);

impl Fields<'_> {
    /// What stands in a field.
    fn value(&self, name: &str) -> &str {
        self.values.get(name).unwrap_or_default()
    }

    fn errors(&self) -> &[FieldProblem] {
        self.problem
            .map_or(&[], |problem| problem.errors.as_slice())
    }

    /// What is wrong with a field, or with something in it.
    fn error(&self, name: &str) -> Option<&FieldProblem> {
        let is_of = |error: &&FieldProblem| {
            let within = error.field.strip_prefix(name);
            within.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.errors().iter().find(is_of)
    }

    /// Why the form was not taken, above all fields.
    pub(crate) fn summary(&self) -> Markup {
        html! {
            @if let Some(problem) = self.problem {
                div.error #problem role="alert" tabindex="-1" {
                    p { (plain(&sentence(&problem.detail))) }
                }
            }
        }
    }

    fn framed(&self, field: Field<'_>, control: &Markup) -> Markup {
        html! {
            div.field {
                label for=(id(field.name)) { (field.label) }
                (control)
                @if !field.help.is_empty() {
                    p.muted id={ (id(field.name)) "-help" } { (described(field.help)) }
                }
                @if let Some(error) = self.error(field.name) {
                    p.error { (plain(&sentence(&told(field.name, error)))) }
                }
            }
        }
    }

    /// A line of text; `kind`: as HTML names it, such as `url`.
    pub(crate) fn line(&self, field: Field<'_>, kind: &str) -> Markup {
        let has_help = !field.help.is_empty();
        self.framed(
            field,
            &html! {
                input id=(id(field.name)) name=(field.name) type=(kind) spellcheck="false"
                    autocomplete="off" value=(self.value(field.name))
                    aria-invalid=[self.error(field.name).map(|_| "true")]
                    aria-describedby=[has_help.then(|| format!("{}-help", id(field.name)))];
            },
        )
    }

    /// A line of text that is often one of `known`.
    pub(crate) fn suggested(&self, field: Field<'_>, known: &[&str]) -> Markup {
        let has_help = !field.help.is_empty();
        let list = format!("{}-list", id(field.name));
        self.framed(
            field,
            &html! {
                input id=(id(field.name)) name=(field.name) type="text" list=(list)
                    spellcheck="false" autocomplete="off" value=(self.value(field.name))
                    aria-invalid=[self.error(field.name).map(|_| "true")]
                    aria-describedby=[has_help.then(|| format!("{}-help", id(field.name)))];
                datalist id=(list) {
                    @for one in known { option value=(plain(one)) {} }
                }
            },
        )
    }

    /// Several lines of text.
    pub(crate) fn area(&self, field: Field<'_>, rows: usize) -> Markup {
        let has_help = !field.help.is_empty();
        self.framed(
            field,
            &html! {
                textarea id=(id(field.name)) name=(field.name) rows=(rows) spellcheck="false"
                    aria-invalid=[self.error(field.name).map(|_| "true")]
                    aria-describedby=[has_help.then(|| format!("{}-help", id(field.name)))]
                    // The first line break in it is the page's, not the text's.
                    { "\n" (self.value(field.name)) }
            },
        )
    }

    /// One of several.
    pub(crate) fn choice(&self, field: Field<'_>, choices: &[Choice]) -> Markup {
        let chosen = self.value(field.name);
        self.framed(
            field,
            &html! {
                select id=(id(field.name)) name=(field.name)
                    aria-invalid=[self.error(field.name).map(|_| "true")] {
                    @for (value, says) in choices {
                        option value=(value) selected[value == chosen] { (says) }
                    }
                }
            },
        )
    }

    /// Any of several.
    pub(crate) fn boxes(&self, field: Field<'_>, choices: &[Choice]) -> Markup {
        let checked: Vec<&str> = self.values.all(field.name).collect();
        html! {
            fieldset.field {
                legend { (field.label) }
                div.boxes {
                    @for (value, says) in choices {
                        label.check {
                            input type="checkbox" name=(field.name) value=(value)
                                checked[checked.contains(&value.as_str())];
                            " " (says)
                        }
                    }
                }
                @if !field.help.is_empty() { p.muted { (field.help) } }
                @if let Some(error) = self.error(field.name) {
                    p.error { (plain(&sentence(&told(field.name, error)))) }
                }
            }
        }
    }
}

/// A text in which names of the API stand between backticks.
fn described(text: &str) -> Markup {
    html! {
        @for (at, part) in text.split('`').enumerate() {
            @if at % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

fn id(name: &str) -> String {
    format!("f-{name}")
}

/// What is wrong, with the part of the field that it is about.
fn told(name: &str, error: &FieldProblem) -> String {
    let part = error.field.strip_prefix(name).unwrap_or_default();
    let part = part.trim_start_matches('.');
    if part.is_empty() {
        format!("it {}", error.problem)
    } else {
        format!("{part} {}", error.problem)
    }
}
