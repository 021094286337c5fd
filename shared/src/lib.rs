//! What every part of Posthaste shares: the domain types, the clock, configuration, the store, the
//! broker and telemetry. Knows nothing of HTTP servers or of delivering.
//!
//! Imports point one way, which a test holds (`tests/imports.rs`), from the bottom up: `chance` ←
//! `backoff`, `error` ← `repeat`, `domain` (types without IO) ← `clock`, `tls`, `egress`,
//! `resolver` ← `config` ← `telemetry` ← `store` ← `broker` ← `services` ← `redrive`.

pub mod backoff;
pub mod broker;
pub mod chance;
pub mod clock;
pub mod config;
pub mod domain;
pub mod egress;
pub mod error;
pub mod redrive;
pub mod repeat;
pub mod resolver;
pub mod services;
pub mod store;
pub mod telemetry;
pub mod tls;
