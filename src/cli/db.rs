//! `midge db`: shows operators what a database holds, and checks it.
//!
//! It knows arguments and what is printed; what stands in a database is [`crate::persistence::look`]'s to read.
//! 1. A database is never changed, and can be looked at while a broker runs.
//! 2. What clients chose, such as topics, is printed without characters that a terminal obeys or that change how text is
//!    laid out; a backslash is doubled, so that the lists can be read back.

use super::tool::print;
use super::{EXIT_FAILED, EXIT_USAGE};
use crate::broker::journal::{Batch, DeliveryRecord, MessageRecord, SessionRecord};
use crate::config::{Config, Overrides};
use crate::mqtt::{QoS, SubscriptionOptions, topic};
use crate::persistence::look::{Look, look};
use getopts::{Matches, Options};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

const BRIEF: &str = "\
Usage: midge db [options] [FILE]

Shows what a database of the broker holds: FILE, or the one that a configuration file names. It is not changed, and a
broker may be using it. Lines of lists have fields between tabs.";

const MORE: &str = "
Exit codes: 0; 1 where the database cannot be read, or --check finds a fault; 3 for bad arguments.

Examples:
  midge db -c /etc/mosquitto/mosquitto.conf
  midge db --sessions /var/lib/mosquitto/mosquitto.midge
  midge db --check /var/lib/mosquitto/mosquitto.midge
";

fn options() -> Options {
    let mut options = Options::new();
    options
        .optopt("c", "config-file", "the configuration file that names the database", "FILE")
        .optflag(
            "",
            "sessions",
            "each session: client identifier, user name, when it ends, subscriptions, messages that wait, messages in \
             flight, QoS 2 messages not released, will",
        )
        .optopt(
            "",
            "session",
            "the subscriptions of a session (filter, QoS, options, identifier), and its messages (state, packet \
             identifier, QoS, topic, bytes, when it expires)",
            "CLIENT_ID",
        )
        .optflagopt(
            "",
            "retained",
            "each retained message, or those that a topic filter matches: topic, QoS, bytes, who published it, when \
             it expires",
            "FILTER",
        )
        .optflag("", "check", "look at every page, checksum and reference")
        .optflag("h", "help", "print this");
    options
}

/// Runs the command.
pub fn main(_called: &OsStr, arguments: &[OsString]) -> ExitCode {
    let matches = match options().parse(arguments) {
        Ok(matches) => matches,
        Err(error) => return complain(&format!("Error: {error}."), EXIT_USAGE),
    };
    if matches.opt_present("help") {
        print(&format!("{}{MORE}", options().usage(BRIEF)));
        return ExitCode::SUCCESS;
    }
    let path = match path(&matches) {
        Ok(path) => path,
        Err(text) => return complain(&text, EXIT_USAGE),
    };
    let chosen: Vec<&str> = ["sessions", "session", "retained", "check"]
        .into_iter()
        .filter(|it| matches.opt_present(it))
        .collect();
    if let [first, second, ..] = chosen[..] {
        let text = format!("Error: --{first} and --{second} exclude each other.");
        return complain(&text, EXIT_USAGE);
    }
    let is_check = matches.opt_present("check");
    let look = match look(&path, is_check) {
        Ok(look) => look,
        Err(error) => return complain(&error.to_string(), EXIT_FAILED),
    };
    for fault in &look.faults {
        tell(&format!("Warning: damaged: {fault}."));
    }
    let view = View::new(&look.records);
    let shown = if is_check {
        return check(&look, &view);
    } else if matches.opt_present("sessions") {
        view.sessions()
    } else if let Some(client_id) = matches.opt_str("session") {
        match look
            .records
            .sessions
            .iter()
            .find(|it| it.client_id == client_id)
        {
            Some(session) => view.session(session),
            None => {
                let text = format!(
                    "Error: There is no session of client {}.",
                    Plain(&client_id)
                );
                return complain(&text, EXIT_FAILED);
            }
        }
    } else if matches.opt_present("retained") {
        let filter = matches.opt_str("retained");
        if let Some(filter) = &filter
            && topic::check_filter(filter).is_err()
        {
            let text = format!("Error: '{}' is not a topic filter.", Plain(filter));
            return complain(&text, EXIT_USAGE);
        }
        view.retained(filter.as_deref())
    } else {
        format!(
            "database\t{}, {} bytes\n{}",
            path.display(),
            look.bytes,
            view.summary()
        )
    };
    print(&shown);
    ExitCode::SUCCESS
}

fn complain(text: &str, code: u8) -> ExitCode {
    tell(text);
    if code == EXIT_USAGE {
        tell("'midge db --help' tells more.");
    }
    code.into()
}

/// A line for standard error. Where that cannot be written to, the exit code still tells.
fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

