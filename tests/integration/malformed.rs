//! Malformed packets.
