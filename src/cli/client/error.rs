//! Mosquitto's sentences for what goes wrong: scripts look for them, and for the exit codes that belong to them.

use super::session::Lost;
use super::transport::DialError;
use crate::mqtt::{PacketType, ProtocolVersion, ReasonCode};

/// The tool was used wrongly, or could not begin.
pub const EXIT_FAILED: u8 = 1;
/// `-W` ran out.
pub const EXIT_TIMED_OUT: u8 = 27;
/// A signal before the server had answered CONNECT: -1, as a shell reports it.
pub const EXIT_INTERRUPTED: u8 = 255;

/// The return code of Mosquitto's library for whatever TLS does not allow.
pub const TLS: u8 = 8;

/// What a return code of Mosquitto's library means; `None` for 14, which is the system's to explain.
pub fn library_text(code: u8) -> Option<&'static str> {
    Some(match code {
        1 => "Out of memory.",
        2 => "A network protocol error occurred when communicating with the broker.",
        3 => "Invalid function arguments provided.",
        4 => "The client is not currently connected.",
        5 => "The connection was refused.",
        6 => "Message not found (internal error).",
        7 => "The connection was lost.",
        8 => "A TLS error occurred.",
        9 => "Payload too large.",
        10 => "This feature is not supported.",
        11 => "Authorisation failed.",
        12 => "Access denied by ACL.",
        14 => return None,
        15 => "Lookup error.",
        16 => "Proxy error.",
        18 => "Malformed UTF-8",
        19 => "Keepalive exceeded",
        20 => "DNS Lookup failed",
        21 => "Malformed packet",
        22 => "Duplicate property in property list",
        23 => "TLS handshake failed.",
        24 => "Requested QoS not supported on server.",
        25 => "Packet larger than supported by the server.",
        26 => "OCSP error.",
        27 => "Timeout",
        28 => "Retain not supported on server.",
        _ => "Unknown error.",
    })
}

/// A refused CONNECT, in the words of the version that was spoken.
pub fn refusal(version: ProtocolVersion, code: u8) -> String {
    let text = if version.is_v5() {
        reason_text(code)
    } else {
        connect_return_text(code)
    };
    match ReasonCode::from_byte(code, PacketType::Connack) {
        Some(ReasonCode::UnsupportedProtocolVersion) if version.is_v5() => format!(
            "Connection error: {text}. Try connecting to an MQTT v5 broker, or use MQTT v3.x mode."
        ),
        _ => format!("Connection error: {text}"),
    }
}

/// A Reason Code in words, whatever packet it came in.
pub fn reason_text(code: u8) -> &'static str {
    const KINDS: [PacketType; 7] = [
        PacketType::Connack,
        PacketType::Disconnect,
        PacketType::Suback,
        PacketType::Puback,
        PacketType::Pubrel,
        PacketType::Unsuback,
        PacketType::Auth,
    ];
    (KINDS.iter())
        .find_map(|&kind| ReasonCode::from_byte(code, kind))
        .map_or("Unknown reason", ReasonCode::text)
}

/// A Connect Return code (3.1.1, 3.2.2.3) in words.
fn connect_return_text(code: u8) -> &'static str {
    match code {
        0 => "Connection Accepted.",
        1 => "Connection Refused: unacceptable protocol version.",
        2 => "Connection Refused: identifier rejected.",
        3 => "Connection Refused: broker unavailable.",
        4 => "Connection Refused: bad user name or password.",
        5 => "Connection Refused: not authorised.",
        _ => "Connection Refused: unknown reason.",
    }
}

/// The sentence for a connection that was lost.
pub fn lost_text(lost: &Lost) -> String {
    match (lost, library_text(lost.code())) {
        (Lost::Connection(Some(error)), _) => crate::config::system_reason(error),
        (Lost::Layer(text), Some(sentence)) => format!("{sentence}\n{text}"),
        (_, Some(text)) => text.to_owned(),
        (_, None) => unreachable!("only the system's errors have no text"),
    }
}

/// The sentences for a connection that never came about: Mosquitto's first, and below it what more is known.
pub fn dial_text(error: &DialError) -> String {
    let sentence = match library_text(error.library_code()) {
        Some(text) => format!("Unable to connect ({text})."),
        None => format!("Error: {error}"),
    };
    match error {
        // Whole sentences already.
        DialError::TlsFiles(text) => text.clone(),
        DialError::Tls(text) => format!("Error: A TLS error occurred.\n{text}"),
        // Mosquitto's library notices this later than a host that does not answer.
        DialError::Proxy { code, text } => {
            format!("Error: {}\n{text}", library_text(*code).unwrap_or_default())
        }
        DialError::WebSocket(text) => format!("{sentence}\n{text}"),
        DialError::Connect(_) | DialError::Lookup { .. } | DialError::Interrupted => sentence,
    }
}
