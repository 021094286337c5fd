//! Losing the broker or the store for a while stops progress, not data. Each test has servers of
//! its own to take down.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::support::load::Load;
use crate::support::{Api, Backend, Place, Process, Receiver, process, within};

/// A private RabbitMQ or Postgres.
struct Server {
    kind: &'static str,
    dir: PathBuf,
    port: u16,
    _root: tempfile::TempDir,
}

impl Server {
    async fn start(kind: &'static str) -> Self {
        let root = match std::env::var_os("POSTHASTE_TEST_DIR") {
            Some(dir) => tempfile::tempdir_in(dir),
            None => tempfile::tempdir(),
        };
        let root = root.expect("a directory");
        // Postgres runs as a user of its own and must get in.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(root.path(), mode).expect("permissions");
        let dir = root
            .path()
            .join(format!("{kind}-{}", uuid::Uuid::new_v4().simple()));
        let mut server = Self {
            kind,
            dir,
            port: 0,
            _root: root,
        };
        server.again().await;
        let port = std::fs::read_to_string(server.dir.join("port")).expect("its port");
        server.port = port.trim().parse().expect("a port");
        server
    }

    async fn again(&self) {
        self.script("start").await;
    }

    async fn stop(&self) {
        self.script("stop").await;
    }

    async fn script(&self, verb: &str) {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/services.sh"));
        command.arg(self.kind).arg(verb).arg(&self.dir);
        let done = tokio::task::spawn_blocking(move || command.status())
            .await
            .expect("no panic")
            .expect("the script");
        assert!(done.success(), "services.sh {} {verb}", self.kind);
    }
}

impl Server {
    /// Sends a signal to Postgres and all its processes: `-STOP` makes it silent without closing a
    /// connection.
    fn signal_all(&self, signal: &str) {
        let file =
            std::fs::read_to_string(self.dir.join("data/postmaster.pid")).expect("its pid file");
        let postmaster = file.lines().next().expect("a pid").to_owned();
        let children = Command::new("pgrep")
            .args(["-P", &postmaster])
            .output()
            .expect("pgrep")
            .stdout;
        let children = String::from_utf8(children).expect("pids");
        let status = Command::new("kill")
            .arg(signal)
            .arg(&postmaster)
            .args(children.split_whitespace())
            .status();
        assert!(status.expect("kill").success(), "{signal} to Postgres");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/services.sh");
        let _ = Command::new(script)
            .arg(self.kind)
            .arg("stop")
            .arg(&self.dir)
            .status();
    }
}

async fn ready(process: &Process) -> u16 {
    reqwest::get(format!("{}/readyz", process.url))
        .await
        .map_or(0, |answer| answer.status().as_u16())
}

async fn survives(place: Place, server: Server) {
    let receiver = Receiver::start().await;
    assert!(
        process::run(&place, &["migrate"], &[], None)
            .await
            .status
            .success()
    );
    let api_process = Process::start(&place, &["api"]).await;
    let worker = Process::start(&place, &["worker"]).await;
    let api = Api::of(&api_process);
    let endpoint = api
        .endpoint(&receiver.url("/slow/20"), json!({"wire_format": "raw"}))
        .await;
    let load = Load::start(Api::of(&api_process), &endpoint);
    receiver.wait_for("/slow", 50).await;

    server.stop().await;
    for process in [&api_process, &worker] {
        within(Duration::from_secs(20), "readyz says 503", async || {
            (ready(process).await == 503).then_some(())
        })
        .await;
    }
    server.again().await;
    for process in [&api_process, &worker] {
        within(Duration::from_secs(60), "readyz says 200", async || {
            (ready(process).await == 200).then_some(())
        })
        .await;
    }
    load.goes_on().await;
    load.ends_without_loss(&place, &api).await;
}

#[tokio::test]
async fn rabbitmq_goes_away_and_comes_back() {
    let server = Server::start("rabbitmq").await;
    let mut place = Place::new(Backend::RabbitPostgres).await;
    place.broker_url = format!("amqp://guest:guest@127.0.0.1:{}", server.port);
    survives(place, server).await;
}

#[tokio::test]
async fn postgres_goes_away_and_comes_back() {
    let server = Server::start("postgres").await;
    let mut place = Place::new(Backend::RabbitSqlite).await;
    place.database_url = format!("postgres://postgres@127.0.0.1:{}/postgres", server.port);
    survives(place, server).await;
}

#[tokio::test]
async fn postgres_goes_away_and_comes_back_under_the_embedded_broker() {
    let server = Server::start("postgres").await;
    let mut place = Place::new(Backend::EmbeddedSqlite).await;
    place.database_url = format!("postgres://postgres@127.0.0.1:{}/postgres", server.port);
    survives(place, server).await;
}

#[tokio::test]
async fn a_process_that_is_told_to_stop_while_postgres_is_silent_ends_all_the_same() {
    let server = Server::start("postgres").await;
    let mut place = Place::new(Backend::EmbeddedSqlite).await;
    place.database_url = format!("postgres://postgres@127.0.0.1:{}/postgres", server.port);
    let receiver = Receiver::start().await;
    let mut up = Process::start_with(&place, &["up"], &[("POSTHASTE_SHUTDOWN_GRACE", "2s")]).await;
    let api = Api::of(&up);
    let endpoint = api
        .endpoint(&receiver.url("/slow/1000"), json!({"wire_format": "raw"}))
        .await;
    api.enqueue_to(&endpoint, json!({})).await;
    receiver.wait_for("/slow", 1).await;
    server.signal_all("-STOP");
    within(Duration::from_secs(20), "readyz says 503", async || {
        (ready(&up).await == 503).then_some(())
    })
    .await;
    // One request learns that the store is silent; those that come then need not wait as long.
    let unknown = async || {
        let request = reqwest::Client::new()
            .get(format!("{}/v1/endpoints", up.url))
            .bearer_auth("ph_unknown");
        let answer = request.send().await;
        answer.map_or(0, |answer| answer.status().as_u16())
    };
    let first = unknown().await;
    let begun = std::time::Instant::now();
    let others = futures::future::join_all((0..5).map(|_| unknown())).await;
    let took = begun.elapsed();
    up.signal("-TERM");
    let ended = up.ended(Duration::from_secs(30)).await;
    // Before anything is asserted: a server that stays stopped cannot be ended.
    server.signal_all("-CONT");
    assert_eq!((first, others), (503, vec![503; 5]));
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(ended.success(), "{ended}");
}
