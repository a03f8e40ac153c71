//! A password file on disk: read, backed up, and replaced as a whole.
//!
//! It does not know what is in it.
//! 1. A file is replaced by another one that was complete on disk before, with the owner and mode of the old one; a new
//!    one is for its owner only.
//! 2. Only where a file cannot be replaced, as one that is mounted by itself into a container, is it overwritten.
//! 3. A symbolic link stays one: the file that it leads to is replaced.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use tempfile::{Builder, NamedTempFile, TempPath};

/// Symbolic links that are followed one after the other, as many as Linux follows.
const LINKS_MAX: usize = 40;

/// Why a file was not replaced.
#[derive(Debug)]
pub enum StoreError {
    /// It is as it was.
    Untouched(io::Error),
    /// It was being overwritten.
    Damaged(io::Error),
}

/// A regular file that we may read and write.
#[derive(Debug)]
pub struct Opened {
    path: PathBuf,
    file: File,
}

impl Opened {
    /// Opens the file at `path`, which is no link.
    pub fn open(path: &Path) -> io::Result<Opened> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("Not a regular file"));
        }
        Ok(Opened {
            path: path.to_owned(),
            file,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All that is in it.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut file = &self.file;
        file.rewind()?;
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Puts `bytes` in place of what is in it.
    pub fn store(&self, bytes: &[u8]) -> Result<(), StoreError> {
        match replace(&self.path, Some(&self.file), bytes) {
            Ok(()) => Ok(()),
            Err(error) if cannot_be_replaced(&error) => {
                overwrite(&self.file, bytes).map_err(StoreError::Damaged)
            }
            Err(error) => Err(StoreError::Untouched(error)),
        }
    }
}

/// Where a path leads to, which need not exist.
pub fn resolve(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        match fs::canonicalize(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            resolved => return resolved,
        }
        // A link to where nothing is yet.
        match fs::read_link(&path) {
            Ok(link) => path = directory(&path).join(link),
            Err(_) => return Ok(path),
        }
    }
    Err(Errno::LOOP.into())
}

/// Puts `bytes` at `path`, which is no link, whether or not something is there.
pub fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let existing = match OpenOptions::new().write(true).open(path) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if let Some(mut file) = existing.as_ref()
        && !file.metadata()?.is_file()
    {
        // A device or a pipe must not become a file.
        return file.write_all(bytes);
    }
    match (replace(path, existing.as_ref(), bytes), existing) {
        (Err(error), Some(file)) if cannot_be_replaced(&error) => overwrite(&file, bytes),
        (done, _) => done,
    }
}

/// Writes a copy beside the file at `path`, for its owner only, which goes when it is dropped.
pub fn backup(path: &Path, bytes: &[u8]) -> io::Result<TempPath> {
    let mut name = OsString::from(path.file_name().unwrap_or_default());
    name.push(".backup.");
    let mut copy = Builder::new().prefix(&name).tempfile_in(directory(path))?;
    copy.write_all(bytes)?;
    copy.as_file().sync_all()?;
    Ok(copy.into_temp_path())
}

fn replace(path: &Path, existing: Option<&File>, bytes: &[u8]) -> io::Result<()> {
    let mut new = NamedTempFile::with_prefix_in(".passwd-", directory(path))?;
    new.write_all(bytes)?;
    if let Some(existing) = existing {
        let old = existing.metadata()?;
        let ours = new.as_file().metadata()?;
        if (old.uid(), old.gid()) != (ours.uid(), ours.gid()) {
            fchown(new.as_file(), Some(old.uid()), Some(old.gid()))?;
        }
        new.as_file().set_permissions(old.permissions())?;
    }
    new.as_file().sync_all()?;
    new.persist(path).map_err(|error| error.error)?;
    // The new file is there; only a loss of power in this moment could bring the old one back, and some network file
    // systems do not let one ask for more.
    let _ = File::open(directory(path)).and_then(|directory| directory.sync_all());
    Ok(())
}

/// Whether it is the place that forbids another file, so that overwriting this one may still go.
fn cannot_be_replaced(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::BUSY | Errno::XDEV | Errno::PERM | Errno::ACCESS | Errno::ROFS)
    )
}

