//! How requests are read and answered, whatever they are about.

pub(super) mod body_encoding;
pub(super) mod extract;
pub(super) mod json;
pub(super) mod page;
pub(super) mod trace;
