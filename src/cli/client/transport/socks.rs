//! A SOCKS5 proxy (RFC 1928) that looks names up itself, with or without a user name and password (RFC 1929).

use std::io::ErrorKind;

use super::dial::Patience;
use super::{DialError, Socket};
use crate::cli::client::options::Proxy;

const VERSION: u8 = 5;
const NO_LOGIN: u8 = 0;
const LOGIN: u8 = 2;

/// Return codes of Mosquitto's library.
const INVALID: u8 = 3;
const NOT_CONNECTED: u8 = 4;
const NOT_AUTHORISED: u8 = 11;
const PROXY_ERROR: u8 = 16;

/// Asks the proxy to connect to `host`; what `socket` carries afterwards is between us and the host.
/// # Errors
/// If it does not.
pub fn connect(
    socket: &mut Socket,
    proxy: &Proxy,
    host: &str,
    port: u16,
    patience: Patience<'_>,
) -> Result<(), DialError> {
    let fail = |code: u8, text: &str| DialError::Proxy {
        code,
        text: format!("the proxy {}: {text}", proxy.host),
    };
    let refuse = |text: &str| fail(PROXY_ERROR, text);
    // To hang up is a proxy's way of saying no.
    let read = |socket: &mut Socket, into: &mut [u8]| match patience.read_exact(socket, into) {
        Err(DialError::Connect(error))
            if matches!(
                error.kind(),
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
            ) =>
        {
            Err(refuse("closed the connection"))
        }
        read => read,
    };
    match proxy.login {
        None => patience.write_all(socket, &[VERSION, 1, NO_LOGIN])?,
        // As Mosquitto does: a proxy that wants no login need not be told one.
        Some(_) => patience.write_all(socket, &[VERSION, 2, NO_LOGIN, LOGIN])?,
    }
    let mut answer = [0; 2];
    read(socket, &mut answer)?;
    let login = match (answer, &proxy.login) {
        ([VERSION, NO_LOGIN], _) => None,
        ([VERSION, LOGIN], Some(login)) => Some(login),
        ([VERSION, _], None) => return Err(fail(NOT_AUTHORISED, "wants a user name and password")),
        ([VERSION, _], Some(_)) => {
            return Err(fail(
                NOT_AUTHORISED,
                "does not take a user name and password",
            ));
        }
        _ => return Err(refuse("does not speak SOCKS5")),
    };
    if let Some((user_name, password)) = login {
        let mut login = vec![1];
        for text in [user_name, password] {
            let len = u8::try_from(text.len())
                .map_err(|_| refuse("takes no user name or password above 255 bytes"))?;
            login.push(len);
            login.extend_from_slice(text.as_bytes());
        }
        patience.write_all(socket, &login)?;
        read(socket, &mut answer)?;
        if answer[1] != 0 {
            let (code, _) = reply_meaning(answer[1]);
            return Err(fail(code, "does not accept the user name and password"));
        }
    }
    let mut request = vec![VERSION, 1, 0];
    match host.parse() {
        Ok(std::net::IpAddr::V4(address)) => {
            request.push(1);
            request.extend_from_slice(&address.octets());
        }
        Ok(std::net::IpAddr::V6(address)) => {
            request.push(4);
            request.extend_from_slice(&address.octets());
        }
        Err(_) => {
            let len = u8::try_from(host.len())
                .map_err(|_| refuse("takes no host name above 255 bytes"))?;
            request.extend_from_slice(&[3, len]);
            request.extend_from_slice(host.as_bytes());
        }
    }
    request.extend_from_slice(&port.to_be_bytes());
    patience.write_all(socket, &request)?;
    let mut reply = [0; 4];
    read(socket, &mut reply)?;
    if reply[0] != VERSION {
        return Err(refuse("does not speak SOCKS5"));
    }
    if reply[1] != 0 {
        let (code, text) = reply_meaning(reply[1]);
        return Err(fail(code, text));
    }
    // The address that the proxy connects from: of no use here, but in the way.
    let len = match reply[3] {
        1 => 4,
        4 => 16,
        3 => {
            let mut len = [0];
            read(socket, &mut len)?;
            usize::from(len[0])
        }
        _ => return Err(refuse("answers with an address of no known kind")),
    };
    read(socket, &mut vec![0; len + 2])
}

/// What a reply means (RFC 1928, 6): the return code that Mosquitto's library has for it, and a sentence.
fn reply_meaning(reply: u8) -> (u8, &'static str) {
    match reply {
        1 => (PROXY_ERROR, "general failure"),
        2 => (NOT_AUTHORISED, "its rules do not allow the connection"),
        3 => (NOT_CONNECTED, "the network cannot be reached"),
        4 => (NOT_CONNECTED, "the host cannot be reached"),
        5 => (NOT_CONNECTED, "the host refused the connection"),
        6 => (PROXY_ERROR, "the connection took too long"),
        7 => (PROXY_ERROR, "it knows no command CONNECT"),
        8 => (PROXY_ERROR, "it knows no such kind of address"),
        _ => (INVALID, "an error that has no name"),
    }
}
