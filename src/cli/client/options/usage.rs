//! The usage of each tool, made of the table of options, and its version.
//!
//! 1. No line is longer than 100 characters.

use std::fmt::Write;

use super::Tool;
use super::table::{self, Action, Entry, Group};

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Where help begins, in characters.
const COLUMN: usize = 34;
/// The longest line, in characters.
const WIDTH: usize = 100;

const GROUPS: &[(Group, &str)] = &[
    (Group::Message, "Message"),
    (Group::Subscription, "Subscription"),
    (Group::Output, "Output"),
    (Group::Connection, "Connection"),
    (Group::Session, "Session"),
    (Group::Tls, "TLS"),
    (Group::Will, "Will"),
    (Group::Properties, "Properties"),
    (Group::General, "General"),
];

/// What `--version` shows.
pub fn version(called: &str) -> String {
    format!("{called} version {VERSION} running on midge {VERSION}.\n")
}

/// What `--help` shows.
pub fn usage(tool: Tool, called: &str) -> String {
    let (purpose, forms, examples): (&str, &[&str], &[&str]) = match tool {
        Tool::Publish => (
            "Sends one message or many to an MQTT broker, and ends.",
            &["{-t TOPIC | -L URL} {-m TEXT | -f FILE | -s | -l | -n} [OPTION]..."],
            &[
                "-t kitchen/light -m on",
                "-h broker.example -p 8883 -u ann -P secret -t a/b -q 1 -r -f picture.jpg",
                "-L mqtts://ann:secret@broker.example/a/b -n -r",
            ],
        ),
        Tool::Subscribe => (
            "Subscribes to topics of an MQTT broker, and shows the messages that arrive.",
            &["{-t FILTER | -U FILTER | -L URL}... [OPTION]..."],
            &[
                "-t 'kitchen/#' -v",
                "-h broker.example -t '+/temperature' -F '%I %t %p'",
                "-t sensors/door -C 1 -W 30",
            ],
        ),
        Tool::Request => (
            "Sends a request to an MQTT broker, and shows the response.",
            &["{-t TOPIC | -L URL} -e TOPIC {-m TEXT | -f FILE | -s | -n} [OPTION]..."],
            &["-t service/time -e my/answers -m now -W 5"],
        ),
    };
    let mut out = version(called);
    let mut line = |text: std::fmt::Arguments<'_>| {
        out.write_fmt(text).expect("a String takes everything");
        out.push('\n');
    };
    line(format_args!("{purpose}\n"));
    for form in forms {
        line(format_args!("Usage: {called} {form}"));
    }
    for (group, title) in GROUPS {
        let entries: Vec<&Entry> = table::entries(tool)
            .filter(|entry| entry.group == *group)
            .collect();
        if entries.is_empty() {
            continue;
        }
        line(format_args!("\n{title}:"));
        for entry in entries {
            for text in describe(entry) {
                line(format_args!("{text}"));
            }
        }
    }
    line(format_args!("\nExamples:"));
    for example in examples {
        line(format_args!("  {called} {example}"));
    }
    out
}

/// The lines of one option.
fn describe(entry: &Entry) -> Vec<String> {
    let mut names = entry.names.join(", ");
    // Long names stand below each other.
    if names.starts_with("--") {
        names.insert_str(0, "    ");
    }
    let value = match &entry.action {
        Action::Value { metavar, .. } => metavar,
        Action::OptionFile => "FILE",
        Action::Property => "COMMAND PROPERTY VALUE",
        Action::Flag(_) | Action::Payload(_) | Action::Help | Action::Version => "",
    };
    let mut lines = Vec::new();
    let mut line = format!("  {names} {value}").trim_end().to_owned();
    if line.chars().count() >= COLUMN - 1 {
        lines.push(std::mem::take(&mut line));
    }
    line += &" ".repeat(COLUMN - line.chars().count());
    let mut words = entry.help.split(' ');
    line += words.next().unwrap_or_default();
    for word in words {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(std::mem::replace(&mut line, " ".repeat(COLUMN)));
        } else {
            line.push(' ');
        }
        line += word;
    }
    lines.push(line);
    lines
}
