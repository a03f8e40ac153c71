//! That the system's clock was set, as an event: machines without a battery begin in 1970, and hear what time it is later.
//!
//! A timer of that clock which never comes is cancelled by the kernel when the clock is set (timerfd_create(2)), so that nothing
//! has to wake up in order to look.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// When the timer would come: about as late as it can.
const NEVER: Timespec = Timespec {
    tv_sec: i32::MAX as i64,
    tv_nsec: 0,
};

/// The timer.
#[derive(Debug)]
pub(super) struct WallClock {
    timer: OwnedFd,
    was_set: bool,
}

impl WallClock {
    /// Has `registry` tell of it as `token`.
    pub(super) fn watch(registry: &Registry, token: Token) -> io::Result<WallClock> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Realtime, flags)?;
        let clock = WallClock {
            timer,
            was_set: false,
        };
        clock.arm()?;
        let mut source = SourceFd(&clock.timer.as_raw_fd());
        registry.register(&mut source, token, Interest::READABLE)?;
        Ok(clock)
    }

    fn arm(&self) -> io::Result<()> {
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        let spec = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: NEVER,
        };
        timerfd_settime(&self.timer, flags, &spec)?;
        Ok(())
    }

    /// The timer is readable: remembers why.
    pub(super) fn receive(&mut self) {
        let mut count = [0; 8];
        if let Err(Errno::CANCELED) = rustix::io::read(&self.timer, &mut count) {
            self.was_set = true;
        }
        // Without it nothing is told of the next time, which is no reason to end.
        let _ = self.arm();
    }

    /// Whether it was since the last call.
    pub(super) fn take(&mut self) -> bool {
        std::mem::take(&mut self.was_set)
    }
}
