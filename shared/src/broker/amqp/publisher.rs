//! Publishing with confirms. Callers hand their messages to a few lanes. A lane has a channel of
//! its own; it publishes whatever has gathered, waits for all the confirms, then takes what
//! gathered meanwhile.
//!
//! One batch at a time on a channel, because of returned messages: RabbitMQ names them only by
//! their content, and lapin hands each to any one of the confirms that arrive together. Within a
//! batch they can be told apart.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use futures::{StreamExt as _, stream};
use lapin::message::BasicReturnMessage;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::connection::{Link, Session, in_time};
use crate::broker::BrokerError;

/// Channels that publish side by side: while one waits for RabbitMQ to sync its disk, others fill.
pub(super) const LANES: usize = 4;
/// The most messages that one caller has in one batch, and (twice it, less one) that a lane sends
/// at once.
const CHUNK: usize = 500;
/// How many callers' chunks may wait for a lane.
const WAITING: usize = 1024;
/// How long a caller waits for a connection before it is told that there is none.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long to wait before each further try of messages that RabbitMQ refused (`basic.nack`): 1.5 s
/// in all. A quorum queue refuses for a moment while it has no leader or cannot register a
/// publisher; one at its length limit refuses until somebody has taken something out. Refused
/// messages are in no queue, so none is doubled.
const REFUSED_AGAIN: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
];

type Answer = Result<(), BrokerError>;

/// A message to publish.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    pub(super) exchange: ShortString,
    pub(super) routing_key: ShortString,
    /// Whether it must reach a queue.
    pub(super) mandatory: bool,
    pub(super) body: Bytes,
    pub(super) properties: BasicProperties,
}

struct Request {
    messages: Vec<Outgoing>,
    reply: oneshot::Sender<Vec<Answer>>,
}

/// Takes messages from any number of callers.
pub(super) struct Publisher {
    link: Link,
    requests: mpsc::Sender<Request>,
    confirm_timeout: Duration,
}

impl Publisher {
    /// A publisher and its lanes: spawn each of those.
    pub(super) fn start(
        link: Link,
        confirm_timeout: Duration,
        stop: &CancellationToken,
    ) -> (Self, Vec<impl Future<Output = ()> + Send + 'static>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        // One queue for all lanes, so that a lane that waits for RabbitMQ holds up nobody who could
        // go by another.
        let requests = Arc::new(Mutex::new(receiver));
        let silences = Arc::new(AtomicU64::new(0));
        let lanes = (0..LANES).map(|_| {
            let requests = Arc::clone(&requests);
            let silences = Arc::clone(&silences);
            Lane {
                link: link.clone(),
                requests,
                confirm_timeout,
                silences,
                open: None,
            }
            .run(stop.clone())
        });
        let lanes = lanes.collect();
        (
            Self {
                link,
                requests: sender,
                confirm_timeout,
            },
            lanes,
        )
    }

    /// Publishes all and waits for their confirms. Answers in order.
    pub(super) async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Answer> {
        let count = messages.len();
        // Asked before the messages are queued: without a connection a caller learns so after a
        // second, and not after the whole confirm timeout.
        if let Err(error) = self.link.session(PATIENCE.min(self.confirm_timeout)).await {
            return all(count, &error);
        }
        let mut messages = messages.into_iter();
        let chunks =
            (0..count.div_ceil(CHUNK)).map(|_| messages.by_ref().take(CHUNK).collect::<Vec<_>>());
        let chunks: Vec<_> = chunks.collect();
        stream::iter(chunks)
            .map(|chunk| self.request(chunk))
            // `buffered` keeps the order of the answers. More chunks at once than lanes would only
            // wait in the queue of the others.
            .buffered(LANES)
            .concat()
            .await
    }

    async fn request(&self, messages: Vec<Outgoing>) -> Vec<Answer> {
        let count = messages.len();
        let (reply, answers) = oneshot::channel();
        let work = async {
            self.requests.send(Request { messages, reply }).await.ok()?;
            answers.await.ok()
        };
        match timeout(self.confirm_timeout, work).await {
            Ok(Some(answers)) => answers,
            Ok(None) => all(count, &BrokerError::Unavailable("closed".to_owned())),
            Err(_) => all(count, &no_confirm(self.confirm_timeout)),
        }
    }
}

struct Lane {
    link: Link,
    requests: Arc<Mutex<mpsc::Receiver<Request>>>,
    confirm_timeout: Duration,
    /// Counts the times that confirms did not come, on any lane. RabbitMQ's channels keep what they
    /// know of a queue: one that was deleted and declared again can leave each of them waiting for
    /// the old one. So when one lane was left waiting, all open new channels before they publish
    /// again.
    silences: Arc<AtomicU64>,
    open: Option<Open>,
}

