//! Listening sockets, TCP and Unix: where they bind, their options, what an accept came to, and how many connections
//! they may have.
//!
//! Knows neither the poller nor connections.
//! 1. A group is one `listener` of the configuration; its sockets, one for each address, share its limit.
//! 2. Options that connections inherit are set on the listening socket, once: an accept costs no system call for them.
//! 3. Of what is in the file system, only two kinds of sockets are ever removed: one at whose other end nobody is, and
//!    one of our own making.

use std::fmt;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mio::event::Source;
use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};
use rustix::fs::{Mode, chmod, fchmod};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use super::certificates::TlsContext;
use super::connection::Stream;
use crate::buffer::PeerAddress;
use crate::config::{ProxyProtocol, log_target, system_reason};

/// How many connections may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// The longest path of a Unix socket, in bytes: what the system has room for, less a final NUL.
const UNIX_PATH_BYTES_MAX: usize = 107;

/// Who may connect to a Unix socket: its owner and group, as with Mosquitto.
const UNIX_MODE: Mode = Mode::RWXU.union(Mode::RWXG);

/// Where to listen and how: one `listener` of the configuration.
#[derive(Clone, Debug, Default)]
pub struct ListenerSpec {
    /// The path of a Unix socket; nothing of TCP counts then.
    pub unix_path: Option<PathBuf>,
    /// The port; 0 takes one that is free, the same for all addresses if there is one.
    pub port: u16,
    /// A host name or address; every address it has is bound. All addresses of the machine if there is none.
    pub host: Option<String>,
    /// Which address families to bind.
    pub socket_domain: SocketDomain,
    /// Only 127.0.0.1 and ::1; `host` does not count then.
    pub loopback_only: bool,
    /// The network interface whose connections are accepted alone.
    pub interface: Option<String>,
    /// `set_tcp_nodelay`.
    pub nodelay: bool,
    /// The header that connections begin with.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// TLS, where connections speak it.
    pub tls: Option<Arc<TlsContext>>,
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
    /// The path of a Unix socket is longer than the system has room for.
    PathTooLong {
        /// Where it was to listen.
        path: PathBuf,
    },
    /// A Unix socket could not be opened or bound.
    BindPath {
        /// Where it was to listen.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The network interface cannot be listened on.
    Interface {
        /// Its name as it was configured.
        name: String,
        /// Why not.
        source: io::Error,
    },
    /// The poller takes no more sockets.
    Register(io::Error),
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
            NetError::Bind { source, .. } | NetError::Register(source) => {
                write!(f, "Error: {}", system_reason(source))
            }
            NetError::PathTooLong { path } => {
                let path = path.display();
                write!(
                    f,
                    "Error: Path to unix socket is too long \"{path}\": {UNIX_PATH_BYTES_MAX} bytes are possible."
                )
            }
            NetError::BindPath { path, source } => {
                let path = path.display();
                write!(
                    f,
                    "Error: Unable to listen on {path}: {}.",
                    system_reason(source)
                )
            }
            NetError::Interface { name, source } => write!(
                f,
                "Error: Unable to listen on the interface {name}: {}.",
                system_reason(source)
            ),
        }
    }
}

impl std::error::Error for NetError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            NetError::Resolve { source, .. }
            | NetError::Bind { source, .. }
            | NetError::BindPath { source, .. }
            | NetError::Interface { source, .. }
            | NetError::Register(source) => Some(source),
            NetError::NoAddress { .. } | NetError::PathTooLong { .. } => None,
        }
    }
}

/// A listening socket of either family.
#[derive(Debug)]
pub(super) enum ListenSocket {
    Tcp(TcpListener),
    Unix {
        socket: UnixListener,
        file: SocketFile,
    },
}

/// The file of a Unix socket, which goes with its listener: it would stand in the way of the next one there.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// The path as text: connections are told apart by it in the log as long as the process runs, and so do its
    /// listeners.
    name: &'static str,
    /// Device and inode.
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another process may have put its own there since.
        let found = fs::symlink_metadata(&self.path).map(|found| identity(&found));
        if found.is_ok_and(|found| found == self.identity) {
            let _ = fs::remove_file(&self.path); // who may not remove it leaves it to the next one that listens there
        }
    }
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

