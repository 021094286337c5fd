//! API keys, and the master key.

use std::path::Path;

use serde_json::{Value, json};

use super::id_of;
use crate::support::cli::{Cli, Said};
use crate::support::{Api, Backend, DEADLINE, Place, Process, Receiver, eventually, process};

#[tokio::test]
async fn keys_do_what_their_scopes_say() {
    let cli = Cli::start(Backend::EmbeddedSqlite).await;
    let key = cli
        .json(&[
            "key", "create", "--name", "reader", "--scope", "read", "--tenant", "acme",
        ])
        .await;
    let secret = key["key"].as_str().expect("the key itself");
    let as_reader = [("POSTHASTE_API_KEY", secret)];
    let listed = cli.run_with(&["endpoint", "list"], &as_reader, None).await;
    assert_eq!(listed.code, 0, "{listed:?}");
    let send = ["send", "--type", "a", "--payload", "1"];
    let refused = cli.run_with(&send, &as_reader, None).await;
    assert_eq!(refused.code, 1);
    assert!(
        refused
            .err
            .contains("needs the scope enqueue; the API key has read"),
        "{refused:?}"
    );
    let other = cli
        .run_with(&["delivery", "list", "--tenant", "other"], &as_reader, None)
        .await;
    assert!(other.err.contains("bound to the tenant acme"), "{other:?}");
    assert!(cli.ok(&["key", "list"]).await.contains("reader"));
    let items = cli.json(&["key", "list"]).await;
    assert!(!items.to_string().contains(secret), "a key is shown once");

    assert!(
        cli.ok(&["key", "revoke", id_of(&key)])
            .await
            .contains("revoked")
    );
    eventually("the key is refused", async || {
        let said = cli.run_with(&["endpoint", "list"], &as_reader, None).await;
        (said.code == 1 && said.err.contains("POSTHASTE_API_KEY")).then_some(())
    })
    .await;
    assert!(
        cli.fails(1, &["key", "revoke", id_of(&key)])
            .await
            .contains("no key")
    );
    let wrong = cli
        .run_with(
            &["endpoint", "list"],
            &[("POSTHASTE_API_KEY", "wrong")],
            None,
        )
        .await;
    assert!(
        wrong.code == 1 && wrong.err.contains("posthaste key create"),
        "{wrong:?}"
    );
}

#[tokio::test]
async fn an_api_without_the_right_master_key_says_so() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let migrated = process::run(&place, &["migrate"], &[], None).await;
    assert!(migrated.status.success(), "{migrated:?}");
    let add = ["endpoint", "add", "--url", "http://127.0.0.1:9/"];
    let keyless = Process::start_with(&place, &["api"], &[("POSTHASTE_MASTER_KEY", "")]).await;
    let (status, problem) = {
        let body = json!({"url": "http://127.0.0.1:9/", "wire_format": "standard"});
        Api::of(&keyless)
            .call(reqwest::Method::POST, "/v1/endpoints", Some(body))
            .await
    };
    assert_eq!(
        (status.as_u16(), &problem["code"]),
        (500, &json!("no_master_key")),
        "{problem}"
    );
    assert!(
        problem["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains("POSTHASTE_MASTER_KEY")),
        "{problem}"
    );
    assert!(keyless.stop().await.success());

    let right = Process::start(&place, &["api"]).await;
    let said: Said = process::run(&place, &add, &[("POSTHASTE_API_URL", &right.url)], None)
        .await
        .into();
    assert_eq!(said.code, 0, "{said:?}");
    assert!(right.stop().await.success());
    // From now on the store has a key: no process begins to store secrets under another, or
    // without.
    for key in ["another-master-key-0123456789abcdef", ""] {
        for command in ["api", "up"] {
            let environment = [("POSTHASTE_MASTER_KEY", key)];
            let said: Said = process::run(&place, &[command], &environment, None)
                .await
                .into();
            assert!(
                said.code == 1 && said.err.contains("POSTHASTE_MASTER_KEY"),
                "{command} {key:?}: {said:?}"
            );
        }
    }
}

