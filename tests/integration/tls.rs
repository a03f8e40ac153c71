//! TLS as users have it: Debian's mosquitto_pub and mosquitto_sub and `openssl s_client` against the real binary, with
//! certificates that the `openssl` command makes here and now.
//!
//! What a refused client is told in the log is held by its essence, since addresses stand around it.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::*;

const RSA: &str = "RSA -pkeyopt rsa_keygen_bits:2048";
const EC: &str = "EC -pkeyopt ec_paramgen_curve:P-256";

/// A listener with TLS for everybody.
const ONE_WAY: [&str; 2] = ["certfile {lab}/server.crt", "keyfile {lab}/server.key"];

/// A listener for clients of the authority, whose common name is their user name.
const MUTUAL: [&str; 5] = [
    "certfile {lab}/server.crt",
    "keyfile {lab}/server.key",
    "cafile {lab}/ca.crt",
    "require_certificate true",
    "use_identity_as_username true",
];

/// A directory full of certificates; it goes with the test.
pub struct Lab(PathBuf);

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Lab {
    /// With an authority `ca` and a certificate `server` for `localhost`.
    pub fn new() -> Lab {
        let lab = Lab(new_dir());
        // A broker that root starts goes on as another user, who reads and writes here.
        let everybody = fs::Permissions::from_mode(0o777);
        fs::set_permissions(&lab.0, everybody).expect("the directory is ours");
        lab.authority("ca");
        lab.server("server", "ca", EC);
        lab
    }

    pub fn path(&self, name: &str) -> String {
        self.0
            .join(name)
            .to_str()
            .expect("we chose the name")
            .to_owned()
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).expect("the directory is ours");
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).expect(name)
    }

    /// Puts these files together into one.
    pub fn join(&self, name: &str, parts: &[&str]) {
        self.write(
            name,
            parts
                .iter()
                .map(|part| self.read(part))
                .collect::<Vec<_>>()
                .concat(),
        );
    }

    /// Runs `openssl` with these words.
    pub fn openssl(&self, words: &str) {
        let output = Command::new("openssl")
            .args(words.split_whitespace())
            .current_dir(&self.0)
            .output()
            .expect("openssl is installed");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {words}: {said}");
    }

    pub fn key(&self, name: &str, algorithm: &str) {
        self.openssl(&format!("genpkey -algorithm {algorithm} -out {name}.key"));
        // A broker that gave up its privileges reads it again at a reload.
        self.open(&format!("{name}.key"));
    }

    /// Lets everybody read a file.
    pub fn open(&self, name: &str) {
        let all = fs::Permissions::from_mode(0o644);
        fs::set_permissions(self.path(name), all).expect("it is ours");
    }

    pub fn authority(&self, name: &str) {
        self.key(name, EC);
        self.openssl(&format!(
            "req -x509 -new -key {name}.key -subj /CN={name} -days 365 -out {name}.crt"
        ));
    }

    fn server(&self, name: &str, authority: &str, algorithm: &str) {
        self.key(name, algorithm);
        self.issue(
            "/CN=localhost",
            name,
            authority,
            Some("subjectAltName=DNS:localhost"),
            "",
        );
    }

    /// Makes `name.crt` for `name.key`, which is made if it is not there; without `extensions` of X.509 version 1.
    pub fn issue(
        &self,
        subject: &str,
        name: &str,
        authority: &str,
        extensions: Option<&str>,
        more: &str,
    ) {
        if !Path::new(&self.path(&format!("{name}.key"))).exists() {
            self.key(name, EC);
        }
        self.openssl(&format!(
            "req -new -utf8 -key {name}.key -subj {subject} -out {name}.csr"
        ));
        let extensions = match extensions {
            Some(extensions) => {
                self.write(&format!("{name}.ext"), extensions);
                format!("-extfile {name}.ext")
            }
            None => String::new(),
        };
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA {authority}.crt -CAkey {authority}.key -CAcreateserial {extensions} \
             -out {name}.crt {more}"
        ));
    }

    /// A client's certificate, as people make them.
    fn client(&self, name: &str) {
        self.issue(&format!("/CN={name}"), name, "ca", None, "");
    }

    /// Makes a revocation list of `ca` in which these certificates are.
    fn revoke(&self, list: &str, revoked: &[&str]) {
        let config =
            "[ca]\ndefault_ca=d\n[d]\ndatabase=index\ndefault_md=sha256\ndefault_crl_days=30\n";
        self.write("ca.cnf", config);
        self.write("index", "");
        let ca = "ca -config ca.cnf -keyfile ca.key -cert ca.crt";
        for certificate in revoked {
            self.openssl(&format!("{ca} -revoke {certificate}.crt"));
        }
        self.openssl(&format!("{ca} -gencrl -out {list}"));
    }

    /// A broker with these lines of configuration, in which `{lab}` is this directory.
    pub fn broker(&self, lines: &[&str]) -> Broker {
        self.broker_in_shell("exec \"$@\"", lines)
    }

    fn broker_in_shell(&self, shell: &str, lines: &[&str]) -> Broker {
        let lab = self.0.to_str().expect("we chose the name");
        let lines: Vec<String> = lines
            .iter()
            .map(|line| line.replace("{lab}", lab))
            .collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        Broker::start_in_shell(&shell.replace("{lab}", lab), &lines)
    }

    /// Runs mosquitto_pub or mosquitto_sub against `broker`; in the words `{lab}` is this directory.
    fn run(&self, broker: &Broker, program: &str, words: &str) -> Output {
        let lab = self.0.to_str().expect("we chose the name");
        Command::new("timeout")
            .arg(DEADLINE.as_secs().to_string())
            .arg(program)
            .args([
                "-h",
                "localhost",
                "-p",
                &broker.address().port().to_string(),
            ])
            .args(words.replace("{lab}", lab).split_whitespace())
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("{program}: {error}"))
    }

    /// Publishes a retained message by mosquitto_pub and reads it by mosquitto_sub.
    #[track_caller]
    fn round_trip(&self, broker: &Broker, words: &str) {
        let published = self.run(
            broker,
            "mosquitto_pub",
            &format!("{words} -r -q 1 -t room/lamp -m on"),
        );
        assert!(published.status.success(), "{words}: {published:?}");
        let received = self.run(
            broker,
            "mosquitto_sub",
            &format!("{words} -C 1 -t room/lamp"),
        );
        assert_eq!(received.stdout, b"on\n", "{words}: {received:?}");
    }

    /// Expects mosquitto_pub not to get through, and a log line with `reason`.
    #[track_caller]
    fn refused(&self, broker: &Broker, words: &str, reason: &str) {
        let before = broker.log_text().matches(reason).count();
        let published = self.run(
            broker,
            "mosquitto_pub",
            &format!("{words} -q 1 -t room/lamp -m on"),
        );
        assert!(!published.status.success(), "{words}: {published:?}");
        wait_until(reason, || {
            broker.log_text().matches(reason).count() > before
        });
    }

    /// Expects `openssl s_client` not to get through, and a log line with `reason`. For TLS 1.2, to which mosquitto_pub
    /// cannot be held.
    #[track_caller]
    fn refused_tunnel(&self, broker: &Broker, words: &str, reason: &str) {
        let before = broker.log_text().matches(reason).count();
        let mut tunnel = Tunnel::open(self, broker, Version::V311, words);
        tunnel.raw.send(connect("refused"));
        assert_eq!(
            tunnel.raw.drain_until_closed(),
            Some(Vec::new()),
            "{words}: {}",
            tunnel.said()
        );
        wait_until(reason, || {
            broker.log_text().matches(reason).count() > before
        });
    }
}

