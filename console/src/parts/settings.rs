//! The settings of a wire format as fields: made from its JSON Schema, and read back by it.

use maud::{Markup, html};
use posthaste_producer::http::problem::FieldProblem;
use serde_json::{Map, Value};

use crate::parts::fields::{Choice, Field, Fields};
use crate::parts::query::Query;

/// What the names of these fields begin with: the path of their members.
const PREFIX: &str = "settings.";

/// How a setting is typed in.
#[derive(Debug, Clone, PartialEq)]
enum Kind {
    /// Yes or no.
    Switch,
    /// One of these, with what each is.
    Words(Vec<Choice>),
    Number,
    Text,
    /// A script.
    Script,
    /// Anything else, as JSON.
    Json,
}

/// The fields of a wire format's settings.
pub(crate) fn inputs(fields: Fields<'_>, schema: &Value) -> Markup {
    html! {
        @for (name, property) in properties(schema) {
            (input(fields, schema, name, property))
        }
    }
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema["properties"].as_object().into_iter().flatten()
}

fn input(fields: Fields<'_>, schema: &Value, name: &str, property: &Value) -> Markup {
    let member = format!("{PREFIX}{name}");
    let description = property["description"].as_str().unwrap_or_default();
    let mut description = description.replace('\n', " ");
    let default = &property["default"];
    if let Some(text) = default.as_str().filter(|text| !text.is_empty()) {
        description.push_str(&format!(" Default `{text}`."));
    }
    let field = Field {
        name: &member,
        label: name,
        help: &description,
    };
    let unset = |word: &str| (String::new(), word.to_owned());
    match kind(schema, name, property) {
        Kind::Switch => {
            let default = if default == true { "yes" } else { "no" };
            let choices = [
                unset(&format!("default: {default}")),
                ("true".to_owned(), "yes".to_owned()),
                ("false".to_owned(), "no".to_owned()),
            ];
            fields.choice(field, &choices)
        }
        Kind::Words(words) => {
            let mut choices = vec![unset("default")];
            choices.extend(words);
            fields.choice(field, &choices)
        }
        Kind::Number => fields.line(field, "number"),
        Kind::Text => fields.line(field, "text"),
        Kind::Script => fields.area(field, 12),
        Kind::Json => fields.area(field, 3),
    }
}

