//! The way to the broker: a socket, and what lies on it: a proxy, TLS, WebSocket. Bytes in, bytes out.
//!
//! A way is made by [`Dialer::dial`], which waits; afterwards nothing here does. It knows no MQTT.
//! 1. What layers hold is bounded: a write takes no more than they can pass on soon.
//! 2. Nothing that has come stays in a layer while the socket is waited for, unless [`Transport::has_more`] says so.

mod dial;
pub mod hostile;
mod socks;
mod srv;
mod tls;
mod websocket;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

pub use dial::Dialer;

use crate::config::system_reason;
use tls::Tls;
use websocket::WebSocket;

/// A connected socket that never blocks.
#[derive(Debug)]
pub enum Socket {
    /// TCP
    Tcp(TcpStream),
    /// A Unix domain socket.
    Unix(UnixStream),
}

impl Read for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.read(into),
            Socket::Unix(stream) => stream.read(into),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.write(bytes),
            Socket::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Tcp(stream) => stream.as_fd(),
            Socket::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Socket {
    fn shutdown(&self) {
        let how = std::net::Shutdown::Write;
        // It may be gone already, which is as well.
        let _ = match self {
            Socket::Tcp(stream) => stream.shutdown(how),
            Socket::Unix(stream) => stream.shutdown(how),
        };
    }
}

/// A socket with or without TLS.
#[derive(Debug)]
enum Stream {
    Plain(Socket),
    Tls(Box<Tls>),
}

impl Stream {
    fn socket(&self) -> &Socket {
        match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(tls) => tls.socket(),
        }
    }

    fn shutdown(&mut self) {
        if let Stream::Tls(tls) = self {
            tls.say_goodbye();
        }
        self.socket().shutdown();
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.read(into),
            Stream::Tls(tls) => tls.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.write(bytes),
            Stream::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(_) => Ok(()),
            Stream::Tls(tls) => tls.flush(),
        }
    }
}

/// A way to the broker.
#[derive(Debug)]
pub enum Transport {
    /// MQTT on the stream itself.
    Bare(BareTransport),
    /// MQTT in WebSocket frames.
    WebSocket(Box<WebSocket>),
}

/// MQTT on the stream itself.
#[derive(Debug)]
pub struct BareTransport(Stream);

impl Transport {
    /// What to poll.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Transport::Bare(BareTransport(stream)) => stream.socket().as_fd(),
            Transport::WebSocket(websocket) => websocket.stream().socket().as_fd(),
        }
    }

    /// Appends what has come, about `max` bytes at most; 0 is the end.
    /// # Errors
    /// `WouldBlock` if nothing has come; else what ended the connection.
    pub fn read(&mut self, into: &mut Vec<u8>, max: usize) -> io::Result<usize> {
        match self {
            Transport::Bare(BareTransport(Stream::Plain(socket))) => {
                let filled = into.len();
                into.resize(filled + max, 0);
                let read = socket.read(&mut into[filled..]);
                into.truncate(filled + *read.as_ref().unwrap_or(&0));
                read
            }
            Transport::Bare(BareTransport(Stream::Tls(tls))) => tls.read_into(into, max),
            Transport::WebSocket(websocket) => websocket.read_into(into, max),
        }
    }

    /// Whether there is more to read though the socket may not say so.
    pub fn has_more(&self) -> bool {
        match self {
            Transport::Bare(_) => false,
            Transport::WebSocket(websocket) => websocket.has_more(),
        }
    }

    /// Takes some of `bytes`.
    /// # Errors
    /// `WouldBlock` if nothing can be taken now; else what ended the connection.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Transport::Bare(BareTransport(stream)) => stream.write(bytes),
            Transport::WebSocket(websocket) => websocket.write(bytes),
        }
    }

    /// Passes on what layers hold; whether that was all of it.
    /// # Errors
    /// What ended the connection.
    pub fn flush(&mut self) -> io::Result<bool> {
        let flushed = match self {
            Transport::Bare(BareTransport(stream)) => stream.flush(),
            Transport::WebSocket(websocket) => websocket.flush(),
        };
        match flushed {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether layers hold something that waits for the socket.
    pub fn wants_write(&self) -> bool {
        let stream = match self {
            Transport::Bare(BareTransport(stream)) => stream,
            Transport::WebSocket(websocket) if websocket.wants_write() => return true,
            Transport::WebSocket(websocket) => websocket.stream(),
        };
        matches!(stream, Stream::Tls(tls) if tls.wants_write())
    }

    /// Says good-bye in every layer; what comes can still be read.
    pub fn shutdown(&mut self) {
        match self {
            Transport::Bare(BareTransport(stream)) => stream.shutdown(),
            Transport::WebSocket(websocket) => websocket.shutdown(),
        }
    }
}

/// Why there is no way to the broker.
#[derive(Debug)]
pub enum DialError {
    /// The name says nothing.
    Lookup {
        /// What was looked up.
        name: String,
        /// What the system or the name server said.
        reason: String,
    },
    /// Nobody answers there.
    Connect(io::Error),
    /// A file that TLS needs cannot be used: whole sentences.
    TlsFiles(String),
    /// TLS does not come about: whole sentences.
    Tls(String),
    /// The proxy does not let through.
    Proxy {
        /// The return code of Mosquitto's library.
        code: u8,
        /// What the proxy has against it.
        text: String,
    },
    /// The server does not speak WebSocket.
    WebSocket(String),
    /// The user wants to stop.
    Interrupted,
}

impl DialError {
    /// The return code of Mosquitto's library for it; 14 is the system's to explain.
    pub fn library_code(&self) -> u8 {
        match self {
            DialError::Lookup { .. } => 15,
            DialError::Connect(_) => 14,
            DialError::TlsFiles(_) => 3,
            DialError::Tls(_) => 8,
            DialError::Proxy { code, .. } => *code,
            DialError::WebSocket(_) => 2,
            DialError::Interrupted => 4,
        }
    }

    fn timed_out() -> DialError {
        DialError::Connect(io::Error::from_raw_os_error(
            rustix::io::Errno::TIMEDOUT.raw_os_error(),
        ))
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DialError::Lookup { name, reason } => write!(f, "{name}: {reason}"),
            DialError::Connect(error) => f.write_str(&system_reason(error)),
            DialError::TlsFiles(text)
            | DialError::Tls(text)
            | DialError::Proxy { text, .. }
            | DialError::WebSocket(text) => f.write_str(text),
            DialError::Interrupted => f.write_str("interrupted"),
        }
    }
}
