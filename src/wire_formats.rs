//! Lets the HTTP API know the wire formats: `producer` and `worker` do not know each other.

use std::sync::Arc;

use async_trait::async_trait;
use posthaste_producer::http::problem::FieldProblem;
use posthaste_producer::http::wire_formats::{
    RenderReport, ScriptProblem, TestReport, TestRequest, TestResponse, Unchecked, Uncompiled,
    WireFormatInfo, WireFormats,
};
use posthaste_shared::clock::Clock;
use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::id::TenantId;
use posthaste_shared::domain::notification::{Notification, NotificationDraft};
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::wire_format::WireFormat;
use posthaste_worker::attempt::Attempter;
use posthaste_worker::attempt::preview::Preview;
use posthaste_worker::attempt::sign::SignedRequest;
use posthaste_worker::probe::{self, Probe};
use posthaste_worker::wire::{self, Sample, settings};
use serde_json::{Map, Value, json};
use url::Url;

/// The worker's wire formats, for the API.
pub(crate) struct WorkerWireFormats {
    pub(crate) attempter: Attempter,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) max_recipients: usize,
}

#[async_trait]
impl WireFormats for WorkerWireFormats {
    fn catalogue(&self) -> Vec<WireFormatInfo> {
        WireFormat::ALL.into_iter().map(info).collect()
    }

    fn check(&self, endpoint: &Endpoint) -> Result<(), Vec<FieldProblem>> {
        problems(wire::check(endpoint))
    }

    async fn check_scripts(
        &self,
        before: Option<&Endpoint>,
        endpoint: &Endpoint,
    ) -> Result<(), Unchecked> {
        match self.attempter.check_scripts(before, endpoint).await {
            Ok(found) => problems(found).map_err(Unchecked::Invalid),
            Err(busy) => Err(Unchecked::Busy(busy.to_string())),
        }
    }

    fn called_urls(&self, endpoint: &Endpoint) -> Vec<(String, Url)> {
        let urls = wire::of(endpoint.wire_format).called_urls(endpoint);
        urls.into_iter()
            .map(|(setting, url)| (setting.to_owned(), url))
            .collect()
    }

    fn check_notification(
        &self,
        endpoint: Option<&Endpoint>,
        notification: &Notification,
    ) -> Result<(), Vec<FieldProblem>> {
        let too_many = wire::too_many_recipients(endpoint, notification, self.max_recipients);
        let found = match endpoint {
            Some(endpoint) => wire::check_notification(endpoint, notification),
            None => Vec::new(),
        };
        problems(found.into_iter().chain(too_many).collect())
    }

    fn new_secret(&self, format: WireFormat, settings: &Map<String, Value>) -> Option<Secret> {
        wire::of(format).new_secret(settings)
    }

    fn check_secret(&self, format: WireFormat, secret: &Secret) -> Result<(), String> {
        wire::of(format).check_secret(secret)
    }

    async fn test(&self, endpoint: &Endpoint, notification: Option<Notification>) -> TestReport {
        let now = self.clock.now();
        let notification = notification.unwrap_or_else(|| probe::sample(endpoint, now));
        report(probe::probe(&self.attempter, endpoint, &notification, now).await)
    }

    async fn render(
        &self,
        endpoint: &Endpoint,
        notification: Option<Notification>,
    ) -> RenderReport {
        let now = self.clock.now();
        let notification = notification.unwrap_or_else(|| probe::sample(endpoint, now));
        let preview = probe::preview(&self.attempter, endpoint, &notification, now).await;
        rendered(&notification, preview)
    }

    async fn compile(&self, tenant: &TenantId, source: &str) -> Result<(), Uncompiled> {
        use posthaste_worker::script::Uncompiled as Found;
        match self.attempter.compile(tenant, source).await {
            Ok(()) => Ok(()),
            Err(Found::Busy(why)) => Err(Uncompiled::Busy(why.to_owned())),
            Err(Found::Refused(problem)) => Err(Uncompiled::Refused(ScriptProblem {
                line: problem.line,
                column: problem.column,
                message: problem.message,
            })),
        }
    }
}

fn rendered(notification: &Notification, preview: Preview) -> RenderReport {
    let notification = notification.clone();
    let shown = NotificationDraft {
        recipient: notification.recipient,
        overrides: notification.overrides,
        ..NotificationDraft::new(notification.kind, notification.payload)
    };
    let (request, outcome, error) = match preview.request {
        Ok(request) => (Some(request_of(&request)), "sent", None),
        Err(why) => (None, why.outcome, Some(why.error)),
    };
    RenderReport {
        notification: shown,
        payload: preview.payload,
        request,
        error,
        outcome: outcome.to_owned(),
        asks_first: preview.asks_first,
        console: preview.console,
    }
}

fn info(format: WireFormat) -> WireFormatInfo {
    let info = wire::of(format).info();
    let sample = wire::of(format).sample();
    WireFormatInfo {
        name: format,
        description: info.description.to_owned(),
        signs: info.signs,
        settings_schema: settings::with_common(info.settings),
        payload_schema: info.payload,
        recipient_schema: info.recipient,
        example_settings: sample.settings.clone(),
        example: example(sample),
    }
}

/// A sample as a notification that can be enqueued.
pub(crate) fn example(sample: Sample) -> Value {
    let mut example = json!({"type": sample.kind, "payload": sample.payload});
    for (name, value) in [
        ("recipient", sample.recipient),
        ("overrides", sample.overrides),
    ] {
        if let Some(value) = value {
            example[name] = value;
        }
    }
    example
}

fn problems(found: Vec<wire::FieldProblem>) -> Result<(), Vec<FieldProblem>> {
    if found.is_empty() {
        return Ok(());
    }
    Err(found
        .into_iter()
        .map(|problem| FieldProblem::new(problem.field, problem.problem))
        .collect())
}

fn report(probe: Probe) -> TestReport {
    TestReport {
        request: probe.request.as_ref().map(request_of),
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
        console: probe.console,
    }
}

fn request_of(request: &SignedRequest) -> TestRequest {
    TestRequest {
        method: request.method().to_string(),
        url: request.shown_url(),
        headers: request.shown_headers().to_vec(),
        body: String::from_utf8_lossy(request.body()).into_owned(),
    }
}
