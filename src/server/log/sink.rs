//! One destination with its queue and the thread that empties it.
//!
//! It knows waiting, failing and losing. It does not know which lines there are.
//! 1. [`Sink::push`] never waits for the destination: its lock is held for a copy, never for a write.
//! 2. [`QUEUE_BYTES_MAX`] bytes wait at most, and as many again are being written. Past that lines are lost and
//!    counted; once some are, more are, until the thread takes what waits: what is missing is missing in one place.
//! 3. A destination that fails keeps what waits and is tried again, ever less often, until it takes it.
//! 4. What is said about a failure is said once, and the line goes to every destination.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::output::{Destination, Output};
use crate::config::{LogTypes, system_reason};
use crate::server::pinning;

/// How many bytes of lines wait for one destination.
pub const QUEUE_BYTES_MAX: usize = 1 << 20;

/// A queue that was longer gives this much memory back when it is empty.
const QUEUE_BYTES_KEPT: usize = 64 << 10;

/// How long a destination that failed is left alone at first, and at most.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// How long one that was merely full is left alone at most.
const FULL_PAUSE_MAX: Duration = Duration::from_secs(1);

/// What the thread needs of its stack: writing, and formatting one sentence.
const STACK_BYTES: usize = 256 << 10;

/// One destination.
pub struct Sink {
    destination: Destination,
    queue: Mutex<Queue>,
    /// There is something for the thread to do.
    wake: Condvar,
    /// The thread has done everything.
    idle: Condvar,
}

#[derive(Default)]
struct Queue {
    lines: Vec<u8>,
    /// Lines that found no place since the thread last took the others.
    lost: u64,
    /// Whether the thread is to open the destination anew.
    reopen: bool,
    /// Whether the thread is at work.
    is_busy: bool,
    /// Whether somebody waits for the thread to be done.
    is_finishing: bool,
    /// Whether the thread is to end once it is done.
    is_closing: bool,
    /// Whether lines are for nobody any more.
    is_gone: bool,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.lost == 0 && !self.reopen
    }
}

/// What the thread took from the queue.
#[derive(Default)]
struct Batch {
    lines: Vec<u8>,
    lost: u64,
    reopen: bool,
}

/// The line that says how many lines are missing, framed for its destination.
type LostLine = Box<dyn Fn(&Destination, u64) -> String + Send>;

