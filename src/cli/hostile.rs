//! What anybody on the network can say to the tools, without a network: the entrance of `tests/fuzz`.
//!
//! It knows where bytes of others are looked at, and what may be expected whatever they are: every function here
//! ends, and none panics.

use jiff::Zoned;
use jiff::tz::TimeZone;

use super::client::options::{self, Environment, Request, Tool};
use super::client::output::Output;
use super::client::session::{Handler, Session};
pub use super::client::transport::hostile::{frames, handshake, name_server, proxy};
use super::format::{Format, Plain, write_plain};
use crate::mqtt::{
    self, Connack, Limits, Properties, Publish, QoS, ReasonCode, SubscriptionOptions,
};

/// Everything that can be shown of a message.
const FORMAT: &str = "%A %C %D %E %F %I %J %P %R %S %U %X %d %f %j %l %m %p %q %r %t %x \
    %-12.3t %020l %.1:x %9.2f @Y @N %%\\n";

/// A tool that shows what comes in every way, and asks for something once it is connected.
struct Everything {
    format: Format,
    now: Zoned,
}

impl Handler for Everything {
    fn connected(&mut self, session: &mut Session, _connack: &Connack<'_>) {
        let filters = [("a/#", SubscriptionOptions::new(QoS::ExactlyOnce))];
        session.subscribe(&filters, Properties::NONE);
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            // The server may not take it, which it said in its CONNACK.
            let _ = session.publish("a/b", b"payload", qos, true, Properties::NONE);
        }
        session.unsubscribe("a/#", Properties::NONE);
    }

    fn message(&mut self, session: &mut Session, publish: &Publish<'_>) {
        let out = session.out.bytes();
        // What cannot be shown is left out, and told to the user.
        let _ = self.format.write(publish, &self.now, out);
        let plain = Plain {
            verbose: true,
            newline: true,
            colour: true,
        };
        write_plain(publish, plain, out);
    }
}

/// A server sends `bytes` to a client of 5.0 or 3.1.1; after what is no MQTT the client comes again.
pub fn server(is_v5: bool, mut bytes: &[u8]) {
    let version = if is_v5 { "5" } else { "311" };
    let words = ["-t", "a", "-i", "me", "-d", "-M", "2", "-V", version];
    let arguments: Vec<_> = words.iter().map(Into::into).collect();
    let environment = Environment {
        config_home: None,
        home: None,
        process_id: 1,
        random: [0; 18],
        errors_to_terminal: false,
        check_format: &|_| Ok(()),
    };
    let Ok(Request::Run(options)) =
        options::parse(Tool::Subscribe, "sub", &arguments, &environment)
    else {
        unreachable!("these arguments are good");
    };
    let mut session = Session::new(&options, Output::kept());
    let mut tool = Everything {
        format: Format::parse(FORMAT, true).expect("it is a format"),
        now: Zoned::new(jiff::Timestamp::UNIX_EPOCH, TimeZone::UTC),
    };
    let limits = Limits {
        version: Some(session.version()),
        packet_bytes_max: u32::MAX,
    };
    session.begin();
    loop {
        let (outcome, length) = match mqtt::decode(bytes, limits) {
            Ok(None) => break,
            Ok(Some((packet, length))) => {
                (session.handle(packet, &bytes[..length], &mut tool), length)
            }
            Err(error) => (Err(error.into()), 1),
        };
        bytes = &bytes[length..];
        session.sent(&mut tool);
        session.out.bytes().clear();
        session.sending().clear();
        if outcome.is_err() {
            session.end();
            session.begin();
        } else if !session.ping() {
            session.has_room();
        }
    }
    session.disconnect(ReasonCode::Success);
}
