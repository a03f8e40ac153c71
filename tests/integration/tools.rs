//! `pub`, `sub` and `rr`: the real program, against a server that is only a socket, and against the broker.
//!
//! What they print, byte for byte, and their exit codes are held against Debian's tools by tests/clients/tools_compare.py;
//! here is what no command line shows: lost connections, windows, memory, signals, pipes.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::*;

/// A server that is only a socket.
struct Server(TcpListener);

impl Server {
    fn new() -> Server {
        Server(TcpListener::bind("127.0.0.1:0").expect("a free port"))
    }

    fn port(&self) -> u16 {
        self.0.local_addr().expect("bound").port()
    }

    /// The next connection; its CONNECT is not read.
    fn accept(&self, version: Version) -> Raw {
        Raw::over(self.0.accept().expect("a connection").0, version)
    }

    /// The next connection, let in.
    fn let_in(&self, version: Version) -> Raw {
        let mut client = self.accept(version);
        assert_eq!(client.expect_packet()[0], 0x10, "a CONNECT");
        client.send(connack(version));
        client
    }
}

fn connack(version: Version) -> Vec<u8> {
    match version {
        Version::V5 => vec![0x20, 3, 0, 0, 0],
        _ => vec![0x20, 2, 0, 0],
    }
}

/// A tool that runs; it is killed with the test.
struct Tool(Option<Child>);

impl Tool {
    fn start(tool: &str, port: u16, arguments: &[&str]) -> Tool {
        let child = Command::new(program())
            .args([tool, "-h", "127.0.0.1", "-p", &port.to_string()])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program under test");
        Tool(Some(child))
    }

    fn child(&mut self) -> &mut Child {
        self.0.as_mut().expect("it was not waited for")
    }

    fn stdin(&mut self) -> ChildStdin {
        self.child().stdin.take().expect("piped, and taken once")
    }

    fn stdout(&mut self) -> ChildStdout {
        self.child().stdout.take().expect("piped, and taken once")
    }

    fn signal(&mut self, signal: Signal) {
        let pid = Pid::from_child(self.child());
        kill_process(pid, signal).expect("our child");
    }

    fn memory_kib(&mut self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child().id()));
        let status = status.expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.expect("a number").parse().expect("a number")
    }

    /// Waits for its end.
    #[track_caller]
    fn end(mut self) -> Output {
        let start = Instant::now();
        while self.child().try_wait().expect("our child").is_none() {
            assert!(start.elapsed() < DEADLINE, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        let child = self.0.take().expect("not yet taken");
        child.wait_with_output().expect("our child")
    }

    /// Waits for its end, which has to be `code`, without a complaint.
    #[track_caller]
    fn ends(self, code: i32) -> String {
        let output = self.end();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), stderr.as_str()), (Some(code), ""));
        String::from_utf8(output.stdout).expect("text")
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn payload(number: usize) -> Vec<u8> {
    format!("line {number}").into_bytes()
}

/// [MQTT-4.4.0-1] Lines of standard input at QoS 1: what was not acknowledged comes again on the next connection, and
/// nothing is lost.
#[test]
fn mqtt_4_4_0_1_lines_survive_a_lost_connection() {
    for (version, name) in [(Version::V311, "311"), (Version::V5, "5")] {
        let server = Server::new();
        let mut tool = Tool::start(
            "pub",
            server.port(),
            &["-t", "a", "-l", "-q", "1", "-M", "3", "-V", name],
        );
        let mut stdin = tool.stdin();
        for number in 1..=5 {
            stdin.write_all(&payload(number)).expect("it reads");
            stdin.write_all(b"\n").expect("it reads");
        }
        drop(stdin);
        let message = |number: u16| {
            publish("a", payload(number.into()))
                .qos(1)
                .packet_id(number)
        };
        let mut first = server.let_in(version);
        for number in 1..=3 {
            first.expect(message(number));
        }
        first.send(puback(1));
        first.expect(message(4));
        drop(first);
        let mut second = server.let_in(version);
        for number in 2..=4 {
            second.expect(message(number).dup());
        }
        second.send(puback(2));
        second.expect(message(5));
        for number in 3..=5 {
            second.send(puback(number));
        }
        second.expect(disconnect());
        drop(second);
        tool.ends(0);
    }
}

