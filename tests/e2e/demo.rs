//! The first thing that anybody runs.

use std::time::Duration;

use serde_json::json;

use crate::support::{Api, Backend, Place, Process, eventually, within};

#[tokio::test]
async fn the_demonstration_shows_each_outcome_and_goes_on_serving() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    // As a newcomer runs it: nothing set. (Plain http is allowed by these tests, as it is by `up`.)
    let unset = ["POSTHASTE_DATABASE_URL", "POSTHASTE_MASTER_KEY"];
    let environment: Vec<(&str, &str)> = unset.iter().map(|name| (*name, "")).collect();
    let demo = Process::start_with(&place, &["up", "--demo"], &environment).await;
    let shown = within(
        Duration::from_secs(60),
        "the demonstration's table",
        async || {
            let log = demo.log();
            (log.contains("expired") && log.contains("failed") && log.contains("delivered"))
                .then_some(log)
        },
    )
    .await;
    assert!(shown.matches("delivered").count() >= 2, "{shown}");
    assert!(
        !shown.contains("auth::audit"),
        "the table stands alone: {shown}"
    );
    let api = Api::of(&demo);
    let status = api.get("/v1/deliveries?tenant=demo").await;
    let mut ends: Vec<_> = status["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|delivery| {
            (
                delivery["status"].as_str().unwrap().to_owned(),
                delivery["attempt_count"].as_u64().unwrap(),
            )
        })
        .collect();
    ends.sort();
    for expected in ["delivered", "failed", "expired"] {
        assert!(
            ends.iter().any(|(status, _)| status == expected),
            "{ends:?}"
        );
    }
    assert!(
        ends.contains(&("delivered".to_owned(), 3)),
        "one is delivered after retries: {ends:?}"
    );
    api.endpoint("http://127.0.0.1:9/", json!({})).await;
    let path = place.dir.path().join("posthaste-data/api-key");
    let key = std::fs::metadata(&path).expect("the first key's file");
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&key.permissions()) & 0o777,
        0o600
    );
    let key = std::fs::read_to_string(&path).unwrap();
    demo.logs(&format!("API key, shown this once: {}", key.trim()))
        .await;
    assert!(demo.stop().await.success());
}

#[tokio::test]
async fn the_first_key_is_in_no_journal() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let up = Process::start_with(&place, &["up"], &[("JOURNAL_STREAM", "8:1")]).await;
    let path = place.dir.path().join("posthaste-data/api-key");
    let key = eventually("the key's file", async || {
        std::fs::read_to_string(&path).ok()
    })
    .await;
    eventually("it says where", async || {
        up.log().contains("API key: in ").then_some(())
    })
    .await;
    assert!(!up.log().contains(key.trim()), "{}", up.log());
    assert!(up.stop().await.success());
}
