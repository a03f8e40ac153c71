//! The file layer by itself: that it sees everything, and that its power cuts and faults bite.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::super::harness::new_dir;
use super::{Disk, Event, Log};

/// Commits rows to a database, and says each on a TCP connection when its commit has returned.
const COMMITS: &str = r#"
import random, socket, sqlite3, sys
path, port, synchronous = sys.argv[1], int(sys.argv[2]), sys.argv[3]
db = sqlite3.connect(path, isolation_level=None)
db.execute("PRAGMA locking_mode = EXCLUSIVE")
assert db.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
db.execute("PRAGMA synchronous = " + synchronous)
db.execute("PRAGMA wal_autocheckpoint = 12")
db.execute("CREATE TABLE line (number INTEGER PRIMARY KEY, text BLOB)")
said = socket.create_connection(("127.0.0.1", port))
chance = random.Random(7)
for number in range(24):
    db.execute("INSERT INTO line VALUES (?, ?)", (number, chance.randbytes(chance.choice([9, 900, 5000]))))
    said.sendall(b"%d\n" % number)
"#;

/// Says of each directory below the given one how many rows its database has, or what is wrong with it.
const ROWS: &str = r#"
import os, sqlite3, sys
for name in sorted(os.listdir(sys.argv[1])):
    try:
        db = sqlite3.connect(os.path.join(sys.argv[1], name, "db"))
        check = db.execute("PRAGMA integrity_check").fetchone()[0]
        if check != "ok": raise sqlite3.DatabaseError(check)
        numbers = [row[0] for row in db.execute("SELECT number FROM line ORDER BY number")]
        if numbers != list(range(len(numbers))): raise sqlite3.DatabaseError("a hole")
        print(name, len(numbers))
    except sqlite3.Error as error:
        print(name, "0" if "no such table" in str(error) else repr(error))
"#;

/// A disk with an empty directory, which goes at the end.
struct Scene {
    dir: PathBuf,
    disk: Disk,
}

impl Scene {
    fn new() -> Scene {
        let dir = new_dir();
        let disk = Disk::new(&dir.join("disk"));
        Scene { dir, disk }
    }

    /// Runs a program on the disk: whether it ended well, and what it wrote.
    fn run(&self, program: &str, arguments: &[&str]) -> (bool, String) {
        let output = Command::new(program)
            .args(arguments)
            .envs(self.disk.environment())
            .current_dir(self.disk.dir())
            .output()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    }

    /// Runs a program that must end well.
    fn run_well(&self, program: &str, arguments: &[&str]) {
        let (well, said) = self.run(program, arguments);
        assert!(well, "{program}: {said}");
    }

