//! `midge rr`, and `mosquitto_rr`: publishes a request, shows the response, and ends (MQTT 5.0, 4.10).
//!
//! With `-l`, which Mosquitto's has not made work, each line is a request, sent when the one before is answered.
//! Unlike Mosquitto's it says DISCONNECT at its end, so that a will is not sent for a client that had all it wanted.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::client::error::{EXIT_FAILED, EXIT_TIMED_OUT, reason_text};
use super::client::options::{Options, Tool};
use super::client::{Client, Handler, Session, Turn};
use super::publish::{Lines, load_payload};
use super::show::Show;
use super::subscribe::subscription_options;
use super::tool::{self, Complaints};
use crate::config::system_reason;
use crate::mqtt::{
    Connack, PacketId, Properties, Property, PropertyBuffer, Publish, ReasonCode,
};

/// Runs the tool.
pub fn main(called: &OsStr, arguments: &[OsString]) -> ExitCode {
    tool::main(Tool::Request, called, arguments, run)
}

fn run(options: &Options, name: &str) -> Result<(), u8> {
    let complaints = Complaints::new(options);
    let source = match &options.publish.payload {
        None => None,
        Some(payload) => Some(match load_payload(payload, complaints)? {
            Some(bytes) => Requests::Once(bytes),
            None => Requests::Lines(Lines::default()),
        }),
    };
    let (Some(topic), Some(requests), Some(response_topic)) = (
        &options.publish.topic,
        source,
        &options.subscribe.response_topic,
    ) else {
        eprintln!("Error: All of topic, message, and response topic must be supplied.");
        eprintln!("\nUse '{name} --help' to see usage.");
        return Err(EXIT_FAILED);
    };
    let properties = request_properties(options, response_topic).ok_or_else(|| {
        complaints.say("Error in PUBLISH properties: Duplicate response topic.");
        EXIT_FAILED
    })?;
    let failed = |error| complaints.not_connected(&error);
    let mut client = Client::new(options, None).map_err(failed)?;
    let show = Show::new(options, client.session.out.is_terminal()).map_err(|error| {
        eprintln!("{error}");
        EXIT_FAILED
    })?;
    client.connect().map_err(failed)?;
    let mut requester = Requester {
        options,
        complaints,
        show,
        topic,
        response_topic,
        properties,
        requests,
        state: State::New,
        refused: 0,
        sent_at: None,
        latency: None,
        has_timed_out: false,
        deadline: options.subscribe.timeout.map(|timeout| Instant::now() + timeout),
    };
    loop {
        requester.request(&mut client.session);
        let input = requester.wants_input().then(io::stdin);
        let until = requester.deadline.filter(|_| !requester.has_timed_out);
        match client.turn(&mut requester, until, input.as_ref().map(AsFd::as_fd)) {
            Ok(Turn::AlsoReady) => requester.read_lines()?,
            Ok(Turn::Left) => break,
            Ok(Turn::Done | Turn::Interrupted) => {}
            Err(_) if requester.has_timed_out || requester.state == State::Over => break,
            Err(lost) => return Err(complaints.lost(&lost, requester.refused)),
        }
        requester.check_time(&mut client.session);
    }
    requester.tell_latency(&mut client.session);
    requester.outcome()
}

/// The properties of the request; `None` if they name a response topic already.
fn request_properties(options: &Options, response_topic: &str) -> Option<PropertyBuffer> {
    let mut properties = options.publish.properties.clone();
    let names_one = |property| matches!(property, Property::ResponseTopic(_));
    if properties.as_properties().iter().any(names_one) {
        return None;
    }
    properties.push(Property::ResponseTopic(response_topic)); // [MQTT-3.3.2-13]
    Some(properties)
}

/// What is asked.
enum Requests {
    Once(Vec<u8>),
    Lines(Lines),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not yet subscribed.
    New,
    /// A request may be sent.
    Ready,
    /// It was sent.
    Waiting,
    /// There is nothing more to ask.
    Over,
}

struct Requester<'a> {
    options: &'a Options,
    complaints: Complaints,
    show: Show,
    topic: &'a str,
    response_topic: &'a str,
    properties: PropertyBuffer,
    requests: Requests,
    state: State,
    /// The code of a CONNECT that was refused, else 0.
    refused: u8,
    sent_at: Option<Instant>,
    /// How long the last response took.
    latency: Option<Duration>,
    /// `-W`
    deadline: Option<Instant>,
    has_timed_out: bool,
}

