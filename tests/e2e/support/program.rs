//! A receiver in Python or JavaScript, such as a user would write, running.

use std::process::Stdio;
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use uuid::Uuid;

use super::{eventually, required};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    Python,
    Node,
}

/// The program; ends when dropped.
pub struct Program {
    port: u16,
    log: Arc<Mutex<Vec<String>>>,
    _child: Child,
    _dir: TempDir,
}

impl Program {
    /// Starts it with a free port in place of its 9000, and waits until it listens there.
    pub async fn start(language: Language, source: &str, environment: &[(&str, &str)]) -> Self {
        let port = free_port().await;
        let dir = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(source.matches("9000").count(), 1, "its port:\n{source}");
        let file = dir.path().join(if language == Language::Python {
            "receiver.py"
        } else {
            "receiver.js"
        });
        std::fs::write(&file, source.replace("9000", &port.to_string())).expect("writing it");
        let mut command = match language {
            Language::Python => Command::new(required("POSTHASTE_TEST_PYTHON")),
            Language::Node => Command::new("node"),
        };
        command.arg(&file).envs(environment.iter().copied());
        command
            .env("PYTHONUNBUFFERED", "1")
            .env("NODE_PATH", required("POSTHASTE_TEST_NODE_PATH"));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().expect("the interpreter starts");
        let log = Arc::new(Mutex::new(Vec::new()));
        collect(child.stdout.take().expect("stdout"), &log);
        collect(child.stderr.take().expect("stderr"), &log);
        let child = Mutex::new(child);
        eventually("the receiver listens", async || {
            let ended = child.lock().expect("child").try_wait().expect("wait");
            assert!(
                ended.is_none(),
                "it ended: {}",
                log.lock().expect("log").join("\n")
            );
            tokio::net::TcpStream::connect(("127.0.0.1", port))
                .await
                .ok()
        })
        .await;
        let child = child.into_inner().expect("child");
        Self {
            port,
            log,
            _child: child,
            _dir: dir,
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Waits until a line that it printed has this in it.
    pub async fn printed(&self, text: &str) {
        eventually(&format!("{text} in what the receiver prints"), async || {
            self.log
                .lock()
                .expect("log")
                .iter()
                .any(|line| line.contains(text))
                .then_some(())
        })
        .await;
    }
}

/// A port that nobody has. It is below those that systems give to whoever asks for any, so that no
/// other test's connection takes it before the program does.
async fn free_port() -> u16 {
    loop {
        let port = 20_000 + u16::try_from(Uuid::new_v4().as_u128() % 10_000).expect("four digits");
        if tokio::net::TcpListener::bind(("127.0.0.1", port))
            .await
            .is_ok()
        {
            return port;
        }
    }
}

fn collect(stream: impl AsyncRead + Unpin + Send + 'static, log: &Arc<Mutex<Vec<String>>>) {
    let log = Arc::clone(log);
    tokio::spawn(async move {
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            log.lock().expect("log").push(line);
        }
    });
}
