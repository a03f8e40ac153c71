//! A disk that tests can watch, spoil and cut the power of: the file layer below a program, from the test's side.
//!
//! [`Disk::environment`] puts `layer.c` under a process; the log then says what became of a directory, the control
//! file makes the disk slow, full or broken while the process runs, and [`Log::power_cut`] makes the directory as the
//! disk could look if the power had failed at any place of the log. It knows nothing of MQTT.
//!
//! 1. The directory when [`Disk::new`] is called is taken to be on the disk already.
//! 2. Whatever the log does not explain is an error of the test: a write that went past the layer is not overlooked.
//! 3. One process at a time uses the directory; each is given a new [`Disk::environment`].

mod log;
mod power;
mod random;
mod tests;

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use power::{Base, Files, Model};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use super::harness::new_dir;
pub use log::{Event, Record};
pub use random::Random;

/// A directory under the file layer. Dropping it leaves the directory alone.
pub struct Disk {
    dir: PathBuf,
    /// Where the log and the control file are.
    side: PathBuf,
    base: Base,
    control: Mutex<Control>,
}

/// `struct control` of `layer.c`.
#[derive(Clone, Copy)]
struct Control {
    epoch: u64,
    sync_delay_ms: u64,
    write: Fault,
    sync: Fault,
    short_writes: bool,
    room: u64,
    name_error: u64,
    write_inode: u64,
}

/// An error for the next so many calls.
#[derive(Clone, Copy)]
struct Fault {
    error: u64,
    times: u64,
}

/// As often as it is tried.
pub const ALWAYS: u64 = u64::MAX;

const NO_FAULT: Fault = Fault { error: 0, times: 0 };

const HEALTHY: Control = Control {
    epoch: 0,
    sync_delay_ms: 0,
    write: NO_FAULT,
    sync: NO_FAULT,
    short_writes: false,
    room: u64::MAX,
    name_error: 0,
    write_inode: 0,
};

impl Disk {
    /// A healthy disk that holds this directory, which is made if need be.
    pub fn new(dir: &Path) -> Disk {
        fs::create_dir_all(dir).expect("a directory of the test");
        let dir = dir.canonicalize().expect("it is there");
        let side = new_dir();
        File::create(side.join("log")).expect("a new directory");
        let disk = Disk {
            base: Base::read(&dir),
            dir,
            side,
            control: Mutex::new(HEALTHY),
        };
        disk.tell(|_| {});
        disk
    }

