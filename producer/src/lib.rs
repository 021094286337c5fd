//! Getting notifications in: the Rust API ([`client::Producer`]) for other services, and the HTTP API
//! ([`http::router`]). Both check drafts the same way ([`enqueue`]) and answer only once the broker has
//! confirmed.



pub mod enqueue;
pub mod http;
