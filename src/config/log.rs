//! The lines about logging, as far as they were given -> [`Log`].
//!
//! It knows destinations and types, and what the first of each takes the place of. It does not know files.

use std::path::PathBuf;

use super::{Log, LogTypes, Overrides};

/// The syslog facility `daemon`, and the first of local0 to local7.
const FACILITY_DAEMON: u8 = 3;
const FACILITY_LOCAL0: u8 = 16;

/// Logging, as far as it was given.
#[derive(Debug)]
pub struct LogDraft {
    log: Log,
    dest_given: bool,
    dest_in_force: bool,
    to_syslog: bool,
    facility: u8,
    types: Option<LogTypes>,
}

impl LogDraft {
    /// Where nothing is said.
    pub fn new() -> LogDraft {
        LogDraft {
            log: Log::default(),
            dest_given: false,
            dest_in_force: false,
            to_syslog: false,
            facility: FACILITY_DAEMON,
            types: None,
        }
    }

    /// `log_timestamp`
    pub fn set_timestamp(&mut self, timestamp: bool) {
        self.log.timestamp = timestamp;
    }

    /// `log_timestamp_format`
    pub fn set_timestamp_format(&mut self, format: String) {
        self.log.timestamp_format = Some(format);
    }

    /// `log_facility`, 0 to 7 for local0 to local7.
    pub fn set_facility(&mut self, local: u8) {
        self.facility = FACILITY_LOCAL0 + local;
    }

    /// `log_dest`; whether it has an effect.
    pub fn set_dest(&mut self, word: &str, path: Option<PathBuf>) -> bool {
        // The first destination takes the place of the default, and 'none' that of all before it.
        if !self.dest_given || word == "none" {
            self.log = Log {
                stdout: false,
                stderr: false,
                file: None,
                topic: false,
                ..self.log.clone()
            };
            self.to_syslog = false;
        }
        self.dest_given = true;
        match word {
            "none" => {}
            "stdout" => self.log.stdout = true,
            "stderr" => self.log.stderr = true,
            "file" => self.log.file = path,
            "syslog" => self.to_syslog = true,
            "topic" => self.log.topic = true,
            "dlt" | "android" => return false,
            other => unreachable!("log destination without an arm: {other}"),
        }
        self.dest_in_force = true;
        true
    }

    /// `log_type`
    pub fn set_type(&mut self, word: &str) {
        let given = self.types.unwrap_or(LogTypes::NONE);
        self.types = Some(match word {
            "none" => LogTypes::NONE,
            "all" => LogTypes::ALL,
            "error" => given.with(LogTypes::ERROR),
            "warning" => given.with(LogTypes::WARNING),
            "notice" => given.with(LogTypes::NOTICE),
            "information" => given.with(LogTypes::INFORMATION),
            "subscribe" => given.with(LogTypes::SUBSCRIBE),
            "unsubscribe" => given.with(LogTypes::UNSUBSCRIBE),
            "debug" => given.with(LogTypes::DEBUG),
            // There are no lines of these two types.
            "internal" | "websockets" => given,
            other => unreachable!("log type without an arm: {other}"),
        });
    }

    /// What its lines and the command line came to.
    pub fn finish(&self, overrides: &Overrides) -> Log {
        let types = match self.types {
            _ if overrides.quiet => LogTypes::NONE,
            _ if overrides.verbose => LogTypes::ALL,
            types => types.unwrap_or(LogTypes::DEFAULT),
        };
        Log {
            // A broker whose only destinations have no effect would say nothing, not even that.
            stderr: self.log.stderr || (self.dest_given && !self.dest_in_force),
            syslog: self.to_syslog.then_some(self.facility),
            types,
            ..self.log.clone()
        }
    }
}
