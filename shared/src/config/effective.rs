//! What every setting is in the end, and where it is from, as `doctor` shows it.

use url::Url;

use super::Effective;
use super::settings::{self, Kind, SETTINGS};
use super::source::Source;
use super::value::amqp_urls;
use super::values::Values;
use crate::domain::view::{REDACTED, looks_secret};

impl Values {
    pub(super) fn effective(&self) -> Vec<Effective> {
        let of = |setting: &settings::Setting| {
            let raw = self.0.get(setting.key);
            let shown = match raw {
                None => String::new(),
                // Before `secret`: these are secrets, too, and which host and database they name is
                // what an operator looks for.
                Some(raw) if setting.kind == Kind::Url => {
                    let urls = amqp_urls(&raw.text);
                    urls.iter()
                        .map(|url| without_password(url))
                        .collect::<Vec<_>>()
                        .join(",")
                }
                Some(_) if setting.secret => REDACTED.to_owned(),
                Some(raw) => raw.text.clone(),
            };
            let source = raw.map_or(Source::Default, |raw| raw.source.clone());
            Effective {
                key: setting.key,
                shown,
                source,
            }
        };
        SETTINGS.iter().map(of).collect()
    }
}

/// A URL that may be shown: without its password, and without query values, which may hold one,
/// too.
fn without_password(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else {
        // `embedded`; anything else that is not a URL was refused before.
        return if text == "embedded" {
            text.to_owned()
        } else {
            REDACTED.to_owned()
        };
    };
    // A password with `/`, `?` or `#` that was not escaped: what is left of it stands behind what
    // passes for the host then, before an `@`.
    let behind = url.as_str().get(url[..url::Position::AfterPort].len()..);
    if url.scheme() != "sqlite" && behind.is_some_and(|rest| rest.contains('@')) {
        return REDACTED.to_owned();
    }
    if url.password().is_some() && url.set_password(Some("redacted")).is_err() {
        return REDACTED.to_owned();
    }
    let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    // Rewritten only then, since writing it anew changes how the query is escaped.
    if pairs.iter().any(|(name, _)| looks_secret(name)) {
        url.query_pairs_mut()
            .clear()
            .extend_pairs(pairs.iter().map(|(name, value)| {
                (
                    name,
                    if looks_secret(name) {
                        "redacted"
                    } else {
                        value
                    },
                )
            }));
    }
    url.to_string()
}
