//! The corpus of the fuzzer, replayed: everything in `corpus/` goes through its target again, with what it began with.

mod targets;

use std::fs;
use std::path::PathBuf;
use targets::TARGETS;

/// More than this does not belong in a repository.
const FILES_MAX: usize = 200;
const BYTES_MAX: usize = 500 * 1000;

/// The corpus of a target; `MIDGE_FUZZ_CORPUS` is another one's, for `tests/fuzz/run --coverage`.
fn folder(target: &str) -> PathBuf {
    let kept = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let other = std::env::var_os("MIDGE_FUZZ_CORPUS").map(PathBuf::from);
    other.unwrap_or_else(kept).join(target)
}

/// The files of a target's corpus, in the order of their names.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(folder(target)) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let bytes = fs::read(&path).expect("a file of the corpus");
        (path, bytes)
    };
    paths.into_iter().map(read).collect()
}

#[test]
fn every_file_of_the_corpus_goes_through() {
    targets::log_into_nothing();
    for target in TARGETS {
        for (path, bytes) in corpus(target.name) {
            let fed = std::panic::catch_unwind(|| (target.feed)(&bytes));
            assert!(fed.is_ok(), "{}", path.display());
        }
    }
}

#[test]
fn every_seed_goes_through() {
    for target in TARGETS {
        for (number, seed) in (target.seeds)().iter().enumerate() {
            assert!(seed.len() <= target.bytes_max, "{} {number}", target.name);
            let fed = std::panic::catch_unwind(|| (target.feed)(seed));
            assert!(fed.is_ok(), "seed {number} of {}", target.name);
        }
    }
}

#[test]
fn the_corpus_is_small() {
    let files = TARGETS.iter().flat_map(|target| corpus(target.name));
    let sizes: Vec<usize> = files.map(|(_, bytes)| bytes.len()).collect();
    assert!(sizes.len() <= FILES_MAX, "{} files", sizes.len());
    let bytes: usize = sizes.iter().sum();
    assert!(bytes <= BYTES_MAX, "{bytes} bytes");
}
