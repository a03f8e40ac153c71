//! The URLs of `-L` and `--proxy`, taken apart; what their parts mean for the options is elsewhere.
//!
//! Only user name and password of a proxy know percent signs, and only those for `%`, `:` and `@`; a `-L` is taken as it
//! stands, like in Mosquitto.

use super::Proxy;
use super::number;

/// The default port of SOCKS (RFC 1928).
const SOCKS_PORT: u16 = 1080;

/// The parts of a `-L`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broker<'a> {
    /// `mqtts` and `wss`
    pub tls: bool,
    /// `ws` and `wss`
    pub websocket: bool,
    pub user_name: Option<&'a [u8]>,
    pub password: Option<&'a [u8]>,
    pub host: &'a [u8],
    /// What stands behind the host, if anything does; not yet a port that can be.
    pub port: Option<i32>,
    pub topic: &'a [u8],
}

const SCHEMES: &[(&[u8], bool, bool)] = &[
    (b"mqtt://", false, false),
    (b"mqtts://", true, false),
    (b"ws://", false, true),
    (b"wss://", true, true),
];

/// Takes the value of `-L` apart; the error is a line for standard error.
pub(super) fn broker(url: &[u8]) -> Result<Broker<'_>, &'static str> {
    let scheme = SCHEMES.iter().find(|(scheme, ..)| {
        url.len() >= scheme.len() && url[..scheme.len()].eq_ignore_ascii_case(scheme)
    });
    let Some((scheme, tls, websocket)) = scheme else {
        return Err("Error: Unsupported URL scheme.\n\n");
    };
    let Some((authority, topic)) = split(&url[scheme.len()..], b'/') else {
        return Err("Error: Invalid URL for -L argument specified - topic missing.\n");
    };
    let (login, place) = match split(authority, b'@') {
        Some((login, place)) => (Some(login), place),
        None => (None, authority),
    };
    let (user_name, password) = match login.map(|login| (login, split(login, b':'))) {
        None => (None, None),
        Some((_, Some((user_name, password)))) => (Some(user_name), Some(password)),
        Some((login, None)) => (Some(login), None),
    };
    let (host, port) = host_and_port(place);
    let port = port.map(|port| number::int(&String::from_utf8_lossy(port)));
    Ok(Broker {
        tls: *tls,
        websocket: *websocket,
        user_name,
        password,
        host,
        port,
        topic,
    })
}

/// A host and what follows its colon. The brackets of an IPv6 address, which Mosquitto does not know here, come off.
fn host_and_port(place: &[u8]) -> (&[u8], Option<&[u8]>) {
    if let Some((address, rest)) = place.strip_prefix(b"[").and_then(|rest| split(rest, b']')) {
        return (address, rest.strip_prefix(b":"));
    }
    match split(place, b':') {
        Some((host, port)) => (host, Some(port)),
        None => (place, None),
    }
}

fn split(bytes: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|&byte| byte == separator)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

/// Takes the value of `--proxy` apart; the error is a line for standard error, empty where Mosquitto has none.
pub(super) fn proxy(url: &str) -> Result<Proxy, String> {
    let Some(rest) = url.strip_prefix("socks5h://") else {
        return Err(format!("Error: Unsupported proxy protocol: {url}\n"));
    };
    let (login, place) = match rest.split_once('@') {
        Some((login, place)) => (Some(proxy_login(login)?), place),
        None => (None, rest),
    };
    let (host, port) = proxy_place(place)?;
    let login = match login {
        Some((user_name, password)) => Some((
            decode(user_name).ok_or_else(String::new)?,
            decode(password).ok_or_else(String::new)?,
        )),
        None => None,
    };
    let port = match port {
        None => SOCKS_PORT,
        Some(port) => match number::int(port) {
            port @ 1..=0xFFFF => port as u16,
            port => return Err(format!("Error: Invalid proxy port {port}\n")),
        },
    };
    Ok(Proxy {
        host: host.to_owned(),
        port,
        login,
    })
}

fn proxy_login(login: &str) -> Result<(&str, &str), String> {
    let Some((user_name, password)) = login.split_once(':') else {
        return Ok((login, ""));
    };
    if user_name.is_empty() {
        return Err(String::new());
    }
    if password.contains(':') {
        return Err("Error: Username cannot contain ':'.\n".to_owned());
    }
    Ok((user_name, password))
}

