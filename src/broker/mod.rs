//! (room broker)

mod levels;
pub mod retained;
pub mod subscriptions;
pub mod timers;
