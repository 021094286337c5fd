//! The receiver's process, as the bench sees it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use super::children::command;
use super::receiver::book::{self, Record};
use super::receiver::{Addresses, Orders};
use super::usage::Watched;
use crate::failure::Failure;

/// The first argument of the receiver's process. It is not a command for users.
pub(super) const RECEIVER: &str = "bench-receiver";
/// How long an answer of the receiver may take: it may have to write many records.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running receiver; it ends when this is dropped.
pub(super) struct Receiver {
    pub(super) addresses: Addresses,
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

/// What has arrived so far.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct Counts {
    /// Different deliveries that healthy endpoints took.
    pub(super) healthy: u64,
}

impl Receiver {
    /// Starts it.
    ///
    /// # Errors
    /// It does not start.
    pub(super) async fn start(orders: &Orders) -> Result<Self, Failure> {
        let mut child = command(&[RECEIVER, &serde_json::to_string(orders)?])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(gone());
        };
        let mut answers = BufReader::new(answers).lines();
        let addresses = answer(&mut answers).await?;
        Ok(Self {
            addresses,
            child,
            orders,
            answers,
        })
    }

    /// For counting what it uses.
    pub(super) fn watched(&self) -> Watched {
        Watched {
            name: "receiver".to_owned(),
            pid: self.child.id().unwrap_or_default(),
            server: false,
        }
    }

    /// What has arrived so far.
    ///
    /// # Errors
    /// The receiver is gone, as with the other calls.
    pub(super) async fn count(&mut self) -> Result<Counts, Failure> {
        self.order("count").await
    }

    /// The healthy endpoints refuse connections from now on.
    pub(super) async fn go_down(&mut self) -> Result<(), Failure> {
        self.order("down").await
    }

    /// They are back.
    pub(super) async fn come_up(&mut self) -> Result<(), Failure> {
        self.order("up").await
    }

    /// Its name server knows from now on that no name exists.
    pub(super) async fn forget_names(&mut self) -> Result<(), Failure> {
        self.order("no-names").await
    }

    /// Every request that arrived, in order.
    pub(super) async fn records(&mut self, dir: &Path) -> Result<Vec<Record>, Failure> {
        let path = dir.join("records");
        self.order::<()>(&format!("write {}", path.display()))
            .await?;
        Ok(tokio::task::spawn_blocking(move || book::read(&path)).await??)
    }

    async fn order<T: DeserializeOwned>(&mut self, order: &str) -> Result<T, Failure> {
        self.orders
            .write_all(format!("{order}\n").as_bytes())
            .await?;
        answer(&mut self.answers).await
    }
}

async fn answer<T: DeserializeOwned>(
    answers: &mut Lines<BufReader<ChildStdout>>,
) -> Result<T, Failure> {
    let line = tokio::time::timeout(PATIENCE, answers.next_line())
        .await
        .map_err(|_| gone())??
        .ok_or_else(gone)?;
    Ok(serde_json::from_str(&line)?)
}

fn gone() -> Failure {
    Failure::new("the bench's receiver ended or does not answer")
}
