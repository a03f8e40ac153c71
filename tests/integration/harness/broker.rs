//! One broker process: its configuration, its port, its log, its end.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Connect, DEADLINE, Raw, Version, connect};

/// How long to wait before looking again at what gives no event: a port not yet open, a process not yet ended.
const POLL: Duration = Duration::from_millis(5);

/// A free port can be taken by somebody else before the broker has it; then another one is tried.
const START_ATTEMPTS: usize = 5;

/// The name of the configuration in the broker's directory.
const CONFIG: &str = "midge.conf";

/// The line of shell that starts a broker with its configuration.
const BECOME_BROKER: &str = "exec \"$@\"";

/// The last line of a reload that went well.
const RELOADED: &str = "Config reloaded.";

/// What stands in the last line of a reload that did not.
const NOT_RELOADED: &str = "The configuration was not reloaded";

/// A running broker. Dropping it ends it with SIGTERM and asserts that it exits with code 0.
pub struct Broker {
    process: Child,
    address: SocketAddr,
    dir: PathBuf,
    log: Arc<Log>,
    ended: bool,
    /// Whether the directory outlives it.
    keeps_dir: bool,
}

/// The lines that a broker wrote to standard error so far.
#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    grown: Condvar,
}

impl Broker {
    /// Starts a broker with these lines of configuration, and waits until it accepts connections.
    ///
    /// It listens on a free loopback port, admits anonymous clients and logs everything, unless a line begins with
    /// `listener`, `allow_anonymous` or `log_type`. In a line, `{port}` is the free port and `{dir}` a directory
    /// that goes when the broker goes.
    pub fn start(lines: &[&str]) -> Broker {
        Broker::start_with(lines, &[])
    }

    /// [`Broker::start`] with files in its directory, each a name and a text, which the configuration can name as
    /// `{dir}/name`.
    pub fn start_with(lines: &[&str], files: &[(&str, &str)]) -> Broker {
        Broker::start_as(BECOME_BROKER, lines, files)
    }

    /// [`Broker::start`] by a line of shell, in which `exec "$@"` becomes the broker and `{dir}` is its directory:
    /// for what the broker inherits, such as limits and closed files.
    pub fn start_in_shell(shell: &str, lines: &[&str]) -> Broker {
        Broker::start_as(shell, lines, &[])
    }

    /// [`Broker::start_in_shell`] with files as [`Broker::start_with`]: for a broker that is started with other
    /// arguments. In the shell line and the files, too, `{port}` and `{dir}` are replaced; `"$1"` is the broker.
    pub fn start_as(shell: &str, lines: &[&str], files: &[(&str, &str)]) -> Broker {
        for _ in 0..START_ATTEMPTS {
            let dir = new_dir();
            let port = free_port();
            for (name, text) in files {
                write(&dir, name, &fill_in(text, port, &dir));
            }
            if let Some(broker) = Broker::spawn(shell, lines, dir, port, &[]).if_ready() {
                return broker;
            }
        }
        panic!("no free port in {START_ATTEMPTS} attempts");
    }

    /// [`Broker::start`] in a directory that is there already and stays when the broker goes, so that another can go on
    /// with what it left; with these variables added to its environment.
    pub fn start_in(dir: &Path, lines: &[&str], environment: &[(String, String)]) -> Broker {
        for _ in 0..START_ATTEMPTS {
            let (dir, port) = (dir.to_owned(), free_port());
            let mut broker = Broker::spawn(BECOME_BROKER, lines, dir, port, environment);
            broker.keeps_dir = true;
            if let Some(broker) = broker.if_ready() {
                return broker;
            }
        }
        panic!("no free port in {START_ATTEMPTS} attempts");
    }

