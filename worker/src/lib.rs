//! Posthaste's worker: takes notifications from the broker, delivers them to webhooks, and records
//! the results.
//!
//! Each folder imports only those below it, which a test holds (`tests/imports.rs`):
//!
//! 1. [`worker`] puts the parts together, starts and stops them; [`probe`] makes one attempt for
//!    the API's `test`.
//! 2. [`background`]: the scheduler, the outbox relay and the slow work.
//! 3. [`pipeline`]: the way of a delivery from the message to its record.
//! 4. [`attempt`]: one HTTP exchange of a delivery, or one call of the script in its place.
//! 5. [`wire`]: the wire formats, all of it pure.
//! 6. [`script`]: the engine that runs scripts.
//! 7. [`send`]: the HTTP client.

pub mod attempt;
pub mod background;
pub mod pipeline;
#[cfg(feature = "simulation")]
pub mod planted;
pub mod probe;
pub mod script;
pub mod send;
pub mod wire;
pub mod worker;
