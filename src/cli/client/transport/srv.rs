//! The servers of a domain: DNS SRV records (RFC 2782), asked of the system's name servers.

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, RCODE, TYPE};

use super::dial::{Patience, connect_to};
use super::{DialError, Socket};

/// Where the system keeps its name servers.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// How long one server may take for one answer.
const ANSWER_TIME: Duration = Duration::from_secs(3);

/// How often each server is asked.
const ROUNDS: usize = 2;

/// How many servers are asked, as the system's own look-ups do.
const NAME_SERVERS_MAX: usize = 3;

/// How many servers of a domain are tried.
const SERVERS_MAX: usize = 16;

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
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => words.next()?.parse::<IpAddr>().ok(),
                _ => None,
            }
        })
        .map(|address| SocketAddr::new(address, 53))
        .take(NAME_SERVERS_MAX)
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
    socket.set_nonblocking(true)?;
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
        let len = match socket.recv(&mut answer) {
            // What came was damaged.
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            received => received?,
        };
        match read(&answer[..len], id, service) {
            Answer::Truncated => break,
            Answer::Servers(servers) => return Ok(servers),
            Answer::Failed(failure) => return Err(failure),
            // Not an answer to this question: the answer may still come.
            Answer::NotOurs => {}
        }
    }
    let answer = match ask_by_tcp(&query, server, patience) {
        Ok(answer) => answer,
        Err(DialError::Interrupted) => return Err(Failure::Interrupted),
        Err(error) => return Err(Failure::Other(format!("the name server {server}: {error}"))),
    };
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
fn ask_by_tcp(
    query: &[u8],
    server: SocketAddr,
    patience: Patience<'_>,
) -> Result<Vec<u8>, DialError> {
    let mut socket = Socket::Tcp(connect_to(server, &[], true, patience)?);
    let len = u16::try_from(query.len()).expect("a question with one name is short");
    patience.write_all(&mut socket, &[&len.to_be_bytes(), query].concat())?;
    let mut len = [0; 2];
    patience.read_exact(&mut socket, &mut len)?;
    let mut answer = vec![0; u16::from_be_bytes(len).into()];
    patience.read_exact(&mut socket, &mut answer)?;
    Ok(answer)
}

/// One SRV record.
struct Record {
    priority: u16,
    weight: u16,
    target: String,
    port: u16,
}

enum Answer {
    Servers(Vec<(String, u16)>),
    Truncated,
    NotOurs,
    Failed(Failure),
}

/// The servers that an answer names; `None` where it is another, or names none.
pub(super) fn servers_in(bytes: &[u8], id: u16, service: &str) -> Option<Vec<(String, u16)>> {
    match read(bytes, id, service) {
        Answer::Servers(servers) => Some(servers),
        Answer::Truncated | Answer::NotOurs | Answer::Failed(_) => None,
    }
}

fn read(bytes: &[u8], id: u16, service: &str) -> Answer {
    // Before it is taken apart: it may end within a record. All that follows is that this server is asked again.
    let is_truncated = bytes.get(2).is_some_and(|flags| flags & 0x82 == 0x82);
    if is_truncated && bytes.starts_with(&id.to_be_bytes()) {
        return Answer::Truncated;
    }
    let Ok(packet) = Packet::parse(bytes) else {
        return Answer::NotOurs;
    };
    let asked = |question: &Question<'_>| {
        let name = question.qname.to_string();
        question.qtype == TYPE::SRV.into()
            && name
                .trim_end_matches('.')
                .eq_ignore_ascii_case(service.trim_end_matches('.'))
    };
    let is_ours = match &packet.questions[..] {
        [question] => asked(question),
        // Some name servers do not repeat a question that they do not answer.
        [] => packet.rcode() != RCODE::NoError,
        _ => false,
    };
    if packet.id() != id || !packet.has_flags(PacketFlag::RESPONSE) || !is_ours {
        return Answer::NotOurs;
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
    let found: Vec<Record> = packet
        .answers
        .iter()
        .filter_map(|record| match &record.rdata {
            RData::SRV(srv) => {
                // A single dot says that there is no such service.
                let target = srv.target.to_string();
                let target = target.trim_end_matches('.').to_owned();
                (!target.is_empty()).then_some(Record {
                    priority: srv.priority,
                    weight: srv.weight,
                    target,
                    port: srv.port,
                })
            }
            _ => None,
        })
        .collect();
    if found.is_empty() {
        return Answer::Failed(Failure::Final("the domain names no servers".to_owned()));
    }
    Answer::Servers(ordered(found, random))
}

