//! The API on a real socket, with a real store (SQLite) and the embedded broker, and a receiver's
//! worth of wire formats.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    unreachable_pub,
    reason = "test code; each test file uses its part"
)]

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use posthaste_producer::enqueue::accept;
use posthaste_producer::http::problem::FieldProblem;
use posthaste_producer::http::resolver::Resolve;
use posthaste_producer::http::wire_formats::{
    RenderReport, ScriptProblem, TestReport, TestRequest, Unchecked, Uncompiled, WireFormatInfo,
    WireFormats,
};
use posthaste_producer::http::{Api, ApiParts, ApiSettings, new_key, router};
use posthaste_shared::broker::embedded::{EmbeddedBroker, EmbeddedOptions};
use posthaste_shared::broker::{Broker, Incoming};
use posthaste_shared::clock::{Clock, SystemClock};
use posthaste_shared::domain::attempt::Phases;
use posthaste_shared::domain::delivery::{Delivery, DeliveryState};
use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::event::Event;
use posthaste_shared::domain::id::{DeliveryId, EndpointId, KeyId, TenantId};
use posthaste_shared::domain::key::{ApiKey, Scope};
use posthaste_shared::domain::notification::{Notification, NotificationDraft, Origin};
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::wire_format::WireFormat;
use posthaste_shared::egress::EgressPolicy;
use posthaste_shared::services::Services;
use posthaste_shared::store::record::{Before, Record};
use posthaste_shared::store::{Store, StoreOptions};
use posthaste_shared::telemetry::metrics::Metrics;
use posthaste_shared::telemetry::trace::Tracer;
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// The key of `ApiSettings::admin_key` in tests.
pub const ADMIN_KEY: &str = "test-admin-key-0123456789abcdef0123456789";

/// A running API.
pub struct TestApi {
    pub url: String,
    pub client: reqwest::Client,
    pub store: Store,
    pub broker: Arc<dyn Broker>,
    pub metrics: Arc<Metrics>,
    pub shutdown: CancellationToken,
    pub clock: Arc<dyn Clock>,
    pub services: Services,
    _files: TempDir,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl Answer {
    /// The problem's code.
    pub fn code(&self) -> &str {
        assert_eq!(
            self.headers["content-type"], "application/problem+json",
            "{self:?}"
        );
        assert_eq!(self.body["status"], self.status, "{self:?}");
        self.body["code"].as_str().unwrap_or_default()
    }

    /// The members that are wrong.
    pub fn fields(&self) -> Vec<&str> {
        let errors = self.body["errors"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        errors
            .iter()
            .filter_map(|error| error["field"].as_str())
            .collect()
    }
}

impl TestApi {
    pub async fn start() -> Self {
        Self::start_with(ApiSettings::default(), None).await
    }

    pub async fn start_with(settings: ApiSettings, broker: Option<Arc<dyn Broker>>) -> Self {
        Self::start_serving(settings, broker, router).await
    }

    /// Serves what `serve` makes of the API.
    pub async fn start_serving(
        mut settings: ApiSettings,
        broker: Option<Arc<dyn Broker>>,
        serve: impl FnOnce(Arc<Api>) -> axum::Router,
    ) -> Self {
        let files = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", files.path().join("test.db").display());
        let master_key = Some(Secret::new(
            "a master key for tests, 32 characters and more",
        ));
        let options = StoreOptions {
            master_key,
            ..StoreOptions::new(Secret::new(url))
        };
        let store = Store::connect(&options).await.unwrap();
        store.migrate().await.unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let embedded = || -> Arc<dyn Broker> {
            Arc::new(EmbeddedBroker::new(
                store.clone(),
                Arc::clone(&clock),
                EmbeddedOptions::default(),
            ))
        };
        let broker = broker.unwrap_or_else(embedded);
        let metrics = Arc::new(Metrics::new());
        let shutdown = CancellationToken::new();
        settings.admin_key = Some(Secret::new(ADMIN_KEY));
        let services = Services {
            store: store.clone(),
            broker: Arc::clone(&broker),
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
            tracer: Tracer::off(),
        };
        let api = Api::new(ApiParts {
            services: services.clone(),
            egress: EgressPolicy::new("10.9.0.0/16", false).unwrap(),
            wire_formats: Arc::new(TestFormats),
            resolver: Arc::new(TestNames::default()),
            shutdown: shutdown.clone(),
            settings,
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let ended = shutdown.clone().cancelled_owned();
        let router = serve(api);
        tokio::spawn(async move {
            axum::serve(listener, router)
                .with_graceful_shutdown(ended)
                .await
        });
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(30))
            .no_proxy()
            .build()
            .unwrap();
        let url = format!("http://{address}");
        Self {
            url,
            client,
            store,
            broker,
            metrics,
            shutdown,
            clock,
            services,
            _files: files,
        }
    }

    /// A stored key.
    pub async fn key(&self, scopes: &[Scope], tenant: Option<&str>) -> String {
        let now = self.clock.now();
        let (key, hash) = new_key();
        let info = ApiKey {
            id: KeyId::generate(now),
            name: "test".to_owned(),
            tenant: tenant.map(|tenant| TenantId::parse(tenant).unwrap()),
            scopes: scopes.to_vec(),
            created_at: now,
            expires_at: None,
            last_used_at: None,
            revoked_at: None,
        };
        self.store.insert_key(&info, &hash).await.unwrap();
        key.expose().to_owned()
    }

    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.client
            .request(method.parse().unwrap(), format!("{}{path}", self.url))
    }

    /// A request with a JSON body (none for null), as `key`.
    pub async fn call_as(&self, key: &str, method: &str, path: &str, body: Value) -> Answer {
        let request = self.request(method, path).bearer_auth(key);
        answer(if body.is_null() {
            request
        } else {
            request.json(&body)
        })
        .await
    }

    /// A request with a JSON body (none for null), as the administrator.
    pub async fn call(&self, method: &str, path: &str, body: Value) -> Answer {
        self.call_as(ADMIN_KEY, method, path, body).await
    }

    /// A request with any text as its body.
    pub async fn post_text(
        &self,
        path: &str,
        content_type: &str,
        body: impl Into<String>,
    ) -> Answer {
        let request = self
            .request("POST", path)
            .bearer_auth(ADMIN_KEY)
            .header("content-type", content_type);
        answer(request.body(body.into())).await
    }

    /// An endpoint of a tenant; its id.
    pub async fn endpoint(&self, tenant: &str) -> String {
        let body = serde_json::json!({
            "url": "https://hooks.example/x",
            "wire_format": "standard",
            "tenant": tenant,
        });
        let made = self.call("POST", "/v1/endpoints", body).await;
        assert_eq!(made.status, 201, "{made:?}");
        made.body["id"].as_str().unwrap().to_owned()
    }

    /// Takes `count` messages off the work queue, or fails after 10 s.
    pub async fn queued(&self, count: usize) -> Vec<Incoming> {
        let mut consumer = self.broker.consume(1_000).await.unwrap();
        let mut messages = Vec::new();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while messages.len() < count {
            let batch = tokio::time::timeout_at(deadline, consumer.next_batch(1_000)).await;
            let batch = batch
                .unwrap_or_else(|_| panic!("{count} messages wanted, {} came", messages.len()));
            messages.extend(batch.unwrap());
        }
        consumer
            .acker()
            .ack(messages.iter().map(|message| message.tag).collect())
            .await;
        consumer.stop().await;
        messages
    }

    /// How many messages are on the work queue.
    pub async fn depth(&self) -> u64 {
        self.broker.depths().await.unwrap()["work"]
    }
}

/// Sends a request and reads the answer as JSON (null when it has no body).
pub async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let bytes = response.bytes().await.unwrap();
    let body = if bytes.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&bytes).unwrap()
    };
    Answer {
        status,
        headers,
        body,
    }
}

