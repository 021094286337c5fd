//! What the first attempt of a round settles for those that follow: they send the same under the
//! same id.

use serde::{Deserialize, Deserializer, Serialize};

use super::raw_json::RawJson;
use super::secret::Secret;

/// What an endpoint's transform returned for a notification when a round began; kept until the
/// round ends, even if the endpoint's transform is changed meanwhile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoundContent {
    /// The endpoint had no transform: the notification is sent as it is.
    Untransformed,
    /// The endpoint's transform returned this.
    Transformed(Transformed),
}

/// What a transform returned: the changes to a delivery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transformed {
    /// The payload that is sent, as JSON text of at most 256 KiB and what it has of the
    /// notification's own; `None` for that payload, byte for byte.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "given"
    )]
    pub payload: Option<RawJson>,
    /// Headers that are added to the request, known to be writable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, Secret)>,
    /// Where the request goes, if not where the endpoint says; known to be a URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// A payload that is there may be null.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<RawJson>, D::Error> {
    RawJson::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_of_null_is_not_one_that_is_left_out() {
        for payload in [None, Some("null"), Some("{ \"n\": 1.0 }")] {
            let payload = payload.map(|text| RawJson::parse(text.to_owned()).unwrap());
            let kept = RoundContent::Transformed(Transformed {
                payload,
                headers: Vec::new(),
                url: None,
            });
            let text = serde_json::to_string(&kept).unwrap();
            assert_eq!(
                serde_json::from_str::<RoundContent>(&text).unwrap(),
                kept,
                "{text}"
            );
        }
    }
}
