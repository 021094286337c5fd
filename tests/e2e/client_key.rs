//! Where the command line sends its API key, and where it does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::cli::Cli;
use crate::support::{Backend, Process};

/// Counts connections and answers none.
async fn trap() -> (String, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let caught = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&caught);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    (url, caught)
}

#[tokio::test]
async fn no_proxy_sees_the_key_of_an_api_without_tls() {
    let cli = Cli::start(Backend::EmbeddedSqlite).await;
    let (proxy, caught) = trap().await;
    let proxies = [
        ("HTTP_PROXY", proxy.as_str()),
        ("http_proxy", &proxy),
        ("ALL_PROXY", &proxy),
        ("all_proxy", &proxy),
    ];
    let said = cli.run_with(&["endpoint", "list"], &proxies, None).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(caught.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_file_in_the_working_directory_does_not_send_a_key_elsewhere() {
    let cli = Cli::start(Backend::EmbeddedSqlite).await;
    let (elsewhere, caught) = trap().await;
    let file = cli.place.dir.path().join("posthaste.toml");
    std::fs::write(&file, format!("api_url = \"{elsewhere}\"\n")).unwrap();
    let key = cli
        .place
        .environment()
        .into_iter()
        .find(|(name, _)| *name == "POSTHASTE_API_KEY");
    let (_, key) = key.expect("a key");
    let run = async |arguments: &[&str]| {
        let mut command = crate::support::process::command(&cli.place, arguments);
        command
            .env_remove("POSTHASTE_API_URL")
            .env("POSTHASTE_API_KEY", &key);
        let output = tokio::task::spawn_blocking(move || command.output())
            .await
            .unwrap()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    for arguments in [
        &["endpoint", "list"][..],
        &["send", "--type", "a", "--payload", "1"],
    ] {
        let (code, said) = run(arguments).await;
        assert_ne!(code, Some(0), "{arguments:?}: {said}");
        for part in [
            "posthaste.toml",
            "POSTHASTE_API_KEY",
            "--config",
            &elsewhere,
        ] {
            assert!(said.contains(part), "{arguments:?}, {part}: {said}");
        }
        assert!(!said.contains(&key), "{said}");
    }
    run(&["doctor"]).await;
    assert_eq!(caught.load(Ordering::SeqCst), 0, "nothing went there");

    // Nor does the key that `up` left in a data directory which is named elsewhere.
    std::fs::write(&file, "api_url = \"http://192.0.2.1:9/\"\n").unwrap();
    let mut command = crate::support::process::command(&cli.place, &["endpoint", "list"]);
    std::fs::create_dir_all(cli.place.dir.path().join("kept")).unwrap();
    std::fs::write(cli.place.dir.path().join("kept/api-key"), &key).unwrap();
    let kept = cli.place.dir.path().join("kept");
    command
        .env_remove("POSTHASTE_API_URL")
        .env_remove("POSTHASTE_API_KEY")
        .env("POSTHASTE_DATA_DIR", kept);
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(2) && said.contains("posthaste.toml"),
        "{said}"
    );

    // Not to this machine either, where the directory is not the file's own: whoever named it, a
    // link included.
    let (others, kept) = {
        let others = tempfile::TempDir::new().unwrap();
        std::fs::write(others.path().join("api-key"), &key).unwrap();
        let kept = others.path().to_str().unwrap().to_owned();
        (others, kept)
    };
    let link = cli.place.dir.path().join("link");
    std::os::unix::fs::symlink(others.path(), &link).unwrap();
    let named = format!("api_url = \"{elsewhere}\"\ndata_dir = \"{kept}\"\n");
    let linked = format!("api_url = \"{elsewhere}\"\ndata_dir = \"link\"\n");
    let alone = format!("api_url = \"{elsewhere}\"\n");
    for (text, arguments, variable) in [
        (&named, &["endpoint", "list"][..], None),
        (&linked, &["endpoint", "list"][..], None),
        (&alone, &["endpoint", "list"][..], Some(&kept)),
        (&alone, &["endpoint", "list", "--data-dir", &kept][..], None),
    ] {
        std::fs::write(&file, text).unwrap();
        let mut command = crate::support::process::command(&cli.place, arguments);
        command
            .env_remove("POSTHASTE_API_URL")
            .env_remove("POSTHASTE_API_KEY");
        if let Some(directory) = variable {
            command.env("POSTHASTE_DATA_DIR", directory);
        }
        let output = tokio::task::spawn_blocking(move || command.output());
        let output = output.await.unwrap().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            output.status.code(),
            Some(2),
            "{text} {arguments:?}: {said}"
        );
        assert!(said.contains("it is not sent there"), "{said}");
    }
    assert_eq!(caught.load(Ordering::SeqCst), 0, "nothing went there");

    // Who names the file, or the URL, means it.
    std::fs::write(&file, format!("api_url = \"{}\"\n", cli.up.url)).unwrap();
    let (code, said) = run(&["endpoint", "list", "--config", "posthaste.toml"]).await;
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = run(&["endpoint", "list", "--api-url", &cli.up.url]).await;
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test]
async fn a_file_in_the_working_directory_does_not_lead_credentials_to_another_collector() {
    let cli = Cli::start(Backend::EmbeddedSqlite).await;
    let (elsewhere, caught) = trap().await;
    let file = cli.place.dir.path().join("posthaste.toml");
    std::fs::write(&file, format!("tracing_otlp_endpoint = \"{elsewhere}\"\n")).unwrap();
    let headers = (
        "OTEL_EXPORTER_OTLP_HEADERS",
        "authorization=Bearer%20sesame",
    );
    let said = cli.run_with(&["api"], &[headers], None).await;
    assert_eq!(said.code, 2, "{said:?}");
    for part in [
        "posthaste.toml",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "--config",
        &elsewhere,
    ] {
        assert!(said.err.contains(part), "{part}: {said:?}");
    }
    assert!(!said.err.contains("sesame"), "{said:?}");
    assert_eq!(caught.load(Ordering::SeqCst), 0);
    // Somebody who names the file means it, and without credentials there is nothing to guard.
    let path = file.to_str().unwrap();
    let named = Process::start_with(&cli.place, &["api", "--config", path], &[headers]).await;
    named.kill().await;
    Process::start(&cli.place, &["api"]).await.kill().await;
}
