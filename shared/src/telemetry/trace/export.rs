//! Sends spans to the collector: OTLP over HTTP, protobuf. A task of its own, so that a collector
//! that is slow or away delays nobody; what it cannot take is dropped and counted. Does not go
//! through the egress guard: the operator says where the collector is.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prometheus::IntCounter;
use prost::Message as _;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::encode;
use super::queue::{BATCH, Queue};
use crate::config::TracingConfig;
use crate::error::chain;
use crate::repeat;
use crate::telemetry::metrics::Metrics;

/// Spans wait no longer than this for others to go with.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long one request may take: the default of OTLP exporters.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often a batch is tried, with [`FIRST_PAUSE`] between the first two tries, and twice as long
/// each time.
const TRIES: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest `Retry-After` that is waited for; spans pile up meanwhile.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long the last spans may take at the end of the process.
const FLUSH: Duration = Duration::from_secs(3);
/// Time between two lines in the log about spans that were lost.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// How much of an answer is read: it is some bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// The task that sends.
pub(super) struct Exporting {
    stopping: CancellationToken,
    task: JoinHandle<()>,
    queue: Arc<Queue>,
    dropped: IntCounter,
}

impl Exporting {
    pub(super) fn start(
        config: &TracingConfig,
        resource: Resource,
        queue: Arc<Queue>,
        metrics: &Metrics,
    ) -> Result<Self, reqwest::Error> {
        let mut headers: HeaderMap = config.headers.iter().cloned().collect();
        headers.insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static("application/x-protobuf"),
        );
        let client = reqwest::Client::builder()
            .user_agent(concat!("Posthaste/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            // The headers hold the collector's credentials: following a redirect could show them to
            // another host.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(TIMEOUT)
            .build()?;
        let stopping = CancellationToken::new();
        let dropped = metrics.trace_spans_dropped.clone();
        let exporter = Exporter {
            client,
            url: config.endpoint.clone(),
            resource,
            queue: Arc::clone(&queue),
            exported: metrics.trace_spans_exported.clone(),
            log: Log {
                dropped: dropped.clone(),
                told: dropped.get(),
                at: None,
            },
            stopping: stopping.clone(),
        };
        Ok(Self {
            stopping,
            task: tokio::spawn(exporter.run()),
            queue,
            dropped,
        })
    }

    /// Sends what is there, within [`FLUSH`]; counts what it leaves.
    pub(super) async fn finish(mut self) {
        self.stopping.cancel();
        // The bound holds for all that is left together, because the process is about to end and
        // its supervisor counts the seconds.
        if tokio::time::timeout(FLUSH, &mut self.task).await.is_err() {
            self.task.abort();
            tracing::warn!("the last spans could not be sent to the collector in time");
        }
        self.dropped
            .inc_by(self.queue.take(usize::MAX).len() as u64);
    }
}

struct Exporter {
    client: reqwest::Client,
    url: Url,
    resource: Resource,
    queue: Arc<Queue>,
    exported: IntCounter,
    log: Log,
    stopping: CancellationToken,
}

/// Why a batch was not taken.
enum Refused {
    /// It may be, later; perhaps after so long.
    Later(String, Option<Duration>),
    /// It never will be.
    Never(String),
}

impl Exporter {
    async fn run(mut self) {
        while !self.stopping.is_cancelled() {
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = self.queue.until_enough() => {}
                () = self.stopping.cancelled() => {}
            }
            while self.send_some().await {}
            self.log.tell_of_drops(None);
        }
        // What came in while that request was in flight.
        while self.send_some().await {}
    }

    /// Sends the oldest spans; whether to send more at once. Less than a whole batch waits for
    /// others to go with.
    async fn send_some(&mut self) -> bool {
        let spans = self.queue.take(BATCH);
        let count = spans.len() as u64;
        if count == 0 {
            return false;
        }
        let body = Bytes::from(encode::request(&self.resource, spans));
        match self.send(body).await {
            Ok(rejected) => {
                self.exported.inc_by(count.saturating_sub(rejected));
                if rejected > 0 {
                    self.log.dropped.inc_by(rejected);
                    self.log.tell_of_drops(Some("it rejected some"));
                }
                count == BATCH as u64
            }
            Err(why) => {
                self.log.dropped.inc_by(count);
                self.log.tell_of_drops(Some(&why));
                // At the end of the process, what one request did not bring there no other will in
                // time.
                count == BATCH as u64 && !self.stopping.is_cancelled()
            }
        }
    }

    /// Tries until the batch is taken, or is given up: how many of its spans the collector
    /// rejected, or why.
    async fn send(&self, body: Bytes) -> Result<u64, String> {
        let mut pause = FIRST_PAUSE;
        for left in (0..TRIES).rev() {
            let (why, asked) = match self.post(body.clone()).await {
                Ok(rejected) => return Ok(rejected),
                Err(Refused::Never(why)) => return Err(why),
                Err(Refused::Later(why, asked)) => (why, asked),
            };
            if left == 0 || self.stopping.is_cancelled() {
                return Err(why);
            }
            // At the end of the process it is tried once more at once.
            repeat::pause(&self.stopping, asked.unwrap_or(pause).min(LONGEST_PAUSE)).await;
            pause *= 2;
        }
        Err("it was not taken".to_owned())
    }

    /// Sends one request to the collector.
    async fn post(&self, body: Bytes) -> Result<u64, Refused> {
        // Without the URL, which may have a password in it.
        let lost = |error: reqwest::Error| Refused::Later(chain(&error.without_url()), None);
        let answer = self
            .client
            .post(self.url.clone())
            .body(body)
            .send()
            .await
            .map_err(lost)?;
        let status = answer.status();
        let after = answer
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        match status {
            _ if status.is_success() => {
                // An answer that is cut off or is not OTLP says at least that the spans were taken.
                let answer = read(answer).await.unwrap_or_default();
                let rejected = ExportTraceServiceResponse::decode(answer)
                    .ok()
                    .and_then(|answer| answer.partial_success);
                Ok(rejected.map_or(0, |partial| {
                    u64::try_from(partial.rejected_spans).unwrap_or(0)
                }))
            }
            // OTLP 1, "Retryable Response Codes".
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Err(Refused::Later(
                format!("it answered {status}"),
                after.map(Duration::from_secs),
            )),
            _ => Err(Refused::Never(format!("it answered {status}"))),
        }
    }
}

async fn read(mut answer: reqwest::Response) -> Result<Bytes, reqwest::Error> {
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            break;
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// Says now and then that spans were lost.
struct Log {
    dropped: IntCounter,
    told: u64,
    at: Option<Instant>,
}

impl Log {
    fn tell_of_drops(&mut self, why: Option<&str>) {
        let dropped = self.dropped.get();
        if dropped == self.told || self.at.is_some_and(|at| at.elapsed() < LOG_INTERVAL) {
            return;
        }
        let count = dropped - self.told;
        let why = why.unwrap_or("there were more spans than it takes");
        tracing::warn!(
            count,
            why,
            "spans were not taken by the collector that tracing_otlp_endpoint names; deliveries \
             go on"
        );
        (self.told, self.at) = (dropped, Some(Instant::now()));
    }
}