/// Names and their addresses; the others have none.
struct TestNames(HashMap<&'static str, Vec<IpAddr>>);

impl Default for TestNames {
    fn default() -> Self {
        let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Self(HashMap::from([
            ("hooks.example", addresses(&["93.184.216.34"])),
            ("inside.example", addresses(&["10.0.0.1"])),
            (
                "mixed.example",
                addresses(&["93.184.216.34", "169.254.169.254"]),
            ),
            ("mapped.example", addresses(&["::ffff:127.0.0.1"])),
            ("allowed.example", addresses(&["10.9.1.1"])),
            ("empty.example", addresses(&[])),
        ]))
    }
}

#[async_trait]
impl Resolve for TestNames {
    async fn resolve(&self, host: &str, _port: u16) -> std::io::Result<Vec<IpAddr>> {
        if host == "slow.example" {
            std::future::pending::<()>().await;
        }
        self.0
            .get(host)
            .cloned()
            .ok_or_else(|| std::io::Error::new(std::io::ErrorKind::NotFound, "no such name"))
    }
}

/// `standard` signs and has one setting; `raw` does neither.
struct TestFormats;

#[async_trait]
impl WireFormats for TestFormats {
    fn catalogue(&self) -> Vec<WireFormatInfo> {
        let info = |name: WireFormat| WireFormatInfo {
            name,
            description: format!("the wire format {name}"),
            signs: name == WireFormat::Standard,
            settings_schema: serde_json::json!({ "type": "object" }),
            payload_schema: serde_json::json!(true),
            recipient_schema: serde_json::json!(true),
            example_settings: serde_json::json!({}),
            example: serde_json::json!({"type": "test", "payload": {}}),
        };
        WireFormat::ALL.into_iter().map(info).collect()
    }

    async fn check_scripts(
        &self,
        _before: Option<&Endpoint>,
        _endpoint: &Endpoint,
    ) -> Result<(), Unchecked> {
        Ok(())
    }

    fn check(&self, endpoint: &Endpoint) -> Result<(), Vec<FieldProblem>> {
        assert_ne!(endpoint.description, "panic", "asked to panic");
        let known = ["api_key", "mode", "script", "transform"];
        let unknown = endpoint
            .confidential
            .settings
            .keys()
            .filter(|name| !known.contains(&name.as_str()));
        let problems: Vec<FieldProblem> = unknown
            .map(|name| FieldProblem::new(format!("settings.{name}"), "is not known"))
            .collect();
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }

    fn check_notification(
        &self,
        endpoint: Option<&Endpoint>,
        notification: &Notification,
    ) -> Result<(), Vec<FieldProblem>> {
        if endpoint.is_none() {
            return Ok(());
        }
        let refused = notification.payload.as_str().contains("no good");
        if refused {
            Err(vec![FieldProblem::new("payload.text", "is no good")])
        } else {
            Ok(())
        }
    }

    fn new_secret(
        &self,
        format: WireFormat,
        _settings: &serde_json::Map<String, serde_json::Value>,
    ) -> Option<Secret> {
        (format == WireFormat::Standard)
            .then(|| Secret::new(format!("whsec_{}", uuid::Uuid::new_v4().simple())))
    }

    fn check_secret(&self, format: WireFormat, secret: &Secret) -> Result<(), String> {
        let fits = format == WireFormat::Standard && secret.expose().starts_with("whsec_");
        if fits {
            Ok(())
        } else {
            Err("must begin with whsec_".to_owned())
        }
    }

    async fn test(&self, endpoint: &Endpoint, notification: Option<Notification>) -> TestReport {
        TestReport {
            request: None,
            response: None,
            error: None,
            verdict: format!(
                "{} would get {:?}",
                endpoint.id,
                notification.map(|notification| notification.kind)
            ),
            outcome: "delivered".to_owned(),
            duration_ms: 1.0,
            phases_ms: Phases::default(),
            resolved_address: None,
            console: None,
        }
    }

    /// Writes `{"sent": …}` around the payload, and the transform in the console.
    async fn render(
        &self,
        endpoint: &Endpoint,
        notification: Option<Notification>,
    ) -> RenderReport {
        let draft = match notification {
            Some(notification) => NotificationDraft {
                recipient: notification.recipient,
                ..NotificationDraft::new(notification.kind, notification.payload)
            },
            None => serde_json::from_str(r#"{"type": "test", "payload": {}}"#).unwrap(),
        };
        let transform = endpoint.confidential.settings.get("transform");
        let transform = transform.and_then(|text| text.as_str()).map(str::to_owned);
        let body = format!("{{\"sent\":{}}}", draft.payload.as_str());
        RenderReport {
            payload: transform.as_ref().map(|_| draft.payload.clone()),
            notification: draft,
            request: Some(TestRequest {
                method: "POST".to_owned(),
                url: endpoint.url.to_string(),
                headers: vec![("content-type".to_owned(), "application/json".to_owned())],
                body,
            }),
            error: None,
            outcome: "sent".to_owned(),
            asks_first: false,
            console: transform,
        }
    }

    /// Refuses what has `1 +;` in its second line.
    async fn compile(&self, _tenant: &TenantId, source: &str) -> Result<(), Uncompiled> {
        match source.lines().nth(1).and_then(|line| line.find("1 +;")) {
            None => Ok(()),
            Some(at) => Err(Uncompiled::Refused(ScriptProblem {
                line: Some(2),
                column: Some(u32::try_from(at).unwrap() + 4),
                message: "Unexpected token".to_owned(),
            })),
        }
    }
}

/// Records a delivery in that state, with the event that its state makes.
pub async fn recorded(
    api: &TestApi,
    tenant: &str,
    name: &str,
    state: impl FnOnce() -> DeliveryState,
) -> DeliveryId {
    let now = api.clock.now();
    let endpoint = EndpointId::parse(&api.endpoint(tenant).await).unwrap();
    let draft: NotificationDraft = serde_json::from_value(
        serde_json::json!({ "id": name, "type": "a.b", "payload": {"n": 1}, "ttl_seconds": 600 }),
    )
    .unwrap();
    let notification = accept(draft, TenantId::parse(tenant).unwrap(), now, None).unwrap();
    let delivery = Delivery {
        id: DeliveryId::of(&notification.id, &endpoint, None),
        notification_id: notification.id.clone(),
        tenant: notification.tenant.clone(),
        kind: notification.kind.clone(),
        endpoint_id: endpoint,
        wire_format: WireFormat::Standard,
        recipient: None,
        state: state(),
        round: 1,
        attempt_count: 0,
        round_base: 0,
        created_at: now,
        expires_at: notification.expires_at,
        provider_message_id: None,
        provider_message_date: None,
        provider_error_code: None,
        last_error: None,
        origin: Origin::Producer,
    };
    let id = delivery.id;
    let event = Event::of_outcome(&delivery, None);
    let before = Before::New {
        notification: Arc::new(notification),
        fan_out: 1,
    };
    let record = Record {
        delivery,
        before,
        attempt: None,
        kept: None,
        event,
        disable: None,
    };
    api.store.record(&[record], now).await.unwrap();
    id
}
