//! What goes on beside the messages of the broker: [`scheduler`] takes deliveries out of the store
//! when they are due, [`agreement`] and [`health`] exchange with other workers who may send how
//! much and how endpoints do, [`relay`] publishes events, [`stats`] adds up what was counted,
//! [`maintenance`] does the slow work (retention, partitions, replays, redrives, gauges).

pub mod agreement;
pub mod health;
pub mod maintenance;
pub mod parked;
pub mod relay;
pub mod scheduler;
pub mod stats;