/// A channel that is open, with its confirms.
struct Open {
    channel: Channel,
    /// The number of the connection that it belongs to.
    session: u64,
    /// How many silences there had been when it was opened.
    silences: u64,
}

impl Lane {
    async fn run(mut self, stop: CancellationToken) {
        loop {
            let batch = tokio::select! {
                () = stop.cancelled() => return,
                batch = self.gather() => batch,
            };
            if batch.is_empty() {
                return;
            }
            self.serve(batch).await;
        }
    }

    /// What is waiting; at least one request, unless the publisher is gone. Whoever gave up waiting
    /// is left out.
    async fn gather(&self) -> Vec<Request> {
        // Held while waiting for the first request: the lanes take turns, and the one that has the
        // lock takes all that has gathered.
        let mut requests = self.requests.lock().await;
        let mut batch = Vec::new();
        let mut size = 0;
        while size < CHUNK {
            let next = if batch.is_empty() {
                requests.recv().await
            } else {
                requests.try_recv().ok()
            };
            let Some(request) = next else { break };
            // Whoever gave up has reported a failure, and will publish the message again: sending
            // it now would only double it.
            if !request.reply.is_closed() {
                size += request.messages.len();
                batch.push(request);
            }
        }
        batch
    }

    async fn serve(&mut self, batch: Vec<Request>) {
        let messages: Vec<&Outgoing> = batch.iter().flat_map(|request| &request.messages).collect();
        // One deadline for the channel, the publishing and all further tries: the callers wait no
        // longer either.
        let deadline = Instant::now() + self.confirm_timeout;
        let answers = match timeout_at(deadline, self.channel()).await {
            Ok(Ok(session)) => self.publish_all(&session, &messages, deadline).await,
            Ok(Err(error)) => all(messages.len(), &error),
            Err(_) => all(messages.len(), &no_confirm(self.confirm_timeout)),
        };
        let mut answers = answers.into_iter();
        for request in batch {
            let own = answers.by_ref().take(request.messages.len()).collect();
            drop(request.reply.send(own));
        }
    }

