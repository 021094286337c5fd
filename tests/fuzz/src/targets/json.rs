//! JSON that is kept as it was written, against serde_json's own reader.

use posthaste_shared::domain::raw_json::RawJson;

use super::Target;

pub(super) const TARGET: Target = Target {
    name: "json",
    about: "JSON: taken where serde_json takes it, and kept byte for byte",
    run,
    tokens: &["{\"a\":1}", "[1,2]", " ", "\t", "1.0e2", "\"\\u00e9\""],
};

fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let reference = serde_json::from_str::<serde::de::IgnoredAny>(text);
    match RawJson::parse(text.to_owned()) {
        Ok(kept) => {
            assert!(reference.is_ok(), "{text:?} is not JSON");
            assert_eq!(kept.as_str(), text.trim_ascii(), "it was changed");
        }
        Err(problem) => {
            assert!(!problem.to_string().is_empty(), "refused without a reason");
            let deep = serde_json::from_str::<serde_json::Value>(text).is_err();
            assert!(reference.is_err() || deep, "{text:?} is JSON: {problem}");
        }
    }
}
