//! Faults that `tests/simulation` plants, to show that it finds them. Behind the feature
//! `simulation` (see `Cargo.toml`), and off until a thread turns one on for itself.

use std::cell::Cell;

thread_local! {
    static ROUTES_TWICE: Cell<bool> = const { Cell::new(false) };
}

/// Whether notifications of this thread are routed to their first endpoint twice.
pub fn route_twice(twice: bool) {
    ROUTES_TWICE.set(twice);
}

/// The endpoints that a notification goes to, with the planted fault if there is one.
pub(crate) fn routed<T: Clone>(mut chosen: Vec<T>) -> Vec<T> {
    if ROUTES_TWICE.get()
        && let Some(first) = chosen.first().cloned()
    {
        chosen.push(first);
    }
    chosen
}