impl Requester<'_> {
    /// Sends the next request, if it is time for one.
    fn request(&mut self, session: &mut Session) {
        if self.state != State::Ready {
            return;
        }
        let payload = match &mut self.requests {
            Requests::Once(bytes) => Some(bytes.as_slice()),
            Requests::Lines(lines) => lines.next(),
        };
        let Some(payload) = payload else {
            if matches!(&self.requests, Requests::Lines(lines) if lines.is_at_end()) {
                self.end(session);
            }
            return;
        };
        let properties = match session.version().is_v5() {
            true => self.properties.as_properties(),
            false => Properties::NONE,
        };
        let (qos, retain) = (self.options.qos, self.options.publish.retain);
        self.sent_at = Some(Instant::now());
        self.state = State::Waiting;
        if let Err(error) = session.publish(self.topic, payload, qos, retain, properties) {
            self.complaints.say(&format!("Error: {}", error.text()));
            self.end(session);
            self.refused = error.code();
        }
    }

    fn end(&mut self, session: &mut Session) {
        self.state = State::Over;
        session.disconnect(ReasonCode::Success);
    }

    fn wants_input(&self) -> bool {
        let wants = |lines: &Lines| !lines.has_ended();
        self.state == State::Ready
            && matches!(&self.requests, Requests::Lines(lines) if wants(lines))
    }

    fn read_lines(&mut self) -> Result<(), u8> {
        let Requests::Lines(lines) = &mut self.requests else {
            return Ok(());
        };
        lines.read(io::stdin().as_fd()).map_err(|error| {
            self.complaints.say(&format!("Error: {}", system_reason(&error)));
            EXIT_FAILED
        })
    }

    fn check_time(&mut self, session: &mut Session) {
        let is_out = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if is_out && !self.has_timed_out && self.state != State::Over {
            self.has_timed_out = true;
            self.state = State::Over;
            session.disconnect(ReasonCode::DisconnectWithWillMessage);
        }
    }

    fn tell_latency(&self, session: &mut Session) {
        if !self.options.subscribe.latency {
            return;
        }
        // Without a response Mosquitto tells of a time that is none.
        let Some(latency) = self.latency else {
            return;
        };
        session.out.line(format_args!("Latency: {}", latency_text(latency)));
        session.out.flush();
    }

    fn outcome(&self) -> Result<(), u8> {
        if self.has_timed_out {
            self.complaints.say("Timed out");
            return Err(EXIT_TIMED_OUT);
        }
        match self.refused {
            0 => Ok(()),
            code => Err(code),
        }
    }
}

fn latency_text(latency: Duration) -> String {
    let nanoseconds = latency.subsec_nanos();
    match nanoseconds {
        _ if latency.as_secs() > 0 => format!("{}.{nanoseconds:09}", latency.as_secs()),
        ..1_000 => format!("{nanoseconds}ns"),
        ..1_000_000 => format!("{:.6}µs", f64::from(nanoseconds) / 1e3),
        _ => format!("{:.6}ms", f64::from(nanoseconds) / 1e6),
    }
}

impl Handler for Requester<'_> {
    fn connected(&mut self, session: &mut Session, connack: &Connack<'_>) {
        if connack.code != 0 {
            self.refused = connack.code;
            self.complaints.refused(session, connack);
            self.end(session);
            return;
        }
        let properties = self.options.subscribe.subscribe_properties.as_properties();
        let filter = (self.response_topic, subscription_options(self.options));
        session.subscribe(&[filter], properties);
    }

    fn subscribed(&mut self, session: &mut Session, _packet_id: PacketId, codes: &[u8]) {
        match codes.first() {
            Some(&code) if code >= 0x80 => {
                self.complaints.say(reason_text(code));
                self.end(session);
            }
            _ => {
                self.state = State::Ready;
                self.request(session);
            }
        }
    }

    fn message(&mut self, session: &mut Session, publish: &Publish<'_>) {
        let ignored = publish.retain && self.options.subscribe.ignores_retained;
        if self.state == State::Over || ignored {
            return;
        }
        self.latency = self.sent_at.map(|sent_at| sent_at.elapsed());
        self.show.message(session, publish);
        match &self.requests {
            Requests::Once(_) => self.end(session),
            Requests::Lines(_) => {
                self.state = State::Ready;
                self.request(session);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_texts() {
        for (nanoseconds, text) in [
            (999, "999ns"),
            (1_500, "1.500000µs"),
            (12_345_678, "12.345678ms"),
            (1_000_000_001, "1.000000001"),
        ] {
            assert_eq!(latency_text(Duration::from_nanos(nanoseconds)), text);
        }
    }
}