fn kind(schema: &Value, name: &str, property: &Value) -> Kind {
    if matches!(name, "transform" | "script") {
        return Kind::Script;
    }
    let property = resolved(schema, property);
    if let Some(words) = words(property) {
        return Kind::Words(words);
    }
    let types: Vec<&str> = match &property["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let types: Vec<&str> = types.into_iter().filter(|it| *it != "null").collect();
    match types.as_slice() {
        ["boolean"] => Kind::Switch,
        ["integer" | "number"] => Kind::Number,
        ["string"] => Kind::Text,
        _ => Kind::Json,
    }
}

/// A property, without what it refers to by name and without the choice of null.
fn resolved<'a>(schema: &'a Value, property: &'a Value) -> &'a Value {
    let named = property["$ref"]
        .as_str()
        .and_then(|name| name.strip_prefix("#/$defs/"));
    if let Some(name) = named {
        return &schema["$defs"][name];
    }
    let others = property["anyOf"].as_array().into_iter().flatten();
    let mut others = others.filter(|one| one["type"] != "null");
    match (others.next(), others.next()) {
        (Some(one), None) => resolved(schema, one),
        _ => property,
    }
}

/// The words of an enumeration, as both ways of writing one have them.
fn words(property: &Value) -> Option<Vec<Choice>> {
    if let Some(words) = property["enum"].as_array() {
        let words = words.iter().map(|word| Some((word.as_str()?, "")));
        return words.map(|word| word.map(choice)).collect();
    }
    let variants = property["oneOf"].as_array()?;
    let words = variants.iter().map(|variant| {
        let description = variant["description"].as_str().unwrap_or_default();
        Some((variant["const"].as_str()?, description))
    });
    words.map(|word| word.map(choice)).collect()
}

fn choice((word, description): (&str, &str)) -> Choice {
    let description = description.replace('\n', " ");
    let says = match description.as_str() {
        "" => word.to_owned(),
        description => format!("{word}: {description}"),
    };
    (word.to_owned(), says)
}

/// The texts of settings, by their fields.
pub(crate) fn texts(settings: &Map<String, Value>) -> impl Iterator<Item = (String, String)> {
    settings.iter().map(|(name, value)| {
        let text = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        (format!("{PREFIX}{name}"), text)
    })
}

/// The settings that the texts stand for; an empty field is none.
///
/// # Errors
/// The fields that are to be JSON and are not.
pub(crate) fn read(
    values: &Query,
    schema: &Value,
) -> Result<Map<String, Value>, Vec<FieldProblem>> {
    let mut settings = Map::new();
    let mut problems = Vec::new();
    for (name, property) in properties(schema) {
        let member = format!("{PREFIX}{name}");
        let Some(text) = values.get(&member) else {
            continue;
        };
        let value = match kind(schema, name, property) {
            Kind::Switch => Value::Bool(text == "true"),
            Kind::Number => number(text),
            Kind::Words(_) | Kind::Text => text.into(),
            Kind::Script => text.replace("\r\n", "\n").into(),
            Kind::Json => match serde_json::from_str(text) {
                Ok(value) => value,
                Err(error) => {
                    problems.push(FieldProblem::new(member, format!("is not JSON: {error}")));
                    continue;
                }
            },
        };
        settings.insert(name.clone(), value);
    }
    if problems.is_empty() {
        Ok(settings)
    } else {
        Err(problems)
    }
}

/// A number; what is none stays a text, which the API refuses with its reason.
pub(crate) fn number(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(Value::Number(number)) => Value::Number(number),
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Value {
        json!({
            "properties": {
                "mode": { "$ref": "#/$defs/Mode" },
                "region": { "anyOf": [{ "$ref": "#/$defs/Region" }, { "type": "null" }] },
                "handshake": { "type": "boolean", "default": false },
                "rate": { "type": ["integer", "null"] },
                "source": { "type": "string" },
                "transform": { "type": ["string", "null"] },
                "odd": { "type": "array", "items": { "type": "string" } },
            },
            "$defs": {
                "Mode": { "oneOf": [{ "const": "binary", "description": "In headers." }] },
                "Region": { "type": "string", "enum": ["eu", "us"] },
            },
        })
    }

    #[test]
    fn settings_are_what_their_fields_say() {
        let settings = json!({
            "mode": "binary", "region": "us", "handshake": true, "rate": 60, "source": "/a b",
            "transform": "export default (n) => ({\n  payload: n.payload })", "odd": ["x", "y"],
        });
        let settings = settings.as_object().unwrap();
        let values =
            texts(settings).fold(Query::default(), |all, (name, text)| all.with(&name, &text));
        assert_eq!(&read(&values, &schema()).unwrap(), settings);
        assert_eq!(read(&Query::default(), &schema()), Ok(Map::new()));
    }

    #[test]
    fn what_cannot_be_read_is_said_or_left_to_the_api() {
        let values = Query::parse("settings.odd=%5B1&settings.rate=many");
        let problems = read(&values, &schema()).unwrap_err();
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].field, "settings.odd");
        let values = values.without(&["settings.odd"]);
        assert_eq!(read(&values, &schema()).unwrap()["rate"], "many");
    }

    #[test]
    fn enumerations_are_choices() {
        let kind = |name: &str| kind(&schema(), name, &schema()["properties"][name]);
        let words =
            |words: &[(&str, &str)]| Kind::Words(words.iter().copied().map(choice).collect());
        assert_eq!(kind("mode"), words(&[("binary", "In headers.")]));
        assert_eq!(kind("region"), words(&[("eu", ""), ("us", "")]));
        assert_eq!(kind("handshake"), Kind::Switch);
        assert_eq!(kind("odd"), Kind::Json);
    }
}
