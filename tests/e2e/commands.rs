//! Every command as its users run it, against a live `up`.

use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;
use serde_json::{Value, json};

use crate::support::cli::{Cli, Said};
use crate::support::{Api, Backend, Place, Process, Receiver, eventually, process};

fn id_of(value: &Value) -> &str {
    value["id"].as_str().expect("an id")
}

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
}

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
            said.err.contains("2 notifications were sent, 2 were not"),
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
        cli.ok(&["replay", "--status", "expired", "--dry-run"])
            .await
            .starts_with("0 deliveries match.")
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

#[tokio::test]
async fn dead_letters_are_listed_shown_and_redriven() {
    let cli = Cli::start(Backend::RabbitSqlite).await;
    assert!(cli.ok(&["dead", "list"]).await.starts_with("ID "));
    publish(&cli.place, "garbage-1", b"hello, world").await;
    let letter = eventually("the dead letter", async || {
        let found = cli.json(&["dead", "list"]).await["items"]
            .as_array()
            .expect("items")
            .clone();
        found.into_iter().next()
    })
    .await;
    assert_eq!(
        (id_of(&letter), &letter["reason"]),
        ("garbage-1", &json!("undecodable")),
        "{letter}"
    );
    let shown = cli.ok(&["dead", "show", "garbage-1"]).await;
    assert!(shown.contains("hello, world"), "{shown}");
    assert!(
        cli.fails(1, &["dead", "show", "nothing"])
            .await
            .contains("no dead letter")
    );
    assert!(
        cli.fails(1, &["dead", "redrive", "nothing"])
            .await
            .contains("named no dead letter")
    );
    assert!(
        cli.ok(&["dead", "redrive", "garbage-1"])
            .await
            .contains("1 dead letter is back")
    );
    // Nobody can read it now either.
    eventually("it is dead again", async || {
        let found = cli.json(&["dead", "list"]).await;
        (found["items"].as_array().map(Vec::len) == Some(1)).then_some(())
    })
    .await;
    assert_eq!(cli.json(&["dead", "redrive", "--all"]).await["redriven"], 1);
}

