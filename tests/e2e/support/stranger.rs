//! A client of RabbitMQ that knows nothing but the contract.

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Connection, ConnectionProperties};

use super::Place;

/// Publishes bodies, each under its message id if it has one, and returns once RabbitMQ has
/// confirmed all of them: a quorum queue may lose what is not confirmed when the connection is
/// closed.
pub async fn publish<'a>(
    place: &Place,
    messages: impl IntoIterator<Item = (Option<&'a str>, Vec<u8>)>,
) {
    let connection = Connection::connect(&place.broker_url, ConnectionProperties::default())
        .await
        .expect("RabbitMQ");
    let channel = connection.create_channel().await.expect("a channel");
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .expect("confirms");
    let mut confirms = Vec::new();
    for (id, body) in messages {
        let mut properties = BasicProperties::default().with_delivery_mode(2);
        if let Some(id) = id {
            properties = properties.with_message_id(ShortString::from(id));
        }
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let exchange = format!("{}.notifications", place.prefix);
        let confirm = channel
            .basic_publish(
                exchange.into(),
                "notification".into(),
                options,
                &body,
                properties,
            )
            .await;
        confirms.push(confirm.expect("sent"));
    }
    for confirm in confirms {
        assert!(confirm.await.expect("confirmed").is_ack());
    }
    connection.close(200, "done".into()).await.expect("closed");
}
