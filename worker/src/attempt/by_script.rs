//! An attempt by a script in the place of the request.

use bytes::Bytes;
use posthaste_shared::domain::attempt::{AttemptResult, Phases};

use super::failure::script_failed;
use super::sign::script_call;
use super::under_way::Attempt;
use super::{Attempter, FinishedAttempt, NotMade, spans};
use crate::script::{Call, Returned, Returns, ScriptError, Uncompiled};
use crate::wire::{self, RenderError, Rendered, Reply};

impl Attempter {
    /// The script in the place of the request. What it returns is read as an answer's body.
    pub(super) async fn call_script(
        &self,
        attempt: &Attempt<'_>,
        source: &str,
        rendered: Rendered,
    ) -> Result<Box<FinishedAttempt>, NotMade> {
        let endpoint = attempt.subject.endpoint;
        let script = match self
            .scripts
            .script(&endpoint.tenant, source, attempt.deadline())
            .await
        {
            Ok(script) => script,
            Err(Uncompiled::Refused(problem)) => {
                return Err(RenderError::new(
                    "settings.script",
                    format!("cannot be run: {problem}"),
                )
                .into());
            }
            Err(Uncompiled::Busy(_)) => return Err(NotMade::Busy),
        };
        let request = script_call(rendered.body);
        let argument = String::from_utf8_lossy(request.body());
        let mut span = spans::script(attempt.span, "run script");
        let call = Call {
            deadline: attempt.deadline(),
            network: true,
            // Requests of the script count as a hop further, or a script that calls Posthaste again
            // could go round without end.
            hops: attempt.subject.notification.hops.next(),
            returns: Returns::Json,
        };
        let called = self
            .scripts
            .call(&endpoint.tenant, &script, &argument, call)
            .await;
        let over = self.clock.now();
        let (reply, result, outcome) = match called.result {
            Ok(returned) => {
                let body = match returned {
                    Returned::Json(json) => json.into(),
                    Returned::Nothing => Bytes::new(),
                };
                // Wire formats read answers: to them the script is a receiver that answered 200
                // with what it returned.
                let reply = Reply::whole(200, http::HeaderMap::new(), body);
                let outcome = wire::of(endpoint.wire_format).classify(endpoint, &reply, over);
                (Some(reply), AttemptResult::Script, outcome)
            }
            Err(ScriptError::Busy) => {
                span.discard();
                return Err(NotMade::Busy);
            }
            Err(error) => {
                let (result, outcome) = script_failed(endpoint, error);
                if let Some(error) = outcome.error() {
                    span.fail(error.code.clone());
                }
                (None, result, outcome)
            }
        };
        drop(span);
        let console = Some(called.console).filter(|text| !text.is_empty());
        Ok(Box::new(FinishedAttempt {
            request: Some(request),
            reply,
            status_code: None,
            outcome,
            result,
            duration: attempt.begun.elapsed(),
            phases: Phases::default(),
            address: None,
            console,
            keep: None,
            rate_per_second: None,
            over,
        }))
    }
}
