//! `midge sub`, and `mosquitto_sub`: shows the messages of some topics.
//!
//! It knows which messages are shown and when it is over; how they look is [`super::show`]'s.
//! 1. Messages behind the one that ends the tool (`-C`, `--retained-only`, a signal) are not acknowledged: a session that
//!    goes on gets them again.

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::client::error::{EXIT_FAILED, EXIT_INTERRUPTED};
use super::client::options::{Options, Tool};
use super::client::{Client, Handler, Lost, Session, Turn, catch_signals};
use super::show::Show;
use super::tool::{self, Complaints};
use crate::config::system_reason;
use crate::mqtt::{
    Ack, Connack, PacketId, Properties, Publish, QoS, ReasonCode, SubscriptionOptions, topic,
};

/// Runs the tool.
pub fn main(called: &OsStr, arguments: &[OsString]) -> ExitCode {
    tool::main(Tool::Subscribe, called, arguments, run)
}

fn run(options: &Options) -> Result<(), u8> {
    let complaints = Complaints::new(options);
    let signals = catch_signals().map_err(|error| {
        complaints.say(&format!("Error: {}", system_reason(&error)));
        EXIT_FAILED
    })?;
    let failed = |error| complaints.not_connected(&error);
    let mut client = Client::new(options, Some(signals)).map_err(failed)?;
    let show = Show::new(options, client.session.out.is_terminal()).map_err(|error| {
        eprintln!("{error}");
        EXIT_FAILED
    })?;
    show.begin(options, client.session.out.bytes());
    client.connect().map_err(failed)?;
    let mut subscriber = Subscriber::new(options, complaints, show);
    loop {
        let until = subscriber.due();
        match client.turn(&mut subscriber, until, None) {
            Ok(Turn::Left) => break,
            Ok(Turn::Interrupted) if !subscriber.is_connected => return Err(EXIT_INTERRUPTED),
            Ok(Turn::Interrupted) => subscriber.stop(&mut client.session),
            Ok(_) => {}
            Err(_) if subscriber.is_over => break,
            // The server does not want us any more: another client of our name, for one, would only be driven out in turn.
            Err(Lost::Disconnected) => break,
            Err(lost) if lost.is_final() => return Err(complaints.lost(&lost, subscriber.refused)),
            Err(_) => {
                if !client.reconnect(subscriber.deadline).map_err(failed)? {
                    if !subscriber.is_connected {
                        return Err(EXIT_INTERRUPTED);
                    }
                    subscriber.check_time();
                    break;
                }
            }
        }
        if subscriber.check_time() && !subscriber.is_over {
            if !subscriber.is_connected {
                return Err(EXIT_INTERRUPTED);
            }
            subscriber.stop(&mut client.session);
        }
        subscriber.tell_rate(&mut client.session);
    }
    subscriber.outcome()
}

struct Subscriber<'a> {
    options: &'a Options,
    complaints: Complaints,
    show: Show,
    /// Whether a server has ever answered CONNECT.
    is_connected: bool,
    /// Whether nothing is shown any more.
    is_over: bool,
    shown: u64,
    /// `-W`
    deadline: Option<Instant>,
    has_timed_out: bool,
    /// The code of a CONNECT that was refused, else 0.
    refused: u8,
    /// `--message-rate`: how many have come, and until when they are counted.
    rate: Option<(u64, Instant)>,
}

const RATE_INTERVAL: Duration = Duration::from_secs(1);

