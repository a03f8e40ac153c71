//! Lines that wait to be published below `$SYS/broker/log/`.
//!
//! It knows which topic a type of line has. It does not know who publishes, nor when.
//! 1. [`TOPICS_BYTES_MAX`] bytes wait at most; past that lines are lost and counted.
//! 2. A thread that holds [`TopicsMuted`] adds none, so that publishing a line cannot make another one for ever.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::config::LogTypes;

/// How many bytes of lines wait to be published.
pub const TOPICS_BYTES_MAX: usize = 256 << 10;

thread_local! {
    static MUTED: Cell<u32> = const { Cell::new(0) };
}

/// While this is held, what its thread logs is not published.
#[must_use = "publishing the lines that were taken may log others"]
#[derive(Debug)]
pub struct TopicsMuted {
    /// It counts for the thread that made it.
    stays_on_thread: PhantomData<*const ()>,
}

impl TopicsMuted {
    pub(super) fn new() -> TopicsMuted {
        MUTED.set(MUTED.get() + 1);
        TopicsMuted {
            stays_on_thread: PhantomData,
        }
    }
}

impl Drop for TopicsMuted {
    fn drop(&mut self) {
        MUTED.set(MUTED.get() - 1);
    }
}

/// The topic of a type of line.
pub fn topic(kind: LogTypes) -> &'static str {
    match kind {
        LogTypes::ERROR => "$SYS/broker/log/E",
        LogTypes::WARNING => "$SYS/broker/log/W",
        LogTypes::NOTICE => "$SYS/broker/log/N",
        LogTypes::SUBSCRIBE => "$SYS/broker/log/M/subscribe",
        LogTypes::UNSUBSCRIBE => "$SYS/broker/log/M/unsubscribe",
        _ => "$SYS/broker/log/I",
    }
}

/// The lines that wait.
#[derive(Default)]
pub struct Topics {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    lines: Vec<(&'static str, String)>,
    bytes: usize,
    lost: u64,
}

impl Topics {
    /// Adds a line, unless it is for developers or this thread is muted.
    pub fn push(&self, kind: LogTypes, text: &str) {
        if kind == LogTypes::DEBUG || MUTED.get() > 0 {
            return;
        }
        let mut queue = self.lock();
        if queue.lost > 0 || queue.bytes + text.len() > TOPICS_BYTES_MAX {
            queue.lost += 1;
            return;
        }
        queue.bytes += text.len();
        queue.lines.push((topic(kind), text.to_owned()));
    }

    /// Moves the lines into `lines`; how many were lost behind them.
    pub fn take(&self, lines: &mut Vec<(&'static str, String)>) -> u64 {
        let mut queue = self.lock();
        lines.append(&mut queue.lines);
        queue.bytes = 0;
        std::mem::take(&mut queue.lost)
    }

    /// Whether none wait.
    pub fn is_empty(&self) -> bool {
        let queue = self.lock();
        queue.lines.is_empty() && queue.lost == 0
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(topics: &Topics) -> (Vec<(&'static str, String)>, u64) {
        let mut lines = Vec::new();
        let lost = topics.take(&mut lines);
        (lines, lost)
    }

    #[test]
    fn lines_have_the_topic_of_their_type() {
        let topics = Topics::default();
        for (kind, expected) in [
            (LogTypes::ERROR, Some("E")),
            (LogTypes::WARNING, Some("W")),
            (LogTypes::NOTICE, Some("N")),
            (LogTypes::INFORMATION, Some("I")),
            (LogTypes::SUBSCRIBE, Some("M/subscribe")),
            (LogTypes::UNSUBSCRIBE, Some("M/unsubscribe")),
            (LogTypes::DEBUG, None),
        ] {
            topics.push(kind, "text");
            assert_eq!(topics.is_empty(), expected.is_none());
            let (lines, lost) = taken(&topics);
            assert_eq!(lost, 0);
            let found = lines.first().map(|(topic, text)| {
                assert_eq!(text, "text");
                topic.strip_prefix("$SYS/broker/log/").expect("all have it")
            });
            assert_eq!(found, expected);
            assert!(topics.is_empty());
        }
    }

    #[test]
    fn a_full_queue_loses_and_counts() {
        let topics = Topics::default();
        let line = "x".repeat(1000);
        let fit = TOPICS_BYTES_MAX / line.len();
        for _ in 0..fit + 5 {
            topics.push(LogTypes::NOTICE, &line);
        }
        topics.push(LogTypes::NOTICE, "short, but behind lost ones");
        let (lines, lost) = taken(&topics);
        assert_eq!((lines.len(), lost), (fit, 6));
        topics.push(LogTypes::NOTICE, &line);
        let (lines, lost) = taken(&topics);
        assert_eq!((lines.len(), lost), (1, 0));
    }

    #[test]
    fn who_publishes_is_muted() {
        let topics = Topics::default();
        {
            let _muted = TopicsMuted::new();
            topics.push(LogTypes::ERROR, "mine");
            std::thread::scope(|scope| {
                scope.spawn(|| topics.push(LogTypes::ERROR, "another thread's"));
            });
        }
        topics.push(LogTypes::ERROR, "later");
        let texts: Vec<String> = taken(&topics).0.into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, ["another thread's", "later"]);
    }
}
