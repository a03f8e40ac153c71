//! The command: flags, exit codes, what is said of a configuration, and the lines of a start.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::*;

/// A command that ended: its exit code and all that it said.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ended {
    /// The lines on standard error, without their timestamps.
    fn log(&self) -> Vec<&str> {
        self.stderr.lines().map(without_timestamp).collect()
    }
}

/// A process that is ended with the test. What it says is little enough for a pipe to hold.
struct Running(Child);

impl Running {
    fn start(program: &Path, args: &[&str]) -> Running {
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        Running(child.unwrap_or_else(|error| panic!("{}: {error}", program.display())))
    }

    /// Waits until it listens on `port`.
    fn await_port(&mut self, port: u16) {
        let start = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(self.0.try_wait().expect("our child").is_none(), "it ended");
            assert!(start.elapsed() < DEADLINE, "it does not listen on {port}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it comes to by itself.
    fn end(mut self) -> Ended {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.0.try_wait().expect("our child") {
                break status;
            }
            assert!(start.elapsed() < DEADLINE, "it does not end");
            thread::sleep(Duration::from_millis(5));
        };
        let read = |pipe: &mut dyn Read| {
            let mut text = String::new();
            pipe.read_to_string(&mut text).expect("it writes UTF-8");
            text
        };
        Ended {
            code: status.code(),
            stdout: read(self.0.stdout.as_mut().expect("piped")),
            stderr: read(self.0.stderr.as_mut().expect("piped")),
        }
    }

    /// What it comes to by SIGTERM.
    fn stop(self) -> Ended {
        kill_process(Pid::from_child(&self.0), Signal::TERM).expect("our child");
        self.end()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A directory with a configuration; it goes with the test.
struct Files(PathBuf);

impl Files {
    fn new(config: &str) -> Files {
        let files = Files(new_dir());
        files.write("midge.conf", config);
        files
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("it has one")).expect("the directory is ours");
        fs::write(&path, text).expect("the directory is ours");
        path.to_str().expect("we chose the name").to_owned()
    }

    fn config(&self) -> String {
        self.0
            .join("midge.conf")
            .to_str()
            .expect("we chose the name")
            .to_owned()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn start(args: &[&str]) -> Running {
    Running::start(Path::new(&program()), args)
}

fn run(args: &[&str]) -> Ended {
    start(args).end()
}

fn without_timestamp(line: &str) -> &str {
    match line.split_once(": ") {
        Some((time, text)) if time.len() >= 10 && time.bytes().all(|b| b.is_ascii_digit()) => text,
        _ => line,
    }
}

fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

#[test]
fn help() {
    for flag in ["-h", "--help"] {
        let ended = run(&[flag]);
        assert_eq!(ended.code, Some(0));
        assert_eq!(ended.stderr, "");
        let flags = [
            "-c",
            "--config-file",
            "-d",
            "--daemon",
            "-h",
            "--help",
            "-p",
            "--port",
            "-q",
            "--quiet",
            "-v",
            "--verbose",
            "--test-config",
            "--version",
            "Usage:",
        ];
        for flag in flags {
            assert!(ended.stdout.contains(flag), "{flag} in\n{}", ended.stdout);
        }
    }
}

#[test]
fn version() {
    let ended = run(&["--version"]);
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
    assert!(
        ended.stdout.starts_with("midge version "),
        "{}",
        ended.stdout
    );
}

#[test]
fn unknown_options_show_the_usage() {
    for (args, named) in [
        (&["-x"][..], "-x"),
        (&["--verbos-e"], "--verbos-e"),
        (&["surplus"], "surplus"),
        (&["-v", "-Z"], "-Z"),
    ] {
        let ended = run(args);
        assert_eq!(ended.code, Some(3), "{args:?}");
        assert_eq!(ended.stdout, "");
        let mut lines = ended.stderr.lines();
        assert_eq!(
            lines.next(),
            Some(&*format!("Error: Unknown option '{named}'."))
        );
        assert!(lines.any(|line| line.starts_with("Usage:")));
    }
}

#[test]
fn bad_values_of_options() {
    let too_many: Vec<String> = (1..=11).map(|port| port.to_string()).collect();
    let too_many: Vec<&str> = too_many.iter().flat_map(|port| ["-p", port]).collect();
    for (args, said) in [
        (
            &["-c"][..],
            "Error: -c argument given, but no config file specified.",
        ),
        (
            &["--config-file"],
            "Error: -c argument given, but no config file specified.",
        ),
        (&["-p"], "Error: -p argument given, but no port specified."),
        (&["-p", "0"], "Error: Invalid port specified (0)."),
        (&["-p", "65536"], "Error: Invalid port specified (65536)."),
        (&["-p", "x"], "Error: Invalid port specified (x)."),
        (&too_many, "Error: Only 10 ports can be specified."),
    ] {
        let ended = run(args);
        assert_eq!(ended.code, Some(3), "{args:?}");
        assert_eq!((&*ended.stdout, ended.log()), ("", vec![said]), "{args:?}");
    }
}

#[test]
fn a_missing_configuration_file() {
    let ended = run(&["-c", "/nonexistent/midge.conf"]);
    assert_eq!(ended.code, Some(3));
    assert_eq!(
        ended.log(),
        [
            "Error: Unable to open config file /nonexistent/midge.conf.",
            "No such file or directory"
        ]
    );
}

/// A complaint names the file, the line and what would be right.
#[test]
fn bad_configurations() {
    for (config, line, complaint, hint) in [
        (
            "listener 1\n\n# a comment\npersistance true\n",
            4,
            "Error: Unknown configuration variable 'persistance'.",
            "Did you mean 'persistence'?",
        ),
        (
            "max_queued_mesages 5\n",
            1,
            "Error: Unknown configuration variable 'max_queued_mesages'.",
            "Did you mean 'max_queued_messages'?",
        ),
        (
            "sys_interval\t5\n",
            1,
            "Error: Unknown configuration variable 'sys_interval\t5'.",
            "Put a space, not a tab, between 'sys_interval' and its value.",
        ),
        (
            "allow_anonymous yes\n",
            1,
            "Error: Invalid 'allow_anonymous' value (yes).",
            "Expected for 'allow_anonymous': true or false.",
        ),
        (
            "max_queued_messages many\n",
            1,
            "Error: 'max_queued_messages' value not a number.",
            "Expected for 'max_queued_messages': a whole number (messages).",
        ),
        (
            "auto_id_prefix a\nauto_id_prefix b\n",
            2,
            "Error: Duplicate 'auto_id_prefix' value in configuration.",
            "'auto_id_prefix' may be given once here, and was at {file}:1.",
        ),
        (
            "log_type loud\n",
            1,
            "Error: Invalid 'log_type' value (loud).",
            "Expected for 'log_type': one of debug, error, warning, notice, information, subscribe, unsubscribe, \
             internal, websockets, none, all.",
        ),
        (
            "listener\n",
            1,
            "Error: Empty 'listener port' value in configuration.",
            "Expected for 'listener port': a port from 1 to 65535, and if wanted the address to bind to; or 0 and the \
             path of a Unix socket.",
        ),
        (
            "address 1.2.3.4\n",
            1,
            "Error: The 'address' option requires a bridge to be defined first.",
            "",
        ),
    ] {
        let files = Files::new(config);
        let file = files.config();
        for args in [&["-c", &*file][..], &["--test-config", "-c", &*file]] {
            let ended = run(args);
            let place = format!("Error found at {file}:{line}.");
            let hint = hint.replace("{file}", &file);
            let mut expected = vec![complaint, &place];
            expected.extend((!hint.is_empty()).then_some(&*hint));
            assert_eq!((ended.code, ended.log()), (Some(3), expected), "{config}");
            assert_eq!(ended.stdout, "", "{config}");
        }
    }
}

#[test]
fn a_bad_line_in_an_included_file() {
    let files = Files::new("");
    let included = files.write("conf.d/b.conf", "allow_anonymous true\nfoo 1\n");
    files.write("conf.d/a.conf", "sys_interval 0\n");
    files.write("conf.d/c.txt", "not a configuration\n");
    let dir = files.0.join("conf.d");
    files.write(
        "midge.conf",
        &format!("listener 1\ninclude_dir {}\n", dir.display()),
    );
    let ended = run(&["-c", &files.config()]);
    assert_eq!(ended.code, Some(3));
    assert_eq!(
        &ended.log()[..2],
        [
            "Error: Unknown configuration variable 'foo'.",
            &format!("Error found at {included}:2."),
        ]
    );
}

/// What restricts and is not there is refused: to pass it over would let in who was to stay outside. All at once.
#[test]
fn options_that_restrict_are_refused() {
    let restricting = [
        "psk_file p",
        "psk_hint h",
        "plugin p.so",
        "tls_engine e",
        "tls_keyform engine",
    ];
    for line in restricting {
        let files = Files::new(&format!("listener 1\n{line}\n"));
        let ended = run(&["-c", &files.config()]);
        let option = line.split(' ').next().expect("it has a name");
        assert_eq!(ended.code, Some(3), "{line}: {ended:?}");
        let log = ended.log();
        assert_eq!(
            log[..2],
            [
                &*format!("Error: The '{option}' option is not supported."),
                &format!("Error found at {}:2.", files.config()),
            ],
            "{line}"
        );
        assert_eq!(log.len(), 4, "{line}: {log:?}");
    }
    let files = Files::new("listener 1\npsk_file a\ntls_engine e\nplugin p.so\n");
    let ended = run(&["-c", &files.config()]);
    let said = ended.stderr.matches("option is not supported.").count();
    assert_eq!((ended.code, said), (Some(3), 3));
}

/// Where only half of what a listener needs is said, it is not opened with less.
#[test]
fn options_that_lack_another_are_errors() {
    for (line, needs) in [
        ("certfile c", "'keyfile'"),
        ("keyfile k", "'certfile'"),
        ("cafile a", "'certfile' and 'keyfile'"),
        ("require_certificate true", "'certfile' and 'keyfile'"),
        ("use_identity_as_username true", "'certfile' and 'keyfile'"),
        (
            "proxy_protocol_v2_require_tls true",
            "'enable_proxy_protocol 2'",
        ),
    ] {
        let files = Files::new(&format!("listener 1\n{line}\n"));
        let ended = run(&["-c", &files.config()]);
        let option = line.split(' ').next().expect("it has a name");
        assert_eq!(ended.code, Some(3), "{line}: {ended:?}");
        assert_eq!(
            ended.log()[..2],
            [
                &*format!("Error: The '{option}' option requires {needs}."),
                &format!("Error found at {}:2.", files.config()),
            ],
            "{line}"
        );
    }
    let files = Files::new("listener 1\nprotocol websockets\n");
    let ended = run(&["-c", &files.config()]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert_eq!(
        ended.log()[0],
        "Error: No listener can be opened: 'protocol websockets' is not supported yet."
    );
}

/// What is understood but not done is said, once a line, and starts all the same.
#[test]
fn options_without_effect_are_warned_about() {
    let options = ["enable_control_api true"];
    let mut lines = vec!["log_timestamp false"];
    lines.extend(options);
    let broker = Broker::start(&lines);
    for line in options {
        let option = line.split(' ').next().expect("it has a name");
        let warning = format!("Warning: The '{option}' option has no effect yet. (");
        let said = broker.wait_for_log(&warning);
        let config = fs::read_to_string(broker.dir().join("midge.conf")).expect("it is there");
        let number = config
            .lines()
            .position(|other| other == line)
            .expect("it is in it")
            + 1;
        let place = format!("({}/midge.conf:{number})", broker.dir().display());
        assert!(said.ends_with(&place), "{said}: {place}");
        assert_eq!(broker.log_text().matches(&warning).count(), 1);
    }
    broker.connect_v5("client").fence();
    // A default said aloud asks for nothing that is not done.
    let broker = Broker::start(&["persistence false", "autosave_interval 1800"]);
    assert!(
        !broker.log_text().contains("no effect"),
        "{}",
        broker.log_text()
    );
}

#[test]
fn test_config_of_a_good_file() {
    // Whether its port is free is no question about the file.
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has ports");
    let port = taken.local_addr().expect("it is bound").port();
    let files = Files::new(&format!(
        "listener {port} 127.0.0.1\nenable_control_api true\n"
    ));
    for args in [["--test-config", "-c"], ["-d", "--test-config"]] {
        let file = files.config();
        let ended = match args[1] {
            "-c" => run(&[args[0], "-c", &file]),
            _ => run(&[args[0], args[1], "-c", &file]),
        };
        assert_eq!(
            (ended.code, &*ended.stdout),
            (Some(0), "Configuration file is OK.\n")
        );
        let warning =
            format!("Warning: The 'enable_control_api' option has no effect yet. ({file}:2)");
        assert_eq!(ended.log(), [warning]);
    }
}

/// What the file names has to be there, though nothing is bound.
#[test]
fn test_config_looks_at_what_is_named() {
    for (lines, expected) in [
        (
            "listener 1\nbind_interface nope0\n",
            "there is no interface of that name",
        ),
        (
            "listener 1\npassword_file /nowhere/p\n",
            "Unable to open pwfile",
        ),
        (
            "listener 1\nacl_file /nowhere/a\n",
            "Unable to open acl_file",
        ),
        (
            "listener 1\ncertfile /nowhere/c\nkeyfile /nowhere/k\n",
            "server certificate",
        ),
    ] {
        let ended = run(&["--test-config", "-c", &Files::new(lines).config()]);
        assert_eq!((ended.code, &*ended.stdout), (Some(3), ""), "{lines}");
        assert!(ended.stderr.contains(expected), "{lines}: {}", ended.stderr);
    }
}

/// Whether `line` is of those that a broker which root has started says first: whom it runs as, and whom instead of.
fn is_about_the_user(line: &str) -> bool {
    line.starts_with("Info: running mosquitto as user")
        || line.starts_with("Warning: There is no user")
        || line.starts_with("Warning: Mosquitto should not be run as root")
}

/// The lines of a start without a configuration, which people and their scripts know, and of the end.
#[test]
fn start_up_lines_of_the_default_configuration() {
    let port = free_port();
    let mut running = start(&["-p", &port.to_string()]);
    running.await_port(port);
    let ended = running.stop();
    assert_eq!((ended.code, &*ended.stdout), (Some(0), ""));
    let lines = ended.log();
    // What the connection that looked for the port left.
    let lines: Vec<&str> = lines
        .into_iter()
        .filter(|line| !line.contains("127.0.0.1") && !is_about_the_user(line))
        .collect();
    let version = lines[0]
        .strip_prefix("mosquitto version ")
        .and_then(|rest| rest.strip_suffix(" starting"))
        .expect("the first line");
    let mut expected = vec![
        format!("mosquitto version {version} starting"),
        "Using default config.".into(),
        "Bridge support NOT available.".into(),
        "Persistence support available.".into(),
        "TLS support available.".into(),
        "TLS-PSK support NOT available.".into(),
        "Websockets support NOT available.".into(),
        "Starting in local only mode. Connections will only be possible from clients running on this machine."
            .into(),
        "Create a configuration file which defines a listener to allow remote access.".into(),
        "For more details see https://mosquitto.org/documentation/authentication-methods/".into(),
        "Persistence is off: sessions, queued and retained messages end with the broker.".into(),
        format!("Opening ipv4 listen socket on port {port}."),
    ];
    if has_ipv6() {
        expected.push(format!("Opening ipv6 listen socket on port {port}."));
    }
    expected.push(format!("mosquitto version {version} running"));
    expected.push(format!("mosquitto version {version} terminating"));
    assert_eq!(lines, expected);
    // Each line begins with the seconds since 1970.
    assert!(
        ended
            .stderr
            .lines()
            .all(|line| without_timestamp(line) != line),
        "{}",
        ended.stderr
    );
}

#[test]
fn start_up_lines_of_a_configuration() {
    let broker = Broker::start(&["log_timestamp false"]);
    broker.wait_for_log(concat!(env!("CARGO_PKG_VERSION"), " running"));
    let log = broker.log_text();
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| !is_about_the_user(line))
        .collect();
    assert!(lines[0].ends_with(" starting"));
    assert_eq!(
        lines[1],
        format!("Config loaded from {}/midge.conf.", broker.dir().display())
    );
    assert!(!log.contains("local only"));
    let port = broker.address().port();
    let opening = format!("Opening ipv4 listen socket on port {port}.");
    let at = lines
        .iter()
        .position(|line| *line == opening)
        .expect("it is said");
    assert!(lines[at + 1].ends_with(" running"), "{log}");
}

/// Local only mode: both loopback addresses and no other, anybody may come, on every port that was named.
#[test]
fn several_ports() {
    let ports = [free_port(), free_port(), free_port()];
    let texts = ports.map(|port| port.to_string());
    let mut running = start(&["-p", &texts[0], "--port", &texts[1], "-p", &texts[2]]);
    for port in ports {
        running.await_port(port);
        let mut addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
        addresses.extend(has_ipv6().then_some(IpAddr::V6(Ipv6Addr::LOCALHOST)));
        for address in addresses {
            let mut client = Raw::open(SocketAddr::new(address, port), Version::V5);
            client.send(connect("client"));
            assert_eq!(client.expect_connack().reason, 0);
        }
        // Every address of 127.0.0.0/8 is this machine's, but only one is listened on.
        assert!(TcpStream::connect((Ipv4Addr::new(127, 0, 0, 2), port)).is_err());
    }
    let ended = running.stop();
    assert_eq!(ended.code, Some(0));
    // Without a word about it, what is logged is errors, warnings, notices and information.
    assert!(ended.stderr.contains("New client connected from "));
    assert!(
        !ended.stderr.contains("Sending CONNACK"),
        "{}",
        ended.stderr
    );
    for port in ports {
        assert!(
            ended
                .log()
                .contains(&&*format!("Opening ipv4 listen socket on port {port}."))
        );
    }
}

#[test]
fn a_port_has_no_effect_beside_a_listener() {
    let (listener, other) = (free_port(), free_port());
    let files = Files::new(&format!(
        "listener {listener} 127.0.0.1\nlog_timestamp false\n"
    ));
    let mut running = start(&["-c", &files.config(), "-p", &other.to_string()]);
    running.await_port(listener);
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, other)).is_err());
    let ended = running.stop();
    assert_eq!(ended.code, Some(0));
    assert!(
        !ended.stderr.contains(&format!("on port {other}.")),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_port_in_use() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has ports");
    let port = taken.local_addr().expect("it is bound").port();
    let files = Files::new(&format!("listener {port} 127.0.0.1\n"));
    for args in [&["-p", &*port.to_string()][..], &["-c", &files.config()]] {
        let ended = run(args);
        assert_eq!(ended.code, Some(1), "{args:?}");
        let log = ended.log();
        assert!(log.contains(&"Error: Address already in use"), "{log:#?}");
        assert!(
            !log.iter().any(|line| line.ends_with(" running")),
            "{log:#?}"
        );
    }
}

/// An address that this machine does not have.
#[test]
fn a_listener_that_cannot_be_bound() {
    let files = Files::new("listener 18830 192.0.2.1\n");
    let ended = run(&["-c", &files.config()]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended
            .log()
            .contains(&"Error: Cannot assign requested address"),
        "{:?}",
        ended.log()
    );
}

#[test]
fn called_mosquitto() {
    let files = Files::new("");
    let link = files.0.join("mosquitto");
    let program = fs::canonicalize(program()).expect("the broker under test");
    symlink(&program, &link).expect("the directory is ours");
    let help = Running::start(&link, &["-h"]).end();
    assert_eq!((help.code, &*help.stderr), (Some(0), ""));
    assert!(help.stdout.contains("Usage:"));
    // There, no argument is the name of a command.
    let ended = Running::start(&link, &["pub", "-t", "a"]).end();
    assert_eq!(ended.code, Some(3));
    let port = free_port();
    let mut running = Running::start(&link, &["-v", "-p", &port.to_string()]);
    running.await_port(port);
    let mut client = Raw::open((Ipv4Addr::LOCALHOST, port).into(), Version::V311);
    client.send(connect("client"));
    assert_eq!(client.expect_connack().reason, 0);
    client.fence();
    let ended = running.stop();
    assert_eq!(ended.code, Some(0));
    assert!(ended.log().contains(&"Received PINGREQ from client"));
}

/// `-v` and `-q` say more than the file does, and `-q` more than `-v`.
#[test]
fn verbose_and_quiet() {
    for (args, line, loud) in [
        (&["-v"][..], "log_type none", true),
        (&["--verbose"], "log_type error", true),
        (&["-q"], "log_type all", false),
        (&["--quiet", "-v"], "log_type all", false),
        (&["-v", "-q"], "", false),
    ] {
        let port = free_port();
        let files = Files::new(&format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\n{line}\n"
        ));
        let file = files.config();
        let mut running = start(&[args, &["-c", &file]].concat());
        running.await_port(port);
        let mut client = Raw::open((Ipv4Addr::LOCALHOST, port).into(), Version::V311);
        client.send(connect("client"));
        assert_eq!(client.expect_connack().reason, 0);
        client.fence();
        let ended = running.stop();
        assert_eq!((ended.code, &*ended.stdout), (Some(0), ""), "{args:?}");
        let is_loud = ended.log().contains(&"Received PINGREQ from client");
        assert_eq!(is_loud, loud, "{args:?}: {}", ended.stderr);
        assert!(
            loud || ended.stderr.is_empty(),
            "{args:?}: {}",
            ended.stderr
        );
    }
}

/// `-d`: the caller goes on at once, and a bad configuration is told to it.
#[test]
fn daemon() {
    let port = free_port();
    let files = Files::new(&format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\n"
    ));
    let file = files.config();
    let ended = run(&["-d", "-c", &file]);
    let _stopper = DaemonOf(&file);
    assert_eq!(
        (ended.code, &*ended.stdout, &*ended.stderr),
        (Some(0), "", "")
    );
    let start = Instant::now();
    let stream = loop {
        match TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            Ok(stream) => break stream,
            Err(error) => assert!(start.elapsed() < DEADLINE, "no daemon: {error}"),
        }
        thread::sleep(Duration::from_millis(5));
    };
    let mut client = Raw::over(stream, Version::V5);
    client.send(connect("client"));
    assert_eq!(client.expect_connack().reason, 0);
    client.fence();
    let pid = daemon_of(&file).expect("it runs");
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let session = stat
        .rsplit(')')
        .next()
        .and_then(|rest| rest.split(' ').nth(4));
    assert_eq!(
        session,
        Some(&*pid.to_string()),
        "it leads a session of its own"
    );
    let bad = Files::new("foo 1\n");
    assert_eq!(run(&["-d", "-c", &bad.config()]).code, Some(3));
}