    /// Makes sure of an open channel on the current connection. A channel that RabbitMQ closed
    /// means that something was missing: everything is declared again before the next one.
    async fn channel(&mut self) -> Result<Arc<Session>, BrokerError> {
        let session = self.link.session(Duration::ZERO).await?;
        // Read before a channel is opened, so that a silence that comes meanwhile makes this lane
        // open yet another one.
        let silences = self.silences.load(Ordering::Relaxed);
        if let Some(open) = &self.open
            && open.session == session.number
        {
            let connected = open.channel.status().connected();
            if connected && open.silences == silences {
                return Ok(session);
            }
            self.open = None;
            // RabbitMQ closes a channel for what it does not find. A channel that was merely silent
            // says nothing about the topology.
            if !connected {
                session.declare().await?;
            }
        }
        self.open = None;
        let channel = session.channel().await?;
        in_time(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        self.open = Some(Open {
            channel,
            session: session.number,
            silences,
        });
        Ok(session)
    }

    /// Publishes; what reached no queue once more, after declaring the topology again, and what was
    /// refused a few times more.
    async fn publish_all(
        &mut self,
        session: &Session,
        messages: &[&Outgoing],
        deadline: Instant,
    ) -> Vec<Answer> {
        let mut answers = self.publish_once(messages, deadline).await;
        let unroutable = |answer: &Answer| matches!(answer, Err(BrokerError::Unroutable { .. }));
        if answers.iter().any(unroutable) && session.declare().await.is_ok() {
            let again = self
                .publish_again(messages, &mut answers, unroutable, deadline)
                .await;
            tracing::warn!(
                messages = again,
                "messages reached no queue: declared the queues again"
            );
        }
        let refused = |answer: &Answer| matches!(answer, Err(BrokerError::Refused(_)));
        // The pauses end with the deadline: an answer that comes after the caller has left is of no
        // use to anybody.
        for pause in REFUSED_AGAIN {
            if !answers.iter().any(refused) || Instant::now() + pause >= deadline {
                break;
            }
            tokio::time::sleep(pause).await;
            let again = self
                .publish_again(messages, &mut answers, refused, deadline)
                .await;
            tracing::warn!(
                messages = again,
                "RabbitMQ refused messages: published them again"
            );
        }
        answers
    }

    /// Publishes those again whose answers are such, and puts their new answers in place. Returns
    /// how many.
    async fn publish_again(
        &mut self,
        messages: &[&Outgoing],
        answers: &mut [Answer],
        such: impl Fn(&Answer) -> bool,
        deadline: Instant,
    ) -> usize {
        let again: Vec<usize> = (0..answers.len())
            .filter(|index| such(&answers[*index]))
            .collect();
        let chosen: Vec<&Outgoing> = again.iter().map(|index| messages[*index]).collect();
        for (index, answer) in again.iter().zip(self.publish_once(&chosen, deadline).await) {
            answers[*index] = answer;
        }
        again.len()
    }

    async fn publish_once(&mut self, messages: &[&Outgoing], deadline: Instant) -> Vec<Answer> {
        let Some(Open { channel, .. }) = &self.open else {
            return all(
                messages.len(),
                &BrokerError::Unavailable("no channel".to_owned()),
            );
        };
        let sent = messages.iter().map(|message| publish_one(channel, message));
        let confirms = join_all(sent.map(|sent| async {
            match timeout_at(deadline, sent).await {
                Ok(confirmation) => {
                    confirmation.map_err(|error| super::connection::broker_error(&error))
                }
                Err(_) => Err(no_confirm(self.confirm_timeout)),
            }
        }))
        .await;
        let late = Instant::now() >= deadline;
        let answers = settle(messages, confirms);
        if late {
            // What comes late on this channel must not be taken for the confirms of the next batch.
            self.open = None;
            self.silences.fetch_add(1, Ordering::Relaxed);
        }
        answers
    }
}

async fn publish_one(channel: &Channel, message: &Outgoing) -> lapin::Result<Confirmation> {
    let options = BasicPublishOptions {
        mandatory: message.mandatory,
        ..BasicPublishOptions::default()
    };
    let exchange = message.exchange.clone();
    let key = message.routing_key.clone();
    channel
        .basic_publish(
            exchange,
            key,
            options,
            &message.body,
            message.properties.clone(),
        )
        .await?
        .await
}

/// Turns confirms into answers. A confirm may carry a returned message, not necessarily the one it
/// confirms.
fn settle(messages: &[&Outgoing], confirms: Vec<Result<Confirmation, BrokerError>>) -> Vec<Answer> {
    let mut returned = Vec::new();
    let mut answers: Vec<Answer> = confirms
        .into_iter()
        .map(|confirm| {
            let (answer, message) = match confirm? {
                Confirmation::Ack(message) => (Ok(()), message),
                Confirmation::Nack(message) => (Err(refused()), message),
                Confirmation::NotRequested => (
                    Err(BrokerError::Unavailable("no confirms".to_owned())),
                    None,
                ),
            };
            returned.extend(message);
            answer
        })
        .collect();
    for message in returned {
        let owner = (0..messages.len())
            // Only among those that look accepted: each returned message turns one confirm into an
            // error, and two equal messages need two.
            .find(|index| answers[*index].is_ok() && is_same(messages[*index], &message));
        match owner {
            Some(index) => answers[index] = Err(unroutable(messages[index])),
            // Some message reached no queue, and it cannot be said which.
            None => {
                return messages
                    .iter()
                    .map(|message| Err(unroutable(message)))
                    .collect();
            }
        }
    }
    answers
}

/// Two messages that are the same in all of this are as good as each other.
fn is_same(sent: &Outgoing, returned: &BasicReturnMessage) -> bool {
    sent.properties.message_id() == returned.properties.message_id()
        && sent.routing_key == returned.routing_key
        && sent.exchange == returned.exchange
        && sent.body == returned.data
}

fn unroutable(message: &Outgoing) -> BrokerError {
    BrokerError::Unroutable {
        exchange: message.exchange.to_string(),
        routing_key: message.routing_key.to_string(),
    }
}

fn refused() -> BrokerError {
    BrokerError::Refused(
        "RabbitMQ could not store it, or the queue is at its length limit".to_owned(),
    )
}

fn no_confirm(waited: Duration) -> BrokerError {
    BrokerError::Unavailable(format!("no confirm within {waited:?}"))
}

/// The same error for each of `count` messages.
fn all(count: usize, error: &BrokerError) -> Vec<Answer> {
    (0..count).map(|_| Err(copy(error))).collect()
}

fn copy(error: &BrokerError) -> BrokerError {
    match error {
        BrokerError::Unavailable(text) => BrokerError::Unavailable(text.clone()),
        BrokerError::Refused(text) => BrokerError::Refused(text.clone()),
        BrokerError::Configuration(text) => BrokerError::Configuration(text.clone()),
        BrokerError::Topology(text) => BrokerError::Topology(text.clone()),
        BrokerError::Unroutable {
            exchange,
            routing_key,
        } => BrokerError::Unroutable {
            exchange: exchange.clone(),
            routing_key: routing_key.clone(),
        },
    }
}
