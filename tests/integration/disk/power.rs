//! The disk as the log describes it, and what a power cut leaves of it.
//!
//! 1. Certain is what was logged before the beginning of a sync that ended well before the cut: contents by a sync of
//!    the file, names by a sync of the directory that holds them.
//! 2. A sync of a file makes its names certain, too. The standards do not promise it; ext4, XFS and Btrfs do.
//! 3. Of the rest anything may have arrived: each write, or each 512 bytes of it, each new length, each name.
//! 4. A sector is whole: it is as before the write or as after it.
//! 5. Contents that a failed sync was to save stay uncertain for ever, even if a later sync of the file ends well: the
//!    kernel forgets that these pages were dirty. Only writing them again makes them certain.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::log::{Event, Record, parent};
use super::random::Random;

/// What a disk writes whole.
const SECTOR: u64 = 512;

/// The files of a directory and their contents, by paths below it.
pub type Files = BTreeMap<PathBuf, Vec<u8>>;

/// A directory as it was when the log began.
#[derive(Clone, Debug, Default)]
pub struct Base {
    /// The directory and those in it, by inode.
    directories: HashMap<u64, PathBuf>,
    names: BTreeMap<PathBuf, u64>,
    contents: HashMap<u64, Vec<u8>>,
}

impl Base {
    /// The directory as it is now.
    pub fn read(dir: &Path) -> Base {
        let mut base = Base::default();
        let mut open = vec![dir.to_owned()];
        while let Some(dir) = open.pop() {
            let metadata = fs::metadata(&dir).expect("a directory of the test");
            base.directories.insert(metadata.ino(), dir.clone());
            for entry in fs::read_dir(&dir).expect("a directory of the test") {
                let path = entry.expect("a directory of the test").path();
                let metadata = fs::symlink_metadata(&path).expect("nobody takes files away");
                if metadata.is_dir() {
                    open.push(path);
                } else if metadata.is_file() {
                    let bytes = fs::read(&path).expect("a file of the test");
                    base.contents.insert(metadata.ino(), bytes);
                    base.names.insert(path, metadata.ino());
                }
            }
        }
        base
    }

    /// Every file: name, inode, contents.
    pub fn files(&self) -> impl Iterator<Item = (&PathBuf, u64, &Vec<u8>)> {
        self.names
            .iter()
            .map(|(path, inode)| (path, *inode, &self.contents[inode]))
    }
}

/// A change that a sync makes certain, with the number of its record.
#[derive(Clone, Debug)]
struct Change<T> {
    number: usize,
    certain: bool,
    /// A sync that was to save it failed.
    doubtful: bool,
    what: T,
}

impl<T> Change<T> {
    fn new(number: usize, what: T) -> Change<T> {
        Change {
            number,
            certain: false,
            doubtful: false,
            what,
        }
    }
}

/// A change to the contents of a file.
#[derive(Clone, Debug)]
enum Content<'a> {
    Write(u64, &'a [u8]),
    Length(u64),
}

/// A change to names; each says which file it is about.
#[derive(Clone, Debug)]
enum Name<'a> {
    Create(&'a Path),
    Rename(&'a Path, &'a Path),
    Unlink(&'a Path),
}

/// A file that the log speaks of; an inode number can be given to a new file when the old one is gone.
#[derive(Debug, Default)]
struct File<'a> {
    base: Vec<u8>,
    changes: Vec<Change<Content<'a>>>,
}

/// The disk at some place of the log.
#[derive(Debug)]
pub struct Model<'a> {
    base: &'a Base,
    files: Vec<File<'a>>,
    /// Which of the files has this inode now.
    current: HashMap<u64, usize>,
    /// The names at first.
    names: BTreeMap<PathBuf, usize>,
    changes: Vec<Change<(usize, Name<'a>)>>,
}

/// How a power cut chooses what has arrived of that which is not certain.
#[derive(Clone, Copy)]
enum Fate {
    All,
    Nothing,
    /// The first ones in order, the last of them torn.
    First(usize),
    /// Each for itself.
    Some,
    /// Each sector for itself.
    Torn,
}

