//! `midge passwd`: options, questions, what becomes of a file, and files that Mosquitto and Midge read from each other.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use midge::auth::password::{Kind, PasswordFile};

use crate::harness::*;

const MOSQUITTO: &str = "/usr/sbin/mosquitto";
const MOSQUITTO_PASSWD: &str = "/usr/bin/mosquitto_passwd";

/// What a command came to: its exit code and all that it said.
#[derive(Debug, PartialEq, Eq)]
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// A directory with a password file; it goes with the test.
struct Files(PathBuf);

impl Files {
    fn new() -> Files {
        Files(new_dir())
    }

    fn with(text: &str) -> Files {
        let files = Files::new();
        fs::write(files.0.join("users"), text).expect("the directory is ours");
        files
    }

    /// Runs `midge passwd` in the directory; an answer is a line of standard input.
    fn passwd(&self, arguments: &[&str], answers: &str) -> Ended {
        let mut command = Command::new(our_program());
        command.arg("passwd").args(arguments).current_dir(&self.0);
        ended(command, answers)
    }

    #[track_caller]
    fn passwd_done(&self, arguments: &[&str], answers: &str, stdout: &str) {
        let done = self.passwd(arguments, answers);
        assert_eq!(done, said(0, stdout, ""), "{arguments:?}");
    }

    #[track_caller]
    fn passwd_fails(&self, arguments: &[&str], answers: &str, code: i32, stderr: &str) {
        let before = self.contents();
        let failed = self.passwd(arguments, answers);
        assert_eq!(failed.code, Some(code), "{arguments:?} {failed:?}");
        assert_eq!(failed.stderr, stderr, "{arguments:?}");
        assert_eq!(self.contents(), before, "{arguments:?}");
    }

