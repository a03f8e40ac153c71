//! Listening sockets: where they bind, their options, what an accept came to, and how many connections they may have.
//!
//! Knows neither the poller nor connections.
//! 1. A group is one `listener` of the configuration; its sockets, one for each address, share its limit.
//! 2. Options that connections inherit are set on the listening socket, once: an accept costs no system call for them.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use mio::net::TcpListener;
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use crate::config::{log_target, system_reason};

/// How many connections may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Where to listen and how: one `listener` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSpec {
    /// The port; 0 takes one that is free, the same for all addresses if there is one.
    pub port: u16,
    /// A host name or address; every address it has is bound. All addresses of the machine if there is none.
    pub host: Option<String>,
    /// Which address families to bind.
    pub socket_domain: SocketDomain,
    /// Only 127.0.0.1 and ::1; `host` does not count then.
    pub loopback_only: bool,
    /// `set_tcp_nodelay`.
    pub nodelay: bool,
    /// How many connections this listener may have at a time.
    pub max_connections: Option<u32>,
    /// What its connections are told apart by: comes back in [`super::Accepted::listener`].
    pub index: usize,
}

/// Address families: `socket_domain`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SocketDomain {
    /// Both, as far as the machine has them.
    #[default]
    Any,
    /// `ipv4`
    V4,
    /// `ipv6`
    V6,
}

/// Why a listener could not be opened.
#[derive(Debug)]
pub enum NetError {
    /// The host has no address, or no look-up was possible.
    Resolve {
        /// The host as it was configured.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// The host has addresses, but none of the wanted family.
    NoAddress {
        /// The host as it was configured.
        host: String,
    },
    /// A socket could not be opened or bound.
    Bind {
        /// Where it was to listen.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NetError::Resolve { host, source } => {
                write!(
                    f,
                    "Error: Unable to resolve host {host}: {}.",
                    system_reason(source)
                )
            }
            NetError::NoAddress { host } => {
                write!(
                    f,
                    "Error: Host {host} has no address of the wanted socket_domain."
                )
            }
            NetError::Bind { source, .. } => write!(f, "Error: {}", system_reason(source)),
        }
    }
}

impl std::error::Error for NetError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            NetError::Resolve { source, .. } | NetError::Bind { source, .. } => Some(source),
            NetError::NoAddress { .. } => None,
        }
    }
}

/// One listening socket.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: TcpListener,
    pub(super) address: SocketAddr,
    pub(super) group: u16,
    /// Connections may wait in its backlog; on the list of those to accept from.
    pub(super) pending: bool,
}

/// What all sockets of one [`ListenerSpec`] share.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) index: usize,
    max_connections: u32,
    connections: u32,
}

impl Group {
    pub(super) fn new(spec: &ListenerSpec) -> Group {
        let max_connections = spec.max_connections.unwrap_or(u32::MAX);
        Group {
            index: spec.index,
            max_connections,
            connections: 0,
        }
    }

    /// Counts one more connection, or says no.
    pub(super) fn admit(&mut self) -> bool {
        let admitted = self.connections < self.max_connections;
        self.connections += u32::from(admitted);
        admitted
    }

    /// Counts one less.
    pub(super) fn release(&mut self) {
        debug_assert!(
            self.connections > 0,
            "a connection closed that was never counted"
        );
        self.connections -= 1;
    }
}

/// Opens a socket on every address of `spec`.
pub(super) fn open(spec: &ListenerSpec) -> Result<Vec<(TcpListener, SocketAddr)>, NetError> {
    let mut sockets: Vec<(TcpListener, SocketAddr)> = Vec::new();
    let mut missing = None;
    for address in addresses(spec)? {
        match bind(
            address,
            sockets.first().map(|(_, first)| first.port()),
            spec,
        ) {
            Ok(bound) => sockets.push(bound),
            Err(error) if is_missing_family(&error) => {
                log::debug!("Not listening on {address}: {}.", system_reason(&error));
                missing.get_or_insert((address, error));
            }
            Err(source) => return Err(NetError::Bind { address, source }),
        }
    }
    match missing {
        Some((address, source)) if sockets.is_empty() => Err(NetError::Bind { address, source }),
        _ => Ok(sockets),
    }
}

/// The addresses to bind, IPv4 before IPv6, each once; never none.
fn addresses(spec: &ListenerSpec) -> Result<Vec<SocketAddr>, NetError> {
    let v4 = |ip: Ipv4Addr| SocketAddr::new(IpAddr::V4(ip), spec.port);
    let v6 = |ip: Ipv6Addr| SocketAddr::new(IpAddr::V6(ip), spec.port);
    let mut addresses = match &spec.host {
        _ if spec.loopback_only => vec![v4(Ipv4Addr::LOCALHOST), v6(Ipv6Addr::LOCALHOST)],
        None => vec![v4(Ipv4Addr::UNSPECIFIED), v6(Ipv6Addr::UNSPECIFIED)],
        Some(host) => {
            let resolved = (host.as_str(), spec.port).to_socket_addrs();
            let resolved = resolved.map_err(|source| NetError::Resolve {
                host: host.clone(),
                source,
            })?;
            resolved.collect()
        }
    };
    addresses.retain(|address| match spec.socket_domain {
        SocketDomain::Any => true,
        SocketDomain::V4 => address.is_ipv4(),
        SocketDomain::V6 => address.is_ipv6(),
    });
    addresses.sort();
    addresses.dedup();
    if addresses.is_empty() {
        return Err(NetError::NoAddress {
            host: spec.host.clone().unwrap_or_default(),
        });
    }
    Ok(addresses)
}

/// Opens a socket on one address. An ephemeral port is `first_port`, that of the first socket, if that is free here too.
fn bind(
    mut address: SocketAddr,
    first_port: Option<u16>,
    spec: &ListenerSpec,
) -> io::Result<(TcpListener, SocketAddr)> {
    if let (0, Some(port)) = (address.port(), first_port) {
        address.set_port(port);
        match bind_exactly(address, spec) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => address.set_port(0),
            result => return result,
        }
    }
    bind_exactly(address, spec)
}

fn bind_exactly(address: SocketAddr, spec: &ListenerSpec) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
    let announce = |port| {
        log::info!(target: log_target::INFORMATION, "Opening {family} listen socket on port {port}.");
    };
    if address.port() != 0 {
        announce(address.port());
    }
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(spec.nodelay)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let socket = TcpListener::from_std(socket.into());
    let bound = socket.local_addr()?;
    if address.port() == 0 {
        announce(bound.port());
    }
    Ok((socket, bound))
}

/// Whether the machine has no such addresses at all, IPv6 being switched off for example.
fn is_missing_family(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::AFNOSUPPORT | Errno::PROTONOSUPPORT | Errno::ADDRNOTAVAIL)
    )
}

/// Whether an accept failed because the process or the machine is out of something.
pub(super) fn is_exhaustion(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::NOSPC)
    )
}

/// Whether an accept failed because this process has as many files as it may have.
pub(super) fn is_own_limit(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::MFILE)
}

/// Whether an accept failed because of the connection that it took from the backlog, as accept(2) lists these errors: the
/// next accept is about another connection.
pub(super) fn is_lost_connection(error: &io::Error) -> bool {
    use Errno as E;
    matches!(
        Errno::from_io_error(error),
        Some(
            E::CONNABORTED
                | E::INTR
                | E::PERM
                | E::PROTO
                | E::NOPROTOOPT
                | E::NETDOWN
                | E::NETUNREACH
                | E::HOSTDOWN
                | E::HOSTUNREACH
                | E::OPNOTSUPP
        )
    )
}
