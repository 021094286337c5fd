//! Proof that settlements reached the queue, before the channel that they were sent on is closed.
//!
//! Acknowledging has no answer in AMQP, and closing a channel does not wait for what was
//! acknowledged on it. A quorum queue is a log of commands. Its client within RabbitMQ, one for
//! each channel, sends only some commands ahead of those that the log has applied (32, `SOFT_LIMIT`
//! in `rabbit_fifo_client.erl`), keeps further settlements back, and forgets them when the channel
//! closes: the messages come again.

use lapin::Channel;
use lapin::message::Delivery;
use lapin::options::BasicGetOptions;
use lapin::types::ShortString;

use super::connection::in_time;
use crate::broker::BrokerError;

/// How many commands prove everything that was sent before them.
///
/// `basic.get` is a command of the queue's log and is answered once it is applied. When the first
/// one is answered, all that was sent before it is applied as well; at that the client sends what
/// it kept back, as one command for each consumer. The second one comes after those.
const PROOFS: usize = 2;

/// Returns once the queue has applied every acknowledgement and requeueing that was sent on this
/// channel before. What the proof had to take off the queue comes back with it; it is unsettled,
/// and goes back to the queue when the channel closes.
pub(super) async fn applied(
    channel: &Channel,
    queue: &ShortString,
) -> Result<Vec<Delivery>, BrokerError> {
    let mut taken = Vec::new();
    // One after the other: the second proves something only because it is sent after the first was
    // answered.
    for _ in 0..PROOFS {
        taken.extend(get(channel, queue).await?);
    }
    Ok(taken)
}

/// The queue's first message, unsettled; `None` when it has none that is ready.
pub(super) async fn get(
    channel: &Channel,
    queue: &ShortString,
) -> Result<Option<Delivery>, BrokerError> {
    let got = in_time(channel.basic_get(queue.clone(), BasicGetOptions { no_ack: false })).await?;
    Ok(got.map(|got| got.delivery))
}