impl<'a> Subscriber<'a> {
    fn new(options: &'a Options, complaints: Complaints, show: Show) -> Subscriber<'a> {
        let now = Instant::now();
        let rate = options.subscribe.message_rate;
        Subscriber {
            options,
            complaints,
            show,
            is_connected: false,
            is_over: false,
            shown: 0,
            deadline: options.subscribe.timeout.map(|timeout| now + timeout),
            has_timed_out: false,
            refused: 0,
            rate: rate.then_some((0, now + RATE_INTERVAL)),
        }
    }

    /// When the loop has something to do though nothing comes.
    fn due(&self) -> Option<Instant> {
        let deadline = self.deadline.filter(|_| !self.is_over);
        deadline
            .into_iter()
            .chain(self.rate.map(|(_, end)| end))
            .min()
    }

    /// Whether `-W` has run out.
    fn check_time(&mut self) -> bool {
        let is_out = self
            .deadline
            .is_some_and(|deadline| Instant::now() >= deadline);
        self.has_timed_out |= is_out && !self.is_over;
        is_out
    }

    /// The user, or `-W`, has enough: the server may publish the will.
    fn stop(&mut self, session: &mut Session) {
        self.is_over = true;
        session.disconnect(ReasonCode::DisconnectWithWillMessage);
    }

    /// All that was wanted was shown; what it brought about (`--remove-retained`) is still to reach the server.
    fn end(&mut self, session: &mut Session) {
        self.is_over = true;
        if session.has_sent_everything() {
            session.disconnect(ReasonCode::Success);
        }
    }

    fn tell_rate(&mut self, session: &mut Session) {
        let now = Instant::now();
        if let Some((count, end)) = &mut self.rate
            && now >= *end
        {
            session.out.line(format_args!("{count} msgs/s"));
            session.out.flush();
            *count = 0;
            *end = now.max(*end + RATE_INTERVAL);
        }
    }

    fn outcome(&self) -> Result<(), u8> {
        self.complaints.outcome(self.has_timed_out, self.refused)
    }

    fn is_filtered_out(&self, publish: &Publish<'_>) -> bool {
        let subscribe = &self.options.subscribe;
        let matches = |filter: &String| topic::matches(filter, publish.topic);
        publish.retain && subscribe.ignores_retained || subscribe.filter_outs.iter().any(matches)
    }
}

/// What SUBSCRIBE asks for.
pub fn subscription_options(options: &Options) -> SubscriptionOptions {
    let subscribe = &options.subscribe;
    SubscriptionOptions::new(options.qos)
        .with_retain_as_published(subscribe.retain_as_published)
        .with_retain_handling(subscribe.retain_handling)
}

impl Handler for Subscriber<'_> {
    fn connected(&mut self, session: &mut Session, connack: &Connack<'_>) {
        self.is_connected = true;
        self.refused = connack.code;
        if connack.code != 0 {
            self.complaints.refused(session, connack);
            self.is_over = true;
            session.disconnect(ReasonCode::Success);
            return;
        }
        let subscribe = &self.options.subscribe;
        let wanted = subscription_options(self.options);
        let filters: Vec<_> = (subscribe.filters.iter())
            .map(|filter| (filter.as_str(), wanted))
            .collect();
        if !filters.is_empty() {
            session.subscribe(&filters, subscribe.subscribe_properties.as_properties());
        }
        for filter in &subscribe.unsubscribes {
            session.unsubscribe(filter, subscribe.unsubscribe_properties.as_properties());
        }
    }

    fn message(&mut self, session: &mut Session, publish: &Publish<'_>) {
        if let Some((count, _)) = &mut self.rate {
            *count += 1;
            return;
        }
        if self.is_over {
            return;
        }
        let subscribe = &self.options.subscribe;
        if subscribe.retained_only && !publish.retain {
            self.end(session);
            return;
        }
        if self.is_filtered_out(publish) {
            return;
        }
        if subscribe.removes_retained && publish.retain {
            let nothing = Properties::NONE;
            // A server that takes neither QoS 1 nor retained messages has none to remove.
            let _ = session.publish(publish.topic, &[], QoS::AtLeastOnce, true, nothing);
        }
        self.show.message(session, publish);
        self.shown += 1;
        if subscribe.count == Some(self.shown) {
            self.end(session);
        }
    }

    fn subscribed(&mut self, session: &mut Session, packet_id: PacketId, codes: &[u8]) {
        if session.is_debugging() && !self.options.quiet {
            let codes: Vec<_> = codes.iter().map(u8::to_string).collect();
            let codes = codes.join(", ");
            session
                .out
                .line(format_args!("Subscribed (mid: {packet_id}): {codes}"));
        }
        if codes.iter().all(|&code| code >= 0x80) {
            session.disconnect(ReasonCode::Success);
            self.complaints
                .say("All subscription requests were denied.");
        }
        if self.options.subscribe.exits_after_suback {
            session.disconnect(ReasonCode::Success);
        }
    }

    fn published(&mut self, session: &mut Session, _outcome: &Ack<'_>) {
        if self.is_over && session.has_sent_everything() {
            session.disconnect(ReasonCode::Success);
        }
    }
}