impl<'a> Model<'a> {
    /// The disk after these records.
    pub fn new(base: &'a Base, records: &'a [Record]) -> Model<'a> {
        let mut model = Model {
            base,
            files: Vec::new(),
            current: HashMap::new(),
            names: BTreeMap::new(),
            changes: Vec::new(),
        };
        for (path, inode, bytes) in base.files() {
            let file = model.add(inode, bytes.clone());
            model.names.insert(path.clone(), file);
        }
        // What each thread syncs at the moment, and since which record.
        let mut begun = HashMap::new();
        for (number, record) in records.iter().enumerate() {
            match &record.event {
                Event::SyncBegun { inode } => {
                    begun.insert(record.thread, (*inode, number));
                }
                Event::Synced { inode } | Event::SyncFailed { inode } => {
                    let began = begun.remove(&record.thread);
                    let began = began.filter(|(which, _)| which == inode);
                    let (_, since) = began.expect("a sync begins before it ends");
                    let well = matches!(record.event, Event::Synced { .. });
                    model.sync(*inode, since, well);
                }
                event => model.change(number, event),
            }
        }
        model
    }

    fn add(&mut self, inode: u64, base: Vec<u8>) -> usize {
        let changes = Vec::new();
        self.files.push(File { base, changes });
        self.current.insert(inode, self.files.len() - 1);
        self.files.len() - 1
    }

    fn change(&mut self, number: usize, event: &'a Event) {
        let known = |inode: &u64| {
            let file = self.current.get(inode);
            *file.unwrap_or_else(|| panic!("{event:?} of a file that nobody made"))
        };
        let (file, name) = match event {
            Event::Written {
                inode,
                offset,
                bytes,
            } => {
                let content = Change::new(number, Content::Write(*offset, bytes));
                let file = known(inode);
                return self.files[file].changes.push(content);
            }
            Event::Resized { inode, length } => {
                let content = Change::new(number, Content::Length(*length));
                let file = known(inode);
                return self.files[file].changes.push(content);
            }
            Event::Created { inode, path } if path.as_os_str().is_empty() => {
                // It never gets a name, and goes with the process.
                self.add(*inode, Vec::new());
                return;
            }
            Event::Created { inode, path } => (self.add(*inode, Vec::new()), Name::Create(path)),
            Event::Renamed { inode, from, to } => (known(inode), Name::Rename(from, to)),
            Event::Unlinked { inode, path } => (known(inode), Name::Unlink(path)),
            Event::Unseen { what } => panic!("the file layer cannot follow this: {what}"),
            Event::Started
            | Event::SyncBegun { .. }
            | Event::Synced { .. }
            | Event::SyncFailed { .. }
            | Event::Sent { .. }
            | Event::Taken { .. }
            | Event::Refused { .. } => return,
        };
        self.changes.push(Change::new(number, (file, name)));
    }

    /// A sync of this inode that began at record `since` has ended.
    fn sync(&mut self, inode: u64, since: usize, well: bool) {
        if let Some(dir) = self.base.directories.get(&inode) {
            let inside = |change: &&mut Change<(usize, Name)>| change.what.1.is_in(dir);
            settle(self.changes.iter_mut().filter(inside), since, well, |_| {
                false
            });
        } else {
            let Some(file) = self.current.get(&inode).copied() else {
                // A directory that the program made itself; the files in it are made certain by their own syncs.
                return;
            };
            let is_write = |content: &Content| matches!(content, Content::Write(..));
            settle(self.files[file].changes.iter_mut(), since, well, is_write);
            let own = |change: &&mut Change<(usize, Name)>| change.what.0 == file;
            settle(self.changes.iter_mut().filter(own), since, well, |_| false);
        }
    }

    /// The directory as a program sees it.
    pub fn whole(&self) -> Files {
        self.files_by(|_, _| Fate::All, &mut Random::new(0))
    }

    /// The inode that a file of this path has now.
    pub fn inode_of(&self, path: &Path) -> Option<u64> {
        let names = self.names_by(Fate::All, &mut Random::new(0));
        let file = names.get(path)?;
        let mut current = self.current.iter();
        current.find_map(|(inode, other)| (other == file).then_some(*inode))
    }

    /// A name that the file of this inode has now.
    pub fn name_of(&self, inode: u64) -> Option<PathBuf> {
        let file = self.current.get(&inode)?;
        let names = self.names_by(Fate::All, &mut Random::new(0));
        let mut names = names.into_iter();
        names.find_map(|(path, other)| (other == *file).then_some(path))
    }

    /// A directory as a power cut could leave it; each seed finds another.
    pub fn power_cut(&self, seed: u64) -> Files {
        let mut random = Random::new(seed);
        let whole = random.below(8) == 0;
        self.files_by(
            |random, uncertain| match random.below(5) {
                _ if whole => Fate::Nothing,
                0 => Fate::All,
                1 => Fate::Nothing,
                2 => Fate::First(random.below(uncertain as u64 + 1) as usize),
                3 => Fate::Some,
                _ => Fate::Torn,
            },
            &mut random,
        )
    }

    fn files_by(&self, fate: impl Fn(&mut Random, usize) -> Fate, random: &mut Random) -> Files {
        let uncertain = self.changes.iter().filter(|change| !change.certain).count();
        let names = self.names_by(fate(random, uncertain), random);
        let contents = names.into_iter().map(|(path, file)| {
            let file = &self.files[file];
            let uncertain = file.changes.iter().filter(|change| !change.certain).count();
            (path, file.contents(fate(random, uncertain), random))
        });
        contents.collect()
    }

    fn names_by(&self, fate: Fate, random: &mut Random) -> BTreeMap<PathBuf, usize> {
        let mut names = self.names.clone();
        let mut uncertain = 0;
        for change in &self.changes {
            let arrived = change.certain || fate.arrives(uncertain, random);
            uncertain += usize::from(!change.certain);
            if !arrived {
                continue;
            }
            let (file, name) = &change.what;
            let mut remove = |path: &Path| {
                // Unless the name is already that of another file.
                if names.get(path) == Some(file) {
                    names.remove(path);
                }
            };
            match name {
                Name::Create(path) => {
                    names.insert(path.to_path_buf(), *file);
                }
                Name::Rename(from, to) => {
                    remove(from);
                    names.insert(to.to_path_buf(), *file);
                }
                Name::Unlink(path) => remove(path),
            }
        }
        names
    }
}

