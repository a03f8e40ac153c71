//! SIGHUP: a new configuration against the old, read beside the loop and put in force in one turn.
//!
//! 1. A file that is broken, of whatever kind, changes nothing: the settings before stay in force, and the log says what is
//!    wrong and that they do.
//! 2. Listeners stay as they were opened; what a new configuration says of one that is open, known by its address, is put
//!    in force for it. A listener is never opened, closed, or moved to or from TLS by a reload.
//! 3. Whoever reads files does it here, the same way at start, at a reload and for `--test-config`.

use std::fmt;
use std::sync::Arc;

use super::Server;
use super::pinning::{self, PinningError};
use super::workers::Done;
use crate::auth::{Auth, AuthError, Making};
use crate::broker::timers::Time;
use crate::config::{Config, ConfigError};
use crate::net::{TlsContext, TlsError};

/// What the files say that a configuration names.
pub struct Files {
    /// Passwords and rights.
    pub auth: Auth,
    /// TLS of each listener that speaks it.
    pub tls: Vec<Option<Arc<TlsContext>>>,
}

impl Files {
    /// Reads them all.
    /// # Errors
    /// The first one that cannot be used.
    pub fn read(config: &Config, making: Making) -> Result<Files, FilesError> {
        let auth = Auth::load(config, making).map_err(FilesError::Auth)?;
        let keylog = config.overrides.tls_keylog.as_deref();
        let mut tls = Vec::with_capacity(config.listeners.len());
        for listener in &config.listeners {
            let context = listener.tls.as_ref();
            let context = context.map(|tls| TlsContext::load(tls, keylog).map(Arc::new));
            tls.push(context.transpose().map_err(FilesError::Tls)?);
        }
        Ok(Files { auth, tls })
    }

    /// What the operator should know about them.
    pub fn warnings(&self) -> impl Iterator<Item = String> + '_ {
        let tls = self.tls.iter().flatten().flat_map(|tls| tls.warnings());
        self.auth.warnings().chain(tls.cloned())
    }
}

/// A file that cannot be used.
#[derive(Debug)]
pub enum FilesError {
    /// A password or ACL file.
    Auth(AuthError),
    /// A certificate, key, authority or revocation list.
    Tls(TlsError),
}

impl fmt::Display for FilesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FilesError::Auth(error) => error.fmt(f),
            FilesError::Tls(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for FilesError {}

/// What a reload has read.
pub struct Reloaded {
    config: Config,
    files: Files,
    /// What has no effect before a restart.
    kept: Vec<String>,
}

/// Why a reload changes nothing.
#[derive(Debug)]
pub enum ReloadError {
    /// `mosquitto.conf` or what it includes.
    Config(ConfigError),
    /// A file that it names.
    Files(FilesError),
    /// The core that the loop is to have.
    Pinning(PinningError),
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReloadError::Config(error) => error.fmt(f),
            ReloadError::Files(error) => error.fmt(f),
            ReloadError::Pinning(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReloadError {}

/// Reads what the file of `running` says now, and all that it names.
fn read(running: &Config) -> Result<Box<Reloaded>, ReloadError> {
    let config = running.reread().map_err(ReloadError::Config)?;
    let kept = running.changes_that_need_a_restart(&config);
    let config = config.for_running(running);
    pinning::check(config.cpu_affinity).map_err(ReloadError::Pinning)?;
    let files = Files::read(&config, Making::Allowed).map_err(ReloadError::Files)?;
    Ok(Box::new(Reloaded {
        config,
        files,
        kept,
    }))
}

/// How far a reload is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Progress {
    #[default]
    Idle,
    /// The files are being read.
    Reading,
    /// So they are, and another signal came meanwhile: they are read once more afterwards.
    Again,
}

impl Server {
    /// SIGHUP.
    pub(super) fn begin_reload(&mut self) {
        if self.reload != Progress::Idle {
            self.reload = Progress::Again;
            return;
        }
        ::log::info!(target: super::INFORMATION, "Reloading config.");
        self.process.reloading();
        let running = self.broker.config().clone();
        self.reload = Progress::Reading;
        if let Err(error) = self.workers.reload(move || read(&running)) {
            ::log::error!(
                "Error: Unable to start a thread for reading the configuration: {error}. \
                 The settings before stay in force."
            );
            self.end_reload();
        }
    }

    /// What helper threads have done since the last turn.
    pub(super) fn complete(&mut self, now: Time) {
        while let Some(done) = self.workers.take_done() {
            match done {
                Done::Password(check, is_right) => {
                    self.broker.password_compared(&check, is_right, now);
                    self.net.resume(check.connection);
                }
                Done::Chore(done) => self.broker.chore_done(done, now),
                Done::Reload(Ok(reloaded)) => {
                    self.put_in_force(*reloaded, now);
                    self.end_reload();
                }
                Done::Reload(Err(error)) => {
                    super::log_lines(&error);
                    ::log::error!(
                        "Error: The configuration was not reloaded. The settings before stay in force."
                    );
                    self.end_reload();
                }
            }
        }
    }

    fn end_reload(&mut self) {
        let again = std::mem::take(&mut self.reload) == Progress::Again;
        self.process.ready();
        if again {
            self.begin_reload();
        }
    }

    fn put_in_force(&mut self, reloaded: Reloaded, now: Time) {
        let Reloaded {
            config,
            files,
            kept,
        } = reloaded;
        if let Some(logging) = &self.logging
            && let Err(error) = logging.change(config.log.clone())
        {
            ::log::error!("{error} The log goes on as before.");
        }
        super::tell_warnings(&config.warnings);
        for warning in files.warnings() {
            ::log::warn!("{warning}");
        }
        for change in kept {
            ::log::warn!("Warning: {change} changes with the next restart.");
        }
        if let Err(error) = pinning::apply(config.cpu_affinity) {
            ::log::error!("{error}");
        }
        self.net.set_nodelay(super::nodelay(&config));
        for (index, (listener, tls)) in config.listeners.iter().zip(&files.tls).enumerate() {
            let max = listener.max_connections;
            self.net
                .set_max_connections(index, max.map(super::connections));
            if let Some(tls) = tls {
                self.net.set_tls(index, Arc::clone(tls));
            }
        }
        let uses_tls = files.tls.iter().any(Option::is_some);
        self.broker.reconfigure(config, files.auth, now);
        if uses_tls {
            self.recheck_certificates(now);
        }
        ::log::info!(target: super::INFORMATION, "Config reloaded.");
    }

    /// Ends connections whose certificate would not be accepted any more.
    fn recheck_certificates(&mut self, now: Time) {
        for index in 0..self.broker.config().listeners.len() {
            for (connection, reason) in self.net.recheck_certificates(index) {
                self.broker.revoke(connection, &reason, now);
            }
        }
    }
}
