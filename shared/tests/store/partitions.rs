//! Attempts by the day, on Postgres, and schemas of other versions.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use posthaste_shared::domain::attempt::Attempt;
use posthaste_shared::domain::delivery::{Delivery, DeliveryState};
use posthaste_shared::domain::notification::Notification;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::store::record::{Before, Record, Recorded};
use posthaste_shared::store::{Migrated, Store, StoreError};
use sqlx::Connection as _;
use sqlx::migrate::Migrator;

use super::bench::{Bench, at, attempt, delivered, new, newest_version, notification, retry};

/// Seconds in a day.
const DAY: i64 = 86_400;

/// A notification that was accepted on such a day, counted from the tests' beginning of time, and
/// its delivery with one attempt, after which it waited: otherwise the attempt would lie in its
/// row.
async fn put(store: &Store, id: &str, day: i64, state: DeliveryState) -> Delivery {
    let accepted_at = at(day * DAY);
    let notification = Arc::new(Notification {
        accepted_at,
        ..(*notification(id)).clone()
    });
    let mut record = new(&notification, "ep_1", retry(day * DAY + 2));
    record.delivery.attempt_count = 1;
    record.attempt = Some(Attempt {
        started_at: at(day * DAY + 1),
        ..attempt(1)
    });
    assert_eq!(
        store.record(&[record.clone()], at(0)).await.unwrap(),
        [Recorded::Kept]
    );
    let then = Record {
        delivery: Delivery {
            state,
            ..record.delivery
        },
        before: Before::Known {
            round: 1,
            attempt_count: 1,
        },
        attempt: None,
        ..record
    };
    let kept = store.record(std::slice::from_ref(&then), at(0)).await;
    assert_eq!(kept.unwrap(), [Recorded::Kept]);
    then.delivery
}

async fn tables(bench: &Bench) -> Vec<String> {
    bench
        .sql(
            "SELECT c.relname::text FROM pg_class c WHERE c.relkind = 'r' AND c.relname LIKE \
             'attempts!_%' ESCAPE '!'
                AND c.relnamespace = current_schema()::regnamespace ORDER BY 1",
        )
        .await
}

/// Where its attempts lie.
async fn tables_of(bench: &Bench, delivery: &Delivery) -> Vec<String> {
    let sql = format!(
        "SELECT tableoid::regclass::text FROM attempts WHERE delivery_id = '{}'",
        delivery.id
    );
    bench.sql(&sql).await
}

async fn remove_deliveries(store: &Store, before: Timestamp) {
    while store.remove_finished(before, before, 100).await.unwrap() > 0 {}
}

pub(crate) async fn a_new_store_has_tables_for_today_and_tomorrow(bench: &Bench) {
    assert_eq!(tables(bench).await.len(), 3, "{:?}", tables(bench).await);
    let now = bench.store.server_time().await.unwrap();
    let created = bench.store.prepare_partitions(now).await.unwrap();
    assert!(matches!(created, 6 | 7), "{created}");
}

pub(crate) async fn days_get_their_tables_ahead_of_time(bench: &Bench) {
    let store = &bench.store;
    let other = bench.another().await;
    let (created, by_other) = tokio::join!(
        store.prepare_partitions(at(5)),
        other.prepare_partitions(at(5))
    );
    assert_eq!(created.unwrap() + by_other.unwrap(), 8);
    assert_eq!(store.prepare_partitions(at(6)).await.unwrap(), 0);
    assert_eq!(store.prepare_partitions(at(DAY)).await.unwrap(), 1);
    let delivery = put(store, "n-1", 2, delivered(3 * DAY)).await;
    assert_eq!(tables_of(bench, &delivery).await, ["attempts_20260103"]);
    let late = put(store, "n-2", 20, delivered(20 * DAY)).await;
    assert_eq!(tables_of(bench, &late).await, ["attempts_default"]);
    assert_eq!(store.delivery(late.id).await.unwrap().unwrap().1.len(), 1);
    // The day that has attempts in the default table goes without; those after it do not.
    assert_eq!(store.prepare_partitions(at(20 * DAY)).await.unwrap(), 7);
    other.close().await;
}

