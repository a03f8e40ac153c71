//! How `sub` and `rr` show a message: as it is, with its topic, or by a format; in colours on a terminal.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::Write;

use jiff::Zoned;

use super::client::Session;
use super::client::options::{Options, Target};
use super::format::{self, Format, FormatError, Plain};
use super::tool::Complaints;
use crate::mqtt::Publish;

/// Everything of `--random-filter`, in hundredths of a per cent.
const ALL: u16 = 10_000;

/// How messages are shown.
pub struct Show {
    format: Option<Format>,
    needs_time: bool,
    /// The last time that was needed: asking for it costs more than showing a message.
    now: Zoned,
    plain: Plain,
    newline: bool,
    random_filter: u16,
    random: u64,
    /// `-w`: the line of each topic.
    lines: Option<HashMap<String, usize>>,
    complaints: Complaints,
}

impl Show {
    /// As the options want it.
    /// # Errors
    /// If the format is none.
    pub fn new(options: &Options, is_terminal: bool) -> Result<Show, FormatError> {
        let subscribe = &options.subscribe;
        let format = match &subscribe.format {
            Some(text) => Some(Format::parse(text, subscribe.pretty)?),
            None => None,
        };
        Ok(Show {
            needs_time: format.as_ref().is_some_and(Format::needs_time),
            now: Zoned::now(),
            format,
            plain: Plain {
                verbose: subscribe.verbose,
                newline: subscribe.newline,
                colour: is_terminal,
            },
            newline: subscribe.newline,
            random_filter: subscribe.random_filter,
            random: RandomState::new().hash_one(0) | 1,
            lines: (subscribe.watch && !subscribe.message_rate).then(HashMap::new),
            complaints: Complaints::new(options),
        })
    }

    /// The head of what `-w` shows.
    pub fn begin(&self, options: &Options, out: &mut Vec<u8>) {
        if self.lines.is_none() {
            return;
        }
        let host = match &options.route.target {
            Target::Tcp { host, .. } => host.clone(),
            Target::Service { domain } => domain.clone(),
            Target::Unix(path) => path.display().to_string(),
        };
        let _ = writeln!(out, "\x1b[2J\x1b[1;1HBroker: {host}");
    }

    /// One message.
    pub fn message(&mut self, session: &mut Session, publish: &Publish<'_>) {
        let is_wanted = self.is_wanted();
        let out = session.out.bytes();
        let last = self.lines.as_mut().map(|lines| {
            // The first line is the head's.
            let next = lines.len() + 2;
            let line = *lines.entry(publish.topic.to_owned()).or_insert(next);
            let _ = write!(out, "\x1b[{line};1H");
            lines.len() + 1
        });
        if !is_wanted {
            return;
        }
        match &self.format {
            None => format::write_plain(publish, self.plain, out),
            Some(format) => {
                if self.needs_time {
                    self.now = Zoned::now();
                }
                if let Err(error) = format.write(publish, &self.now, out) {
                    self.complaints.say(&error.to_string());
                }
                if self.newline {
                    out.push(b'\n');
                }
            }
        }
        if let Some(last) = last {
            let _ = writeln!(out, "\x1b[{last};1H");
        }
        session.out.end();
    }

    /// Whether `--random-filter` lets the next message through.
    fn is_wanted(&mut self) -> bool {
        if self.random_filter >= ALL {
            return true;
        }
        // xorshift: which messages are left out matters to nobody.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % u64::from(ALL) < self.random_filter.into()
    }
}
