//! Making a way: names, addresses, the proxy, and the layers, one after the other, within one time limit.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Type};

use super::tls::Context;
use super::websocket::WebSocket;
use super::{BareTransport, DialError, Socket, Stream, Transport, socks, srv};
use crate::cli::client::options::{Route, Target};

/// How often a Unix domain socket is tried whose backlog is full: nothing tells when it no longer is.
const BACKLOG_RETRY: Duration = Duration::from_millis(20);

/// What is kept from one connection to the next.
#[derive(Debug)]
pub struct Dialer {
    route: Route,
    tls: Option<Context>,
}

/// How long a dial may take, and who may end it.
#[derive(Clone, Copy)]
pub struct Patience<'a> {
    /// When it is over.
    pub deadline: Instant,
    /// Becomes readable when the user wants to stop.
    pub interrupt: Option<BorrowedFd<'a>>,
}

impl Patience<'_> {
    /// Waits for `fd`.
    /// # Errors
    /// If the time is over or the user wants to stop.
    pub fn wait(self, fd: impl AsFd, events: PollFlags) -> Result<(), DialError> {
        match self.poll(Some(PollFd::new(&fd, events)), self.deadline)? {
            true => Ok(()),
            false => Err(DialError::timed_out()),
        }
    }

    /// Lets `pause` pass.
    /// # Errors
    /// As [`Patience::wait`].
    fn pause(self, pause: Duration) -> Result<(), DialError> {
        let end = Instant::now() + pause;
        self.poll(None, end.min(self.deadline))?;
        match end < self.deadline {
            true => Ok(()),
            false => Err(DialError::timed_out()),
        }
    }

    /// Waits for `fd`; false if it is `until` first.
    fn poll(self, fd: Option<PollFd<'_>>, until: Instant) -> Result<bool, DialError> {
        let watched = fd.is_some();
        let interrupt = (self.interrupt).map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        let mut fds: Vec<PollFd<'_>> = fd.into_iter().chain(interrupt).collect();
        loop {
            // Also where something is always there: a peer that never pauses does not stop the clock.
            let left = until.saturating_duration_since(Instant::now());
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            match poll(&mut fds, Some(&timeout)) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(DialError::Connect(error.into())),
            }
            let is_ready = |index: usize| fds.get(index).is_some_and(|fd| !fd.revents().is_empty());
            return match is_ready(usize::from(watched)) {
                true => Err(DialError::Interrupted),
                false => Ok(watched && is_ready(0) && !left.is_zero()),
            };
        }
    }

    /// What one of `tries` equal ways may take, so that one that says nothing leaves time for the others.
    pub fn share(self, tries: usize) -> Self {
        let tries = u32::try_from(tries.max(1)).unwrap_or(u32::MAX);
        let now = Instant::now();
        Patience {
            deadline: now + self.deadline.saturating_duration_since(now) / tries,
            ..self
        }
    }

    /// Calls `step` until it does not say that it would block.
    /// # Errors
    /// As [`Patience::wait`]; those of `step` as they are.
    pub fn retry<S: AsFd, T>(
        self,
        socket: &mut S,
        events: PollFlags,
        mut step: impl FnMut(&mut S) -> io::Result<T>,
    ) -> Result<io::Result<T>, DialError> {
        loop {
            match step(socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(&*socket, events)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return Ok(done),
            }
        }
    }

    /// Writes all of `bytes`.
    /// # Errors
    /// Those of the system or of the wait.
    pub fn write_all(
        self,
        socket: &mut (impl Write + AsFd),
        mut bytes: &[u8],
    ) -> Result<(), DialError> {
        while !bytes.is_empty() {
            match self.retry(socket, PollFlags::OUT, |socket| socket.write(bytes))? {
                Ok(0) => return Err(DialError::Connect(io::ErrorKind::WriteZero.into())),
                Ok(len) => bytes = &bytes[len..],
                Err(error) => return Err(DialError::Connect(error)),
            }
        }
        Ok(())
    }

    /// Reads exactly `into`.
    /// # Errors
    /// Those of the system or of the wait, and an end before that.
    pub fn read_exact(
        self,
        socket: &mut (impl Read + AsFd),
        into: &mut [u8],
    ) -> Result<(), DialError> {
        let mut filled = 0;
        while filled < into.len() {
            let rest = &mut into[filled..];
            match self.retry(socket, PollFlags::IN, |socket| socket.read(rest))? {
                Ok(0) => return Err(DialError::Connect(io::ErrorKind::UnexpectedEof.into())),
                Ok(len) => filled += len,
                Err(error) => return Err(DialError::Connect(error)),
            }
        }
        Ok(())
    }
}

impl Dialer {
    /// Reads what the way needs.
    /// # Errors
    /// If the files of TLS cannot be used.
    pub fn new(route: &Route) -> Result<Dialer, DialError> {
        Ok(Dialer {
            tls: route.tls.as_ref().map(Context::load).transpose()?,
            route: route.clone(),
        })
    }

    /// Makes a way. Waits, `timeout` at most, unless `interrupt` becomes readable.
    /// # Errors
    /// Where it leads nowhere.
    pub fn dial(
        &mut self,
        timeout: Duration,
        interrupt: Option<BorrowedFd<'_>>,
    ) -> Result<Transport, DialError> {
        let patience = Patience {
            deadline: Instant::now() + timeout,
            interrupt,
        };
        let (socket, host, port) = match &self.route.target {
            Target::Unix(path) => {
                let stream = connect_unix(path, patience)?;
                (Socket::Unix(stream), "localhost".to_owned(), 0)
            }
            Target::Tcp { host, port } => (self.reach(host, *port, patience)?, host.clone(), *port),
            Target::Service { domain } => self.reach_service(domain, patience)?,
        };
        let stream = match &self.tls {
            None => Stream::Plain(socket),
            Some(context) => Stream::Tls(Box::new(context.connect(socket, &host, patience)?)),
        };
        match self.route.websocket {
            false => Ok(Transport::Bare(BareTransport(stream))),
            true => {
                let websocket = WebSocket::connect(stream, &host, port, patience)?;
                Ok(Transport::WebSocket(Box::new(websocket)))
            }
        }
    }

