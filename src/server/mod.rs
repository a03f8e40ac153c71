//! Where the rooms meet: a [`Server`] owns the sockets, the broker, the only loop and the only clock.
//!
//! 1. Everything happens in turns of the one loop (`event_loop`); nothing in it waits but the poller.
//! 2. What a turn calls "now" is read once, after the poller returned.

pub mod daemon;
mod event_loop;
pub mod log;

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::broker::sys::{Memory, VERSION};
use crate::broker::timers::Time;
use crate::broker::{Broker, Random};
use crate::buffer::ConnectionKey;
use crate::config::{Config, Listener, Severity, SocketDomain, log_target, system_reason};
use crate::net::{self, ListenerSpec, Net, NetError};

use log_target::{INFORMATION, NOTICE};

/// The broker as a process: its sockets, its rules, its clock.
pub struct Server {
    net: Net,
    broker: Broker,
    clock: Clock,
    /// The process's figures as last read for $SYS, and when.
    memory: (Option<Time>, Memory),
    /// The connections of this turn's flush; kept for its memory.
    flushing: Vec<ConnectionKey>,
}

/// Time since the start, from the monotonic clock.
struct Clock {
    start: Instant,
}

impl Clock {
    fn now(&self) -> Time {
        Time::ZERO + self.start.elapsed()
    }
}

/// Why the broker could not start.
#[derive(Debug)]
pub enum StartError {
    /// The poller or the signals could not be set up.
    System(io::Error),
    /// A listener could not be opened.
    Listener(NetError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::System(error) => write!(f, "Error: {}.", system_reason(error)),
            StartError::Listener(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// Runs the broker that `config` describes until a signal ends it.
pub fn run(config: Config) -> ExitCode {
    // Where another logger is installed already, it gets the lines.
    let _logging = self::log::install(config.log.clone());
    ::log::info!(target: INFORMATION, "mosquitto version {VERSION} starting");
    tell_config(&config);
    let server = Server::start(config);
    let result = server.and_then(|mut server| {
        ::log::info!(target: INFORMATION, "mosquitto version {VERSION} running");
        server.run().map_err(StartError::System)
    });
    match result {
        Ok(()) => {
            ::log::info!(target: INFORMATION, "mosquitto version {VERSION} terminating");
            ExitCode::SUCCESS
        }
        Err(error) => {
            ::log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn tell_config(config: &Config) {
    match &config.source {
        Some(path) => {
            ::log::info!(target: INFORMATION, "Config loaded from {}.", path.display());
        }
        None => ::log::info!(target: INFORMATION, "Using default config."),
    }
    for warning in &config.warnings {
        match warning.severity {
            Severity::Notice => ::log::info!(target: NOTICE, "{warning}"),
            Severity::Warning => ::log::warn!("{warning}"),
        }
    }
    for missing in ["Bridge", "Persistence", "TLS", "TLS-PSK", "Websockets"] {
        ::log::info!(target: INFORMATION, "{missing} support NOT available.");
    }
    if config.local_only {
        ::log::warn!(
            "Starting in local only mode. Connections will only be possible from clients \
             running on this machine."
        );
        ::log::warn!(
            "Create a configuration file which defines a listener to allow remote access."
        );
        ::log::warn!(
            "For more details see https://mosquitto.org/documentation/authentication-methods/"
        );
    }
}

impl Server {
    /// Opens every listener and is ready to run.
    ///
    /// # Errors
    /// Where a socket cannot be had; nothing is left open.
    pub fn start(config: Config) -> Result<Server, StartError> {
        if let Err(error) = net::raise_file_limit() {
            ::log::warn!(
                "Warning: Unable to raise the limit of open files: {}.",
                system_reason(&error)
            );
        }
        let mut net = Net::new().map_err(StartError::System)?;
        net.watch_signals(&event_loop::SIGNALS)
            .map_err(StartError::System)?;
        for (index, listener) in config.listeners.iter().enumerate() {
            let spec = listener_spec(index, listener, &config);
            net.listen(&spec).map_err(StartError::Listener)?;
        }
        let clock = Clock {
            start: Instant::now(),
        };
        let unix_time = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let broker = Broker::new(config, clock.now(), unix_time, random());
        Ok(Server {
            net,
            broker,
            clock,
            memory: Default::default(),
            flushing: Vec::new(),
        })
    }
}

/// Numbers from the standard library's keyed hash, SipHash, whose key comes from the system's randomness: who has seen
/// some of them cannot tell the next.
fn random() -> Random {
    let keys = RandomState::new();
    let mut count = 0u64;
    Box::new(move || {
        count += 1;
        keys.hash_one(count)
    })
}

fn listener_spec(index: usize, listener: &Listener, config: &Config) -> ListenerSpec {
    ListenerSpec {
        port: listener.port,
        host: listener.host.clone(),
        socket_domain: match listener.socket_domain {
            None => net::SocketDomain::Any,
            Some(SocketDomain::Ipv4) => net::SocketDomain::V4,
            Some(SocketDomain::Ipv6) => net::SocketDomain::V6,
        },
        loopback_only: config.local_only,
        // A turn's output leaves in one write: nothing is left for Nagle's algorithm to gather, and its delay is felt
        // in every exchange. Mosquitto's default is off; who wants that says so.
        nodelay: config.set_tcp_nodelay.unwrap_or(true),
        max_connections: listener.max_connections.map(|max| max.get() as u32),
        index,
    }
}
