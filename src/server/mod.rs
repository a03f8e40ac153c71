//! Where the rooms meet: a [`Server`] owns the sockets, the broker, the only loop and the only clock.
//!
//! 1. Everything happens in turns of the one loop (`event_loop`); nothing in it waits but the poller.
//! 2. What a turn calls "now" is read once, after the poller returned.

pub mod daemon;
mod durability;
mod event_loop;
pub mod log;
pub mod memory;
mod pace;
mod pinning;
mod reload;
mod workers;

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::auth::Making;
use crate::broker::sys::VERSION;
use crate::broker::timers::Time;
use crate::broker::{Broker, Random};
use crate::buffer::ConnectionKey;
use crate::config::{Config, Listener, Severity, SocketDomain, Warning, log_target, system_reason};
use crate::net::{self, ListenerSpec, Net, NetError, TlsContext};
use crate::persistence::Store;

use self::daemon::{DaemonError, Process, background};
use self::durability::DurabilityError;
use self::log::{LogError, Logging};
use self::pinning::PinningError;
use self::reload::{Files, FilesError, Progress};
use self::workers::Workers;
use log_target::{INFORMATION, NOTICE};

/// The broker as a process: its sockets, its rules, its clock.
pub struct Server {
    net: Net,
    broker: Broker,
    /// `None` without persistence.
    store: Option<Store>,
    clock: Clock,
    workers: Workers,
    reload: Progress,
    process: Process,
    /// `None` where another logger is installed.
    logging: Option<Rc<Logging>>,
    /// Lines that were logged for subscribers; kept for its memory.
    log_lines: Vec<(&'static str, String)>,
    /// The connections of this turn's flush; kept for its memory.
    flushing: Vec<ConnectionKey>,
    trimmer: memory::Trimmer,
}

/// Time since the start, from the monotonic clock, and a Unix time that goes on with it, whatever becomes of the system's.
struct Clock {
    start: Instant,
    unix_start: Duration,
}

impl Clock {
    fn now(&self) -> Time {
        Time::ZERO + self.start.elapsed()
    }