/// [MQTT-4.3.3-7] At QoS 2, an exchange that was cut off behind PUBREC goes on with PUBREL.
#[test]
fn mqtt_4_3_3_7_lines_at_qos_2_go_on_where_they_were() {
    let server = Server::new();
    let mut tool = Tool::start("pub", server.port(), &["-t", "a", "-l", "-q", "2"]);
    tool.stdin()
        .write_all(b"line 1\nline 2\n")
        .expect("it reads");
    let message = |number: u16| {
        publish("a", payload(number.into()))
            .qos(2)
            .packet_id(number)
    };
    let mut first = server.let_in(Version::V311);
    first.expect(message(1));
    first.expect(message(2));
    first.send(pubrec(1));
    first.expect(pubrel(1));
    drop(first);
    let mut second = server.let_in(Version::V311);
    second.expect(pubrel(1));
    second.expect(message(2).dup());
    second.send(pubcomp(1));
    second.send(pubrec(2));
    second.expect(pubrel(2));
    second.send(pubcomp(2));
    second.expect(disconnect());
    drop(second);
    tool.ends(0);
}

/// A server that takes nothing, or acknowledges nothing: standard input waits, memory does not grow.
#[test]
fn lines_wait_outside() {
    for (qos, reads) in [("0", false), ("1", true)] {
        let server = Server::new();
        let mut tool = Tool::start("pub", server.port(), &["-t", "a", "-l", "-q", qos]);
        let mut client = server.let_in(Version::V311);
        let mut stdin = tool.stdin();
        rustix::io::ioctl_fionbio(&stdin, true).expect("a pipe");
        let line = [b'x'; 1000];
        let mut written = 0;
        let mut idle = 0;
        // Until nobody takes anything for a while; the sockets' own buffers take some megabytes.
        while idle < 60 {
            match stdin.write(&line).and_then(|_| stdin.write(b"\n")) {
                Ok(_) => (written, idle) = (written + line.len(), 0),
                Err(_) => {
                    idle += 1;
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            assert!(written < 256 << 20, "it takes everything");
        }
        let memory = tool.memory_kib();
        assert!(
            memory < 32 * 1024,
            "{memory} KiB after {written} bytes at QoS {qos}"
        );
        if reads {
            client.expect_publish();
        }
    }
}

/// Messages by the thousand, through the broker, at each QoS: all of them, in their order, in a single pipe.
#[test]
fn lines_by_the_thousand() {
    const LINES: usize = 20_000;
    let broker = Broker::start(&["log_type none", "max_queued_messages 0"]);
    let port = broker.address().port();
    for qos in ["0", "1", "2"] {
        let count = LINES.to_string();
        let mut sub = Tool::start("sub", port, &["-t", "n", "-q", qos, "-C", &count, "-d"]);
        let mut shown = BufReader::new(sub.stdout());
        let mut line = String::new();
        while !line.contains("received SUBACK") {
            line.clear();
            let len = shown.read_line(&mut line).expect("it writes");
            assert!(len > 0, "ended before SUBACK");
        }
        let mut publisher = Tool::start("pub", port, &["-t", "n", "-l", "-q", qos]);
        let mut stdin = publisher.stdin();
        let all: String = (0..LINES).map(|number| format!("{number}\n")).collect();
        stdin.write_all(all.as_bytes()).expect("it reads");
        drop(stdin);
        let mut next = 0;
        while next < LINES {
            line.clear();
            let len = shown.read_line(&mut line).expect("it writes");
            assert!(len > 0, "ended behind {next} lines at QoS {qos}");
            if line.trim_end() == next.to_string() {
                next += 1;
            } else {
                assert!(
                    line.starts_with("Client ") || line.starts_with("Subscribed"),
                    "{line}"
                );
            }
        }
        let mut rest = String::new();
        shown.read_to_string(&mut rest).expect("its end");
        publisher.ends(0);
        sub.ends(0);
    }
}

/// A large file, both ways.
#[test]
fn a_large_payload() {
    let broker = Broker::start(&["max_packet_size 30000000"]);
    let port = broker.address().port();
    let file = broker.dir().join("large");
    let content: Vec<u8> = (0..20_000_000_u32)
        .map(|n| (n.wrapping_mul(n) >> 7) as u8)
        .collect();
    fs::write(&file, &content).expect("the directory is ours");
    let mut sub = Tool::start("sub", port, &["-t", "a", "-q", "2", "-C", "1", "-N"]);
    broker.wait_for_log("Sending SUBACK to");
    let path = file.to_str().expect("text");
    Tool::start("pub", port, &["-t", "a", "-q", "2", "-f", path]).ends(0);
    let mut shown = Vec::new();
    sub.stdout().read_to_end(&mut shown).expect("it writes");
    assert!(shown == content, "{} bytes", shown.len());
    sub.ends(0);
}

/// The user's signals: DISCONNECT with the will, exit code 0; before CONNACK there is nothing to say good-bye to.
#[test]
fn signals() {
    for signal in [Signal::INT, Signal::TERM] {
        let server = Server::new();
        let mut tool = Tool::start("sub", server.port(), &["-t", "a", "-V", "5"]);
        let mut client = server.let_in(Version::V5);
        client.expect(subscribe(1).filter("a", 0));
        tool.signal(signal);
        client.expect(disconnect().reason(4));
        drop(client);
        tool.ends(0);

        let mut tool = Tool::start("sub", server.port(), &["-t", "a"]);
        let mut client = server.accept(Version::V311);
        client.expect_packet();
        tool.signal(signal);
        tool.ends(255);
    }
}

/// A signal also ends a tool whose output nobody takes, and one that waits to connect again.
#[test]
fn signals_while_it_waits_for_others() {
    let server = Server::new();
    let mut tool = Tool::start("sub", server.port(), &["-t", "a"]);
    let mut client = server.let_in(Version::V311);
    client.expect_packet();
    client.send(suback(1, &[0]));
    let message = publish("a", vec![b'x'; 100_000]);
    for _ in 0..10 {
        client.send(&message);
    }
    // Its pipe holds less than that: it comes to stand still in a write.
    std::thread::sleep(Duration::from_millis(200));
    tool.signal(Signal::INT);
    client.expect(disconnect());
    drop(client);
    let start = Instant::now();
    while tool.child().try_wait().expect("our child").is_none() {
        assert!(start.elapsed() < DEADLINE, "it does not end");
        std::thread::sleep(Duration::from_millis(5));
    }

    let mut tool = Tool::start("sub", server.port(), &["-t", "a"]);
    let client = server.let_in(Version::V311);
    drop(client);
    drop(server);
    std::thread::sleep(Duration::from_millis(100));
    tool.signal(Signal::TERM);
    tool.ends(0);
}

/// A reader that has gone: `sub | head -1` ends, with DISCONNECT.
#[test]
fn a_closed_pipe() {
    let server = Server::new();
    let mut tool = Tool::start("sub", server.port(), &["-t", "a"]);
    let mut client = server.let_in(Version::V311);
    client.expect_packet();
    client.send(suback(1, &[0]));
    drop(tool.stdout());
    client.send(publish("a", "x"));
    client.expect(disconnect());
    drop(client);
    tool.ends(0);
}

/// `sub` connects again after a loss, and subscribes again; the time-out of -W goes on.
#[test]
fn sub_connects_again() {
    let server = Server::new();
    let tool = Tool::start("sub", server.port(), &["-t", "a", "-C", "2"]);
    for number in 1..=2 {
        let mut client = server.let_in(Version::V311);
        client.expect(subscribe(number).filter("a", 0));
        client.send(suback(number, &[0]));
        client.send(publish("a", format!("{number}")));
        if number == 2 {
            client.expect(disconnect());
        }
    }
    assert_eq!(tool.ends(0), "1\n2\n");

    let tool = Tool::start("sub", server.port(), &["-t", "a", "-W", "1"]);
    drop(server.let_in(Version::V311));
    drop(server);
    let output = tool.end();
    assert_eq!(output.status.code(), Some(27));
    assert_eq!(output.stderr, b"Timed out\n");
}

/// A server that says DISCONNECT is left: two clients of one name do not drive each other out for ever.
#[test]
fn a_server_that_disconnects() {
    let server = Server::new();
    let tool = Tool::start("sub", server.port(), &["-t", "a", "-V", "5", "-d"]);
    let mut client = server.let_in(Version::V5);
    client.expect(subscribe(1).filter("a", 0));
    client.send(disconnect().reason(0x8E));
    client.expect_closed();
    assert!(tool.ends(0).ends_with("Received DISCONNECT (142)\n"));
}

/// [MQTT-3.2.2-21] The server's Keep Alive holds: PINGREQ after that time, and a server that does not answer is left.
#[test]
fn mqtt_3_2_2_21_keep_alive() {
    let server = Server::new();
    let tool = Tool::start("sub", server.port(), &["-t", "a", "-V", "5", "-C", "1"]);
    let mut client = server.accept(Version::V5);
    client.expect_packet();
    client.send([0x20, 6, 0, 0, 3, 0x13, 0, 1]);
    client.expect(subscribe(1).filter("a", 0));
    client.send(suback(1, &[0]));
    client.expect(pingreq());
    client.send(pingresp());
    client.expect(pingreq());
    client.expect_closed();
    let mut client = server.let_in(Version::V5);
    client.expect(subscribe(2).filter("a", 0));
    client.send(suback(2, &[0]));
    client.send(publish("a", "x"));
    client.expect(disconnect());
    drop(client);
    assert_eq!(tool.ends(0), "x\n");
}

/// What follows the last message of -C is left with the server, unacknowledged.
#[test]
fn sub_takes_no_more_than_it_was_told() {
    let server = Server::new();
    let tool = Tool::start("sub", server.port(), &["-t", "a", "-q", "1", "-C", "2"]);
    let mut client = server.let_in(Version::V311);
    client.expect(subscribe(1).filter("a", 1));
    let messages: Vec<u8> = (1..=4)
        .flat_map(|id: u16| {
            publish("a", id.to_string())
                .qos(1)
                .packet_id(id)
                .encode(Version::V311)
        })
        .collect();
    client.send([suback(1, &[1]).encode(Version::V311), messages].concat());
    client.expect(puback(1));
    client.expect(puback(2));
    client.expect(disconnect());
    client.expect_closed();
    assert_eq!(tool.ends(0), "1\n2\n");
}

/// `--remove-retained` waits until the server has removed what was shown.
#[test]
fn remove_retained() {
    let broker = Broker::start(&[]);
    let port = broker.address().port();
    let mut client = broker.connect_v3("client");
    for topic in ["a/1", "a/2", "b/1"] {
        client.publish(&publish(topic, "kept").qos(1).packet_id(1).retain());
    }
    let arguments = [
        "-t",
        "a/#",
        "--remove-retained",
        "--retained-only",
        "-v",
        "-C",
        "2",
    ];
    assert_eq!(
        Tool::start("sub", port, &arguments).ends(0),
        "a/1 kept\na/2 kept\n"
    );
    client.send(subscribe(1).filter("#", 0));
    client.expect(suback(1, &[0]));
    client.expect(publish("b/1", "kept").retain());
    client.fence();
}

/// A request and its response, and a good-bye: the will stays unsent.
#[test]
fn requests() {
    let broker = Broker::start(&[]);
    let port = broker.address().port();
    let mut responder = broker.subscriber(Version::V5, "responder", "ask", 0);
    let mut answer = |text: &str| {
        let request = responder.expect_publish();
        assert_eq!(request.payload, text.as_bytes());
        responder.publish(&publish("answers", format!("{text}!")));
    };
    let arguments = ["-t", "ask", "-e", "answers"];
    let tool = Tool::start("rr", port, &[&arguments[..], &["-m", "one"]].concat());
    answer("one");
    assert_eq!(tool.ends(0), "one!\n");
    broker.wait_for_log("Received DISCONNECT from");
}

/// A server that says what is no MQTT, too much or too little: an error, no hang, no panic.
#[test]
fn servers_that_misbehave() {
    for (bytes, code) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], 7),
        (&[0x20, 2, 0, 5], 5),
        (&[0x20, 2, 0, 77], 77),
        (&[0x20, 1, 0], 2),
        (&[0x30, 3, 0, 1, b'a'], 2),
        (&[0x20, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], 2),
        (&[], 7),
        (&[0x20], 7),
    ] {
        let server = Server::new();
        let tool = Tool::start("pub", server.port(), &["-t", "a", "-m", "x"]);
        let mut client = server.accept(Version::V311);
        client.expect_packet();
        client.send(bytes);
        drop(client);
        let output = tool.end();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{bytes:?}: {stderr}");
        assert!(
            stderr.contains("rror: ") && !stderr.contains("panicked"),
            "{stderr}"
        );
    }
}

