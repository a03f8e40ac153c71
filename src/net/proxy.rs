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
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    const V2: ProxyProtocol = ProxyProtocol::V2 {
        require_tls: false,
        identity_is_user_name: false,
    };

    fn field(kind: u8, value: &[u8]) -> Vec<u8> {
        let len = u16::try_from(value.len()).expect("a short value");
        [&[kind], &len.to_be_bytes()[..], value].concat()
    }

    fn v2(command: u8, protocol: u8, rest: &[u8]) -> Vec<u8> {
        let len = u16::try_from(rest.len()).expect("a short header");
        [SIGNATURE_V2, &[command, protocol], &len.to_be_bytes(), rest].concat()
    }

    /// From 192.0.2.1 port 4660, with fields.
    fn ipv4(fields: &[Vec<u8>]) -> Vec<u8> {
        let addresses = [192, 0, 2, 1, 198, 51, 100, 2, 0x12, 0x34, 0x07, 0x5B];
        v2(0x21, 0x11, &[&addresses[..], &fields.concat()].concat())
    }

    fn ssl(client: u8, verify: u32, fields: &[Vec<u8>]) -> Vec<u8> {
        let value = [&[client], &verify.to_be_bytes()[..], &fields.concat()].concat();
        field(field::SSL, &value)
    }

    fn address(text: &str) -> Option<Source> {
        Some(Source::Address(text.parse().expect("an address")))
    }

    /// Decodes a whole header, and sees that every part of it is incomplete and that what follows is left alone.
    fn decode_whole(version: ProxyProtocol, bytes: &[u8]) -> Header {
        for len in 0..bytes.len() {
            assert_eq!(
                decode(version, &bytes[..len]),
                Ok(None),
                "{len} of {bytes:?}"
            );
        }
        let more = [bytes, b"\x10\x0C\0\x04MQTT"].concat();
        let (header, len) = decode(version, &more)
            .expect("a good header")
            .expect("a whole one");
        assert_eq!(len, bytes.len());
        header
    }

    #[test]
    fn good_headers_of_version_1() {
        let longest = format!(
            "PROXY TCP6 {0} {0} 65535 65535\r\n",
            "ffff:".repeat(7) + "ffff"
        );
        assert_eq!(longest.len(), 104);
        let unknown = format!("PROXY UNKNOWN {}\r\n", "x".repeat(107 - 16));
        let table = [
            (
                "PROXY TCP4 192.0.2.1 198.51.100.2 4660 1883\r\n",
                address("192.0.2.1:4660"),
            ),
            (
                "PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n",
                address("0.0.0.0:0"),
            ),
            (
                "PROXY TCP6 2001:db8::1 ::1 4660 1883\r\n",
                address("[2001:db8::1]:4660"),
            ),
            (
                "PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n",
                address("[::ffff:192.0.2.1]:1"),
            ),
            (
                &longest,
                address("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
            ),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ffff::1 what ever\r\n", None),
            (&unknown, None),
        ];
        for (text, source) in table {
            let header = decode_whole(ProxyProtocol::V1, text.as_bytes());
            let expected = Header {
                source,
                ..Header::default()
            };
            assert_eq!(header, expected, "{text}");
        }
    }

    #[test]
    fn bad_headers_of_version_1() {
        let line_end = "the line does not end with CR LF";
        let protocol = "the protocol is not TCP4, TCP6 or UNKNOWN";
        let table: &[(&[u8], &str)] = &[
            (b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2\n", line_end),
            (b"PROXY \n", line_end),
            (b"PROXY \r\n", protocol),
            (b"PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n", protocol),
            (b"PROXY  TCP4 192.0.2.1 198.51.100.2 1 2\r\n", protocol),
            (b"PROXY tcp4 192.0.2.1 198.51.100.2 1 2\r\n", protocol),
            (b"PROXY UNKNOWNX\r\n", protocol),
            (b"PROXY TCP4\r\n", "the line ends too early"),
            (
                b"PROXY TCP4 192.0.2.1 198.51.100.2 1\r\n",
                "the line ends too early",
            ),
            (
                b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2 \r\n",
                "the line goes on after the ports",
            ),
            (
                b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2\r\r\n",
                "a port is no plain number",
            ),
            (
                b"PROXY TCP4 192.0.2.1 198.51.100.2 01 2\r\n",
                "a port is no plain number",
            ),
            (
                b"PROXY TCP4 192.0.2.1 198.51.100.2 +1 2\r\n",
                "a port is no plain number",
            ),
            (
                b"PROXY TCP4 192.0.2.1 198.51.100.2 -1 2\r\n",
                "a port is no plain number",
            ),
            (
                b"PROXY TCP4 192.0.2.1 198.51.100.2  2\r\n",
                "a port is not within 0 to 65535",
            ),
            (
                b"PROXY TCP4 192.0.2.1 198.51.100.2 1 65536\r\n",
                "a port is not within 0 to 65535",
            ),
            (
                b"PROXY TCP4 192.0.2.01 198.51.100.2 1 2\r\n",
                "an address is no IPv4 address",
            ),
            (
                b"PROXY TCP4 192.0.2 198.51.100.2 1 2\r\n",
                "an address is no IPv4 address",
            ),
            (
                b"PROXY TCP4 ::1 ::1 1 2\r\n",
                "an address is no IPv4 address",
            ),
            (
                b"PROXY TCP4 192.0.2.1  1 2\r\n",
                "an address is no IPv4 address",
            ),
            (
                b"PROXY TCP6 192.0.2.1 198.51.100.2 1 2\r\n",
                "an address is no IPv6 address",
            ),
            (
                b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
                "an address is no IPv6 address",
            ),
            (b"PROXY \xFF\r\n", "the line is not ASCII"),
            (
                &[b'P', b'R', b'O', b'X', b'Y', b' '].repeat(18),
                "no line end within 107 bytes",
            ),
        ];
        for (bytes, what) in table {
            assert_eq!(decode(ProxyProtocol::V1, bytes), Err(Malformed(what)));
        }
        // The line end may come later by no byte.
        let late = format!("PROXY UNKNOWN {}\r\n", "x".repeat(107 - 15));
        let expected = Malformed("no line end within 107 bytes");
        assert_eq!(decode(ProxyProtocol::V1, late.as_bytes()), Err(expected));
    }

    #[test]
    fn what_is_no_header() {
        let table: &[(ProxyProtocol, &[u8], &str)] = &[
            (ProxyProtocol::V1, b"\x16\x03\x01", "a TLS handshake"),
            (ProxyProtocol::V1, b"\x10", "an MQTT CONNECT"),
            (ProxyProtocol::V1, SIGNATURE_V2, "one of version 2"),
            (ProxyProtocol::V1, b"PROXX", "something else"),
            (ProxyProtocol::V1, b"proxy ", "something else"),
            (ProxyProtocol::V1, b"PROXY\t", "one of version 1"),
            (V2, b"\x16\x03\x01", "a TLS handshake"),
            (V2, b"\x10\x0C\0\x04MQTT", "an MQTT CONNECT"),
            (V2, b"PROXY TCP4", "one of version 1"),
            (V2, b"\r\n\r\n\0\r\nQUIX", "one of version 2"),
            (V2, b"GET / HTTP/1.1", "something else"),
        ];
        for (version, bytes, found) in table {
            let error = decode(*version, bytes).expect_err(found);
            assert!(matches!(error, ProxyError::NotAHeader { found: f, .. } if f == *found));
        }
        assert_eq!(
            decode(V2, b"\x10").expect_err("no header").to_string(),
            "expected a PROXY protocol header of version 2, found an MQTT CONNECT"
        );
    }

    #[test]
    fn good_headers_of_version_2() {
        let from = |source| Header {
            source,
            ..Header::default()
        };
        let ipv6 = [
            &[0x20, 1, 0x0D, 0xB8][..],
            &[0; 11],
            &[1],
            &[0; 16],
            &[0x12, 0x34, 0, 1],
        ]
        .concat();
        let version = field(field::SSL_VERSION, b"TLSv1.3");
        let name = field(field::SSL_COMMON_NAME, "Jürgen".as_bytes());
        let cipher = field(0x23, b"\xFF\0");
        let with_tls = |tls_version: Option<&str>, common_name: Option<&str>| Header {
            source: address("192.0.2.1:4660"),
            tls: true,
            tls_version: tls_version.map(str::to_owned),
            common_name: common_name.map(str::to_owned),
        };
        let plain = from(address("192.0.2.1:4660"));
        let all = [cipher, version.clone(), name.clone()];
        let unverified = Header {
            tls_version: Some("TLSv1.3".to_owned()),
            ..plain.clone()
        };
        let table = [
            (v2(0x20, 0x00, b""), from(None)),
            (v2(0x20, 0x11, b"what ever"), from(None)),
            (v2(0x20, 0xFF, &[0xFF; 1000]), from(None)),
            (v2(0x21, 0x00, b"what ever"), from(None)),
            (ipv4(&[]), plain.clone()),
            (v2(0x21, 0x21, &ipv6), from(address("[2001:db8::1]:4660"))),
            (v2(0x21, 0x31, &[b'x'; 216]), from(Some(Source::Unix))),
            (
                ipv4(&[
                    field(0x02, b"example.org"),
                    field(0x04, b""),
                    field(0xEE, b"\0"),
                ]),
                plain.clone(),
            ),
            (ipv4(&[ssl(0, 0, &[])]), plain.clone()),
            (ipv4(&[ssl(1, 0, &[])]), with_tls(None, None)),
            (
                ipv4(&[field(0x05, b"id"), ssl(1, 1, &all)]),
                with_tls(Some("TLSv1.3"), None),
            ),
            // A certificate on this connection, and on the one before it.
            (
                ipv4(&[ssl(0b011, 0, &all)]),
                with_tls(Some("TLSv1.3"), Some("Jürgen")),
            ),
            (
                ipv4(&[ssl(0b101, 0, std::slice::from_ref(&name))]),
                with_tls(None, Some("Jürgen")),
            ),
            // One that did not hold; none; and no TLS at all.
            (
                ipv4(&[ssl(0b011, 10, &all)]),
                with_tls(Some("TLSv1.3"), None),
            ),
            (
                ipv4(&[ssl(0b001, 0, &all)]),
                with_tls(Some("TLSv1.3"), None),
            ),
            (ipv4(&[ssl(0b110, 0, &all)]), unverified),
        ];
        for (bytes, expected) in table {
            assert_eq!(decode_whole(V2, &bytes), expected, "{bytes:?}");
        }
        let largest = v2(0x20, 0, &[0; HEADER_BYTES_MAX - 16]);
        assert_eq!(decode_whole(V2, &largest), Header::default());
    }

    #[test]
    fn bad_headers_of_version_2() {
        let longer = "something in it is longer than what it is in";
        let name = |name: &[u8]| ipv4(&[ssl(3, 0, &[field(field::SSL_COMMON_NAME, name)])]);
        let twice = "two versions or common names of one TLS connection";
        let one = field(field::SSL_COMMON_NAME, b"one");
        let table = [
            (
                v2(0x22, 0x11, &[0; 12]),
                "the command is not LOCAL or PROXY",
            ),
            (v2(0x11, 0x11, &[0; 12]), "the version in it is not 2"),
            (v2(0x21, 0x11, &[0; 11]), longer),
            (v2(0x21, 0x21, &[0; 35]), longer),
            (v2(0x21, 0x31, &[0; 215]), longer),
            (
                v2(0x21, 0x12, &[0; 12]),
                "the transport is datagrams, not a stream",
            ),
            (
                v2(0x21, 0x10, &[0; 12]),
                "unknown address family or transport",
            ),
            (
                v2(0x21, 0x41, &[0; 12]),
                "unknown address family or transport",
            ),
            (ipv4(&[vec![4]]), longer),
            (ipv4(&[vec![4, 0]]), longer),
            (ipv4(&[vec![4, 0, 1]]), longer),
            (ipv4(&[vec![4, 0xFF, 0xFF, 0]]), longer),
            (ipv4(&[field(field::SSL, b"")]), longer),
            (ipv4(&[field(field::SSL, &[1, 0, 0, 0])]), longer),
            (
                ipv4(&[field(field::SSL, &[1, 0, 0, 0, 0, field::SSL_COMMON_NAME])]),
                longer,
            ),
            // Longer than its TLS field, though not than the header.
            (
                ipv4(&[
                    ssl(3, 0, &[vec![field::SSL_COMMON_NAME, 0, 4, b'a']]),
                    field(4, b"abcd"),
                ]),
                longer,
            ),
            (name(b"a\xFF"), "a name in it is not UTF-8"),
            (name(b""), "a name in it is empty"),
            (name(b"a\0"), "a name in it has control characters"),
            (name(b"a\nb"), "a name in it has control characters"),
            (
                name("a\u{85}".as_bytes()),
                "a name in it has control characters",
            ),
            (ipv4(&[ssl(3, 0, &[one.clone(), one])]), twice),
            (
                ipv4(&[ssl(1, 0, &[]), ssl(3, 0, &[])]),
                "two fields about TLS",
            ),
            (
                ipv4(&[field(field::CRC32C, &[0; 3])]),
                "its checksum is not of 4 bytes",
            ),
            (
                ipv4(&[field(field::CRC32C, &[0; 4])]),
                "its checksum is wrong",
            ),
        ];
        for (bytes, what) in table {
            assert_eq!(decode(V2, &bytes), Err(Malformed(what)), "{bytes:?}");
        }
        // Of what is wrong from the start, nothing more is waited for.
        let large = [SIGNATURE_V2, &[0x21, 0x11, 0xFF, 0xFF]].concat();
        assert_eq!(
            decode(V2, &large),
            Err(ProxyError::TooLarge { bytes: 65_551 })
        );
        let strange = [SIGNATURE_V2, &[0x31]].concat();
        assert!(decode(V2, &strange).is_err());
    }

    #[test]
    fn checksums() {
        assert_eq!(crc32c(b"123456789".iter().copied()), 0xE306_9283);
        let mut bytes = ipv4(&[field(field::CRC32C, &[0; 4]), field(4, b"padding")]);
        let checksum = crc32c(bytes.iter().copied());
        bytes[31..35].copy_from_slice(&checksum.to_be_bytes());
        assert_eq!(decode_whole(V2, &bytes).source, address("192.0.2.1:4660"));
        *bytes.last_mut().expect("padding") ^= 1;
        assert_eq!(decode(V2, &bytes), Err(Malformed("its checksum is wrong")));
    }

    proptest! {
        #[test]
        fn mosquitto_3435_any_bytes(bytes in vec(any::<u8>(), 0..300)) {
            for version in [ProxyProtocol::V1, V2] {
                let _ = decode(version, &bytes);
            }
            let line = [SIGNATURE_V1, &bytes].concat();
            let _ = decode(ProxyProtocol::V1, &line);
            for protocol in [0x11, 0x21, 0x31] {
                let _ = decode(V2, &v2(0x21, protocol, &bytes));
            }
            let _ = decode(V2, &ipv4(&[field(field::SSL, &bytes)]));
        }

        /// A good header with any of its bytes changed is another one, an error, or incomplete; never more than came.
        #[test]
        fn changed_bytes(at in 0usize..90, byte in any::<u8>(), len in 0usize..90) {
            let fields = [field(field::SSL_VERSION, b"TLSv1.2"), field(field::SSL_COMMON_NAME, b"name")];
            let mut bytes = ipv4(&[field(0x02, b"example.org"), ssl(3, 0, &fields), field(0x04, b"1234")]);
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(len);
            if let Ok(Some((_, taken))) = decode(V2, &bytes) {
                prop_assert!(taken <= bytes.len());
            }
        }

        #[test]
        fn any_line(line in "PROXY (TCP4|TCP6|UNKNOWN)( [0-9.:a-f]{0,9}){0,5}\r?\n?") {
            if let Ok(Some((_, taken))) = decode(ProxyProtocol::V1, line.as_bytes()) {
                prop_assert_eq!(taken, line.len());
            }
        }
    }
}
