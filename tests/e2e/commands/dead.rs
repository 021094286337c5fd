//! `dead`.

use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;
use serde_json::json;

use super::id_of;
use crate::support::cli::{Cli, Said};
use crate::support::{Api, Backend, Place, Process, eventually, process, stranger};

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
    stranger::publish(place, [(Some(id), body.to_vec())]).await;
}
