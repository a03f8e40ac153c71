//! The servers of a domain: DNS SRV records (RFC 2782), asked of the system's name servers.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, RCODE, TYPE};

use super::DialError;
use super::dial::Patience;

/// Where the system keeps its name servers.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// How long one server may take for one answer.
const ANSWER_TIME: Duration = Duration::from_secs(3);

/// How often each server is asked.
const ROUNDS: usize = 2;

/// A UDP answer is no longer than this, since we do not offer more (RFC 1035, 4.2.1); some servers send more.
const ANSWER_BYTES_MAX: usize = 4096;

/// The servers of `domain`, the preferred ones first.
/// # Errors
/// If no name server says any.
pub fn servers(
    domain: &str,
    with_tls: bool,
    patience: Patience<'_>,
) -> Result<Vec<(String, u16)>, DialError> {
    let text = fs::read_to_string(RESOLV_CONF).unwrap_or_default();
    let servers = name_servers(&text);
    let service = match with_tls {
        true => format!("_secure-mqtt._tcp.{domain}"),
        false => format!("_mqtt._tcp.{domain}"),
    };
    ask_all(&service, &servers, patience)
}

/// The name servers that resolv.conf(5) names; this machine if it names none.
fn name_servers(text: &str) -> Vec<SocketAddr> {
    let mut servers: Vec<SocketAddr> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|rest| rest.trim().parse::<IpAddr>().ok())
        .map(|address| SocketAddr::new(address, 53))
        .collect();
    if servers.is_empty() {
        servers.push(SocketAddr::from(([127, 0, 0, 1], 53)));
    }
    servers
}

fn ask_all(
    service: &str,
    servers: &[SocketAddr],
    patience: Patience<'_>,
) -> Result<Vec<(String, u16)>, DialError> {
    let mut reason = "no name server answers".to_owned();
    for server in servers.iter().cycle().take(servers.len() * ROUNDS) {
        match ask(service, *server, patience) {
            Ok(found) => return Ok(found),
            Err(Failure::Interrupted) => return Err(DialError::Interrupted),
            Err(Failure::Final(text)) => {
                reason = text;
                break;
            }
            Err(Failure::Other(text)) => reason = text,
        }
        if Instant::now() >= patience.deadline {
            break;
        }
    }
    Err(DialError::Lookup {
        name: service.to_owned(),
        reason,
    })
}

enum Failure {
    Interrupted,
    /// Another server would say the same.
    Final(String),
    Other(String),
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::Other(error.to_string())
    }
}

