//! One socket, with TLS or without: blocking while a client introduces itself, then non-blocking in the engine.
//!
//! Knows no MQTT. With TLS too a batch of events costs one read and one write of the socket: what came is read in one
//! piece and then given to rustls, what is to go is first encrypted altogether.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mio::net::TcpStream;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore};

/// Connections from one source address: its ephemeral ports are 28,232 as Linux comes, and some may still be waiting.
const PER_SOURCE_ADDRESS: u32 = 10_000;

/// What a TLS record's plaintext may be longer than what was read for it: rustls may hold the front of a record.
const RECORD_BYTES_MAX: usize = 20 * 1024;

/// How long an answer may take while the socket is blocking.
const PATIENCE: Duration = Duration::from_secs(30);

/// The client's side of TLS: authorities from a file, sessions resumed or not.
///
/// # Errors
/// The file has no certificates.
pub fn client_config(file: &str, resume: bool) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let complain = |error: &dyn std::fmt::Display| format!("{file}: {error}");
    for authority in CertificateDer::pem_file_iter(file).map_err(|error| complain(&error))? {
        let authority = authority.map_err(|error| complain(&error))?;
        roots.add(authority).map_err(|error| complain(&error))?;
    }
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    if !resume {
        config.resumption = Resumption::disabled();
    }
    Ok(Arc::new(config))
}

/// A socket and its layer.
pub struct Stream<S> {
    /// The socket.
    pub socket: S,
    tls: Option<Box<ClientConnection>>,
}

/// A socket, not connected yet. The connection's `index` chooses a source address: each has only so many ports.
fn socket(index: u32) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    if index >= PER_SOURCE_ADDRESS {
        let source = Ipv4Addr::from(Ipv4Addr::LOCALHOST.to_bits() + index / PER_SOURCE_ADDRESS);
        // The port is chosen when it connects: one that bind chose would be lost to all other addresses.
        nix::sys::socket::setsockopt(&socket, IpBindAddressNoPort, &true)?;
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    // Acknowledgements and single messages leave at once; a broker is not to be measured by our Nagle timer.
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

fn layer(tls: Option<&Arc<ClientConfig>>) -> io::Result<Option<Box<ClientConnection>>> {
    let Some(config) = tls else {
        return Ok(None);
    };
    let name = ServerName::try_from("localhost").expect("a host name");
    let mut tls = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    // The window bounds what is under way.
    tls.set_buffer_limit(None);
    Ok(Some(Box::new(tls)))
}

impl Stream<std::net::TcpStream> {
    /// Connects and waits for it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn connect(port: u16, index: u32, tls: Option<&Arc<ClientConfig>>) -> io::Result<Self> {
        let socket = socket(index)?;
        socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Stream {
            socket: socket.into(),
            tls: layer(tls)?,
        })
    }

    /// The same for the engine, and what had been decrypted already.
    ///
    /// # Errors
    /// The kernel's.
    pub fn into_engine(mut self) -> io::Result<(Stream<TcpStream>, Vec<u8>)> {
        let mut rest = Vec::new();
        if let Some(tls) = &mut self.tls
            && let Err(error) = tls.reader().read_to_end(&mut rest)
            && error.kind() != ErrorKind::WouldBlock
        {
            return Err(error);
        }
        self.socket.set_nonblocking(true)?;
        let stream = Stream {
            socket: TcpStream::from_std(self.socket),
            tls: self.tls,
        };
        Ok((stream, rest))
    }
}

impl Read for Stream<std::net::TcpStream> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.socket).read(buffer),
            None => self.socket.read(buffer),
        }
    }
}

impl Write for Stream<std::net::TcpStream> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.socket).write(bytes),
            None => self.socket.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.socket).flush(),
            None => Ok(()),
        }
    }
}

impl Stream<TcpStream> {
    /// Begins to connect; the first writable event tells that it is done.
    ///
    /// # Errors
    /// The kernel's.
    pub fn dial(port: u16, index: u32, tls: Option<&Arc<ClientConfig>>) -> io::Result<Self> {
        let socket = socket(index)?;
        socket.set_nonblocking(true)?;
        match socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()) {
            Err(error)
                if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
            result => result?,
        }
        Ok(Stream {
            socket: TcpStream::from_std(socket.into()),
            tls: layer(tls)?,
        })
    }

    /// One read of the socket into `out`, by way of `raw` where TLS is to be undone. How many bytes there are, which
    /// with TLS may be none, and whether the socket is drained: a short read proves that (epoll(7)).
    ///
    /// # Errors
    /// The kernel's or TLS's; the end of the stream is one; [`ErrorKind::WouldBlock`] is one.
    pub fn pull(&mut self, raw: &mut [u8], out: &mut [u8]) -> io::Result<(usize, bool)> {
        let closed = || io::Error::new(ErrorKind::UnexpectedEof, "closed the connection");
        let Some(tls) = &mut self.tls else {
            return match self.socket.read(out)? {
                0 => Err(closed()),
                count => Ok((count, count < out.len())),
            };
        };
        let raw_bytes = raw.len().min(out.len().saturating_sub(RECORD_BYTES_MAX));
        let raw = &mut raw[..raw_bytes];
        let count = match self.socket.read(raw)? {
            0 => return Err(closed()),
            count => count,
        };
        let (mut rest, mut length) = (&raw[..count], 0);
        while !rest.is_empty() {
            tls.read_tls(&mut rest)?;
            tls.process_new_packets().map_err(io::Error::other)?;
            loop {
                match tls.reader().read(&mut out[length..]) {
                    Ok(0) => return Err(closed()),
                    Ok(more) => length += more,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
        }
        // What the handshake has to say.
        self.flush()?;
        Ok((length, count < raw_bytes))
    }

    /// Writes of `parts` what the socket takes. How many bytes that was, and whether the socket is full now; then the
    /// writable event goes on, with [`flush`](Stream::flush).
    ///
    /// # Errors
    /// The kernel's or TLS's.
    pub fn push(&mut self, parts: &[IoSlice<'_>]) -> io::Result<(usize, bool)> {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        if let Some(tls) = &mut self.tls {
            let taken = tls.writer().write_vectored(parts)?;
            return Ok((taken, !self.flush()?));
        }
        let result = match parts {
            [part] => self.socket.write(part),
            parts => self.socket.write_vectored(parts),
        };
        match result {
            // A short write means that the socket is full: the kernel announces room.
            Ok(count) => Ok((count, count < total)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok((0, true)),
            Err(error) => Err(error),
        }
    }

    /// Writes what TLS has encrypted already; whether that is all of it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn flush(&mut self) -> io::Result<bool> {
        let Some(tls) = &mut self.tls else {
            return Ok(true);
        };
        while tls.wants_write() {
            match tls.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Says goodbye in TLS.
    pub fn notify_close(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
        }
        // The socket is closed next, with what it has not taken.
        let _ = self.flush();
    }

    /// Whether a session was resumed.
    pub fn is_resumed(&self) -> bool {
        let kind = self.tls.as_ref().and_then(|tls| tls.handshake_kind());
        kind == Some(HandshakeKind::Resumed)
    }
}
