//! Midge: an MQTT 5.0, 3.1.1 and 3.1 broker for everyone who runs Eclipse Mosquitto, on one thread and one core.
//!
//! `ls src` is the architecture. Each room says what it knows and what it must never know:
//!
//! | room | knows | never knows |
//! |---|---|---|
//! | [`mqtt`] | bytes and packets, as the specification has them | sockets, sessions, the clock |
//! | [`buffer`] | bytes in transit: [`buffer::Ring`] in, [`buffer::Outbox`] out | sockets, packets |
//! | [`config`] | what the operator asked for | everybody else |
//! | [`auth`] | who may enter, and what they may do | connections, sessions, packets |
//! | [`broker`] | all rules and all state of a server | sockets, the clock, disks, randomness |
//! | [`persistence`] | what survives, and SQLite | sockets, packets |
//! | [`net`] | sockets and bytes | MQTT |
//! | [`server`] | the one loop and the one clock, where the rooms meet | the commands |
//! | [`cli`] | the commands | |
//!
//! Imports point one way: `mqtt`, `buffer` and `config` import none of ours; `auth` imports `mqtt` and `config`; `broker`
//! imports those four; `persistence` imports `broker` and what that does; `net` imports `buffer` and `config`; `server` imports
//! all but `cli`; `cli` imports anything. `tests/tidy.rs` holds the arrows.
//!
//! # The path of one PUBLISH
//!
//! 1. [`net::Net::poll`] finds its socket readable; [`net::Net::fill`] reads once into a [`buffer::Ring`].
//! 2. [`mqtt::decode`] borrows topic, properties and payload from the ring.
//! 3. [`broker::Broker::handle`] checks what a server must check, keeps the message if it is retained, and asks
//!    [`broker::subscriptions::Subscriptions`] who wants it.
//! 4. For each of them it is encoded once per layout and copied into that client's [`buffer::Outbox`]; a large payload is
//!    referred to instead; what must wait becomes one counted [`broker::message::Message`].
//! 5. At the end of the turn what must survive goes to the [`persistence::Store`] as a batch, and [`net::Net::flush`] writes
//!    each outbox with one call. What confirms the batch waits until it is on disk (`broker/gate.rs`).
//!
//! Nothing on this path allocates in steady state (`tests/allocations.rs` counts), takes a lock, or makes a system call
//! besides one wait and one read a turn and one write for each receiver.
//!
//! # What holds everywhere
//!
//! 1. Time and random seeds are arguments; only [`server`] has a clock.
//! 2. Every queue has a bound, and the bound has a name and a unit.
//! 3. A peer's bytes cannot cause a panic; our own mistakes should.
//! 4. There is no unsafe code but the allocator that counts, in server/memory.rs; tests/tidy.rs has the list.
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod auth;
pub mod broker;
pub mod buffer;
pub mod cli;
pub mod config;
pub mod mqtt;
pub mod net;
pub mod persistence;
pub mod server;
