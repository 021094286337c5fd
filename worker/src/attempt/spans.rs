//! The spans of an attempt's requests and scripts, beneath its own (`pipeline::spans`). No path or
//! query of a URL is ever in a span: paths of webhooks are often secrets, or have telephone numbers
//! in them.

use http::Method;
use posthaste_shared::domain::attempt::Phases;
use posthaste_shared::telemetry::trace::{Kind, Span, names};

use super::sign::SignedRequest;
use crate::send::Exchange;

/// Begins the span of a request, beneath that of the attempt.
pub(crate) fn request(attempt: &Span, method: &Method, purpose: Option<&'static str>) -> Span {
    let name = match method.as_str() {
        "POST" => "POST",
        "OPTIONS" => "OPTIONS",
        _ => "HTTP",
    };
    let mut span = attempt.child(Kind::Client, name);
    span.set_some(names::REQUEST_PURPOSE, purpose);
    span
}

/// Closes the span of a request with its result.
pub(crate) fn answered(mut span: Span, request: &SignedRequest, exchange: &Exchange) {
    // Most spans are not recorded where traces are sampled: nothing is formatted for those.
    if span.recorded().is_none() {
        return;
    }
    let url = request.url();
    span.set(
        names::HTTP_REQUEST_METHOD,
        request.method().as_str().to_owned(),
    );
    span.set(
        names::URL_SCHEME,
        if url.scheme() == "https" {
            "https"
        } else {
            "http"
        },
    );
    span.set_some(names::SERVER_ADDRESS, url.host_str().map(str::to_owned));
    span.set_some(
        names::SERVER_PORT,
        url.port_or_known_default().map(i64::from),
    );
    if let Some(address) = &exchange.address {
        match address.parse::<std::net::SocketAddr>() {
            Ok(address) => {
                span.set(names::NETWORK_PEER_ADDRESS, address.ip().to_string());
                span.set(names::NETWORK_PEER_PORT, i64::from(address.port()));
            }
            // An address without a port: nothing was connected to.
            Err(_) => span.set(names::NETWORK_PEER_ADDRESS, address.clone()),
        }
    }
    note_phases(&mut span, exchange.phases);
    match &exchange.result {
        Ok(reply) => {
            span.set(names::HTTP_RESPONSE_STATUS_CODE, i64::from(reply.status));
            if reply.status >= 400 {
                span.fail(reply.status.to_string());
            }
        }
        Err(error) => span.fail(error.error().code),
    }
}

/// Begins the span of a script.
pub(crate) fn script(attempt: &Span, name: &'static str) -> Span {
    attempt.child(Kind::Internal, name)
}

fn note_phases(span: &mut Span, phases: Phases) {
    span.set_some(names::PHASE_DNS, phases.dns);
    span.set_some(names::PHASE_CONNECT, phases.connect);
    span.set_some(names::PHASE_TLS, phases.tls);
    span.set_some(names::PHASE_WAIT, phases.wait);
    span.set_some(names::PHASE_BODY, phases.body);
}