    fn unix_millis(&self) -> u64 {
        (self.unix_start + self.start.elapsed()).as_millis() as u64
    }
}

/// Why the broker could not start.
#[derive(Debug)]
pub enum StartError {
    /// The poller or the signals could not be set up.
    System(io::Error),
    /// A listener could not be opened.
    Listener(NetError),
    /// A file that the configuration names cannot be used.
    Files(FilesError),
    /// The process cannot become what the configuration asks for.
    Process(DaemonError),
    /// What is to survive cannot be kept.
    Durability(DurabilityError),
    /// The loop cannot have the core that it is to have.
    Pinning(PinningError),
}

impl StartError {
    /// As Mosquitto's: 13 for a file of rights that cannot be read, 3 for one that makes no sense, and 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            StartError::Files(FilesError::Auth(error)) if error.is_unreadable() => 13,
            StartError::Files(FilesError::Auth(_)) => 3,
            StartError::System(_)
            | StartError::Listener(_)
            | StartError::Files(_)
            | StartError::Process(_)
            | StartError::Durability(_)
            | StartError::Pinning(_) => 1,
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::System(error) => write!(f, "Error: {}.", system_reason(error)),
            StartError::Listener(error) => write!(f, "{error}"),
            StartError::Files(error) => write!(f, "{error}"),
            StartError::Process(error) => write!(f, "{error}"),
            StartError::Durability(error) => write!(f, "{error}"),
            StartError::Pinning(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// Runs the broker that `config` describes until a signal ends it.
pub fn run(config: Config) -> ExitCode {
    let process = match Process::settle(config.pid_file.as_deref(), config.user.as_deref()) {
        Ok(process) => process,
        Err(error) => return fail_before_the_log(&error),
    };
    let logging = match install_log(&config) {
        Ok(logging) => logging.map(Rc::new),
        Err(error) => return fail_before_the_log(&error),
    };
    process.tell();
    ::log::info!(target: INFORMATION, "mosquitto version {VERSION} starting");
    tell_config(&config);
    let result = Server::start(config, logging.clone()).and_then(|mut server| {
        ::log::info!(target: INFORMATION, "mosquitto version {VERSION} running");
        server.process = process;
        server.process.ready();
        server.run().map_err(StartError::System)
    });
    match result {
        Ok(()) => {
            ::log::info!(target: INFORMATION, "mosquitto version {VERSION} terminating");
            ExitCode::SUCCESS
        }
        Err(error) => {
            log_lines(&error);
            background::tell_failed(&error.to_string());
            ExitCode::from(error.exit_code())
        }
    }
}

/// Opens the log. A file that cannot be opened, as where a container lacks its directory, ends no start, as in Mosquitto: the
/// lines go to standard error, the first one says so, and a reload tries again. `None` where another logger is installed,
/// which gets the lines.
fn install_log(config: &Config) -> Result<Option<Logging>, LogError> {
    let error = match self::log::install(config.log.clone()) {
        Ok(logging) => return Ok(Some(logging)),
        Err(LogError::Installed) => return Ok(None),
        Err(error) => error,
    };
    let without_file = crate::config::Log {
        file: None,
        stderr: true,
        ..config.log.clone()
    };
    let logging = self::log::install(without_file)?;
    ::log::error!("{error}");
    Ok(Some(logging))
}

/// Says on standard error, in the form of the log, why there is none, and to who started this in the background.
fn fail_before_the_log(error: &dyn fmt::Display) -> ExitCode {
    let _logging = self::log::install(crate::config::Log::default());
    log_lines(error);
    background::tell_failed(&error.to_string());
    ExitCode::FAILURE
}

/// Reads every file that a start would, and opens no listener; what the operator should know about them.
/// # Errors
/// What is wrong, as the log would say it.
pub fn check(config: &Config) -> Result<Vec<String>, StartError> {
    for listener in &config.listeners {
        if let Some(name) = &listener.bind_interface {
            net::listener::check_interface(name).map_err(StartError::Listener)?;
        }
    }
    pinning::check(config.cpu_affinity).map_err(StartError::Pinning)?;
    daemon::check(config.pid_file.as_deref(), config.user.as_deref())
        .map_err(StartError::Process)?;
    durability::check(config).map_err(StartError::Durability)?;
    let files = Files::read(config, Making::Forbidden).map_err(StartError::Files)?;
    let mut warnings: Vec<String> = files.warnings().collect();
    if let Some(file) = &config.log.file
        && !file
            .parent()
            .is_some_and(|it| it.as_os_str().is_empty() || it.is_dir())
    {
        let file = file.display();
        warnings.push(format!(
            "Warning: There is no directory for the log file {file}: standard error would be used."
        ));
    }
    Ok(warnings)
}

/// Logs an error that has several lines.
fn log_lines(error: &dyn fmt::Display) {
    for line in error.to_string().lines() {
        ::log::error!("{line}");
    }
}

fn tell_config(config: &Config) {
    match &config.source {
        Some(path) => {
            ::log::info!(target: INFORMATION, "Config loaded from {}.", path.display());
        }
        None => ::log::info!(target: INFORMATION, "Using default config."),
    }
    tell_warnings(&config.warnings);
    for (part, is_there) in [
        ("Bridge", false),
        ("Persistence", true),
        ("TLS", true),
        ("TLS-PSK", false),
        ("Websockets", false),
    ] {
        let not = if is_there { "" } else { "NOT " };
        ::log::info!(target: INFORMATION, "{part} support {not}available.");
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

fn tell_warnings<'a>(warnings: impl IntoIterator<Item = &'a Warning>) {
    for warning in warnings {
        match warning.severity {
            Severity::Notice => ::log::info!(target: NOTICE, "{warning}"),
            Severity::Warning => ::log::warn!("{warning}"),
        }
    }
}

impl Server {
    /// Opens every listener and is ready to run.
    ///
    /// # Errors
    /// Where a file cannot be used or a socket cannot be had; nothing is left open.
    pub fn start(config: Config, logging: Option<Rc<Logging>>) -> Result<Server, StartError> {
        if let Err(error) = net::raise_file_limit() {
            ::log::warn!(
                "Warning: Unable to raise the limit of open files: {}.",
                system_reason(&error)
            );
        }
        pinning::apply(config.cpu_affinity).map_err(StartError::Pinning)?;
        let files = Files::read(&config, Making::Allowed).map_err(StartError::Files)?;
        for warning in files.warnings() {
            ::log::warn!("{warning}");
        }
        let mut net = Net::new().map_err(StartError::System)?;
        net.watch_signals(&event_loop::signals())
            .map_err(StartError::System)?;
        net.watch_clock().map_err(StartError::System)?;
        let mut clock = Clock {
            start: Instant::now(),
            unix_start: durability::unix_time(),
        };
        let (broker, store) = durability::begin(config, files.auth, &mut clock, net.waker())
            .map_err(StartError::Durability)?;
        let config = broker.config();
        for (index, (listener, tls)) in config.listeners.iter().zip(files.tls).enumerate() {
            let spec = listener_spec(index, listener, tls, config);
            net.listen(&spec).map_err(StartError::Listener)?;
        }
        let workers = Workers::new(net.waker());
        Ok(Server {
            net,
            broker,
            store,
            clock,
            workers,
            reload: Progress::default(),
            process: Process::default(),
            logging,
            log_lines: Vec::new(),
            flushing: Vec::new(),
            trimmer: memory::Trimmer::default(),
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

/// A turn's output leaves in one write: nothing is left for Nagle's algorithm to gather, and its delay is felt in every
/// exchange. Mosquitto's default is off; who wants that says so.
fn nodelay(config: &Config) -> bool {
    config.set_tcp_nodelay.unwrap_or(true)
}

fn listener_spec(
    index: usize,
    listener: &Listener,
    tls: Option<Arc<TlsContext>>,
    config: &Config,
) -> ListenerSpec {
    ListenerSpec {
        unix_path: listener.unix_path.clone(),
        interface: listener.bind_interface.clone(),
        proxy_protocol: listener.proxy_protocol,
        tls,
        port: listener.port,
        host: listener.host.clone(),
        socket_domain: match listener.socket_domain {
            None => net::SocketDomain::Any,
            Some(SocketDomain::Ipv4) => net::SocketDomain::V4,
            Some(SocketDomain::Ipv6) => net::SocketDomain::V6,
        },
        loopback_only: config.local_only,
        nodelay: nodelay(config),
        max_connections: listener.max_connections.map(connections),
        index,
    }
}

/// Connections as the sockets count them.
fn connections(max: std::num::NonZeroUsize) -> u32 {
    u32::try_from(max.get()).unwrap_or(u32::MAX)
}
