//! What Novu's two webhook providers share: the layers of a notification's overrides, the members
//! of answers, URLs as its forms take them.

pub(super) mod push;
pub(super) mod sms;

use posthaste_shared::domain::header::{MAX_ADDED, name_problem, value_problem};
use posthaste_shared::domain::notification::Notification;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::domain::view::is_harmless_header;
use serde_json::{Map, Value};
use url::Url;

use super::merge::{Arrays, lay_over};
use super::{Header, RenderError, answer, settings};

/// The member of a provider's override that goes into the request as it is.
const PASSTHROUGH: &str = "_passthrough";

/// Where a provider's overrides are found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names {
    /// Of all providers of the channel.
    pub(super) channel: &'static str,
    /// As Novu names the provider.
    pub(super) provider: &'static str,
    /// As Posthaste names it.
    pub(super) own: &'static str,
    /// Members that must be texts, or null for none.
    pub(super) texts: &'static [&'static str],
}

/// A notification's overrides for one provider.
#[derive(Debug, Default)]
pub(super) struct Layers {
    /// Those of the channel.
    pub(super) channel: Map<String, Value>,
    /// Those beside `providers`: Novu's older place.
    pub(super) trigger: Map<String, Value>,
    /// Those under `providers`, of all steps and of this one.
    pub(super) provider: Map<String, Value>,
    /// Members for the body, names as they are.
    pub(super) body: Map<String, Value>,
    /// Headers for the request.
    pub(super) headers: Vec<Header>,
}

/// Reads the overrides. Places of a provider are merged, later ones win, arrays are replaced.
///
/// # Errors
/// The member, such as `overrides.sms.to`, and what it must be.
pub(super) fn layers(
    notification: &Notification,
    names: &Names,
    step: Option<&str>,
) -> Result<Layers, RenderError> {
    let all: Map<String, Value> = settings::overrides(notification)?;
    let root = Place {
        path: "overrides".to_owned(),
        members: Some(&all),
    };
    let mut layers = Layers {
        channel: root.get(names.channel)?.checked(names)?,
        ..Layers::default()
    };
    let mut passthrough = Map::new();
    // In this order, since later places win: what is written under the name that only Posthaste has
    // was meant for Posthaste.
    for name in [names.provider, names.own] {
        lay_apart(
            root.get(name)?.checked(names)?,
            &mut layers.trigger,
            &mut passthrough,
        );
    }
    // Those of all steps before those of one step, so that the latter win.
    let everywhere = root.get("providers")?.get(names.provider)?.checked(names)?;
    lay_apart(everywhere, &mut layers.provider, &mut passthrough);
    if let Some(step) = step {
        let here = root
            .get("steps")?
            .get(step)?
            .get("providers")?
            .get(names.provider)?
            .checked(names)?;
        lay_apart(here, &mut layers.provider, &mut passthrough);
    }
    // Only now, from all places together: a null in a later place takes a header away that an
    // earlier one set.
    layers.headers = passthrough
        .shift_remove("headers")
        .iter()
        .flat_map(headers)
        .collect();
    // Each place has its bound, and several places may add up.
    if layers.headers.len() > MAX_ADDED {
        return Err(RenderError::new(
            "overrides",
            format!("must have at most {MAX_ADDED} headers in all"),
        ));
    }
    if let Some(Value::Object(body)) = passthrough.shift_remove("body") {
        layers.body = body;
    }
    Ok(layers)
}

/// Lays one place's members over `known`, and its `_passthrough` over `passthrough`.
fn lay_apart(
    mut members: Map<String, Value>,
    known: &mut Map<String, Value>,
    passthrough: &mut Map<String, Value>,
) {
    if let Some(Value::Object(apart)) = members.shift_remove(PASSTHROUGH) {
        lay_over(passthrough, apart, Arrays::Replace);
    }
    lay_over(known, members, Arrays::Replace);
}

/// A null among them takes one away that was set before it.
fn headers(members: &Value) -> impl Iterator<Item = Header> {
    let members = members.as_object().into_iter().flatten();
    members.filter_map(|(name, value)| {
        let value = scalar_text(value)?;
        // Shown with the attempt only where the name is known to carry no credentials. A new name
        // is taken for a secret until somebody says otherwise.
        Some(if is_harmless_header(name) {
            Header::open(name, value)
        } else {
            Header::secret(name, value)
        })
    })
}

/// An object of the overrides, or none, and where it stands.
struct Place<'a> {
    path: String,
    members: Option<&'a Map<String, Value>>,
}

