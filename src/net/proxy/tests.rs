//! Headers that are good, headers that are not, and any bytes at all.

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
