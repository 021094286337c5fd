//! A process of the built program.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Place, eventually, within};

/// A long-running `posthaste`. Killed when dropped; its log is printed when the test fails.
pub struct Process {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    readers: [JoinHandle<()>; 2],
    /// Where its HTTP side listens, such as `http://127.0.0.1:34567`.
    pub url: String,
    what: String,
}

impl Process {
    /// Starts a command, waits until it says where it listens, and until it is ready.
    pub async fn start(place: &Place, arguments: &[&str]) -> Self {
        Self::start_with(place, arguments, &[]).await
    }

    /// [`Self::start`] with further environment.
    pub async fn start_with(
        place: &Place,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let mut command = command(place, arguments);
        command
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let log = Arc::new(Mutex::new(Vec::new()));
        let readers = [
            collect(child.stdout.take().expect("stdout"), &log),
            collect(child.stderr.take().expect("stderr"), &log),
        ];
        let what = arguments.join(" ");
        let child = Mutex::new(child);
        let listens = format!("posthaste {what} listens");
        let url = within(Duration::from_secs(60), &listens, async || {
            if let Some(status) = child.lock().expect("child").try_wait().expect("wait") {
                panic!(
                    "posthaste {what} ended: {status}\n{}",
                    log.lock().expect("log").join("\n")
                );
            }
            url(&log.lock().expect("log"))
        });
        let url = url.await;
        let child = child.into_inner().expect("child");
        let _ = rustls::crypto::ring::default_provider().install_default();
        // Its store and its broker answer, so its exchanges and queues are there.
        within(
            Duration::from_secs(60),
            &format!("{url} is ready"),
            async || {
                let answer = reqwest::get(format!("{url}/readyz")).await.ok()?;
                answer.status().is_success().then_some(())
            },
        )
        .await;
        Self {
            child,
            log,
            readers,
            url,
            what,
        }
    }

    /// Everything it has printed.
    pub fn log(&self) -> String {
        self.log.lock().expect("log").join("\n")
    }

    /// Waits until its log has the text: what it does may be seen before its line has come through
    /// the pipe.
    pub async fn logs(&self, text: &str) {
        eventually(
            &format!("posthaste {} logs {text:?}", self.what),
            async || self.log().contains(text).then_some(()),
        )
        .await;
    }

    /// Sends a signal.
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status()
            .expect("kill");
        assert!(sent.success(), "{signal} to {}", self.what);
    }

    /// Waits for its end.
    pub async fn ended(&mut self, deadline: Duration) -> ExitStatus {
        let end = std::time::Instant::now() + deadline;
        loop {
            // Its last lines, too: they may still be in the pipe when it has ended.
            if let Some(status) = self.child.try_wait().expect("wait")
                && self.readers.iter().all(JoinHandle::is_finished)
            {
                return status;
            }
            assert!(
                std::time::Instant::now() < end,
                "posthaste {} did not end\n{}",
                self.what,
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// SIGTERM, and its end.
    pub async fn stop(mut self) -> ExitStatus {
        self.signal("-TERM");
        self.ended(Duration::from_secs(30)).await
    }

    /// SIGKILL.
    pub async fn kill(mut self) {
        self.signal("-KILL");
        self.ended(Duration::from_secs(10)).await;
    }
}

/// Runs a command to its end.
pub async fn run(
    place: &Place,
    arguments: &[&str],
    environment: &[(&str, &str)],
    input: Option<String>,
) -> Output {
    let mut command = command(place, arguments);
    command.envs(environment.iter().copied());
    command.stdin(if input.is_some() {
        Stdio::piped()
    } else {
        Stdio::null()
    });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = tokio::task::spawn_blocking(move || {
        use std::io::Write as _;
        let mut child = command.spawn().expect("the program starts");
        if let Some(input) = input {
            child
                .stdin
                .take()
                .expect("stdin")
                .write_all(input.as_bytes())
                .expect("writing stdin");
        }
        child.wait_with_output().expect("output")
    });
    tokio::time::timeout(super::DEADLINE, run)
        .await
        .expect("the command ends")
        .expect("no panic")
}

/// A command with the place's settings, to be spawned.
pub fn command(place: &Place, arguments: &[&str]) -> Command {
    let mut command = Command::new(super::posthaste());
    // Only the place's settings count, not those of whoever runs the tests.
    let counts = |name: &str| {
        name.starts_with("POSTHASTE_") || name.starts_with("OTEL_") || name == "TRACEPARENT"
    };
    for (name, _) in std::env::vars().filter(|(name, _)| counts(name)) {
        command.env_remove(name);
    }
    command
        .args(arguments)
        .current_dir(place.dir.path())
        .envs(place.environment())
        .env("NO_COLOR", "1");
    command.stdin(Stdio::null());
    command
}

fn collect(
    stream: impl std::io::Read + Send + 'static,
    log: &Arc<Mutex<Vec<String>>>,
) -> JoinHandle<()> {
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            log.lock().expect("log").push(line);
        }
    })
}

fn url(log: &[String]) -> Option<String> {
    let line = log
        .iter()
        .find(|line| line.contains("listening on http://"))?;
    let from = line.find("http://127.0.0.1:")?;
    Some(
        line[from..]
            .split(|c: char| c.is_whitespace() || c == '"' || c == ',')
            .next()?
            .trim_end_matches('/')
            .to_owned(),
    )
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- posthaste {}\n{}", self.what, self.log());
        }
    }
}