    fn spawn(
        shell: &str,
        lines: &[&str],
        dir: PathBuf,
        port: u16,
        environment: &[(String, String)],
    ) -> Broker {
        let config = dir.join(CONFIG);
        write(&dir, CONFIG, &config_text(lines, port, &dir));
        let shell = fill_in(shell, port, &dir);
        let mut process = Command::new("sh")
            .args(["-c", &shell, "sh", &program(), "-c"])
            .arg(&config)
            .envs(environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program()));
        let log = Arc::new(Log::default());
        let stderr = process.stderr.take().expect("it was piped above");
        thread::spawn({
            let log = Arc::clone(&log);
            move || log.collect(BufReader::new(stderr))
        });
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Broker {
            process,
            address,
            dir,
            log,
            ended: false,
            keeps_dir: false,
        }
    }

    /// The broker once it accepts connections; `None` if somebody else has taken its port.
    fn if_ready(mut self) -> Option<Broker> {
        if self.is_ready() {
            return Some(self);
        }
        assert!(
            self.log_text().contains("Address already in use"),
            "the broker ended at its start:\n{}",
            self.log_text()
        );
        None
    }

    /// Whether the broker accepts connections in time; `false` means that it ended instead.
    fn is_ready(&mut self) -> bool {
        let start = Instant::now();
        while start.elapsed() < DEADLINE {
            let probe = TcpStream::connect(self.address);
            if self
                .process
                .try_wait()
                .expect("the process is our child")
                .is_some()
            {
                self.ended = true;
                self.log
                    .wait_for("Address already in use", 1, Duration::from_millis(200));
                return false;
            }
            // A port that nobody listens on can, on loopback, be connected with itself.
            if probe.is_ok_and(|stream| stream.local_addr().is_ok_and(|own| own != self.address)) {
                return true;
            }
            thread::sleep(POLL);
        }
        panic!("the broker did not open its port:\n{}", self.log_text());
    }

    /// Its process id, to look it up in `/proc`.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// A client with an open connection that has sent nothing yet, and will speak `version`.
    pub fn open(&self, version: Version) -> Raw {
        Raw::open(self.address, version)
    }

    /// A client that the broker has accepted, with a clean start, no will and no keep alive.
    pub fn connect(&self, version: Version, client_id: &str) -> Raw {
        self.connect_with(version, connect(client_id))
    }

    /// [`Broker::connect`] with MQTT 3.1.1.
    pub fn connect_v3(&self, client_id: &str) -> Raw {
        self.connect(Version::V311, client_id)
    }

    /// [`Broker::connect`] with MQTT 5.0.
    pub fn connect_v5(&self, client_id: &str) -> Raw {
        self.connect(Version::V5, client_id)
    }

    /// A client whose `connect` the broker has accepted; what it answered is in [`Raw::connack`].
    pub fn connect_with(&self, version: Version, connect: Connect) -> Raw {
        let mut client = self.open(version);
        client.send(connect);
        let connack = client.expect_connack();
        assert_eq!(connack.reason, 0, "the broker refused: {connack:?}");
        client.connack = connack;
        client
    }

    /// A client like [`Broker::connect`] that is subscribed to `filter` with these Subscription Options.
    #[track_caller]
    pub fn subscriber(&self, version: Version, client_id: &str, filter: &str, options: u8) -> Raw {
        let mut client = self.connect(version, client_id);
        client.subscribe(filter, options);
        client
    }

    /// Waits for a log line that contains `text`, and returns the first.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) -> String {
        self.wait_for_log_times(text, 1)
    }

    /// Waits until so many log lines contain `text`, and returns the last of them.
    #[track_caller]
    pub fn wait_for_log_times(&self, text: &str, times: usize) -> String {
        let found = self.log.wait_for(text, times, DEADLINE);
        found.unwrap_or_else(|| {
            let log = self.log_text();
            panic!("there are not {times} log lines with {text:?}:\n{log}")
        })
    }

    /// How many log lines contain `text` so far.
    pub fn count_log(&self, text: &str) -> usize {
        let lines = self.log.lines.lock().expect("no holder panics");
        lines.iter().filter(|line| line.contains(text)).count()
    }

    /// Replaces a file of its directory at once, as by an editor that renames.
    pub fn write(&self, name: &str, text: &str) {
        write(
            &self.dir,
            name,
            &fill_in(text, self.address.port(), &self.dir),
        );
    }

    /// Replaces its configuration with what [`Broker::start`] makes of these lines; it counts from the next reload.
    pub fn configure(&self, lines: &[&str]) {
        let text = config_text(lines, self.address.port(), &self.dir);
        write(&self.dir, CONFIG, &text);
    }

    /// Has it read its files again, and waits until they are in force.
    #[track_caller]
    pub fn reload(&self) {
        let before = self.count_log(RELOADED);
        self.signal(Signal::HUP);
        self.wait_for_log_times(RELOADED, before + 1);
    }

    /// Has it read its files again, and waits until it says that it goes on as before; returns what it said was wrong.
    #[track_caller]
    pub fn reload_refused(&self) -> String {
        let before = self.count_log(NOT_RELOADED);
        self.signal(Signal::HUP);
        self.wait_for_log_times(NOT_RELOADED, before + 1);
        let log = self.log_text();
        let (said, _) = log.rsplit_once(NOT_RELOADED).expect("it was waited for");
        let (_, said) = said.rsplit_once("Reloading config").unwrap_or(("", said));
        said.to_owned()
    }

    /// All log lines so far.
    pub fn log_text(&self) -> String {
        self.log.lines.lock().expect("no holder panics").join("\n")
    }

    /// What it said until it ran, as [`Broker::log_text`]; its lines may come later than its first answers.
    #[track_caller]
    pub fn log_of_start(&self) -> String {
        self.wait_for_log(" running");
        self.log_text()
    }

    /// Sends a signal to the broker.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).expect("the process is our child");
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The directory that is `{dir}` in its configuration.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Ends the broker with SIGTERM and says how it exited.
    pub fn stop(mut self) -> ExitStatus {
        self.terminate()
    }

    /// Ends the broker with `signal` and says how it exited.
    pub fn stop_by(mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        self.wait()
    }

    fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for the broker to end by itself.
    fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        while start.elapsed() < DEADLINE {
            if let Some(status) = self.process.try_wait().expect("the process is our child") {
                self.ended = true;
                return status;
            }
            thread::sleep(POLL);
        }
        panic!("the broker did not end:\n{}", self.log_text());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let failing = thread::panicking();
        if failing {
            eprintln!("--- log of the broker\n{}\n---", self.log_text());
        }
        let status = (!self.ended && !failing).then(|| self.terminate());
        if !self.ended {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
        if !self.keeps_dir {
            let _ = fs::remove_dir_all(&self.dir);
        }
        if let Some(status) = status {
            assert!(
                status.success(),
                "the broker ended with {status}:\n{}",
                self.log_text()
            );
        }
    }
}

