//! Asking first: the preflight of an attempt, or the grant that an earlier one left.

use super::classify::classify;
use super::preflight::{HeldGrant, Turn};
use super::sign::ask_first;
use super::under_way::Attempt;
use super::{Attempter, FinishedAttempt, spans};
use crate::wire::{self, Grant, Preflight, RenderError};

/// What was learnt from asking first.
pub(super) enum Preflighted {
    Granted(Grant),
    Refused(Box<FinishedAttempt>),
    TooSoon(f64),
}

impl Attempter {
    /// Asks first, unless what was granted before still holds.
    pub(super) async fn ask(
        &self,
        attempt: &Attempt<'_>,
        preflight: Preflight,
    ) -> Result<Preflighted, RenderError> {
        let endpoint = attempt.subject.endpoint;
        if !preflight.kept {
            return self.ask_now(attempt, preflight).await;
        }
        let grant = self.grants.of(&endpoint.id, &preflight.url);
        let mut grant = grant.lock().await;
        // Taken out: where asking fails, nothing is left, and the next delivery asks again.
        let mut held = match grant.take().filter(|held| held.holds(endpoint)) {
            Some(held) => held,
            None => match self.ask_now(attempt, preflight).await? {
                Preflighted::Granted(grant) => HeldGrant::new(endpoint, grant),
                other => return Ok(other),
            },
        };
        let turn = held.turn();
        *grant = Some(held);
        // Unlocked before the turn is waited for: the deliveries behind this one take their turns
        // meanwhile, each later than the one before.
        drop(grant);
        match turn {
            Turn::At(turn, grant) => {
                tokio::time::sleep_until(turn).await;
                Ok(Preflighted::Granted(grant))
            }
            Turn::Later(rate) => Ok(Preflighted::TooSoon(rate)),
        }
    }

    async fn ask_now(
        &self,
        attempt: &Attempt<'_>,
        preflight: Preflight,
    ) -> Result<Preflighted, RenderError> {
        let what = preflight.what;
        let endpoint = attempt.subject.endpoint;
        let span = spans::request(attempt.span, &preflight.method, Some(what));
        let request = match ask_first(preflight) {
            Ok(request) => request,
            Err(error) => {
                span.discard();
                return Err(error);
            }
        };
        let reading = wire::of(endpoint.wire_format).preflight_reading();
        let exchange = self.exchange(attempt, &request, reading, span).await;
        let over = self.clock.now();
        let refused = match &exchange.result {
            Ok(reply) => match wire::of(endpoint.wire_format).grant(endpoint, reply, over) {
                Ok(grant) => return Ok(Preflighted::Granted(grant)),
                Err(outcome) => outcome,
            },
            Err(_) => classify(endpoint, &exchange.result, over).about(what),
        };
        // What it answered is not kept: it may have a token in it.
        let finished = attempt.finished(request, exchange, refused, over);
        Ok(Preflighted::Refused(Box::new(FinishedAttempt {
            reply: None,
            ..finished
        })))
    }
}
