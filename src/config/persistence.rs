//! What is kept on disk, where, and how surely.

use std::path::PathBuf;
use std::time::Duration;

/// What a commit means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sync {
    /// It is on the disk: neither a crash nor a power failure takes it back.
    #[default]
    Full,
    /// It is with the operating system: a power failure can take the last commits back, a crash of the broker cannot.
    Normal,
    /// The same, and a power failure can damage the database.
    Off,
}

impl Sync {
    /// What the word means; `extra` is the one of Mosquitto's SQLite plugin for no less than full.
    pub fn from_word(word: &str) -> Option<Sync> {
        match word {
            "full" | "extra" => Some(Sync::Full),
            "normal" => Some(Sync::Normal),
            "off" => Some(Sync::Off),
            _ => None,
        }
    }
}

/// The settings of persistence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Persistence {
    /// `persistence`: whether there is any.
    pub is_on: bool,
    /// `persistence_location`: the directory.
    pub location: PathBuf,
    /// `persistence_file`: the name of Mosquitto's file, and the beginning of ours.
    pub file: PathBuf,
    /// `persistence_sync`.
    pub sync: Sync,
    /// `persistence_commit_interval`: the time between two commits at least.
    pub commit_interval: Duration,
}

impl Default for Persistence {
    fn default() -> Persistence {
        Persistence {
            is_on: false,
            location: PathBuf::new(),
            file: PathBuf::from("mosquitto.db"),
            sync: Sync::default(),
            commit_interval: Duration::ZERO,
        }
    }
}

impl Persistence {
    /// The database.
    pub fn database(&self) -> PathBuf {
        self.location.join(&self.file).with_extension("midge")
    }

    /// Where Mosquitto would have its own, which is taken over at the first start.
    pub fn mosquitto_file(&self) -> PathBuf {
        self.location.join(&self.file)
    }
}