    /// The environment for the next process that is to use the directory; the one before has ended.
    pub fn environment(&self) -> Vec<(String, String)> {
        self.explain();
        let text = |path: &Path| path.to_str().expect("we chose the name").to_owned();
        [
            ("LD_PRELOAD", layer()),
            ("MIDGE_DISK_DIR", &self.dir),
            ("MIDGE_DISK_LOG", &self.side.join("log")),
            ("MIDGE_DISK_CONTROL", &self.side.join("control")),
        ]
        .map(|(name, path)| (name.to_owned(), text(path)))
        .to_vec()
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// From now on each sync takes so long.
    pub fn slow(&self, delay: Duration) {
        let ms = u64::try_from(delay.as_millis()).expect("tests are shorter");
        self.tell(|control| control.sync_delay_ms = ms);
    }

    /// From now on there is no room: writes fail with ENOSPC.
    pub fn full(&self) {
        self.failing_writes(Errno::NOSPC, ALWAYS);
    }

    /// From now on files can only grow by so many bytes together; then writes fail with ENOSPC.
    pub fn room(&self, bytes: u64) {
        self.tell(|control| control.room = bytes);
    }

    /// From now on writes and syncs fail with EIO.
    pub fn broken(&self) {
        self.failing_writes(Errno::IO, ALWAYS);
        self.failing_syncs(Errno::IO, ALWAYS);
    }

    /// From now on nothing can be changed: EROFS.
    pub fn read_only(&self) {
        self.failing_writes(Errno::ROFS, ALWAYS);
        self.tell(|control| control.name_error = number(Errno::ROFS));
    }

    /// The next so many writes fail.
    pub fn failing_writes(&self, error: Errno, times: u64) {
        let error = number(error);
        self.tell(|control| control.write = Fault { error, times });
    }

    /// From now on writes to this file fail with EIO, and to no other.
    pub fn broken_below(&self, file: &Path) {
        let inode = fs::metadata(file).expect("it is there").ino();
        self.tell(|control| control.write_inode = inode);
        self.failing_writes(Errno::IO, ALWAYS);
    }

    /// The next so many syncs fail.
    pub fn failing_syncs(&self, error: Errno, times: u64) {
        let error = number(error);
        self.tell(|control| control.sync = Fault { error, times });
    }

    /// From now on each write takes only half of what it is given.
    pub fn short_writes(&self) {
        self.tell(|control| control.short_writes = true);
    }

    /// From now on the disk is as it should be; a sync that is under way ends.
    pub fn heal(&self) {
        self.tell(|control| {
            *control = Control {
                epoch: control.epoch,
                ..HEALTHY
            };
        });
    }

    /// What has happened so far.
    pub fn log(&self) -> Log {
        let bytes = fs::read(self.side.join("log")).expect("it was made in the beginning");
        let (records, _) = log::decode(&bytes);
        self.log_of(records)
    }

    fn log_of(&self, records: Vec<Record>) -> Log {
        Log {
            dir: self.dir.clone(),
            base: self.base.clone(),
            records,
        }
    }

    /// Asserts that the log explains every byte in the directory. No process uses it now.
    #[track_caller]
    pub fn assert_explained(&self) {
        let files = Base::read(&self.dir);
        let log = self.log();
        let mut modelled = log.model(log.records.len()).whole();
        for (path, _, bytes) in files.files() {
            let explained = modelled.remove(path);
            assert!(
                explained.as_ref() == Some(bytes),
                "{}: {} bytes, of which the log explains {:?}; a write went past the file layer",
                path.display(),
                bytes.len(),
                explained.map(|bytes| bytes.len())
            );
        }
        assert!(
            modelled.is_empty(),
            "gone past the file layer: {modelled:?}"
        );
    }

    /// Adds to the log the change that SIGKILL did not let the layer log: each thread can have made one.
    fn explain(&self) {
        let path = self.side.join("log");
        let bytes = fs::read(&path).expect("it was made in the beginning");
        let (records, whole) = log::decode(&bytes);
        let log = self.log_of(records);
        let model = log.model(log.records.len());
        let mut modelled = model.whole();
        let mut missing = Vec::new();
        for (path, inode, bytes) in Base::read(&self.dir).files() {
            let to = path.clone();
            let known = match model.name_of(inode) {
                Some(from) if from == *path => modelled.remove(path),
                Some(from) => {
                    let known = modelled.remove(&from);
                    modelled.remove(path);
                    missing.push(Event::Renamed { inode, from, to });
                    known
                }
                None => {
                    modelled.remove(path);
                    missing.push(Event::Created { inode, path: to });
                    None
                }
            };
            missing.extend(difference(inode, &known.unwrap_or_default(), bytes));
        }
        for path in modelled.into_keys() {
            let inode = model.inode_of(&path).expect("the model has the name");
            missing.push(Event::Unlinked { inode, path });
        }
        let mut file = File::options().write(true).open(&path).expect("it is ours");
        file.set_len(whole as u64).expect("it is ours");
        file.seek(SeekFrom::End(0)).expect("it is a file");
        let missing: Vec<u8> = missing.iter().flat_map(log::encode).collect();
        file.write_all(&missing).expect("it is ours");
    }

    /// Rewrites the control file.
    fn tell(&self, what: impl FnOnce(&mut Control)) {
        let mut control = self.control.lock().expect("no holder panics");
        what(&mut control);
        control.epoch += 1;
        let path = self.side.join("control");
        let mut file = File::options();
        let file = file.write(true).create(true).truncate(false).open(path);
        let file = file.expect("a directory of ours");
        let numbers = [
            control.sync_delay_ms,
            control.write.error,
            control.write.times,
            control.sync.error,
            control.sync.times,
            u64::from(control.short_writes),
            control.room,
            control.name_error,
            control.write_inode,
        ];
        let bytes: Vec<u8> = numbers.into_iter().flat_map(u64::to_le_bytes).collect();
        // The epoch last, whose change makes the layer look at the rest.
        file.write_all_at(&bytes, 8).expect("it is ours");
        let epoch = control.epoch.to_le_bytes();
        file.write_all_at(&epoch, 0).expect("it is ours");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.side);
    }
}

