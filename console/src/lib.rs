//! The web console: what the API does, as pages. [`router`] is served by the binary beside the API.
//!
//! It has no powers of its own: a page takes the caller that a session stands for, calls the same
//! operations as the JSON handlers do and shows the same views. A page is a document at a URL: it
//! can be read and its forms work without JavaScript, which only makes it fresher and quicker.

mod assets;
mod entry;
mod flood;
mod pages;
mod parts;
mod routes;
mod state;

pub use routes::{Needs, Route, router, table};
pub use state::{Console, Mode, Settings};
