//! What a delivery goes through. [`intake`] takes messages from the broker, [`decode`] reads them,
//! [`route`] finds the endpoints and `fan_out` makes the deliveries; [`admit`] says when an
//! endpoint may get another request; [`deliver`] makes an attempt, [`decide`] says what follows
//! from it and [`conclude`] what state the delivery is in; [`record`] writes that to the store and
//! only then acknowledges the message.

pub mod admit;
pub mod conclude;
mod dead_letter;
pub mod decide;
pub mod decode;
pub mod deliver;
pub mod endpoints;
mod fan_out;
pub mod health;
pub mod intake;
pub mod job;
pub mod record;
pub mod reports;
pub mod room;
pub mod route;
mod spans;
pub mod stats;
pub mod wake;

#[cfg(test)]
mod tests;
