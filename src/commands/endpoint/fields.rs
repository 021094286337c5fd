//! An endpoint's members as flags.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::when;

/// What `add` and `set` have in common.
#[derive(Debug, Args)]
pub(super) struct Fields {
    /// The URL that requests go to. Without a scheme it is http:// for this machine
    /// (localhost:9000), else https://
    #[arg(long)]
    url: Option<String>,
    /// What the endpoint is for, for people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// A type that the endpoint receives: exact (order.paid), a prefix (order.*) or *; repeatable
    /// [default: all]
    #[arg(long = "type", value_name = "PATTERN")]
    types: Vec<String>,
    /// A phone number that the endpoint receives notifications for, in E.164; repeatable [default:
    /// all]
    #[arg(long = "phone-number", value_name = "NUMBER")]
    phone_numbers: Vec<String>,
    /// A header that every request carries; repeatable, up to 50
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = parse_header)]
    headers: Vec<(String, String)>,
    /// A setting of the wire format; the value is JSON, else it is taken as text; @FILE is the text
    /// of a file, such as a script; repeatable
    #[arg(long = "setting", value_name = "KEY=JSON", value_parser = parse_setting)]
    settings: Vec<(String, Value)>,
    /// How long one attempt may take as a whole, 1s to 60s [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = when::duration)]
    timeout: Option<Duration>,
    /// The most retries after the first attempt, 0 to 100 [default: 4]
    #[arg(long, value_name = "N")]
    max_retries: Option<u32>,
    /// Delays before the retries, such as 1s,5s,5m,30m; `none` goes back to the default [default:
    /// 1s, 2s, 4s, 8s]
    #[arg(long, value_name = "LIST", value_parser = parse_delays)]
    delays: Option<Delays>,
    /// The most requests in flight at once, over all workers, 1 to 10000 [default: 32]
    #[arg(long, value_name = "N")]
    max_in_flight: Option<u32>,
    /// The most requests a second, over all workers; `none` for no limit [default: none]
    #[arg(long, value_name = "N", value_parser = parse_rate)]
    rate_limit: Option<Rate>,
    /// File with all members as a JSON object, as in the API; flags take precedence over it; `-`
    /// for stdin
    #[arg(long, value_name = "FILE")]
    from_json: Option<PathBuf>,
}

/// A signing secret of the user's own.
#[derive(Debug, Args)]
pub(super) struct SecretFlags {
    /// The signing secret; others can see it in `ps`, so prefer --secret-file [default: generated]
    #[arg(long, conflicts_with = "secret_file")]
    secret: Option<String>,
    /// File with the signing secret; `-` for stdin
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

#[derive(Debug, Clone)]
struct Delays(Option<Vec<u64>>);

#[derive(Debug, Clone, Copy)]
struct Rate(Option<f64>);

fn parse_header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("must be 'Name: value'")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

fn parse_setting(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("must be key=JSON")?;
    let value = match value.strip_prefix('@') {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| format!("{path} cannot be read: {error}"))?
            .into(),
        // Most settings are texts, and quotes within quotes are hard to type in a shell.
        None => serde_json::from_str(value).unwrap_or_else(|_| value.into()),
    };
    Ok((name.to_owned(), value))
}

fn parse_delays(text: &str) -> Result<Delays, String> {
    if text == "none" {
        return Ok(Delays(None));
    }
    let delay = |part: &str| {
        when::duration(part).map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX))
    };
    text.split(',')
        .map(delay)
        .collect::<Result<_, _>>()
        .map(|delays| Delays(Some(delays)))
}

fn parse_rate(text: &str) -> Result<Rate, String> {
    match text {
        "none" => Ok(Rate(None)),
        number => match number.parse::<f64>() {
            Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(Rate(Some(rate))),
            _ => Err("must be a number over 0, or none".to_owned()),
        },
    }
}

/// JSON from a flag: the value itself, or `@FILE`.
pub(crate) fn json_or_file(flag: &str, text: &str) -> Result<Value, Failure> {
    let content = match text.strip_prefix('@') {
        Some(path) => read(flag, &PathBuf::from(path))?,
        None => text.to_owned(),
    };
    serde_json::from_str(&content)
        .map_err(|error| Failure::wrong_use(format!("{flag} is not JSON: {error}")))
}

fn read(flag: &str, path: &PathBuf) -> Result<String, Failure> {
    let content = if path.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(path)
    };
    content.map_err(|error| {
        Failure::wrong_use(format!(
            "{flag}: {} cannot be read: {error}",
            path.display()
        ))
    })
}