impl<'a> Place<'a> {
    fn get(&self, name: &str) -> Result<Place<'a>, RenderError> {
        let path = format!("{}.{name}", self.path);
        match self.members.and_then(|members| members.get(name)) {
            None | Some(Value::Null) => Ok(Place {
                path,
                members: None,
            }),
            Some(Value::Object(members)) => Ok(Place {
                path,
                members: Some(members),
            }),
            Some(_) => Err(RenderError::new(path, "must be an object")),
        }
    }

    fn checked(&self, names: &Names) -> Result<Map<String, Value>, RenderError> {
        let Some(members) = self.members else {
            return Ok(Map::new());
        };
        for name in names.texts {
            if !matches!(
                members.get(*name),
                None | Some(Value::Null | Value::String(_))
            ) {
                return Err(RenderError::new(
                    format!("{}.{name}", self.path),
                    "must be a string",
                ));
            }
        }
        let passthrough = self.get(PASSTHROUGH)?;
        // Asked for its type alone: here the error can still name the place, after the merge it
        // could not.
        passthrough.get("body")?;
        passthrough.get("headers")?.check_headers()?;
        Ok(members.clone())
    }

    fn check_headers(&self) -> Result<(), RenderError> {
        if self
            .members
            .is_some_and(|members| members.len() > MAX_ADDED)
        {
            return Err(RenderError::new(
                &self.path,
                format!("must have at most {MAX_ADDED} headers"),
            ));
        }
        for (name, value) in self.members.into_iter().flatten() {
            let problem = match (value, scalar_text(value)) {
                (Value::Null, _) => None,
                (_, None) => Some("must be a string"),
                (_, Some(value)) => name_problem(name).or_else(|| value_problem(&value)),
            };
            if let Some(problem) = problem {
                return Err(RenderError::new(format!("{}.{name}", self.path), problem));
            }
        }
        Ok(())
    }
}

/// A member that is a text with something in it.
pub(super) fn text<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    members.get(name)?.as_str().filter(|text| !text.is_empty())
}

/// A text, number or boolean as a text, as JavaScript's `String()` writes it.
pub(super) fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        // 42.0 is 42 there.
        Value::Number(number) if number.is_f64() => {
            number.as_f64().map(|number| number.to_string())
        }
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The value at a dot path of an answer's body as a text; `None` where there is none, or an empty
/// one.
pub(super) fn answered(body: &[u8], path: &str) -> Option<String> {
    let value = answer::scalar_at(&answer::text(body), path)?;
    scalar_text(&value).filter(|text| !text.is_empty())
}

/// The same for the member `name` of the object `outer`, where a dot in the name has no meaning.
pub(super) fn answered_member(body: &[u8], outer: &str, name: &str) -> Option<String> {
    let text = answer::text(body);
    let (_, object) = answer::members(&text)?
        .into_iter()
        .rev()
        .find(|(member, _)| member == outer)?;
    let (_, value) = answer::members(object.get())?
        .into_iter()
        .rev()
        .find(|(member, _)| member == name)?;
    scalar_text(&serde_json::from_str(value.get()).ok()?).filter(|text| !text.is_empty())
}

/// `2026-01-01T00:00:00.123Z`, as JavaScript's `toISOString` writes it.
pub(super) fn iso_date(now: Timestamp) -> String {
    // Three digits always. Our own spelling drops zeros at the end, and takes six.
    let seconds = Timestamp::from_micros(now.as_seconds().saturating_mul(1_000_000)).to_string();
    let millis = now.as_micros().rem_euclid(1_000_000) / 1_000;
    format!("{}.{millis:03}Z", seconds.trim_end_matches('Z'))
}

/// `Sat Nov 21 2026` in UTC, as JavaScript's `toDateString` writes it.
pub(super) fn day_date(now: Timestamp) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let text = now.to_string();
    let mut parts = text.split(['-', 'T']);
    let year = parts.next();
    let month = parts.next();
    let day = parts.next();
    let month = month
        .and_then(|month| month.parse::<usize>().ok())
        .and_then(|month| MONTHS.get(month - 1));
    // 1970-01-01 was a Thursday.
    let weekday = usize::try_from(now.as_seconds().div_euclid(86_400).rem_euclid(7))
        .ok()
        .and_then(|day| DAYS.get(day));
    match (weekday, month, day, year) {
        (Some(weekday), Some(month), Some(day), Some(year)) => {
            format!("{weekday} {month} {day} {year}")
        }
        _ => text,
    }
}

/// Reads a URL; without a scheme it becomes https.
///
/// # Errors
/// What it must be.
pub(super) fn read_url(text: &str) -> Result<Url, &'static str> {
    let text = text.trim();
    // Novu's form takes a bare domain. `https` and not `http`, as a token comes back from there.
    let with_scheme = if text.contains("://") {
        text.to_owned()
    } else {
        format!("https://{text}")
    };
    let url =
        Url::parse(&with_scheme).map_err(|_| "must be a URL, such as https://example.com/auth")?;
    if !matches!(url.scheme(), "https" | "http") || !url.has_host() {
        return Err("must be a URL, such as https://example.com/auth");
    }
    // They would stand in logs and in errors, where settings are shown; a header's value is kept
    // from both.
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must have no user or password in it: put credentials into a header");
    }
    Ok(url)
}

#[cfg(test)]
pub(super) mod fixture;
#[cfg(test)]
mod tests;
