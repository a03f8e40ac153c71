//! What the tools hear from the network: servers, proxies, WebSockets, name servers. The first byte says from whom.

use super::Bytes;
use super::decode;
use midge::cli::hostile;

/// Lets somebody say `bytes`.
pub fn feed(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    match bytes.u8() & 7 {
        0 => hostile::proxy(false, bytes.0),
        1 => hostile::proxy(true, bytes.0),
        2 => hostile::handshake(bytes.0),
        3 => hostile::frames(bytes.0),
        4 => hostile::name_server(bytes.0),
        5 => hostile::server(false, bytes.0),
        _ => hostile::server(true, bytes.0),
    }
}

/// Good answers of each kind.
pub fn seeds() -> Vec<Vec<u8>> {
    const ANSWER: &[u8] =
        b"\x12\x34\x81\x80\0\x01\0\x01\0\0\0\0\x05_mqtt\x04_tcp\x07example\x03org\0\0\x21\0\x01\
        \xc0\x0c\0\x21\0\x01\0\0\0\x3c\0\x09\0\x01\0\x02\x07\x5b\x01a\0";
    let mut seeds: Vec<Vec<u8>> = [
        &b"\x00\x05\x00\x05\x00\x00\x01\x7f\0\0\x01\x07\x5b"[..],
        b"\x01\x05\x02\x01\x00\x05\x00\x00\x03\x04host\x07\x5b",
        b"\x00\x05\x00\x05\x00\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x07\x5b",
        b"\x02HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n",
        b"\x03\x82\x04\x20\x02\0\0\x89\x01p\x02\x01a\x80\x01b\x8a\0\x88\x02\x03\xe8",
        b"\x03\x82\x7e\0\x02hi\x81\x01t",
    ]
    .map(|bytes| bytes.to_vec())
    .to_vec();
    seeds.push([&b"\x04"[..], ANSWER].concat());
    for packet in decode::seeds() {
        for (from, connack) in [
            (5, &b"\x20\x02\0\0"[..]),
            (6, b"\x20\x06\0\0\x03\x21\0\x02"),
        ] {
            seeds.push([&[from], connack, &packet, b"\x62\x02\0\x02"].concat());
        }
    }
    seeds
}