/// A connection through `openssl s_client`, which ends with it.
struct Tunnel {
    raw: Raw,
    process: Child,
    said: PathBuf,
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_file(&self.said);
    }
}

impl Tunnel {
    /// Opens one, with more words for `openssl s_client`.
    fn open(lab: &Lab, broker: &Broker, version: Version, words: &str) -> Tunnel {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
        let address = listener.local_addr().expect("it is bound");
        let ours = TcpStream::connect(address).expect("we listen");
        let (theirs, _) = listener.accept().expect("we have connected");
        let output = theirs.try_clone().expect("there are files left");
        let said = lab.0.join(format!("s_client-{}", address.port()));
        let errors = fs::File::create(&said).expect("the directory is ours");
        let process = Command::new("openssl")
            .args(["s_client", "-quiet", "-connect"])
            .arg(broker.address().to_string())
            .args(["-servername", "localhost", "-CAfile", &lab.path("ca.crt")])
            .args(words.replace("{lab}", &lab.path("")).split_whitespace())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(OwnedFd::from(output)))
            .stderr(errors)
            .spawn()
            .expect("openssl is installed");
        let raw = Raw::over(ours, version);
        Tunnel { raw, process, said }
    }

    /// [`Tunnel::open`] and a CONNECT that is accepted.
    fn connect(lab: &Lab, broker: &Broker, client_id: &str, words: &str) -> Tunnel {
        let mut tunnel = Tunnel::open(lab, broker, Version::V5, words);
        tunnel.raw.send(connect(client_id));
        let connack = tunnel.raw.expect_connack();
        assert_eq!(connack.reason, 0, "{connack:?}");
        tunnel
    }

    /// What `openssl s_client` said of certificates.
    fn said(&self) -> String {
        fs::read_to_string(&self.said).expect("it is ours")
    }
}

