//! Removing everything that was declared under a prefix: after a measurement, which had exchanges
//! and queues of its own. `posthaste bench` alone calls this.

use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};

use super::connection::{close_channel, in_time};
use super::{AmqpBroker, PATIENCE};
use crate::broker::BrokerError;

impl AmqpBroker {
    /// Deletes the queues, with the messages in them, and the exchanges of this broker's prefix,
    /// and the queue of this name. What is not there is not an error.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn remove_all(&self, other: &str) -> Result<(), BrokerError> {
        let names = &self.target.names;
        let channel = self.link.session(PATIENCE).await?.channel().await?;
        // The work queue first: what dies with it does not go to the dead letters.
        let other = other.into();
        for queue in [&names.work, &names.dead, &other] {
            in_time(channel.queue_delete(queue.clone(), QueueDeleteOptions::default())).await?;
        }
        for exchange in [&names.notifications, &names.dead, &names.events] {
            in_time(channel.exchange_delete(exchange.clone(), ExchangeDeleteOptions::default()))
                .await?;
        }
        close_channel(&channel).await;
        Ok(())
    }
}
