//! Clients that are slow, silent or greedy, and keys that are revoked while they are used.

use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt as _;
use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::api::ADMIN_KEY;
use crate::support::{Api, Backend, DEADLINE, Place, Process, eventually};

async fn up(place: &Place, environment: &[(&str, &str)]) -> Process {
    Process::start_with(place, &["up", "--listen", "127.0.0.1:0"], environment).await
}

fn address(process: &Process) -> SocketAddr {
    process
        .url
        .trim_start_matches("http://")
        .parse()
        .expect("an address")
}

/// What comes until the server closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut bytes)).await;
    read.expect("the server closes the connection").ok();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A head that announces a body, and closes the connection afterwards.
fn head(path: &str, key: &str, length: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\nContent-Type: \
         application/json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_keep_nobody_out_and_end() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let environment = [
        ("POSTHASTE_MAX_CONNECTIONS", "32"),
        ("POSTHASTE_HEADER_TIMEOUT", "5s"),
    ];
    let process = up(&place, &environment).await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(
            TcpStream::connect(address(&process))
                .await
                .expect("connected"),
        );
    }
    let client = reqwest::Client::new();
    for path in ["/healthz", "/readyz", "/metrics", "/openapi.json"] {
        eventually(
            &format!("{path} among 200 silent connections"),
            async || {
                let answer = client
                    .get(format!("{}{path}", process.url))
                    .send()
                    .await
                    .ok()?;
                answer.status().is_success().then_some(())
            },
        )
        .await;
    }
    for stream in &mut silent {
        assert_eq!(
            rest(stream).await,
            "",
            "a silent connection is answered by nothing, and closed"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_and_bodies_that_drip_are_cut_off() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let environment = [
        ("POSTHASTE_HEADER_TIMEOUT", "2s"),
        ("POSTHASTE_BODY_TIMEOUT", "2s"),
    ];
    let process = up(&place, &environment).await;
    // A head, a byte at a time, for ever.
    let mut dripping = TcpStream::connect(address(&process))
        .await
        .expect("connected");
    let begun = std::time::Instant::now();
    dripping
        .write_all(b"GET /healthz HTTP/1.1\r\nX-Slow: ")
        .await
        .expect("written");
    while dripping.write_all(b"a").await.is_ok() {
        assert!(
            begun.elapsed() < DEADLINE,
            "a head that drips is taken for ever"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // A body that never comes to its end.
    let mut dripping = TcpStream::connect(address(&process))
        .await
        .expect("connected");
    dripping
        .write_all(head("/v1/notifications", ADMIN_KEY, 1_000).as_bytes())
        .await
        .expect("written");
    dripping.write_all(b"{").await.expect("written");
    let answer = rest(&mut dripping).await;
    assert!(
        answer.starts_with("HTTP/1.1 408 ") && answer.contains("request_timeout"),
        "{answer}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_before_the_end_of_a_large_body_arrives() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let process = up(&place, &[]).await;
    let body = vec![b' '; 24 * 1024 * 1024];
    for (path, key, expected) in [
        ("/v1/notifications", ADMIN_KEY, "HTTP/1.1 413 "),
        ("/v1/notifications/batch", ADMIN_KEY, "HTTP/1.1 413 "),
        ("/v1/notifications", "a-wrong-key", "HTTP/1.1 401 "),
        ("/v1/nothing", ADMIN_KEY, "HTTP/1.1 404 "),
    ] {
        // As most clients do: nothing is read before everything is written.
        let mut stream = TcpStream::connect(address(&process))
            .await
            .expect("connected");
        stream
            .write_all(head(path, key, body.len()).as_bytes())
            .await
            .expect("written");
        stream
            .write_all(&body)
            .await
            .unwrap_or_else(|error| panic!("{path} as {key}: {error}"));
        let answer = rest(&mut stream).await;
        assert!(
            answer.starts_with(expected),
            "{path} as {key}: {answer:.200}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_answers_while_every_connection_is_busy() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let environment = [
        ("POSTHASTE_MAX_CONNECTIONS", "3"),
        ("POSTHASTE_MAX_CONNECTIONS_PER_CLIENT", "3"),
    ];
    let process = up(&place, &environment).await;
    let client = || {
        reqwest::Client::builder()
            .pool_max_idle_per_host(0)
            .build()
            .expect("a client")
    };
    let mut streams = Vec::new();
    for _ in 0..3 {
        let stream = client()
            .get(format!("{}/v1/events/stream", process.url))
            .bearer_auth(ADMIN_KEY);
        let stream = stream.send().await.expect("an answer");
        assert_eq!(stream.status(), StatusCode::OK);
        streams.push(stream);
    }
    for _ in 0..40 {
        let health = client()
            .get(format!("{}/healthz", process.url))
            .send()
            .await
            .expect("an answer");
        assert_eq!(health.status(), StatusCode::OK);
    }
    let refused = client()
        .get(format!("{}/v1/endpoints", process.url))
        .bearer_auth(ADMIN_KEY)
        .send()
        .await;
    assert_eq!(
        refused.expect("an answer").status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    drop(streams);
    eventually("room for a request", async || {
        let answer = client()
            .get(format!("{}/v1/endpoints", process.url))
            .bearer_auth(ADMIN_KEY)
            .send()
            .await
            .ok()?;
        answer.status().is_success().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_ends_what_it_opened() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let process = up(&place, &[]).await;
    let api = Api::of(&process);
    let key = api
        .post(
            "/v1/keys",
            json!({"name": "stream", "scopes": ["read", "enqueue"]}),
        )
        .await;
    let secret = key["key"].as_str().expect("a key");
    let id = key["id"].as_str().expect("an id");
    let client = reqwest::Client::new();
    let stream = client
        .get(format!("{}/v1/events/stream", process.url))
        .bearer_auth(secret)
        .send()
        .await;
    let mut stream = stream.expect("an answer").bytes_stream();
    assert!(stream.next().await.is_some(), "the stream begins");
    // A request whose body is still to come.
    let mut long = TcpStream::connect(address(&process))
        .await
        .expect("connected");
    let body = r#"{"type":"a.b","payload":1}"#;
    long.write_all(head("/v1/notifications", secret, body.len()).as_bytes())
        .await
        .expect("written");
    long.write_all(&body.as_bytes()[..5])
        .await
        .expect("written");
    // Once the key has been looked at, which the stream does all the time.
    let revoked = crate::support::process::run(&place, &["key", "revoke", id], &[], None).await;
    assert!(
        revoked.status.success(),
        "{}",
        String::from_utf8_lossy(&revoked.stderr)
    );
    let ended = async { while stream.next().await.is_some() {} };
    tokio::time::timeout(DEADLINE, ended)
        .await
        .expect("the stream ends");
    long.write_all(&body.as_bytes()[5..])
        .await
        .expect("written");
    let answer = rest(&mut long).await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    let (status, _) = api.call(Method::GET, "/v1/endpoints", None).await;
    assert_eq!(status, StatusCode::OK, "other keys go on");
}