/// What happened to a directory.
pub struct Log {
    dir: PathBuf,
    base: Base,
    records: Vec<Record>,
}

impl Log {
    /// The records, in their order.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Makes the directory `into` as the disk could look if the power had failed after the first `cut_at` records.
    ///
    /// Of what was not synced, the seed chooses what arrived.
    pub fn power_cut(&self, cut_at: usize, seed: u64, into: &Path) {
        let files: Files = self.model(cut_at).power_cut(seed);
        fs::create_dir_all(into).expect("a directory of the test");
        for (path, bytes) in files {
            let below = path.strip_prefix(&self.dir);
            let path = into.join(below.expect("the log is of this directory"));
            let parent = path.parent().expect("it is below the directory");
            fs::create_dir_all(parent).expect("a directory of the test");
            fs::write(path, bytes).expect("a directory of the test");
        }
    }

    /// The bytes that the connection to this port had been given after the first `cut_at` records. A port can be given
    /// to others later: it was theirs `during` this time of [`now`].
    pub fn sent(&self, port: u16, during: &Range<Duration>, cut_at: usize) -> Vec<u8> {
        let (mut all, mut last) = (Vec::new(), 0);
        let records = self.records[..cut_at].iter();
        for record in records.filter(|record| during.contains(&record.time)) {
            match &record.event {
                Event::Sent { port: to, bytes } if *to == port => {
                    last = all.len();
                    all.extend(bytes);
                }
                Event::Taken { port: to, length } if *to == port => {
                    all.truncate(last + usize::try_from(*length).expect("it was sent"));
                }
                _ => {}
            }
        }
        all
    }

    fn model(&self, cut_at: usize) -> Model<'_> {
        Model::new(&self.base, &self.records[..cut_at])
    }
}

/// The time by the clock of [`Record::time`].
pub fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    now.try_into().expect("the clock is not negative")
}

/// The events that make `new` of `old`.
fn difference(inode: u64, old: &[u8], new: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    let differ = |(old, new): (&u8, &u8)| old != new;
    let first = old.iter().zip(new).position(differ);
    let first = first.unwrap_or(old.len().min(new.len()));
    if first < new.len() {
        events.push(Event::Written {
            inode,
            offset: first as u64,
            bytes: new[first..].to_vec(),
        });
    }
    if new.len() < old.len() {
        let length = new.len() as u64;
        events.push(Event::Resized { inode, length });
    }
    events
}

fn number(error: Errno) -> u64 {
    u64::try_from(error.raw_os_error()).expect("errors are positive")
}

/// The compiled layer.
fn layer() -> &'static Path {
    static LAYER: LazyLock<PathBuf> = LazyLock::new(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/disk/layer.c");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        fs::create_dir_all(folder).expect("the target directory can be written");
        let own = folder.join(format!("disk-layer-{}.so", std::process::id()));
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-o"])
            .args([&own, &source])
            .args(["-ldl", "-lpthread"])
            .output()
            .unwrap_or_else(|error| panic!("the file layer needs a C compiler, cc: {error}"));
        assert!(
            compiled.status.success(),
            "{}",
            String::from_utf8_lossy(&compiled.stderr)
        );
        // Another process of tests may do the same; whichever comes last, the file is whole.
        let layer = folder.join("disk-layer.so");
        fs::rename(own, &layer).expect("it is in the same folder");
        layer
    });
    &LAYER
}
