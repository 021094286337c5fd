//! Reading the settings of tracing. Lists are written as OpenTelemetry's own variables are:
//! `name=value`, comma-separated, values percent-encoded.

use http::{HeaderName, HeaderValue};
use url::Url;

use super::value::InvalidValue;

/// The resource attribute that names the service.
pub(super) const SERVICE_NAME: &str = "service.name";
/// What stands behind a collector's base URL (OTLP 1, "OTLP/HTTP Request").
const TRACES_PATH: &str = "v1/traces";

/// Where spans go, and which.
#[derive(Debug, Clone, PartialEq)]
pub struct TracingConfig {
    /// The whole URL that spans are posted to.
    pub endpoint: Url,
    /// What goes with each request. Marked as sensitive, so `Debug` shows no value.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The share of traces that begin here to record, 0 to 1.
    pub sample_ratio: f64,
    /// Attributes that the operator gave the process.
    pub resource: Vec<(String, String)>,
}

/// The URL that spans are posted to; `None` for `off`.
pub(super) fn endpoint(text: &str) -> Result<Option<Url>, InvalidValue> {
    if text == "off" {
        return Ok(None);
    }
    let wrong = |what: &str| {
        InvalidValue(format!(
            "must be a collector's URL such as http://127.0.0.1:4318{what}"
        ))
    };
    let mut url = Url::parse(text).map_err(|_| wrong(", or off"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(wrong(", or off"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong(
            ", without a user or password: put credentials into tracing_headers",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong(", without a query"));
    }
    let path = url.path().trim_end_matches('/').to_owned();
    if !path.ends_with(&format!("/{TRACES_PATH}")) {
        url.set_path(&format!("{path}/{TRACES_PATH}"));
    }
    Ok(Some(url))
}

pub(super) fn ratio(text: &str) -> Result<f64, InvalidValue> {
    let ratio = text
        .parse::<f64>()
        .ok()
        .filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| {
        InvalidValue("must be a number from 0 (none) to 1 (all), such as 0.1".to_owned())
    })
}

pub(super) fn headers(text: &str) -> Result<Vec<(HeaderName, HeaderValue)>, InvalidValue> {
    let header = |(name, value): (String, String)| {
        let wrong = |what: &str| {
            InvalidValue(format!(
                "must have a name and a value that headers can have: {what}"
            ))
        };
        let parsed =
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong("a name is none"))?;
        let mut value = HeaderValue::from_str(&value)
            .map_err(|_| wrong(&format!("that of {parsed} is none")))?;
        value.set_sensitive(true);
        Ok((parsed, value))
    };
    pairs(text)?.into_iter().map(header).collect()
}

/// `name=value,name=value`; the errors show no value, as it may be secret.
pub(super) fn pairs(text: &str) -> Result<Vec<(String, String)>, InvalidValue> {
    let pair = |(place, item): (usize, &str)| {
        let wrong = |what: &str| {
            InvalidValue(format!(
                "must be name=value, comma-separated: item {} {what}",
                place + 1
            ))
        };
        let (name, value) = item.split_once('=').ok_or_else(|| wrong("has no ="))?;
        if name.trim().is_empty() {
            return Err(wrong("has no name"));
        }
        let value = percent_decoded(value.trim())
            .ok_or_else(|| wrong("has a % that does not begin a percent-encoding"))?;
        Ok((name.trim().to_owned(), value))
    };
    let items = text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty());
    items.enumerate().map(pair).collect()
}

/// RFC 3986, section 2.1. `None` for a `%` without two digits behind it, or for what is not UTF-8
/// then.
fn percent_decoded(text: &str) -> Option<String> {
    // By hand, as `percent-encoding` leaves a `%` that begins nothing as it is: a token with one in
    // it would be sent wrong, and the collector's 401 would not say why.
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        rest = behind;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, behind) = behind.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits)
            .ok()
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = behind;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_added_to_a_base_url() {
        let read = |text: &str| endpoint(text).unwrap().unwrap().to_string();
        assert_eq!(
            read("http://127.0.0.1:4318"),
            "http://127.0.0.1:4318/v1/traces"
        );
        assert_eq!(
            read("https://otlp.example/tenant/"),
            "https://otlp.example/tenant/v1/traces"
        );
        assert_eq!(
            read("https://otlp.example/v1/traces"),
            "https://otlp.example/v1/traces"
        );
        assert_eq!(endpoint("off"), Ok(None));
        for wrong in [
            "collector:4317",
            "4318",
            "grpc://c:4317",
            "http://",
            "http://u:p@c:4318",
            "http://c/?key=1",
        ] {
            assert!(
                endpoint(wrong)
                    .unwrap_err()
                    .0
                    .contains("http://127.0.0.1:4318"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn lists_are_read_as_opentelemetry_writes_them() {
        let read = pairs(" a=1 , b=c%20d%2Ce=f,").unwrap();
        assert_eq!(
            read,
            [
                ("a".to_owned(), "1".to_owned()),
                ("b".to_owned(), "c d,e=f".to_owned())
            ]
        );
        for (wrong, what) in [
            ("a", "item 1 has no ="),
            ("a=1,=2", "item 2 has no name"),
            ("a=%zz", "has a %"),
            ("a=%f", "%"),
        ] {
            assert!(pairs(wrong).unwrap_err().0.contains(what), "{wrong}");
        }
    }

    #[test]
    fn headers_keep_their_secret() {
        let read = headers("authorization=Bearer%20hunter2").unwrap();
        assert_eq!(read[0].1, "Bearer hunter2");
        assert!(!format!("{read:?}").contains("hunter2"));
        assert!(headers("a b=1").is_err());
        assert!(!headers("x=hunter2%0A").unwrap_err().0.contains("hunter2"));
    }

    #[test]
    fn ratios() {
        assert_eq!(ratio("0.25"), Ok(0.25));
        for wrong in ["-0.1", "1.01", "NaN", "all", "10%"] {
            assert!(ratio(wrong).is_err(), "{wrong}");
        }
    }
}
