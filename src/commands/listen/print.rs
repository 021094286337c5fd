//! What `posthaste listen` prints.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::server::Received;
use super::verify::Verified;
use crate::failure::Failure;
use crate::output::{Output, Styled, count, safe};

/// Headers that every HTTP client sends and that tell nothing.
const DULL: [&str; 6] = [
    "host",
    "content-length",
    "accept",
    "accept-encoding",
    "connection",
    "user-agent",
];
const GREEN: u8 = 32;
const RED: u8 = 31;
const DIM: u8 = 2;

/// Prints requests, or counts of them.
pub(super) struct Printer {
    output: Output,
    quiet: bool,
}

/// How many requests came, and how they were answered.
#[derive(Default)]
pub(super) struct Counts {
    requests: u64,
    unverified: u64,
    verified: u64,
    answers: BTreeMap<String, u64>,
    printed: u64,
}

impl Counts {
    pub(super) fn add(&mut self, received: &Received) {
        self.requests += 1;
        self.unverified += u64::from(matches!(received.verified, Verified::Bad(_)));
        self.verified += u64::from(received.verified == Verified::Good);
        let answer = received
            .answer
            .map_or_else(|| "none".to_owned(), |status| status.to_string());
        *self.answers.entry(answer).or_default() += 1;
    }

    pub(super) const fn requests(&self) -> u64 {
        self.requests
    }

    pub(super) const fn unverified(&self) -> u64 {
        self.unverified
    }
}

impl Printer {
    pub(super) const fn new(output: Output, quiet: bool) -> Self {
        Self { output, quiet }
    }

    /// Says where the receiver listens.
    pub(super) fn start(&self, address: SocketAddr, checking: bool) -> Result<(), Failure> {
        if self.output.json {
            return Ok(self
                .output
                .ndjson(&json!({"listening": address.to_string()}))?);
        }
        let remark = if checking {
            ""
        } else {
            " Signatures are not verified: give --secret whsec_… for that."
        };
        Ok(self.output.line(format_args!(
            "Listening on http://{address}/ (Ctrl-C ends).{remark}"
        ))?)
    }

    /// Prints one request, unless `--quiet` is given.
    pub(super) fn received(&self, received: &Received) -> Result<(), Failure> {
        if self.quiet {
            return Ok(());
        }
        if self.output.json {
            return Ok(self.output.ndjson(&as_json(received))?);
        }
        Ok(self.output.show(&as_text(received))?)
    }

    /// With `--quiet`, once a second: how many there are, if there are more.
    pub(super) fn counts(&self, counts: &mut Counts) -> Result<(), Failure> {
        // A second without requests prints nothing.
        if !self.quiet || counts.requests == counts.printed {
            return Ok(());
        }
        let new = counts.requests - counts.printed;
        counts.printed = counts.requests;
        if self.output.json {
            return Ok(self.output.ndjson(&totals(counts))?);
        }
        Ok(self.output.line(format_args!(
            "{} (+{new}), {}",
            count(counts.requests, "request"),
            answers(counts)
        ))?)
    }

    /// The sum at the end.
    pub(super) fn end(&self, counts: &Counts) -> Result<(), Failure> {
        if self.output.json {
            // Without --quiet each line of JSON is a request, and a sum would break that.
            return if self.quiet {
                Ok(self.output.ndjson(&totals(counts))?)
            } else {
                Ok(())
            };
        }
        let verified = if counts.verified + counts.unverified > 0 {
            format!(", {} verified, {} not", counts.verified, counts.unverified)
        } else {
            String::new()
        };
        Ok(self.output.line(format_args!(
            "{}{verified}. {}",
            count(counts.requests, "request"),
            answers(counts)
        ))?)
    }
}

fn totals(counts: &Counts) -> Value {
    json!({
        "requests": counts.requests, "verified": counts.verified, "unverified": counts.unverified,
        "answers": counts.answers,
    })
}

fn answers(counts: &Counts) -> String {
    // A BTreeMap, so the statuses are in order and two runs can be compared.
    let each = counts
        .answers
        .iter()
        .map(|(answer, count)| format!("{answer}: {count}"));
    format!("Answers: {}", each.collect::<Vec<_>>().join(", "))
}

fn as_text(received: &Received) -> Styled {
    // Line breaks in method and path are escaped as well: what a sender writes stays on this line.
    let text = Styled::plain(format_args!(
        "{} #{} {} {} → ",
        received.at,
        received.number,
        safe::line(&received.method),
        safe::line(&received.path)
    ));
    let text = match received.answer {
        None => text.then("no answer"),
        Some(status) => text.painted(status, if status < 300 { GREEN } else { RED }),
    };
    let mut text = match &received.verified {
        Verified::Unchecked => text,
        Verified::Good => text.then("  ").painted("signature verified", GREEN),
        Verified::Bad(why) => text
            .then("  ")
            .painted(format_args!("NOT VERIFIED: {why}"), RED),
    };
    for (name, value) in &received.headers {
        if !DULL.contains(&name.as_str()) {
            let value = String::from_utf8_lossy(value.as_bytes());
            text = text
                .then("\n  ")
                .painted(format_args!("{name}: {}", safe::line(&value)), DIM);
        }
    }
    for line in body(received).lines() {
        text = text.then(format_args!("\n  {line}"));
    }
    text
}

/// JSON indented, anything else as it is.
fn body(received: &Received) -> String {
    match serde_json::from_slice::<Value>(&received.body) {
        // Only objects and arrays are indented: a number or a text is shown as it was written.
        Ok(value @ (Value::Object(_) | Value::Array(_))) => {
            serde_json::to_string_pretty(&value).unwrap_or_default()
        }
        _ => String::from_utf8_lossy(&received.body).into_owned(),
    }
}

fn as_json(received: &Received) -> Value {
    let (verified, problem) = match &received.verified {
        Verified::Unchecked => (Value::Null, Value::Null),
        Verified::Good => (true.into(), Value::Null),
        Verified::Bad(why) => (false.into(), why.as_str().into()),
    };
    json!({
        "number": received.number,
        "at": received.at,
        "method": received.method,
        "path": received.path,
        "headers": all_headers(&received.headers),
        "body": String::from_utf8_lossy(&received.body),
        "verified": verified,
        "problem": problem,
        "answer": received.answer,
    })
}

fn all_headers(headers: &HeaderMap) -> Value {
    let mut object = serde_json::Map::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        match object.get_mut(name.as_str()) {
            // Several headers of one name are the same as one with commas (RFC 9110, section 5.3).
            Some(Value::String(known)) => known.push_str(&format!(", {value}")),
            _ => drop(object.insert(name.to_string(), value.into())),
        }
    }
    object.into()
}
