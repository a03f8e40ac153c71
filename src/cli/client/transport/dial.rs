//! Making a way: names, addresses, the proxy, and the layers, one after the other, within one time limit.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
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
        loop {
            let mut fds = vec![PollFd::new(&fd, events)];
            fds.extend(
                self.interrupt
                    .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)),
            );
            let left = self.deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            match poll(&mut fds, Some(&timeout)) {
                Ok(0) => return Err(DialError::timed_out()),
                Ok(_) if fds.len() > 1 && !fds[1].revents().is_empty() => {
                    return Err(DialError::Interrupted);
                }
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(DialError::Connect(error.into())),
            }
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
                let stream = UnixStream::connect(path).map_err(DialError::Connect)?;
                stream.set_nonblocking(true).map_err(DialError::Connect)?;
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
        for (host, port) in srv::servers(domain, self.tls.is_some(), patience)? {
            match self.reach(&host, port, patience) {
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
        for address in addresses {
            let same_family = |local: &&SocketAddr| local.is_ipv4() == address.is_ipv4();
            let local = match (
                self.route.bind_address.is_some(),
                local.iter().find(same_family),
            ) {
                (false, _) => None,
                (true, Some(local)) => Some(*local),
                (true, None) => continue,
            };
            // A turn leaves in one write, so waiting for more gains nothing; but layers write answers of their own, behind
            // which the next message would wait for the other side's delayed acknowledgement.
            let has_layers = self.route.websocket || self.tls.is_some();
            match connect_to(address, local, self.route.nodelay || has_layers, patience) {
                Ok(stream) => return Ok(Socket::Tcp(stream)),
                Err(DialError::Connect(error)) => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(DialError::Connect(last))
    }
}

fn connect_to(
    address: SocketAddr,
    local: Option<SocketAddr>,
    nodelay: bool,
    patience: Patience<'_>,
) -> Result<std::net::TcpStream, DialError> {
    let connecting = || -> io::Result<(socket2::Socket, bool)> {
        let domain = Domain::for_address(address);
        let socket = socket2::Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        if nodelay {
            socket.set_tcp_nodelay(true)?;
        }
        if let Some(local) = local {
            socket.bind(&SockAddr::from(local))?;
        }
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
    thread::spawn(move || {
        let found = (name.as_str(), port).to_socket_addrs();
        // Nobody waits any more if these fail.
        let _ = sender.send(found.map(Iterator::collect::<Vec<_>>));
        drop(announced);
    });
    patience.wait(&done, PollFlags::IN)?;
    match receiver.recv() {
        Ok(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
        Ok(Ok(_)) | Err(_) => Err(failed("the name has no address".to_owned())),
        Ok(Err(error)) => Err(failed(error.to_string())),
    }
}