impl ListenSocket {
    /// The next connection and where it comes from.
    pub(super) fn accept(&self) -> io::Result<(Stream, PeerAddress)> {
        match self {
            ListenSocket::Tcp(socket) => {
                let (stream, peer) = socket.accept()?;
                Ok((Stream::Tcp(stream), PeerAddress::Ip(peer)))
            }
            ListenSocket::Unix { socket, file } => {
                let (stream, _) = socket.accept()?;
                Ok((Stream::Unix(stream), PeerAddress::Unix(file.name)))
            }
        }
    }

    /// Connections inherit it.
    pub(super) fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        match self {
            ListenSocket::Tcp(socket) => SockRef::from(socket).set_tcp_nodelay(nodelay),
            ListenSocket::Unix { .. } => Ok(()),
        }
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            ListenSocket::Tcp(socket) => socket,
            ListenSocket::Unix { socket, .. } => socket,
        }
    }
}

impl Source for ListenSocket {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        self.source().register(registry, token, interests)
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        self.source().reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.source().deregister(registry)
    }
}

/// One listening socket.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: ListenSocket,
    /// `None` for a Unix socket.
    pub(super) address: Option<SocketAddr>,
    pub(super) group: u16,
    /// Connections may wait in its backlog; on the list of those to accept from.
    pub(super) pending: bool,
}

/// What all sockets of one [`ListenerSpec`] share.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) index: usize,
    pub(super) proxy_protocol: Option<ProxyProtocol>,
    pub(super) tls: Option<Arc<TlsContext>>,
    max_connections: u32,
    connections: u32,
}

impl Group {
    pub(super) fn new(spec: &ListenerSpec) -> Group {
        let max_connections = spec.max_connections.unwrap_or(u32::MAX);
        Group {
            index: spec.index,
            proxy_protocol: spec.proxy_protocol,
            tls: spec.tls.clone(),
            max_connections,
            connections: 0,
        }
    }

