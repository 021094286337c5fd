//! Databases for the tests, and things to put in.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use posthaste_shared::domain::attempt::{Attempt, AttemptError, AttemptResult, Phases};
use posthaste_shared::domain::delivery::{Delivery, DeliveryState, FailureReason, Hold, Wait};
use posthaste_shared::domain::endpoint::{Confidential, Endpoint, EndpointStatus, SigningSecret};
use posthaste_shared::domain::event::Event;
use posthaste_shared::domain::hops::Hops;
use posthaste_shared::domain::id::{
    DeliveryId, EndpointId, NotificationId, NotificationType, TenantId,
};
use posthaste_shared::domain::notification::{Notification, Origin, Priority};
use posthaste_shared::domain::raw_json::RawJson;
use posthaste_shared::domain::retry::RetryPolicy;
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::subscription::Subscription;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::domain::wire_format::WireFormat;
use posthaste_shared::store::record::{Before, Record, Recorded};
use posthaste_shared::store::{Store, StoreOptions};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

/// What claims add to the endpoints' timeouts. Where there is no endpoint, a lease is 70 s.
pub(crate) const MARGIN: Duration = Duration::from_secs(10);
pub(crate) const MASTER_KEY: &str = "a master key of the tests, 32 or longer";

/// A database of one test's own.
pub(crate) struct Bench {
    pub(crate) store: Store,
    pub(crate) options: StoreOptions,
    /// SQLite's file.
    pub(crate) file: Option<PathBuf>,
}

impl Bench {
    async fn new(url: &str, file: Option<PathBuf>) -> Self {
        let options = StoreOptions {
            master_key: Some(Secret::new(MASTER_KEY)),
            ..StoreOptions::new(Secret::new(url))
        };
        let store = Store::connect(&options).await.unwrap();
        store.migrate().await.unwrap();
        Self {
            store,
            options,
            file,
        }
    }

    /// Another store on the same database, as another process would have it.
    pub(crate) async fn another(&self) -> Store {
        Store::connect(&self.options).await.unwrap()
    }

    /// Runs SQL past the store: to plant what is wrong, and to look at what lies there.
    pub(crate) async fn sql(&self, text: &str) -> Vec<String> {
        use sqlx::Row as _;
        let text = AssertSqlSafe(text.to_owned());
        let url = self.options.url.expose();
        if url.starts_with("sqlite") {
            let mut connection = sqlx::SqliteConnection::connect(url).await.unwrap();
            let rows = connection.fetch_all(text).await.unwrap();
            let last = |row: &sqlx::sqlite::SqliteRow| {
                row.try_get::<String, _>(row.len() - 1).unwrap_or_default()
            };
            rows.iter().map(last).collect()
        } else {
            let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
            let rows = connection.fetch_all(text).await.unwrap();
            rows.iter()
                .map(|row| row.try_get::<String, _>(0).unwrap_or_default())
                .collect()
        }
    }
}

pub(crate) async fn on_sqlite<F: AsyncFnOnce(&Bench)>(test: F) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("new").join("posthaste.db");
    let bench = Bench::new(&format!("sqlite://{}", file.display()), Some(file)).await;
    test(&bench).await;
    bench.store.close().await;
}

pub(crate) async fn on_postgres<F: AsyncFnOnce(&Bench)>(test: F) {
    let server = std::env::var("POSTHASTE_TEST_POSTGRES_URL").expect(
        "set POSTHASTE_TEST_POSTGRES_URL to a Postgres, such as \
                 postgres://postgres@127.0.0.1:5432/postgres",
    );
    let schema = format!("test_{}", uuid::Uuid::new_v4().simple());
    run_sql(&server, &format!("CREATE SCHEMA {schema}")).await;
    let separator = if server.contains('?') { '&' } else { '?' };
    let bench = Bench::new(
        &format!("{server}{separator}options=-csearch_path%3D{schema}"),
        None,
    )
    .await;
    let result = AssertUnwindSafe(test(&bench)).catch_unwind().await;
    bench.store.close().await;
    run_sql(&server, &format!("DROP SCHEMA {schema} CASCADE")).await;
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

async fn run_sql(url: &str, text: &str) {
    let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
    connection
        .execute(AssertSqlSafe(text.to_owned()))
        .await
        .unwrap();
}

/// So many seconds after the tests' beginning of time.
/// The version of the newest migration, the same for both databases.
pub(crate) async fn newest_version() -> i64 {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations/postgres");
    let all = sqlx::migrate::Migrator::new(folder).await.unwrap();
    all.iter().map(|migration| migration.version).max().unwrap()
}

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(1_767_225_600_000_000 + seconds * 1_000_000)
}

pub(crate) fn endpoint_id(name: &str) -> EndpointId {
    EndpointId::parse(name).unwrap()
}

pub(crate) fn notification(id: &str) -> Arc<Notification> {
    Arc::new(Notification {
        id: NotificationId::parse(id).unwrap(),
        tenant: TenantId::default(),
        kind: NotificationType::parse("message.phone.received").unwrap(),
        target: None,
        payload: RawJson::parse(format!("{{ \"id\":\"{id}\" , \"n\": 1.0e2}}")).unwrap(),
        recipient: None,
        overrides: None,
        accepted_at: at(0),
        deliver_at: None,
        expires_at: None,
        priority: Priority::Normal,
        origin: Origin::Producer,
        traceparent: None,
        hops: Hops::default(),
    })
}

