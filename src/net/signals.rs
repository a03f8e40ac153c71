//! Signals as events: each sets its flag and then writes to a socket, which the poller watches.
//!
//! Knows the system's handlers, and not what a signal is for.
//! 1. A flag is set before the socket is written to: who is woken finds it.
//! 2. Handlers that this made go with it.

use std::io::{self, Read};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mio::net::UnixStream;

/// Signals that are watched.
#[derive(Debug)]
pub(super) struct Signals {
    /// What the poller is to watch.
    pub(super) receiver: UnixStream,
    flags: Vec<(i32, Arc<AtomicBool>)>,
    handlers: Vec<signal_hook::SigId>,
    taken: Vec<i32>,
}

impl Signals {
    /// Catches `signals`.
    pub(super) fn watch(signals: &[i32]) -> io::Result<Signals> {
        let (receiver, sender) = StdUnixStream::pair()?;
        receiver.set_nonblocking(true)?;
        let mut watch = Signals {
            receiver: UnixStream::from_std(receiver),
            flags: Vec::new(),
            handlers: Vec::new(),
            taken: Vec::new(),
        };
        for &signal in signals {
            let flag = Arc::new(AtomicBool::new(false));
            watch
                .handlers
                .push(signal_hook::flag::register(signal, Arc::clone(&flag))?);
            watch.flags.push((signal, flag));
            let sender = sender.try_clone()?;
            watch
                .handlers
                .push(signal_hook::low_level::pipe::register(signal, sender)?);
        }
        Ok(watch)
    }

    /// The socket is readable: remembers which signals came.
    pub(super) fn receive(&mut self) {
        let mut bytes = [0; 64];
        while self.receiver.read(&mut bytes).is_ok_and(|n| n > 0) {}
        for (signal, flag) in &self.flags {
            // Relaxed: the flag is all there is, nothing is published with it.
            if flag.swap(false, Ordering::Relaxed) && !self.taken.contains(signal) {
                self.taken.push(*signal);
            }
        }
    }

    /// Those that came since the last call.
    pub(super) fn take(&mut self) -> Vec<i32> {
        std::mem::take(&mut self.taken)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for handler in self.handlers.drain(..) {
            signal_hook::low_level::unregister(handler);
        }
    }
}
