//! Files that the rights depend on, read whole: password files, access control lists.
//!
//! It knows who besides the operator could read or change such a file. It does not know what is in it.
//! 1. What is read is what was checked: every question but that for a link is asked of the open file.
//! 2. A file that cannot be read to its end is an error, never an empty one.

use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{self, Gid, Uid};
use rustix::fs::OFlags;

use crate::config::system_reason;

/// The longest file in bytes: a million accounts fit in.
pub const FILE_BYTES_MAX: u64 = 256 << 20;

/// Set where symbolic links are how files get to their place, as under Kubernetes; its value does not matter.
const ALLOW_SYMLINKS: &str = "MOSQUITTO_UNSAFE_ALLOW_SYMLINKS";

/// Why a file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// Why, as the end of a sentence.
    pub reason: String,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FileError { path, reason } = self;
        write!(
            f,
            "Error: Unable to read file {}: {reason}.",
            path.display()
        )
    }
}

impl std::error::Error for FileError {}

/// Reads the file at `path`: its bytes, and what the operator should be told about who else can reach it.
///
/// Mosquitto 2.1 refuses a symbolic link unless `MOSQUITTO_UNSAFE_ALLOW_SYMLINKS` is set. Since secrets in containers
/// are links as a rule, and so are many in `/etc`, it is followed here, with a warning unless that is set: who could
/// replace the link could as well replace a file in its place, and that is what the other warnings are about.
///
/// # Errors
/// If it is a directory, a pipe or a socket, cannot be read to its end, or is longer than [`FILE_BYTES_MAX`].
pub fn read(path: &Path) -> Result<(Vec<u8>, Vec<String>), FileError> {
    read_as(path, &Reader::of_process())
}

/// Who reads, as far as warnings depend on it.
struct Reader {
    user: Uid,
    group: Gid,
    allows_symlinks: bool,
}

impl Reader {
    fn of_process() -> Reader {
        Reader {
            user: unistd::geteuid(),
            group: unistd::getegid(),
            allows_symlinks: std::env::var_os(ALLOW_SYMLINKS).is_some(),
        }
    }
}

fn read_as(path: &Path, reader: &Reader) -> Result<(Vec<u8>, Vec<String>), FileError> {
    let failed = |reason: String| FileError {
        path: path.to_owned(),
        reason,
    };
    let system = |error: io::Error| {
        failed(match error.kind() {
            ErrorKind::PermissionDenied => {
                let user = reader.user;
                format!(
                    "{} for the user that the broker runs as, whose id is {user}",
                    system_reason(&error)
                )
            }
            _ => system_reason(&error),
        })
    };
    let file = File::options()
        .read(true)
        // A named pipe is to be refused, not waited for.
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open(path)
        .map_err(system)?;
    let found = file.metadata().map_err(system)?;
    if found.is_dir() {
        return Err(failed("it is a directory".to_owned()));
    }
    // /dev/null is a file without any accounts or rights, to those who want that.
    let is_device = found.file_type().is_char_device();
    if !found.is_file() && !is_device {
        return Err(failed("it is not a regular file".to_owned()));
    }
    let too_long = || failed(format!("it has more than {FILE_BYTES_MAX} bytes"));
    if found.len() > FILE_BYTES_MAX {
        return Err(too_long());
    }
    let mut bytes = Vec::new();
    // It may be longer by now.
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(system)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(too_long());
    }
    let warnings = if is_device {
        Vec::new()
    } else {
        warnings(path, &found, reader)
    };
    Ok((bytes, warnings))
}

/// What is wrong with who can reach the file `found` at `path`.
fn warnings(path: &Path, found: &Metadata, reader: &Reader) -> Vec<String> {
    let name = path.display();
    let mode = found.mode();
    let mut warnings = Vec::new();
    let mut warn = |text: String| warnings.push(format!("Warning: File {name} {text}"));
    if let (Ok(target), false) = (fs::read_link(path), reader.allows_symlinks) {
        warn(format!(
            "is a symbolic link to {}. If that is meant, set {ALLOW_SYMLINKS} in the environment.",
            target.display()
        ));
    }
    if mode & 0o002 != 0 {
        warn(format!(
            "has world writable permissions: every user of this machine can change who may do what. \
             To fix this, use `chmod o-w {name}`."
        ));
    }
    if mode & 0o004 != 0 {
        warn(format!(
            "has world readable permissions. To fix this, use `chmod o-r {name}`."
        ));
    }
    let (owner, group) = (Uid::from_raw(found.uid()), Gid::from_raw(found.gid()));
    if !owner.is_root() && owner != reader.user {
        let user = user_name(reader.user);
        warn(format!(
            "owner is not {user}. To fix this, use `chown {user} {name}`."
        ));
    }
    if mode & 0o060 != 0 && group.as_raw() != 0 && group != reader.group {
        let group = group_name(reader.group);
        warn(format!(
            "group is not {group}. To fix this, use `chgrp {group} {name}`."
        ));
    }
    if let Some(directory) = open_directory(path) {
        warn(format!(
            "is in the directory {}, where every user of this machine can replace it. \
             To fix this, use `chmod o-w` on the directory.",
            directory.display()
        ));
    }
    warnings
}

/// The directory of the file that `path` stands for, if every user can rename what is in it.
fn open_directory(path: &Path) -> Option<PathBuf> {
    let file = fs::canonicalize(path).ok()?;
    let directory = file.parent()?;
    let mode = fs::metadata(directory).ok()?.mode();
    // Sticky: only who owns a file may rename it.
    (mode & 0o002 != 0 && mode & 0o1000 == 0).then(|| directory.to_owned())
}