pub(crate) fn delivery(
    notification: &Notification,
    endpoint: &str,
    state: DeliveryState,
) -> Delivery {
    let endpoint_id = endpoint_id(endpoint);
    Delivery {
        id: DeliveryId::of(&notification.id, &endpoint_id, None),
        notification_id: notification.id.clone(),
        tenant: notification.tenant.clone(),
        kind: notification.kind.clone(),
        endpoint_id,
        wire_format: WireFormat::Standard,
        recipient: None,
        state,
        round: 1,
        attempt_count: 0,
        round_base: 0,
        created_at: notification.accepted_at,
        expires_at: notification.expires_at,
        provider_message_id: None,
        provider_message_date: None,
        provider_error_code: None,
        last_error: None,
        origin: notification.origin,
    }
}

pub(crate) fn retry(seconds: i64) -> DeliveryState {
    DeliveryState::Pending(Wait::Retry {
        due_at: at(seconds),
    })
}

pub(crate) fn in_flight(seconds: i64) -> DeliveryState {
    DeliveryState::Pending(Wait::InFlight {
        lease_until: at(seconds),
    })
}

pub(crate) fn parked() -> DeliveryState {
    DeliveryState::Pending(Wait::Parked {
        why: Hold::MaxInFlight,
    })
}

pub(crate) fn delivered(seconds: i64) -> DeliveryState {
    DeliveryState::Delivered { at: at(seconds) }
}

pub(crate) fn failed(seconds: i64) -> DeliveryState {
    DeliveryState::Failed {
        at: at(seconds),
        reason: FailureReason::RetriesExhausted,
    }
}

pub(crate) fn attempt(number: u32) -> Attempt {
    Attempt {
        number,
        round: 1,
        started_at: at(1),
        duration: Duration::from_micros(1_234),
        phases: Phases {
            wait: Some(1.25),
            ..Phases::default()
        },
        result: AttemptResult::ServerError,
        status_code: Some(503),
        error: Some(AttemptError {
            code: "http_status".to_owned(),
            text: "503".to_owned(),
        }),
        response_body: Some("busy".to_owned()),
        resolved_address: Some("192.0.2.1:443".to_owned()),
        request_headers: vec![("webhook-id".to_owned(), "x".to_owned())],
        worker: "worker-1".to_owned(),
        console: Some("hello".to_owned()),
    }
}

/// A first record of a delivery, with its event where the state makes one.
pub(crate) fn new(
    notification: &Arc<Notification>,
    endpoint: &str,
    state: DeliveryState,
) -> Record {
    let delivery = delivery(notification, endpoint, state);
    let event = match delivery.state {
        DeliveryState::Delivered { .. } => None,
        _ => Event::of_outcome(&delivery, None),
    };
    let before = Before::New {
        notification: Arc::clone(notification),
        fan_out: 1,
    };
    Record {
        delivery,
        before,
        attempt: None,
        kept: None,
        event,
        disable: None,
    }
}

/// Puts deliveries in, one for each notification id.
pub(crate) async fn put(store: &Store, id: &str, endpoint: &str, state: DeliveryState) -> Delivery {
    put_as(
        store,
        Arc::new(Notification {
            ..(*notification(id)).clone()
        }),
        endpoint,
        state,
    )
    .await
}

pub(crate) async fn put_as(
    store: &Store,
    notification: Arc<Notification>,
    endpoint: &str,
    state: DeliveryState,
) -> Delivery {
    let record = new(&notification, endpoint, state);
    assert_eq!(
        store
            .record(std::slice::from_ref(&record), at(0))
            .await
            .unwrap(),
        [Recorded::Kept]
    );
    record.delivery
}

pub(crate) fn expiring(id: &str, seconds: i64) -> Arc<Notification> {
    Arc::new(Notification {
        expires_at: Some(at(seconds)),
        ..(*notification(id)).clone()
    })
}

pub(crate) fn endpoint(name: &str) -> Endpoint {
    Endpoint {
        uid: None,
        id: endpoint_id(name),
        tenant: TenantId::default(),
        url: "https://example.com/hook?x=1".parse().unwrap(),
        wire_format: WireFormat::Standard,
        description: "it".to_owned(),
        subscription: Subscription::default(),
        confidential: Confidential {
            written_url: None,
            secrets: vec![SigningSecret {
                secret: Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
                created_at: at(0),
                retires_at: None,
            }],
            headers: vec![("X-Token".to_owned(), Secret::new("tok_plain"))],
            settings: serde_json::Map::new(),
        },
        timeout: Duration::from_secs(5),
        retry: RetryPolicy::default(),
        max_in_flight: 32,
        rate_limit_per_second: Some(2.5),
        status: EndpointStatus::Enabled,
        created_at: at(0),
        updated_at: at(0),
        version: 0,
    }
}
