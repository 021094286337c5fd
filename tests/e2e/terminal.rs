//! What others say comes out on an operator's terminal as text, never as something that a terminal
//! obeys.

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::support::cli::Cli;
use crate::support::{Api, Backend, DEADLINE, Receiver, eventually, process, stranger};

/// Sets the window's title, clears the screen, goes back to the line's beginning, turns the text's
/// direction, and sends a control sequence in its one-character form.
const HOSTILE: &str = "pay\u{1b}]0;owned\u{7}\u{1b}[2J\rgone\u{202e}dne\u{9b}31m";

#[track_caller]
fn harmless(what: &str, said: &str) {
    let bad = said.chars().find(|c| {
        (c.is_control() && !matches!(c, '\n' | '\t')) || ('\u{202a}'..='\u{202e}').contains(c)
    });
    assert_eq!(bad, None, "{what}: {said:?}");
}

async fn says(cli: &Cli, arguments: &[&str]) -> String {
    let said = cli.run(arguments).await;
    harmless(&arguments.join(" "), &format!("{}{}", said.out, said.err));
    said.out + &said.err
}

#[tokio::test]
async fn answers_of_receivers_and_texts_of_tenants_are_shown_as_text() {
    let cli = Cli::start(Backend::EmbeddedSqlite).await;
    let api = Api::of(&cli.up);
    let receiver = Receiver::start().await;
    receiver.answer("/no", |_| (400, HOSTILE.to_owned()));
    receiver.answer("/sms", |_| {
        (
            200,
            json!({"code": "delivery_rejected", "provider_error_code": HOSTILE}).to_string(),
        )
    });
    let named = json!({"description": HOSTILE, "subscription": {"types": ["a"]}});
    let (status, answer) = api
        .call(
            reqwest::Method::POST,
            "/v1/endpoints",
            Some({
                let mut body = named;
                body["url"] = receiver.url("/no").into();
                body
            }),
        )
        .await;
    let endpoint = if status.is_success() {
        answer
    } else {
        api.endpoint(&receiver.url("/no"), json!({})).await
    };
    let id = endpoint["id"].as_str().unwrap();
    let notification = api
        .enqueue_to(&endpoint, json!({"payload": {"text": HOSTILE}}))
        .await;
    let delivery = api.finished(&notification, 1).await.remove(0);

    let tested = says(&cli, &["endpoint", "test", id]).await;
    assert!(tested.contains("\\u{1b}]0;owned"), "it is shown: {tested}");
    for arguments in [
        &["endpoint", "list"][..],
        &["endpoint", "show", id],
        &["delivery", "list"],
        &["delivery", "show", delivery["id"].as_str().unwrap()],
        &["explain", &notification],
        &["event", "list"],
    ] {
        says(&cli, arguments).await;
    }
    // JSON is for programs: it has its own escapes, and they mean the same text.
    let shown = cli
        .json(&["delivery", "show", delivery["id"].as_str().unwrap()])
        .await;
    assert!(shown.to_string().contains("owned"), "{shown}");
}

#[tokio::test]
async fn messages_of_amqp_clients_are_shown_as_text() {
    let cli = Cli::start(Backend::RabbitPostgres).await;
    let body = json!({"type": "a", "payload": 1, HOSTILE: 1})
        .to_string()
        .replace("\\u001b", "\u{1b}");
    stranger::publish(&cli.place, [(Some(HOSTILE), body.into_bytes())]).await;
    let letter = eventually("a dead letter", async || {
        let dead: Value = cli.json(&["dead", "list"]).await;
        dead["items"]
            .as_array()
            .and_then(|items| items.first().cloned())
    })
    .await;
    says(&cli, &["dead", "list"]).await;
    says(&cli, &["dead", "show", letter["id"].as_str().unwrap()]).await;
    says(&cli, &["dead", "redrive", letter["id"].as_str().unwrap()]).await;
}

#[tokio::test]
async fn requests_are_shown_as_text_by_listen() {
    let cli = Cli::start(Backend::EmbeddedSqlite).await;
    let arguments = ["listen", "--listen", "127.0.0.1:0", "--exit-after", "1"];
    let mut command = tokio::process::Command::from(process::command(&cli.place, &arguments));
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = tokio::time::timeout(DEADLINE, lines.next_line())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    let url = first
        .split_whitespace()
        .find(|word| word.starts_with("http://"))
        .expect("its URL");
    let header = reqwest::header::HeaderValue::from_bytes("a\u{9b}31m".as_bytes()).unwrap();
    reqwest::Client::new()
        .post(url)
        .header("x-hostile", header)
        .body(HOSTILE)
        .send()
        .await
        .unwrap();
    let mut said = first;
    while let Some(line) = tokio::time::timeout(DEADLINE, lines.next_line())
        .await
        .unwrap()
        .unwrap()
    {
        said.push_str(&line);
    }
    harmless("listen", &said);
    assert!(
        said.contains("\\u{1b}]0;owned") && said.contains("x-hostile"),
        "{said}"
    );
}
