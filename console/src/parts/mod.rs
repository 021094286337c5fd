//! What pages are made of: functions from views to HTML.

pub(crate) mod actions;
pub(crate) mod attempts;
pub(crate) mod chart;
pub(crate) mod chip;
pub(crate) mod commands;
pub(crate) mod compare;
pub(crate) mod endpoint_fields;
pub(crate) mod fields;
pub(crate) mod frame;
pub(crate) mod json;
pub(crate) mod layout;
pub(crate) mod list;
pub(crate) mod notice;
pub(crate) mod query;
pub(crate) mod request;
pub(crate) mod settings;
pub(crate) mod sign_in;
pub(crate) mod text;
pub(crate) mod time;
