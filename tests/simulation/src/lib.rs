//! Whole workers in virtual time: pipeline, admission, recorder, scheduler, relay and maintenance
//! as a program starts them, several at once, on a real SQLite. What they stand on is broken by a
//! seed: the store's calls, the broker, the receivers, the clocks, the processes themselves. Then
//! it is checked that what is promised holds.

pub mod bench;
pub mod broker;
pub mod checks;
pub mod clock;
pub mod dice;
pub mod entropy;
pub mod faults;
pub mod gate;
pub mod machine;
pub mod plan;
pub mod process;
pub mod producers;
pub mod receiver;
pub mod run;
pub mod shrink;
pub mod sweep;
pub mod world;
