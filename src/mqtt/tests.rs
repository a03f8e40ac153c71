//! Tables of packets: bytes, meaning, error.
