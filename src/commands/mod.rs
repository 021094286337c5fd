//! The commands, a file or a folder each: what it may be told (`clap` arguments), and what it does.

pub(crate) mod api;
pub(crate) mod asyncapi;
pub(crate) mod bench;
pub(crate) mod console;
pub(crate) mod dead;
pub(crate) mod delivery;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod endpoint;
pub(crate) mod event;
pub(crate) mod explain;
pub(crate) mod health;
pub(crate) mod key;
pub(crate) mod listen;
pub(crate) mod migrate;
pub(crate) mod notification;
pub(crate) mod openapi;
pub(crate) mod reconcile;
pub(crate) mod replay;
pub(crate) mod send;
pub(crate) mod shell;
pub(crate) mod up;
pub(crate) mod worker;
