//! The examples of docs/http-api.md: pasted into a shell one after the other, each works.

use std::process::Stdio;

use serde_json::json;

use crate::support::{Api, Backend, Place, Process, Receiver};

/// Stands in front of curl. What is asked for may not be there yet, where a reader of the page is
/// slower than this test; what is refused in the end is named.
const CURL: &str = r#"
set -u
curl() {
    local try answer code
    for try in 1 2 3 4 5 6 7 8 9 10; do
        answer=$(command curl --fail-with-body "$@")
        code=$?
        # 22: an HTTP status of 400 or more; 28: --max-time is over.
        case "$code,$*,$answer" in
            22,*'"status":404'*|22,*'"status":409'*|0,*notification_id=*'"items":[]'*) sleep 0.3 ;;
            *) break ;;
        esac
    done
    printf '%s\n' "$answer"
    case "$*,$code" in
        *,0|*--max-time*,28) ;;
        # So short a job is finished already, as the page says.
        *replays/*/cancel*|*redrives/*/cancel*)
            case "$answer" in *wrong_state*) ;; *) echo "REFUSED: curl $*: $answer" >&2 ;; esac ;;
        *) echo "REFUSED: curl $*: $code $answer" >&2 ;;
    esac
}
"#;

fn blocks(page: &str) -> Vec<&str> {
    page.split("```sh\n")
        .skip(1)
        .map(|rest| rest.split("\n```").next().expect("a block"))
        .collect()
}

#[tokio::test]
async fn every_example_of_the_page_works_when_it_is_pasted() {
    let page = include_str!("../../docs/http-api.md");
    let blocks = blocks(page);
    assert!(blocks.len() > 30, "{}", blocks.len());
    let receiver = Receiver::start().await;
    let place = Place::new(Backend::EmbeddedSqlite).await;
    // Name servers that do not answer: the page's hosts are saved without being looked up.
    let silent = [("POSTHASTE_EGRESS_NAME_SERVERS", "127.0.0.1:1")];
    let up = Process::start_with(&place, &["up"], &silent).await;
    let script = format!("{CURL}\n{}\n", blocks.join("\n"))
        .replace("http://127.0.0.1:8080", &up.url)
        .replace("http://127.0.0.1:9000/", &receiver.url("/ok"))
        .replace("--max-time 10", "--max-time 1");
    let mut bash = tokio::process::Command::new("bash");
    bash.args(["-c", &script])
        .current_dir(place.dir.path())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let done = tokio::time::timeout(std::time::Duration::from_secs(120), bash.output())
        .await
        .expect("in time")
        .expect("bash");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && said.is_empty(), "{said}");
    // It did what it says: one was delivered, and the delayed one cancelled.
    let api = Api::of(&up);
    for (id, status) in [("order-1001", "delivered"), ("order-1002", "cancelled")] {
        let delivery = api.finished(id, 1).await.remove(0);
        assert_eq!(delivery["status"], json!(status), "{delivery}");
    }
}
