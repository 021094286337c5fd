//! Messages that came in and were not yet handed out.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::broker::Incoming;

/// Holds at most the prefetch of one channel: it is emptied before the next channel fills it.
#[derive(Default)]
pub(super) struct Inbox {
    held: Mutex<Held>,
    changed: Notify,
}

#[derive(Default)]
struct Held {
    messages: VecDeque<Incoming>,
    closed: bool,
}

impl Inbox {
    /// Waits for messages and takes at most `max`; `None` once closed. Cancel-safe: nothing is
    /// taken before it is returned.
    pub(super) async fn take(&self, max: usize) -> Option<Vec<Incoming>> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Registered before the look: `close` wakes with `notify_waiters`, which passes over a
            // waiter that looked before it and registers after it.
            changed.as_mut().enable();
            {
                let mut held = self.held();
                if held.closed {
                    return None;
                }
                let count = held.messages.len().min(max.max(1));
                if count > 0 {
                    return Some(held.messages.drain(..count).collect());
                }
            }
            changed.await;
        }
    }

    pub(super) fn push(&self, message: Incoming) {
        self.held().messages.push_back(message);
        self.changed.notify_one();
    }

    /// Takes out what nobody has taken.
    pub(super) fn empty(&self) -> Vec<Incoming> {
        self.held().messages.drain(..).collect()
    }

    /// No more messages, now and later. Answers with what nobody has taken.
    pub(super) fn close(&self) -> Vec<Incoming> {
        self.held().closed = true;
        // Two may wait here: whoever takes messages, and whoever waits for the end.
        self.changed.notify_waiters();
        self.changed.notify_one();
        self.empty()
    }

    /// Waits until it is closed.
    pub(super) async fn closed(&self) {
        while self.take_nothing().await {}
    }

    async fn take_nothing(&self) -> bool {
        let mut changed = std::pin::pin!(self.changed.notified());
        changed.as_mut().enable();
        if self.held().closed {
            return false;
        }
        changed.await;
        true
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
