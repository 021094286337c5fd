//! Query strings: what a page is asked for, and the links that ask for something else.

use std::fmt;

use url::form_urlencoded;

/// The parameters of a query or the fields of a form, in order. Empty ones are left out: a form has
/// all its fields, filled in or not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query string without its question mark.
    pub(crate) fn parse(text: &str) -> Self {
        let pairs = form_urlencoded::parse(text.as_bytes())
            .filter(|(_, value)| !value.trim().is_empty())
            .map(|(name, value)| (name.into_owned(), value.trim().to_owned()));
        Self(pairs.collect())
    }

    /// The first value of a parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name)?;
        Some(&found.1)
    }

    /// All values of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// All values of a parameter, those with commas between them taken apart.
    pub(crate) fn words<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.all(name).flat_map(|value| value.split(','))
    }

    /// The same without some parameters.
    pub(crate) fn without(&self, names: &[&str]) -> Self {
        let kept = self
            .0
            .iter()
            .filter(|(key, _)| !names.contains(&key.as_str()));
        Self(kept.cloned().collect())
    }

    /// The same with this as the one value of a parameter.
    pub(crate) fn with(&self, name: &str, value: &str) -> Self {
        let mut query = self.without(&[name]);
        query.0.push((name.to_owned(), value.to_owned()));
        query
    }

    /// The same with one more value of a parameter.
    pub(crate) fn and(mut self, name: &str, value: &str) -> Self {
        self.0.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The names of its parameters.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// The same with one value less of a parameter that has several.
    pub(crate) fn without_value(&self, name: &str, value: &str) -> Self {
        let others: Vec<&str> = self.words(name).filter(|word| *word != value).collect();
        if others.is_empty() {
            self.without(&[name])
        } else {
            self.with(name, &others.join(","))
        }
    }

    /// As text without the question mark.
    pub(crate) fn text(&self) -> String {
        form_urlencoded::Serializer::new(String::new())
            .extend_pairs(&self.0)
            .finish()
    }
}

/// As it stands behind a path: with a question mark, or as nothing.
impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, "?{}", self.text())
    }
}

/// What is written as `%2F` in a path. The dot, too, or an id could be a step up.
const ENCODED: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'~');

/// A text as a segment of a path.
pub(crate) fn segment(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, ENCODED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_change_one_parameter_and_keep_the_others() {
        let query = Query::parse("status=failed,expired&type=&tenant=a%26b");
        assert_eq!(query.get("type"), None, "an empty field is none");
        assert_eq!(
            query.without_value("status", "failed").to_string(),
            "?tenant=a%26b&status=expired"
        );
        assert_eq!(query.without(&["status", "tenant"]).to_string(), "");
        assert_eq!(segment("a/../b?c"), "a%2F%2E%2E%2Fb%3Fc");
    }
}
