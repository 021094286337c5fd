//! End-to-end tests: the built program, as its users run it, with real brokers, databases, sockets and
//! signals. Each test has its own data; every wait has a deadline.

#[allow(unreachable_pub, reason = "a module of this one test")]
mod support;

mod commands;
mod deliver;
mod demo;
mod egress;
mod expire;
mod faults;
mod garbage;
mod interop;
mod retry;
mod secrets;
mod shutdown;
mod sick_neighbour;
