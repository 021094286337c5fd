//! Sign-ins that failed, so that nobody tries keys as fast as the store answers.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a failure counts.
const MEMORY: Duration = Duration::from_secs(60);
/// The most failures of one address within that time.
const PER_ADDRESS: usize = 5;
/// The most failures of all addresses within that time. So many are remembered, and no more.
const PER_PROCESS: usize = 60;

/// The sign-ins that failed within the last minute.
#[derive(Debug, Default)]
pub(crate) struct Flood(Mutex<VecDeque<(Instant, IpAddr)>>);

impl Flood {
    /// How long somebody at `address` must wait before the next try; `None`: not at all.
    pub(crate) fn wait(&self, address: IpAddr) -> Option<Duration> {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while failures
            .front()
            .is_some_and(|(at, _)| at.elapsed() >= MEMORY)
        {
            failures.pop_front();
        }
        let network = network(address);
        let own: Vec<Instant> = failures
            .iter()
            .filter(|(_, other)| *other == network)
            .map(|(at, _)| *at)
            .collect();
        let own_oldest = own.len().checked_sub(PER_ADDRESS).map(|first| own[first]);
        let oldest = (failures.len() >= PER_PROCESS).then(|| failures[0].0);
        let frees = [own_oldest, oldest].into_iter().flatten().max()?;
        Some((frees + MEMORY).saturating_duration_since(Instant::now()))
    }

    /// A sign-in from `address` failed.
    pub(crate) fn failed(&self, address: IpAddr) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= PER_PROCESS {
            failures.pop_front();
        }
        failures.push_back((Instant::now(), network(address)));
    }
}

/// One client: an IPv4 address, or a network of IPv6 with a prefix of 64 bits, of which anybody may
/// have all addresses.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn five_failures_of_an_address_and_sixty_of_all_are_enough() {
        let flood = Flood::default();
        let address = |last: u8| IpAddr::from([192, 0, 2, last]);
        for _ in 0..PER_ADDRESS {
            assert_eq!(flood.wait(address(1)), None);
            flood.failed(address(1));
        }
        assert_eq!(flood.wait(address(1)), Some(MEMORY));
        assert_eq!(flood.wait(address(2)), None, "others are not held up");
        tokio::time::advance(MEMORY).await;
        assert_eq!(flood.wait(address(1)), None);
        for last in 0..60 {
            flood.failed(address(last));
        }
        assert_eq!(flood.wait(address(200)), Some(MEMORY), "nobody, for now");
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let at = |text: &str| network(text.parse().unwrap());
        assert_eq!(at("2001:db8::1"), at("2001:db8::ffff:1"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
        assert_eq!(at("::ffff:192.0.2.1"), at("192.0.2.1"));
    }
}
