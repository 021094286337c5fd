//! A newer version brings the schema up to date while this one is at work: it goes on, also from a
//! new start, for as long as the schema says that it may.

use std::collections::HashSet;
use std::sync::Mutex;

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use crate::support::load::Load;
use crate::support::{Api, Backend, Place, Process, Receiver, eventually, process};

/// What a newer version would add: it expands, and takes nothing away.
const EXPAND: &[&str] = &[
    "ALTER TABLE notifications ADD COLUMN of_the_future TEXT",
    "ALTER TABLE deliveries ADD COLUMN of_the_future TEXT NOT NULL DEFAULT 'x'",
    "ALTER TABLE attempts ADD COLUMN of_the_future BIGINT NOT NULL DEFAULT 7",
    "ALTER TABLE endpoints ADD COLUMN of_the_future TEXT",
    "ALTER TABLE events ADD COLUMN of_the_future TEXT",
    "CREATE TABLE of_the_future (id BIGINT PRIMARY KEY)",
    "CREATE INDEX of_the_future_by_time ON deliveries (created_at)",
    "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
        SELECT 99, 'newer', success, checksum, 1 FROM _sqlx_migrations WHERE version = 1",
];
/// What it would do a version later, when nobody needs the old ways any more.
const CONTRACT: &[&str] = &["UPDATE versions SET value = 99 WHERE name = 'oldest_program'"];

/// All in one transaction, as migrations are.
async fn migrate_as_a_newer_version(place: &Place, statements: &[&str]) {
    let url = &place.database_url;
    let all = format!("BEGIN; {}; COMMIT", statements.join("; "));
    if url.starts_with("sqlite") {
        let mut connection = sqlx::SqliteConnection::connect(url).await.unwrap();
        // The other processes write, too: wait for them.
        connection
            .execute("PRAGMA busy_timeout = 20000")
            .await
            .unwrap();
        connection
            .execute(AssertSqlSafe(all.replacen("BEGIN", "BEGIN IMMEDIATE", 1)))
            .await
            .unwrap();
    } else {
        // It locks many tables, and so may come into a deadlock with a worker; then it tries again,
        // as `migrate` does.
        eventually("migrated", async || {
            let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
            let Err(error) = connection.execute(AssertSqlSafe(all.clone())).await else {
                return Some(());
            };
            let code = error
                .as_database_error()
                .and_then(sqlx::error::DatabaseError::code);
            assert_eq!(code.as_deref(), Some("40P01"), "{error}");
            None
        })
        .await;
    }
}

async fn goes_on(backend: Backend) {
    let place = Place::new(backend).await;
    let receiver = Receiver::start().await;
    assert!(
        process::run(&place, &["migrate"], &[], None)
            .await
            .status
            .success()
    );
    let api_process = Process::start(&place, &["api"]).await;
    // Every first attempt fails here, which is not to open a breaker.
    let patient = [("POSTHASTE_BREAKER_FAILURES", "0")];
    let (worker, other) = (
        Process::start_with(&place, &["worker"], &patient).await,
        Process::start_with(&place, &["worker"], &patient).await,
    );
    let api = Api::of(&api_process);
    // Each is answered with 503 once, so that what waits in the store meets both schemas.
    let seen = Mutex::new(HashSet::new());
    receiver.answer("/once", move |request| {
        let first = seen.lock().unwrap().insert(request.text().to_owned());
        (if first { 503 } else { 200 }, String::new())
    });
    let endpoint = api
        .endpoint(&receiver.url("/once"), json!({"wire_format": "raw"}))
        .await;
    let load = Load::start(Api::of(&api_process), &endpoint);
    receiver.wait_for("/once", 50).await;

    migrate_as_a_newer_version(&place, EXPAND).await;
    load.goes_on().await;
    assert!(worker.stop().await.success());
    let again = Process::start_with(&place, &["worker"], &patient).await;
    assert!(other.stop().await.success());
    load.goes_on().await;
    let migrated = process::run(&place, &["migrate"], &[], None).await;
    assert!(
        migrated.status.success(),
        "{}",
        String::from_utf8_lossy(&migrated.stderr)
    );
    let doctor = process::run(&place, &["doctor"], &[], None).await;
    assert!(
        doctor.status.success(),
        "{}",
        String::from_utf8_lossy(&doctor.stdout)
    );
    load.ends_without_loss(&place, &api).await;

    migrate_as_a_newer_version(&place, CONTRACT).await;
    let refused = process::run(&place, &["worker"], &[], None).await;
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("start the newer program"),
        "{said}"
    );
    assert!(again.stop().await.success());
}

#[tokio::test]
async fn a_newer_schema_on_rabbitmq_and_postgres() {
    goes_on(Backend::RabbitPostgres).await;
}

#[tokio::test]
async fn a_newer_schema_on_the_embedded_queue_and_sqlite() {
    goes_on(Backend::EmbeddedSqlite).await;
}
