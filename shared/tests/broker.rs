//! One conformance suite for every broker, and what only RabbitMQ must do.
//!
//! URLs are taken from `POSTHASTE_TEST_AMQP_URL` and `POSTHASTE_TEST_POSTGRES_URL`; each test has queues,
//! a schema or a file of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

#[path = "broker/amqp.rs"]
mod amqp;
#[path = "broker/bench.rs"]
mod bench;
#[path = "broker/embedded.rs"]
mod embedded;
#[path = "broker/nodes.rs"]
mod nodes;
#[allow(dead_code, reason = "the store's tests need more of it")]
#[path = "broker/proxy.rs"]
mod proxy;
#[path = "broker/suite.rs"]
mod suite;
#[path = "broker/tls.rs"]
mod tls;

/// Runs the whole suite on a kind of broker: `conformance!(name, make a Bench)`.
macro_rules! conformance {
    ($name:ident, $bench:expr, [$($test:ident),* $(,)?]) => {
        mod $name {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    bench::run($bench, suite::$test).await;
                }
            )*
        }
    };
    ($name:ident, $bench:expr) => {
        conformance!($name, $bench, [
            what_is_published_comes_out_the_same,
            answers_come_in_order_and_complete,
            prefetch_bounds_what_is_out,
            acknowledged_messages_never_come_again,
            requeued_messages_come_again_and_are_counted,
            unacknowledged_messages_come_back_when_the_client_closes,
            dead_letters_are_listed_and_left,
            dead_letters_go_back_to_work,
            two_consumers_share_the_work,
            of_five_thousand_none_is_lost,
            stopping_hands_back_what_was_not_taken,
            tags_twice_and_foreign_tags_do_no_harm,
            events_need_no_listener,
            says_that_and_what_it_is,
            a_closed_client_refuses,
        ]);
    };
}

conformance!(rabbitmq, amqp::RabbitMq::new());
conformance!(embedded_sqlite, embedded::Embedded::on_sqlite().await);
conformance!(embedded_postgres, embedded::Embedded::on_postgres().await);
