//! One line: its time, its text, and what of it may not be seen.
//!
//! It does not know where lines go.
//! 1. A line has no control characters but TAB, so no line end either: one line is one line wherever it goes.
//! 2. A line has at most [`LINE_BYTES_MAX`] bytes and is cut between characters.

use std::fmt::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Zoned;
use jiff::fmt::strtime::{BrokenDownTime, Config as TimeConfig};

use crate::config::Log;

/// The longest line in bytes, with its time and without a line end: what Mosquitto's buffer of 1000 holds.
pub const LINE_BYTES_MAX: usize = 999;

/// A line that is being written. What does not fit is left out.
#[derive(Default)]
pub struct Line {
    text: String,
    is_full: bool,
}

impl Line {
    /// A line with its time in front, if `settings` ask for one.
    pub fn new(settings: &Log) -> Line {
        let mut line = Line::default();
        if settings.timestamp {
            line.push_time(settings.timestamp_format.as_deref());
            line.push_escaped(": ");
        }
        line
    }

    /// The text of the line.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn push_time(&mut self, format: Option<&str>) {
        match format {
            Some(format) => self.push_escaped(&local_time(format, &Zoned::now())),
            None => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH);
                // A clock before 1970 has not been set yet.
                self.push_escaped(&now.map_or(0, |since| since.as_secs()).to_string());
            }
        }
    }

    fn push_escaped(&mut self, text: &str) {
        for char in text.chars() {
            if self.is_full {
                return;
            }
            if char.is_control() && char != '\t' {
                let escaped = char.escape_default();
                self.push_if_it_fits(escaped.len(), escaped);
            } else {
                self.push_if_it_fits(char.len_utf8(), [char]);
            }
        }
    }

    fn push_if_it_fits(&mut self, bytes: usize, chars: impl IntoIterator<Item = char>) {
        self.is_full = self.text.len() + bytes > LINE_BYTES_MAX;
        if !self.is_full {
            self.text.extend(chars);
        }
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push_escaped(text);
        Ok(())
    }
}

/// `now` by the strftime `format`; what is no directive stands as it is, as in C.
pub fn local_time(format: &str, now: &Zoned) -> String {
    let config = TimeConfig::new().lenient(true);
    match BrokenDownTime::from(now).to_string_with_config(&config, format) {
        Ok(time) => time,
        Err(_) => now.timestamp().as_second().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let time: Zoned = "2024-02-29T13:05:09+01:00[+01:00]"
            .parse()
            .expect("a time of the right form");
        for (format, expected) in [
            ("%Y-%m-%dT%H:%M:%S", "2024-02-29T13:05:09"),
            ("%s", "1709208309"),
            ("%d/%b/%y %I:%M:%S %p %z", "29/Feb/24 01:05:09 PM +0100"),
            ("%F %T", "2024-02-29 13:05:09"),
            ("100%%", "100%"),
            ("plain", "plain"),
            ("%i!", "%i!"),
            ("%", "%"),
            ("%H%", "13%"),
            ("", ""),
        ] {
            assert_eq!(local_time(format, &time), expected, "{format}");
        }
    }

    #[test]
    fn a_line_starts_with_its_time() {
        let prefix = |settings: &Log| Line::new(settings).as_str().to_owned();
        let seconds = prefix(&Log::default());
        let number = seconds
            .strip_suffix(": ")
            .and_then(|number| number.parse::<u64>().ok());
        assert!(
            number.is_some_and(|number| number > 1_700_000_000),
            "{seconds}"
        );
        let format = |format: &str| Log {
            timestamp_format: Some(format.to_owned()),
            ..Log::default()
        };
        assert_eq!(prefix(&format("at")), "at: ");
        assert_eq!(prefix(&format("a\nb")), "a\\nb: ");
        let without = Log {
            timestamp: false,
            ..format("at")
        };
        assert_eq!(prefix(&without), "");
    }

    #[test]
    fn text_stays_on_its_line() {
        for (text, expected) in [
            ("plain ä € 😀", "plain ä € 😀"),
            ("\ttopic", "\ttopic"),
            ("a\nb", "a\\nb"),
            ("a\r\u{1b}[2J\u{0}", "a\\r\\u{1b}[2J\\u{0}"),
            ("\u{85}\u{7f}", "\\u{85}\\u{7f}"),
        ] {
            let mut line = Line::default();
            line.write_str(text).expect("it never fails");
            assert_eq!(line.as_str(), expected);
        }
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        for (before, text, expected) in [
            (999, "a", ""),
            (998, "ab", "a"),
            (998, "ä", ""),
            (997, "äb", "ä"),
            (995, "😀a", "😀"),
            (996, "😀a", ""),
            (998, "\n", ""),
            (997, "\n", "\\n"),
            (991, "\u{1b}[2J", "\\u{1b}[2"),
        ] {
            let mut line = Line::default();
            let before = "x".repeat(before);
            line.write_str(&before).expect("it never fails");
            line.write_str(text).expect("it never fails");
            assert_eq!(line.as_str(), before + expected, "{text:?}");
        }
        let mut line = Line::default();
        line.write_str(&"😀".repeat(400)).expect("it never fails");
        line.write_str("a").expect("it never fails");
        assert_eq!(
            line.as_str(),
            "😀".repeat(249),
            "nothing stands behind a cut"
        );
    }
}
