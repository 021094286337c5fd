//! What service managers and containers rely on: the program says when it is ready, alive and
//! stopping, and can be asked whether it is well.

use tokio::net::UnixDatagram;

use crate::support::{Backend, DEADLINE, Place, Process, process};

/// Waits until the program says this; what it said before.
async fn heard(socket: &UnixDatagram, state: &str) -> Vec<String> {
    let mut before = Vec::new();
    let mut buffer = [0; 256];
    let listening = async {
        loop {
            let length = socket.recv(&mut buffer).await.expect("a datagram");
            let said = String::from_utf8(buffer[..length].to_vec()).expect("text");
            if said == state {
                break;
            }
            before.push(said);
        }
    };
    tokio::time::timeout(DEADLINE, listening)
        .await
        .unwrap_or_else(|_| panic!("{state} was not said in time"));
    before
}

async fn the_manager_is_told(command: &str) {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    assert!(
        process::run(&place, &["migrate"], &[], None)
            .await
            .status
            .success()
    );
    let path = place.dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    let variables = [
        ("NOTIFY_SOCKET", path.to_str().expect("text")),
        ("WATCHDOG_USEC", "200000"),
    ];
    let mut service = Process::start_with(&place, &[command], &variables).await;
    assert!(
        heard(&socket, "READY=1").await.is_empty(),
        "nothing comes before READY"
    );
    for _ in 0..3 {
        assert!(heard(&socket, "WATCHDOG=1").await.is_empty());
    }
    service.signal("-TERM");
    let before = heard(&socket, "STOPPING=1").await;
    assert!(before.iter().all(|said| said == "WATCHDOG=1"), "{before:?}");
    assert!(service.ended(DEADLINE).await.success());
}

#[tokio::test]
async fn the_api_tells_the_service_manager() {
    the_manager_is_told("api").await;
}

#[tokio::test]
async fn the_worker_tells_the_service_manager() {
    the_manager_is_told("worker").await;
}

#[tokio::test]
async fn up_tells_the_service_manager() {
    the_manager_is_told("up").await;
}

#[tokio::test]
async fn a_process_is_asked_whether_it_is_well() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let up = Process::start(&place, &["up"]).await;
    let (url, address) = (
        up.url.clone(),
        up.url.trim_start_matches("http://").to_owned(),
    );
    let ask = async |arguments: &[&str], listen: &str| {
        let output = process::run(&place, arguments, &[("POSTHASTE_LISTEN", listen)], None).await;
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).expect("text"))
    };
    assert_eq!(
        ask(&["health"], &address).await,
        (Some(0), format!("{url}/healthz answered 200 OK\n"))
    );
    assert_eq!(
        ask(&["health", "--ready", "--url", &url], "127.0.0.1:1")
            .await
            .0,
        Some(0)
    );
    // The address that "every address" stands for.
    let every = address.replace("127.0.0.1", "0.0.0.0");
    assert_eq!(ask(&["health", "--ready"], &every).await.0, Some(0));
    assert!(up.stop().await.success());
    let (code, said) = ask(&["health"], &address).await;
    assert!(
        code == Some(1) && said.contains("does not answer"),
        "{code:?}: {said}"
    );
}
