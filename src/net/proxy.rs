//! PROXY protocol, versions 1 and 2: the header in which a proxy says where a connection really comes from.
//!
//! Bytes in, a [`Header`] out: it knows neither sockets nor what a listener demands of the header. Whoever can send one
//! can claim any address and any name, so the listener must be within reach of the proxy alone.
//!
//! 1. No more than [`HEADER_BYTES_MAX`] bytes are waited for, and none once the first that came are wrong.
//! 2. Lengths inside a header are the sender's claims: every one is taken with `Bytes::take`, which checks it.
//! 3. A common name is in a [`Header`] only if the proxy says that it verified a certificate, and is clean text.
//! 4. What a header says twice and could say differently, it does not say: that is an error.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use self::ProxyError::Malformed;
use crate::config::ProxyProtocol;

/// The longest header of version 2 that is taken, in bytes. The format has room for 65,551, but the largest addresses
/// are 216 bytes, and what proxies add to them (names, versions and identifiers of at most 255 bytes) a few hundred;
/// an unknown peer is not to keep more than this waiting.
pub const HEADER_BYTES_MAX: usize = 2048;

/// The longest header of version 1, with its line end, in bytes.
const LINE_BYTES_MAX: usize = 107;

const SIGNATURE_V1: &[u8] = b"PROXY ";
const SIGNATURE_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// What a proxy says about a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Who connected to the proxy. `None` is the connection's own other end: version 1 says `UNKNOWN`, or version 2
    /// says `LOCAL`, as for a proxy's own health checks, or an unspecified address.
    pub source: Option<Source>,
    /// Whether the client came to the proxy over TLS.
    pub tls: bool,
    /// The version of TLS, in the words of the proxy.
    pub tls_version: Option<String>,
    /// The common name of the client's certificate, if there was one that the proxy verified.
    pub common_name: Option<String>,
}

/// Who connected to a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A client with this address.
    Address(SocketAddr),
    /// A program on the proxy's machine, over a Unix socket.
    Unix,
}

/// Why bytes are no PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyError {
    /// They start as something else.
    NotAHeader {
        /// The version that was expected.
        expected: u8,
        /// What they look like.
        found: &'static str,
    },
    /// The header says that it is longer than [`HEADER_BYTES_MAX`].
    TooLarge {
        /// As long as this, in bytes.
        bytes: usize,
    },
    /// The header is wrong in itself.
    Malformed(&'static str),
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProxyError::NotAHeader { expected, found } => write!(
                f,
                "expected a PROXY protocol header of version {expected}, found {found}"
            ),
            ProxyError::TooLarge { bytes } => write!(
                f,
                "PROXY protocol header of {bytes} bytes, expected at most {HEADER_BYTES_MAX}"
            ),
            ProxyError::Malformed(what) => write!(f, "bad PROXY protocol header: {what}"),
        }
    }
}

impl std::error::Error for ProxyError {}

/// Decodes the header at the front of `bytes`, and how many bytes it takes.
///
/// `None` means incomplete: call again with more bytes, from the first on.
/// # Errors
/// As soon as the bytes cannot become a header of this version.
pub fn decode(version: ProxyProtocol, bytes: &[u8]) -> Result<Option<(Header, usize)>, ProxyError> {
    match version {
        ProxyProtocol::V1 => decode_v1(bytes),
        ProxyProtocol::V2 { .. } => decode_v2(bytes),
    }
}

/// Whether `bytes` are as much of `signature` as they can be.
fn check_start(expected: u8, signature: &[u8], bytes: &[u8]) -> Result<(), ProxyError> {
    let len = bytes.len().min(signature.len());
    if bytes[..len] == signature[..len] {
        return Ok(());
    }
    let found = match bytes {
        [0x16, ..] => "a TLS handshake",
        [0x10, ..] => "an MQTT CONNECT",
        _ if bytes.starts_with(b"PROXY") => "one of version 1",
        _ if bytes.starts_with(b"\r\n") => "one of version 2",
        _ => "something else",
    };
    Err(ProxyError::NotAHeader { expected, found })
}

/// `PROXY TCP4 SOURCE DESTINATION SOURCE-PORT DESTINATION-PORT` and a line end.
fn decode_v1(bytes: &[u8]) -> Result<Option<(Header, usize)>, ProxyError> {
    check_start(1, SIGNATURE_V1, bytes)?;
    let within = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = memchr::memchr(b'\n', within) else {
        return match within.len() {
            LINE_BYTES_MAX => Err(Malformed("no line end within 107 bytes")),
            _ => Ok(None),
        };
    };
    let line = within[..end]
        .strip_suffix(b"\r")
        .and_then(|line| line.strip_prefix(SIGNATURE_V1))
        .ok_or(Malformed("the line does not end with CR LF"))?;
    let header = Header {
        source: source_v1(line)?,
        ..Header::default()
    };
    Ok(Some((header, end + 1)))
}

