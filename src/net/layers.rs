//! What stands between a socket and MQTT on some listeners: first the header of the PROXY protocol, then TLS.
//!
//! A state machine that never waits: each read takes it as far as the bytes go that are there. It knows neither the
//! poller nor the connection's flags.
//! 1. [`Filled::Established`] comes once, when everything is there that stands before MQTT, and before any of MQTT.
//! 2. Before that, a connection holds what its peer has sent: up to [`proxy::HEADER_BYTES_MAX`], or what rustls keeps
//!    of a handshake: [`HELLO_BYTES_MAX`] at most, and with a client's certificates [`HANDSHAKE_BYTES_MAX`], of which
//!    it takes hardly more memory than has come.
//! 3. What is read from the socket is decrypted at once and fits the ring, or stays in the socket. What does not fit
//!    all the same waits in rustls and `early`, a read's worth at most, and no more is read before it is taken.
//! 4. Of what is to be sent rustls holds no more than [`SENDABLE_BYTES_MAX`]; the rest waits in the outbox.
//! 5. What a client sent before it broke TLS is handed on before the error is.

use std::io::{self, ErrorKind, IoSlice, Read as _, Write as _};
use std::sync::Arc;

use rustls::server::{Accepted, AcceptedAlert, Acceptor};
use rustls::{HandshakeKind, ServerConnection};

use super::certificates::{self, TlsContext};
use super::connection::{Stream, read};
use super::proxy::{self, Source};
use super::{FillError, Filled};
use crate::buffer::outbox::SLICES_MAX;
use crate::buffer::{Outbox, PeerAddress, Ring};
use crate::config::ProxyProtocol;

/// How much rustls may hold that is to be sent, in bytes: the socket's buffer is filled from it in one call.
const SENDABLE_BYTES_MAX: usize = 64 * 1024;

/// How many times one flush hands bytes to rustls and these to the socket, while the socket takes everything.
const FLUSH_ROUNDS_MAX: usize = 16;

/// The longest record, of which all but the end may be in rustls already when bytes are read from the socket.
const RECORD_BYTES_MAX: usize = 17 * 1024;

/// How many bytes a client may send until its hello is whole. Those of today have less than 2 KiB, of which the larger
/// part is a key of the post-quantum exchange.
const HELLO_BYTES_MAX: usize = 16 * 1024;

/// How many bytes a client may send until the handshake is over, where it is to show certificates: rustls joins no
/// longer message than this either.
const HANDSHAKE_BYTES_MAX: usize = 64 * 1024;

/// What the layers have learnt of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Established {
    /// Where it comes from, also if a proxy is in between.
    pub peer: PeerAddress,
    /// The user name that the client's certificate stands for.
    pub user_name: Option<String>,
    /// Version and cipher suite of TLS, as the log has them.
    pub tls: Option<String>,
}

/// What a read came to.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) filled: Filled,
    /// Whether the socket was read to its end, and nothing decrypted is left.
    pub(super) is_drained: bool,
}

/// TLS on one socket.
enum Tls {
    /// Until the first message of the client is there.
    Accepting(Box<Acceptor>),
    /// From then on.
    Open(Box<ServerConnection>),
    /// The client broke the protocol, in this way.
    Failed(String),
}

/// The layers of one connection.
pub(super) struct Layers {
    proxy: Option<ProxyProtocol>,
    /// What was read and could not be taken yet: a part of the header, what came behind it or behind the handshake, or
    /// what the ring had no room for. Of TLS it is encrypted, but for what came before a failure.
    early: Vec<u8>,
    context: Option<Arc<TlsContext>>,
    tls: Option<Tls>,
    /// Whether `Filled::Established` was said.
    is_established: bool,
    /// Whether the client said that no more comes.
    is_closed: bool,
    /// How many decrypted bytes rustls holds.
    plaintext: usize,
    /// How many bytes rustls got until the handshake was over.
    handshake_bytes: usize,
    facts: Established,
}

impl std::fmt::Debug for Layers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Layers")
            .field("facts", &self.facts)
            .field("is_established", &self.is_established)
            .finish_non_exhaustive()
    }
}