/// Whoever forgets to give a process the new key first: it must not go on with the old one, and
/// neither read nothing nor write what the others cannot read.
#[tokio::test]
async fn a_process_that_was_not_given_the_new_master_key_ends() {
    let place = Place::new(Backend::RabbitPostgres).await;
    let migrated = process::run(&place, &["migrate"], &[], None).await;
    assert!(migrated.status.success(), "{migrated:?}");
    let api = Process::start(&place, &["api"]).await;
    let worker = Process::start(&place, &["worker"]).await;
    let receiver = Receiver::start().await;
    let calls = Api::of(&api);
    calls.endpoint(&receiver.url("/ok"), json!({})).await;
    let keys = [
        (
            "POSTHASTE_MASTER_KEY",
            "the-new-master-key-0123456789abcdef",
        ),
        (
            "POSTHASTE_MASTER_KEY_PREVIOUS",
            "a-master-key-for-tests-0123456789abcdef",
        ),
    ];
    let rotated: Said = process::run(&place, &["key", "rotate-master"], &keys, None)
        .await
        .into();
    assert_eq!(rotated.code, 0, "{rotated:?}");
    for mut left_behind in [api, worker] {
        let status = left_behind.ended(DEADLINE).await;
        let log = left_behind.log();
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(log.contains("has the old one alone: it stopped"), "{log}");
    }
    // With the new key they find everything as it was.
    let api = Process::start_with(&place, &["api"], &keys[..1]).await;
    let _worker = Process::start_with(&place, &["worker"], &keys[..1]).await;
    let calls = Api::of(&api);
    let id = calls
        .post("/v1/notifications", json!({"type": "a", "payload": 1}))
        .await;
    let id = id["id"].as_str().expect("an id");
    assert_eq!(calls.finished(id, 1).await[0]["status"], "delivered");
}

/// What `up` keeps in its data directory, and what it says when that is gone or of no use.
#[tokio::test]
async fn up_makes_no_second_master_key_and_names_a_key_that_is_revoked() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let data = place.dir.path().join("data");
    let data = data.to_str().expect("a path");
    let arguments = ["up", "--data-dir", data];
    // Without those that the tests give to all processes.
    let own = [("POSTHASTE_MASTER_KEY", ""), ("POSTHASTE_ADMIN_KEY", "")];
    let up = Process::start_with(&place, &arguments, &own).await;
    up.logs("API key, shown this once").await;
    let key_file = Path::new(data).join("api-key");
    let key = std::fs::read_to_string(&key_file).expect("the first key");
    let as_first = [
        ("POSTHASTE_MASTER_KEY", ""),
        ("POSTHASTE_DATA_DIR", data),
        ("POSTHASTE_API_KEY", key.trim()),
        ("POSTHASTE_API_URL", &up.url),
    ];
    let run = async |arguments: &[&str]| {
        let said: Said = process::run(&place, arguments, &as_first, None)
            .await
            .into();
        assert_eq!(said.code, 0, "{said:?}");
        said.out
    };
    run(&["endpoint", "add", "--url", "http://127.0.0.1:9/"]).await;
    let keys: Value = serde_json::from_str(&run(&["key", "list", "--json"]).await).expect("JSON");
    run(&["key", "create", "--name", "second"]).await;
    run(&["key", "revoke", id_of(&keys["items"][0])]).await;
    assert!(up.stop().await.success());

    let up = Process::start_with(&place, &arguments, &own).await;
    up.logs("is not valid any more").await;
    assert!(up.stop().await.success());

    // A database that was restored without the file beside it.
    let file = Path::new(data).join("master-key");
    std::fs::remove_file(&file).expect("the master key");
    let said: Said = process::run(&place, &arguments, &own, None).await.into();
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("master-key is not there"), "{said:?}");
    assert!(!file.exists(), "it made no other");
}
