//! End-to-end tests: the built program, as its users run it, with real brokers, databases, sockets
//! and signals. Each test has its own data; every wait has a deadline.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking, in its support code too"
)]

#[allow(unreachable_pub, reason = "a module of this one test")]
mod support;

mod allocator;
mod answers;
mod bench;
mod breaker;
mod circle;
mod client_key;
mod cloudevents;
mod commands;
mod connections;
mod console;
mod deliver;
mod demo;
mod doc_examples;
mod egress;
mod every_schema;
mod expire;
mod faults;
mod garbage;
mod http_api_page;
mod httpsms_events;
mod id_conflicts;
mod internal;
mod interop;
mod limits;
mod listen;
mod manager;
mod openapi;
mod plain_words;
mod prometheus;
mod recipients;
mod retry;
mod scale_out;
mod scripts;
mod secrets;
mod shutdown;
mod sick_neighbour;
mod terminal;
mod tracing;
mod unfit;
mod upgrade;
mod wire_formats;
