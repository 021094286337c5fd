//! Posthaste's worker: takes notifications from the broker, delivers them to webhooks, and records what
//! came of it. [`deliver`] reads as the list of the steps; the other files are one step each.
//!
//! Who calls what: [`worker`] puts the parts together; [`intake`] and [`schedule`] start deliveries,
//! from the broker (`fan_out`) and from the store; [`deliver`] makes them; [`record`] writes the results and then
//! acknowledges; [`relay`] publishes the events; [`upkeep`] does the slow work beside.

pub mod admit;
mod bury;
pub mod classify;
pub mod conclude;
mod consent;
pub mod courier;
pub mod decide;
pub mod decode;
pub mod deliver;
pub mod endpoints;
mod fan_out;
pub mod intake;
pub mod job;
pub mod message_events;
pub mod outcome;
pub mod probe;
pub mod record;
mod redact;
pub mod relay;
pub mod route;
pub mod schedule;
pub mod script;
pub mod send;
pub mod sign;
mod spans;
mod transform;
pub mod upkeep;
pub mod wake;
pub mod wire;
pub mod worker;
