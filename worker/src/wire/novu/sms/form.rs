//! The settings of `novu-sms`, named as in Novu's integration form, and what can be wrong with
//! them.

use posthaste_shared::domain::header::{name_problem, value_problem};
use schemars::JsonSchema;
use serde::Deserialize;

use super::super::read_url;
use crate::wire::{FieldProblem, Header};

/// An endpoint's settings, named as in Novu's integration form.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Settings {
    /// Name of the header with the API key. Required.
    #[serde(rename = "apiKeyRequestHeader", alias = "api_key_request_header")]
    pub(super) api_key_request_header: Option<String>,
    /// The API key. Required.
    #[serde(rename = "apiKey", alias = "api_key")]
    pub(super) api_key: Option<String>,
    /// Name of a second header, sent when it and `secretKey` are there.
    #[serde(rename = "secretKeyRequestHeader", alias = "secret_key_request_header")]
    pub(super) secret_key_request_header: Option<String>,
    /// Value of the second header.
    #[serde(rename = "secretKey", alias = "secret_key")]
    pub(super) secret_key: Option<String>,
    /// The sender, where no override names another. Required.
    pub(super) from: Option<String>,
    /// Dot path to the message's id in the answer.
    #[serde(rename = "idPath", alias = "id_path")]
    pub(super) id_path: String,
    /// Dot path to the message's date in the answer.
    #[serde(rename = "datePath", alias = "date_path")]
    pub(super) date_path: String,
    /// Whether a token is fetched from `domain` before each message.
    #[serde(rename = "authenticateByToken", alias = "authenticate_by_token")]
    pub(super) authenticate_by_token: bool,
    /// URL that gives the token. Required with `authenticateByToken`.
    pub(super) domain: Option<String>,
    /// Member of that answer's `data` and name of the header for the token. Required with
    /// `authenticateByToken`.
    #[serde(rename = "authenticationTokenKey", alias = "authentication_token_key")]
    pub(super) authentication_token_key: Option<String>,
    /// Whether the body also has `from`, `id` and `customData`, as Novu's code sends it.
    pub(super) full_body: bool,
    /// Whether the request with a token goes without the API key headers, as from Novu hosted by
    /// oneself.
    pub(super) token_replaces_keys: bool,
    /// Whether a 2xx answer without an id is success.
    pub(super) id_optional: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            api_key_request_header: None,
            api_key: None,
            secret_key_request_header: None,
            secret_key: None,
            from: None,
            id_path: "data.id".to_owned(),
            date_path: "data.date".to_owned(),
            authenticate_by_token: false,
            domain: None,
            authentication_token_key: None,
            full_body: false,
            token_replaces_keys: false,
            id_optional: false,
        }
    }
}

impl Settings {
    pub(super) fn key_headers(&self) -> Vec<Header> {
        let pairs = [
            (&self.api_key_request_header, &self.api_key),
            (&self.secret_key_request_header, &self.secret_key),
        ];
        let both = pairs
            .into_iter()
            .filter_map(|(name, value)| Some((given(name)?, given(value)?)));
        both.map(|(name, value)| Header::secret(name, value))
            .collect()
    }

    pub(super) fn problems(&self) -> Vec<FieldProblem> {
        let mut problems = Problems::default();
        let keys = [
            (
                "apiKeyRequestHeader",
                &self.api_key_request_header,
                "the name of the header with the API key",
            ),
            ("apiKey", &self.api_key, "the value of that header"),
            ("from", &self.from, "the default sender"),
        ];
        problems.missing(&keys);
        problems.names(&[
            ("apiKeyRequestHeader", &self.api_key_request_header),
            ("secretKeyRequestHeader", &self.secret_key_request_header),
            ("authenticationTokenKey", &self.authentication_token_key),
        ]);
        for (setting, value) in [("apiKey", &self.api_key), ("secretKey", &self.secret_key)] {
            problems.add(setting, given(value).and_then(value_problem));
        }
        for (setting, path) in [("idPath", &self.id_path), ("datePath", &self.date_path)] {
            problems.add(
                setting,
                path.is_empty()
                    .then_some("must be a dot path, such as data.id"),
            );
        }
        if self.authenticate_by_token {
            problems.missing(&[
                ("domain", &self.domain, "the URL that gives the token"),
                (
                    "authenticationTokenKey",
                    &self.authentication_token_key,
                    "the token's member and header",
                ),
            ]);
        }
        problems.add(
            "domain",
            given(&self.domain).and_then(|url| read_url(url).err()),
        );
        problems.0
    }
}

/// An empty setting is one that is left out: forms save them so.
pub(super) fn given(setting: &Option<String>) -> Option<&str> {
    setting.as_deref().filter(|text| !text.is_empty())
}

#[derive(Default)]
struct Problems(Vec<FieldProblem>);

impl Problems {
    fn add(&mut self, setting: &str, problem: Option<impl Into<String>>) {
        let field = format!("settings.{setting}");
        self.0.extend(problem.map(|problem| FieldProblem {
            field,
            problem: problem.into(),
        }));
    }

    fn missing(&mut self, settings: &[(&str, &Option<String>, &str)]) {
        for (setting, value, what) in settings {
            self.add(
                setting,
                given(value)
                    .is_none()
                    .then(|| format!("is missing: {what}")),
            );
        }
    }

    fn names(&mut self, settings: &[(&str, &Option<String>)]) {
        for (setting, value) in settings {
            self.add(setting, given(value).and_then(name_problem));
        }
    }
}