impl Log {
    fn collect(&self, stderr: impl BufRead) {
        for line in stderr.split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            self.lines.lock().expect("no holder panics").push(line);
            self.grown.notify_all();
        }
    }

    /// The line that contains `text` the `times`th time, if it comes.
    fn wait_for(&self, text: &str, times: usize, patience: Duration) -> Option<String> {
        let lines = self.lines.lock().expect("no holder panics");
        let find = |lines: &[String]| {
            let mut found = lines.iter().filter(|line| line.contains(text));
            found.nth(times - 1).cloned()
        };
        let (lines, _) = self
            .grown
            .wait_timeout_while(lines, patience, |lines| find(lines).is_none())
            .expect("no holder panics");
        find(&lines)
    }
}

/// The broker under test.
pub fn program() -> String {
    std::env::var("MIDGE_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_midge").into())
}

fn config_text(lines: &[&str], port: u16, dir: &Path) -> String {
    let says = |option: &str| {
        lines
            .iter()
            .any(|line| line.split(' ').next() == Some(option))
    };
    let defaults = [
        "listener {port} 127.0.0.1",
        "allow_anonymous true",
        "log_type all",
    ];
    let defaults = defaults
        .iter()
        .filter(|line| !line.split(' ').next().is_some_and(says));
    let text: String = defaults
        .chain(lines)
        .map(|line| format!("{line}\n"))
        .collect();
    fill_in(&text, port, dir)
}

/// `text` with the broker's port for `{port}` and its directory for `{dir}`.
fn fill_in(text: &str, port: u16, dir: &Path) -> String {
    let dir = dir.to_str().expect("we chose the name");
    text.replace("{port}", &port.to_string())
        .replace("{dir}", dir)
}

/// Writes a file that is either as it was or all there, whoever reads it when.
fn write(dir: &Path, name: &str, text: &str) {
    let new = dir.join(format!("{name}.new"));
    fs::write(&new, text).expect("the temporary directory is ours");
    fs::rename(&new, dir.join(name)).expect("it is in the same directory");
}

/// A port that was free a moment ago, and that no other test of this process was given.
pub fn free_port() -> u16 {
    static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let port = listener.local_addr().expect("it is bound").port();
        if GIVEN.lock().expect("no holder panics").insert(port) {
            return port;
        }
    }
}

/// A new directory that a broker which gave up its privileges can still enter.
pub fn new_dir() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("midge-test-{}-{number}", std::process::id());
    let dir = std::env::temp_dir().join(name);
    // A process with this number may have left one when it failed.
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("the temporary directory can be written");
    dir
}
