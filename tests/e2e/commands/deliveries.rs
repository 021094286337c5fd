//! `send`, `delivery` and `event`.

use serde_json::{Value, json};

use super::id_of;
use crate::support::cli::Cli;
use crate::support::{Backend, Receiver, eventually};

#[tokio::test]
async fn notifications_are_sent_from_flags_and_files() {
    let cli = Cli::start(Backend::EmbeddedSqlite).await;
    let receiver = Receiver::start().await;
    cli.ok(&[
        "endpoint",
        "add",
        "--url",
        &receiver.url("/ok"),
        "--type",
        "a.*",
    ])
    .await;
    let id = cli
        .ok(&["send", "--type", "a.one", "--payload", "{\n  \"n\": 1\n}"])
        .await;
    cli.delivery(id.trim(), "delivered").await;
    let sent = receiver.requests("/ok").remove(0).body;
    assert!(sent.ends_with(b"\"data\":{\n  \"n\": 1\n}}"), "{sent:?}");
    let script = r#"script=export default () => ({ code: "ok" })"#;
    let made = cli
        .json(&[
            "endpoint",
            "add",
            "--wire-format",
            "authgear-script",
            "--setting",
            script,
        ])
        .await;
    assert_eq!(made["wire_format"], "authgear-script");

    let lines = r#"{"type": "a.b", "payload": 1, "id": "one"}
not JSON
{"type": "a.b", "payload": 2, "bogus": 1}
{"type": "a.b", "payload": 3, "id": "four"}
"#;
    std::fs::write(cli.place.dir.path().join("some.ndjson"), lines).expect("a file");
    for (arguments, input) in [
        (vec!["send", "--file", "some.ndjson"], None),
        (vec!["send", "-"], Some(lines)),
    ] {
        let said = cli.run_with(&arguments, &[], input).await;
        assert_eq!(
            (said.code, said.out.as_str()),
            (1, "one\nfour\n"),
            "{said:?}"
        );
        assert!(
            said.err.contains("line 2: ") && said.err.contains("line 3: bogus is not known"),
            "{said:?}"
        );
        assert!(
            said.err.contains("accepted 2 notifications, refused 2"),
            "{said:?}"
        );
    }
    for good in ["one", "four"] {
        cli.delivery(good, "delivered").await;
    }
    // The second time the same names were deduplicated.
    assert_eq!(receiver.requests("/ok").len(), 3);
    let straight = cli
        .run_with(
            &["send", "--broker", "--type", "a.broker", "--payload", "1"],
            &[],
            None,
        )
        .await;
    assert_eq!(straight.code, 0, "{straight:?}");
    cli.delivery(straight.out.trim(), "delivered").await;
}

