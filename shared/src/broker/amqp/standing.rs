//! Whether RabbitMQ still knows a consumer, and when the consumer had better subscribe again.
//!
//! A queue that is deleted and declared again within milliseconds takes its consumers with it
//! without a word: no `basic.cancel` comes, and the channel stays open. RabbitMQ 3.10 may even go
//! on counting such a consumer, and hand it messages that its channel drops: then the queue has
//! nothing ready, and nothing shows that it is amiss. So a consumer that gets nothing looks at the
//! queue now and then. A subscription cannot be asked for by its name, only how many the queue
//! counts; so one that was quiet for long is renewed in any case, which costs a few round trips and
//! nothing else.

use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::side_channel::Counts;
use crate::broker::Consuming;

/// How long after the last message, or the last look, a consumer looks at its queue.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long a consumer may get nothing before it subscribes again without a further reason. Looked
/// at every [`LOOK_EVERY`], so a consumer that the queue counts and does not serve is back within
/// 15 s, half of what is promised: on a busy machine RabbitMQ's answers take seconds, too.
const RENEW_AFTER: Duration = Duration::from_secs(10);
/// How long two subscriptions of a worker that renews its own may be counted side by side.
pub(super) const SETTLE: Duration = Duration::from_millis(500);
/// How soon after a renewal messages are taken for those that the subscription before should have
/// got. RabbitMQ hands them out within milliseconds; on a busy machine it takes longer.
pub(super) const CAME_BACK: Duration = Duration::from_secs(5);
/// How long whoever asks waits for the consumer to look.
const ANSWER: Duration = Duration::from_millis(1500);

/// What a consumer sees when it looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sight {
    /// How long no message has come.
    pub(super) quiet_for: Duration,
    /// Messages that it holds unacknowledged.
    pub(super) outstanding: u64,
    pub(super) prefetch: u16,
    /// How many consumers the queue had when it was last looked at.
    pub(super) counted: u32,
    pub(super) queue: Counts,
}

/// What the supervisor does after a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Keep,
    Renew,
}

impl Sight {
    /// Whether something suggests that the queue has forgotten the consumer.
    pub(super) fn is_doubtful(&self) -> bool {
        self.has_lost_some() || self.is_passed_over()
    }

    fn has_lost_some(&self) -> bool {
        self.queue.consumers < self.counted
    }

    /// Whether the queue has messages that this consumer does not get.
    pub(super) fn is_passed_over(&self) -> bool {
        self.queue.ready > 0 && self.quiet_for >= LOOK_EVERY
    }
}

/// Whether to subscribe again. What is held stays held, so it may become as much as twice the
/// prefetch.
pub(super) fn judge(sight: Sight) -> Verdict {
    let prefetch = u64::from(sight.prefetch);
    let quiet = sight.quiet_for >= RENEW_AFTER;
    let renew = if sight.has_lost_some() {
        // Perhaps this one is not among those that are left, and then what it holds is gone from
        // the queue.
        sight.outstanding < 2 * prefetch
    } else {
        sight.outstanding < prefetch && (sight.is_passed_over() || quiet)
    };
    if renew { Verdict::Renew } else { Verdict::Keep }
}

/// How a consumer stands, for those who ask whether it gets work.
pub(super) struct Standing {
    state: watch::Sender<State>,
    ask: Notify,
}

#[derive(Debug, Clone, Copy)]
struct State {
    phase: Phase,
    /// How many consumers the queue had when it was last looked at.
    counted: u32,
    /// The number of looks so far.
    looks: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Away,
    Subscribed,
    Ended,
}

impl Standing {
    /// Of a consumer that has not subscribed yet.
    pub(super) fn new() -> Self {
        Self {
            state: watch::Sender::new(State {
                phase: Phase::Away,
                counted: 0,
                looks: 0,
            }),
            ask: Notify::new(),
        }
    }

    /// It is subscribed, and the queue counts this number of consumers.
    pub(super) fn seen(&self, counted: u32) {
        self.state.send_modify(|state| {
            *state = State {
                phase: Phase::Subscribed,
                counted,
                looks: state.looks.wrapping_add(1),
            };
        });
    }

    /// It has no channel.
    pub(super) fn away(&self) {
        self.state.send_modify(|state| state.phase = Phase::Away);
    }

