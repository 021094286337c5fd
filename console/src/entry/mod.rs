//! The way in: who is signed in, what a form must carry, and the headers of every answer.

pub(crate) mod cookie;
pub(crate) mod form;
pub(crate) mod headers;
pub(crate) mod login;
pub(crate) mod once;
pub(crate) mod origin;
pub(crate) mod visitor;
