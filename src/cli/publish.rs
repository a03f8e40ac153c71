//! `midge pub`, and `mosquitto_pub`: publishes one message, one again and again, or each line of standard input.
//!
//! It knows where payloads come from and when the last one is where it belongs; packets are the client's.
//! 1. A line is taken from standard input when there is room to send it: what waits in memory is bounded.
//! 2. DISCONNECT follows the last acknowledgement, not the last message: exit code 0 says that the server has them all.

mod lines;
mod progress;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Instant;

use super::client::error::{EXIT_FAILED, reason_text};
use super::client::options::{Options, Payload, Tool};
use super::client::session::{PAYLOAD_BYTES_MAX, PublishError};
use super::client::{Client, Handler, Lost, Session, Turn};
use super::tool::{self, Complaints};
use crate::config::system_reason;
use crate::mqtt::{Ack, Connack, PacketId, Property, ReasonCode};
use lines::Lines;
use progress::Progress;

/// Runs the tool.
pub fn main(called: &OsStr, arguments: &[OsString]) -> ExitCode {
    tool::main(Tool::Publish, called, arguments, run)
}

/// Why an option is there that the tool cannot do without.
pub const PARSED: &str = "no command line without it is let through";

fn run(options: &Options) -> Result<(), u8> {
    let complaints = Complaints::new(options);
    let content = load(options, complaints)?;
    let topic = options.publish.topic.as_deref().expect(PARSED);
    let mut publisher = Publisher::new(options, complaints, topic, content);
    let failed = |error| complaints.not_connected(&error);
    let mut client = Client::new(options, None).map_err(failed)?;
    client.connect().map_err(failed)?;
    loop {
        publisher.publish(&mut client.session);
        let input = publisher.wants_input(&client.session).then(io::stdin);
        let until = publisher.due();
        match client.turn(&mut publisher, until, input.as_ref().map(AsFd::as_fd)) {
            Ok(Turn::AlsoReady) => publisher.read_lines()?,
            Ok(Turn::Done | Turn::Interrupted) => publisher.show_bytes(&mut client.session),
            Ok(Turn::Left) => return publisher.outcome(),
            Err(lost)
                if publisher.lines.is_some() && !lost.is_final() && publisher.refused == 0 =>
            {
                client.reconnect(None).map_err(failed)?;
            }
            Err(lost) => {
                publisher.progress.end();
                // Mosquitto's two ways of sending find this out differently.
                let lost = match publisher.lines.is_some() && publisher.refused != 0 {
                    true => Lost::Refused,
                    false => lost,
                };
                return Err(complaints.lost(&lost, publisher.refused));
            }
        }
    }
}

/// What is published.
enum Content {
    Once(Vec<u8>),
    Lines,
}

fn load(options: &Options, complaints: Complaints) -> Result<Content, u8> {
    let payload = options.publish.payload.as_ref().expect(PARSED);
    Ok(match load_payload(payload, complaints)? {
        Some(bytes) => Content::Once(bytes),
        None => Content::Lines,
    })
}

/// The payload, or `None` for lines of standard input.
/// # Errors
/// The exit code, where it cannot be read or sent.
pub fn load_payload(payload: &Payload, complaints: Complaints) -> Result<Option<Vec<u8>>, u8> {
    let fail = |lines: &[String]| {
        for line in lines {
            complaints.say(line);
        }
        Err(EXIT_FAILED)
    };
    match payload {
        Payload::Message(bytes) => Ok(Some(bytes.clone())),
        Payload::Null => Ok(Some(Vec::new())),
        Payload::Lines => Ok(None),
        Payload::File(path) => {
            let name = path.display();
            let loading = format!("Error loading input file \"{name}\".");
            match fs::read(path) {
                Ok(bytes) if bytes.len() > PAYLOAD_BYTES_MAX => fail(&[
                    format!("Error: File must be less than {PAYLOAD_BYTES_MAX} bytes.\n"),
                    loading,
                ]),
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) => {
                    let reason = system_reason(&error);
                    fail(&[
                        format!("Error: Unable to read file \"{name}\": {reason}."),
                        loading,
                    ])
                }
            }
        }
        Payload::Input => {
            let mut bytes = Vec::new();
            let loading = "Error loading input from stdin.".to_owned();
            let most = PAYLOAD_BYTES_MAX as u64 + 1;
            match io::stdin().lock().take(most).read_to_end(&mut bytes) {
                Err(error) => fail(&[format!("Error: {}", system_reason(&error)), loading]),
                Ok(0) => fail(&["Error: Zero length input.".to_owned(), loading]),
                Ok(len) if len > PAYLOAD_BYTES_MAX => fail(&[
                    format!("Error: Message length must be less than {PAYLOAD_BYTES_MAX} bytes.\n"),
                    loading,
                ]),
                Ok(_) => Ok(Some(bytes)),
            }
        }
    }
}

struct Publisher<'a> {
    options: &'a Options,
    complaints: Complaints,
    topic: &'a str,
    /// With -l there is none.
    payload: Vec<u8>,
    /// -l
    lines: Option<Lines>,
    /// How many messages are to be sent in all, but for -l.
    wanted: u64,
    sent: u64,
    done: u64,
    /// When the next repetition may go.
    due: Option<Instant>,
    /// Whether this connection has not seen the topic yet, which then need not be said again if it has an alias.
    first: bool,
    has_topic_alias: bool,
    /// The code of a CONNECT that was refused, else 0.
    refused: u8,
    /// Why a message was not sent.
    error: Option<PublishError>,
    progress: Progress,
}

