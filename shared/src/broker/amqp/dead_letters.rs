//! Looking at the dead-letter queue, and putting its messages back to work.

use std::collections::HashSet;

use lapin::message::Delivery;
use lapin::types::ShortString;
use sha2::{Digest as _, Sha256};

use super::connection::Session;
use super::properties;
use super::publisher::{Outgoing, Publisher};
use super::side_channel::{SideChannel, WINDOW};
use super::topology::{Names, ROUTING_KEY};
use crate::broker::{BrokerError, DeadLetter, Redriven};
use crate::domain::message;

/// How much of a body is shown.
const SHOWN_BYTES: usize = 4096;

/// Looks at up to `limit` dead letters. They are fetched without acknowledging and requeued in
/// their order. While they are fetched, nobody else sees them; when this returns, everybody does
/// again.
pub(super) async fn look(
    session: &Session,
    dead: &ShortString,
    limit: u32,
) -> Result<Vec<DeadLetter>, BrokerError> {
    let mut side = SideChannel::open(session, dead).await?;
    let mut letters = Vec::new();
    // The loop is left by a value and not by `?`, because what was taken has to be requeued
    // whatever happened.
    let failed = loop {
        if letters.len() >= limit as usize {
            break None;
        }
        match side.take(limit as usize - letters.len()).await {
            Ok(taken) if taken.is_empty() => break None,
            Ok(taken) => letters.extend(taken.iter().map(letter)),
            Err(error) => break Some(error),
        }
    };
    side.release().await;
    failed.map_or(Ok(letters), Err)
}

/// Publishes dead letters to the work queue and, once that is confirmed, takes them off the
/// dead-letter queue. A crash in between leaves the message in both: it is delivered twice at
/// worst, never lost.
pub(super) async fn redrive(
    session: &Session,
    names: &Names,
    publisher: &Publisher,
    ids: Option<&[String]>,
    limit: u32,
) -> Result<Redriven, BrokerError> {
    let wanted: Option<HashSet<&str>> = ids.map(|ids| ids.iter().map(String::as_str).collect());
    let mut redrive = Redrive {
        side: SideChannel::open(session, &names.dead).await?,
        names,
        publisher,
        wanted,
        done: Redriven::default(),
    };
    let result = redrive.run(u64::from(limit)).await;
    // Also after an error: what was taken and not moved goes back to the queue in its order.
    redrive.side.release().await;
    result.map(|()| redrive.done)
}

struct Redrive<'a> {
    side: SideChannel,
    names: &'a Names,
    publisher: &'a Publisher,
    wanted: Option<HashSet<&'a str>>,
    done: Redriven,
}

impl Redrive<'_> {
    async fn run(&mut self, limit: u64) -> Result<(), BrokerError> {
        // Not more than are there now: what dies again meanwhile is for the next time.
        let mut left = u64::from(self.side.counts().await?.ready);
        // With ids the limit does not bound what is looked at: the letters that are wanted may lie
        // behind many others.
        if self.wanted.is_none() {
            left = left.min(limit);
        }
        while left > 0 {
            let taken = self
                .side
                .take(usize::try_from(left).unwrap_or(WINDOW))
                .await?;
            if taken.is_empty() {
                break;
            }
            left = left.saturating_sub(taken.len() as u64);
            let wanted = taken
                .into_iter()
                .filter(|message| self.is_wanted(message))
                .collect();
            self.put_back(wanted).await?;
        }
        Ok(())
    }

    fn is_wanted(&self, message: &Delivery) -> bool {
        self.wanted
            .as_ref()
            .is_none_or(|wanted| wanted.contains(id(message).as_str()))
    }

    async fn put_back(&mut self, messages: Vec<Delivery>) -> Result<(), BrokerError> {
        let about: Vec<(u64, bool)> = messages
            .iter()
            .map(|letter| (letter.delivery_tag, message::is_notification(&letter.data)))
            .collect();
        let answers = self
            .publisher
            .publish(
                messages
                    .into_iter()
                    .map(|message| self.revived(message))
                    .collect(),
            )
            .await;
        let mut confirmed = Vec::new();
        let mut undecodable = 0;
        let mut failed = None;
        for ((tag, decodable), answer) in about.into_iter().zip(answers) {
            match answer {
                Ok(()) => {
                    confirmed.push(tag);
                    undecodable += u64::from(!decodable);
                }
                Err(error) => failed = Some(error),
            }
        }
        // Only what the work queue has confirmed. The others stay held, and are requeued as dead
        // letters by `release`.
        self.side.settle(&confirmed).await?;
        self.done.moved += confirmed.len() as u64;
        self.done.undecodable += undecodable;
        failed.map_or(Ok(()), Err)
    }

    fn revived(&self, mut message: Delivery) -> Outgoing {
        Outgoing {
            exchange: self.names.notifications.clone(),
            routing_key: ROUTING_KEY.into(),
            mandatory: true,
            properties: properties::revived(&message.properties),
            body: std::mem::take(&mut message.data).into(),
        }
    }
}

fn letter(message: &Delivery) -> DeadLetter {
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

/// The message's own id, else one derived from its body.
fn id(message: &Delivery) -> String {
    let own = message
        .properties
        .message_id()
        .as_ref()
        .map(ShortString::as_str)
        .filter(|id| !id.is_empty());
    own.map_or_else(|| id_of_body(&message.data), str::to_owned)
}

fn id_of_body(body: &[u8]) -> String {
    let digest = Sha256::digest(body);
    format!("sha256-{}", hex::encode(&digest[..12]))
}
