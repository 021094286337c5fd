//! What `doctor` finds where secrets cannot be read.

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, SqliteConnection};

use crate::support::cli::{Cli, Said};
use crate::support::{Api, Backend};

/// The check of that name, in a report of `doctor --json`.
fn check(said: &Said, name: &str) -> Value {
    let report: Value = serde_json::from_str(&said.out).expect("JSON");
    let checks = report["checks"].as_array().expect("checks");
    let check = checks.iter().find(|check| check["name"] == name);
    check.unwrap_or_else(|| panic!("{name}: {report}")).clone()
}

#[tokio::test]
async fn the_doctor_says_which_secrets_cannot_be_read() {
    let cli = Cli::start(Backend::EmbeddedSqlite).await;
    let api = Api::of(&cli.up);
    let mut ids = Vec::new();
    for _ in 0..3 {
        let endpoint = api.endpoint("http://127.0.0.1:9/", json!({})).await;
        ids.push(endpoint["id"].as_str().expect("an id").to_owned());
    }
    let no_key = [("POSTHASTE_MASTER_KEY", "")];
    let said = cli.run_with(&["doctor", "--json"], &no_key, None).await;
    let found = check(&said, "secrets");
    assert_eq!((said.code, &found["verdict"]), (1, &json!("fail")));
    assert!(
        found["detail"]
            .as_str()
            .is_some_and(|text| text.contains("no master key")),
        "{found}"
    );
    let mut store = SqliteConnection::connect(&cli.place.database_url)
        .await
        .unwrap();
    let spoil = format!(
        "UPDATE endpoints SET confidential = x'00' WHERE id = '{}'",
        ids[1]
    );
    store.execute("PRAGMA busy_timeout = 20000").await.unwrap();
    store.execute(AssertSqlSafe(spoil)).await.unwrap();
    store.close().await.unwrap();
    let said = cli.run_with(&["doctor", "--json"], &[], None).await;
    let found = check(&said, "secrets");
    assert_eq!((said.code, &found["verdict"]), (1, &json!("fail")));
    assert_eq!(found["detail"], "2 endpoints can be read; 1 cannot");
}
