//! Lets the HTTP API know the wire formats: `producer` and `worker` do not know each other.

use std::sync::Arc;

use async_trait::async_trait;
use posthaste_producer::http::problem::FieldProblem;
use posthaste_producer::http::wire_formats::{TestReport, TestRequest, TestResponse, WireFormatInfo, WireFormats};
use posthaste_shared::clock::Clock;
use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::notification::Notification;
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::wire_format::WireFormat;
use posthaste_worker::probe::{self, Probe};
use posthaste_worker::send::Sender;
use posthaste_worker::wire;

/// The worker's wire formats, for the API.
pub(crate) struct WorkerWireFormats {
    pub(crate) sender: Sender,
    pub(crate) clock: Arc<dyn Clock>,
}

#[async_trait]
impl WireFormats for WorkerWireFormats {
    fn catalogue(&self) -> Vec<WireFormatInfo> {
        WireFormat::ALL
            .into_iter()
            .map(|format| {
                let info = wire::of(format).info();
                WireFormatInfo {
                    name: info.format,
                    description: info.description.to_owned(),
                    signs: info.signs,
                    settings_schema: info.settings_schema,
                }
            })
            .collect()
    }

    fn check(&self, endpoint: &Endpoint) -> Result<(), Vec<FieldProblem>> {
        let problems = wire::of(endpoint.wire_format).check(endpoint);
        let problems: Vec<_> =
            problems.into_iter().map(|problem| FieldProblem::new(problem.field, problem.problem)).collect();
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    fn new_secret(&self, format: WireFormat) -> Option<Secret> {
        wire::of(format).new_secret()
    }

    fn check_secret(&self, format: WireFormat, secret: &Secret) -> Result<(), String> {
        wire::of(format).check_secret(secret)
    }

    async fn test(&self, endpoint: &Endpoint, notification: Option<Notification>) -> TestReport {
        let now = self.clock.now();
        let notification = notification.unwrap_or_else(|| probe::sample(endpoint, now));
        report(endpoint, probe::probe(&self.sender, endpoint, &notification, now).await)
    }
}

fn report(endpoint: &Endpoint, probe: Probe) -> TestReport {
    TestReport {
        request: probe.request.map(|request| TestRequest {
            method: "POST".to_owned(),
            url: endpoint.url.to_string(),
            headers: request.shown_headers().to_vec(),
            body: String::from_utf8_lossy(request.body()).into_owned(),
        }),
        response: probe.response.map(|response| TestResponse {
            status: response.status,
            headers: response.headers,
            body: response.body,
        }),
        error: probe.error,
        verdict: probe.verdict,
        outcome: probe.outcome.to_owned(),
        duration_ms: probe.duration_ms,
        phases_ms: probe.phases,
        resolved_address: probe.address,
    }
}
