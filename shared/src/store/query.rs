//! A query whose conditions depend on a filter. Texts are literals; values are always parameters.

use super::db::{Answer, Param};
use super::several::Several;
use super::{Store, StoreError};

pub(super) struct Query {
    text: String,
    params: Vec<Param>,
}

impl Query {
    /// Begins with a text that ends in a WHERE clause.
    pub(super) fn new(text: &'static str) -> Self {
        Self {
            text: text.to_owned(),
            params: Vec::new(),
        }
    }

    /// Adds a condition; each `?` in it stands for one of the parameters, in order.
    pub(super) fn and<const N: usize>(&mut self, condition: &'static str, params: [Param; N]) {
        self.text.push_str(" AND ");
        self.end(condition, params);
    }

    /// Adds a condition of one parameter, if that is given.
    pub(super) fn and_opt(&mut self, condition: &'static str, param: Option<Param>) {
        if let Some(param) = param {
            self.and(condition, [param]);
        }
    }

    /// Adds that a column has one of the values, if some are given.
    pub(super) fn and_any<T>(
        &mut self,
        column: &'static str,
        values: &Several<T>,
        param: impl Fn(&T) -> Param,
    ) {
        let places: Vec<String> = values
            .values()
            .iter()
            .map(|value| {
                self.params.push(param(value));
                format!("${}", self.params.len())
            })
            .collect();
        match places.as_slice() {
            [] => {}
            [place] => self.text.push_str(&format!(" AND {column} = {place}")),
            several => self
                .text
                .push_str(&format!(" AND {column} IN ({})", several.join(", "))),
        }
    }

    /// Appends a text and its parameters as they are.
    pub(super) fn end<const N: usize>(&mut self, text: &'static str, params: [Param; N]) {
        let mut parts = text.split('?');
        self.text.push_str(parts.next().unwrap_or_default());
        for (part, param) in parts.zip(params) {
            self.params.push(param);
            self.text.push_str(&format!("${}{part}", self.params.len()));
        }
    }

    pub(super) fn parts(self) -> (String, Vec<Param>) {
        (self.text, self.params)
    }

    pub(super) async fn read(self, store: &Store) -> Result<Answer, StoreError> {
        store.driver.read(&self.text, self.params).await
    }
}
