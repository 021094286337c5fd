//! Several URLs: the nodes of a cluster. Here each node is a proxy before the same server.

use std::sync::Arc;

use posthaste_shared::broker::Broker;
use posthaste_shared::broker::amqp::{AmqpBroker, AmqpOptions};
use posthaste_shared::domain::secret::Secret;

use super::amqp_bench::{Handle, RabbitMq, connected, rabbitmq_test};
use super::bench::{Bench, ids, message, publish, run, take, until};
use super::proxy::Proxy;

async fn over(bench: &RabbitMq, nodes: &[&Proxy]) -> Arc<AmqpBroker> {
    let urls: Vec<String> = nodes.iter().map(|node| bench.url_through(node)).collect();
    bench
        .open(AmqpOptions {
            url: Secret::new(urls.join(", ")),
            ..bench.options()
        })
        .await
}

rabbitmq_test!(a_lost_node_is_replaced_by_another, bench, {
    let one = bench.proxy().await;
    let other = bench.proxy().await;
    let broker = over(&bench, &[&one, &other]).await;
    connected(&*broker).await;
    let mut consumer = broker.consume(10).await.unwrap();
    publish(&*broker, vec![message("first")]).await;
    for (round, (gone, left)) in [(&one, &other), (&other, &one), (&one, &other)]
        .into_iter()
        .enumerate()
    {
        left.refuse(false);
        gone.refuse(true);
        gone.cut();
        let id = format!("round {round}");
        until("published", async || {
            broker.publish(vec![message(&id)]).await[0].is_ok()
        })
        .await;
        while !ids(&take(&mut *consumer, 1).await).contains(&id) {}
        until("both connections are at the other node", async || {
            (gone.connections(), left.connections()) == (0, 2)
        })
        .await;
    }
    broker.close().await;
});

rabbitmq_test!(a_node_that_says_nothing_is_passed_over, bench, {
    let silent = bench.proxy().await;
    let good = bench.proxy().await;
    silent.silence(true);
    let broker = over(&bench, &[&silent, &good]).await;
    until("the good node is found", async || {
        broker.ping().await.is_ok()
    })
    .await;
    publish(&*broker, vec![message("a")]).await;
    broker.close().await;
});

rabbitmq_test!(without_any_node_all_are_named, bench, {
    let one = bench.proxy().await;
    let other = bench.proxy().await;
    one.refuse(true);
    other.refuse(true);
    let broker = over(&bench, &[&one, &other]).await;
    let mut text = String::new();
    until("both were tried", async || {
        text = broker.ping().await.unwrap_err().to_string();
        text.contains(&one.address.to_string()) && text.contains(&other.address.to_string())
    })
    .await;
    assert!(!text.contains("guest"), "{text}");
    other.refuse(false);
    until("one is enough", async || broker.ping().await.is_ok()).await;
    let described = broker.describe().await;
    let of = |node: &Proxy| {
        described
            .iter()
            .find(|(name, _)| *name == node.address.to_string())
            .unwrap()
            .1
            .clone()
    };
    assert!(of(&one).starts_with("no answer"), "{described:?}");
    assert!(of(&other).starts_with("RabbitMQ "), "{described:?}");
    broker.close().await;
});

rabbitmq_test!(connections_spread_over_the_nodes, bench, {
    let one = bench.proxy().await;
    let other = bench.proxy().await;
    // That all of so many begin at the same one has a chance of one in a million.
    let mut clients = Vec::new();
    for _ in 0..21 {
        clients.push(over(&bench, &[&one, &other]).await);
    }
    until("all are connected", async || {
        one.connections() + other.connections() == clients.len()
    })
    .await;
    assert!(one.connections() > 0 && other.connections() > 0);
    for client in clients {
        client.close().await;
    }
});
