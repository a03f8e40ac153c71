//! MQTT in WebSocket frames (MQTT 5.0, 6; RFC 6455): binary frames, of which neither side's packets know anything.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;

use rustix::event::PollFlags;
use tungstenite::error::ProtocolError;
use tungstenite::handshake::HandshakeError;
use tungstenite::http::Request;
use tungstenite::protocol::{Message, Role, WebSocketConfig};
use tungstenite::{Error, client};

use super::dial::Patience;
use super::{DialError, Stream};

/// Where brokers listen for it by custom.
const PATH: &str = "/mqtt";

/// The subprotocol of every version of MQTT [MQTT-6.0.0-3].
const SUBPROTOCOL: &str = "mqtt";

/// A frame holds no more of ours.
const FRAME_BYTES_MAX: usize = 64 * 1024;

/// A frame of the server's holds no more than a packet can.
const MESSAGE_BYTES_MAX: usize = 256 * 1024 * 1024 + 16;

/// A WebSocket whose bytes are a stream.
pub struct WebSocket {
    socket: tungstenite::WebSocket<Stream>,
    has_more: bool,
    wants_write: bool,
    /// Whether the server has said good-bye: nothing comes after that, whenever it closes the socket.
    ended: bool,
}

impl std::fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebSocket").finish_non_exhaustive()
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket().as_fd()
    }
}

impl WebSocket {
    /// Asks the server for one.
    /// # Errors
    /// If it does not want to.
    pub(super) fn connect(
        stream: Stream,
        host: &str,
        port: u16,
        patience: Patience<'_>,
    ) -> Result<WebSocket, DialError> {
        let (scheme, usual_port) = match stream {
            Stream::Plain(_) => ("ws", 80),
            Stream::Tls(_) => ("wss", 443),
        };
        let host = match host.contains(':') {
            true => format!("[{host}]"),
            false => host.to_owned(),
        };
        let authority = match port {
            0 => host,
            port if port == usual_port => host,
            port => format!("{host}:{port}"),
        };
        let refuse = |text: String| DialError::WebSocket(text);
        let request = Request::builder()
            // Only its path is sent; in a header an address may have a zone.
            .uri(format!("{scheme}://localhost{PATH}"))
            .header("Host", &authority)
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", client_key()?)
            .header("Sec-WebSocket-Protocol", SUBPROTOCOL) // [MQTT-6.0.0-3]
            .body(())
            .map_err(|error| refuse(format!("{authority}: {error}")))?;
        let mut step = client::client_with_config(request, stream, Some(config()));
        loop {
            match step {
                Ok((socket, _)) => return Ok(WebSocket::new(socket)),
                Err(HandshakeError::Interrupted(middle)) => {
                    // Which of the two it waits for it does not say; the request is short.
                    patience.wait(middle.get_ref().get_ref(), PollFlags::IN)?;
                    step = middle.handshake();
                }
                Err(HandshakeError::Failure(error)) => return Err(refuse(explain(&error))),
            }
        }
    }

    /// One that the server has agreed to.
    pub(super) fn standing(stream: Stream) -> WebSocket {
        let config = Some(config());
        WebSocket::new(tungstenite::WebSocket::from_raw_socket(
            stream,
            Role::Client,
            config,
        ))
    }

    fn new(socket: tungstenite::WebSocket<Stream>) -> WebSocket {
        WebSocket {
            socket,
            has_more: true,
            wants_write: false,
            ended: false,
        }
    }

    /// The stream below.
    pub(super) fn stream(&self) -> &Stream {
        self.socket.get_ref()
    }

    /// Whether frames may be left that were read already.
    pub fn has_more(&self) -> bool {
        self.has_more
    }

    /// Whether a frame waits for the stream.
    pub fn wants_write(&self) -> bool {
        self.wants_write
    }

    /// Appends the contents of frames, about `max` bytes at most.
    /// # Errors
    /// `WouldBlock` if there are none.
    pub fn read_into(&mut self, into: &mut Vec<u8>, max: usize) -> io::Result<usize> {
        let before = into.len();
        self.has_more = false;
        loop {
            let read = into.len() - before;
            if self.ended && read == 0 {
                return Ok(0);
            }
            if self.ended || read >= max {
                self.has_more = true;
                return Ok(read);
            }
            match self.socket.read() {
                Ok(Message::Binary(bytes)) => into.extend_from_slice(&bytes), // [MQTT-6.0.0-2]
                // The answer leaves with the next read or write, and there may be none for long.
                Ok(Message::Ping(_)) => self.wants_write = true,
                Ok(Message::Pong(_) | Message::Frame(_)) => {}
                Ok(Message::Close(_)) => {
                    self.ended = true;
                    self.wants_write = true;
                }
                // [MQTT-6.0.0-1]
                Ok(Message::Text(_)) => {
                    return Err(io::Error::new(ErrorKind::InvalidData, "a text frame"));
                }
                Err(error) => match to_io(error) {
                    Ok(()) => self.ended = true,
                    Err(error) if error.kind() == ErrorKind::WouldBlock && read > 0 => {
                        return Ok(read);
                    }
                    Err(error) => return Err(error),
                },
            }
        }
    }

    /// Sends some of `bytes` in a frame.
    /// # Errors
    /// `WouldBlock` if a frame still waits.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flush()?;
        let len = bytes.len().min(FRAME_BYTES_MAX);
        let frame = Message::binary(bytes[..len].to_vec());
        match self.socket.write(frame) {
            Ok(()) => {}
            Err(error) => match to_io(error) {
                // The frame is kept, what would block is its way out.
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wants_write = true,
                Err(error) => return Err(error),
                Ok(()) => return Err(ErrorKind::BrokenPipe.into()),
            },
        }
        Ok(len)
    }

    /// Passes on what waits.
    /// # Errors
    /// `WouldBlock` if it still waits.
    pub fn flush(&mut self) -> io::Result<()> {
        self.wants_write = true;
        match self.socket.flush() {
            Ok(()) => {
                self.wants_write = false;
                Ok(())
            }
            Err(error) => to_io(error),
        }
    }

    /// Says good-bye, and below that too.
    pub fn shutdown(&mut self) {
        // Best effort: the connection ends in any case.
        let _ = self.socket.close(None);
        self.socket.get_mut().shutdown();
    }
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX))
        .write_buffer_size(0)
        .max_write_buffer_size(4 * FRAME_BYTES_MAX)
}

/// A fresh key (RFC 6455, 4.1).
fn client_key() -> Result<String, DialError> {
    Ok(tungstenite::handshake::client::generate_key())
}

/// An error as the system would have it; that the other side has closed is none.
fn to_io(error: Error) -> io::Result<()> {
    match error {
        Error::ConnectionClosed
        | Error::AlreadyClosed
        // As a bare connection ends: MQTT knows by itself whether that was rude.
        | Error::Protocol(
            ProtocolError::ResetWithoutClosingHandshake | ProtocolError::SendAfterClosing,
        ) => Ok(()),
        Error::Io(error) => Err(error),
        error => Err(io::Error::new(ErrorKind::InvalidData, error.to_string())),
    }
}

fn explain(error: &Error) -> String {
    match error {
        Error::Http(response) => format!(
            "the server answers the WebSocket request with HTTP status {}: does it serve MQTT over WebSocket at {PATH}?",
            response.status()
        ),
        Error::Protocol(ProtocolError::HandshakeIncomplete) => {
            "the server closed the connection: is its listener one for WebSocket?".to_owned()
        }
        error => format!("the server does not speak WebSocket: {error}"),
    }
}
