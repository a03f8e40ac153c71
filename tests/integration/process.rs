//! The process as others see it: its number in a file, its user, what it tells systemd, and its life in the background.
//!
//! What needs root is left out for everybody else.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::harness::*;

/// A directory that everybody may write to, and that goes at the end.
struct OpenDir(PathBuf);

impl OpenDir {
    fn new() -> OpenDir {
        let dir = new_dir();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).expect("it is ours");
        OpenDir(dir)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for OpenDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn is_root() -> bool {
    geteuid().is_root()
}

/// Looks again until `is_it` or the deadline.
fn eventually(mut is_it: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < DEADLINE {
        if is_it() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

/// Runs a broker that cannot start with these lines: its exit code and what it said.
fn start_that_fails(dir: &OpenDir, lines: &[&str], arguments: &[&str]) -> (Option<i32>, String) {
    let config = dir.file("bad.conf");
    let port = free_port();
    let text = format!("listener {port} 127.0.0.1\n{}\n", lines.join("\n"));
    fs::write(&config, text).expect("the directory is ours");
    let mut child = Command::new(program())
        .arg("-c")
        .arg(&config)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the broker is there");
    let mut status = None;
    let ended = eventually(|| {
        status = child.try_wait().expect("it is our child");
        status.is_some()
    });
    if !ended {
        let _ = child.kill();
    }
    let mut text = String::new();
    child
        .stderr
        .take()
        .expect("it is piped")
        .read_to_string(&mut text)
        .expect("text");
    let _ = child.wait();
    assert!(ended, "it started:\n{text}");
    (status.and_then(|status| status.code()), text)
}

fn line(option: &str, path: &Path) -> String {
    format!("{option} {}", path.display())
}

#[test]
fn pid_file() {
    let dir = OpenDir::new();
    let path = dir.file("midge.pid");
    let broker = Broker::start(&[&line("pid_file", &path)]);
    let text = fs::read_to_string(&path).expect("it was written");
    assert_eq!(text, broker.pid().to_string(), "no line end");
    assert_eq!(
        fs::metadata(&path).expect("it is there").mode() & 0o777,
        0o644
    );
    assert!(broker.stop().success());
    assert!(!path.exists());
}

#[test]
fn a_pid_file_that_cannot_be_written() {
    let dir = OpenDir::new();
    let precious = dir.file("precious");
    fs::write(&precious, "kept").expect("the directory is ours");
    let link = dir.file("link");
    symlink(&precious, &link).expect("the directory is ours");
    for (path, reason) in [
        (link, "it is a symbolic link"),
        (dir.0.clone(), "Is a directory"),
        (dir.file("a/b"), "No such file or directory"),
    ] {
        let (code, text) = start_that_fails(&dir, &[&line("pid_file", &path)], &[]);
        assert_eq!(code, Some(1), "{text}");
        let expected = format!(
            "Error: Unable to write pid file {}: {reason}.",
            path.display()
        );
        assert!(text.contains(&expected), "{text}");
    }
    assert_eq!(fs::read_to_string(&precious).expect("it is there"), "kept");
}

/// The four user ids, or group ids, in `/proc/PID/status`.
fn ids(broker: &Broker, name: &str) -> Vec<u32> {
    let status = broker.proc("status");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .expect("proc(5)");
    line.split_whitespace()
        .map(|id| id.parse().expect("proc(5)"))
        .collect()
}

/// The user and group ids of an account.
fn account(name: &str) -> Option<(u32, u32)> {
    let accounts = fs::read_to_string("/etc/passwd").ok()?;
    let line = accounts
        .lines()
        .find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2).map(|field| field.parse().ok());
    Some((fields.next()??, fields.next()??))
}

#[test]
fn root_is_given_up() {
    if !is_root() {
        return;
    }
    let broker = Broker::start(&["user nobody"]);
    let (user, group) = account("nobody").expect("every machine has it");
    broker.wait_for_log("Info: running mosquitto as user: nobody.");
    assert_eq!(ids(&broker, "Uid:"), [user; 4]);
    assert_eq!(ids(&broker, "Gid:"), [group; 4]);
    assert!(ids(&broker, "Groups:").iter().all(|id| *id == group));
    let capabilities = broker.proc("status");
    assert!(
        capabilities.contains("CapEff:\t0000000000000000"),
        "{capabilities}"
    );
    broker.connect_v5("client").fence();
}

/// Every thread has given it up, not just the one that asked.
#[test]
fn no_thread_keeps_root() {
    if !is_root() {
        return;
    }
    let broker = Broker::start(&["user nobody"]);
    broker.wait_for_log("Info: running mosquitto as user: nobody.");
    let (user, _) = account("nobody").expect("every machine has it");
    let tasks = fs::read_dir(format!("/proc/{}/task", broker.pid())).expect("it runs");
    let mut count = 0;
    for task in tasks.flatten() {
        let status = fs::read_to_string(task.path().join("status")).expect("it runs");
        assert!(
            status.contains(&format!("Uid:\t{user}\t{user}\t{user}\t{user}")),
            "{status}"
        );
        count += 1;
    }
    assert!(count > 1, "the log has a thread of its own");
}

#[test]
fn without_a_word_the_user_is_mosquitto_or_nobody() {
    if !is_root() {
        return;
    }
    let broker = Broker::start(&[]);
    let (name, (user, _)) = match account("mosquitto") {
        Some(account) => ("mosquitto", account),
        None => ("nobody", account("nobody").expect("every machine has it")),
    };
    broker.wait_for_log(&format!("Info: running mosquitto as user: {name}."));
    assert_eq!(ids(&broker, "Uid:"), [user; 4]);
}

#[test]
fn root_that_stays_is_warned_of() {
    if !is_root() {
        return;
    }
    let broker = Broker::start(&["user root"]);
    broker.wait_for_log("Warning: Mosquitto should not be run as root/administrator.");
    assert_eq!(ids(&broker, "Uid:"), [0; 4]);
    let broker = Broker::start_in_shell("SNAP_NAME=mosquitto exec \"$@\"", &[]);
    assert_eq!(ids(&broker, "Uid:"), [0; 4]);
}

#[test]
fn ids_of_the_environment() {
    if !is_root() {
        return;
    }
    let shell = "PUID=51883 PGID=51884 exec \"$@\"";
    let broker = Broker::start_in_shell(shell, &["user nobody"]);
    broker.wait_for_log("Info: running mosquitto as user id: 51883.");
    assert_eq!(ids(&broker, "Uid:"), [51883; 4]);
    assert_eq!(ids(&broker, "Gid:"), [51884; 4]);
    assert_eq!(ids(&broker, "Groups:"), [51884]);
}

#[test]
fn a_user_that_is_not_there() {
    if !is_root() {
        return;
    }
    let dir = OpenDir::new();
    let (code, text) = start_that_fails(&dir, &["user no-such-user"], &[]);
    assert_eq!(code, Some(1), "{text}");
    let expected =
        "Error: Unable to drop privileges to 'no-such-user' because this user does not exist.";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn who_is_not_root_stays_who_they_are() {
    if is_root() {
        return;
    }
    let broker = Broker::start(&["user nobody"]);
    assert_eq!(ids(&broker, "Uid:")[0], geteuid().as_raw());
}

#[test]
fn mask_of_new_files() {
    let broker = Broker::start_in_shell("UMASK_SET=0137 exec \"$@\"", &[]);
    assert_eq!(umask(&broker), "0137");
    let broker = Broker::start_in_shell("umask 027; exec \"$@\"", &[]);
    assert_eq!(umask(&broker), "0027");
}

fn umask(broker: &Broker) -> String {
    let status = broker.proc("status");
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.expect("proc(5)").trim().to_owned()
}

/// Somebody who is told what the broker does, as systemd is.
struct Manager {
    dir: OpenDir,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Manager {
        let dir = OpenDir::new();
        let path = dir.file("notify");
        let socket = UnixDatagram::bind(&path).expect("the directory is ours");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("it is ours");
        socket.set_read_timeout(Some(DEADLINE)).expect("not zero");
        Manager { dir, socket }
    }

    /// The shell's words that have the broker speak to it.
    fn shell(&self, more: &str) -> String {
        let path = self.dir.file("notify");
        format!("NOTIFY_SOCKET='{}' {more} exec \"$@\"", path.display())
    }

    /// Waits for a message that has the line `text`, and returns it.
    #[track_caller]
    fn wait_for(&self, text: &str) -> String {
        let mut buffer = [0; 4096];
        let start = Instant::now();
        while start.elapsed() < DEADLINE {
            let length = self.socket.recv(&mut buffer).expect("the broker says more");
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if message.lines().any(|line| line.starts_with(text)) {
                return message;
            }
        }
        panic!("nobody said {text}");
    }
}

#[test]
fn systemd_is_told() {
    let manager = Manager::new();
    let broker = Broker::start_in_shell(&manager.shell(""), &[]);
    manager.wait_for("READY=1");
    broker.connect_v5("client").fence();
    broker.signal(Signal::HUP);
    let reloading = manager.wait_for("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    manager.wait_for("READY=1");
    assert!(broker.stop().success());
    manager.wait_for("STOPPING=1");
}

#[test]
fn the_watchdog_is_fed() {
    let manager = Manager::new();
    let shell = manager.shell("WATCHDOG_PID=$$ WATCHDOG_USEC=200000");
    let _broker = Broker::start_in_shell(&shell, &["sys_interval 0"]);
    manager.wait_for("READY=1");
    let start = Instant::now();
    for _ in 0..5 {
        manager.wait_for("WATCHDOG=1");
    }
    assert!(
        start.elapsed() >= Duration::from_millis(200),
        "no more than twice in time"
    );
}

/// Without a watchdog, or with somebody else's, the broker sleeps.
#[test]
fn a_watchdog_of_somebody_else() {
    let manager = Manager::new();
    let shell = manager.shell("WATCHDOG_PID=1 WATCHDOG_USEC=10000");
    let broker = Broker::start_in_shell(&shell, &["sys_interval 0"]);
    manager.wait_for("READY=1");
    broker.assert_sleeps();
}

/// In the background, the pid file has the number of the process that stays, which is there when the caller is let go.
#[test]
fn in_the_background() {
    let dir = OpenDir::new();
    let (config, pid_file) = (dir.file("midge.conf"), dir.file("midge.pid"));
    let port = free_port();
    let text = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\npid_file {}\n",
        pid_file.display()
    );
    fs::write(&config, text).expect("the directory is ours");
    let status = Command::new(program())
        .arg("-d")
        .arg("-c")
        .arg(&config)
        .stdin(Stdio::null())
        .status()
        .expect("the broker is there");
    assert!(status.success());
    assert!(eventually(|| {
        fs::read_to_string(&pid_file).is_ok_and(|text| !text.is_empty())
    }));
    let text = fs::read_to_string(&pid_file).expect("it was written");
    let pid = Pid::from_raw(text.parse().expect("a number")).expect("not 0");
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    assert!(eventually(|| std::net::TcpStream::connect(address).is_ok()));
    kill_process(pid, Signal::TERM).expect("it runs");
    assert!(eventually(|| !pid_file.exists()));
}

/// A start that fails is the caller's to know, although the process in the background has no terminal.
#[test]
fn a_start_in_the_background_that_fails() {
    let dir = OpenDir::new();
    let bad = dir.file("a/b");
    let (code, text) = start_that_fails(&dir, &[&line("pid_file", &bad)], &["-d"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("Error: Unable to write pid file"), "{text}");
}