    /// A socket that leads to `host`, through the proxy if there is one.
    fn reach(&self, host: &str, port: u16, patience: Patience<'_>) -> Result<Socket, DialError> {
        match &self.route.proxy {
            None => self.connect(host, port, patience),
            Some(proxy) => {
                let mut socket = self.connect(&proxy.host, proxy.port, patience)?;
                socks::connect(&mut socket, proxy, host, port, patience)?;
                Ok(socket)
            }
        }
    }

    /// The first server of a domain that is reached.
    fn reach_service(
        &self,
        domain: &str,
        patience: Patience<'_>,
    ) -> Result<(Socket, String, u16), DialError> {
        let mut last = None;
        let servers = srv::servers(domain, self.tls.is_some(), patience)?;
        let number = servers.len();
        for (nth, (host, port)) in servers.into_iter().enumerate() {
            match self.reach(&host, port, patience.share(number - nth)) {
                Ok(socket) => return Ok((socket, host, port)),
                Err(DialError::Interrupted) => return Err(DialError::Interrupted),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| DialError::Lookup {
            name: domain.to_owned(),
            reason: "the service has no servers".to_owned(),
        }))
    }

    /// A TCP connection to the first address of `host` that takes one.
    fn connect(&self, host: &str, port: u16, patience: Patience<'_>) -> Result<Socket, DialError> {
        let addresses = resolve(host, port, patience)?;
        let local = match &self.route.bind_address {
            None => Vec::new(),
            Some(name) => resolve(name, 0, patience)?,
        };
        let mut last = io::Error::from_raw_os_error(Errno::ADDRNOTAVAIL.raw_os_error());
        let number = addresses.len();
        for (nth, address) in addresses.into_iter().enumerate() {
            let of_family: Vec<SocketAddr> = (local.iter().copied())
                .filter(|local| local.is_ipv4() == address.is_ipv4())
                .collect();
            if self.route.bind_address.is_some() && of_family.is_empty() {
                continue;
            }
            let patience = patience.share(number - nth);
            // A turn leaves in one write, so waiting for more gains nothing; but layers write answers of their own, behind
            // which the next message would wait for the other side's delayed acknowledgement.
            let nodelay = self.route.nodelay || self.route.websocket || self.tls.is_some();
            match connect_to(address, &of_family, nodelay, patience) {
                Ok(stream) => return Ok(Socket::Tcp(stream)),
                Err(DialError::Connect(error)) => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(DialError::Connect(last))
    }
}

/// A TCP connection to `address`, from the first of `local` that is ours, if there are any.
pub fn connect_to(
    address: SocketAddr,
    local: &[SocketAddr],
    nodelay: bool,
    patience: Patience<'_>,
) -> Result<TcpStream, DialError> {
    let connecting = || -> io::Result<(socket2::Socket, bool)> {
        let domain = Domain::for_address(address);
        let socket = socket2::Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        if nodelay {
            socket.set_tcp_nodelay(true)?;
        }
        let mut bound = Ok(());
        for local in local {
            bound = socket.bind(&SockAddr::from(*local));
            if bound.is_ok() {
                break;
            }
        }
        bound?;
        match socket.connect(&address.into()) {
            Ok(()) => Ok((socket, true)),
            Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {
                Ok((socket, false))
            }
            Err(error) => Err(error),
        }
    };
    let (socket, is_connected) = connecting().map_err(DialError::Connect)?;
    if !is_connected {
        patience.wait(&socket, PollFlags::OUT)?;
        match socket.take_error() {
            Ok(None) => {}
            Ok(Some(error)) | Err(error) => return Err(DialError::Connect(error)),
        }
    }
    Ok(socket.into())
}

/// A Unix domain socket connects at once or not at all; what it would block for is its listener's backlog.
fn connect_unix(path: &Path, patience: Patience<'_>) -> Result<UnixStream, DialError> {
    let connecting = || -> io::Result<socket2::Socket> {
        let address = SockAddr::unix(path)?;
        let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&address).map(|()| socket)
    };
    loop {
        match connecting() {
            Ok(socket) => return Ok(socket.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                patience.pause(BACKLOG_RETRY)?;
            }
            Err(error) => return Err(DialError::Connect(error)),
        }
    }
}

/// The addresses of a name. The system's look-up cannot be ended: it is left to a thread of its own.
pub fn resolve(
    host: &str,
    port: u16,
    patience: Patience<'_>,
) -> Result<Vec<SocketAddr>, DialError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let failed = |reason: String| DialError::Lookup {
        name: host.to_owned(),
        reason,
    };
    let (done, announced) = UnixStream::pair().map_err(DialError::Connect)?;
    let (sender, receiver) = mpsc::channel();
    let name = host.to_owned();
    let look_up = move || {
        let found = (name.as_str(), port).to_socket_addrs();
        // Nobody waits any more if these fail.
        let _ = sender.send(found.map(Iterator::collect::<Vec<_>>));
        drop(announced);
    };
    (thread::Builder::new().name("look-up".to_owned()))
        .spawn(look_up)
        .map_err(DialError::Connect)?;
    patience.wait(&done, PollFlags::IN)?;
    match receiver.recv() {
        Ok(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
        Ok(Ok(_)) | Err(_) => Err(failed("the name has no address".to_owned())),
        Ok(Err(error)) => Err(failed(error.to_string())),
    }
}
