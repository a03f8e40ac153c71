//! `midge rr`, and `mosquitto_rr`: publishes a request, shows the response, and ends (MQTT 5.0, 4.10).
//!
//! Unlike Mosquitto's it says DISCONNECT at its end, so that a will is not sent for a client that had all it wanted.

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::client::error::{EXIT_FAILED, reason_text};
use super::client::options::{Options, Tool};
use super::client::{Client, Handler, Session, Turn};
use super::publish::{PARSED, load_payload};
use super::show::Show;
use super::subscribe::subscription_options;
use super::tool::{self, Complaints};
use crate::mqtt::{Connack, PacketId, Publish, ReasonCode};

/// Runs the tool.
pub fn main(called: &OsStr, arguments: &[OsString]) -> ExitCode {
    tool::main(Tool::Request, called, arguments, run)
}

/// The code of a server that does not speak the version (0x84 of MQTT 5.0, 2.4).
const UNSUPPORTED: u8 = ReasonCode::UnsupportedProtocolVersion as u8;

fn run(options: &Options) -> Result<(), u8> {
    let complaints = Complaints::new(options);
    let payload = options.publish.payload.as_ref().expect(PARSED);
    let payload = load_payload(payload, complaints)?.expect("rr knows no -l");
    let topic = options.publish.topic.as_deref().expect(PARSED);
    let response_topic = options.subscribe.response_topic.as_deref().expect(PARSED);
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
        payload,
        is_over: false,
        refused: 0,
        sent_at: None,
        latency: None,
        has_timed_out: false,
        deadline: options
            .subscribe
            .timeout
            .map(|timeout| Instant::now() + timeout),
    };
    loop {
        let until = requester.deadline.filter(|_| !requester.has_timed_out);
        match client.turn(&mut requester, until, None) {
            Ok(Turn::Left) => break,
            Ok(_) => {}
            Err(_) if requester.has_timed_out || requester.is_over => break,
            Err(lost) => return Err(complaints.lost(&lost, requester.refused)),
        }
        requester.check_time(&mut client.session);
    }
    requester.tell_latency(&mut client.session);
    requester.outcome()
}

struct Requester<'a> {
    options: &'a Options,
    complaints: Complaints,
    show: Show,
    topic: &'a str,
    response_topic: &'a str,
    payload: Vec<u8>,
    /// Whether there is nothing more to ask.
    is_over: bool,
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
    fn request(&mut self, session: &mut Session) {
        let publish = &self.options.publish;
        let properties = publish.properties.as_properties();
        self.sent_at = Some(Instant::now());
        let sent = session.publish(
            self.topic,
            &self.payload,
            self.options.qos,
            publish.retain,
            properties,
        );
        if let Err(error) = sent {
            self.complaints.say(&format!("Error: {}", error.text()));
            self.end(session);
            self.refused = error.code();
        }
    }

    fn end(&mut self, session: &mut Session) {
        self.is_over = true;
        session.disconnect(ReasonCode::Success);
    }

    fn check_time(&mut self, session: &mut Session) {
        let is_out = self
            .deadline
            .is_some_and(|deadline| Instant::now() >= deadline);
        if is_out && !self.has_timed_out && !self.is_over {
            self.has_timed_out = true;
            self.is_over = true;
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
        session
            .out
            .line(format_args!("Latency: {}", latency_text(latency)));
        session.out.flush();
    }

    fn outcome(&self) -> Result<(), u8> {
        self.complaints.outcome(self.has_timed_out, self.refused)
    }
}

fn latency_text(latency: Duration) -> String {
    let nanoseconds = latency.subsec_nanos();
    if latency.as_secs() > 0 {
        format!("{}.{nanoseconds:09}", latency.as_secs())
    } else if nanoseconds < 1_000 {
        format!("{nanoseconds}ns")
    } else if nanoseconds < 1_000_000 {
        format!("{:.6}µs", f64::from(nanoseconds) / 1e3)
    } else {
        format!("{:.6}ms", f64::from(nanoseconds) / 1e6)
    }
}

impl Handler for Requester<'_> {
    fn connected(&mut self, session: &mut Session, connack: &Connack<'_>) {
        if connack.code != 0 {
            self.refused = connack.code;
            match connack.code {
                UNSUPPORTED => self.complaints.say(&format!(
                    "Connection error: {}. mosquitto_rr only supports connecting to an MQTT v5 broker",
                    reason_text(connack.code)
                )),
                _ => self.complaints.refused(session, connack),
            }
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
            _ => self.request(session),
        }
    }

    fn message(&mut self, session: &mut Session, publish: &Publish<'_>) {
        let ignored = publish.retain && self.options.subscribe.ignores_retained;
        if self.is_over || ignored {
            return;
        }
        self.latency = self.sent_at.map(|sent_at| sent_at.elapsed());
        self.show.message(session, publish);
        self.end(session);
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