/// Ends the daemon that has this configuration file.
struct DaemonOf<'a>(&'a str);

impl Drop for DaemonOf<'_> {
    fn drop(&mut self) {
        if let Some(pid) = daemon_of(self.0).and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

/// The process that was called with `-c file`; no other has this file, since its directory is new.
fn daemon_of(file: &str) -> Option<i32> {
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .find(|pid: &i32| {
            let called = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut args = called.split(|byte| *byte == 0);
            args.any(|arg| arg == b"-c") && args.next() == Some(file.as_bytes())
        })
}

/// A signal may come before anybody connected, or together with another.
#[test]
fn signals_right_after_the_start() {
    for _ in 0..10 {
        let port = free_port();
        let mut running = start(&["-p", &port.to_string()]);
        running.await_port(port);
        let pid = Pid::from_child(&running.0);
        for signal in [Signal::HUP, Signal::USR1, Signal::INT] {
            kill_process(pid, signal).expect("our child");
        }
        let ended = running.end();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }
}

/// A configuration of our own that nobody can read as text is refused, not half taken.
#[test]
fn a_binary_configuration_file() {
    let files = Files::new("");
    let mut file = fs::File::create(files.config()).expect("the directory is ours");
    let noise: Vec<u8> = (0..10_000_u32)
        .map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    file.write_all(&noise).expect("the directory is ours");
    let child = run(&["-c", &files.config()]);
    assert_eq!(child.code, Some(3));
    assert!(child.stderr.contains("Error found at "), "{}", child.stderr);
}