fn ask(
    service: &str,
    server: SocketAddr,
    patience: Patience<'_>,
) -> Result<Vec<(String, u16)>, Failure> {
    let mut id = [0; 2];
    aws_lc_rs::rand::fill(&mut id).map_err(|_| Failure::Other("no random bytes".to_owned()))?;
    let id = u16::from_be_bytes(id);
    let query = query(id, service)?;
    let local: SocketAddr = match server.is_ipv4() {
        true => ([0, 0, 0, 0], 0).into(),
        false => ([0_u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(local)?;
    // Answers of anybody else do not arrive.
    socket.connect(server)?;
    socket.send(&query)?;
    let patience = Patience {
        deadline: patience.deadline.min(Instant::now() + ANSWER_TIME),
        ..patience
    };
    let mut answer = vec![0; ANSWER_BYTES_MAX];
    loop {
        match patience.wait(&socket, PollFlags::IN) {
            Ok(()) => {}
            Err(DialError::Interrupted) => return Err(Failure::Interrupted),
            Err(_) => {
                return Err(Failure::Other(format!(
                    "the name server {server} is silent"
                )));
            }
        }
        let len = socket.recv(&mut answer)?;
        match read(&answer[..len], id, service) {
            Answer::Truncated => break,
            Answer::Servers(servers) => return Ok(servers),
            Answer::Failed(failure) => return Err(failure),
            // Not an answer to this question: the answer may still come.
            Answer::NotOurs => {}
        }
    }
    let answer = ask_by_tcp(&query, server)?;
    match read(&answer, id, service) {
        Answer::Servers(servers) => Ok(servers),
        Answer::Failed(failure) => Err(failure),
        _ => Err(Failure::Other(format!(
            "the name server {server} answers nonsense"
        ))),
    }
}

fn query(id: u16, service: &str) -> Result<Vec<u8>, Failure> {
    let invalid = |_| Failure::Final("not a domain name".to_owned());
    let name = Name::new(service).map_err(invalid)?;
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(
        name,
        TYPE::SRV.into(),
        CLASS::IN.into(),
        false,
    ));
    packet.build_bytes_vec().map_err(invalid)
}

/// The same by TCP, where an answer has no limit but 64 KiB (RFC 1035, 4.2.2).
fn ask_by_tcp(query: &[u8], server: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, ANSWER_TIME)?;
    stream.set_read_timeout(Some(ANSWER_TIME))?;
    let len = u16::try_from(query.len()).map_err(|_| std::io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&len.to_be_bytes(), query].concat())?;
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut answer = vec![0; u16::from_be_bytes(len).into()];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

enum Answer {
    Servers(Vec<(String, u16)>),
    Truncated,
    NotOurs,
    Failed(Failure),
}

fn read(bytes: &[u8], id: u16, service: &str) -> Answer {
    let Ok(packet) = Packet::parse(bytes) else {
        return Answer::NotOurs;
    };
    let asked = |question: &Question<'_>| {
        let name = question.qname.to_string();
        name.trim_end_matches('.')
            .eq_ignore_ascii_case(service.trim_end_matches('.'))
    };
    if packet.id() != id
        || !packet.has_flags(PacketFlag::RESPONSE)
        || !packet.questions.iter().all(asked)
    {
        return Answer::NotOurs;
    }
    if packet.has_flags(PacketFlag::TRUNCATION) {
        return Answer::Truncated;
    }
    match packet.rcode() {
        RCODE::NoError => {}
        RCODE::NameError => {
            return Answer::Failed(Failure::Final("there is no such name".to_owned()));
        }
        other => {
            return Answer::Failed(Failure::Other(format!("the name server says {other:?}")));
        }
    }
    let mut found: Vec<_> = packet
        .answers
        .iter()
        .filter_map(|record| match &record.rdata {
            RData::SRV(srv) => {
                // A single dot says that there is no such service.
                let target = srv.target.to_string();
                let target = target.trim_end_matches('.').to_owned();
                (!target.is_empty()).then_some((srv.priority, srv.weight, target, srv.port))
            }
            _ => None,
        })
        .collect();
    if found.is_empty() {
        return Answer::Failed(Failure::Final("the domain names no servers".to_owned()));
    }
    // One client makes no load to be shared out by chance: the heaviest first.
    found.sort_by_key(|(priority, weight, ..)| (*priority, std::cmp::Reverse(*weight)));
    Answer::Servers(
        found
            .into_iter()
            .map(|(_, _, target, port)| (target, port))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::SRV;

    fn patience() -> Patience<'static> {
        Patience {
            deadline: Instant::now() + Duration::from_secs(10),
            interrupt: None,
        }
    }

    fn answer<'a>(query: &Packet<'a>, records: &[(u16, u16, u16, &'a str)]) -> Vec<u8> {
        let mut packet = Packet::new_reply(query.id());
        packet.questions.clone_from(&query.questions);
        for &(priority, weight, port, target) in records {
            let rdata = RData::SRV(SRV {
                priority,
                weight,
                port,
                target: Name::new(target).expect("a name"),
            });
            let name = query.questions[0].qname.clone();
            packet
                .answers
                .push(ResourceRecord::new(name, CLASS::IN, 60, rdata));
        }
        packet.build_bytes_vec().expect("it fits")
    }

    #[test]
    fn name_servers_of_the_system() {
        let text =
            "# nameserver 1.1.1.1\nnameserver 9.9.9.9\noptions x\nnameserver ::1\nnameserver x\n";
        let found: Vec<_> = name_servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["9.9.9.9:53", "[::1]:53"]);
        assert_eq!(name_servers(""), [SocketAddr::from(([127, 0, 0, 1], 53))]);
    }

    #[test]
    fn the_preferred_server_is_first() {
        let server = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let address = server.local_addr().expect("bound");
        let thread = std::thread::spawn(move || {
            let mut bytes = [0; 512];
            let (len, peer) = server.recv_from(&mut bytes).expect("a query");
            let query = Packet::parse(&bytes[..len]).expect("well-formed");
            assert_eq!(
                query.questions[0].qname.to_string(),
                "_mqtt._tcp.example.com"
            );
            // What is no answer is passed over: garbage, another question's.
            server.send_to(b"garbage", peer).expect("sent");
            let mut other = answer(&query, &[(1, 1, 1, "wrong.example.com")]);
            other[0] ^= 1;
            server.send_to(&other, peer).expect("sent");
            let records = [
                (2, 9, 3, "c.example.com"),
                (1, 1, 2, "b.example.com"),
                (1, 5, 1, "a.example.com"),
            ];
            server
                .send_to(&answer(&query, &records), peer)
                .expect("sent");
        });
        let found = ask_all("_mqtt._tcp.example.com", &[address], patience()).expect("found");
        let expected = [("a", 1), ("b", 2), ("c", 3)];
        let expected = expected.map(|(name, port)| (format!("{name}.example.com"), port));
        assert_eq!(found, expected);
        thread.join().expect("the server is content");
    }

    #[test]
    fn a_service_that_is_not_there() {
        let server = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let address = server.local_addr().expect("bound");
        let thread = std::thread::spawn(move || {
            let mut bytes = [0; 512];
            let (len, peer) = server.recv_from(&mut bytes).expect("a query");
            let query = Packet::parse(&bytes[..len]).expect("well-formed");
            server.send_to(&answer(&query, &[]), peer).expect("sent");
        });
        let error = ask_all("_mqtt._tcp.example.com", &[address], patience()).expect_err("none");
        assert_eq!(
            error.to_string(),
            "_mqtt._tcp.example.com: the domain names no servers"
        );
        thread.join().expect("the server is content");
    }
}