/// By priority; among equals by chance, where weight counts (RFC 2782): many tools share a load among them.
fn ordered(mut records: Vec<Record>, mut random: impl FnMut() -> u32) -> Vec<(String, u16)> {
    // Of those without a weight, one has a chance only if it comes first.
    records.sort_by_key(|record| (record.priority, record.weight));
    let mut servers = Vec::new();
    while servers.len() < SERVERS_MAX && !records.is_empty() {
        let equals = records.partition_point(|record| record.priority == records[0].priority);
        let total: u64 = (records[..equals].iter())
            .map(|record| u64::from(record.weight))
            .sum();
        let mut chance = u64::from(random()) % (total + 1);
        let chosen = records[..equals].iter().position(|record| {
            let weight = u64::from(record.weight);
            let is_chosen = chance <= weight;
            chance = chance.saturating_sub(weight);
            is_chosen
        });
        let record = records.remove(chosen.expect("chance is no more than all weights together"));
        servers.push((record.target, record.port));
    }
    servers
}

fn random() -> u32 {
    let mut bytes = [0; 4];
    // Without random bytes any order is as good.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    u32::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::SRV;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread::{self, JoinHandle};

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
        for (text, expected) in [
            (
                "# nameserver 1.1.1.1\nnameserver 9.9.9.9\noptions x\nnameserver ::1\nnameserver x\n",
                &["9.9.9.9:53", "[::1]:53"][..],
            ),
            (
                "nameserver\t9.9.9.9 # fast\nnameserver9.9.9.8\nnameserver",
                &["9.9.9.9:53"],
            ),
            (
                "nameserver 1.0.0.1\nnameserver 1.0.0.2\nnameserver 1.0.0.3\nnameserver 1.0.0.4",
                &["1.0.0.1:53", "1.0.0.2:53", "1.0.0.3:53"],
            ),
            ("", &["127.0.0.1:53"]),
        ] {
            let found: Vec<_> = name_servers(text).iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn priority_then_chance_by_weight() {
        let records = || {
            let record = |(priority, weight, port)| Record {
                priority,
                weight,
                target: "host".to_owned(),
                port,
            };
            let all = [(20, 0, 5), (10, 60, 3), (10, 0, 1), (20, 0, 4), (10, 20, 2)];
            all.map(record).into_iter().collect::<Vec<_>>()
        };
        let ports = |chances: &[u32]| -> Vec<u16> {
            let mut chances = chances.iter().copied();
            let random = || chances.next().expect("one for each server");
            ordered(records(), random)
                .into_iter()
                .map(|(_, port)| port)
                .collect()
        };
        // 0 is for what has no weight, 1 to 20 and 21 to 80 for the others; what is left has its own sum.
        assert_eq!(ports(&[0, 1, 1, 0, 0]), [1, 2, 3, 5, 4]);
        assert_eq!(ports(&[1, 60, 0, 0, 0]), [2, 3, 1, 5, 4]);
        assert_eq!(ports(&[21, 20, 0, 0, 0]), [3, 2, 1, 5, 4]);
        assert_eq!(ports(&[80, 0, 0, 0, 0]), [3, 1, 2, 5, 4]);
        // As often first as its weight says, roughly.
        let first = |port| {
            (0..8100)
                .filter(|&chance| ports(&[chance, 1, 1, 0, 0])[0] == port)
                .count()
        };
        assert_eq!([first(1), first(2), first(3)], [100, 2000, 6000]);
        let many = (0..100).map(|port| Record {
            priority: 0,
            weight: 0,
            target: String::new(),
            port,
        });
        assert_eq!(ordered(many.collect(), || 7).len(), SERVERS_MAX);
    }

    /// A name server that answers each query by UDP with what `reply` makes of it, and then each by TCP likewise.
    fn name_server(
        udp: impl FnOnce(&Packet<'_>) -> Vec<Vec<u8>> + Send + 'static,
        tcp: Option<fn(&Packet<'_>) -> Vec<u8>>,
    ) -> (SocketAddr, JoinHandle<()>) {
        // The same port for both.
        let (server, listener) = loop {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            if let Ok(server) = UdpSocket::bind(listener.local_addr().expect("bound")) {
                break (server, listener);
            }
        };
        let address = server.local_addr().expect("bound");
        let thread = thread::spawn(move || {
            let mut bytes = [0; 512];
            let (len, peer) = server.recv_from(&mut bytes).expect("a query");
            for reply in udp(&Packet::parse(&bytes[..len]).expect("well-formed")) {
                server.send_to(&reply, peer).expect("sent");
            }
            let Some(tcp) = tcp else { return };
            let (mut stream, _) = listener.accept().expect("a query");
            let mut len = [0; 2];
            stream.read_exact(&mut len).expect("a length");
            let mut query = vec![0; u16::from_be_bytes(len).into()];
            stream.read_exact(&mut query).expect("a query");
            let reply = tcp(&Packet::parse(&query).expect("well-formed"));
            for byte in reply {
                stream.write_all(&[byte]).expect("it takes");
            }
        });
        (address, thread)
    }

    const SERVICE: &str = "_mqtt._tcp.example.com";

    fn hosts(names: &[(&str, u16)]) -> Vec<(String, u16)> {
        let host = |&(name, port): &(&str, u16)| (format!("{name}.example.com"), port);
        names.iter().map(host).collect()
    }

    #[test]
    fn only_answers_to_the_question_count() {
        let (address, thread) = name_server(
            |query| {
                let good = answer(
                    query,
                    &[(10, 5, 1, "A.example.com"), (20, 9, 2, "b.example.com")],
                );
                let forged = answer(query, &[(0, 0, 666, "evil.example.com")]);
                let mut of_other_id = forged.clone();
                of_other_id[1] ^= 1;
                let mut not_an_answer = forged.clone();
                not_an_answer[2] &= 0x7F;
                let other = |name: &str, kind: TYPE| {
                    let mut query = query.clone();
                    let name = Name::new(name).expect("a name").into_owned();
                    query.questions =
                        vec![Question::new(name, kind.into(), CLASS::IN.into(), false)];
                    answer(&query, &[(0, 0, 666, "evil.example.com")])
                };
                let mut of_no_question = forged[..12].to_vec();
                of_no_question[5] = 0;
                of_no_question[7] = 0;
                vec![
                    Vec::new(),
                    vec![0xFF; 3],
                    vec![0; 12],
                    forged[..forged.len() - 3].to_vec(),
                    of_other_id,
                    not_an_answer,
                    other("_mqtt._tcp.example.org", TYPE::SRV),
                    other(SERVICE, TYPE::A),
                    of_no_question,
                    good,
                ]
            },
            None,
        );
        let found = ask_all(SERVICE, &[address], patience()).expect("found");
        assert_eq!(
            found,
            [
                ("A.example.com".to_owned(), 1),
                ("b.example.com".to_owned(), 2)
            ]
        );
        thread.join().expect("the server is content");
    }

    #[test]
    fn what_is_too_long_comes_by_tcp() {
        for (cut, tcp, expected) in [
            (
                false,
                (|query: &Packet<'_>| {
                    let reply = answer(query, &[(1, 0, 1883, "a.example.com")]);
                    [&(reply.len() as u16).to_be_bytes()[..], &reply].concat()
                }) as fn(&Packet<'_>) -> Vec<u8>,
                Ok(hosts(&[("a", 1883)])),
            ),
            (
                true,
                |query| {
                    let reply = answer(query, &[(1, 0, 1883, "a.example.com")]);
                    [&(reply.len() as u16).to_be_bytes()[..], &reply].concat()
                },
                Ok(hosts(&[("a", 1883)])),
            ),
            (false, |_| vec![0, 4, 1, 2, 3, 4], Err("answers nonsense")),
            (
                false,
                |_| vec![0xFF, 0xFF, 1, 2],
                Err("unexpected end of file"),
            ),
            (false, |_| Vec::new(), Err("unexpected end of file")),
        ] {
            let (address, thread) = name_server(
                move |query| {
                    let mut reply = answer(query, &[(1, 0, 9, "b.example.com")]);
                    reply[2] |= 2;
                    reply.truncate(reply.len() - if cut { 4 } else { 0 });
                    vec![reply]
                },
                Some(tcp),
            );
            let found = ask(SERVICE, address, patience());
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(Failure::Other(text)), Err(expected)) => {
                    assert!(text.contains(expected), "{text}");
                }
                _ => panic!("cut {cut}"),
            }
            thread.join().expect("the server is content");
        }
    }

    #[test]
    fn a_service_that_is_not_there() {
        for (rcode, target, expected) in [
            (RCODE::NoError, None, "the domain names no servers"),
            (RCODE::NoError, Some("."), "the domain names no servers"),
            (RCODE::NameError, None, "there is no such name"),
        ] {
            let (address, thread) = name_server(
                move |query| {
                    let records: Vec<_> = target.map(|name| (0, 0, 0, name)).into_iter().collect();
                    let mut reply = answer(query, &records);
                    reply[3] |= rcode as u8;
                    vec![reply]
                },
                None,
            );
            // What one name server says for certain, no other is asked.
            let silent = UdpSocket::bind("127.0.0.1:0").expect("a port");
            let servers = [address, silent.local_addr().expect("bound")];
            let error = ask_all(SERVICE, &servers, patience()).expect_err("none");
            assert_eq!(error.to_string(), format!("{SERVICE}: {expected}"));
            thread.join().expect("the server is content");
        }
        let error = ask_all("_mqtt._tcp.exam..ple", &[], patience()).expect_err("no servers");
        assert_eq!(error.library_code(), 15);
    }

    #[test]
    fn a_name_server_that_fails_is_not_the_last() {
        let (failing, first) = name_server(
            |query| {
                let mut reply = answer(query, &[])[..12].to_vec();
                // Without its question, as servers do that did not understand it.
                reply[3] |= RCODE::ServerFailure as u8;
                reply[5] = 0;
                vec![reply]
            },
            None,
        );
        let closed = UdpSocket::bind("127.0.0.1:0")
            .expect("a port")
            .local_addr()
            .expect("bound");
        let (working, second) = name_server(
            |query| vec![answer(query, &[(1, 0, 1, "a.example.com")])],
            None,
        );
        let found = ask_all(SERVICE, &[failing, closed, working], patience()).expect("found");
        assert_eq!(found, hosts(&[("a", 1)]));
        first.join().expect("the server is content");
        second.join().expect("the server is content");
    }

    #[test]
    fn a_name_server_that_never_stops_is_given_up() {
        let server = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let address = server.local_addr().expect("bound");
        let thread = thread::spawn(move || {
            let (_, peer) = server.recv_from(&mut [0; 512]).expect("a query");
            server.connect(peer).expect("there");
            let end = Instant::now() + Duration::from_secs(20);
            while server.send(&[0; 30]).is_ok() && Instant::now() < end {}
        });
        let patience = Patience {
            deadline: Instant::now() + Duration::from_millis(100),
            interrupt: None,
        };
        let start = Instant::now();
        let error = ask_all(SERVICE, &[address], patience).expect_err("nonsense only");
        assert!(error.to_string().ends_with("is silent"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(10));
        thread.join().expect("the server is content");
    }
}
