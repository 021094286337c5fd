//! The web console in a browser (Chromium): every page in light and dark and in three widths, with
//! axe-core; without a script; by keyboard; and what a policy, a script or a sign-out must not let
//! through. `walk.js` does it; `POSTHASTE_TEST_SCREENSHOTS` names a directory that gets a picture
//! of each page.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::support::cli::Cli;
use crate::support::{Api, Backend, Place, Process, Receiver, eventually, required};

/// All pages in all forms, on a machine that is busy.
const WALK: Duration = Duration::from_secs(400);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_works_in_a_browser() {
    let receiver = Receiver::start().await;
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let up = Process::start(&place, &["up", "--listen", "127.0.0.1:0"]).await;
    let api = Api::of(&up);
    let things = fill(&api, &receiver).await;
    let link = api.post("/v1/console-links", Value::Null).await;
    let told = json!({
        "url": up.url,
        "link": link["path"],
        "key": crate::support::api::ADMIN_KEY,
        "chromium": chromium(),
        "screenshots": std::env::var("POSTHASTE_TEST_SCREENSHOTS").ok(),
        "things": things,
    });
    let libraries = required("POSTHASTE_TEST_NODE_PATH");
    let mut command = Command::new("node");
    command
        .args(["-e", include_str!("walk.js")])
        .env("NODE_PATH", &libraries)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().expect("node starts");
    let mut stdin = child.stdin.take().expect("stdin");
    let text = told.to_string();
    stdin.write_all(text.as_bytes()).await.expect("written");
    drop(stdin);
    let ended = tokio::time::timeout(WALK, child.wait_with_output()).await;
    let output = ended.expect("in time").expect("its output");
    let said = String::from_utf8_lossy(&output.stderr);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{said}\n{}", up.log());
    assert!(told.contains("every step was walked"), "{told}");
}

#[tokio::test]
async fn the_command_prints_a_link_that_signs_in() {
    let cli = Cli::start(Backend::EmbeddedSqlite).await;
    let url = cli.ok(&["console"]).await;
    let (address, token) = url.trim().split_once("?token=").expect("a link");
    assert_eq!(address, format!("{}/console/link", cli.up.url));
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client");
    let request = client
        .post(address)
        .header("sec-fetch-site", "same-origin")
        .body(format!("token={token}"));
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), 303);
    assert!(answer.headers().contains_key("set-cookie"));
    let told = cli.json(&["console"]).await;
    assert!(
        told["url"].is_string() && told["expires_at"].is_string(),
        "{told}"
    );
}

#[tokio::test]
async fn it_can_be_off() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let off = [("POSTHASTE_CONSOLE", "off")];
    let up = Process::start_with(&place, &["up", "--listen", "127.0.0.1:0"], &off).await;
    let answer = reqwest::get(format!("{}/console/login", up.url)).await;
    assert_eq!(answer.expect("an answer").status(), 404);
    // Nor does anybody get a link that leads to nothing.
    let api = Api::of(&up);
    let (status, problem) = api.call(Method::POST, "/v1/console-links", None).await;
    assert_eq!(status, 404);
    let told = problem["detail"].as_str().unwrap_or_default();
    assert!(told.contains("its setting console is off"), "{problem}");
}

/// The vendored library is the published one, byte for byte.
#[test]
fn idiomorph_is_what_was_published() {
    let libraries = required("POSTHASTE_TEST_NODE_PATH");
    let published = Path::new(&libraries).join("idiomorph/dist/idiomorph.min.js");
    let published = std::fs::read(published).expect("the package");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ours = std::fs::read(root.join("console/src/assets/idiomorph.js")).expect("ours");
    assert_eq!(Sha256::digest(ours), Sha256::digest(published));
}

/// Debian's name for it, or whatever the environment names.
fn chromium() -> String {
    std::env::var("POSTHASTE_TEST_CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".to_owned())
}

/// Something to look at: deliveries in many states, with one that waits and one of which everything
/// is hostile.
async fn fill(api: &Api, receiver: &Receiver) -> Value {
    let hostile = "\"'><img src=x onerror=\"document.title='owned'\"><script>alert(1)</script>";
    let json_answer = |_: &_| {
        (
            503,
            "{\"error\":\"over capacity\",\"retry\":true}".to_owned(),
        )
    };
    receiver.answer("/orders", json_answer);
    receiver.answer("/refuses", |_| (401, "no such token".to_owned()));
    let script = hostile.to_owned();
    receiver.answer("/hostile", move |_| (400, script.clone()));
    // The name has no look-up: it is loopback by its nature (RFC 6761).
    let url = |path: &str| format!("http://127.0.0.1:{}{path}", receiver.port);
    let retry = json!({"retry": {"max_retries": 2, "initial_delay_ms": 1000}});
    let endpoint = async |path: &str, more: Value| api.endpoint(&url(path), more).await;
    let good = endpoint("/ok", json!({"description": "Billing", "tenant": "acme"})).await;
    let mut more = retry.clone();
    more["tenant"] = "acme".into();
    let failing = endpoint("/orders", more).await;
    let refuses = endpoint("/refuses", json!({"tenant": "bolt"})).await;
    let strange = endpoint("/hostile", json!({"description": hostile})).await;
    let off = endpoint("/off", json!({"enabled": false, "tenant": "acme"})).await;
    for at in 0..12 {
        let id = format!("order-{}", 1030 + at);
        let more = json!({
            "id": id, "type": "order.paid", "tenant": "acme",
            "payload": {"order": 1030 + at, "total": "129.90", "currency": "EUR",
                "lines": [{"sku": "A-1", "count": 2}, {"sku": "B-7", "count": 1}]},
        });
        api.enqueue_to(&good, more).await;
    }
    let of = |id: &str, tenant: &str| json!({"id": id, "type": "order.paid", "tenant": tenant});
    api.enqueue_to(&failing, of("order-1042", "acme")).await;
    api.enqueue_to(&refuses, of("order-7", "bolt")).await;
    api.enqueue_to(&off, of("order-1043", "acme")).await;
    let mut delayed = of("order-1044", "acme");
    delayed["deliver_at"] = "2099-01-01T00:00:00Z".into();
    api.enqueue_to(&good, delayed).await;
    let mut odd = json!({"id": "odd-1", "type": "odd.thing"});
    odd["payload"] = json!({ hostile: hostile });
    api.enqueue_to(&strange, odd).await;
    let unmatched =
        json!({"type": "nobody.wants", "id": "alone-1", "payload": 1, "tenant": "none"});
    api.post("/v1/notifications", unmatched).await;
    let delivery = async |notification: &str| {
        let what = format!("a delivery of {notification}");
        let found = eventually(&what, async || api.deliveries(notification).await.pop()).await;
        found["id"].as_str().expect("an id").to_owned()
    };
    api.finished("odd-1", 1).await;
    api.finished("order-7", 1).await;
    api.finished("order-1042", 1).await;
    eventually("the workers have reported", async || {
        let stats = api.get("/v1/stats").await;
        (stats["total"]["attempts"].as_u64() > Some(0)).then_some(())
    })
    .await;
    json!({
        "delivered": delivery("order-1030").await,
        "failed": delivery("order-1042").await,
        "refused": delivery("order-7").await,
        "hostile": delivery("odd-1").await,
        "scheduled": delivery("order-1044").await,
        "parked": delivery("order-1043").await,
        "endpoint": failing["id"],
        "strange": strange["id"],
        "receiver": receiver.url("/ok"),
        "off": off["id"],
    })
}