fn source_v1(line: &[u8]) -> Result<Option<Source>, ProxyError> {
    if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        // What may follow is to be passed over, and has no form.
        return Ok(None);
    }
    let line = str::from_utf8(line).map_err(|_| Malformed("the line is not ASCII"))?;
    let mut words = line.split(' ');
    let mut word = || words.next().ok_or(Malformed("the line ends too early"));
    let address: fn(&str) -> Result<IpAddr, ProxyError> = match word()? {
        "TCP4" => |word| match word.parse::<Ipv4Addr>() {
            Ok(address) => Ok(address.into()),
            Err(_) => Err(Malformed("an address is no IPv4 address")),
        },
        "TCP6" => |word| match word.parse::<Ipv6Addr>() {
            Ok(address) => Ok(address.into()),
            Err(_) => Err(Malformed("an address is no IPv6 address")),
        },
        _ => return Err(Malformed("the protocol is not TCP4, TCP6 or UNKNOWN")),
    };
    let source = address(word()?)?;
    let _destination = address(word()?)?;
    let source_port = port(word()?)?;
    let _destination_port = port(word()?)?;
    if words.next().is_some() {
        return Err(Malformed("the line goes on after the ports"));
    }
    Ok(Some(Source::Address(SocketAddr::new(source, source_port))))
}

/// Digits alone and no zero before others, so that nobody reads another number.
fn port(word: &str) -> Result<u16, ProxyError> {
    let is_plain = word.bytes().all(|byte| byte.is_ascii_digit());
    if !is_plain || (word.starts_with('0') && word.len() > 1) {
        return Err(Malformed("a port is no plain number"));
    }
    word.parse()
        .map_err(|_| Malformed("a port is not within 0 to 65535"))
}