impl Layers {
    /// The layers of a listener; `None` where MQTT stands on the socket itself.
    pub(super) fn new(
        peer: PeerAddress,
        proxy: Option<ProxyProtocol>,
        context: Option<&Arc<TlsContext>>,
    ) -> Option<Box<Layers>> {
        if proxy.is_none() && context.is_none() {
            return None;
        }
        Some(Box::new(Layers {
            proxy,
            early: Vec::new(),
            context: context.cloned(),
            tls: context.map(|_| Tls::Accepting(Box::default())),
            is_established: false,
            is_closed: false,
            plaintext: 0,
            handshake_bytes: 0,
            facts: Established {
                peer,
                user_name: None,
                tls: None,
            },
        }))
    }

    /// What was learnt, once all of it is.
    pub(super) fn established(&self) -> Option<&Established> {
        self.is_established.then_some(&self.facts)
    }

    /// What judged the client's certificate, if TLS did.
    pub(super) fn context(&self) -> Option<&Arc<TlsContext>> {
        self.context.as_ref()
    }

    /// Why the client, which was let in, would not be under `context`.
    pub(super) fn refusal_under(&self, context: &TlsContext) -> Option<String> {
        let Some(Tls::Open(tls)) = &self.tls else {
            return None;
        };
        if !self.is_established || !context.requires_certificate() {
            return None;
        }
        let chain = tls.peer_certificates().unwrap_or_default();
        context
            .still_accepts(chain)
            .err()
            .map(|error| error.to_string())
    }

    /// Reads once, and takes everything as far as it goes.
    pub(super) fn read(
        &mut self,
        socket: &mut Stream,
        ring: &mut Ring,
        scratch: &mut [u8],
    ) -> Result<Read, FillError> {
        if let Some(version) = self.proxy {
            return self.read_header(version, socket);
        }
        match &self.tls {
            Some(Tls::Failed(_)) => self.read_failed(ring),
            Some(_) => self.read_tls(socket, ring, scratch),
            None => self.read_plain(socket, ring, scratch.len()),
        }
    }

    /// Behind a header that nothing else followed.
    fn read_plain(
        &mut self,
        socket: &mut Stream,
        ring: &mut Ring,
        bytes_max: usize,
    ) -> Result<Read, FillError> {
        if !self.early.is_empty() {
            return Ok(Read::of(Filled::Bytes(self.take_early(ring))));
        }
        let spare = ring.spare();
        let room = spare.len().min(bytes_max);
        if room == 0 {
            return Ok(Read::of(Filled::Bytes(0)));
        }
        match read(socket, &mut spare[..room]) {
            Ok(0) => Ok(Read::of(Filled::Closed)),
            Ok(n) => {
                ring.produced(n);
                Ok(Read {
                    is_drained: n < room,
                    ..Read::of(Filled::Bytes(n))
                })
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Read::drained()),
            Err(error) => Err(error.into()),
        }
    }

    /// What came before the failure, and then that.
    fn read_failed(&mut self, ring: &mut Ring) -> Result<Read, FillError> {
        match &self.tls {
            Some(Tls::Failed(reason)) if self.early.is_empty() => Err(FillError::new(reason)),
            _ => Ok(Read::of(Filled::Bytes(self.take_early(ring)))),
        }
    }

    /// Moves what is MQTT of `early` into the ring, as far as it has room.
    fn take_early(&mut self, ring: &mut Ring) -> usize {
        let spare = ring.spare();
        let n = spare.len().min(self.early.len());
        spare[..n].copy_from_slice(&self.early[..n]);
        ring.produced(n);
        self.drop_early(n);
        n
    }

    /// Gives up the first bytes of `early`, and the memory that the rest has no use for.
    fn drop_early(&mut self, n: usize) {
        self.early.drain(..n);
        if self.early.is_empty() {
            self.early = Vec::new();
        }
    }