    fn path(&self) -> PathBuf {
        self.0.join("users")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path()).expect("the file is there")
    }

    /// What the broker makes of the file.
    fn load(&self) -> PasswordFile {
        PasswordFile::load(&self.path()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Every file by name, so that nothing is left lying about.
    fn contents(&self) -> Vec<(String, String)> {
        let entries = fs::read_dir(&self.0).expect("the directory is ours");
        let mut contents: Vec<_> = entries
            .flatten()
            .map(|entry| {
                let name = entry.file_name().into_string().expect("we chose the name");
                (name, fs::read_to_string(entry.path()).unwrap_or_default())
            })
            .collect();
        contents.sort();
        contents
    }

    fn names(&self) -> Vec<String> {
        self.contents().into_iter().map(|(name, _)| name).collect()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The program under test, wherever a command is run.
fn our_program() -> PathBuf {
    fs::canonicalize(program()).expect("the program under test")
}

fn said(code: i32, stdout: &str, stderr: &str) -> Ended {
    Ended {
        code: Some(code),
        stdout: stdout.to_owned(),
        stderr: stderr.to_owned(),
    }
}

fn ended(mut command: Command, input: &str) -> Ended {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("piped");
    // It may have ended without a look at it.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("our child");
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("it writes UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("it writes UTF-8"),
    }
}

fn verifies(file: &PasswordFile, user_name: &str, password: &str) -> bool {
    file.challenge(user_name).verify(password.as_bytes())
}

#[track_caller]
fn kind_of(file: &PasswordFile, user_name: &str) -> Kind {
    file.hash_of(user_name).expect("the user is there").kind()
}

#[test]
fn a_file_is_created_for_its_owner() {
    let files = Files::new();
    files.passwd_done(
        &["-c", "-b", "users", "ann", "secret"],
        "",
        "Adding password for user ann\n",
    );
    assert!(files.text().starts_with("ann:$7$1000$"));
    let file = files.load();
    assert_eq!(
        (file.len(), kind_of(&file, "ann")),
        (1, Kind::SHA512_PBKDF2)
    );
    assert!(verifies(&file, "ann", "secret") && !verifies(&file, "ann", "ann"));
    let metadata = fs::metadata(files.path()).expect("it is there");
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);
    assert_eq!(files.names(), ["users"]);
}

/// -c overwrites, as in Mosquitto, and the owner's choice of a mode stays.
#[test]
fn a_file_is_created_over_another() {
    let files = Files::with("anything\nat all");
    fs::set_permissions(files.path(), fs::Permissions::from_mode(0o640)).expect("it is ours");
    files.passwd_done(
        &["-c", "-b", "users", "ann", ""],
        "",
        "Adding password for user ann\n",
    );
    let file = files.load();
    assert_eq!(file.len(), 1);
    assert!(verifies(&file, "ann", ""));
    let metadata = fs::metadata(files.path()).expect("it is there");
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o640);
}

#[test]
fn a_line_for_standard_output() {
    let files = Files::new();
    let done = files.passwd(&["-c", "-b", "-", "ann", "secret"], "");
    assert_eq!((done.code, &*done.stderr), (Some(0), ""));
    let file = PasswordFile::parse(Path::new("-"), done.stdout.as_bytes()).expect("it is one");
    assert!(verifies(&file, "ann", "secret"));
    // What is asked does not get into it.
    let done = files.passwd(&["-c", "-", "ann"], "secret\nsecret\n");
    assert_eq!(done.stderr, "Password: \nReenter password: \n");
    assert_eq!(done.stdout.lines().count(), 1);
    assert!(files.names().is_empty());
}

#[test]
fn users_are_added_and_updated() {
    let files = Files::with("# the users\r\n\nbob:$6$whatever\r\nann:old\n#end");
    let (adding, updating) = (
        "Adding password for user carl\n",
        "Updating password for user ann\n",
    );
    files.passwd_done(&["-b", "users", "carl", "c"], "", adding);
    files.passwd_done(&["-b", "users", "ann", "a b"], "", updating);
    let text = files.text();
    let lines: Vec<&str> = text.split('\n').collect();
    assert_eq!(
        (lines[0], lines[1], lines[2], lines[4], lines.len()),
        ("# the users\r", "", "bob:$6$whatever\r", "#end", 7)
    );
    assert!(lines[3].starts_with("ann:$7$1000$") && lines[5].starts_with("carl:$7$1000$"));
    // The other hash is as broken as before.
    let error = PasswordFile::load(&files.path()).expect_err("bob has none");
    assert!(error.to_string().contains("users:3."), "{error}");
    files.passwd_done(
        &["-b", "users", "bob", "b"],
        "",
        "Updating password for user bob\n",
    );
    let file = files.load();
    assert_eq!(file.len(), 3);
    assert!(verifies(&file, "ann", "a b") && verifies(&file, "bob", "b"));
    assert!(verifies(&file, "carl", "c"));
    assert_eq!(files.names(), ["users"]);
}

/// Mosquitto's tool once hashed the name instead of the password.
#[test]
fn december_2020_the_password_is_not_the_name() {
    let files = Files::with("");
    let adding = "Adding password for user carl\n";
    files.passwd_done(&["-b", "users", "carl", "secret"], "", adding);
    let file = files.load();
    assert!(verifies(&file, "carl", "secret"));
    assert!(!verifies(&file, "carl", "carl") && !verifies(&file, "carl", ""));
}

#[test]
fn users_are_deleted() {
    let files = Files::with("ann:a\n# bob\nbob:b\nzoe:z");
    files.passwd_done(&["-D", "users", "bob"], "", "");
    assert_eq!(files.text(), "ann:a\n# bob\nzoe:z");
    files.passwd_fails(
        &["-D", "users", "bob"],
        "",
        1,
        "Warning: User bob not found in password file.\n",
    );
    files.passwd_done(&["-D", "users", "zoe"], "", "");
    files.passwd_done(&["-D", "users", "ann"], "", "");
    assert_eq!(files.text(), "# bob\n");
    assert_eq!(files.names(), ["users"]);
}

#[test]
fn hashes_of_every_kind() {
    let files = Files::with("");
    let iterations = |iterations: u32| Kind::Sha512Pbkdf2 {
        iterations: iterations.try_into().expect("above 0"),
    };
    let kinds: [(&[&str], Kind); 6] = [
        (&[], Kind::SHA512_PBKDF2),
        (&["-H", "sha512"], Kind::Sha512),
        (&["-H", "sha512-pbkdf2"], Kind::SHA512_PBKDF2),
        (&["-H", "argon2id"], Kind::ARGON2ID),
        (&["-I", "101"], iterations(101)),
        (&["-H", "sha512-pbkdf2", "-I", "20000"], iterations(20_000)),
    ];
    for (number, (options, kind)) in kinds.iter().enumerate() {
        let user_name = format!("user{number}");
        files.passwd_done(
            &[options, &["-b", "users", &user_name, "pässwörd"][..]].concat(),
            "",
            &format!("Adding password for user {user_name}\n"),
        );
        let file = files.load();
        assert_eq!(kind_of(&file, &user_name), *kind);
        assert!(verifies(&file, &user_name, "pässwörd"), "{options:?}");
        assert!(!verifies(&file, &user_name, &user_name), "{options:?}");
    }
    let text = files.text();
    assert!(text.contains("user1:$6$"));
    assert!(text.contains("user3:$argon2id$v=19$m=47104,t=1,p=1$"));
    assert!(text.contains("user5:$7$20000$"));
    files.passwd_fails(
        &["-I", "4000000000", "-b", "users", "ann", "a"],
        "",
        1,
        "Error: Unable to hash password: iterations is 4000000000, and to check a password would cost too much.\n\
         Expected: iterations at most 10000000.\n",
    );
}

#[test]
fn a_plain_file_is_hashed_once() {
    let files = Files::with("# plain\nann:secret\n\n");
    files.passwd_done(
        &["-b", "users", "bob", "b"],
        "",
        "Adding password for user bob\n",
    );
    files.passwd_done(&["-U", "-H", "sha512", "users"], "", "");
    let text = files.text();
    assert!(text.starts_with("# plain\nann:$6$") && text.contains("\n\nbob:$7$1000$"));
    let file = files.load();
    assert!(verifies(&file, "ann", "secret") && verifies(&file, "bob", "b"));
    files.passwd_done(&["-U", "users"], "", "");
    assert_eq!(files.text(), text, "what is a hash is not hashed again");
    assert_eq!(files.names(), ["users"]);
}

#[test]
fn passwords_are_read_from_standard_input() {
    let files = Files::with("");
    let asked = "Password: \nReenter password: \n";
    files.passwd_done(
        &["users", "ann"],
        "sec ret\nsec ret\n",
        &format!("{asked}Adding password for user ann\n"),
    );
    files.passwd_done(
        &["users", "ann"],
        " new\r\n new",
        &format!("{asked}Updating password for user ann\n"),
    );
    let file = files.load();
    assert!(verifies(&file, "ann", " new") && !verifies(&file, "ann", "sec ret"));
    for (answers, code, stderr) in [
        ("a\nb\n", 2, "Error: Passwords do not match.\n"),
        ("a\n", 2, "Error: Passwords do not match.\n"),
        ("\n\n", 1, "Error: Empty password.\n"),
        ("", 1, "Error: Empty password.\n"),
    ] {
        files.passwd_fails(&["users", "ann"], answers, code, stderr);
        files.passwd_fails(&["-c", "users", "ann"], answers, code, stderr);
    }
    let long = "x".repeat(65_536);
    files.passwd_fails(
        &["users", "ann"],
        &format!("{long}\n{long}\n"),
        1,
        "Error: Password must be less than 65536 characters long.\n",
    );
}

/// Answers on a terminal of its own, and whether the terminal would have shown them.
const TERMINAL: &str = "
import os, pty, sys, termios
program, directory, *answers = sys.argv[1:]
pid, terminal = pty.fork()
if pid == 0:
    os.chdir(directory)
    os.execv(program, [program, 'passwd', 'users', 'ann'])
def echoes():
    return bool(termios.tcgetattr(terminal)[3] & termios.ECHO)
shown = b''
def read():
    global shown
    try:
        more = os.read(terminal, 1000)
    except OSError:
        return False
    shown += more
    return bool(more)
for prompt, answer in zip([b'Password: ', b'Reenter password: '], answers):
    while not shown.endswith(prompt):
        assert read(), shown
    while echoes():
        pass
    os.write(terminal, answer.encode().decode('unicode_escape').encode('latin-1'))
while read():
    pass
status = os.waitpid(pid, 0)[1]
sys.stdout.buffer.write(shown)
assert echoes()
sys.exit(os.waitstatus_to_exitcode(status))
";

#[test]
fn passwords_are_read_from_a_terminal() {
    let found = Command::new("python3").arg("--version").output();
    assert!(
        found.is_ok(),
        "this test needs python3: `apt-get install python3`"
    );
    let files = Files::with("ann:x\n");
    let on_terminal = |answers: &[&str]| {
        let mut command = Command::new("python3");
        command
            .args(["-c", TERMINAL])
            .arg(our_program())
            .arg(&files.0);
        command.args(answers);
        ended(command, "")
    };
    let asked = "Password: \r\nReenter password: \r\n";
    let mismatch = "Error: Passwords do not match.\r\n";
    for (answers, code, rest) in [
        (&["a\\n", "b\\n"], 2, mismatch),
        (&["a\\n", "\\n"], 2, mismatch),
        // Ctrl-C, after which the terminal is to show again what is typed.
        (&["a\\n", "b\\x03"], 130, ""),
        // A slip and a correction.
        (
            &["se\\x7fecret\\n", "secret\\n"],
            0,
            "Updating password for user ann\r\n",
        ),
    ] {
        let done = on_terminal(answers);
        assert_eq!(
            done,
            said(code, &format!("{asked}{rest}"), ""),
            "{answers:?}"
        );
        assert_eq!(files.text() == "ann:x\n", code != 0, "{answers:?}");
    }
    assert!(verifies(&files.load(), "ann", "secret"));
    assert_eq!(files.names(), ["users"]);
}

#[test]
fn arguments_that_cannot_be_answered() {
    let files = Files::with("ann:x\n");
    for (arguments, stderr) in [
        (
            &["-c", "-D", "users", "ann"][..],
            "Error: -c and -D cannot be used together.\n",
        ),
        (
            &["-c", "-U", "users"],
            "Error: -c and -U cannot be used together.\n",
        ),
        (
            &["-D", "-U", "users"],
            "Error: -D and -U cannot be used together.\n",
        ),
        (
            &["-D", "-b", "users", "ann"],
            "Error: -b and -D cannot be used together.\n",
        ),
        (
            &["-U"],
            "Error: -U argument given but password file missing.\n",
        ),
        (
            &["-c", "users"],
            "Error: -c argument given but password file or username missing.\n",
        ),
        (
            &["-H"],
            "Error: -H argument given but not enough other arguments.\n",
        ),
        (
            &["-b", "users", "ann", "two", "words"],
            "Error: Too many arguments. A name or password with blanks needs quotes around it.\n",
        ),
        (
            &["-b", "users", "a:b", "c"],
            "Error: Username must not contain the ':' character.\n",
        ),
    ] {
        files.passwd_fails(arguments, "", 1, stderr);
    }
    // These get the usage.
    for arguments in [&[][..], &["users"], &["-b", "users", "ann"]] {
        let failed = files.passwd(arguments, "");
        assert_eq!(
            (failed.code, &*failed.stderr),
            (Some(1), ""),
            "{arguments:?}"
        );
        assert!(failed.stdout.starts_with("Usage: "), "{arguments:?}");
    }
}

#[test]
fn help_and_version() {
    let files = Files::new();
    for (arguments, expected) in [
        (
            &["--help"][..],
            &[
                "Usage: ", " -b ", " -c ", " -D ", " -H ", " -I ", " -U ", "argon2id",
            ][..],
        ),
        (&["-h"], &["Usage: "]),
        (&["--version"], &["midge passwd version ", "licence"]),
    ] {
        let done = files.passwd(arguments, "");
        assert_eq!((done.code, &*done.stderr), (Some(0), ""));
        for text in expected {
            assert!(done.stdout.contains(text), "{text} in {}", done.stdout);
        }
    }
}

#[test]
fn called_mosquitto_passwd() {
    let files = Files::new();
    let link = files.0.join("mosquitto_passwd");
    symlink(our_program(), &link).expect("the directory is ours");
    let mut command = Command::new(&link);
    command.args(["-c", "-b", "users", "ann", "secret"]);
    command.current_dir(&files.0);
    assert_eq!(
        ended(command, ""),
        said(0, "Adding password for user ann\n", "")
    );
    assert!(verifies(&files.load(), "ann", "secret"));
}

#[test]
fn files_that_cannot_be_changed() {
    let files = Files::with("ann:x\nbob\n");
    for arguments in [
        &["-b", "users", "ann", "a"][..],
        &["-D", "users", "ann"],
        &["-U", "users"],
    ] {
        files.passwd_fails(
            arguments,
            "",
            1,
            "Error: Corrupt password file at line 2.\nFound: there is no ':'. Expected: USER:HASH.\n",
        );
    }
    for arguments in [
        &["-b", "missing", "ann", "a"][..],
        &["-D", "missing", "ann"],
        &["-U", "missing"],
    ] {
        files.passwd_fails(
            arguments,
            "",
            1,
            "Error: Unable to open password file missing. No such file or directory.\n",
        );
    }
    files.passwd_fails(
        &["-c", "-b", "nowhere/users", "ann", "a"],
        "",
        1,
        "Error: Unable to open file nowhere/users for writing. No such file or directory.\n",
    );
    files.passwd_fails(
        &["-b", "users/users", "ann", "a"],
        "",
        1,
        "Error reading password file: Not a directory\n",
    );
    let failed = files.passwd(&["-b", ".", "ann", "a"], "");
    assert_eq!(failed.code, Some(1));
    assert!(failed.stderr.ends_with(". Is a directory.\n"), "{failed:?}");
}

/// As a secret is mounted in Kubernetes: a link to a link's directory.
#[test]
fn a_link_stays_one() {
    let files = Files::new();
    fs::create_dir(files.0.join("data")).expect("the directory is ours");
    fs::write(files.0.join("data/users"), "").expect("the directory is ours");
    symlink("data", files.0.join("..data")).expect("the directory is ours");
    symlink("..data/users", files.path()).expect("the directory is ours");
    files.passwd_done(
        &["-b", "users", "ann", "a"],
        "",
        "Adding password for user ann\n",
    );
    files.passwd_done(
        &["-c", "-b", "users", "bob", "b"],
        "",
        "Adding password for user bob\n",
    );
    let link = fs::symlink_metadata(files.path()).expect("it is there");
    assert!(link.is_symlink());
    let text = fs::read_to_string(files.0.join("data/users")).expect("it is there");
    assert!(text.starts_with("bob:$7$"), "{text}");
    assert_eq!(files.names(), ["..data", "data", "users"]);
}

/// The broker may run as another user, who must still be able to read it.
#[test]
fn owner_and_mode_are_kept() {
    let files = Files::with("ann:x\n");
    let others = std::os::unix::fs::chown(files.path(), Some(12_345), Some(54_321)).is_ok();
    fs::set_permissions(files.path(), fs::Permissions::from_mode(0o640)).expect("it is ours");
    let owner = |metadata: fs::Metadata| (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777);
    let before = owner(fs::metadata(files.path()).expect("it is there"));
    assert_eq!(others, before.0 == 12_345);
    files.passwd_done(
        &["-b", "users", "ann", "a"],
        "",
        "Updating password for user ann\n",
    );
    assert_eq!(
        owner(fs::metadata(files.path()).expect("it is there")),
        before
    );
    files.passwd_done(
        &["-c", "-b", "users", "ann", "a"],
        "",
        "Adding password for user ann\n",
    );
    assert_eq!(
        owner(fs::metadata(files.path()).expect("it is there")),
        before
    );
    files.passwd_done(&["-U", "users"], "", "");
    files.passwd_done(&["-D", "users", "ann"], "", "");
    assert_eq!(
        owner(fs::metadata(files.path()).expect("it is there")),
        before
    );
}

/// A running Mosquitto; it goes with the test.
struct Mosquitto(Child, u16);

impl Mosquitto {
    fn start(files: &Files) -> Mosquitto {
        let port = free_port();
        let config = files.0.join("mosquitto.conf");
        let text = format!(
            "listener {port} 127.0.0.1\npassword_file {}\n",
            files.path().display()
        );
        fs::write(&config, text).expect("the directory is ours");
        // Mosquitto reads its files as another user when root starts it.
        for (path, mode) in [(&files.0, 0o755), (&files.path(), 0o644)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
        }
        let child = Command::new(MOSQUITTO)
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it is installed");
        let mosquitto = Mosquitto(child, port);
        let start = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(start.elapsed() < DEADLINE, "it does not listen on {port}");
            thread::sleep(Duration::from_millis(5));
        }
        mosquitto
    }

    fn admits(&self, user_name: &str, password: &str) -> bool {
        let address = (Ipv4Addr::LOCALHOST, self.1).into();
        let mut client = Raw::open(address, Version::V311);
        client.send(connect("client").username(user_name).password(password));
        client.expect_connack().reason == 0
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "needs Debian's mosquitto: `cargo test --test integration passwd -- --ignored`"]
fn mosquitto_reads_our_files() {
    let files = Files::with("# users\n\nplain:plain\n");
    for (options, user_name) in [
        (&[][..], "pbkdf2"),
        (&["-H", "sha512"], "sha512"),
        (&["-I", "7"], "seven"),
    ] {
        let arguments = [options, &["-b", "users", user_name, "pässwörd"]].concat();
        assert_eq!(files.passwd(&arguments, "").code, Some(0));
    }
    files.passwd_done(&["-U", "users"], "", "");
    let mosquitto = Mosquitto::start(&files);
    for user_name in ["pbkdf2", "sha512", "seven"] {
        assert!(mosquitto.admits(user_name, "pässwörd"), "{user_name}");
        assert!(!mosquitto.admits(user_name, "password"), "{user_name}");
    }
    assert!(mosquitto.admits("plain", "plain"));
    assert!(!mosquitto.admits("# users", ""));
}

#[test]
#[ignore = "needs Debian's mosquitto: `cargo test --test integration passwd -- --ignored`"]
fn we_read_mosquittos_files() {
    let files = Files::with("plain:plain\n");
    let original = |arguments: &[&str]| {
        let mut command = Command::new(MOSQUITTO_PASSWD);
        command.args(arguments).current_dir(&files.0);
        assert_eq!(ended(command, "").code, Some(0), "{arguments:?}");
    };
    original(&["-U", "users"]);
    original(&["-b", "users", "pbkdf2", "pässwörd"]);
    original(&["-H", "sha512", "-b", "users", "sha512", "pässwörd"]);
    original(&["-I", "7", "-b", "users", "seven", "pässwörd"]);
    let ours = ["-H", "argon2id", "-b", "users", "argon2id", "pässwörd"];
    files.passwd_done(&ours, "", "Adding password for user argon2id\n");
    // The original changes a file in which we wrote.
    original(&["-b", "users", "empty", ""]);
    let file = files.load();
    assert_eq!(file.len(), 6);
    for user_name in ["pbkdf2", "sha512", "seven", "argon2id"] {
        assert!(verifies(&file, user_name, "pässwörd"), "{user_name}");
        assert!(!verifies(&file, user_name, "password"), "{user_name}");
    }
    assert!(verifies(&file, "plain", "plain") && verifies(&file, "empty", ""));
}
