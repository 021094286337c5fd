//! How requests are read and answered, whatever they are about.

pub(super) mod body_encoding;
pub(super) mod extract;
pub(super) mod json;
mod log_gate;
pub(super) mod page;
pub mod problem;
pub(super) mod request_id;
pub(super) mod trace;