fn proxy_place(place: &str) -> Result<(&str, Option<&str>), String> {
    let invalid = || "Error: Invalid proxy.\n".to_owned();
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or_else(invalid)?;
            match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if rest.is_empty() => (host, None),
                None => return Err(invalid()),
            }
        }
        None => match place.split_once(':') {
            // Silence, where Mosquitto is silent.
            Some((_, port)) if port.contains(':') => return Err(String::new()),
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    if host.is_empty() {
        return Err(invalid());
    }
    Ok((host, port.filter(|port| !port.is_empty())))
}

/// `%25`, `%3A` and `%40` as the characters that they stand for; `None` for any other percent sign.
fn decode(text: &str) -> Option<String> {
    let mut pieces = text.split('%');
    let mut decoded = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let character = match piece.get(..2)? {
            "25" => '%',
            "3A" | "3a" => ':',
            "40" => '@',
            _ => return None,
        };
        decoded.push(character);
        decoded.push_str(&piece[2..]);
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_url_comes_apart() {
        let plain = Broker {
            tls: false,
            websocket: false,
            user_name: None,
            password: None,
            host: b"h",
            port: None,
            topic: b"t",
        };
        for (url, parts) in [
            ("mqtt://h/t", Broker { ..plain }),
            ("MQTT://h/t", Broker { ..plain }),
            ("mqtts://h/t", Broker { tls: true, ..plain }),
            (
                "ws://h/t",
                Broker {
                    websocket: true,
                    ..plain
                },
            ),
            (
                "wss://h:9/t/u",
                Broker {
                    tls: true,
                    websocket: true,
                    port: Some(9),
                    topic: b"t/u",
                    ..plain
                },
            ),
            (
                "mqtt://u@h:x/t",
                Broker {
                    user_name: Some(b"u"),
                    port: Some(0),
                    ..plain
                },
            ),
            (
                "mqtt://u%40:p:q@h/",
                Broker {
                    user_name: Some(b"u%40"),
                    password: Some(b"p:q"),
                    topic: b"",
                    ..plain
                },
            ),
            (
                "mqtt://[::1]:5/t",
                Broker {
                    host: b"::1",
                    port: Some(5),
                    ..plain
                },
            ),
            (
                "mqtt://[::1]/t",
                Broker {
                    host: b"::1",
                    ..plain
                },
            ),
        ] {
            assert_eq!(broker(url.as_bytes()), Ok(parts), "{url}");
        }
        let scheme = "Error: Unsupported URL scheme.\n\n";
        let topic = "Error: Invalid URL for -L argument specified - topic missing.\n";
        for (url, error) in [
            ("", scheme),
            ("h/t", scheme),
            ("http://h/t", scheme),
            ("mqtt:/h/t", scheme),
            ("mqtt://h", topic),
        ] {
            assert_eq!(broker(url.as_bytes()), Err(error), "{url}");
        }
    }

    #[test]
    fn a_proxy_url_comes_apart() {
        let login = |user_name: &str, password: &str| Some((user_name.into(), password.into()));
        for (url, host, port, expected) in [
            ("h", "h", 1080, None),
            ("h:", "h", 1080, None),
            ("h:5", "h", 5, None),
            ("u@h", "h", 1080, login("u", "")),
            ("u:p@h:5", "h", 5, login("u", "p")),
            ("u%3a%3A:%25%40@h", "h", 1080, login("u::", "%@")),
            ("[::1]:5", "::1", 5, None),
            ("u@[::1]", "::1", 1080, login("u", "")),
        ] {
            let proxy = proxy(&format!("socks5h://{url}")).unwrap();
            assert_eq!(
                (&proxy.host[..], proxy.port, proxy.login),
                (host, port, expected)
            );
        }
        for (url, error) in [
            ("http://a", "Error: Unsupported proxy protocol: http://a\n"),
            ("socks5h://", "Error: Invalid proxy.\n"),
            ("socks5h://:5", "Error: Invalid proxy.\n"),
            ("socks5h://h:0", "Error: Invalid proxy port 0\n"),
            ("socks5h://h:65536", "Error: Invalid proxy port 65536\n"),
            ("socks5h://a:b:c@h", "Error: Username cannot contain ':'.\n"),
            ("socks5h://a:b:c", ""),
            ("socks5h://:b@h", ""),
            ("socks5h://a%20@h", ""),
            ("socks5h://a%@h", ""),
        ] {
            assert_eq!(proxy(url).unwrap_err(), error, "{url}");
        }
    }
}
