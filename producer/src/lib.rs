//! Getting notifications in: the Rust API ([`Producer`]) for other services, and, with the feature
//! `http`, the HTTP API (`http::router`). Both check drafts the same way ([`enqueue`]) and answer
//! only once the broker has confirmed. A service that only enqueues leaves the feature out, and
//! compiles no HTTP server.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use posthaste_producer::{Draft, Producer, ProducerOptions};
//! use posthaste_shared::domain::secret::Secret;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let options = ProducerOptions::amqp(Secret::new("amqp://guest:guest@127.0.0.1:5672"));
//! let producer = Producer::connect(options).await?;
//!
//! let draft = Draft::new("order.paid", &serde_json::json!({ "order": 1042 }))
//!     .id("order-1042-paid") // enqueued twice, delivered once
//!     .expires_in(Duration::from_secs(3600))
//!     .build()?;
//! let accepted = producer.enqueue(draft).await?; // the broker has it, durably
//! println!("{} accepted at {}", accepted.id, accepted.accepted_at);
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "http")]
pub mod asyncapi;
pub mod client;
pub mod draft;
pub mod enqueue;
#[cfg(feature = "http")]
pub mod http;

pub use client::{ConnectError, Producer, ProducerOptions};
pub use draft::Draft;
pub use enqueue::{Accepted, EnqueueError};
pub use posthaste_shared::domain::trace_context::TraceContext;