fn path(matches: &Matches) -> Result<PathBuf, String> {
    match (&matches.free[..], matches.opt_str("config-file")) {
        ([file], None) => Ok(file.into()),
        ([], Some(file)) => {
            let config = Config::load_with(Some(file.as_ref()), Overrides::default());
            Ok(config
                .map_err(|error| error.to_string())?
                .persistence
                .database())
        }
        ([_, _], None) if matches.opt_present("retained") => {
            Err("Error: a topic filter is given as --retained=FILTER.".to_owned())
        }
        _ => Err("Error: a database is expected, or '-c' and a configuration file.".to_owned()),
    }
}

/// Text of a client's choice, fit for a terminal.
struct Plain<'a>(&'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // That of a whole string leaves combining characters alone, which belong to what stands before them.
        let mut rest = self.0;
        while let Some(quote) = rest.find(['\'', '"']) {
            let (before, from_quote) = rest.split_at(quote);
            let (quote, after) = from_quote.split_at(1);
            write!(f, "{}{quote}", before.escape_debug())?;
            rest = after;
        }
        write!(f, "{}", rest.escape_debug())
    }
}

/// A moment as people say it: how long it is from now.
struct When(Option<u64>, u64);

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let When(Some(time), now) = *self else {
            return f.write_str("never");
        };
        match time.saturating_sub(now) / 1000 {
            0 => f.write_str("over"),
            seconds @ 1..120 => write!(f, "in {seconds} s"),
            seconds @ 120..7200 => write!(f, "in {} min", seconds / 60),
            seconds @ 7200..172_800 => write!(f, "in {} h", seconds / 3600),
            seconds => write!(f, "in {} d", seconds / 86_400),
        }
    }
}

/// Records and what leads from one to another.
struct View<'a> {
    records: &'a Batch,
    messages: HashMap<u64, &'a MessageRecord>,
    deliveries: BTreeMap<u64, Vec<&'a DeliveryRecord>>,
    now: u64,
}

