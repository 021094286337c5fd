//! Which messages of one channel are settled, and with how few acknowledgements to say so. Pure.

use std::collections::BTreeSet;

/// One `basic.ack` or `basic.nack`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Command {
    /// The delivery tag, which counts from 1 on each channel.
    pub tag: u64,
    /// Whether it settles every outstanding message up to the tag as well.
    pub multiple: bool,
}

/// The settled messages of one channel. Tags count from 1, in the order of delivery.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// The highest tag that was delivered.
    delivered: u64,
    /// Every tag up to this one is settled.
    low: u64,
    /// Settled tags above `low`: never more than were delivered and not yet settled below them.
    above: BTreeSet<u64>,
}

impl Settled {
    /// A message came in.
    pub(super) fn delivered(&mut self, tag: u64) {
        self.delivered = self.delivered.max(tag);
    }

    /// Messages that were delivered and not settled.
    pub(super) fn outstanding(&self) -> u64 {
        self.delivered - self.low - self.above.len() as u64
    }

    /// Settles these tags and answers what to send, in this order. A tag that was not delivered or
    /// is settled already is left out: acknowledging it would make RabbitMQ close the channel.
    ///
    /// The run that starts at the oldest outstanding message goes as one `multiple` command at its
    /// highest tag settled now; those above the first gap go one by one.
    pub(super) fn settle(&mut self, tags: impl IntoIterator<Item = u64>) -> Vec<Command> {
        let mut fresh: Vec<u64> = tags
            .into_iter()
            .filter(|tag| (1..=self.delivered).contains(tag) && self.take(*tag))
            .collect();
        fresh.sort_unstable();
        // The low mark moves over what was settled out of order before, so that `above` holds only
        // what waits for a gap to close.
        while self.above.remove(&(self.low + 1)) {
            self.low += 1;
        }
        // Only tags that are settled now may be named: RabbitMQ closes the channel at a tag that it
        // does not know any more.
        let run = fresh.partition_point(|tag| *tag <= self.low);
        let mut commands = Vec::with_capacity(fresh.len() - run + 1);
        if run > 0 {
            commands.push(Command {
                tag: fresh[run - 1],
                multiple: run > 1,
            });
        }
        commands.extend(fresh[run..].iter().map(|tag| Command {
            tag: *tag,
            multiple: false,
        }));
        commands
    }

    fn take(&mut self, tag: u64) -> bool {
        tag > self.low && self.above.insert(tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What RabbitMQ does with acknowledgements: an unknown tag closes the channel.
    #[derive(Default)]
    struct Channel {
        unacknowledged: BTreeSet<u64>,
    }

    impl Channel {
        fn apply(&mut self, command: Command) -> Vec<u64> {
            assert!(
                self.unacknowledged.contains(&command.tag),
                "unknown delivery tag {}",
                command.tag
            );
            let low = if command.multiple { 0 } else { command.tag };
            let settled: Vec<u64> = self
                .unacknowledged
                .range(low..=command.tag)
                .copied()
                .collect();
            self.unacknowledged.retain(|tag| !settled.contains(tag));
            settled
        }
    }

    fn settled_up_to(count: u64) -> Settled {
        let mut settled = Settled::default();
        (1..=count).for_each(|tag| settled.delivered(tag));
        settled
    }

    #[test]
    fn a_run_is_one_command() {
        let mut settled = settled_up_to(100);
        assert_eq!(
            settled.settle(1..=50),
            [Command {
                tag: 50,
                multiple: true
            }]
        );
        assert_eq!(
            settled.settle([51]),
            [Command {
                tag: 51,
                multiple: false
            }]
        );
    }

    #[test]
    fn above_a_gap_each_goes_alone_and_the_gap_closes_with_one() {
        let mut settled = settled_up_to(6);
        assert_eq!(
            settled.settle([4, 5]),
            [4, 5].map(|tag| Command {
                tag,
                multiple: false
            })
        );
        assert_eq!(
            settled.settle([3, 1, 2]),
            [Command {
                tag: 3,
                multiple: true
            }]
        );
        assert_eq!(
            settled.settle([6]),
            [Command {
                tag: 6,
                multiple: false
            }]
        );
    }

    #[test]
    fn tags_twice_or_never_delivered_are_left_out() {
        let mut settled = settled_up_to(3);
        assert_eq!(
            settled.settle([0, 2, 2, 4]),
            [Command {
                tag: 2,
                multiple: false
            }]
        );
        assert_eq!(settled.settle([2]), []);
        assert_eq!(
            settled.settle([1, 3]),
            [Command {
                tag: 3,
                multiple: true
            }]
        );
    }

    proptest! {
        /// Every tag is acknowledged exactly once, and no command touches one that nobody settled.
        #[test]
        fn settles_each_exactly_once(
            order in Just((1..=60u64).collect::<Vec<_>>()).prop_shuffle(),
            sizes in prop::collection::vec(1..12usize, 60),
            leave in 0..20usize,
            repeat in any::<bool>(),
        ) {
            let mut settled = settled_up_to(60);
            let mut channel = Channel { unacknowledged: (1..=60).collect() };
            let done = &order[..order.len() - leave];
            let mut rest = done;
            for size in sizes {
                let (batch, later) = rest.split_at(size.min(rest.len()));
                rest = later;
                let mut asked: Vec<u64> = batch.to_vec();
                if repeat {
                    asked.extend(batch.iter().copied());
                }
                let mut got: Vec<u64> = settled
                    .settle(asked)
                    .into_iter()
                    .flat_map(|command| channel.apply(command))
                    .collect();
                got.sort_unstable();
                let mut expected = batch.to_vec();
                expected.sort_unstable();
                prop_assert_eq!(got, expected);
            }
            prop_assert_eq!(channel.unacknowledged.len(), leave + rest.len());
            prop_assert_eq!(settled.outstanding(), (leave + rest.len()) as u64);
        }
    }
}