    /// What a power cut leaves of the file `name`.
    fn left(&self, log: &Log, cut_at: usize, seed: u64, name: &str) -> Option<Vec<u8>> {
        let into = self.dir.join("left");
        log.power_cut(cut_at, seed, &into);
        let left = fs::read(into.join(name)).ok();
        fs::remove_dir_all(into).expect("it is ours");
        left
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn find(log: &Log, what: impl Fn(&Event) -> bool) -> usize {
    let place = log.records().iter().position(|record| what(&record.event));
    place.unwrap_or_else(|| panic!("not in {:?}", log.records()))
}

#[test]
fn only_what_was_synced_is_certain() {
    let scene = Scene::new();
    scene.run_well(
        "dd",
        &["if=/dev/zero", "of=a", "bs=700", "count=9", "conv=fsync"],
    );
    scene.disk.assert_explained();
    let log = scene.disk.log();
    let begun = find(&log, |event| matches!(event, Event::SyncBegun { .. }));
    let synced = find(&log, |event| matches!(event, Event::Synced { .. }));
    let whole = Some(vec![0; 6300]);
    for seed in 0..50 {
        assert_eq!(scene.left(&log, synced + 1, seed, "a"), whole);
    }
    for cut_at in [begun, synced] {
        let left: Vec<_> = (0..50)
            .map(|seed| scene.left(&log, cut_at, seed, "a"))
            .collect();
        assert!(left.contains(&None), "the file can be missing");
        assert!(left.contains(&whole), "the file can be there");
        assert!(
            left.iter().flatten().any(|bytes| bytes.len() % 700 != 0),
            "a write can be torn"
        );
    }
}

#[test]
fn a_rename_needs_a_sync_of_its_directory() {
    let scene = Scene::new();
    let program = r#"
import os
def put(name, text):
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(fd, text)
    os.fsync(fd)
    os.close(fd)
put("a", b"old")
put("new", b"new")
os.rename("new", "a")
os.fsync(os.open(".", os.O_RDONLY))
os.unlink("a")
nameless = os.open(".", os.O_RDWR | os.O_TMPFILE)
os.write(nameless, b"gone")
os.fsync(nameless)
"#;
    scene.run_well("python3", &["-c", program]);
    scene.disk.assert_explained();
    let log = scene.disk.log();
    let renamed = find(&log, |event| matches!(event, Event::Renamed { .. }));
    let left = |cut_at| {
        let mut left: Vec<_> = (0..40)
            .map(|seed| scene.left(&log, cut_at, seed, "a"))
            .collect();
        left.sort();
        left.dedup();
        left
    };
    let (old, new) = (Some(b"old".to_vec()), Some(b"new".to_vec()));
    assert_eq!(left(renamed), [old.clone()].to_vec());
    assert_eq!(left(renamed + 1), [new.clone(), old].to_vec());
    assert_eq!(left(renamed + 3), [new.clone()].to_vec());
    assert_eq!(left(log.records().len()), [None, new].to_vec());
}

/// Runs [`COMMITS`], cuts the power everywhere, and says what was left at each cut: how many rows had been said by
/// then, and what [`ROWS`] found.
fn cut_everywhere(synchronous: &str, seeds: u64) -> Vec<(usize, String)> {
    let scene = Scene::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let port = listener.local_addr().expect("it is bound").port();
    scene.run_well(
        "python3",
        &["-c", COMMITS, "db", &port.to_string(), synchronous],
    );
    let (mut said, _) = listener.accept().expect("the program has connected");
    let mut text = String::new();
    said.read_to_string(&mut text)
        .expect("the program has ended");
    assert_eq!(text.lines().count(), 24);
    scene.disk.assert_explained();
    let log = scene.disk.log();
    let cuts = scene.dir.join("cuts");
    let mut rows = 0;
    let mut said = Vec::new();
    for cut_at in 0..=log.records().len() {
        if cut_at > 0 && matches!(log.records()[cut_at - 1].event, Event::Sent { .. }) {
            rows += 1;
        }
        for seed in 0..seeds {
            let seed = seed + cut_at as u64 * seeds;
            let into = cuts.join(format!("{:06}", said.len()));
            log.power_cut(cut_at, seed, &into);
            said.push(rows);
        }
    }
    assert_eq!(rows, 24, "each commit was said in a send of its own");
    let found = Command::new("python3")
        .args(["-c", ROWS])
        .arg(&cuts)
        .output();
    let found = found.expect("python3 has run above").stdout;
    let found = String::from_utf8(found).expect("it is ASCII");
    let found: Vec<_> = found
        .lines()
        .map(|line| line.split_once(' ').expect("a name and a number").1)
        .collect();
    assert_eq!(found.len(), said.len());
    said.into_iter()
        .zip(found.into_iter().map(str::to_owned))
        .collect()
}

#[test]
fn sqlite_loses_nothing_that_it_synced() {
    for (cut, (said, found)) in cut_everywhere("FULL", 3).into_iter().enumerate() {
        // The row that was committed but not yet said may be there.
        let rows: usize = found
            .parse()
            .unwrap_or_else(|_| panic!("cut {cut}, after row {said}: {found}"));
        assert!(
            rows == said || rows == said + 1,
            "cut {cut}: {said} rows were said, {rows} are there"
        );
    }
}

#[test]
fn sqlite_loses_what_it_did_not_sync() {
    let cuts = cut_everywhere("OFF", 1);
    let lost = cuts
        .iter()
        .filter(|(said, found)| found.parse().map_or(true, |rows: usize| rows < *said))
        .count();
    assert!(
        lost > cuts.len() / 4,
        "{lost} losses in {} cuts",
        cuts.len()
    );
}

/// What [`FAULTS`] prints without faults.
const WELL: &str = "4096\nNone\nNone\n";

/// Writes and syncs, and prints what each said.
const FAULTS: &str = r#"
import errno, os
def say(call, *arguments):
    try: print(call(*arguments))
    except OSError as error: print(errno.errorcode[error.errno])
try:
    fd = os.open("a", os.O_RDWR | os.O_CREAT)
except OSError as error:
    print(errno.errorcode[error.errno])
    exit()
say(os.write, fd, bytes(4096))
say(os.fsync, fd)
say(os.ftruncate, fd, 0)
"#;

#[test]
fn faults_come_as_they_are_told_and_go() {
    type Tell = fn(&Disk);
    let table: [(Tell, &str); 7] = [
        (|disk| disk.full(), "ENOSPC\nNone\nENOSPC\n"),
        (|disk| disk.broken(), "EIO\nEIO\nEIO\n"),
        (|disk| disk.read_only(), "EROFS\n"),
        (|disk| disk.short_writes(), "2048\nNone\nNone\n"),
        (|disk| disk.room(1000), "1000\nNone\nNone\n"),
        (
            |disk| disk.failing_writes(Errno::NOSPC, 1),
            "ENOSPC\nNone\nNone\n",
        ),
        (|disk| disk.failing_syncs(Errno::IO, 1), "4096\nEIO\nNone\n"),
    ];
    let scene = Scene::new();
    scene.run_well("python3", &["-c", FAULTS]);
    for (tell, expected) in table {
        tell(&scene.disk);
        assert_eq!(
            scene.run("python3", &["-c", FAULTS]),
            (true, expected.into())
        );
        scene.disk.heal();
        assert_eq!(scene.run("python3", &["-c", FAULTS]), (true, WELL.into()));
    }
    scene.disk.assert_explained();
}

#[test]
fn a_failed_sync_leaves_what_it_was_to_save_in_doubt() {
    let scene = Scene::new();
    let program = r#"
import os
fd = os.open("a", os.O_RDWR | os.O_CREAT)
os.write(fd, b"x" * 100)
try: os.fsync(fd)
except OSError: pass
os.fsync(fd)
"#;
    scene.disk.failing_syncs(Errno::IO, 1);
    scene.run_well("python3", &["-c", program]);
    let log = scene.disk.log();
    let left = |seed| scene.left(&log, log.records().len(), seed, "a");
    assert!((0..40).any(|seed| left(seed) == Some(vec![b'x'; 100])));
    assert!((0..40).any(|seed| left(seed) == Some(Vec::new())));
}

#[test]
fn a_slow_disk_is_slow_until_it_heals() {
    let scene = Scene::new();
    let dd = ["if=/dev/zero", "of=a", "bs=700", "count=1", "conv=fsync"];
    scene.disk.slow(Duration::from_millis(300));
    let start = Instant::now();
    scene.run_well("dd", &dd);
    assert!(start.elapsed() >= Duration::from_millis(300));
    let log = scene.disk.log();
    let begun = find(&log, |event| matches!(event, Event::SyncBegun { .. }));
    let synced = find(&log, |event| matches!(event, Event::Synced { .. }));
    let records = log.records();
    let taken = records[synced].time - records[begun].time;
    assert!(taken >= Duration::from_millis(300), "{taken:?}");
    scene.disk.heal();
    scene.run_well("dd", &dd);
}

#[test]
#[should_panic(expected = "mmap, shared and for writing")]
fn a_shared_map_is_an_error_of_the_test() {
    let scene = Scene::new();
    let program = r#"
import mmap, os
fd = os.open("a", os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 4096)
mmap.mmap(fd, 4096)[0:2] = b"hi"
"#;
    scene.run_well("python3", &["-c", program]);
    scene.disk.assert_explained();
}

#[test]
#[should_panic(expected = "a write went past the file layer")]
fn what_goes_past_the_layer_is_an_error_of_the_test() {
    let scene = Scene::new();
    scene.run_well("dd", &["if=/dev/zero", "of=a", "bs=700", "count=1"]);
    fs::write(scene.disk.dir().join("a"), "other").expect("it is ours");
    scene.disk.assert_explained();
}

#[test]
fn what_the_layer_had_no_time_to_log_is_found_at_the_next_start() {
    let scene = Scene::new();
    scene.run_well("dd", &["if=/dev/zero", "of=a", "bs=700", "count=2"]);
    let path = |name: &str| -> PathBuf { Path::new(scene.disk.dir()).join(name) };
    fs::rename(path("a"), path("b")).expect("it is ours");
    fs::write(path("b"), "shorter").expect("it is ours");
    fs::write(path("c"), "more").expect("it is ours");
    scene.run_well("dd", &["if=/dev/zero", "of=d", "bs=700", "count=1"]);
    scene.disk.assert_explained();
    let kinds = |what: fn(&Event) -> bool| find(&scene.disk.log(), what);
    kinds(|event| matches!(event, Event::Renamed { .. }));
    kinds(|event| matches!(event, Event::Resized { length: 7, .. }));
}
