//! A socket with TLS or without, as one stream of bytes. Knows no MQTT.
//!
//! Over TLS a read gives what was decrypted, and an error of kind `WouldBlock` when there is no more to decrypt: a short
//! read proves nothing there. What TLS has taken and the socket has not is sent by the next write or flush.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::fd::AsFd;
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// One connection's bytes.
pub enum Stream {
    /// As they are.
    Plain(TcpStream),
    /// In TLS.
    Tls(Box<ClientConnection>, TcpStream),
}

/// Trust in the authorities of `file`; with `resume`, sessions are resumed.
///
/// # Errors
/// The file is not what it should be.
pub fn client_config(file: &str, resume: bool) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let authorities = CertificateDer::pem_file_iter(file).map_err(|error| error.to_string())?;
    for authority in authorities {
        let authority = authority.map_err(|error| error.to_string())?;
        roots.add(authority).map_err(|error| error.to_string())?;
    }
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    if !resume {
        config.resumption = Resumption::disabled();
    }
    Ok(Arc::new(config))
}

impl Stream {
    /// Over `socket`, to `localhost` where `tls` is given.
    ///
    /// # Errors
    /// What TLS says.
    pub fn new(socket: std::net::TcpStream, tls: Option<&Arc<ClientConfig>>) -> io::Result<Stream> {
        let socket = TcpStream::from_std(socket);
        let Some(config) = tls else {
            return Ok(Stream::Plain(socket));
        };
        let name = ServerName::try_from("localhost").expect("a host name");
        let tls = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        Ok(Stream::Tls(Box::new(tls), socket))
    }

    /// The socket, for the poller.
    pub fn socket(&mut self) -> &mut TcpStream {
        match self {
            Stream::Plain(socket) | Stream::Tls(_, socket) => socket,
        }
    }

    /// Ends the time in which reads wait.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_nonblocking(&mut self) -> io::Result<()> {
        // The flag belongs to what both descriptors stand for.
        let same = self.socket().as_fd().try_clone_to_owned()?;
        std::net::TcpStream::from(same).set_nonblocking(true)
    }

    /// Whether a read that does not fill its buffer has emptied the socket (epoll(7)).
    pub fn short_read_drains(&self) -> bool {
        matches!(self, Stream::Plain(_))
    }

    /// Whether something was taken that the socket has not got.
    pub fn holds_output(&self) -> bool {
        matches!(self, Stream::Tls(tls, _) if tls.wants_write())
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (tls, socket) = match self {
            Stream::Plain(socket) => return socket.read(buffer),
            Stream::Tls(tls, socket) => (tls, socket),
        };
        loop {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                result => return result,
            }
            // What the handshake has to say, and what waited for its end.
            while tls.wants_write() {
                match tls.write_tls(socket) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    result => result?,
                };
            }
            if tls.read_tls(socket)? == 0 {
                return Ok(0);
            }
            tls.process_new_packets().map_err(io::Error::other)?;
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (tls, socket) = match self {
            Stream::Plain(socket) => return socket.write(bytes),
            Stream::Tls(tls, socket) => (tls, socket),
        };
        let taken = tls.writer().write(bytes)?;
        while tls.wants_write() {
            match tls.write_tls(socket) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && taken > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(taken)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.write_vectored(slices),
            Stream::Tls(..) => {
                let first = slices.iter().find(|slice| !slice.is_empty());
                self.write(first.map_or(&[], |slice| slice))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Stream::Tls(tls, socket) = self {
            while tls.wants_write() {
                tls.write_tls(socket)?;
            }
        }
        Ok(())
    }
}