    pub(super) fn set_max_connections(&mut self, max: Option<u32>) {
        self.max_connections = max.unwrap_or(u32::MAX);
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

/// Opens a socket on every address of `spec`, for `group`.
pub(super) fn open(spec: &ListenerSpec, group: u16) -> Result<Vec<Listener>, NetError> {
    let listener = |socket, address| Listener {
        socket,
        address,
        group,
        pending: false,
    };
    if let Some(path) = &spec.unix_path {
        if path.as_os_str().len() > UNIX_PATH_BYTES_MAX {
            let path = path.clone();
            return Err(NetError::PathTooLong { path });
        }
        let socket = open_path(path).map_err(|source| NetError::BindPath {
            path: path.clone(),
            source,
        })?;
        return Ok(vec![listener(socket, None)]);
    }
    let sockets = match &spec.interface {
        Some(name) => open_on_interface(spec, name)?,
        None => open_addresses(spec, addresses(spec)?, None)?,
    };
    let sockets = sockets.into_iter();
    let listeners =
        sockets.map(|(socket, address)| listener(ListenSocket::Tcp(socket), Some(address)));
    Ok(listeners.collect())
}

/// Listens on a Unix socket.
fn open_path(path: &Path) -> io::Result<ListenSocket> {
    if path.as_os_str().is_empty() {
        // The system would make up a name of its own.
        return Err(ErrorKind::InvalidInput.into());
    }
    let name: &'static str = Box::leak(path.to_string_lossy().into_owned().into_boxed_str());
    log::info!(target: log_target::INFORMATION, "Opening unix listen socket on path {name}.");
    remove_dead_socket(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // The file never lets more in than it is to in the end, whatever the process's umask is.
    fchmod(&socket, UNIX_MODE)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile {
        identity: identity(&fs::symlink_metadata(path)?),
        path: path.to_owned(),
        name,
    };
    chmod(path, UNIX_MODE)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let socket = UnixListener::from_std(socket.into());
    Ok(ListenSocket::Unix { socket, file })
}

/// Removes what a broker that is gone left at the path of its Unix socket. A socket at which somebody may be, and a
/// file that is no socket, are in the way and stay there.
fn remove_dead_socket(path: &Path) -> io::Result<()> {
    let file_type = match fs::symlink_metadata(path) {
        Ok(found) => found.file_type(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !file_type.is_socket() {
        return Err(io::Error::new(
            ErrorKind::AlreadyExists,
            "there is a file of that name that is no socket",
        ));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Somebody may be there and have no time to answer.
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        // Full, as good as an answer; or of a kind of socket that is none of ours.
        Ok(()) => Err(Errno::ADDRINUSE.into()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(Errno::ADDRINUSE.into()),
        Err(error) => Err(error),
    }
}

/// Listens on one network interface alone: bound to it, or, without the privilege for that, to its addresses.
fn open_on_interface(
    spec: &ListenerSpec,
    name: &str,
) -> Result<Vec<(TcpListener, SocketAddr)>, NetError> {
    let failed = |source| NetError::Interface {
        name: name.to_owned(),
        source,
    };
    let own = interface_addresses(name).map_err(failed)?;
    let wanted = addresses(spec)?;
    match can_bind_device(name) {
        Ok(true) => open_addresses(spec, wanted, Some(name)),
        Ok(false) => {
            let both = common_addresses(&own, &wanted);
            if both.is_empty() {
                let text = "it has none of the addresses that are to be listened on";
                return Err(failed(io::Error::new(ErrorKind::AddrNotAvailable, text)));
            }
            log::warn!(
                "Warning: No privilege to bind to the interface {name}: listening on the addresses that it has now."
            );
            open_addresses(spec, both, None)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Whether there is a network interface of this name.
/// # Errors
/// [`NetError::Interface`] if there is none.
pub fn check_interface(name: &str) -> Result<(), NetError> {
    let addresses = interface_addresses(name).map_err(|source| NetError::Interface {
        name: name.to_owned(),
        source,
    });
    addresses.map(drop)
}

/// The addresses of a network interface, with port 0; it must be there, but may have none.
pub(super) fn interface_addresses(name: &str) -> io::Result<Vec<SocketAddr>> {
    let mut is_there = false;
    let mut addresses = Vec::new();
    for interface in nix::ifaddrs::getifaddrs()?.filter(|it| it.interface_name == name) {
        is_there = true;
        let Some(address) = interface.address else {
            continue;
        };
        if let Some(v4) = address.as_sockaddr_in() {
            addresses.push(SocketAddr::new(IpAddr::V4(v4.ip()), 0));
        } else if let Some(v6) = address.as_sockaddr_in6() {
            addresses.push(SocketAddrV6::new(v6.ip(), 0, 0, v6.scope_id()).into());
        }
    }
    match is_there {
        true => Ok(addresses),
        false => Err(io::Error::new(
            ErrorKind::NotFound,
            "there is no interface of that name",
        )),
    }
}

/// Which of an interface's addresses are wanted: all of a family where its unspecified address is, with the wanted
/// port.
pub(super) fn common_addresses(own: &[SocketAddr], wanted: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut both = Vec::new();
    for wanted in wanted {
        let unspecified = wanted.ip().is_unspecified();
        let same_family = |own: &&SocketAddr| own.is_ipv4() == wanted.is_ipv4();
        for own in own.iter().filter(same_family) {
            if unspecified || own.ip() == wanted.ip() {
                let mut address = *own;
                address.set_port(wanted.port());
                both.push(address);
            }
        }
    }
    both
}

/// Whether the system lets this process bind a socket to the interface.
fn can_bind_device(name: &str) -> io::Result<bool> {
    let probe = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    match probe.bind_device(Some(name.as_bytes())) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(false),
        Err(error) => Err(error),
    }
}

/// Opens a socket on each of `addresses`, on the network interface `interface` alone if it is given.
fn open_addresses(
    spec: &ListenerSpec,
    addresses: Vec<SocketAddr>,
    interface: Option<&str>,
) -> Result<Vec<(TcpListener, SocketAddr)>, NetError> {
    let mut sockets: Vec<(TcpListener, SocketAddr)> = Vec::new();
    let mut missing = None;
    for address in addresses {
        let first_port = sockets.first().map(|(_, first)| first.port());
        match bind(address, first_port, spec, interface) {
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

/// Opens a socket on one address. An ephemeral port is `first_port`, that of the first socket, if that is free here
/// too.
fn bind(
    mut address: SocketAddr,
    first_port: Option<u16>,
    spec: &ListenerSpec,
    interface: Option<&str>,
) -> io::Result<(TcpListener, SocketAddr)> {
    if let (0, Some(port)) = (address.port(), first_port) {
        address.set_port(port);
        match bind_exactly(address, spec, interface) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => address.set_port(0),
            result => return result,
        }
    }
    bind_exactly(address, spec, interface)
}

fn bind_exactly(
    address: SocketAddr,
    spec: &ListenerSpec,
    interface: Option<&str>,
) -> io::Result<(TcpListener, SocketAddr)> {
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
    if let Some(interface) = interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
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

/// Whether an accept failed because of the connection that it took from the backlog, as accept(2) lists these errors:
/// the next accept is about another connection.
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
