//! `pid_file`: the number of the process, in decimal and without a line end.
//!
//! It is written by root into a directory that often belongs to somebody else, so it trusts nothing that it finds
//! there.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::DaemonError;
use crate::config::system_reason;

/// The file with this process's number. It is removed when this is dropped.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    file: File,
}

impl PidFile {
    /// Writes this process's number to `path`.
    ///
    /// # Errors
    /// If it cannot be written, or is there and is not a file of its own: a link, a directory, a device.
    pub fn write(path: &Path) -> Result<PidFile, DaemonError> {
        let failed = |reason: String| DaemonError::PidFile {
            path: path.to_owned(),
            reason,
        };
        let system = |error: io::Error| failed(system_reason(&error));
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
        let file = match rustix::fs::open(path, flags | OFlags::CLOEXEC, mode) {
            Ok(file) => File::from(file),
            Err(Errno::LOOP) => return Err(failed("it is a symbolic link".to_owned())),
            Err(error) => return Err(system(error.into())),
        };
        let found = file.metadata().map_err(system)?;
        if !found.is_file() {
            return Err(failed("it is not a regular file".to_owned()));
        }
        if found.nlink() > 1 {
            return Err(failed("the file has another name as well".to_owned()));
        }
        let pid = std::process::id().to_string();
        file.set_len(0)
            .and_then(|()| (&file).write_all(pid.as_bytes()))
            .map_err(system)?;
        Ok(PidFile {
            path: path.to_owned(),
            file,
        })
    }

    /// Whether the path still names what was written here.
    fn is_ours(&self) -> io::Result<bool> {
        let found = fs::symlink_metadata(&self.path)?;
        let written = self.file.metadata()?;
        let is_same = (found.dev(), found.ino()) == (written.dev(), written.ino());
        let pid = std::process::id().to_string();
        // One byte more: a longer number is another one.
        let mut text = vec![0; pid.len() + 1];
        let length = self.file.read_at(&mut text, 0)?;
        Ok(is_same && &text[..length] == pid.as_bytes())
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let removed = match self.is_ours() {
            Ok(true) => fs::remove_file(&self.path),
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                // The directory is not ours to change; an empty file at least names no other process later.
                let _ = self.file.set_len(0);
                ::log::warn!(
                    "Warning: Unable to remove pid file {}: {}.",
                    self.path.display(),
                    system_reason(&error)
                );
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &Path) -> String {
        fs::read_to_string(path).expect("it is there")
    }

    #[test]
    fn it_has_the_number_and_goes() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("midge.pid");
        let pid = std::process::id().to_string();
        drop(PidFile::write(&path).expect("it can be written"));
        assert!(!path.exists());
        // What a killed process left behind does not matter, however long it is.
        fs::write(&path, "12345678901234\n").expect("the directory is ours");
        let file = PidFile::write(&path).expect("it can be written");
        assert_eq!(text(&path), pid);
        let mode = fs::metadata(&path).expect("it is there").mode();
        assert_eq!(mode & 0o022, 0);
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn what_is_another_processes_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("midge.pid");
        let file = PidFile::write(&path).expect("it can be written");
        fs::write(&path, "1").expect("it is ours");
        drop(file);
        assert_eq!(text(&path), "1", "written over");
        let file = PidFile::write(&path).expect("it can be written");
        fs::rename(&path, dir.path().join("other")).expect("it is there");
        fs::write(&path, std::process::id().to_string()).expect("the directory is ours");
        drop(file);
        assert!(path.exists(), "replaced");
        fs::remove_file(&path).expect("it is there");
        let file = PidFile::write(&path).expect("it can be written");
        fs::remove_file(&path).expect("it is there");
        drop(file);
    }

    #[test]
    fn it_goes_nowhere_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let precious = dir.path().join("precious");
        fs::write(&precious, "kept").expect("the directory is ours");
        let symbolic = dir.path().join("symbolic");
        std::os::unix::fs::symlink(&precious, &symbolic).expect("the directory is ours");
        let hard = dir.path().join("hard");
        fs::hard_link(&precious, &hard).expect("the directory is ours");
        for (path, reason) in [
            (symbolic, "it is a symbolic link"),
            (hard, "the file has another name as well"),
            (dir.path().to_owned(), "Is a directory"),
            (dir.path().join("a/b"), "No such file or directory"),
            ("/dev/null".into(), "it is not a regular file"),
        ] {
            let error = PidFile::write(&path).expect_err("it cannot be");
            let path = path.display();
            assert_eq!(
                error.to_string(),
                format!("Error: Unable to write pid file {path}: {reason}.")
            );
        }
        assert_eq!(text(&precious), "kept");
    }
}
