//! What the tests are written with: a broker process, raw clients, and packets built apart from Midge's codec.
//!
//! It shares no code with the crate under test, so that a fault in the codec cannot hide itself.
//! 1. Nothing waits longer than [`DEADLINE`], and nothing sleeps where an event can be awaited.
//! 2. Only processes that the harness started are signalled, through the handle it holds.

mod broker;
mod packet;
mod process;
mod raw;

use std::time::Duration;

pub use broker::{Broker, free_port, new_dir, program};
pub use packet::*;
pub use raw::{Closed, Raw};

/// How long anything that must happen may take: generous, since it is only ever spent by a failing test.
pub const DEADLINE: Duration = Duration::from_secs(10);
