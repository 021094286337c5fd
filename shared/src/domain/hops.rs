//! How often Posthaste itself has sent what a notification came from. An endpoint may lead back to
//! the API that sends to it; each time round the number grows by one, and the API refuses what has
//! come round too often.

use std::fmt;

/// The header, of HTTP requests and of AMQP messages, with the number in decimal digits.
pub const HEADER: &str = "posthaste-hops";

/// The `User-Agent` of what workers send. It stands for one time where there is no [`HEADER`], so
/// that what is sent for the first time needs none.
pub const AGENT: &str = concat!("Posthaste/", env!("CARGO_PKG_VERSION"));
/// What every version's [`AGENT`] begins with.
const AGENT_NAME: &str = "Posthaste/";

/// A number of times; 0 for what a producer enqueued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hops(u32);

impl Hops {
    /// The most that is accepted. One Posthaste that feeds another needs 1 for each of them. Not
    /// more, because a circle may also grow: n endpoints that lead back to the API make n times as
    /// many notifications each time round.
    pub const MAX: Self = Self(3);

    /// That number of times.
    #[must_use]
    pub const fn new(times: u32) -> Self {
        Self(times)
    }

    /// The number of times that Posthaste has sent it.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Once more: what a delivery is sent with.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Reads a header's value. One that is not a number counts as none: whoever writes it is not
    /// Posthaste. One that is too large for a number counts as the largest.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let digits = text.trim();
        // Anybody may send this header, and a value that is not a number must not lock anybody out.
        // `parse` alone would take `+3`.
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Self(0);
        }
        // Digits that do not fit are a large number, and not none: a circle must not get through by
        // overflowing.
        Self(digits.parse().unwrap_or(u32::MAX))
    }

    /// What a request's `User-Agent` says.
    #[must_use]
    pub fn of_agent(agent: &str) -> Self {
        Self(u32::from(agent.starts_with(AGENT_NAME)))
    }

    /// Whether this is more than is accepted.
    #[must_use]
    pub fn is_too_many(self) -> bool {
        self > Self::MAX
    }
}

impl fmt::Display for Hops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_takes_anything_else_for_none_or_for_too_many() {
        let once = Hops::default().next();
        assert_eq!(Hops::parse(&once.to_string()), once);
        for none in ["", "-1", "two", "1.0"] {
            assert_eq!(Hops::parse(none), Hops::default(), "{none}");
        }
        assert!(!Hops::MAX.is_too_many() && Hops::MAX.next().is_too_many());
        assert!(Hops::parse("99999999999999999999").is_too_many());
        assert_eq!(Hops::new(u32::MAX).next(), Hops::new(u32::MAX));
        assert_eq!(Hops::of_agent(AGENT), Hops::default().next());
        assert_eq!(Hops::of_agent("posthaste-cli/1.0"), Hops::default());
    }
}