/// Changes before record `since` are certain after a sync that went well; after one that did not, those that the kernel
/// forgets are doubtful for ever.
fn settle<'c, T: 'c>(
    changes: impl Iterator<Item = &'c mut Change<T>>,
    since: usize,
    well: bool,
    is_forgotten: impl Fn(&T) -> bool,
) {
    for change in changes.filter(|change| change.number < since && !change.certain) {
        change.doubtful |= !well && is_forgotten(&change.what);
        change.certain = well && !change.doubtful;
    }
}

impl Name<'_> {
    fn is_in(&self, dir: &Path) -> bool {
        match self {
            Name::Create(path) | Name::Unlink(path) => parent(path) == dir,
            // Within one directory or between two: the one that holds the new name decides.
            Name::Rename(_, to) => parent(to) == dir,
        }
    }
}

impl Fate {
    /// Whether the `nth` uncertain change arrives, as a whole.
    fn arrives(self, nth: usize, random: &mut Random) -> bool {
        match self {
            Fate::All => true,
            Fate::Nothing => false,
            Fate::First(count) => nth < count,
            Fate::Some | Fate::Torn => random.below(2) == 0,
        }
    }
}

impl File<'_> {
    fn contents(&self, fate: Fate, random: &mut Random) -> Vec<u8> {
        let mut bytes = self.base.clone();
        let mut uncertain = 0;
        for change in &self.changes {
            let nth = uncertain;
            uncertain += usize::from(!change.certain);
            // The last of the first ones, or any of the torn ones.
            let torn = !change.certain
                && match fate {
                    Fate::Torn => true,
                    Fate::First(count) => nth + 1 == count,
                    Fate::All | Fate::Nothing | Fate::Some => false,
                };
            match change.what {
                Content::Write(offset, data) if torn => tear(&mut bytes, offset, data, random),
                _ if !change.certain && !fate.arrives(nth, random) => {}
                Content::Write(offset, data) => put(&mut bytes, offset, data),
                Content::Length(length) => bytes.resize(as_index(length), 0),
            }
        }
        bytes
    }
}

/// Writes some sectors of the data, and perhaps the length that the file would have with all of them.
fn tear(bytes: &mut Vec<u8>, offset: u64, data: &[u8], random: &mut Random) {
    let end = offset + data.len() as u64;
    let mut at = offset;
    while at < end {
        let next = end.min((at / SECTOR + 1) * SECTOR);
        if random.below(2) == 0 {
            put(
                bytes,
                at,
                &data[as_index(at - offset)..as_index(next - offset)],
            );
        }
        at = next;
    }
    if random.below(2) == 0 && bytes.len() < as_index(end) {
        bytes.resize(as_index(end), 0);
    }
}

fn put(bytes: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let (start, end) = (as_index(offset), as_index(offset) + data.len());
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[start..end].copy_from_slice(data);
}

fn as_index(number: u64) -> usize {
    usize::try_from(number).expect("files of tests are small")
}
