//! A database that no promise can be kept on is refused by every process that opens it, with the
//! reason.

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};
use tempfile::TempDir;

use crate::support::{Api, Backend, Place, Process, eventually, process, required};

/// A database of its own, removed by [`Database::drop_it`].
struct Database {
    server: PgPool,
    name: String,
}

impl Database {
    async fn new(how: &str) -> Self {
        let server = PgPool::connect(&required("POSTHASTE_TEST_POSTGRES_URL"))
            .await
            .unwrap();
        let name = format!("t{}", uuid::Uuid::new_v4().simple());
        let database = Self { server, name };
        database
            .run(&format!(
                "CREATE DATABASE {} TEMPLATE template0 {how}",
                database.name
            ))
            .await;
        database
    }

    async fn run(&self, sql: &str) {
        sqlx::query(AssertSqlSafe(sql.to_owned()))
            .execute(&self.server)
            .await
            .unwrap();
    }

    fn url(&self) -> String {
        let mut url = url::Url::parse(&required("POSTHASTE_TEST_POSTGRES_URL")).unwrap();
        url.set_path(&self.name);
        url.to_string()
    }

    fn place(&self) -> Place {
        Place::at(self.url())
    }

    async fn drop_it(self) {
        self.run(&format!("DROP DATABASE {} WITH (FORCE)", self.name))
            .await;
        self.server.close().await;
    }
}

/// Every command that opens the store says this, and ends with 1.
async fn all_refuse(place: &Place, words: &[&str]) {
    let dir = TempDir::new().unwrap();
    let dir = dir.path().to_str().unwrap();
    for command in [
        vec!["up", "--data-dir", dir],
        vec!["api"],
        vec!["worker"],
        vec!["migrate"],
        vec!["reconcile"],
        vec!["key", "list"],
        vec!["doctor"],
    ] {
        let ended = process::run(place, &command, &[], None).await;
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&ended.stdout),
            String::from_utf8_lossy(&ended.stderr)
        );
        assert_eq!(ended.status.code(), Some(1), "{command:?}: {said}");
        for word in words {
            assert!(
                said.contains(word),
                "{command:?} does not say {word:?}: {said}"
            );
        }
    }
}

#[tokio::test]
async fn a_database_that_is_not_utf8_is_refused_by_every_process() {
    for encoding in ["SQL_ASCII", "LATIN1"] {
        let database = Database::new(&format!(
            "ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"
        ))
        .await;
        all_refuse(
            &database.place(),
            &[&format!("has the encoding {encoding}"), "createdb -E UTF8"],
        )
        .await;
        database.drop_it().await;
    }
}

#[tokio::test]
async fn a_database_that_cannot_be_written_to_is_refused_by_every_process() {
    let database = Database::new("ENCODING 'UTF8'").await;
    database
        .run(&format!(
            "ALTER DATABASE {} SET default_transaction_read_only = on",
            database.name
        ))
        .await;
    all_refuse(
        &database.place(),
        &["default_transaction_read_only", "ALTER DATABASE"],
    )
    .await;
    database.drop_it().await;
}

/// Such as a managed server whose disk is nearly full.
#[tokio::test]
async fn a_database_that_is_read_only_for_a_while_is_said_to_be_and_comes_back() {
    let database = Database::new("ENCODING 'UTF8'").await;
    let place = database.place();
    let up = Process::start(&place, &["up"]).await;
    let api = Api::of(&up);
    let post = async || {
        let body = json!({"type": "a", "payload": 1});
        let path = "/v1/notifications";
        api.call(Method::POST, path, Some(body)).await.0.as_u16()
    };
    let ready = async || api.call(Method::GET, "/readyz", None).await.0.as_u16();
    assert_eq!((post().await, ready().await), (202, 200));
    let name = &database.name;
    database
        .run(&format!(
            "ALTER DATABASE {name} SET default_transaction_read_only = on"
        ))
        .await;
    // What is open already keeps its settings.
    database
        .run(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        ))
        .await;
    eventually("it is said", async || {
        (post().await == 503 && ready().await == 503).then_some(())
    })
    .await;
    database
        .run(&format!(
            "ALTER DATABASE {name} RESET default_transaction_read_only"
        ))
        .await;
    eventually("it goes on by itself", async || {
        (post().await == 202 && ready().await == 200).then_some(())
    })
    .await;
    drop(up);
    database.drop_it().await;
}

#[tokio::test]
async fn what_is_accepted_is_durable_where_the_server_would_not_wait_for_its_disk() {
    let database = Database::new("ENCODING 'UTF8'").await;
    database
        .run(&format!(
            "ALTER DATABASE {} SET synchronous_commit = off",
            database.name
        ))
        .await;
    let place = database.place();
    let up = Process::start(&place, &["up"]).await;
    let api = Api::of(&up);
    let pool = PgPool::connect(&database.url()).await.unwrap();
    for sql in [
        "CREATE TABLE seen (value TEXT)",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN
                INSERT INTO seen VALUES (current_setting(''synchronous_commit''));
                RETURN NEW;
            END'",
        "CREATE TRIGGER note AFTER INSERT ON queue FOR EACH ROW EXECUTE FUNCTION note()",
        "CREATE TRIGGER note AFTER INSERT ON notifications FOR EACH ROW EXECUTE FUNCTION note()",
    ] {
        sqlx::query(sql).execute(&pool).await.unwrap();
    }
    api.post("/v1/notifications", json!({"type": "a", "payload": 1}))
        .await;
    let seen: Vec<String> = eventually("both rows", async || {
        let seen: Vec<String> = sqlx::query_scalar("SELECT value FROM seen")
            .fetch_all(&pool)
            .await
            .unwrap();
        (seen.len() >= 2).then_some(seen)
    })
    .await;
    assert!(seen.iter().all(|value| value == "on"), "{seen:?}");
    pool.close().await;
    let doctor = process::run(&place, &["doctor", "--json"], &[], None).await;
    let report: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    assert!(
        report
            .to_string()
            .contains("synchronous_commit is off on the server"),
        "{report}"
    );
    drop(up);
    database.drop_it().await;
}

#[tokio::test]
async fn a_sqlite_file_that_cannot_be_opened_says_so() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let path = place.dir.path().join("store.db");
    std::fs::create_dir(&path).unwrap();
    let ended = process::run(&place, &["migrate"], &[], None).await;
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(
        said.contains("store.db cannot be opened for writing") && said.contains("directory"),
        "{said}"
    );
}
