//! How the receiver answers.

use std::collections::VecDeque;
use std::time::Duration;

use axum::http::HeaderValue;
use tokio::time::Instant;

/// What answers look like. The default takes everything with 200.
#[derive(Debug, Clone)]
pub(crate) struct Behaviour {
    /// HTTP status of the answers.
    pub(crate) status: u16,
    /// How many requests fail before the others are taken.
    pub(crate) fail_first: Option<u64>,
    /// Requests are never answered.
    pub(crate) hang: bool,
    /// How long to wait before each answer.
    pub(crate) delay: Duration,
    /// `Retry-After` of failures, in seconds.
    pub(crate) retry_after: Option<u64>,
    /// The most requests a second; faster ones are answered 429.
    pub(crate) rate_limit: Option<Rate>,
    /// Body of the answers.
    pub(crate) body: String,
    /// The answer to senders that ask for consent first; `None`: as to any other request.
    pub(crate) consent: Option<Consent>,
}

/// Consent to deliveries, by the webhook rules of `CloudEvents`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Consent {
    /// To whom: a DNS name, or `*` for everybody.
    pub(crate) origin: HeaderValue,
    /// The most requests a minute.
    pub(crate) rate: Option<u32>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            status: 200,
            fail_first: None,
            hang: false,
            delay: Duration::ZERO,
            retry_after: None,
            rate_limit: None,
            body: String::new(),
            consent: None,
        }
    }
}

/// The most requests in any second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate(pub(crate) usize);

impl Rate {
    /// Parses `10/s` or `10`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix("/s").unwrap_or(text);
        match number.parse() {
            Ok(rate @ 1..=1_000_000) => Ok(Self(rate)),
            _ => Err("must be a number of requests a second, such as 10/s".to_owned()),
        }
    }
}

/// Chooses the status of each answer.
#[derive(Debug, Default)]
pub(super) struct Course {
    requests: u64,
    taken: VecDeque<Instant>,
}

impl Course {
    /// The status of the next answer, to a request that came at `now`.
    pub(super) fn next(&mut self, behaviour: &Behaviour, now: Instant) -> u16 {
        if behaviour
            .rate_limit
            .is_some_and(|rate| self.over(rate, now))
        {
            // Throttled requests do not count for `fail_first`: they end before the receiver looks
            // at them.
            return 429;
        }
        self.requests += 1;
        match behaviour.fail_first {
            None => behaviour.status,
            Some(failing) if self.requests <= failing && behaviour.status >= 300 => {
                behaviour.status
            }
            // The status may be that of a success, as it is by default; then the failures are 503.
            Some(failing) if self.requests <= failing => 503,
            Some(_) if behaviour.status < 300 => behaviour.status,
            Some(_) => 200,
        }
    }

    fn over(&mut self, rate: Rate, now: Instant) -> bool {
        // A sliding window over what was taken. Throttled requests are not in it, so a sender that
        // goes on too fast still gets its share through.
        while self
            .taken
            .front()
            .is_some_and(|at| now.duration_since(*at) >= Duration::from_secs(1))
        {
            self.taken.pop_front();
        }
        let over = self.taken.len() >= rate.0;
        if !over {
            self.taken.push_back(now);
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fails_first_and_then_takes_it() {
        let statuses = |behaviour: &Behaviour| {
            let mut course = Course::default();
            [(); 4].map(|()| course.next(behaviour, Instant::now()))
        };
        assert_eq!(statuses(&Behaviour::default()), [200; 4]);
        assert_eq!(
            statuses(&Behaviour {
                fail_first: Some(2),
                ..Behaviour::default()
            }),
            [503, 503, 200, 200]
        );
        assert_eq!(
            statuses(&Behaviour {
                fail_first: Some(1),
                status: 500,
                ..Behaviour::default()
            }),
            [500, 200, 200, 200]
        );
        assert_eq!(
            statuses(&Behaviour {
                status: 410,
                ..Behaviour::default()
            }),
            [410; 4]
        );
    }

    #[test]
    fn throttles_over_its_rate() {
        let behaviour = Behaviour {
            rate_limit: Some(Rate(2)),
            ..Behaviour::default()
        };
        let mut course = Course::default();
        let start = Instant::now();
        let mut at = |ms: u64| course.next(&behaviour, start + Duration::from_millis(ms));
        assert_eq!(
            [at(0), at(1), at(2), at(999), at(1000), at(1001), at(1500)],
            [200, 200, 429, 429, 200, 200, 429]
        );
        assert_eq!(Rate::parse("10/s"), Ok(Rate(10)));
        assert!(Rate::parse("0").is_err());
    }
}
