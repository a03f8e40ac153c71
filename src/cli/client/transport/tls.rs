//! TLS on a socket that never blocks. What certificates mean is [`crate::net::certificates`]'s.

use std::io::{self, ErrorKind, Read, Write};

use rustix::event::PollFlags;
use rustls::ClientConnection;

use super::dial::Patience;
use super::{DialError, Socket};
use crate::config::ClientTls;
use crate::net::certificates::{ClientTlsContext, describe_client};

/// Bytes that wait to be encrypted or sent, at most.
const BUFFERED_BYTES_MAX: usize = 64 * 1024;

/// What is kept from one connection to the next: authorities, our certificate, sessions to resume.
#[derive(Debug)]
pub struct Context(ClientTlsContext);

/// TLS and the socket below it.
#[derive(Debug)]
pub struct Tls {
    connection: ClientConnection,
    socket: Socket,
}

impl Context {
    /// Reads the files.
    /// # Errors
    /// If one cannot be used.
    pub fn load(tls: &ClientTls) -> Result<Context, DialError> {
        ClientTlsContext::load(tls)
            .map(Context)
            .map_err(|error| DialError::TlsFiles(error.to_string()))
    }

    /// Shakes hands with the server `host`.
    /// # Errors
    /// What either side has against the other.
    pub fn connect(
        &self,
        socket: Socket,
        host: &str,
        patience: Patience<'_>,
    ) -> Result<Tls, DialError> {
        let mut connection = self
            .0
            .connect(host)
            .map_err(|error| DialError::Tls(error.to_string()))?;
        connection.set_buffer_limit(Some(BUFFERED_BYTES_MAX));
        let mut tls = Tls { connection, socket };
        while tls.connection.is_handshaking() {
            match tls.flush() {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    patience.wait(&tls.socket, PollFlags::OUT)?;
                    continue;
                }
                // A server that has closed may have said why.
                Err(error) => {
                    return Err(match tls.receive() {
                        Err(alert) if alert.kind() == ErrorKind::InvalidData => {
                            DialError::Tls(alert.to_string())
                        }
                        _ => DialError::Connect(error),
                    });
                }
            }
            if !tls.connection.is_handshaking() {
                break;
            }
            patience.wait(&tls.socket, PollFlags::IN)?;
            match tls.receive() {
                Ok(0) => {
                    let text = "The server closed the connection during the TLS handshake: is its listener one for TLS?";
                    return Err(DialError::Tls(text.to_owned()));
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::InvalidData => {
                    return Err(DialError::Tls(error.to_string()));
                }
                Err(error) => return Err(DialError::Connect(error)),
            }
        }
        Ok(tls)
    }
}

impl Tls {
    /// The socket below.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Whether records wait for the socket.
    pub fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }

    /// Reads what the socket has, and takes it apart; 0 is its end. What TLS has against it is `InvalidData`.
    fn receive(&mut self) -> io::Result<usize> {
        let len = self.connection.read_tls(&mut self.socket)?;
        if let Err(error) = self.connection.process_new_packets() {
            // The alert that tells the other side why.
            let _ = self.flush();
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                describe_client(&error),
            ));
        }
        Ok(len)
    }

    /// Appends what has come, about `max` bytes at most, and leaves nothing that is decrypted behind.
    /// # Errors
    /// `WouldBlock` if nothing has come.
    pub fn read_into(&mut self, into: &mut Vec<u8>, max: usize) -> io::Result<usize> {
        let before = into.len();
        loop {
            let filled = into.len();
            into.resize(filled + 16 * 1024, 0);
            let read = self.connection.reader().read(&mut into[filled..]);
            into.truncate(filled + *read.as_ref().unwrap_or(&0));
            let total = into.len() - before;
            match read {
                Ok(0) => return Ok(total),
                Ok(_) => continue,
                // Without close_notify: the packets that came are whole or they are not.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(total),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            if total >= max {
                return Ok(total);
            }
            match self.receive() {
                Ok(_) => {}
                Err(_) if total > 0 => return Ok(total),
                Err(error) => return Err(error),
            }
        }
    }

    /// close_notify (RFC 8446, 6.1), best effort.
    pub fn say_goodbye(&mut self) {
        self.connection.send_close_notify();
        let _ = self.flush();
    }
}

impl Read for Tls {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.connection.reader().read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                read => return read,
            }
            self.receive()?;
        }
    }
}

impl Write for Tls {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.connection.writer().write(bytes)?;
        match self.flush() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => {
                // With TLS 1.3 a server tells only now what it has against our certificate.
                return Err(match self.receive() {
                    Err(alert) if alert.kind() == ErrorKind::InvalidData => alert,
                    _ => error,
                });
            }
            // What was taken is kept.
            _ => {}
        }
        match len {
            0 if !bytes.is_empty() => Err(ErrorKind::WouldBlock.into()),
            len => Ok(len),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(&mut self.socket)?;
        }
        Ok(())
    }
}
