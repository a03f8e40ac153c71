//! The targets: plain functions that take any bytes and panic where something of ours does not hold.
//!
//! The fuzzer and `cargo test` call the same ones. A target knows the rooms that it feeds and nothing of libFuzzer, and
//! keeps nothing from one call to the next that could change what the next one does.

pub mod connection;
pub mod decode;
pub mod dynsec;
pub mod files;
pub mod import;
pub mod ring;
pub mod rows;
pub mod tools;
pub mod topics;
pub mod world;

/// One thing that is fed.
pub struct Target {
    /// What it is called: on the command line, and as the folder of its corpus.
    pub name: &'static str,
    /// More bytes than this say nothing new.
    pub bytes_max: usize,
    /// Feeds it.
    pub feed: fn(&[u8]),
    /// Where a corpus begins.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: [Target; 12] = [
    Target {
        name: "decode",
        bytes_max: 1024,
        feed: decode::feed,
        seeds: decode::seeds,
    },
    Target {
        name: "topics",
        bytes_max: 512,
        feed: topics::feed,
        seeds: topics::seeds,
    },
    Target {
        name: "ring",
        bytes_max: 256,
        feed: ring::feed,
        seeds: ring::seeds,
    },
    Target {
        name: "connection",
        bytes_max: 2048,
        feed: connection::feed,
        seeds: connection::seeds,
    },
    Target {
        name: "config",
        bytes_max: 2048,
        feed: files::config,
        seeds: files::config_seeds,
    },
    Target {
        name: "acl",
        bytes_max: 1024,
        feed: files::acl,
        seeds: files::acl_seeds,
    },
    Target {
        name: "passwords",
        bytes_max: 1024,
        feed: files::passwords,
        seeds: files::password_seeds,
    },
    Target {
        name: "dynsec",
        bytes_max: 2048,
        feed: dynsec::feed,
        seeds: dynsec::seeds,
    },
    Target {
        name: "proxy",
        bytes_max: 512,
        feed: files::proxy,
        seeds: files::proxy_seeds,
    },
    Target {
        name: "rows",
        bytes_max: 1024,
        feed: rows::feed,
        seeds: rows::seeds,
    },
    Target {
        name: "import",
        bytes_max: 6000,
        feed: import::feed,
        seeds: import::seeds,
    },
    Target {
        name: "tools",
        bytes_max: 1024,
        feed: tools::feed,
        seeds: tools::seeds,
    },
];

/// Bytes as decisions; when they are used up, every decision is the first of its kind.
pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    /// Whether there are none left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One.
    pub fn u8(&mut self) -> u8 {
        let (&first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        first
    }

    /// Two, of which the first counts more.
    pub fn u16(&mut self) -> u16 {
        u16::from(self.u8()) << 8 | u16::from(self.u8())
    }

    /// As many as there are, `max` at most.
    pub fn take(&mut self, max: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(max.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A length in one byte, and as many bytes as there are of it.
    pub fn some(&mut self) -> &'a [u8] {
        let length = self.u8().into();
        self.take(length)
    }
}

/// Lines of the log are put together as for an operator, and go nowhere.
pub fn log_into_nothing() {
    struct Nothing;

    impl log::Log for Nothing {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &log::Record<'_>) {
            assert!(record.args().to_string().len() < LINE_BYTES_MAX);
        }

        fn flush(&self) {}
    }

    // Another test may have been faster.
    if log::set_logger(&Nothing).is_ok() {
        log::set_max_level(log::LevelFilter::Trace);
    }
}

/// A line of the log is a line: the longest names in it are those of a packet.
const LINE_BYTES_MAX: usize = 1 << 20;