/// They die again while they are moved, and count for that redrive no more.
#[tokio::test]
async fn redriving_all_ends_with_the_letters_that_were_there() {
    const COUNT: usize = 450;
    let cli = Cli::start(Backend::RabbitSqlite).await;
    publish_many(&cli.place, COUNT, b"hello, world").await;
    let dead = async || {
        let found = cli.json(&["dead", "list", "--limit", "1000"]).await;
        (found["items"].as_array().map(Vec::len) == Some(COUNT)).then_some(())
    };
    eventually("all are dead", dead).await;
    let said = cli.run(&["dead", "redrive", "--all"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(
        said.out,
        format!("{COUNT} dead letters are back on the work queue.\n"),
        "{said:?}"
    );
    assert!(
        said.err
            .contains(&format!("has begun: {COUNT} dead letters")),
        "{said:?}"
    );
    assert!(
        said.err
            .contains(&format!("warning: {COUNT} of them cannot be decoded")),
        "{said:?}"
    );
    eventually("each is dead again, once", dead).await;
    let metrics = reqwest::get(format!("{}/metrics", cli.up.url))
        .await
        .expect("metrics")
        .text()
        .await
        .expect("text");
    let deaths = format!(
        "posthaste_dead_letters_total{{reason=\"undecodable\"}} {}\n",
        2 * COUNT
    );
    assert!(metrics.contains(&deaths), "{metrics}");

    let listed = cli.json(&["dead", "redrives", "list"]).await;
    let redrive = &listed["items"][0];
    assert_eq!(
        (&redrive["state"], &redrive["redriven"]),
        (&json!("done"), &json!(COUNT)),
        "{listed}"
    );
    assert!(
        cli.ok(&["dead", "redrives", "show", id_of(redrive)])
            .await
            .contains("done")
    );
    assert!(
        cli.fails(1, &["dead", "redrives", "cancel", id_of(redrive)])
            .await
            .contains("finished already")
    );
}

#[tokio::test]
async fn a_redrive_needs_no_worker_and_stops_at_ctrl_c() {
    const COUNT: usize = 5_000;
    let place = Place::new(Backend::RabbitPostgres).await;
    assert!(
        process::run(&place, &["migrate"], &[], None)
            .await
            .status
            .success()
    );
    let api = Process::start(&place, &["api"]).await;
    bury_many(&place, COUNT).await;
    let client = Api::of(&api);
    let mut command =
        process::command(&place, &["dead", "redrive", "--all", "--api-url", &api.url]);
    let child = command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("runs");
    eventually("some are back", async || {
        let listed = client.get("/v1/redrives").await;
        (listed["items"][0]["redriven"].as_u64()? > 0).then_some(())
    })
    .await;
    let sent = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .expect("kill");
    assert!(sent.success());
    let said: Said = tokio::task::spawn_blocking(|| child.wait_with_output().expect("it ends"))
        .await
        .unwrap()
        .into();
    if said.code == 130 {
        assert!(
            said.out.contains("is cancelled: ") && said.out.contains("of 5000 dead letters"),
            "{said:?}"
        );
    } else {
        // It may have been through before the signal came.
        assert_eq!(
            (said.code, said.out.as_str()),
            (0, "5000 dead letters are back on the work queue.\n"),
            "{said:?}"
        );
    }
    // What a step moved that was under way is counted when that is over, and no letter is lost or
    // doubled.
    let settled = eventually("the books are closed", async || {
        let redrive = client.get("/v1/redrives").await["items"][0].clone();
        let (work, dead) = depths(&place).await;
        (redrive["redriven"].as_u64() == Some(work) && work + dead == COUNT as u64)
            .then_some(redrive)
    })
    .await;
    let second = process::run(
        &place,
        &["dead", "redrive", "--all", "--api-url", &api.url],
        &[],
        None,
    )
    .await;
    assert!(second.status.success(), "{second:?}");
    assert_eq!(depths(&place).await, (COUNT as u64, 0), "{settled}");
}

async fn channel(place: &Place) -> (lapin::Connection, lapin::Channel) {
    let options = lapin::ConnectionProperties::default();
    let connection = lapin::Connection::connect(&place.broker_url, options)
        .await
        .expect("RabbitMQ");
    let channel = connection.create_channel().await.expect("a channel");
    (connection, channel)
}

/// Ready messages on the work queue and on the dead-letter queue.
async fn depths(place: &Place) -> (u64, u64) {
    let (connection, channel) = channel(place).await;
    let passive = lapin::options::QueueDeclareOptions {
        passive: true,
        ..Default::default()
    };
    let mut depths = Vec::new();
    for queue in ["work", "dead"] {
        let name = format!("{}.{queue}", place.prefix).into();
        let declared = channel
            .queue_declare(name, passive, Default::default())
            .await
            .expect("a queue");
        depths.push(u64::from(declared.message_count()));
    }
    connection.close(200, "done".into()).await.expect("closed");
    (depths[0], depths[1])
}

async fn publish_many(place: &Place, count: usize, body: &[u8]) {
    confirm_many(place, "notifications", "notification", count, body).await;
}

/// Puts readable messages on the dead-letter queue.
async fn bury_many(place: &Place, count: usize) {
    confirm_many(place, "dead", "", count, br#"{"type": "a", "payload": 1}"#).await;
}

async fn confirm_many(place: &Place, exchange: &str, key: &str, count: usize, body: &[u8]) {
    let (connection, channel) = channel(place).await;
    channel
        .confirm_select(Default::default())
        .await
        .expect("confirms");
    let mut confirms = Vec::new();
    for number in 0..count {
        let properties = BasicProperties::default()
            .with_message_id(format!("m-{number}").into())
            .with_delivery_mode(2);
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let exchange = format!("{}.{exchange}", place.prefix).into();
        confirms.push(
            channel
                .basic_publish(exchange, key.into(), options, body, properties)
                .await
                .expect("sent"),
        );
    }
    for confirm in confirms {
        assert!(confirm.await.expect("confirmed").is_ack());
    }
    connection.close(200, "done".into()).await.expect("closed");
}

async fn publish(place: &Place, id: &str, body: &[u8]) {
    let connection =
        lapin::Connection::connect(&place.broker_url, lapin::ConnectionProperties::default())
            .await
            .expect("RabbitMQ");
    let channel = connection.create_channel().await.expect("a channel");
    let properties = BasicProperties::default()
        .with_message_id(id.into())
        .with_delivery_mode(2);
    let exchange = format!("{}.notifications", place.prefix);
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let sent = channel
        .basic_publish(
            exchange.into(),
            "notification".into(),
            options,
            body,
            properties,
        )
        .await;
    sent.expect("published");
    connection.close(200, "done".into()).await.expect("closed");
}

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
async fn the_doctor_and_the_specifications_answer() {
    let cli = Cli::start(Backend::EmbeddedSqlite).await;
    let report = cli.json(&["doctor"]).await;
    let checks = report["checks"].as_array().expect("checks");
    assert!(
        checks.iter().all(|check| check["verdict"] == "ok"),
        "{report}"
    );
    let text = cli.ok(&["doctor"]).await;
    assert!(
        text.contains("master_key") && !text.contains("a-master-key-for-tests"),
        "{text}"
    );
    let away = [("POSTHASTE_BROKER_URL", "amqp://127.0.0.1:1")];
    let sick = cli.run_with(&["doctor", "--json"], &away, None).await;
    let report: Value = serde_json::from_str(&sick.out).expect("JSON");
    let broker = report["checks"]
        .as_array()
        .expect("checks")
        .iter()
        .find(|check| check["name"] == "broker");
    assert_eq!(
        (sick.code, &broker.expect("broker")["verdict"]),
        (1, &json!("fail")),
        "{report}"
    );
    let broken = cli
        .run_with(&["doctor"], &[("POSTHASTE_LISTEN", "nowhere")], None)
        .await;
    assert!(
        broken.code == 1 && broken.out.contains("POSTHASTE_LISTEN"),
        "{broken:?}"
    );

    let openapi = cli.json(&["openapi"]).await;
    assert!(openapi["paths"]["/v1/notifications"].is_object() && openapi["openapi"] == "3.1.0");
    assert_eq!(
        Api::of(&cli.up).get("/openapi.json").await,
        openapi,
        "the served one is the same"
    );
    let asyncapi = cli.json(&["asyncapi"]).await;
    assert!(
        asyncapi["channels"]["notifications"].is_object(),
        "{asyncapi}"
    );
}

#[tokio::test]
async fn wrong_use_and_a_missing_api_are_explained() {
    let cli = Cli::start(Backend::EmbeddedSqlite).await;
    for wrong in [
        vec!["nonsense"],
        vec!["send"],
        vec!["send", "--type", "a", "--payload", "not JSON"],
        vec!["send", "--type", "a b", "--payload", "1"],
        vec!["send", "--file", "not-there.ndjson"],
        vec!["endpoint", "add"],
        vec![
            "endpoint",
            "add",
            "--url",
            "http://127.0.0.1/",
            "--wire-format",
            "nope",
        ],
        vec!["delivery", "list", "--status", "nope"],
        vec!["dead", "redrive"],
        vec!["key", "create", "--scope", "nope"],
        vec!["api", "--listen", "nowhere"],
    ] {
        let said = cli.fails(2, &wrong).await;
        assert!(
            !said.trim().is_empty() && !said.contains("panicked"),
            "{wrong:?}: {said}"
        );
    }
    let nobody = ["endpoint", "list", "--api-url", "http://127.0.0.1:1"];
    let said = cli.fails(1, &nobody).await;
    assert!(
        said.contains("nothing answers at http://127.0.0.1:1/") && said.contains("posthaste up"),
        "{said}"
    );
    let help = cli.ok(&["--help"]).await;
    assert!(
        help.contains("Operate it:") && help.contains("reconcile"),
        "{help}"
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
