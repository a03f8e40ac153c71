//! The real binary over loopback: one module per topic, raw bytes in and out.
//!
//! A test is a dialogue between a broker process of its own and a few [`harness::Raw`] clients. Tests are named
//! by statement: `mqtt_3_1_0_1_...` holds [MQTT-3.1.0-1] of MQTT 5.0 (and of 3.1.1 where it says the same), and
//! `mqtt311_...` a statement whose tag only 3.1.1 has. `statements.txt` lists them all.
//! `MIDGE_BIN` names another broker to talk to, such as a Mosquitto to compare with.

mod accounts;
mod command;
mod connect;
mod database;
mod disk;
mod durability;
mod dynsec;
mod event_loop;
mod flow;
mod harness;
mod history;
mod import;
mod log;
mod log_dest;
mod malformed;
mod one_write;
mod passwd;
mod ping_disconnect;
mod pinning;
mod process;
mod protocol31;
mod publish;
mod reload;
mod retain;
mod rights;
mod robust;
mod session;
mod signal;
mod statements;
mod subscribe;
mod sys;
mod tls;
mod tools;
mod tools_tls;
mod will;