/// Links by Mosquitto's names are the tools of those names.
#[test]
fn links() {
    let dir = new_dir();
    let program = fs::canonicalize(program()).expect("the program under test");
    let output = Command::new(&program).arg("links").arg(&dir).output();
    assert!(output.expect("it runs").status.success());
    let broker = Broker::start(&[]);
    let port = broker.address().port().to_string();
    let run = |name: &str, arguments: &[&str]| {
        let path: PathBuf = dir.join(name);
        let output = Command::new(path).args(arguments).output().expect("a link");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).expect("text"))
    };
    let mut client = broker.subscriber(Version::V311, "client", "a", 0);
    let arguments = ["-h", "127.0.0.1", "-p", &port, "-t", "a", "-m", "x"];
    assert_eq!(run("mosquitto_pub", &arguments), (Some(0), String::new()));
    client.expect(publish("a", "x"));
    for (name, word) in [
        ("mosquitto_sub", "mosquitto_sub --help"),
        ("mosquitto_rr", "mosquitto_rr --help"),
        ("mosquitto_pub", "mosquitto_pub --help"),
    ] {
        let (code, text) = run(name, &["--nonsense"]);
        assert_eq!(code, Some(1));
        assert!(text.contains(word), "{text}");
    }
    let (code, text) = run("mosquitto", &["--help"]);
    assert!(code.is_some() && text.contains("Usage"), "{text}");
    fs::remove_dir_all(dir).expect("ours");
}
