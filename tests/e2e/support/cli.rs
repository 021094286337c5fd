//! `up`, and the commands as their users run them.

use std::process::Output;

use serde_json::Value;

use super::{Backend, Place, Process, eventually, process};

/// `up`, and the commands that speak to it.
pub struct Cli {
    pub place: Place,
    pub up: Process,
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Cli {
    pub async fn start(backend: Backend) -> Self {
        let place = Place::new(backend).await;
        let up = Process::start(&place, &["up"]).await;
        Self { place, up }
    }

    pub async fn run(&self, arguments: &[&str]) -> Said {
        self.run_with(arguments, &[], None).await
    }

    pub async fn run_with(
        &self,
        arguments: &[&str],
        environment: &[(&str, &str)],
        input: Option<&str>,
    ) -> Said {
        let mut all = vec![("POSTHASTE_API_URL", self.up.url.as_str())];
        all.extend(environment);
        process::run(&self.place, arguments, &all, input.map(str::to_owned))
            .await
            .into()
    }

    /// A command that has to do what it is asked; what it printed.
    pub async fn ok(&self, arguments: &[&str]) -> String {
        let said = self.run(arguments).await;
        assert_eq!(said.code, 0, "{arguments:?}: {said:?}");
        said.out
    }

    /// [`Self::ok`] with `--json`.
    pub async fn json(&self, arguments: &[&str]) -> Value {
        let text = self.ok(&[arguments, &["--json"]].concat()).await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
    }

    /// A command that has to end with this exit code; what it said on stderr.
    pub async fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let said = self.run(arguments).await;
        assert_eq!(said.code, code, "{arguments:?}: {said:?}");
        said.err
    }

    /// The only delivery of a notification, once it has this status.
    pub async fn delivery(&self, notification: &str, status: &str) -> Value {
        eventually(&format!("{notification} {status}"), async || {
            let page = self
                .json(&["delivery", "list", "--notification", notification])
                .await;
            page["items"]
                .as_array()
                .expect("items")
                .iter()
                .find(|item| item["status"] == status)
                .cloned()
        })
        .await
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        let code = output.status.code().expect("an exit code");
        Self {
            code,
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}
