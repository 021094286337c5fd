//! From our spans to the messages of OTLP.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{
    self as otlp, ResourceSpans, ScopeSpans, Status, span, status,
};
use prost::Message as _;

use super::span::{Kind, SpanData, Text, Value};
use super::{Origin, names};

/// What the process says of itself. The operator's attributes replace ours.
pub(super) fn resource(configured: &[(String, String)], origin: &Origin) -> Resource {
    let own = [
        (names::SERVICE_NAME, "posthaste"),
        (names::SERVICE_VERSION, env!("CARGO_PKG_VERSION")),
        (names::SERVICE_INSTANCE_ID, origin.instance.as_str()),
        (names::ROLE, origin.role),
        (names::TELEMETRY_SDK_NAME, "posthaste"),
        (names::TELEMETRY_SDK_LANGUAGE, "rust"),
        (names::TELEMETRY_SDK_VERSION, env!("CARGO_PKG_VERSION")),
    ];
    let own = own
        .into_iter()
        // Ours are left out where the operator sets the same attribute: OTLP allows each name once.
        .filter(|(name, _)| configured.iter().all(|(other, _)| other != name));
    let configured = configured
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let text = |(name, value): (&str, &str)| {
        attribute(name, any_value::Value::StringValue(value.to_owned()))
    };
    Resource {
        attributes: own.chain(configured).map(text).collect(),
        ..Resource::default()
    }
}

/// The body of a request.
pub(super) fn request(resource: &Resource, spans: Vec<SpanData>) -> Vec<u8> {
    let scope = InstrumentationScope {
        name: "posthaste".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let spans = spans.into_iter().map(otlp_span).collect();
    let scope_spans = vec![ScopeSpans {
        scope: Some(scope),
        spans,
        schema_url: names::SCHEMA_URL.to_owned(),
    }];
    let resource = Some(resource.clone());
    let resource_spans = ResourceSpans {
        resource,
        scope_spans,
        schema_url: names::SCHEMA_URL.to_owned(),
    };
    ExportTraceServiceRequest {
        resource_spans: vec![resource_spans],
    }
    .encode_to_vec()
}

fn otlp_span(span: SpanData) -> otlp::Span {
    let value = |value| match value {
        Value::Text(text) => any_value::Value::StringValue(text.into_string()),
        Value::Integer(number) => any_value::Value::IntValue(number),
        Value::Number(number) => any_value::Value::DoubleValue(number),
    };
    let attributes = span
        .attributes
        .into_iter()
        .map(|(name, of)| attribute(name, value(of)))
        .collect();
    let status = span.failed.then(|| Status {
        code: status::StatusCode::Error.into(),
        // Texts of errors may quote what a receiver answered. Spans say only the kind of the
        // failure, in `error.type`.
        message: String::new(),
    });
    otlp::Span {
        trace_id: span.context.trace.bytes().to_vec(),
        span_id: span.context.span.bytes().to_vec(),
        parent_span_id: span
            .parent
            .map(|id| id.bytes().to_vec())
            .unwrap_or_default(),
        flags: span.context.flags().into(),
        name: Text::into_string(span.name),
        kind: kind(span.kind).into(),
        start_time_unix_nano: span.begun_at,
        end_time_unix_nano: span.ended_at,
        attributes,
        status,
        ..otlp::Span::default()
    }
}

const fn kind(kind: Kind) -> span::SpanKind {
    match kind {
        Kind::Internal => span::SpanKind::Internal,
        Kind::Server => span::SpanKind::Server,
        Kind::Client => span::SpanKind::Client,
        Kind::Producer => span::SpanKind::Producer,
        Kind::Consumer => span::SpanKind::Consumer,
    }
}

fn attribute(name: &str, value: any_value::Value) -> KeyValue {
    KeyValue {
        key: name.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}