    fn read_header(
        &mut self,
        version: ProxyProtocol,
        socket: &mut Stream,
    ) -> Result<Read, FillError> {
        let len = self.early.len();
        self.early.resize(proxy::HEADER_BYTES_MAX, 0);
        let result = read(socket, &mut self.early[len..]);
        let n = *result.as_ref().unwrap_or(&0);
        self.early.truncate(len + n);
        match result {
            Ok(0) => return Ok(Read::of(Filled::Closed)),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Read::drained()),
            Err(error) => return Err(error.into()),
        }
        let Some((header, length)) = proxy::decode(version, &self.early).map_err(FillError::new)?
        else {
            // It may be that more has come: the next read finds out.
            return Ok(Read::of(Filled::Bytes(0)));
        };
        self.drop_early(length);
        self.proxy = None;
        self.take_header(version, header)?;
        if self.tls.is_none() {
            self.is_established = true;
            return Ok(Read::of(Filled::Established));
        }
        Ok(Read::of(Filled::Bytes(0)))
    }

    fn take_header(
        &mut self,
        version: ProxyProtocol,
        header: proxy::Header,
    ) -> Result<(), FillError> {
        if let Some(Source::Address(address)) = header.source {
            self.facts.peer = PeerAddress::Ip(address);
        }
        if let ProxyProtocol::V2 {
            require_tls,
            identity_is_user_name,
        } = version
        {
            if require_tls && !header.tls {
                let what = "the proxy's client came without TLS, which proxy_protocol_v2_require_tls asks for";
                return Err(FillError::new(what));
            }
            if identity_is_user_name {
                self.facts.user_name = header.common_name;
            }
        }
        if header.tls && self.context.is_none() {
            let version = header.tls_version.as_deref().unwrap_or("TLS");
            self.facts.tls = Some(format!("{version} with the proxy"));
        }
        Ok(())
    }

    fn read_tls(
        &mut self,
        socket: &mut Stream,
        ring: &mut Ring,
        scratch: &mut [u8],
    ) -> Result<Read, FillError> {
        if self.plaintext > 0 {
            let taken = self.take_plaintext(ring)?;
            return Ok(Read::of(Filled::Bytes(taken)));
        }
        if self.is_closed {
            return Ok(Read::of(Filled::Closed));
        }
        if !self.early.is_empty() {
            let early = std::mem::take(&mut self.early);
            return self.take_ciphertext(&early, socket, ring);
        }
        let room = ring.spare().len();
        let wanted = match self.is_established {
            true => room.saturating_sub(RECORD_BYTES_MAX).min(scratch.len()),
            false => scratch.len().min(RECORD_BYTES_MAX),
        };
        // A ring with little room, that of a packet whose end is near, takes a record's worth of plaintext in several
        // goes.
        let wanted = wanted.max(SMALL_READ_BYTES);
        let n = match read(socket, &mut scratch[..wanted]) {
            Ok(0) => return Ok(Read::of(Filled::Closed)),
            Ok(n) => n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Ok(Read::drained());
            }
            Err(error) => return Err(error.into()),
        };
        let mut read = self.take_ciphertext(&scratch[..n], socket, ring)?;
        let is_drained = n < wanted && self.plaintext == 0 && self.early.is_empty();
        if is_drained {
            self.give_back_room();
        }
        let has_no_more_to_say = !self.is_closed && !matches!(self.tls, Some(Tls::Failed(_)));
        read.is_drained = is_drained && has_no_more_to_say && read.filled != Filled::Established;
        Ok(read)
    }

    /// Lets rustls give back the room that long records took. It looks at that when it is to read, so it is shown a
    /// socket where nothing is: an idle connection is left with 4 KiB.
    fn give_back_room(&mut self) {
        struct Nothing;
        impl io::Read for Nothing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(ErrorKind::WouldBlock.into())
            }
        }
        if let Some(Tls::Open(tls)) = &mut self.tls {
            let _ = tls.read_tls(&mut Nothing); // nothing is what it says
        }
    }

    /// Hands what came to rustls, and what it makes of it to the ring.
    fn take_ciphertext(
        &mut self,
        mut bytes: &[u8],
        socket: &mut Stream,
        ring: &mut Ring,
    ) -> Result<Read, FillError> {
        let mut taken = 0;
        while !bytes.is_empty() && !self.is_closed {
            let len = bytes.len();
            if let Some(Tls::Accepting(acceptor)) = &mut self.tls {
                acceptor.read_tls(&mut bytes)?;
                match acceptor.accept() {
                    Ok(None) => {
                        self.count_handshake(len - bytes.len(), HELLO_BYTES_MAX)?;
                        continue;
                    }
                    Ok(Some(accepted)) => self.open(accepted, socket)?,
                    Err((error, alert)) => return Err(self.refuse(&error, alert, socket)),
                }
            }
            let Some(Tls::Open(tls)) = &mut self.tls else {
                break;
            };
            if !bytes.is_empty() && tls.read_tls(&mut bytes)? == 0 {
                self.is_closed = true;
            }
            let state = match tls.process_new_packets() {
                Ok(state) => state,
                Err(error) => {
                    self.fail(&error, socket);
                    return match taken {
                        0 => self.read_failed(ring),
                        _ => Ok(Read::of(Filled::Bytes(taken))),
                    };
                }
            };
            self.plaintext = state.plaintext_bytes_to_read();
            self.is_closed |= state.peer_has_closed();
            if self.is_established && self.plaintext > 0 {
                taken += self.take_plaintext(ring)?;
                if self.plaintext > 0 {
                    self.early = bytes.to_vec(); // until there is room
                    break;
                }
            }
            if self.is_established {
                continue;
            }
            if self.is_handshake_over() {
                self.establish()?;
                self.early = bytes.to_vec();
                return Ok(Read::of(Filled::Established));
            }
            self.count_handshake(len - bytes.len(), self.handshake_bytes_max())?;
        }
        let filled = match self.is_closed && taken == 0 && self.plaintext == 0 {
            true => Filled::Closed,
            false => Filled::Bytes(taken),
        };
        Ok(Read::of(filled))
    }

    /// How many bytes the handshake may have behind the hello.
    fn handshake_bytes_max(&self) -> usize {
        let context = self.context.as_ref();
        match context.is_some_and(|context| context.requires_certificate()) {
            true => HANDSHAKE_BYTES_MAX,
            false => HELLO_BYTES_MAX,
        }
    }

    /// Counts bytes of a handshake that is not over.
    fn count_handshake(&mut self, bytes: usize, max: usize) -> Result<(), FillError> {
        self.handshake_bytes += bytes;
        match self.handshake_bytes > max {
            true => Err(FillError::new(format_args!(
                "the client's part of the TLS handshake is longer than {max} bytes"
            ))),
            false => Ok(()),
        }
    }

    /// The client's hello does not do: it is told, heard or not.
    fn refuse(
        &mut self,
        error: &rustls::Error,
        mut alert: AcceptedAlert,
        socket: &mut Stream,
    ) -> FillError {
        let _ = alert.write_all(socket);
        let reason = certificates::describe(error);
        self.tls = Some(Tls::Failed(reason.clone()));
        FillError::Layer(reason)
    }

    /// The client has broken TLS: it is told, heard or not, and what it said before stays.
    fn fail(&mut self, error: &rustls::Error, socket: &mut Stream) {
        self.early = Vec::new();
        if let Some(Tls::Open(tls)) = &mut self.tls {
            let _ = tls.write_tls(socket);
            if self.is_established {
                // Ends with an error, since nothing more comes.
                let _ = tls.reader().read_to_end(&mut self.early);
            }
        }
        self.plaintext = 0;
        let reason = certificates::describe_behind_hello(error);
        self.tls = Some(Tls::Failed(reason));
    }

    fn open(&mut self, accepted: Accepted, socket: &mut Stream) -> Result<(), FillError> {
        let context = self.context.as_ref().expect("TLS has a context");
        let config = Arc::clone(context.server_config_for(&accepted.client_hello()));
        let mut tls = match accepted.into_connection(config) {
            Ok(tls) => tls,
            Err((error, alert)) => return Err(self.refuse(&error, alert, socket)),
        };
        tls.set_buffer_limit(Some(SENDABLE_BYTES_MAX));
        self.tls = Some(Tls::Open(Box::new(tls)));
        Ok(())
    }

    fn is_handshake_over(&self) -> bool {
        matches!(&self.tls, Some(Tls::Open(tls)) if !tls.is_handshaking())
    }

    /// The handshake is over: who is it?
    fn establish(&mut self) -> Result<(), FillError> {
        let (Some(Tls::Open(tls)), Some(context)) = (&self.tls, &self.context) else {
            return Ok(());
        };
        let chain = tls.peer_certificates().unwrap_or_default();
        // A session that is resumed has not had its certificate looked at since it began.
        let is_resumed = tls.handshake_kind() == Some(HandshakeKind::Resumed);
        if is_resumed && context.requires_certificate() {
            context.still_accepts(chain).map_err(FillError::new)?;
        }
        if let Some(name) = context.user_name(chain).map_err(FillError::new)? {
            self.facts.user_name = Some(name);
        }
        let version = match tls.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "TLSv1.2",
        };
        let suite = tls.negotiated_cipher_suite();
        let suite = suite.and_then(|suite| suite.suite().as_str()).unwrap_or("");
        let suite = suite.replacen("TLS13_", "TLS_", 1);
        self.facts.tls = Some(format!("{version} cipher {suite}"));
        self.is_established = true;
        Ok(())
    }

    /// Moves decrypted bytes into the ring, as far as it has room.
    fn take_plaintext(&mut self, ring: &mut Ring) -> Result<usize, FillError> {
        let Some(Tls::Open(tls)) = &mut self.tls else {
            return Ok(0);
        };
        let mut taken = 0;
        while self.plaintext > 0 {
            let spare = ring.spare();
            if spare.is_empty() {
                break;
            }
            let n = tls.reader().read(spare)?;
            ring.produced(n);
            self.plaintext -= n;
            taken += n;
        }
        Ok(taken)
    }

    /// Hands the outbox to rustls and the socket, and adds to `bytes_sent` what left the outbox: TLS's own bytes do not
    /// count, as they do not among those received. Whether the socket would not take more.
    pub(super) fn flush(
        &mut self,
        socket: &mut Stream,
        outbox: &mut Outbox,
        bytes_sent: &mut u64,
    ) -> io::Result<bool> {
        if self.tls.is_none() {
            return flush_plain(socket, outbox, bytes_sent);
        }
        for _ in 0..FLUSH_ROUNDS_MAX {
            if self.send(socket)? {
                return Ok(true);
            }
            if outbox.is_empty() {
                return Ok(false);
            }
            let Some(Tls::Open(tls)) = &mut self.tls else {
                return Ok(true); // nothing can be said yet
            };
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = outbox.slices(&mut slices);
            let taken = tls.writer().write_vectored(&slices[..count])?;
            *bytes_sent += taken as u64;
            outbox.advance(taken);
        }
        self.send(socket)
    }

    /// Sends what rustls holds; whether the socket would not take it all.
    pub(super) fn send(&mut self, socket: &mut Stream) -> io::Result<bool> {
        let Some(Tls::Open(tls)) = &mut self.tls else {
            return Ok(false);
        };
        while tls.wants_write() {
            match tls.write_tls(socket) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Says that no more comes.
    pub(super) fn close(&mut self, socket: &mut Stream) {
        if let Some(Tls::Open(tls)) = &mut self.tls {
            tls.send_close_notify();
            let _ = self.send(socket); // whoever does not take it now does not get it
        }
    }
}

/// The least that is read of a TLS connection at a time: what rustls takes in one go.
const SMALL_READ_BYTES: usize = 4096;

impl Read {
    fn of(filled: Filled) -> Read {
        Read {
            filled,
            is_drained: false,
        }
    }

    fn drained() -> Read {
        Read {
            is_drained: true,
            ..Read::of(Filled::Bytes(0))
        }
    }
}

fn flush_plain(socket: &mut Stream, outbox: &mut Outbox, bytes_sent: &mut u64) -> io::Result<bool> {
    for _ in 0..FLUSH_ROUNDS_MAX {
        if outbox.is_empty() {
            return Ok(false);
        }
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = outbox.slices(&mut slices);
        match socket.write_vectored(&slices[..count]) {
            Ok(n) => {
                *bytes_sent += n as u64;
                outbox.advance(n);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}