impl<'a> Publisher<'a> {
    fn new(
        options: &'a Options,
        complaints: Complaints,
        topic: &'a str,
        content: Content,
    ) -> Publisher<'a> {
        let (payload, lines) = match content {
            Content::Once(payload) => (payload, None),
            Content::Lines => (Vec::new(), Some(Lines::default())),
        };
        let properties = options.publish.properties.as_properties();
        let has_topic_alias = properties
            .iter()
            .any(|property| matches!(property, Property::TopicAlias(_)));
        Publisher {
            options,
            complaints,
            topic,
            payload,
            lines,
            wanted: options.publish.repeat,
            sent: 0,
            done: 0,
            due: None,
            first: true,
            has_topic_alias,
            refused: 0,
            error: None,
            progress: Progress::new(options),
        }
    }

    /// Sends what may be sent now, and says good-bye behind the last.
    fn publish(&mut self, session: &mut Session) {
        if !session.is_active() {
            return;
        }
        match self.lines.is_some() {
            true => self.publish_lines(session),
            false => self.publish_repetitions(session),
        }
        if self.error.is_some() || self.is_finished(session) {
            session.disconnect(ReasonCode::Success);
        }
    }

    fn publish_lines(&mut self, session: &mut Session) {
        let Some(mut lines) = self.lines.take() else {
            return;
        };
        while session.has_room()
            && self.error.is_none()
            && let Some(line) = lines.next()
        {
            self.publish_one(session, line);
        }
        self.lines = Some(lines);
    }

    /// One after the other, each when the one before is where it belongs and the delay is over. Without a delay those of
    /// QoS 0, which nobody answers, share a write.
    fn publish_repetitions(&mut self, session: &mut Session) {
        let payload = std::mem::take(&mut self.payload);
        while self.sent < self.wanted
            && self.error.is_none()
            && self.due.is_none_or(|due| Instant::now() >= due)
            && session.has_room()
            && (self.sent == self.done || self.shares_writes())
        {
            self.publish_one(session, &payload);
        }
        self.payload = payload;
    }

    fn shares_writes(&self) -> bool {
        self.options.qos as u8 == 0 && self.options.publish.repeat_delay.is_zero()
    }

    fn publish_one(&mut self, session: &mut Session, payload: &[u8]) {
        let topic = match self.has_topic_alias && !self.first {
            true => "",
            false => self.topic,
        };
        let publish = &self.options.publish;
        let properties = publish.properties.as_properties();
        match session.publish(topic, payload, self.options.qos, publish.retain, properties) {
            Ok(_) => {
                self.first = false;
                self.sent += 1;
                self.due = None;
            }
            Err(error) => self.error = Some(error),
        }
    }

    fn is_finished(&self, session: &Session) -> bool {
        match &self.lines {
            Some(lines) => lines.is_at_end() && session.has_sent_everything(),
            None => self.done >= self.wanted,
        }
    }

    /// Whether lines are to be read.
    fn wants_input(&self, session: &Session) -> bool {
        let wants = |lines: &Lines| !lines.has_ended();
        session.is_active() && session.has_room() && self.lines.as_ref().is_some_and(wants)
    }

    fn read_lines(&mut self) -> Result<(), u8> {
        let Some(lines) = &mut self.lines else {
            return Ok(());
        };
        lines.read(io::stdin().as_fd()).map_err(|error| {
            self.complaints
                .say(&format!("Error: {}", system_reason(&error)));
            EXIT_FAILED
        })
    }

    /// When the loop has something to do though nothing comes.
    fn due(&self) -> Option<Instant> {
        self.due.filter(|_| self.sent < self.wanted)
    }

    /// A message that takes long to send is worth telling about.
    fn show_bytes(&mut self, session: &mut Session) {
        if self.lines.is_none() && self.wanted == 1 && session.has_bytes_to_send() {
            let left = session.sending().len();
            self.progress.show_bytes(left, self.payload.len());
        }
    }

    fn outcome(&mut self) -> Result<(), u8> {
        self.progress.end();
        let Some(error) = self.error else {
            return match self.refused {
                0 => Ok(()),
                code => Err(code),
            };
        };
        self.complaints.say(&format!("Error: {}", error.text()));
        Err(error.code())
    }
}

impl Handler for Publisher<'_> {
    fn connected(&mut self, session: &mut Session, connack: &Connack<'_>) {
        self.first = true;
        if connack.code != 0 {
            self.refused = connack.code;
            self.complaints.refused(session, connack);
            return;
        }
        self.publish(session);
    }

    fn published(&mut self, session: &mut Session, outcome: &Ack<'_>) {
        self.done += 1;
        if outcome.reason_code.is_error() {
            self.warn(outcome.packet_id, outcome);
        }
        if !self.options.publish.repeat_delay.is_zero() {
            self.due = Some(Instant::now() + self.options.publish.repeat_delay);
        }
        let wanted = self.lines.is_none().then_some(self.wanted);
        self.progress.show(self.done, wanted);
        if self.is_finished(session) {
            session.disconnect(ReasonCode::Success);
        }
    }
}

impl Publisher<'_> {
    fn warn(&self, packet_id: PacketId, outcome: &Ack<'_>) {
        let text = reason_text(outcome.reason_code as u8);
        self.complaints
            .say(&format!("Warning: Publish {packet_id} failed: {text}."));
        for property in outcome.properties.iter() {
            if let Property::ReasonString(reason) = property {
                self.complaints.say(reason);
            }
        }
    }
}
