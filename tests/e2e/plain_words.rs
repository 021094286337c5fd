//! What the commands say to people: what is wrong, in words and names that they used themselves.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::support::cli::Cli;
use crate::support::{Api, Backend, eventually};

/// A server whose certificate is its own; its URL.
async fn self_signed() -> String {
    let certified = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(
        certified.signing_key.serialize_der(),
    ));
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = config
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move { acceptor.accept(stream).await.map(drop) });
        }
    });
    url
}

/// A server that speaks no TLS; its URL says that it does.
async fn without_tls() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    url
}

#[tokio::test]
async fn a_certificate_that_is_not_accepted_is_described() {
    let cli = Cli::start(Backend::EmbeddedSqlite).await;
    for (url, said) in [
        (self_signed().await, "it is self-signed"),
        (without_tls().await, "does not speak TLS"),
    ] {
        let client = cli.fails(1, &["endpoint", "list", "--api-url", &url]).await;
        assert!(
            client.contains(said) && !client.contains("Other"),
            "{client}"
        );
        let endpoint = Api::of(&cli.up).endpoint(&url, json!({})).await;
        let worker = cli
            .run(&["endpoint", "test", endpoint["id"].as_str().unwrap()])
            .await
            .out;
        assert!(
            worker.contains(said) && !worker.contains("Other"),
            "{worker}"
        );
    }
}

#[tokio::test]
async fn flags_are_named_as_they_were_typed_and_programs_get_a_code() {
    let cli = Cli::start(Backend::EmbeddedSqlite).await;
    let arguments = [
        "endpoint",
        "add",
        "--url",
        "http://127.0.0.1:9/",
        "--timeout",
        "5h",
    ];
    let said = cli.fails(1, &arguments).await;
    assert!(
        said.contains("--timeout must be 1s to 60s") && !said.contains("timeout_ms"),
        "{said}"
    );
    let said = cli.fails(1, &[&arguments[..], &["--json"]].concat()).await;
    let said: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!(said["code"], "invalid", "{said}");
    let said = cli
        .fails(1, &["endpoint", "show", "ep_none", "--json"])
        .await;
    assert_eq!(
        serde_json::from_str::<Value>(&said).unwrap()["code"],
        "not_found"
    );

    let said = cli
        .fails(
            1,
            &[
                "send",
                "--type",
                "a",
                "--payload",
                "1",
                "--ttl",
                "99999999d",
            ],
        )
        .await;
    assert!(
        said.contains("--ttl must be 0s to") && !said.contains("ttl_seconds"),
        "{said}"
    );
    // What is JSON on the way in keeps the names of JSON.
    let line = "{\"type\":\"a\",\"payload\":1,\"ttl_seconds\":\"5\"}\n";
    let said = cli
        .run_with(&["send", "-", "--json"], &[], Some(line))
        .await;
    let first: Value = serde_json::from_str(said.out.lines().next().unwrap()).unwrap();
    assert_eq!(
        first["error"], "ttl_seconds must be a number, not \"5\"",
        "{first}"
    );
    assert!(first["code"].is_string(), "{first}");
}

#[tokio::test]
async fn sending_says_when_nobody_subscribes() {
    let cli = Cli::start(Backend::EmbeddedSqlite).await;
    let send = ["send", "--type", "order.paid", "--payload", "1"];
    let said = cli.run(&send).await;
    assert!(
        said.code == 0 && said.err.contains("no endpoint subscribes to order.paid"),
        "{said:?}"
    );
    let lost = said.out.trim().to_owned();
    let lines = "{\"type\":\"a.b\",\"payload\":1}\n{\"type\":\"a.b\",\"payload\":2}\n\
        {\"type\":\"a.c\",\"payload\":3}\n";
    let of_file = cli.run_with(&["send", "-"], &[], Some(lines)).await;
    assert!(
        of_file.code == 0
            && of_file
                .err
                .contains("no endpoint subscribes to a.b (2 notifications)")
            && of_file.err.contains("no endpoint subscribes to a.c,"),
        "{of_file:?}"
    );
    let unmatched = eventually("the unmatched notification", async || {
        let page = cli
            .json(&[
                "notification",
                "list",
                "--unmatched",
                "--type",
                "order.paid,order.sent",
            ])
            .await;
        page["items"].as_array().unwrap().first().cloned()
    })
    .await;
    assert_eq!(unmatched["id"], lost.as_str());
    assert!(
        cli.ok(&["notification", "show", &lost])
            .await
            .contains("No endpoint subscribed to it.")
    );

    let add = [
        "endpoint",
        "add",
        "--uid",
        "orders",
        "--or-update",
        "--url",
        "http://127.0.0.1:9/",
        "--type",
        "order.*",
    ];
    let first = cli.json(&add).await;
    assert_eq!(
        cli.json(&add).await["id"],
        first["id"],
        "the same one again"
    );
    cli.ok(&["endpoint", "disable", "orders"]).await;
    let said = cli.run(&send).await;
    assert!(said.err.contains("are disabled"), "{said:?}");
    cli.ok(&["endpoint", "enable", "orders", "--tenant", "default"])
        .await;
    let said = cli.run(&send).await;
    assert_eq!((said.code, said.err.as_str()), (0, ""), "somebody gets it");
    for filter in [
        &[
            "--status",
            "failed,expired",
            "--reason",
            "rejected",
            "--status-code",
            "500,503",
        ][..],
        &[
            "--hold",
            "disabled,slots",
            "--type",
            "a",
            "--type",
            "b",
            "--endpoint",
            "ep_1,ep_2",
        ],
    ] {
        cli.ok(&[&["delivery", "list"], filter].concat()).await;
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said_to_refuse_the_connection() {
    let cli = Cli::start(Backend::EmbeddedSqlite).await;
    let broker = [
        "--broker",
        "--broker-url",
        "amqp://127.0.0.1:1",
        "--max-wait",
        "1s",
    ];
    let said = cli
        .fails(
            1,
            &[&["send", "--type", "a", "--payload", "1"], &broker[..]].concat(),
        )
        .await;
    assert!(
        said.contains("onnection refused") && !said.contains("lapin") && !said.contains("ERROR"),
        "{said}"
    );
    let said = cli
        .fails(
            1,
            &["migrate", "--database-url", "postgres://127.0.0.1:1/none"],
        )
        .await;
    assert!(
        said.contains("onnection refused") && !said.contains("pool timed out"),
        "{said}"
    );
}
