//! (room broker)
