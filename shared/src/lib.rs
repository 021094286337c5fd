//! What every part of Posthaste shares: the domain types, the clock, configuration, the store, the
//! broker and telemetry. Knows nothing of HTTP servers or of delivering.
//!
//! Imports inside point one way: `domain` (types without IO) ← `egress`, `config` ← `store`,
//! `broker` (IO) ← the `producer` and `worker` crates.

pub mod backoff;
pub mod broker;
pub mod clock;
pub mod config;
pub mod domain;
pub mod egress;
pub mod redrive;
pub mod resolver;
pub mod store;
pub mod telemetry;
pub mod tls;