pub(crate) async fn old_days_go_and_what_is_still_wanted_stays(bench: &Bench) {
    let store = &bench.store;
    store.prepare_partitions(at(0)).await.unwrap();
    let gone = put(store, "gone", 0, delivered(2)).await;
    let pending = put(store, "pending", 0, retry(9 * DAY)).await;
    let recent = put(store, "recent", 0, delivered(4 * DAY)).await;
    let next_day = put(store, "next", 1, delivered(DAY + 2)).await;

    let before = at(DAY + 10);
    assert_eq!(
        store.remove_partitions(at(DAY - 1)).await.unwrap(),
        0,
        "the day is not over"
    );
    remove_deliveries(store, before).await;
    assert_eq!(
        tables_of(bench, &gone).await,
        ["attempts_20260101"],
        "it goes with its day"
    );
    assert_eq!(store.remove_partitions(before).await.unwrap(), 1);
    assert_eq!(store.remove_partitions(before).await.unwrap(), 0);

    assert!(
        !tables(bench)
            .await
            .contains(&"attempts_20260101".to_owned())
    );
    assert!(store.delivery(gone.id).await.unwrap().is_none());
    for kept in [&pending, &recent] {
        assert_eq!(tables_of(bench, kept).await, ["attempts_default"]);
        assert_eq!(store.delivery(kept.id).await.unwrap().unwrap().1.len(), 1);
    }
    assert_eq!(tables_of(bench, &next_day).await, ["attempts_20260102"]);
    let books = store.accounting(at(9 * DAY)).await.unwrap();
    assert_eq!((books.problem_count, books.attempts), (0, 3), "{books:?}");

    // From the default table they go with their deliveries.
    remove_deliveries(store, at(5 * DAY)).await;
    assert_eq!(tables_of(bench, &recent).await, Vec::<String>::new());
}

pub(crate) async fn what_was_interrupted_is_finished(bench: &Bench) {
    let store = &bench.store;
    store.prepare_partitions(at(0)).await.unwrap();
    put(store, "gone", 0, delivered(2)).await;
    let pending = put(store, "pending", 0, retry(9 * DAY)).await;
    remove_deliveries(store, at(2 * DAY)).await;
    bench
        .sql("ALTER TABLE attempts DETACH PARTITION attempts_20260101")
        .await;
    let other = bench.another().await;
    let (one, two) = tokio::join!(
        store.remove_partitions(at(DAY)),
        other.remove_partitions(at(DAY))
    );
    assert_eq!(one.unwrap() + two.unwrap(), 1);
    assert_eq!(tables_of(bench, &pending).await, ["attempts_default"]);
    other.close().await;
}

pub(crate) async fn a_name_that_comes_again_has_its_own_attempts(bench: &Bench) {
    let store = &bench.store;
    store.prepare_partitions(at(0)).await.unwrap();
    let first = put(store, "again", 0, delivered(2)).await;
    remove_deliveries(store, at(10)).await;
    let second = Arc::new(Notification {
        accepted_at: at(DAY / 2),
        ..(*notification("again")).clone()
    });
    let mut record = new(&second, "ep_1", retry(DAY));
    record.delivery.attempt_count = 1;
    record.attempt = Some(Attempt {
        started_at: at(DAY / 2),
        worker: "second".to_owned(),
        ..attempt(1)
    });
    assert_eq!(record.delivery.id, first.id);
    assert_eq!(
        store.record(&[record], at(0)).await.unwrap(),
        [Recorded::Kept]
    );
    assert_eq!(tables_of(bench, &first).await.len(), 2);
    let (_, attempts) = store.delivery(first.id).await.unwrap().unwrap();
    assert_eq!(
        attempts
            .iter()
            .map(|attempt| attempt.worker.as_str())
            .collect::<Vec<_>>(),
        ["second"]
    );
    let books = store.accounting(at(DAY)).await.unwrap();
    assert_eq!(books.problem_count, 0, "{books:?}");
}

/// The schema as the first `count` migrations left it.
async fn at_version(bench: &Bench, count: usize) {
    bench
        .sql(
            "DO $$ DECLARE t text; BEGIN FOR t IN SELECT tablename FROM pg_tables WHERE \
             schemaname = current_schema()
        LOOP EXECUTE format('DROP TABLE IF EXISTS %I CASCADE', t); END LOOP; END $$",
        )
        .await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations/postgres");
    let all = Migrator::new(folder).await.unwrap();
    let first = all.iter().take(count).cloned().collect();
    let migrator = Migrator {
        migrations: Cow::Owned(first),
        ..Migrator::DEFAULT
    };
    let mut connection = sqlx::PgConnection::connect(bench.options.url.expose())
        .await
        .unwrap();
    migrator.run(&mut connection).await.unwrap();
}

