//! Destinations that wait, fail and come back. A named pipe stands for whatever does not take its lines.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use tempfile::TempDir;

use super::*;

const DEADLINE: Duration = Duration::from_secs(10);

fn open(destination: Destination) -> Arc<Sink> {
    let lost_line = |destination: &Destination, lost| {
        let line = format!("lost {lost}");
        destination.frame(LogTypes::WARNING, &line).into_owned()
    };
    Sink::open(destination, Box::new(lost_line)).expect("it can be opened")
}

/// A named pipe and an end of it that makes it writable.
fn pipe() -> (TempDir, PathBuf, File) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("pipe");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0)
        .expect("the directory is ours");
    let reader = fs::OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open(&path)
        .expect("it was made");
    rustix::fs::fcntl_setfl(&reader, OFlags::empty()).expect("it is a pipe");
    (dir, path, reader)
}

fn line(number: u64) -> String {
    format!("{number:0100}")
}

#[test]
fn a_reader_that_stopped_costs_lines_and_nobodys_time() {
    let (_dir, path, reader) = pipe();
    let sink = open(Destination::File(path));
    let count = 3 * (QUEUE_BYTES_MAX as u64) / 101;
    let start = Instant::now();
    for number in 0..count {
        sink.push(LogTypes::NOTICE, &line(number));
    }
    assert!(start.elapsed() < DEADLINE);
    let start = Instant::now();
    sink.finish(start + Duration::from_millis(50));
    assert!(start.elapsed() < DEADLINE, "it does not wait for ever");

    let mut lines = BufReader::new(reader)
        .lines()
        .map(|line| line.expect("text"));
    let mut next = 0;
    let lost: u64 = loop {
        let text = lines.next().expect("the pipe is open");
        if let Some(lost) = text.strip_prefix("lost ") {
            break lost.parse().expect("a number");
        }
        assert_eq!(text, line(next), "in order and without a gap");
        next += 1;
    };
    assert!(next * 101 >= QUEUE_BYTES_MAX as u64 - 101, "{next}");
    assert!(
        next * 101 <= 2 * QUEUE_BYTES_MAX as u64 + (128 << 10),
        "{next}"
    );
    assert_eq!(next + lost, count);
    sink.push(LogTypes::NOTICE, "again");
    assert_eq!(lines.next().as_deref(), Some("again"));
}

#[test]
fn memory_of_a_burst_is_given_back() {
    let (_dir, path, reader) = pipe();
    let sink = open(Destination::File(path));
    let reading = std::thread::spawn(move || {
        let lines = BufReader::new(reader).lines();
        lines.map_while(Result::ok).count()
    });
    for _ in 0..3 {
        for number in 0..5000 {
            sink.push(LogTypes::NOTICE, &line(number));
        }
        sink.finish(Instant::now() + DEADLINE);
    }
    sink.push(LogTypes::NOTICE, "a");
    sink.finish(Instant::now() + DEADLINE);
    sink.push(LogTypes::NOTICE, "b");
    sink.finish(Instant::now() + DEADLINE);
    assert!(sink.lock().lines.capacity() <= QUEUE_BYTES_KEPT);
    sink.close();
    drop(sink);
    assert_eq!(reading.join().expect("it does not panic"), 15_002);
}

#[test]
fn what_failed_is_tried_again() {
    let (dir, path, reader) = pipe();
    let sink = open(Destination::File(path.clone()));
    // Nobody reads, for now: each write is an error.
    drop(reader);
    sink.push(LogTypes::NOTICE, "one");
    sink.push(LogTypes::NOTICE, "two");
    std::thread::sleep(Duration::from_millis(20));
    let reader = File::open(&path).expect("it is there");
    let mut lines = BufReader::new(reader)
        .lines()
        .map(|line| line.expect("text"));
    assert_eq!(lines.next().as_deref(), Some("one"));
    assert_eq!(lines.next().as_deref(), Some("two"));
    drop(dir);
}

#[test]
fn a_new_file_helps_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("log");
    // A disk that is full, until the name stands for another file.
    std::os::unix::fs::symlink("/dev/full", &path).expect("the directory is ours");
    let sink = open(Destination::File(path.clone()));
    sink.push(LogTypes::NOTICE, "one");
    let is_waiting = || sink.lock().is_busy && sink.lock().lines.is_empty();
    while !is_waiting() {
        std::thread::yield_now();
    }
    fs::remove_file(&path).expect("it is there");
    sink.reopen();
    let text = wait_for(&path, "one\n");
    assert_eq!(text, "one\n");
}

fn wait_for(path: &Path, expected: &str) -> String {
    let start = Instant::now();
    loop {
        let text = fs::read_to_string(path).unwrap_or_default();
        if text == expected || start.elapsed() > DEADLINE {
            return text;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_full_disk_does_not_hold_up_the_end() {
    let sink = open(Destination::File("/dev/full".into()));
    for number in 0..100 {
        sink.push(LogTypes::NOTICE, &line(number));
    }
    let start = Instant::now();
    sink.finish(start + DEADLINE);
    assert!(start.elapsed() < DEADLINE / 2);
}

#[test]
fn a_named_pipe_without_a_reader_is_an_error_and_no_wait() {
    let (_dir, path, reader) = pipe();
    drop(reader);
    assert!(Destination::File(path).open().is_err());
}
