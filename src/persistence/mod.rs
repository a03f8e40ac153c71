//! WHAT SURVIVES: what the broker journals, on a disk and back.
//!
//! Knows files and their formats. Never knows sockets, packets on their way, or what the broker does with what it is
//! given.

pub mod import;