pub(crate) async fn what_was_there_before_becomes_a_partition(bench: &Bench) {
    let store = &bench.store;
    at_version(bench, 2).await;
    // This program writes columns that came later; those of that time did not.
    for column in [
        "deliveries ADD COLUMN kept BYTEA",
        "deliveries ADD COLUMN first_attempt TEXT",
        "deliveries ADD COLUMN first_status_code BIGINT",
        "notifications ADD COLUMN hops BIGINT NOT NULL DEFAULT 0",
    ] {
        bench.sql(&format!("ALTER TABLE {column}")).await;
    }
    bench
        .sql("CREATE TABLE master_key (id BIGINT PRIMARY KEY, check_value BYTEA)")
        .await;
    let old = put(store, "old", 0, delivered(2)).await;
    let pending = put(store, "pending", 0, retry(9 * DAY)).await;
    bench.sql("DROP TABLE master_key").await;
    for column in [
        "deliveries DROP COLUMN kept",
        "deliveries DROP COLUMN first_attempt",
        "deliveries DROP COLUMN first_status_code",
        "notifications DROP COLUMN hops",
    ] {
        bench.sql(&format!("ALTER TABLE {column}")).await;
    }
    assert_eq!(
        store.migrate().await.unwrap(),
        Migrated {
            from: 2,
            to: newest_version().await
        }
    );
    assert_eq!(
        tables(bench).await,
        ["attempts_default", "attempts_history"]
    );
    assert_eq!(store.delivery(old.id).await.unwrap().unwrap().1.len(), 1);
    let now = store.server_time().await.unwrap();
    let created = store.prepare_partitions(now).await.unwrap();
    assert!(
        matches!(created, 6 | 7),
        "today and tomorrow are in the history: {created}"
    );

    remove_deliveries(store, at(10)).await;
    assert_eq!(
        tables_of(bench, &old).await,
        Vec::<String>::new(),
        "row by row from the history"
    );
    let far = now.after(std::time::Duration::from_hours(20 * 24));
    assert!(store.remove_partitions(far).await.unwrap() > 1);
    assert_eq!(tables_of(bench, &pending).await, ["attempts_default"]);
    assert_eq!(store.accounting(far).await.unwrap().problem_count, 0);
}

pub(crate) async fn a_migration_that_meets_a_worker_in_a_deadlock_tries_again(bench: &Bench) {
    use sqlx::Executor as _;
    at_version(bench, 2).await;
    let mut worker = sqlx::PgConnection::connect(bench.options.url.expose())
        .await
        .unwrap();
    // The migration is to notice the deadlock, and not the worker.
    worker
        .execute("SET deadlock_timeout = '10s'")
        .await
        .unwrap();
    worker
        .execute("BEGIN; LOCK TABLE versions IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let store = bench.another().await;
    let migrating = tokio::spawn(async move {
        let migrated = store.migrate().await;
        store.close().await;
        migrated
    });
    let waits = "SELECT 'yes' FROM pg_locks WHERE NOT granted AND relation = 'versions'::regclass";
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    while bench.sql(waits).await.is_empty() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "the migration waits for the worker"
        );
    }
    worker
        .execute("SELECT count(*) FROM attempts")
        .await
        .unwrap();
    worker.execute("ROLLBACK").await.unwrap();
    assert_eq!(
        migrating.await.unwrap().unwrap(),
        Migrated {
            from: 2,
            to: newest_version().await
        }
    );
}

/// On both databases: a program meets a schema that a newer one has migrated.
pub(crate) async fn a_newer_schema_says_which_programs_it_serves(bench: &Bench) {
    let store = &bench.store;
    bench
        .sql(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
        SELECT 99, 'newer', success, checksum, 1 FROM _sqlx_migrations WHERE version = 1",
        )
        .await;
    store.check_schema().await.unwrap();
    assert_eq!(
        store.migrate().await.unwrap(),
        Migrated { from: 99, to: 99 }
    );
    bench
        .sql("UPDATE versions SET value = 99 WHERE name = 'oldest_program'")
        .await;
    for error in [
        store.check_schema().await.unwrap_err(),
        store.migrate().await.unwrap_err(),
    ] {
        assert!(
            matches!(error, StoreError::Schema { found: 99, .. }),
            "{error}"
        );
        assert!(
            error.to_string().contains("start the newer program"),
            "{error}"
        );
    }
}