impl Sink {
    /// Opens `destination` and starts the thread that writes to it; `lost_line` is asked for the words about lost
    /// lines.
    ///
    /// # Errors
    /// Where the destination cannot be opened, or the thread not be started.
    pub fn open(destination: Destination, lost_line: LostLine) -> io::Result<Arc<Sink>> {
        let output = destination.open()?;
        let sink = Arc::new(Sink {
            destination,
            queue: Mutex::default(),
            wake: Condvar::new(),
            idle: Condvar::new(),
        });
        let mut writer = Writer {
            sink: Arc::clone(&sink),
            output,
            lost_line,
            is_failing: false,
        };
        thread::Builder::new()
            .name("log".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                pinning::step_aside();
                writer.run();
            })?;
        Ok(sink)
    }

    /// Where its lines go.
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Puts a line into the queue, or counts it as lost.
    pub fn push(&self, kind: LogTypes, text: &str) {
        let line = self.destination.frame(kind, text);
        let mut queue = self.lock();
        if queue.is_gone {
            return;
        }
        if queue.lost > 0 || queue.lines.len() + line.len() + 1 > QUEUE_BYTES_MAX {
            queue.lost += 1;
            return;
        }
        queue.lines.extend_from_slice(line.as_bytes());
        queue.lines.push(b'\n');
        if !queue.is_busy {
            self.wake.notify_one();
        }
    }

    /// Has the thread open the destination anew, as after a rename of the file.
    pub fn reopen(&self) {
        self.lock().reopen = true;
        self.wake.notify_one();
    }

    /// Waits until everything that was pushed is written, or cannot be, but not past `deadline`.
    pub fn finish(&self, deadline: Instant) {
        let mut queue = self.lock();
        queue.is_finishing = true;
        self.wake.notify_one();
        while queue.is_busy || !queue.is_empty() {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                break;
            };
            (queue, _) = self
                .idle
                .wait_timeout(queue, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
        queue.is_finishing = false;
    }

    /// Ends the thread once it has written what waits.
    pub fn close(&self) {
        self.lock().is_closing = true;
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for work and moves it into `batch`, whose memory the queue goes on with. `false` means that none will
    /// come.
    fn take(&self, batch: &mut Batch) -> bool {
        batch.lines.clear();
        batch.lines.shrink_to(QUEUE_BYTES_KEPT);
        let mut queue = self.lock();
        queue.is_busy = false;
        while queue.is_empty() {
            self.idle.notify_all();
            if queue.is_closing {
                return false;
            }
            queue = self
                .wake
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
        queue.is_busy = true;
        std::mem::swap(&mut queue.lines, &mut batch.lines);
        batch.lost = std::mem::take(&mut queue.lost);
        batch.reopen = std::mem::take(&mut queue.reopen);
        true
    }

    /// Waits for `time` after a failure, or until there is a reason to try again. `None` means to give up; `Some(true)`
    /// to open the destination anew first.
    fn pause(&self, time: Duration) -> Option<bool> {
        let queue = self.lock();
        if queue.is_finishing || queue.is_closing {
            return None;
        }
        let (mut queue, _) = self
            .wake
            .wait_timeout_while(queue, time, |queue| {
                !queue.is_finishing && !queue.is_closing && !queue.reopen
            })
            .unwrap_or_else(PoisonError::into_inner);
        Some(std::mem::take(&mut queue.reopen))
    }

    fn give_up_for_ever(&self) {
        let mut queue = self.lock();
        queue.is_gone = true;
        queue.lines = Vec::new();
        queue.lost = 0;
    }
}

/// The thread's side.
struct Writer {
    sink: Arc<Sink>,
    output: Output,
    lost_line: LostLine,
    /// Whether the last write failed, which everybody has been told.
    is_failing: bool,
}

impl Writer {
    fn run(&mut self) {
        let mut batch = Batch::default();
        while self.sink.take(&mut batch) {
            if batch.reopen {
                self.reopen();
            }
            let given_up = self.write(&batch.lines);
            let lost = batch.lost + given_up;
            if lost > 0 {
                let mut line = (self.lost_line)(&self.sink.destination, lost);
                line.push('\n');
                self.write(line.as_bytes());
            }
        }
    }

    /// Writes `lines`, however long that takes; how many lines could not be.
    fn write(&mut self, lines: &[u8]) -> u64 {
        let mut rest = lines;
        let mut pause = PAUSE_MIN;
        while let Err((taken, error)) = self.output.write(rest) {
            rest = &rest[taken..];
            if taken > 0 {
                pause = PAUSE_MIN;
            }
            if self.sink.destination.is_gone(&error) {
                self.sink.give_up_for_ever();
                return 0;
            }
            self.tell_failure(&error);
            match self.sink.pause(pause) {
                Some(true) => self.reopen(),
                Some(false) => {}
                None => return memchr::memchr_iter(b'\n', rest).count() as u64,
            }
            pause = (pause * 2).min(if is_full(&error) {
                FULL_PAUSE_MAX
            } else {
                PAUSE_MAX
            });
        }
        self.is_failing &= lines.is_empty();
        0
    }

    fn tell_failure(&mut self, error: &io::Error) {
        if is_full(error) || self.is_failing {
            return;
        }
        self.is_failing = true;
        ::log::error!(
            "Error: Unable to write to {}: {}.",
            self.sink.destination,
            system_reason(error)
        );
        // Where this is the only destination, nobody would hear of it. A standard error that does not take it either is
        // nobody's loss.
        let name = &self.sink.destination;
        let line = format!(
            "Error: Unable to write to {name}: {}.\n",
            system_reason(error)
        );
        if matches!(name, Destination::File(_)) {
            let _ = rustix::io::write(rustix::stdio::stderr(), line.as_bytes());
        }
    }

    fn reopen(&mut self) {
        match self.sink.destination.open() {
            Ok(output) => self.output = output,
            Err(error) => ::log::error!(
                "Error: Unable to open {} again: {}.",
                self.sink.destination,
                system_reason(&error)
            ),
        }
    }
}

/// Whether `error` is of a stream that somebody has set to not wait, and that is full as others are without an error.
fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

#[cfg(test)]
mod tests;
