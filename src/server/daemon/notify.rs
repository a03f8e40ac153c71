//! What systemd, or whoever waits at `NOTIFY_SOCKET`, is told: when the broker is ready, reloads, stops, and is alive.

use std::cell::Cell;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::config::system_reason;

/// Speaks to the service manager, if there is one; the default is none.
#[derive(Debug, Default)]
pub struct Notifier {
    /// From where, and to where.
    manager: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
    /// Whether the last message did not get there, which was logged then.
    is_failing: Cell<bool>,
}

impl Notifier {
    /// Takes from the environment where the service manager is, and how often it wants to hear that the broker is
    /// alive.
    pub fn from_env() -> Notifier {
        let socket = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty());
        Notifier::new(socket.as_deref(), sd_notify::watchdog_enabled())
    }

    /// For a service manager at `socket` that ends who is silent for longer than `watchdog`.
    pub fn new(socket: Option<&OsStr>, watchdog: Option<Duration>) -> Notifier {
        let manager = socket.and_then(|socket| match open(socket) {
            Ok(manager) => Some(manager),
            Err(error) => {
                tell_failure(&error);
                None
            }
        });
        Notifier {
            manager,
            watchdog,
            is_failing: Cell::new(false),
        }
    }

    /// The broker serves clients, for the first time or after a reload.
    pub fn ready(&self) {
        self.send(&[NotifyState::Ready]);
    }

    /// The broker reads its configuration again; [`Notifier::ready`] must follow.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.send(&[NotifyState::Reloading, now]),
            Err(_) => self.send(&[NotifyState::Reloading]),
        }
    }

    /// The broker ends.
    pub fn stopping(&self) {
        self.send(&[NotifyState::Stopping]);
    }

    /// A sentence for people who ask the service manager how it goes.
    pub fn status(&self, text: &str) {
        self.send(&[NotifyState::Status(&text.replace('\n', " "))]);
    }

    /// The broker is alive; to be told once in [`Notifier::watchdog_interval`].
    pub fn alive(&self) {
        self.send(&[NotifyState::Watchdog]);
    }

    /// How often to say so: twice as often as need be, as sd_watchdog_enabled(3) recommends. `None` is never.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        let interval = self.manager.as_ref().and(self.watchdog)? / 2;
        (!interval.is_zero()).then_some(interval)
    }

    fn send(&self, states: &[NotifyState<'_>]) {
        let Some((socket, address)) = &self.manager else {
            return;
        };
        let text: Vec<String> = states.iter().map(ToString::to_string).collect();
        let sent = socket.send_to_addr(text.join("\n").as_bytes(), address);
        let was_failing = self.is_failing.replace(sent.is_err());
        if let (Err(error), false) = (sent, was_failing) {
            tell_failure(&error);
        }
    }
}

fn open(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

fn tell_failure(error: &io::Error) {
    ::log::warn!(
        "Warning: Unable to notify the service manager: {}.",
        system_reason(error)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    const WATCHDOG: Option<Duration> = Some(Duration::from_secs(3));

    fn received(manager: &UnixDatagram) -> String {
        let mut buffer = [0; 1000];
        let length = manager.recv(&mut buffer).expect("it was sent");
        String::from_utf8(buffer[..length].to_vec()).expect("text")
    }

    fn dialogue(manager: &UnixDatagram, notifier: &Notifier) {
        manager.set_nonblocking(true).expect("a socket");
        notifier.ready();
        assert_eq!(received(manager), "READY=1");
        notifier.reloading();
        let text = received(manager);
        let time = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
        let time = time.and_then(|time| time.parse::<u64>().ok());
        assert!(time.is_some_and(|time| time > 0), "{text}");
        notifier.status("two\nlines");
        assert_eq!(received(manager), "STATUS=two lines");
        notifier.alive();
        assert_eq!(received(manager), "WATCHDOG=1");
        notifier.stopping();
        assert_eq!(received(manager), "STOPPING=1");
    }

    #[test]
    fn at_a_path() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let notifier = Notifier::new(Some(path.as_os_str()), WATCHDOG);
        // Nobody is there yet.
        notifier.ready();
        let manager = UnixDatagram::bind(&path).expect("it is free");
        dialogue(&manager, &notifier);
        assert_eq!(
            notifier.watchdog_interval(),
            Some(Duration::from_millis(1500))
        );
    }

    #[test]
    fn in_the_abstract_namespace() {
        let name = format!("midge-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a short name");
        let manager = UnixDatagram::bind_addr(&address).expect("it is free");
        let notifier = Notifier::new(Some(OsStr::new(&format!("@{name}"))), None);
        dialogue(&manager, &notifier);
        assert_eq!(notifier.watchdog_interval(), None);
    }

    #[test]
    fn a_manager_that_does_not_listen_is_not_waited_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let _manager = UnixDatagram::bind(&path).expect("it is free");
        let notifier = Notifier::new(Some(path.as_os_str()), WATCHDOG);
        for _ in 0..10_000 {
            notifier.alive();
        }
    }

    #[test]
    fn without_a_manager() {
        let notifier = Notifier::new(None, WATCHDOG);
        notifier.ready();
        assert_eq!(notifier.watchdog_interval(), None);
        let notifier = Notifier::new(Some(OsStr::new("/run/x")), Some(Duration::ZERO));
        assert_eq!(notifier.watchdog_interval(), None);
    }
}