/// Bytes that are still to be read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], ProxyError> {
        let (taken, rest) = self
            .0
            .split_at_checked(len)
            .ok_or(Malformed("something in it is longer than what it is in"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ProxyError> {
        let taken = self.take(N)?;
        Ok(taken.try_into().expect("as many as were taken"))
    }

    fn u8(&mut self) -> Result<u8, ProxyError> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16, ProxyError> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, ProxyError> {
        self.array().map(u32::from_be_bytes)
    }

    /// The next type, length and value; `None` behind the last.
    fn field(&mut self) -> Result<Option<(u8, &'a [u8])>, ProxyError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let kind = self.u8()?;
        let len = self.u16()?;
        Ok(Some((kind, self.take(len.into())?)))
    }
}

/// What a version 2 header may say after its addresses; the other types are passed over.
mod field {
    pub(super) const CRC32C: u8 = 0x03;
    pub(super) const SSL: u8 = 0x20;
    pub(super) const SSL_VERSION: u8 = 0x21;
    pub(super) const SSL_COMMON_NAME: u8 = 0x22;
}

/// Signature, version and command, family and transport, length; then addresses and fields.
fn decode_v2(bytes: &[u8]) -> Result<Option<(Header, usize)>, ProxyError> {
    check_start(2, SIGNATURE_V2, bytes)?;
    // What is there of the front is looked at, so that nobody waits for the rest of a header that is wrong.
    let front = &bytes[bytes.len().min(SIGNATURE_V2.len())..];
    let command = match front.first() {
        None => return Ok(None),
        Some(0x20) => Command::Local,
        Some(0x21) => Command::Proxy,
        Some(0x22..=0x2F) => return Err(Malformed("the command is not LOCAL or PROXY")),
        Some(_) => return Err(Malformed("the version in it is not 2")),
    };
    let [_, protocol, high, low, ..] = front else {
        return Ok(None);
    };
    let len = SIGNATURE_V2.len() + 4 + usize::from(u16::from_be_bytes([*high, *low]));
    if len > HEADER_BYTES_MAX {
        return Err(ProxyError::TooLarge { bytes: len });
    }
    let Some(whole) = bytes.get(..len) else {
        return Ok(None);
    };
    let header = match command {
        // What may follow is to be passed over.
        Command::Local => Header::default(),
        Command::Proxy => proxied(*protocol, whole)?,
    };
    Ok(Some((header, len)))
}

enum Command {
    Local,
    Proxy,
}

fn proxied(protocol: u8, whole: &[u8]) -> Result<Header, ProxyError> {
    let mut bytes = Bytes(&whole[SIGNATURE_V2.len() + 4..]);
    let mut header = Header::default();
    header.source = match protocol {
        // Nothing is said, then, also about TLS: who demands it does not get it.
        0x00 => return Ok(header),
        0x11 => Some(Source::Address(addresses::<4>(&mut bytes)?)),
        0x21 => Some(Source::Address(addresses::<16>(&mut bytes)?)),
        0x31 => {
            // Two paths, which are of no use here.
            bytes.take(2 * 108)?;
            Some(Source::Unix)
        }
        0x12 | 0x22 | 0x32 => return Err(Malformed("the transport is datagrams, not a stream")),
        _ => return Err(Malformed("unknown address family or transport")),
    };
    let mut has_ssl = false;
    while let Some((kind, value)) = bytes.field()? {
        match kind {
            field::CRC32C => {
                let end = whole.len() - bytes.0.len();
                check_crc32c(whole, end - value.len()..end)?;
            }
            field::SSL if has_ssl => return Err(Malformed("two fields about TLS")),
            field::SSL => {
                has_ssl = true;
                ssl(value, &mut header)?;
            }
            _ => {}
        }
    }
    Ok(header)
}

/// The source of two addresses and two ports.
fn addresses<const N: usize>(bytes: &mut Bytes<'_>) -> Result<SocketAddr, ProxyError>
where
    IpAddr: From<[u8; N]>,
{
    let source: [u8; N] = bytes.array()?;
    let _destination: [u8; N] = bytes.array()?;
    let source_port = bytes.u16()?;
    let _destination_port = bytes.u16()?;
    Ok(SocketAddr::new(source.into(), source_port))
}

/// What the client's connection to the proxy is, the result of verifying a certificate, and fields.
fn ssl(value: &[u8], header: &mut Header) -> Result<(), ProxyError> {
    const CLIENT_TLS: u8 = 1;
    /// Shown on this connection, or on the one whose TLS session this resumed.
    const CLIENT_CERTIFICATE: u8 = 1 << 1 | 1 << 2;
    const VERIFIED: u32 = 0;

    let mut bytes = Bytes(value);
    let client = bytes.u8()?;
    let verify = bytes.u32()?;
    let mut common_name = None;
    while let Some((kind, value)) = bytes.field()? {
        let replaced = match kind {
            field::SSL_VERSION => header.tls_version.replace(clean(value)?),
            field::SSL_COMMON_NAME => common_name.replace(clean(value)?),
            _ => None,
        };
        if replaced.is_some() {
            return Err(Malformed(
                "two versions or common names of one TLS connection",
            ));
        }
    }
    header.tls = client & CLIENT_TLS != 0;
    if header.tls && client & CLIENT_CERTIFICATE != 0 && verify == VERIFIED {
        header.common_name = common_name;
    }
    Ok(())
}

/// Text that may become a user name or stand in a log.
fn clean(value: &[u8]) -> Result<String, ProxyError> {
    let text = str::from_utf8(value).map_err(|_| Malformed("a name in it is not UTF-8"))?;
    if text.is_empty() {
        return Err(Malformed("a name in it is empty"));
    }
    if text.contains(char::is_control) {
        return Err(Malformed("a name in it has control characters"));
    }
    Ok(text.to_owned())
}

/// Whether at `place` there is the CRC-32C of `whole` with zeros in that place.
fn check_crc32c(whole: &[u8], place: Range<usize>) -> Result<(), ProxyError> {
    let claimed: [u8; 4] = whole[place.clone()]
        .try_into()
        .map_err(|_| Malformed("its checksum is not of 4 bytes"))?;
    let zeroed = whole.iter().enumerate().map(|(at, byte)| {
        let is_checksum = place.contains(&at);
        if is_checksum { 0 } else { *byte }
    });
    if crc32c(zeroed) == u32::from_be_bytes(claimed) {
        Ok(())
    } else {
        Err(Malformed("its checksum is wrong"))
    }
}

/// Bit by bit: once a connection, over a few hundred bytes.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    const POLYNOMIAL_REVERSED: u32 = 0x82F6_3B78;
    !bytes.fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (POLYNOMIAL_REVERSED * (crc & 1))
        })
    })
}

#[cfg(test)]
mod tests;