impl SecretFlags {
    /// The secret, if one was given.
    pub(super) fn read(&self) -> Result<Option<String>, Failure> {
        match &self.secret_file {
            Some(path) => read("--secret-file", path).map(|text| Some(text.trim().to_owned())),
            None => Ok(self.secret.clone()),
        }
    }
}

impl Fields {
    /// The object of `--from-json`, or an empty one.
    pub(super) fn base(&self) -> Result<Map<String, Value>, Failure> {
        let Some(path) = &self.from_json else {
            return Ok(Map::new());
        };
        match serde_json::from_str(&read("--from-json", path)?) {
            Ok(Value::Object(object)) => Ok(object),
            Ok(_) => Err(Failure::wrong_use("--from-json: must be a JSON object")),
            Err(error) => Err(Failure::wrong_use(format!(
                "--from-json: {} is not JSON: {error}",
                path.display()
            ))),
        }
    }

    /// Whether members come from a file.
    pub(super) const fn is_from_json(&self) -> bool {
        self.from_json.is_some()
    }

    /// Whether single headers or settings are changed.
    pub(super) fn merges(&self) -> bool {
        !self.headers.is_empty() || !self.settings.is_empty()
    }

    /// Writes what was given over what `body` has.
    pub(super) fn write(&self, body: &mut Map<String, Value>) -> Result<(), Failure> {
        let mut put = |name: &str, value: Option<Value>| {
            body.extend(value.map(|value| (name.to_owned(), value)))
        };
        put("url", self.url.clone().map(Into::into));
        put("description", self.description.clone().map(Into::into));
        put(
            "timeout_ms",
            self.timeout.map(|timeout| json!(timeout.as_millis())),
        );
        put("max_in_flight", self.max_in_flight.map(Into::into));
        put(
            "rate_limit_per_second",
            self.rate_limit.map(|rate| json!(rate.0)),
        );
        if !self.types.is_empty() {
            member(body, "subscription")?.insert("types".to_owned(), json!(self.types));
        }
        if !self.phone_numbers.is_empty() {
            member(body, "subscription")?
                .insert("phone_numbers".to_owned(), json!(self.phone_numbers));
        }
        for (name, value) in &self.headers {
            let headers = member(body, "headers")?;
            headers.retain(|known, _| !known.eq_ignore_ascii_case(name));
            headers.insert(name.clone(), value.clone().into());
        }
        for (name, value) in &self.settings {
            member(body, "settings")?.insert(name.clone(), value.clone());
        }
        if let Some(retries) = self.max_retries {
            member(body, "retry")?.insert("max_retries".to_owned(), retries.into());
        }
        if let Some(Delays(delays)) = &self.delays {
            member(body, "retry")?.insert("delays_ms".to_owned(), json!(delays));
        }
        Ok(())
    }
}

/// The object under `name`, made when it is not there.
fn member<'a>(
    body: &'a mut Map<String, Value>,
    name: &str,
) -> Result<&'a mut Map<String, Value>, Failure> {
    let entry = body.entry(name).or_insert_with(|| json!({}));
    entry
        .as_object_mut()
        .ok_or_else(|| Failure::wrong_use(format!("--from-json: {name} must be an object")))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        fields: Fields,
    }

    #[test]
    fn a_setting_may_be_a_files_text() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "export default () => 1").unwrap();
        let setting = parse_setting(&format!("script=@{}", file.path().display()));
        assert_eq!(
            setting,
            Ok(("script".to_owned(), "export default () => 1".into()))
        );
        assert!(parse_setting("script=@/no/such/file").is_err());
    }

    #[test]
    fn flags_become_members() {
        let line = Line::try_parse_from([
            "x",
            "--url",
            "https://a",
            "--type",
            "a.*",
            "--header",
            "X-A: b: c",
            "--setting",
            "n=1",
            "--setting",
            "s=text",
            "--timeout",
            "1500ms",
            "--delays",
            "1s,5m",
            "--rate-limit",
            "none",
            "--max-retries",
            "2",
        ])
        .unwrap();
        let mut body = Map::new();
        body.insert("headers".to_owned(), json!({"x-a": "old", "x-b": "kept"}));
        line.fields.write(&mut body).unwrap();
        let expected = json!({
            "url": "https://a",
            "subscription": {"types": ["a.*"]},
            "headers": {"X-A": "b: c", "x-b": "kept"},
            "settings": {"n": 1, "s": "text"}, "timeout_ms": 1500, "rate_limit_per_second": null,
            "retry": {"max_retries": 2, "delays_ms": [1000, 300_000]},
        });
        assert_eq!(Value::Object(body), expected);
    }
}
