//! What a PromQL query names. Not a parser: Prometheus itself says whether a query parses; this
//! finds the metrics, matchers and groupings in one that does.

/// A metric with its matchers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    pub metric: String,
    pub matchers: Vec<Matcher>,
    /// As it stands in the query.
    pub text: String,
}

/// `label<operator>"value"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matcher {
    pub label: String,
    pub operator: String,
    pub value: String,
}

impl Matcher {
    /// The values that it asks for, one by one, where they are listed; else none.
    pub fn listed(&self) -> Vec<&str> {
        let plain = |value: &&str| {
            value
                .chars()
                .all(|c| c.is_alphanumeric() || "-_.".contains(c))
        };
        match self.operator.as_str() {
            "=" => vec![self.value.as_str()],
            "=~" if self.value.split('|').all(|value| plain(&value))
                && self.value.contains(char::is_alphanumeric) =>
            {
                self.value.split('|').collect()
            }
            _ => Vec::new(),
        }
    }
}

/// What a query names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Named {
    pub selectors: Vec<Selector>,
    /// Labels in `by (…)`, `on (…)` and their like.
    pub labels: Vec<String>,
}

const GROUPINGS: [&str; 6] = [
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
];
const WORDS: [&str; 14] = [
    "and", "or", "unless", "bool", "offset", "sum", "max", "min", "avg", "count", "topk",
    "bottomk", "stddev", "inf",
];

/// Reads a query.
pub fn named(query: &str) -> Named {
    let mut named = Named::default();
    let mut at = 0;
    while let Some(c) = query[at..].chars().next() {
        let rest = &query[at..];
        if c == '"' {
            at += 2 + rest[1..].find('"').expect("the string ends");
        } else if c == '[' {
            at += 1 + rest.find(']').expect("the range ends");
        } else if c.is_ascii_digit() {
            at += length(rest, |c| c.is_ascii_alphanumeric() || c == '.');
        } else if c.is_ascii_alphabetic() || c == '_' || c == ':' {
            at += word(rest, &mut named);
        } else {
            at += c.len_utf8();
        }
    }
    named
}

/// Takes up the word that `rest` begins with, with what belongs to it; how long both are.
fn word(rest: &str, named: &mut Named) -> usize {
    let end = length(rest, |c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
    let (name, behind) = rest.split_at(end);
    let follows = behind.trim_start();
    if GROUPINGS.contains(&name) {
        let Some(list) = follows.strip_prefix('(') else {
            return end;
        };
        let list = &list[..list.find(')').expect("the list ends")];
        named.labels.extend(
            list.split(',')
                .map(|label| label.trim().to_owned())
                .filter(|label| !label.is_empty()),
        );
        return end + behind.find(')').expect("the list ends");
    }
    if WORDS.contains(&name) || follows.starts_with('(') {
        return end;
    }
    if !behind.starts_with('{') {
        named.selectors.push(Selector {
            metric: name.to_owned(),
            matchers: Vec::new(),
            text: name.to_owned(),
        });
        return end;
    }
    let (matchers, more) = matchers(&behind[1..]);
    let end = end + 1 + more;
    named.selectors.push(Selector {
        metric: name.to_owned(),
        matchers,
        text: rest[..end].to_owned(),
    });
    end
}

/// Reads matchers to the closing brace; how long that was.
fn matchers(text: &str) -> (Vec<Matcher>, usize) {
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        at += length(&text[at..], |c| c.is_whitespace() || c == ',');
        if text[at..].starts_with('}') {
            return (found, at + 1);
        }
        let label = length(&text[at..], |c| c.is_ascii_alphanumeric() || c == '_');
        let operator = length(&text[at + label..], |c| "=~!".contains(c));
        let value = at + label + operator + 1;
        let end = value + text[value..].find('"').expect("the value ends");
        found.push(Matcher {
            label: text[at..at + label].to_owned(),
            operator: text[at + label..at + label + operator].to_owned(),
            value: text[value..end].to_owned(),
        });
        at = end + 1;
    }
}

fn length(text: &str, is: impl Fn(char) -> bool) -> usize {
    text.find(|c| !is(c)).unwrap_or(text.len())
}

/// The query with each comparison as a value in place of a filter, so that it returns series
/// whether or not there is anything to complain of.
pub fn unfiltered(query: &str) -> String {
    let mut all = format!(" {query} ");
    for operator in [">", "<", ">=", "<=", "==", "!="] {
        let spaced = format!(" {operator} ");
        all = all
            .replace(&format!("{spaced}bool "), &spaced)
            .replace(&spaced, &format!("{spaced}bool "));
    }
    all.trim().to_owned()
}

#[test]
fn a_query_is_read() {
    let query = concat!(
        r#"sum by (le, a) (rate(x_bucket{a="b|c", d=~"e|f"}[5m])) > 0.5 "#,
        "and on (g) max(y:z) or vector(1e3)"
    );
    let named = named(query);
    let text: Vec<_> = named
        .selectors
        .iter()
        .map(|selector| selector.text.as_str())
        .collect();
    assert_eq!(text, [r#"x_bucket{a="b|c", d=~"e|f"}"#, "y:z"]);
    assert_eq!(named.labels, ["le", "a", "g"]);
    let listed: Vec<_> = named.selectors[0]
        .matchers
        .iter()
        .map(Matcher::listed)
        .collect();
    assert_eq!(listed, [vec!["b|c"], vec!["e", "f"]]);
    assert_eq!(
        unfiltered("a > 1 and (b == bool 0)"),
        "a > bool 1 and (b == bool 0)"
    );
}
