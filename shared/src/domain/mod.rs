//! The words of Posthaste as types. Nothing here does IO or knows a database, a broker or HTTP.
//! What comes from outside is parsed into these types at the edge and not checked again inside.

pub mod attempt;
pub mod audit;
pub mod dead_letter;
pub mod delivery;
pub mod endpoint;
pub mod event;
pub mod header;
pub mod health;
pub mod hops;
pub mod id;
pub mod key;
pub mod members;
pub mod message;
pub mod notification;
pub mod overview;
pub mod raw_json;
pub mod reading;
pub mod retry;
pub mod round;
pub mod secret;
pub mod stats;
pub mod subscription;
pub mod time;
pub mod trace_context;
pub mod view;
pub mod whole;
pub mod wire_format;
