//! Helper threads for what takes long: comparing passwords, and reading files for a reload.
//!
//! They know nothing of the broker: a job goes out, what it came to comes back, and the poller is woken.
//! 1. The loop never waits for them; results are taken when the poller says so.
//! 2. They run at a lower priority than the loop, so that on one core, too, everybody else is served in between.
//! 3. Passwords are compared in the order they came, no more at a time than there are threads.

use super::pinning;
use super::reload::{ReloadError, Reloaded};
use crate::broker::{Chore, ChoreDone, PasswordCheck};
use crate::net::Waker;
use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// How many threads compare passwords at most: each may need 46 MiB for it.
const THREADS_MAX: usize = 4;

/// How much lower their priority is, in the steps of nice(2): beside busy processes they still get a tenth of a core,
/// where the lowest would leave passwords waiting for minutes.
const NICE: i32 = 10;

/// What a thread has done.
pub enum Done {
    /// Compared a password; whether it was the right one.
    Password(PasswordCheck, bool),
    /// Read the configuration and all that it names.
    Reload(Result<Box<Reloaded>, ReloadError>),
    /// Done what a command asked for.
    Chore(ChoreDone),
}

/// The threads.
pub struct Workers {
    waker: Waker,
    jobs: Sender<PasswordCheck>,
    queue: Arc<Mutex<Receiver<PasswordCheck>>>,
    done: Receiver<Done>,
    results: Sender<Done>,
    threads: usize,
    threads_max: usize,
    /// How many passwords are being compared.
    comparing: usize,
}

impl Workers {
    /// No threads yet; they are started when they are needed. `waker` wakes the loop.
    pub fn new(waker: Waker) -> Workers {
        let (jobs, queue) = mpsc::channel();
        let (results, done) = mpsc::channel();
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Workers {
            waker,
            jobs,
            queue: Arc::new(Mutex::new(queue)),
            done,
            results,
            threads: 0,
            threads_max: cores.min(THREADS_MAX),
            comparing: 0,
        }
    }

    /// Whether another password could be compared at once.
    pub fn is_free(&self) -> bool {
        self.comparing < self.threads_max
    }

    /// Has a password compared.
    pub fn compare(&mut self, check: PasswordCheck) {
        self.comparing += 1;
        if self.threads < self.comparing {
            match self.start_thread() {
                Ok(()) => self.threads += 1,
                Err(error) if self.threads == 0 => {
                    ::log::warn!(
                        "Warning: Unable to start a thread for comparing passwords: {error}."
                    );
                    // Better late for everybody than never for this one.
                    let is_right = check.is_right();
                    self.send(Done::Password(check, is_right));
                    return;
                }
                Err(_) => {}
            }
        }
        self.jobs
            .send(check)
            .expect("the queue's other end is held here too");
    }

    fn send(&self, done: Done) {
        self.results
            .send(done)
            .expect("the other end is held here too");
        self.waker.wake();
    }

    fn start_thread(&self) -> io::Result<()> {
        let (queue, results, waker) = (
            Arc::clone(&self.queue),
            self.results.clone(),
            self.waker.clone(),
        );
        let work = move || {
            begin_helping();
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(check) = next else {
                    return; // the server is gone
                };
                let is_right = check.is_right();
                if results.send(Done::Password(check, is_right)).is_err() {
                    return;
                }
                waker.wake();
            }
        };
        let thread = thread::Builder::new().name("passwords".to_owned());
        thread.spawn(work).map(drop)
    }

    /// Has `read` run on a thread of its own.
    /// # Errors
    /// If the system gives no thread.
    pub fn reload(
        &self,
        read: impl FnOnce() -> Result<Box<Reloaded>, ReloadError> + Send + 'static,
    ) -> io::Result<()> {
        self.run("reload", move || Done::Reload(read()))
    }

    /// Has what a command asks for done, where the system gives a thread, else here: late is better than never.
    pub fn do_chore(&self, chore: Chore) {
        let shared = Arc::new(Mutex::new(Some(chore)));
        let taken = Arc::clone(&shared);
        let take = move || taken.lock().unwrap_or_else(PoisonError::into_inner).take();
        let work = {
            let take = take.clone();
            move || Done::Chore(take().expect("nobody else took it").run())
        };
        if let Err(error) = self.run("commands", work) {
            ::log::warn!("Warning: Unable to start a thread for a command: {error}.");
            if let Some(chore) = take() {
                self.send(Done::Chore(chore.run()));
            }
        }
    }

    /// Runs `work` on a thread of its own.
    fn run(&self, name: &str, work: impl FnOnce() -> Done + Send + 'static) -> io::Result<()> {
        let (results, waker) = (self.results.clone(), self.waker.clone());
        let work = move || {
            begin_helping();
            let _ = results.send(work()); // nobody is left to tell
            waker.wake();
        };
        let thread = thread::Builder::new().name(name.to_owned());
        thread.spawn(work).map(drop)
    }

    /// The next result, if there is one.
    pub fn take_done(&mut self) -> Option<Done> {
        let done = self.done.try_recv().ok()?;
        if let Done::Password(..) = done {
            self.comparing -= 1;
        }
        Some(done)
    }
}

/// Lets this thread run when the loop has nothing to do, and elsewhere where the loop has a core of its own. Where that is
/// not granted, it runs as any other.
fn begin_helping() {
    pinning::step_aside();
    let thread = rustix::thread::gettid();
    let _ = rustix::process::setpriority_process(Some(thread), NICE);
}
