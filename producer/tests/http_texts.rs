//! The texts of the OpenAPI document: each says what it describes, in a sentence that stands alone.

use posthaste_producer::http::openapi;
use serde_json::Value;

/// The fewest words of a description or a summary: with less, a reader learns no more than from the
/// name.
const LEAST: usize = 4;
/// "Any JSON value" says all that there is to say. No other text is let through.
const ENOUGH: &str = "/components/schemas/RawJson/description";

/// Every description and summary below `value`, with its path.
fn texts(value: &Value, path: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => {
            // A schema may have a property that is called `description`: that is no text.
            let properties = path.ends_with("/properties");
            for (name, inner) in members {
                let path = format!("{path}/{name}");
                match inner {
                    Value::String(text)
                        if !properties && matches!(name.as_str(), "description" | "summary") =>
                    {
                        found.push((path, text.clone()));
                    }
                    // Data, not schemas.
                    _ if !properties && matches!(name.as_str(), "example" | "examples") => {}
                    _ => texts(inner, &path, found),
                }
            }
        }
        Value::Array(items) => {
            for (index, inner) in items.iter().enumerate() {
                texts(inner, &format!("{path}/{index}"), found);
            }
        }
        _ => {}
    }
}

#[test]
fn every_text_has_at_least_four_words() {
    let mut found = Vec::new();
    texts(&openapi(), "", &mut found);
    assert!(found.len() > 300, "{} texts", found.len());
    let short: Vec<String> = found
        .iter()
        .filter(|(path, text)| text.split_whitespace().count() < LEAST && path != ENOUGH)
        .map(|(path, text)| format!("{path}: {text:?}"))
        .collect();
    assert!(short.is_empty(), "{}", short.join("\n"));
}

#[test]
fn every_operation_has_a_summary_and_described_parameters_and_answers() {
    let document = openapi();
    let operations = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .chain(document["webhooks"].as_object().unwrap())
        .flat_map(|(path, item)| {
            let item = item.as_object().unwrap().iter();
            item.map(move |(method, operation)| (format!("{method} {path}"), operation))
        });
    for (name, operation) in operations {
        assert!(operation["summary"].is_string(), "{name} has no summary");
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            assert!(
                parameter["description"].is_string(),
                "{name} does not describe {parameter}"
            );
        }
        for (status, answer) in operation["responses"].as_object().unwrap() {
            assert!(
                answer["description"].is_string() || answer["$ref"].is_string(),
                "{name} does not describe its answer {status}"
            );
        }
    }
}
