//! Midge: an MQTT 5.0, 3.1.1 and 3.1 broker for everyone who runs Eclipse Mosquitto, on one thread and one core.
//!
//! `ls src` is the architecture. Each room says what it knows and what it must never know:
//!
//! | room | knows | never knows |
//! |---|---|---|
//! | [`mqtt`] | bytes and packets, as the specification has them | sockets, sessions, the clock |
//! | [`buffer`] | bytes in transit: [`buffer::Ring`] in, [`buffer::Outbox`] out | sockets, packets |
//! | [`config`] | what the operator asked for | everybody else |
//! | [`broker`] | all rules and all state of a server | sockets, the clock, disks, randomness |
//! | [`net`] | sockets and bytes | MQTT |
//! | [`server`] | the one loop and the one clock, where the rooms meet | the commands |
//! | [`cli`] | the commands | |
//!
//! Imports point one way: `mqtt`, `buffer` and `config` import none of ours; `broker` imports those three; `net` imports
//! `buffer` and `config`; `server` imports all but `cli`; `cli` imports anything. `tests/tidy.rs` holds the arrows.
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod broker;
pub mod buffer;
pub mod cli;
pub mod config;
pub mod mqtt;
pub mod net;
pub mod server;
