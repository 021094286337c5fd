//! What goes on beside the messages of the broker: [`scheduler`] takes deliveries out of the store
//! when they are due, [`health`] exchanges with other workers how endpoints do, [`relay`] publishes events, [`maintenance`] does the slow work (retention,
//! partitions, replays, redrives, gauges).

pub mod health;
pub mod maintenance;
pub mod relay;
pub mod scheduler;