fn overwrite(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it exists").mode() & 0o7777
    }

    fn names(directory: &Path) -> Vec<OsString> {
        let entries = fs::read_dir(directory).expect("the directory is ours");
        let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_new_file_is_for_its_owner() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("new");
        create(&path, b"text").expect("the directory is ours");
        assert_eq!(fs::read(&path).expect("it is there"), b"text");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(names(directory.path()), ["new"]);
    }

    #[test]
    fn an_old_file_keeps_its_mode() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("old");
        for mode_before in [0o644, 0o600, 0o640] {
            fs::write(&path, "a longer text than before").expect("the directory is ours");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode_before)).expect("ours");
            let opened = Opened::open(&path).expect("it is there");
            assert_eq!(
                opened.read().expect("it is ours"),
                b"a longer text than before"
            );
            opened.store(b"stored").expect("the directory is ours");
            assert_eq!(fs::read(&path).expect("it is there"), b"stored");
            create(&path, b"created").expect("the directory is ours");
            assert_eq!(fs::read(&path).expect("it is there"), b"created");
            assert_eq!(
                (mode(&path), names(directory.path())),
                (mode_before, vec!["old".into()])
            );
        }
    }

    /// Another file takes its place, so that a broker which reads it meanwhile reads the old one to its end.
    #[test]
    fn a_file_is_replaced_not_overwritten() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("file");
        fs::write(&path, "old").expect("the directory is ours");
        let opened = Opened::open(&path).expect("it is there");
        opened.store(b"new").expect("the directory is ours");
        assert_eq!(opened.read().expect("it is open"), b"old");
    }

    #[test]
    fn what_cannot_be_replaced_is_overwritten() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("file");
        fs::write(&path, "a longer text").expect("the directory is ours");
        let opened = Opened::open(&path).expect("it is there");
        overwrite(&opened.file, b"new").expect("it is open for that");
        assert_eq!(opened.read().expect("it is open"), b"new");
        for (errno, cannot) in [
            (Errno::BUSY, true),
            (Errno::PERM, true),
            (Errno::NOSPC, false),
            (Errno::IO, false),
        ] {
            assert_eq!(cannot_be_replaced(&errno.into()), cannot, "{errno:?}");
        }
    }

    #[test]
    fn links_stay_links() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = fs::canonicalize(directory.path()).expect("it is there");
        fs::create_dir(root.join("there")).expect("the directory is ours");
        for (link, to) in [
            ("a", "there/file"),
            ("b", "a"),
            ("c", "there/new"),
            ("d", "d"),
        ] {
            symlink(to, root.join(link)).expect("the directory is ours");
        }
        fs::write(root.join("there/file"), "").expect("the directory is ours");
        for (path, resolved) in [
            ("a", Some("there/file")),
            ("b", Some("there/file")),
            ("c", Some("there/new")),
            ("d", None),
            ("there/../e", Some("there/../e")),
        ] {
            let found = resolve(&root.join(path)).ok();
            assert_eq!(found, resolved.map(|path| root.join(path)), "{path}");
        }
    }

    #[test]
    fn a_backup_goes_unless_it_is_kept() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("file");
        let copy = backup(&path, b"old").expect("the directory is ours");
        let name = copy.file_name().and_then(|name| name.to_str());
        let random = name.and_then(|name| name.strip_prefix("file.backup."));
        assert_eq!(random.map(str::len), Some(6));
        assert_eq!(
            (mode(&copy), fs::read(&copy).expect("it is there")),
            (0o600, b"old".to_vec())
        );
        drop(copy);
        assert!(names(directory.path()).is_empty());
        let kept = backup(&path, b"old").and_then(|copy| Ok(copy.keep()?));
        assert_eq!(
            fs::read(kept.expect("it is ours")).expect("it is kept"),
            b"old"
        );
    }

    #[test]
    fn what_is_no_file_stays_what_it_is() {
        create(Path::new("/dev/null"), b"text").expect("anybody may write there");
        assert!(!fs::metadata("/dev/null").expect("it is there").is_file());
        assert!(Opened::open(Path::new("/dev/null")).is_err());
        let directory = tempfile::tempdir().expect("a temporary directory");
        assert!(Opened::open(directory.path()).is_err());
        assert!(create(directory.path(), b"text").is_err());
    }
}
