//! What a transform returned, read and checked: whatever it may not be is refused, so that a slip
//! of the script never sends what it was meant to change.

use std::collections::{BTreeMap, HashSet};

use posthaste_shared::domain::header;
use posthaste_shared::domain::raw_json::RawJson;
use posthaste_shared::domain::round::Transformed;
use posthaste_shared::domain::secret::Secret;
use serde::{Deserialize, Deserializer};
use url::Url;

use super::NotTransformed;
use super::untouched::{NotANumber, kept_as_given};
use crate::wire::settings::read;
use crate::wire::{RenderError, Skip};

/// What is said to the author where neither is there.
const NO_PAYLOAD: &str = "it returned no payload: return { payload: … }, or { keep_payload: true \
                          } to send the \
                          notification's own payload as it came";

/// What the engine hands over.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Handed {
    /// The object that the script returned.
    Returned(RawJson),
    /// Why what it returned cannot be used.
    Problem(String),
}

/// The object that the script returned. A member that is there has a value: null counts as missing,
/// except for the payload.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Members {
    #[serde(deserialize_with = "given")]
    payload: Option<RawJson>,
    #[serde(deserialize_with = "given")]
    keep_payload: Option<bool>,
    #[serde(deserialize_with = "given")]
    headers: Option<BTreeMap<String, Secret>>,
    #[serde(deserialize_with = "given")]
    url: Option<String>,
    #[serde(deserialize_with = "given")]
    skip: Option<bool>,
}

fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Reads what the engine handed over, for a notification whose payload is `given`.
///
/// # Errors
/// A skip that the script asked for, or what is wrong with what it returned.
pub(super) fn transformed(handed: &str, given: &RawJson) -> Result<Transformed, NotTransformed> {
    let handed: Handed =
        serde_json::from_str(handed).map_err(|error| refused(error.to_string()))?;
    let returned = match handed {
        Handed::Returned(returned) => returned,
        Handed::Problem(problem) => return Err(refused(advised(&problem))),
    };
    let members: Members = read("the object that it returned", &returned)
        .map_err(|error: RenderError| refused(advised(&error.to_string())))?;
    if members.skip == Some(true) {
        let text = "the endpoint's transform wants nothing sent of it".to_owned();
        return Err(NotTransformed::Skip(Skip {
            code: "transform",
            text,
        }));
    }
    let payload = match (members.payload, members.keep_payload) {
        (Some(payload), None | Some(false)) => Some(as_given(given, &payload)?),
        (None, Some(true)) => None,
        (None, None | Some(false)) => return Err(refused(NO_PAYLOAD.to_owned())),
        (Some(_), Some(true)) => {
            let problem = "it returned a payload and keep_payload: true: return one of the two";
            return Err(refused(problem.to_owned()));
        }
    };
    let headers: Vec<(String, Secret)> = members.headers.unwrap_or_default().into_iter().collect();
    if headers.len() > header::MAX_ADDED {
        return Err(refused(format!(
            "it returned {} headers; at most {} are sent",
            headers.len(),
            header::MAX_ADDED
        )));
    }
    let mut names = HashSet::new();
    for (name, value) in &headers {
        let twice = !names.insert(name.to_ascii_lowercase());
        let problem = if twice {
            Some("is there twice")
        } else {
            header::problem(name, value.expose())
        };
        if let Some(problem) = problem {
            return Err(refused(format!(
                "the header {name:?} that it returned {problem}"
            )));
        }
    }
    if let Some(text) = &members.url {
        // Whether it may be called is asked when it is.
        Url::parse(text).map_err(|error| {
            refused(format!(
                "the url that it returned cannot be read: {error}; it must be whole, https://…"
            ))
        })?;
    }
    Ok(Transformed {
        payload,
        headers,
        url: members.url,
    })
}

/// The payload, with what the script did not touch as it was given.
fn as_given(given: &RawJson, returned: &RawJson) -> Result<RawJson, NotTransformed> {
    let text = kept_as_given(given.as_str(), returned.as_str()).map_err(|NotANumber(place)| {
        refused(format!("{place} is Infinity, which JSON does not have"))
    })?;
    RawJson::parse(text).map_err(|error| refused(error.to_string()))
}

fn advised(problem: &str) -> String {
    format!(
        "{problem}; it must return {{ payload or keep_payload: true, headers?, url? }} or {{ \
         skip: true }}"
    )
}

fn refused(problem: String) -> NotTransformed {
    NotTransformed::Unusable(problem)
}