/// Connects, and returns what `openssl s_client` told of the session; `words` say what it does with it.
fn session(lab: &Lab, broker: &Broker, words: &str) -> String {
    let mut process = Command::new("openssl")
        .args(["s_client", "-ign_eof", "-connect"])
        .arg(broker.address().to_string())
        .args(["-servername", "localhost", "-CAfile", &lab.path("ca.crt")])
        .args(words.replace("{lab}", &lab.path("")).split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl is installed");
    let packets = [
        connect("session").encode(Version::V5),
        disconnect().encode(Version::V5),
    ];
    let mut stdin = process.stdin.take().expect("it was piped above");
    stdin.write_all(&packets.concat()).expect("it reads");
    // The broker ends the connection, and with it the process.
    let output = process.wait_with_output().expect("our child");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < DEADLINE, "not in time: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Ends a broker that is expected not to start; what it said.
fn start_fails(lab: &Lab, lines: &[&str]) -> String {
    let lab_dir = lab.0.to_str().expect("we chose the name");
    let text: String = std::iter::once(&format!("listener {} 127.0.0.1", free_port()).as_str())
        .chain(lines)
        .map(|line| line.replace("{lab}", lab_dir) + "\n")
        .collect();
    lab.write("midge.conf", text);
    let output = Command::new("timeout")
        .arg(DEADLINE.as_secs().to_string())
        .arg(program())
        .args(["-c", &lab.path("midge.conf")])
        .output()
        .expect("the program is there");
    assert!(
        output
            .status
            .code()
            .is_some_and(|code| code != 0 && code != 124),
        "{lines:?}: {output:?}"
    );
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn one_way_with_keys_of_every_kind_and_both_versions() {
    let lab = Lab::new();
    for (name, algorithm) in [
        ("rsa", RSA),
        ("ec", EC),
        ("p384", "EC -pkeyopt ec_paramgen_curve:P-384"),
        ("ed", "ED25519"),
    ] {
        lab.server(name, "ca", algorithm);
        let (certfile, keyfile) = (
            format!("certfile {{lab}}/{name}.crt"),
            format!("keyfile {{lab}}/{name}.key"),
        );
        let broker = lab.broker(&[&certfile, &keyfile]);
        lab.round_trip(&broker, "--cafile {lab}/ca.crt");
        for (version, told) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
            let session = session(&lab, &broker, version);
            assert!(
                session.contains(&format!("New, {told}")),
                "{name}: {session}"
            );
            assert!(
                session.contains("Verify return code: 0 (ok)"),
                "{name}: {session}"
            );
        }
    }
}

#[test]
fn chains_are_shown_whole() {
    let lab = Lab::new();
    lab.issue(
        "/CN=between",
        "between",
        "ca",
        Some("basicConstraints=critical,CA:TRUE"),
        "",
    );
    lab.server("below", "between", RSA);
    lab.join("chain.crt", &["below.crt", "between.crt"]);
    let broker = lab.broker(&["certfile {lab}/chain.crt", "keyfile {lab}/below.key"]);
    lab.round_trip(&broker, "--cafile {lab}/ca.crt");
}

#[test]
fn mutual_with_the_common_name_as_user_name() {
    let lab = Lab::new();
    lab.client("sensor");
    lab.issue(
        "/CN=v3",
        "v3",
        "ca",
        Some("extendedKeyUsage=clientAuth"),
        "",
    );
    lab.issue(
        "/CN=between",
        "between",
        "ca",
        Some("basicConstraints=critical,CA:TRUE"),
        "",
    );
    lab.issue("/CN=below", "below", "between", None, "");
    lab.join("below-chain.crt", &["below.crt", "between.crt"]);
    let broker = lab.broker(&[&MUTUAL[..], &["allow_anonymous false"]].concat());
    for (name, certificate) in [
        ("sensor", "sensor.crt"),
        ("v3", "v3.crt"),
        ("below", "below-chain.crt"),
    ] {
        let words = format!(
            "--cafile {{lab}}/ca.crt --cert {{lab}}/{certificate} --key {{lab}}/{name}.key"
        );
        lab.round_trip(&broker, &words);
        for version in ["-tls1_2", "-tls1_3"] {
            let words = format!(
                "{version} -cert_chain {{lab}}/{certificate} -cert {{lab}}/{name}.crt -key {{lab}}/{name}.key"
            );
            let mut tunnel = Tunnel::connect(&lab, &broker, "tunnel", &words);
            tunnel.raw.fence();
        }
        broker.wait_for_log(&format!("u'{name}'"));
    }
    // A user name that the client claims is not looked at.
    let words =
        "--cafile {lab}/ca.crt --cert {lab}/sensor.crt --key {lab}/sensor.key -u root -i claims";
    lab.round_trip(&broker, words);
    assert!(!broker.log_text().contains("u'root'"));
}

#[test]
fn mutual_with_the_subject_as_user_name() {
    let lab = Lab::new();
    lab.issue("/C=DE/O=Works/CN=sensor", "sensor", "ca", None, "");
    let lines: Vec<&str> = MUTUAL
        .iter()
        .map(|line| match *line {
            "use_identity_as_username true" => "use_subject_as_username true",
            line => line,
        })
        .collect();
    let broker = lab.broker(&lines);
    lab.round_trip(
        &broker,
        "--cafile {lab}/ca.crt --cert {lab}/sensor.crt --key {lab}/sensor.key",
    );
    broker.wait_for_log("u'CN=sensor,O=Works,C=DE'");
}

#[test]
fn certificates_without_a_name_are_refused() {
    let lab = Lab::new();
    lab.issue("/O=Works", "nameless", "ca", None, "");
    let broker = lab.broker(&MUTUAL);
    let words = "--cafile {lab}/ca.crt --cert {lab}/nameless.crt --key {lab}/nameless.key";
    lab.refused(
        &broker,
        words,
        "the client's certificate has no common name",
    );
}

#[test]
fn acl_rules_are_those_of_the_certificate() {
    let lab = Lab::new();
    lab.client("reader");
    lab.client("writer");
    lab.write(
        "acl",
        "user writer\ntopic write room/#\nuser reader\ntopic read room/#\n",
    );
    let broker = lab.broker(&[&MUTUAL[..], &["acl_file {lab}/acl"]].concat());
    let of = |name: &str| {
        format!("--cafile {{lab}}/ca.crt --cert {{lab}}/{name}.crt --key {{lab}}/{name}.key")
    };
    for (name, message) in [("reader", "no"), ("writer", "yes")] {
        let words = format!(
            "{} -u writer -V 5 -q 1 -r -t room/lamp -m {message}",
            of(name)
        );
        lab.run(&broker, "mosquitto_pub", &words);
    }
    let received = lab.run(
        &broker,
        "mosquitto_sub",
        &format!("{} -C 1 -t room/lamp", of("reader")),
    );
    assert_eq!(received.stdout, b"yes\n", "{received:?}");
}

#[test]
fn refused_certificates_are_told_of_with_the_reason() {
    let lab = Lab::new();
    lab.client("good");
    lab.issue("/CN=late", "late", "ca", None, "-days -1");
    lab.authority("stranger");
    lab.issue("/CN=foreign", "foreign", "stranger", None, "");
    lab.issue(
        "/CN=server-only",
        "server-only",
        "ca",
        Some("extendedKeyUsage=serverAuth"),
        "",
    );
    lab.client("lost");
    lab.revoke("ca.crl", &["lost"]);
    let broker = lab.broker(&[&MUTUAL[..], &["crlfile {lab}/ca.crl"]].concat());
    // One that nothing of this may disturb.
    let mut other = Tunnel::connect(
        &lab,
        &broker,
        "other",
        "-cert {lab}/good.crt -key {lab}/good.key",
    );
    for (name, reason) in [
        ("late", "certificate expired"),
        ("foreign", "foreign certificate: unknown issuer"),
        ("lost", "certificate revoked"),
        ("server-only", "its extended key usage lacks clientAuth"),
    ] {
        let words =
            format!("--cafile {{lab}}/ca.crt --cert {{lab}}/{name}.crt --key {{lab}}/{name}.key");
        lab.refused(&broker, &words, reason);
        let words = format!("-tls1_2 -cert {{lab}}/{name}.crt -key {{lab}}/{name}.key");
        lab.refused_tunnel(&broker, &words, reason);
        other.raw.fence();
    }
    lab.refused(
        &broker,
        "--cafile {lab}/ca.crt",
        "the client showed no certificate",
    );
    lab.refused_tunnel(&broker, "-tls1_2", "the client showed no certificate");
    other.raw.fence();
}

#[test]
fn a_key_of_1024_bits_is_refused_with_the_reason() {
    let lab = Lab::new();
    lab.key("short", "RSA -pkeyopt rsa_keygen_bits:1024");
    lab.client("short");
    let broker = lab.broker(&MUTUAL);
    // Debian's OpenSSL would not use such a key either, unless told to.
    let words = "-cipher ALL@SECLEVEL=0 -cert {lab}/short.crt -key {lab}/short.key";
    for version in ["-tls1_2", "-tls1_3"] {
        let reason = "unsupported key size: RSA of 1024 bits";
        lab.refused_tunnel(&broker, &format!("{version} {words}"), reason);
    }
}

#[test]
fn dates_of_clients_can_be_ignored_and_nothing_else() {
    let lab = Lab::new();
    lab.issue("/CN=late", "late", "ca", None, "-days -1");
    lab.authority("stranger");
    lab.issue("/CN=foreign", "foreign", "stranger", None, "-days -1");
    let broker = lab.broker(&[&MUTUAL[..], &["disable_client_cert_date_checks true"]].concat());
    lab.round_trip(
        &broker,
        "--cafile {lab}/ca.crt --cert {lab}/late.crt --key {lab}/late.key",
    );
    let words = "--cafile {lab}/ca.crt --cert {lab}/foreign.crt --key {lab}/foreign.key";
    lab.refused(&broker, words, "foreign certificate: unknown issuer");
}

#[test]
fn authorities_in_a_directory() {
    let lab = Lab::new();
    lab.client("sensor");
    fs::create_dir(lab.path("capath")).expect("the directory is ours");
    fs::copy(lab.path("ca.crt"), lab.path("capath/ca.pem")).expect("both are ours");
    lab.openssl("rehash capath");
    let lines: Vec<&str> = MUTUAL
        .iter()
        .map(|line| match *line {
            "cafile {lab}/ca.crt" => "capath {lab}/capath",
            line => line,
        })
        .collect();
    let broker = lab.broker(&lines);
    lab.round_trip(
        &broker,
        "--cafile {lab}/ca.crt --cert {lab}/sensor.crt --key {lab}/sensor.key",
    );
    lab.refused(
        &broker,
        "--cafile {lab}/ca.crt",
        "the client showed no certificate",
    );
}

#[test]
fn plain_text_on_a_tls_port() {
    let lab = Lab::new();
    let broker = lab.broker(&ONE_WAY);
    for bytes in [
        connect("plain").encode(Version::V5),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ] {
        let mut client = broker.open(Version::V5);
        client.send(bytes);
        assert!(
            client.drain_until_closed().is_some(),
            "the connection stays open"
        );
    }
    broker.wait_for_log("plain text on a TLS port");
    lab.round_trip(&broker, "--cafile {lab}/ca.crt");
}

#[test]
fn tls_on_a_plain_port() {
    let lab = Lab::new();
    let broker = lab.broker(&[]);
    let reason = "appears to be using TLS to connect to a non-TLS listener.";
    lab.refused(&broker, "--cafile {lab}/ca.crt", reason);
    lab.round_trip(&broker, "");
}

#[test]
fn sessions_are_resumed_until_the_certificates_change() {
    let lab = Lab::new();
    lab.client("sensor");
    for (version, told) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let (new, reused) = (format!("New, {told}"), format!("Reused, {told}"));
        let broker = lab.broker(&MUTUAL);
        let client = format!("{version} -cert {{lab}}/sensor.crt -key {{lab}}/sensor.key");
        let first = session(
            &lab,
            &broker,
            &format!("{client} -sess_out {{lab}}/session"),
        );
        assert!(first.contains(&new), "{first}");
        let again = format!("{client} -sess_in {{lab}}/session");
        let second = session(&lab, &broker, &again);
        assert!(second.contains(&reused), "{second}");
        broker.wait_for_log_times("u'sensor'", 2);

        // What an older configuration let in is a stranger to the next, whatever has changed.
        broker.signal(Signal::HUP);
        wait_until("new ticket keys", || {
            session(&lab, &broker, &again).contains(&new)
        });
    }
}

#[test]
fn certificates_are_reloaded_without_dropping_a_connection() {
    let lab = Lab::new();
    let broker = lab.broker(&ONE_WAY);
    let mut subscriber = Tunnel::connect(&lab, &broker, "subscriber", "");
    subscriber.raw.subscribe("room/#", 1);

    let serial = |broker: &Broker| {
        let told = session(&lab, broker, "");
        let begin = told.find("-----BEGIN").expect("the server's certificate");
        told[begin..]
            .split("-----END")
            .next()
            .expect("its text")
            .to_owned()
    };
    let before = serial(&broker);
    lab.server("server", "ca", RSA);
    broker.signal(Signal::HUP);
    wait_until("the new certificate", || serial(&broker) != before);
    lab.run(
        &broker,
        "mosquitto_pub",
        "--cafile {lab}/ca.crt -q 1 -t room/lamp -m on",
    );
    let received = subscriber.raw.receive_any();
    assert_eq!(received.payload, b"on");

    // A broken file changes nothing.
    let now = serial(&broker);
    for (file, line) in [
        ("server.crt", "Unable to load server certificate"),
        ("server.key", "Unable to load server key"),
    ] {
        let good = lab.read(file);
        lab.write(file, &good[..good.len() / 2]);
        broker.signal(Signal::HUP);
        broker.wait_for_log(line);
        lab.write(file, good);
        assert_eq!(serial(&broker), now, "{file}");
    }
    subscriber.raw.fence();
}

/// Who is in by the name of a certificate is not, once names are no longer taken from certificates.
#[test]
fn cve_2021_34434_names_of_certificates_switched_off_at_a_reload() {
    let lab = Lab::new();
    lab.client("sensor");
    let broker = lab.broker(&MUTUAL);
    let words = "-cert {lab}/sensor.crt -key {lab}/sensor.key";
    let mut sensor = Tunnel::connect(&lab, &broker, "sensor", words);
    broker.wait_for_log("u'sensor'");
    let lab_dir = lab.0.to_str().expect("we chose the name");
    let lines: Vec<String> = MUTUAL[..4]
        .iter()
        .map(|line| line.replace("{lab}", lab_dir))
        .chain(["allow_anonymous false".to_owned()])
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    broker.configure(&lines);
    broker.reload();
    assert!(sensor.raw.drain_until_closed().is_some());
    broker.wait_for_log("disconnected: administrative action.");
}

/// An authority file that is empty or damaged never means that everybody is let in, at a reload neither.
#[test]
fn march_2021_broken_authorities_at_a_reload_change_nothing() {
    let lab = Lab::new();
    lab.client("good");
    lab.authority("foreign");
    lab.issue("/CN=stranger", "stranger", "foreign", None, "");
    let broker = lab.broker(&MUTUAL);
    let good = "--cafile {lab}/ca.crt --cert {lab}/good.crt --key {lab}/good.key";
    let stranger = "--cafile {lab}/ca.crt --cert {lab}/stranger.crt --key {lab}/stranger.key";
    let whole = lab.read("ca.crt");
    let half = whole[..whole.len() / 2].to_vec();
    for (count, broken) in [vec![], half, b"no certificate\n".to_vec()]
        .iter()
        .enumerate()
    {
        lab.write("ca.new", broken);
        fs::rename(lab.path("ca.new"), lab.path("ca.crt")).expect("the directory is ours");
        broker.signal(Signal::HUP);
        broker.wait_for_log_times("The configuration was not reloaded", count + 1);
        lab.write("ca.new", &whole);
        fs::rename(lab.path("ca.new"), lab.path("ca.crt")).expect("the directory is ours");
        lab.refused(&broker, stranger, "disconnected: ");
        lab.round_trip(&broker, good);
    }
}

#[test]
fn a_client_that_is_revoked_at_a_reload_is_disconnected() {
    let lab = Lab::new();
    lab.client("good");
    lab.client("lost");
    lab.revoke("ca.crl", &[]);
    let broker = lab.broker(&[&MUTUAL[..], &["crlfile {lab}/ca.crl"]].concat());
    let of = |name: &str| format!("-cert {{lab}}/{name}.crt -key {{lab}}/{name}.key");
    let mut good = Tunnel::connect(&lab, &broker, "good", &of("good"));
    let mut lost = Tunnel::connect(&lab, &broker, "lost", &of("lost"));

    // An empty list is a broken one: nothing changes.
    lab.write("ca.crl", "");
    broker.signal(Signal::HUP);
    broker.wait_for_log("Unable to load certificate revocation file");
    lost.raw.fence();

    lab.revoke("ca.crl", &["lost"]);
    broker.signal(Signal::HUP);
    assert!(
        lost.raw.drain_until_closed().is_some(),
        "a revoked client is still connected"
    );
    broker.wait_for_log("certificate revoked");
    good.raw.fence();
    let words = "--cafile {lab}/ca.crt --cert {lab}/lost.crt --key {lab}/lost.key";
    lab.refused(&broker, words, "certificate revoked");
}

/// The beginning of a ClientHello: a whole record was announced.
fn half_a_hello() -> Vec<u8> {
    let mut bytes = b"\x16\x03\x01\x01\xfc\x01\x00\x01\xf8\x03\x03".to_vec();
    bytes.resize(200, 7);
    bytes
}

#[test]
fn half_a_handshake_is_small_and_disturbs_nobody() {
    const CLIENTS: u64 = 400;
    /// KiB of memory for a connection in the middle of its handshake.
    const KIB_EACH: u64 = 16;
    let lab = Lab::new();
    let broker = lab.broker(&ONE_WAY);
    let mut other = Tunnel::connect(&lab, &broker, "other", "");
    let before = broker.status("VmRSS");
    let halves: Vec<Raw> = (0..CLIENTS)
        .map(|_| {
            let mut half = broker.open(Version::V5);
            half.send(half_a_hello());
            half
        })
        .collect();
    other.raw.fence();
    // Those that came last may not have been served yet.
    wait_until("all are accepted", || {
        broker.log_text().matches("New connection from").count() >= halves.len()
    });
    other.raw.fence();
    let grown = broker.status("VmRSS").saturating_sub(before);
    assert!(
        grown < CLIENTS * KIB_EACH,
        "{grown} KiB for {CLIENTS} halves of a handshake"
    );
}

#[test]
#[ignore = "takes the connect timeout, a minute: `cargo test --test integration connect_timeout -- --ignored`"]
fn half_a_handshake_ends_at_the_connect_timeout() {
    let lab = Lab::new();
    let broker = lab.broker(&ONE_WAY);
    let mut half = broker.open(Version::V5);
    half.send(half_a_hello());
    let silent = broker.open(Version::V5);
    // Through the handshake, and then nothing.
    let idle = Tunnel::open(&lab, &broker, Version::V5, "");
    half.expect_silence(Duration::from_secs(50));
    for mut client in [half, silent] {
        wait_until("the end at the connect timeout", || {
            client.drain_until_closed().is_some()
        });
    }
    drop(idle);
    lab.round_trip(&broker, "--cafile {lab}/ca.crt");
}

#[test]
fn damaged_handshakes_disturb_nobody() {
    let lab = Lab::new();
    let broker = lab.broker(&ONE_WAY);
    let mut other = Tunnel::connect(&lab, &broker, "other", "");
    let mut whole = half_a_hello();
    whole.resize(5 + 0x1fc, 9);
    for bytes in [
        whole,
        b"\x16\x03\x01\xff\xff\x01".to_vec(),
        b"\x16\x03\x01\x00\x00".to_vec(),
        b"\x15\x03\x01\x00\x02\x02\x28".to_vec(),
        b"\x17\x03\x03\x00\x10aaaaaaaaaaaaaaaa".to_vec(),
        vec![0; 4096],
    ] {
        let mut client = broker.open(Version::V5);
        client.send(bytes);
        client.shutdown_send();
        assert!(
            client.drain_until_closed().is_some(),
            "the connection stays open"
        );
    }
    // In the middle of everything, the socket goes.
    for _ in 0..20 {
        let mut client = broker.open(Version::V5);
        client.send(half_a_hello());
        drop(client);
    }
    other.raw.fence();
    lab.round_trip(&broker, "--cafile {lab}/ca.crt");
}

#[test]
fn large_messages_come_through_whole() {
    let lab = Lab::new();
    let broker = lab.broker(&ONE_WAY);
    let mut subscriber = Tunnel::connect(&lab, &broker, "subscriber", "");
    subscriber.raw.subscribe("bulk", 0);
    // Larger than a record, a socket buffer and the ring.
    let payload: Vec<u8> = (0..1_900_000u32).map(|i| (i * 31 % 251) as u8).collect();
    lab.write("payload", &payload);
    let published = lab.run(
        &broker,
        "mosquitto_pub",
        "--cafile {lab}/ca.crt -t bulk -f {lab}/payload",
    );
    assert!(published.status.success(), "{published:?}");
    let received = subscriber.raw.expect_publish();
    assert!(
        received.payload == payload,
        "{} bytes came",
        received.payload.len()
    );
}

#[test]
fn the_protocol_mqtt_may_be_offered_and_others_too() {
    let lab = Lab::new();
    let broker = lab.broker(&ONE_WAY);
    for protocol in ["mqtt", "http/1.1", "mqtt,http/1.1"] {
        let told = session(&lab, &broker, &format!("-alpn {protocol}"));
        assert!(told.contains("New, TLSv1.3"), "{protocol}: {told}");
    }
    lab.round_trip(&broker, "--cafile {lab}/ca.crt --tls-alpn mqtt");
}

#[test]
fn versions_and_ciphers_can_be_limited() {
    let lab = Lab::new();
    let broker = lab.broker(&[&ONE_WAY[..], &["tls_version tlsv1.3"]].concat());
    lab.round_trip(&broker, "--cafile {lab}/ca.crt");
    lab.refused_tunnel(&broker, "-tls1_2", "no TLS version in common");
    let ciphers = ["ciphers ECDHE-ECDSA-AES128-GCM-SHA256:AES128-SHA"];
    let broker = lab.broker(&[&ONE_WAY[..], &ciphers].concat());
    broker.wait_for_log("'AES128-SHA' is not available");
    let told = session(&lab, &broker, "-tls1_2");
    assert!(
        told.contains("Cipher is ECDHE-ECDSA-AES128-GCM-SHA256"),
        "{told}"
    );
    let words = "-tls1_2 -cipher ECDHE-ECDSA-AES256-GCM-SHA384";
    lab.refused_tunnel(&broker, words, "no cipher suite in common");
    let broker = lab.broker(
        &[
            &ONE_WAY[..],
            &["ciphers_tls1.3 TLS_CHACHA20_POLY1305_SHA256"],
        ]
        .concat(),
    );
    let told = session(&lab, &broker, "-tls1_3");
    assert!(
        told.contains("Cipher is TLS_CHACHA20_POLY1305_SHA256"),
        "{told}"
    );
}

#[test]
fn secrets_are_logged_for_those_who_ask() {
    let lab = Lab::new();
    let broker = lab.broker_in_shell("exec \"$@\" --tls-keylog {lab}/keys", &ONE_WAY);
    lab.round_trip(&broker, "--cafile {lab}/ca.crt");
    let keys = String::from_utf8(lab.read("keys")).expect("text");
    assert!(keys.contains("CLIENT_TRAFFIC_SECRET_0 "), "{keys}");
}

#[test]
fn files_that_cannot_be_used_end_the_start() {
    let lab = Lab::new();
    lab.key("short", "RSA -pkeyopt rsa_keygen_bits:1024");
    lab.client("short");
    lab.key("other", EC);
    lab.openssl("pkcs8 -topk8 -in server.key -passout pass:secret -out encrypted.key");
    lab.open("encrypted.key");
    lab.issue("/CN=localhost", "sha1", "ca", None, "-sha1");
    lab.write("empty", "");
    for (lines, expected) in [
        (
            &["certfile {lab}/short.crt", "keyfile {lab}/short.key"][..],
            "1024 bits is too short",
        ),
        (
            &["certfile {lab}/server.crt", "keyfile {lab}/other.key"],
            "inconsistent",
        ),
        (
            &["certfile {lab}/server.crt", "keyfile {lab}/encrypted.key"],
            "openssl pkey -in",
        ),
        (
            &["certfile {lab}/sha1.crt", "keyfile {lab}/sha1.key"],
            "SHA-1",
        ),
        (
            &["certfile {lab}/empty", "keyfile {lab}/server.key"],
            "the file is empty",
        ),
        (
            &["certfile {lab}/none", "keyfile {lab}/server.key"],
            "No such file",
        ),
        (
            &[
                "certfile {lab}/server.crt",
                "keyfile {lab}/server.key",
                "cafile {lab}/empty",
                "require_certificate true",
            ],
            "Unable to load CA certificates",
        ),
        (
            &[
                "certfile {lab}/server.crt",
                "keyfile {lab}/server.key",
                "require_certificate true",
            ],
            "requires 'cafile' or 'capath'",
        ),
        (
            &[
                "certfile {lab}/server.crt",
                "keyfile {lab}/server.key",
                "cafile {lab}/ca.crt",
                "crlfile {lab}/empty",
                "require_certificate true",
            ],
            "Check crlfile.",
        ),
        (
            &[
                "certfile {lab}/server.crt",
                "keyfile {lab}/server.key",
                "ciphers RC4",
            ],
            "Unable to set TLS ciphers",
        ),
    ] {
        let said = start_fails(&lab, lines);
        assert!(said.contains(expected), "{lines:?}: {said}");
    }
}

#[test]
fn an_expired_server_certificate_is_warned_of() {
    let lab = Lab::new();
    lab.issue("/CN=localhost", "server", "ca", None, "-days -1");
    let broker = lab.broker(&ONE_WAY);
    broker.wait_for_log("has expired: clients will refuse it");
}

/// A session of who came with a certificate is that certificate's: another one, as good, neither resumes nor ends it.
#[test]
fn mosquitto_3551_a_session_of_a_certificate_is_its_owners() {
    let lab = Lab::new();
    lab.client("alice");
    lab.client("bob");
    let broker = lab.broker(&MUTUAL);
    let enter = |name: &str, packet: Connect| {
        let words = format!("-cert {{lab}}/{name}.crt -key {{lab}}/{name}.key");
        let mut tunnel = Tunnel::open(&lab, &broker, Version::V5, &words);
        tunnel.raw.send(packet);
        tunnel.raw.connack = tunnel.raw.expect_connack();
        tunnel
    };
    let mut alice = enter("alice", connect("shared").persistent());
    alice.raw.subscribe("a", 1);
    for packet in [connect("shared"), connect("shared").persistent()] {
        // What a client calls itself besides its certificate does not count.
        let bob = enter("bob", packet.username("alice"));
        assert_eq!(bob.raw.connack.reason, 0x85);
        alice.raw.fence();
    }
    let again = enter("alice", connect("shared").persistent());
    assert!(again.raw.connack.session_present);
}

/// Connections whose other end is gone in the middle of what is written to them are nobody else's trouble.
#[test]
fn ends_in_the_middle_of_a_tls_write() {
    let lab = Lab::new();
    let broker = lab.broker(&ONE_WAY);
    let mut publisher = Tunnel::connect(&lab, &broker, "publisher", "");
    let mut other = Tunnel::connect(&lab, &broker, "other", "");
    other.raw.subscribe("fence", 1);
    for round in 1..=5 {
        let mut gone = Tunnel::connect(&lab, &broker, "gone", "");
        gone.raw.subscribe("large", 1);
        let message = publish("large", vec![b'x'; 500_000]).qos(1);
        for id in 1..=20 {
            publisher.raw.publish(&message.clone().packet_id(id));
            if id == 10 {
                gone.process.kill().expect("it is our child");
            }
        }
        let fence = publish("fence", "x").qos(1).packet_id(round);
        publisher.raw.publish(&fence);
        other.raw.receive(&fence);
    }
}