    /// It wants no more work.
    pub(super) fn ended(&self) {
        self.state.send_modify(|state| state.phase = Phase::Ended);
    }

    /// How many consumers the queue had when it was last looked at.
    pub(super) fn counted(&self) -> u32 {
        self.state.borrow().counted
    }

    /// Returns when somebody wants the consumer to look at its queue.
    pub(super) async fn asked(&self) {
        self.ask.notified().await;
    }

    /// Whether it gets work, where the queue counts `consumers` now. With fewer of them than before
    /// it may be this one that is missing: then it looks, and subscribes again, before this
    /// answers.
    pub(super) async fn check(&self, consumers: u32) -> Consuming {
        let mut state = self.state.subscribe();
        // Read before asking: the look that answers has to be one that began after this question.
        let before = *state.borrow_and_update();
        match before.phase {
            Phase::Ended => return Consuming::NoConsumer,
            Phase::Away => return Consuming::NotSubscribed,
            Phase::Subscribed if consumers >= before.counted => return Consuming::Subscribed,
            // `notify_one` keeps its permit when the consumer is not waiting just now, so that the
            // question is not lost while it is busy.
            Phase::Subscribed => self.ask.notify_one(),
        }
        let looked =
            |state: &State| state.looks != before.looks || state.phase != Phase::Subscribed;
        match timeout(ANSWER, state.wait_for(looked)).await {
            Ok(Ok(state)) if state.phase == Phase::Subscribed => Consuming::Subscribed,
            _ => Consuming::NotSubscribed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE: Counts = Counts {
        ready: 0,
        consumers: 2,
    };
    const CALM: Sight = Sight {
        quiet_for: LOOK_EVERY,
        outstanding: 3,
        prefetch: 10,
        counted: 2,
        queue: QUEUE,
    };

    #[test]
    fn a_consumer_that_gets_its_work_is_left_alone() {
        assert_eq!(judge(CALM), Verdict::Keep);
        let busy = Sight {
            quiet_for: Duration::ZERO,
            queue: Counts {
                ready: 900,
                ..QUEUE
            },
            ..CALM
        };
        assert_eq!(judge(busy), Verdict::Keep);
        let full = Sight {
            quiet_for: 9 * RENEW_AFTER,
            outstanding: 10,
            queue: Counts { ready: 9, ..QUEUE },
            ..CALM
        };
        assert_eq!(judge(full), Verdict::Keep);
        let joined = Sight {
            queue: Counts {
                consumers: 5,
                ..QUEUE
            },
            ..CALM
        };
        assert_eq!(judge(joined), Verdict::Keep);
    }

    #[test]
    fn one_that_may_have_been_forgotten_subscribes_again() {
        for forgotten in [
            Sight {
                queue: Counts {
                    consumers: 1,
                    ..QUEUE
                },
                ..CALM
            },
            Sight {
                queue: Counts {
                    consumers: 0,
                    ready: 0,
                },
                outstanding: 10,
                ..CALM
            },
            Sight {
                queue: Counts { ready: 1, ..QUEUE },
                ..CALM
            },
            Sight {
                quiet_for: RENEW_AFTER,
                ..CALM
            },
        ] {
            assert_eq!(judge(forgotten), Verdict::Renew, "{forgotten:?}");
        }
        let holds_too_much = Sight {
            queue: Counts {
                consumers: 0,
                ready: 0,
            },
            outstanding: 20,
            ..CALM
        };
        assert_eq!(judge(holds_too_much), Verdict::Keep);
    }

    #[tokio::test(start_paused = true)]
    async fn a_missing_consumer_is_asked_to_look_before_it_is_believed() {
        let standing = Standing::new();
        assert_eq!(standing.check(1).await, Consuming::NotSubscribed);
        standing.seen(2);
        assert_eq!(standing.check(3).await, Consuming::Subscribed);
        // Nobody looks.
        assert_eq!(standing.check(1).await, Consuming::NotSubscribed);
        let look = async {
            standing.asked().await;
            standing.seen(1);
        };
        let (answer, ()) = tokio::join!(standing.check(1), look);
        assert_eq!(answer, Consuming::Subscribed);
        standing.ended();
        assert_eq!(standing.check(0).await, Consuming::NoConsumer);
    }
}