#[tokio::test]
async fn deliveries_are_looked_at_and_sent_again() {
    let cli = Cli::start(Backend::EmbeddedSqlite).await;
    let receiver = Receiver::start().await;
    let url = receiver.url("/ok");
    let endpoint = cli
        .json(&[
            "endpoint",
            "add",
            "--url",
            &url,
            "--type",
            "a",
            "--max-retries",
            "0",
        ])
        .await;
    receiver.set_down(true);
    cli.ok(&["send", "--type", "a", "--payload", "1", "--id", "n-1"])
        .await;
    let failed = cli.delivery("n-1", "failed").await;
    let delivery = id_of(&failed);
    assert_eq!(failed["reason"], "retries_exhausted");
    for id in ["n-1", delivery] {
        let explained = cli.ok(&["explain", id]).await;
        assert!(
            explained.contains("503") && explained.contains("One attempt was made"),
            "{explained}"
        );
    }

    receiver.set_down(false);
    assert!(
        cli.ok(&["delivery", "retry", delivery])
            .await
            .contains("due now")
    );
    cli.delivery("n-1", "delivered").await;
    let shown = cli.json(&["delivery", "show", delivery]).await;
    let codes: Vec<_> = shown["attempts"]
        .as_array()
        .expect("attempts")
        .iter()
        .map(|it| &it["status_code"])
        .collect();
    assert_eq!(codes, [503, 200], "{shown}");
    assert!(
        cli.ok(&["delivery", "show", delivery])
            .await
            .contains("503")
    );

    cli.ok(&[
        "send",
        "--type",
        "a",
        "--payload",
        "1",
        "--id",
        "later",
        "--delay",
        "1h",
    ])
    .await;
    let waiting = cli.delivery("later", "pending").await;
    assert!(
        cli.ok(&["explain", "later"])
            .await
            .contains("its deliver_at")
    );
    cli.ok(&["endpoint", "disable", id_of(&endpoint)]).await;
    assert!(
        cli.ok(&["explain", "later"])
            .await
            .contains("disabled (by hand)")
    );
    cli.ok(&["endpoint", "enable", id_of(&endpoint)]).await;
    assert!(
        cli.ok(&["delivery", "cancel", id_of(&waiting)])
            .await
            .contains("cancelled")
    );
    let again = cli.fails(1, &["delivery", "cancel", id_of(&waiting)]).await;
    assert!(again.contains("cancelled already"), "{again}");

    let replayed = cli
        .json(&["replay", "--status", "delivered", "--type", "a"])
        .await;
    assert_eq!(
        (&replayed["state"], &replayed["replayed"]),
        (&json!("done"), &json!(1)),
        "{replayed}"
    );
    receiver.wait_for("/ok", 3).await;
    cli.delivery("n-1", "delivered").await;
    assert!(cli.fails(2, &["replay"]).await.contains("needs a filter"));
    let would = cli
        .json(&["replay", "--status", "delivered", "--dry-run"])
        .await;
    assert_eq!(would["matched"], 1, "{would}");
    assert!(
        cli.ok(&["replay", "--type", "no.such", "--dry-run"])
            .await
            .starts_with("0 deliveries match.")
    );
    assert!(
        cli.fails(1, &["replay", "--status", "expired", "--dry-run"])
            .await
            .contains("enqueue it again")
    );
    let id = id_of(&replayed);
    assert!(cli.ok(&["replay", "list"]).await.contains(id));
    assert!(cli.ok(&["replay", "show", id]).await.contains("sent again"));
    assert!(
        cli.fails(1, &["replay", "cancel", id])
            .await
            .contains("finished already")
    );
    assert!(cli.ok(&["reconcile"]).await.contains("It adds up."));
    let books = cli.json(&["reconcile"]).await;
    assert_eq!(
        (
            &books["adds_up"],
            &books["accounting"]["deliveries"]["cancelled"]
        ),
        (&json!(true), &json!(1))
    );
}

#[tokio::test]
async fn events_are_listed_and_followed() {
    let cli = Cli::start(Backend::EmbeddedSqlite).await;
    let receiver = Receiver::start().await;
    let url = receiver.url("/status/400");
    cli.ok(&["endpoint", "add", "--url", &url, "--type", "a"])
        .await;
    // One tail that waits for what happens, and later one that begins with the first event of all.
    let follow = cli.run(&["event", "tail", "--json", "--exit-after", "1"]);
    let fail = async {
        eventually("a failure that the tail sees", async || {
            cli.ok(&["send", "--type", "a", "--payload", "1"]).await;
            cli.json(&["event", "list"]).await["items"]
                .get(0)
                .map(|_| ())
        })
        .await;
        loop {
            cli.ok(&["send", "--type", "a", "--payload", "1"]).await;
        }
    };
    let said = tokio::select! {
        said = follow => said,
        () = fail => unreachable!("it sends until the tail has seen one"),
    };
    let event: Value =
        serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    assert_eq!(
        (&event["type"], &event["specversion"]),
        (&json!("delivery.failed"), &json!("1.0"))
    );
    let text = cli
        .ok(&[
            "event",
            "tail",
            "--after",
            "0",
            "--exit-after",
            "2",
            "--type",
            "delivery.failed",
        ])
        .await;
    assert!(
        text.contains("answered 400") && text.contains("event tail --after 2"),
        "{text}"
    );
    assert!(
        cli.ok(&["event", "list", "--since", "1h"])
            .await
            .contains("answered 400")
    );
    assert!(
        cli.fails(2, &["event", "tail", "--type", "delivery.lost"])
            .await
            .contains("endpoint.disabled")
    );
}