fn user_name(id: Uid) -> String {
    let user = unistd::User::from_uid(id).ok().flatten();
    user.map_or_else(|| id.to_string(), |user| user.name)
}

fn group_name(id: Gid) -> String {
    let group = unistd::Group::from_gid(id).ok().flatten();
    group.map_or_else(|| id.to_string(), |group| group.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn own() -> Reader {
        Reader {
            allows_symlinks: false,
            ..Reader::of_process()
        }
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
    }

    /// A file with some text, and its directory.
    fn file(mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("passwords");
        fs::write(&path, "bob:x\n").expect("the directory is ours");
        chmod(&path, mode);
        (dir, path)
    }

    /// The warnings about a good file without what is the same in all.
    fn warnings_of(path: &Path, reader: &Reader) -> Vec<String> {
        let (bytes, warnings) = read_as(path, reader).expect("it can be read");
        assert_eq!(bytes, b"bob:x\n");
        let prefix = format!("Warning: File {} ", path.display());
        let rest = |warning: &String| warning.strip_prefix(&prefix).map(str::to_owned);
        warnings
            .iter()
            .map(|warning| rest(warning).unwrap_or_else(|| panic!("{warning}")))
            .collect()
    }

    #[track_caller]
    fn assert_starts(found: &[String], expected: &[&str]) {
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}");
        }
    }

    #[test]
    fn modes() {
        for (mode, expected) in [
            (0o600, &[][..]),
            (0o640, &[]),
            (0o400, &[]),
            (0o644, &["has world readable permissions."]),
            (0o602, &["has world writable permissions"]),
            (
                0o666,
                &[
                    "has world writable permissions",
                    "has world readable permissions.",
                ],
            ),
        ] {
            let (_dir, path) = file(mode);
            assert_starts(&warnings_of(&path, &own()), expected);
        }
    }

    #[test]
    fn owners() {
        let (_dir, path) = file(0o640);
        let found = fs::metadata(&path).expect("it is there");
        let is_roots = found.uid() == 0;
        let other = Reader {
            user: Uid::from_raw(found.uid() + 1),
            group: Gid::from_raw(found.gid() + 1),
            ..own()
        };
        // What belongs to root is safe from everybody else.
        let expected = ["owner is not ", "group is not "];
        let warnings = warnings_of(&path, &other);
        assert_starts(&warnings, if is_roots { &[] } else { &expected });
        if !is_roots {
            return;
        }
        unistd::chown(&path, Some(Uid::from_raw(12)), Some(Gid::from_raw(13))).expect("root may");
        assert_starts(&warnings_of(&path, &own()), &expected);
        // A group that may do nothing does not matter.
        chmod(&path, 0o600);
        assert_starts(&warnings_of(&path, &own()), &expected[..1]);
        let owner = Reader {
            user: Uid::from_raw(12),
            group: Gid::from_raw(13),
            ..own()
        };
        chmod(&path, 0o640);
        assert_starts(&warnings_of(&path, &owner), &[]);
    }

    /// As Kubernetes mounts a secret: a link to a file behind a link to a directory.
    #[test]
    fn symbolic_links() {
        let (dir, path) = file(0o600);
        let data = dir.path().join("..2024");
        fs::create_dir(&data).expect("the directory is ours");
        fs::rename(&path, data.join("passwords")).expect("it is there");
        symlink("..2024", dir.path().join("..data")).expect("the directory is ours");
        symlink("..data/passwords", &path).expect("the directory is ours");
        assert_starts(
            &warnings_of(&path, &own()),
            &["is a symbolic link to ..data/passwords. If that is meant, set MOSQUITTO_"],
        );
        let allowing = Reader {
            allows_symlinks: true,
            ..own()
        };
        assert_starts(&warnings_of(&path, &allowing), &[]);
        // The directory that counts is the one that the file is in.
        chmod(&data, 0o777);
        assert_starts(&warnings_of(&path, &allowing), &["is in the directory "]);
        chmod(&data, 0o1777);
        assert_starts(&warnings_of(&path, &allowing), &[]);
        fs::remove_file(data.join("passwords")).expect("it is there");
        let error = read_as(&path, &own()).expect_err("it leads nowhere");
        assert_eq!(error.reason, "No such file or directory");
    }

    #[test]
    fn what_cannot_be_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let pipe = dir.path().join("pipe");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, mode, 0).expect("the directory is ours");
        for (path, reason) in [
            (dir.path().join("missing"), "No such file or directory"),
            (dir.path().to_owned(), "it is a directory"),
            (pipe, "it is not a regular file"),
        ] {
            let error = read(&path).expect_err("it cannot be");
            let path = path.display();
            assert_eq!(
                error.to_string(),
                format!("Error: Unable to read file {path}: {reason}.")
            );
        }
        let (_dir, path) = file(0o600);
        let long = File::options().write(true).open(&path).expect("it is ours");
        long.set_len(FILE_BYTES_MAX + 1)
            .expect("there is room for a hole");
        let error = read(&path).expect_err("it is too long");
        assert!(error.reason.contains("bytes"), "{error}");
    }

    #[test]
    fn an_empty_file_is_empty() {
        let (_dir, path) = file(0o600);
        fs::write(&path, "").expect("it is ours");
        for path in [&path, Path::new("/dev/null")] {
            assert_eq!(read_as(path, &own()), Ok((Vec::new(), Vec::new())));
        }
    }
}
