//! One conformance suite for every broker, and what only RabbitMQ must do.
//!
//! URLs are taken from `POSTHASTE_TEST_AMQP_URL` and `POSTHASTE_TEST_POSTGRES_URL`; each test has
//! queues, a schema or a file of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

#[path = "broker/amqp.rs"]
mod amqp;
#[path = "broker/amqp_bench.rs"]
mod amqp_bench;
#[path = "broker/bench.rs"]
mod bench;
#[path = "broker/deaf.rs"]
mod deaf;
#[path = "broker/embedded.rs"]
mod embedded;
#[path = "broker/nodes.rs"]
mod nodes;
#[allow(dead_code, reason = "the store's tests need more of it")]
#[path = "broker/proxy.rs"]
mod proxy;
#[path = "broker/redrive.rs"]
mod redrive;
#[path = "broker/suite.rs"]
mod suite;
#[path = "broker/tls.rs"]
mod tls;

/// Runs the whole suite on a kind of broker: `conformance!(name, make a Bench)`.
macro_rules! conformance {
    ($name:ident, $bench:expr, [$($suite:ident::$test:ident),* $(,)?]) => {
        mod $name {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    bench::run($bench, $suite::$test).await;
                }
            )*
        }
    };
    ($name:ident, $bench:expr) => {
        conformance!($name, $bench, [
            suite::what_is_published_comes_out_the_same,
            suite::answers_come_in_order_and_complete,
            suite::prefetch_bounds_what_is_out,
            suite::acknowledged_messages_never_come_again,
            suite::requeued_messages_come_again_and_are_counted,
            suite::unacknowledged_messages_come_back_when_the_client_closes,
            suite::dead_letters_are_listed_and_left,
            suite::dead_letters_go_back_to_work,
            suite::two_consumers_share_the_work,
            suite::of_five_thousand_none_is_lost,
            suite::stopping_hands_back_what_was_not_taken,
            suite::tags_twice_and_foreign_tags_do_no_harm,
            suite::events_need_no_listener,
            suite::says_that_and_what_it_is,
            suite::a_closed_client_refuses,
            redrive::a_hundred_dead_letters_go_back_once,
            redrive::dead_letters_beyond_a_window_go_back_once,
            redrive::three_thousand_dead_letters_go_back_once,
            redrive::dead_letters_chosen_by_id_go_back_once,
            redrive::looking_at_many_dead_letters_moves_none,
            redrive::what_cannot_be_decoded_is_counted,
            redrive::what_was_acknowledged_before_the_end_never_comes_again,
        ]);
    };
}

conformance!(rabbitmq, amqp_bench::RabbitMq::new());
conformance!(embedded_sqlite, embedded::Embedded::on_sqlite().await);
conformance!(embedded_postgres, embedded::Embedded::on_postgres().await);
