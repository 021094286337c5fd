//! `endpoint`.

use serde_json::{Value, json};

use super::id_of;
use crate::support::cli::Cli;
use crate::support::{Backend, Receiver};

#[tokio::test]
async fn endpoints_are_managed_from_the_shell() {
    let cli = Cli::start(Backend::EmbeddedSqlite).await;
    let receiver = Receiver::start().await;
    let url = receiver.url("/ok");
    let made = cli
        .json(&[
            "endpoint",
            "add",
            "--url",
            &url,
            "--type",
            "order.*",
            "--header",
            "Authorization: Bearer sesame",
        ])
        .await;
    let id = id_of(&made);
    let secret = made["secret"].as_str().expect("a secret");
    assert!(secret.starts_with("whsec_"), "{made}");

    let plain = url.trim_start_matches("http://");
    let local = cli.json(&["endpoint", "add", "--url", plain]).await;
    assert_eq!(local["url"], url, "http for this machine, as for curl");
    cli.ok(&["endpoint", "delete", id_of(&local)]).await;
    let listed = cli.ok(&["endpoint", "list"]).await;
    assert!(
        listed.starts_with("ID ") && listed.contains(id) && listed.contains("order.*"),
        "{listed}"
    );
    assert_eq!(cli.json(&["endpoint", "list"]).await["items"][0]["id"], id);
    let shown = cli.ok(&["endpoint", "show", id]).await;
    assert!(
        shown.contains(&url) && !shown.contains(secret) && !shown.contains("sesame"),
        "{shown}"
    );

    // What is set changes, what is not named stays: the header too, which is only ever shown
    // redacted.
    let set = cli
        .json(&[
            "endpoint",
            "set",
            id,
            "--max-in-flight",
            "3",
            "--header",
            "X-More: 1",
        ])
        .await;
    assert_eq!(
        (&set["max_in_flight"], &set["subscription"]["types"]),
        (&json!(3), &json!(["order.*"]))
    );
    let tested = cli.ok(&["endpoint", "test", id]).await;
    assert!(
        tested.contains("verdict") && tested.contains("webhook-signature"),
        "{tested}"
    );
    let request = receiver.wait_for("/ok", 1).await.remove(0);
    assert_eq!(
        (request.header("authorization"), request.header("x-more")),
        ("Bearer sesame", "1")
    );

    assert!(
        cli.ok(&["endpoint", "disable", id])
            .await
            .contains("disabled")
    );
    assert_eq!(cli.json(&["endpoint", "show", id]).await["enabled"], false);
    assert!(
        cli.ok(&["endpoint", "enable", id])
            .await
            .contains("enabled")
    );
    let rotated = cli
        .json(&["endpoint", "rotate-secret", id, "--overlap", "1h"])
        .await;
    assert!(
        rotated["secret"].as_str().is_some_and(|new| new != secret),
        "{rotated}"
    );
    assert_eq!(rotated["endpoint"]["retiring_secrets"], 1);
    receiver.set_down(true);
    let said = cli.run(&["endpoint", "test", id, "--json"]).await;
    let report: Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(
        (said.code, &report["response"]["status"]),
        (1, &json!(503)),
        "{report}"
    );
    assert_eq!(
        report["verdict"], "it would be retried up to 4 times, the first after 1 s",
        "{report}"
    );

    assert!(
        cli.ok(&["endpoint", "delete", id])
            .await
            .contains("deleted")
    );
    assert_eq!(
        cli.fails(1, &["endpoint", "show", id]).await,
        "posthaste: there is no such endpoint\n"
    );
    let refused = cli
        .fails(1, &["endpoint", "add", "--url", "http://10.1.1.1/"])
        .await;
    assert!(refused.contains("POSTHASTE_EGRESS_ALLOW"), "{refused}");
    for command in ["show", "test", "disable", "delete"] {
        let unknown = cli.fails(1, &["endpoint", command, "orders"]).await;
        assert!(unknown.contains("--tenant"), "{command}: {unknown}");
        let known = ["endpoint", command, "orders", "--tenant", "acme"];
        assert!(
            !cli.fails(1, &known).await.contains("--tenant"),
            "{command}"
        );
    }
}
