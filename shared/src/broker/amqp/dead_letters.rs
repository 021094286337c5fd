//! Looking at the dead-letter queue, and putting its messages back to work.

use std::collections::HashSet;
use std::time::Duration;

use lapin::Channel;
use lapin::message::BasicGetMessage;
use lapin::options::{BasicAckOptions, BasicGetOptions, BasicNackOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use super::connection::{Session, close_channel, in_time};
use super::properties;
use super::publisher::{Outgoing, Publisher};
use super::topology::{Names, ROUTING_KEY};
use crate::broker::{BrokerError, DeadLetter};

/// How much of a body is shown.
const SHOWN_BYTES: usize = 4096;
/// How many dead letters are fetched, published and acknowledged together.
const STEP: usize = 100;

/// How long to wait for dead letters to be back on their queue after a look.
const BACK: Duration = Duration::from_secs(5);

/// Looks at up to `limit` dead letters. They are fetched without acknowledging and given back in their
/// order. While they are fetched, nobody else sees them; when this returns, everybody does again.
pub(super) async fn look(session: &Session, dead: &ShortString, limit: u32) -> Result<Vec<DeadLetter>, BrokerError> {
    let channel = session.channel().await?;
    let mut letters = Vec::new();
    let mut failed = None;
    while letters.len() < limit as usize {
        match fetch(&channel, dead).await {
            Ok(Some(message)) => letters.push(letter(&message)),
            Ok(None) => break,
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    give_back_in_time(&channel, dead, letters.len()).await;
    close_channel(&channel).await;
    failed.map_or(Ok(letters), Err)
}

/// [`give_back`], for [`BACK`] at most: closing the channel gives back what is left, only later.
async fn give_back_in_time(channel: &Channel, dead: &ShortString, fetched: usize) {
    if fetched > 0 && !matches!(timeout(BACK, give_back(channel, dead, fetched)).await, Ok(Ok(()))) {
        tracing::debug!("dead letters were looked at and are not seen back yet");
    }
}

/// Gives everything back that the channel fetched, and waits until it is there.
async fn give_back(channel: &Channel, dead: &ShortString, fetched: usize) -> Result<(), BrokerError> {
    let options = BasicNackOptions { multiple: true, requeue: true };
    // Tag 0 with `multiple` means all.
    in_time(channel.basic_nack(0, options)).await?;
    while (depth(channel, dead).await? as usize) < fetched {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Publishes dead letters to the work queue and, once that is confirmed, takes them off the dead-letter
/// queue. A crash in between leaves the message in both: it is delivered twice at worst, never lost.
pub(super) async fn redrive(
    session: &Session,
    names: &Names,
    publisher: &Publisher,
    ids: Option<&[String]>,
    limit: u32,
) -> Result<u64, BrokerError> {
    let channel = session.channel().await?;
    let wanted: Option<HashSet<&str>> = ids.map(|ids| ids.iter().map(String::as_str).collect());
    let mut redrive = Redrive { channel: &channel, names, publisher, wanted, fetched: 0, moved: 0 };
    let result = redrive.run(u64::from(limit)).await;
    give_back_in_time(&channel, &names.dead, redrive.fetched - redrive.moved).await;
    close_channel(&channel).await;
    result
}

struct Redrive<'a> {
    channel: &'a Channel,
    names: &'a Names,
    publisher: &'a Publisher,
    wanted: Option<HashSet<&'a str>>,
    fetched: usize,
    /// Of these, back on the work queue.
    moved: usize,
}

impl Redrive<'_> {
    async fn run(&mut self, limit: u64) -> Result<u64, BrokerError> {
        // Not more than are there now: what dies again meanwhile is for the next time.
        let mut left = u64::from(depth(self.channel, &self.names.dead).await?);
        let mut moved = 0;
        let bound = if self.wanted.is_some() { u64::MAX } else { limit };
        while left > 0 && moved < bound {
            let mut step = Vec::new();
            let room = usize::try_from(bound - moved).unwrap_or(STEP).min(STEP);
            while step.len() < room && left > 0 {
                left -= 1;
                let Some(message) = fetch(self.channel, &self.names.dead).await? else {
                    left = 0;
                    break;
                };
                self.fetched += 1;
                if self.is_wanted(&message) {
                    step.push(message);
                }
            }
            moved += self.put_back(step).await?;
        }
        Ok(moved)
    }

    fn is_wanted(&self, message: &BasicGetMessage) -> bool {
        self.wanted.as_ref().is_none_or(|wanted| wanted.contains(id(message).as_str()))
    }

    async fn put_back(&mut self, messages: Vec<BasicGetMessage>) -> Result<u64, BrokerError> {
        let mut moved = 0;
        let tags: Vec<u64> = messages.iter().map(|message| message.delivery_tag).collect();
        let answers = self.publisher.publish(messages.into_iter().map(|message| self.revived(message)).collect()).await;
        let mut failed = None;
        for (tag, answer) in tags.into_iter().zip(answers) {
            match answer {
                Ok(()) => {
                    in_time(self.channel.basic_ack(tag, BasicAckOptions::default())).await?;
                    moved += 1;
                    self.moved += 1;
                }
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(moved), Err)
    }

    fn revived(&self, mut message: BasicGetMessage) -> Outgoing {
        Outgoing {
            exchange: self.names.notifications.clone(),
            routing_key: ROUTING_KEY.into(),
            mandatory: true,
            properties: properties::revived(&message.properties),
            body: std::mem::take(&mut message.data).into(),
        }
    }
}

/// Messages that are ready in a queue.
pub(super) async fn depth(channel: &Channel, queue: &ShortString) -> Result<u32, BrokerError> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let declared = in_time(channel.queue_declare(queue.clone(), options, FieldTable::default())).await?;
    Ok(declared.message_count())
}

async fn fetch(channel: &Channel, queue: &ShortString) -> Result<Option<BasicGetMessage>, BrokerError> {
    in_time(channel.basic_get(queue.clone(), BasicGetOptions { no_ack: false })).await
}

fn letter(message: &BasicGetMessage) -> DeadLetter {
    let death = properties::death(&message.properties);
    let shown = &message.data[..message.data.len().min(SHOWN_BYTES)];
    DeadLetter {
        id: id(message),
        reason: death.reason,
        detail: death.detail,
        died_at: death.at,
        size: message.data.len() as u64,
        body: String::from_utf8_lossy(shown).into_owned(),
    }
}

/// The message's own id, else one made from its body.
fn id(message: &BasicGetMessage) -> String {
    let own = message.properties.message_id().as_ref().map(ShortString::as_str).filter(|id| !id.is_empty());
    own.map_or_else(|| id_of_body(&message.data), str::to_owned)
}

fn id_of_body(body: &[u8]) -> String {
    let digest = Sha256::digest(body);
    let hex: String = digest[..12].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256-{hex}")
}