impl<'a> View<'a> {
    fn new(records: &'a Batch) -> View<'a> {
        let mut deliveries: BTreeMap<u64, Vec<_>> = BTreeMap::new();
        for delivery in &records.deliveries {
            deliveries
                .entry(delivery.session)
                .or_default()
                .push(delivery);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_millis() as u64;
        let ahead = records.clock_ahead.unwrap_or(0);
        View {
            records,
            messages: records.messages.iter().map(|it| (it.id, it)).collect(),
            deliveries,
            now: now.saturating_add_signed(-ahead),
        }
    }

    fn deliveries_of(&self, session: u64) -> &[&'a DeliveryRecord] {
        self.deliveries.get(&session).map_or(&[], Vec::as_slice)
    }

    fn summary(&self) -> String {
        let records = self.records;
        let in_flight = records
            .deliveries
            .iter()
            .filter(|it| it.packet_id != 0)
            .count();
        let retained = records.messages.iter().filter(|it| it.retained.is_some());
        let bytes: usize = records.messages.iter().map(|it| it.payload().len()).sum();
        [
            ("sessions", records.sessions.len()),
            ("subscriptions", records.subscriptions.len()),
            ("retained messages", retained.count()),
            ("messages that wait", records.deliveries.len() - in_flight),
            ("messages in flight", in_flight),
            ("messages not released", records.received.len()),
            ("bytes of payload", bytes),
        ]
        .map(|(what, count)| format!("{what}\t{count}\n"))
        .concat()
    }

    fn sessions(&self) -> String {
        let mut subscriptions: HashMap<u64, usize> = HashMap::new();
        for it in &self.records.subscriptions {
            *subscriptions.entry(it.session).or_default() += 1;
        }
        let mut received: HashMap<u64, usize> = HashMap::new();
        for it in &self.records.received {
            *received.entry(it.session).or_default() += 1;
        }
        let lines = self.records.sessions.iter().map(|it| {
            let deliveries = self.deliveries_of(it.id);
            let in_flight = deliveries.iter().filter(|it| it.packet_id != 0).count();
            let ends = match (it.expiry_seconds, it.ends) {
                (u32::MAX, _) => "never".to_owned(),
                (seconds, None) => format!("{seconds} s after its connection"),
                (_, ends) => When(ends, self.now).to_string(),
            };
            format!(
                "{}\t{}\t{ends}\t{}\t{}\t{in_flight}\t{}\t{}\n",
                Plain(&it.client_id),
                Plain(it.owner.user_name.as_deref().unwrap_or("-")),
                subscriptions.get(&it.id).unwrap_or(&0),
                deliveries.len() - in_flight,
                received.get(&it.id).unwrap_or(&0),
                if it.will.is_some() { "will" } else { "-" },
            )
        });
        lines.collect()
    }

    fn session(&self, session: &SessionRecord) -> String {
        let own = self
            .records
            .subscriptions
            .iter()
            .filter(|it| it.session == session.id);
        let mut text: String = own
            .map(|it| {
                let options = SubscriptionOptions::from_byte(it.options);
                let qos = options.map_or(0, |options| options.qos() as u8);
                let filter = Plain(&it.filter);
                format!(
                    "subscription\t{filter}\t{qos}\t{:#04x}\t{}\n",
                    it.options, it.identifier
                )
            })
            .collect();
        for it in self.deliveries_of(session.id) {
            let state = match (it.packet_id, it.message, it.qos) {
                (0, ..) => "waits",
                (_, None, _) => "waits for PUBCOMP",
                (_, _, QoS::ExactlyOnce) => "waits for PUBREC",
                _ => "waits for PUBACK",
            };
            let message = it.message.and_then(|row| self.messages.get(&row));
            text += &self.message(state, it.packet_id, it.qos, message.copied());
        }
        for it in self
            .records
            .received
            .iter()
            .filter(|it| it.session == session.id)
        {
            let message = self.messages.get(&it.message).copied();
            text += &self.message("waits for PUBREL", it.packet_id, QoS::ExactlyOnce, message);
        }
        text
    }

    fn message(&self, state: &str, id: u16, qos: QoS, message: Option<&MessageRecord>) -> String {
        let qos = qos as u8;
        let Some(message) = message else {
            return format!("message\t{state}\t{id}\t{qos}\t-\t-\t-\n");
        };
        let (topic, bytes) = (topic_of(message), message.payload().len());
        let expires = When(message.expires, self.now);
        format!(
            "message\t{state}\t{id}\t{qos}\t{}\t{bytes}\t{expires}\n",
            Plain(&topic)
        )
    }

    fn retained(&self, filter: Option<&str>) -> String {
        let retained = self
            .records
            .messages
            .iter()
            .filter_map(|it| Some((it, it.retained.as_ref()?)));
        let mut lines: Vec<String> = retained
            .filter(|(it, _)| filter.is_none_or(|filter| topic::matches(filter, &topic_of(it))))
            .map(|(it, source)| {
                format!(
                    "{}\t{}\t{}\t{}\t{}\n",
                    Plain(&topic_of(it)),
                    it.qos as u8,
                    it.payload().len(),
                    Plain(source.client_id.as_deref().unwrap_or("-")),
                    When(it.expires, self.now)
                )
            })
            .collect();
        lines.sort_unstable();
        lines.concat()
    }

    /// What does not fit together, a sentence each: references that lead nowhere, and doubles of what there is once.
    fn misfits(&self) -> Vec<String> {
        let records = self.records;
        let sessions: HashSet<u64> = records.sessions.iter().map(|it| it.id).collect();
        let mut faults = Vec::new();
        let mut check = |what: String, session: Option<u64>, message: Option<u64>| {
            if let Some(session) = session.filter(|it| !sessions.contains(it)) {
                faults.push(format!(
                    "{what} is of session {session}, which is not there"
                ));
            }
            if let Some(message) = message.filter(|it| !self.messages.contains_key(it)) {
                faults.push(format!(
                    "{what} is of message {message}, which is not there"
                ));
            }
        };
        for it in &records.sessions {
            let what = format!("the will of client {}", Plain(&it.client_id));
            check(what, None, it.will.as_ref().map(|will| will.message));
        }
        for it in &records.subscriptions {
            let what = format!("subscription {}", Plain(&it.filter));
            check(what, Some(it.session), None);
        }
        for it in &records.deliveries {
            check(format!("delivery {}", it.id), Some(it.session), it.message);
        }
        for it in &records.received {
            let what = format!("received message {}", it.id);
            check(what, Some(it.session), Some(it.message));
        }
        let mut client_ids = HashSet::new();
        for it in &records.sessions {
            if !client_ids.insert(&it.client_id) {
                faults.push(format!(
                    "client {} has more than one session",
                    Plain(&it.client_id)
                ));
            }
        }
        let mut topics = HashSet::new();
        for it in records.messages.iter().filter(|it| it.retained.is_some()) {
            if !topics.insert(it.topic()) {
                faults.push(format!(
                    "topic {} has more than one retained message",
                    Plain(&topic_of(it))
                ));
            }
        }
        faults
    }
}

fn topic_of(message: &MessageRecord) -> String {
    String::from_utf8_lossy(message.topic()).into_owned()
}

fn check(look: &Look, view: &View<'_>) -> ExitCode {
    let misfits = view.misfits();
    for fault in &misfits {
        print(&format!("{fault}\n"));
    }
    match look.faults.len() + misfits.len() {
        0 => {
            print("Everything is sound.\n");
            ExitCode::SUCCESS
        }
        count => complain(&format!("Error: {count} faults."), EXIT_FAILED),
    }
}
