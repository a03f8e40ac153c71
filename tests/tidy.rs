//! The house itself: the top level, the arrows between the rooms, a header on every file, and specification tags that
//! exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)
            .expect("a folder of the house")
            .flatten()
        {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                files.push(path);
            }
        }
    }
    files.retain(|file| !file.components().any(|part| part.as_os_str() == ".cache"));
    files.sort();
    files
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Which rooms a room may name.
const ARROWS: [(&str, &[&str]); 9] = [
    ("mqtt", &[]),
    ("buffer", &[]),
    ("config", &[]),
    ("auth", &["mqtt", "config"]),
    ("broker", &["mqtt", "buffer", "auth", "config"]),
    ("net", &["buffer", "config"]),
    (
        "persistence",
        &["mqtt", "buffer", "config", "auth", "broker"],
    ),
    (
        "server",
        &[
            "mqtt",
            "buffer",
            "config",
            "auth",
            "broker",
            "net",
            "persistence",
        ],
    ),
    (
        "cli",
        &[
            "mqtt",
            "buffer",
            "config",
            "auth",
            "broker",
            "net",
            "server",
            "persistence",
        ],
    ),
];

#[test]
fn imports_point_one_way() {
    for (room, allowed) in ARROWS {
        for file in rust_files(&root().join("src").join(room)) {
            let text = read(&file);
            for rest in text.split("crate::").skip(1) {
                let named: String = rest
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                let known = ARROWS.iter().any(|(room, _)| *room == named);
                assert!(
                    !known || named == room || allowed.contains(&named.as_str()),
                    "{}: {room} must not know {named}",
                    file.display()
                );
            }
        }
    }
}

#[test]
fn every_room_has_its_arrows() {
    for entry in fs::read_dir(root().join("src")).expect("src").flatten() {
        if entry.path().is_dir() {
            let name = entry.file_name().into_string().expect("a plain name");
            assert!(
                ARROWS.iter().any(|(room, _)| *room == name),
                "{name} has no arrows here"
            );
        }
    }
}

#[test]
fn every_file_says_what_it_is() {
    for folder in ["src", "tests", "benches", "perf"] {
        for file in rust_files(&root().join(folder)) {
            assert!(
                read(&file).starts_with("//!"),
                "{} does not say what it is in its first line",
                file.display()
            );
        }
    }
}

/// The tags of both standards, as the list beside the integration tests has them.
fn statements() -> BTreeSet<String> {
    let list = read(&root().join("tests/integration/statements.txt"));
    let tags: BTreeSet<String> = list
        .split_whitespace()
        .filter(|word| word.starts_with("MQTT-") || word.starts_with("[MQTT-"))
        .map(|word| word.trim_matches(['[', ']', ',', ':']).to_owned())
        .collect();
    assert!(
        tags.len() > 100,
        "the list of statements is not the list of statements"
    );
    tags
}

/// Every `[MQTT-…]` in `text`, without the brackets.
fn tags(text: &str) -> impl Iterator<Item = String> {
    text.split("[MQTT-")
        .skip(1)
        .filter_map(|rest| rest.split_once(']'))
        .map(|(tag, _)| format!("MQTT-{tag}"))
}

#[test]
fn specification_tags_exist() {
    let known = statements();
    for file in rust_files(&root().join("src")) {
        for tag in tags(&read(&file)) {
            assert!(
                known.contains(&tag),
                "{}: {tag} is in neither standard",
                file.display()
            );
        }
    }
}

#[test]
fn the_top_level_is_what_was_agreed() {
    let agreed = [
        "Cargo.toml",
        "Cargo.lock",
        "src",
        "benches",
        "tests",
        "perf",
        "conf",
        "README.md",
        "LICENSE",
    ];
    for entry in fs::read_dir(root()).expect("the repository").flatten() {
        let name = entry.file_name().into_string().expect("a plain name");
        assert!(
            name.starts_with('.') || name == "target" || agreed.contains(&name.as_str()),
            "{name} does not belong to the top level"
        );
    }
}

/// Where the compiler is not the judge of memory, with the number of blocks and why. Everything else has none.
const UNCHECKED: [(&str, usize, &str); 2] = [
    (
        "src/server/memory.rs",
        5,
        "the counting allocator: its trait can be had no other way; four blocks hand on to the system's allocator what \
         they were given, under the contract that their own caller keeps, and count in atomics; one has the C library give \
         free memory back, which may be asked for at any time",
    ),
    (
        "tests/allocations.rs",
        4,
        "as above, counting calls per thread; in no program",
    ),
];

/// Files of C, and why.
const FOREIGN: [(&str, &str); 1] = [(
    "tests/integration/disk/layer.c",
    "stands between a program and the kernel by LD_PRELOAD, which takes a library with C's symbols and no runtime of \
     its own; compiled by the tests that use it, in no program",
)];

fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != "node_modules" && name != ".cache" && name != "target" {
            found.extend(files(&path, endings));
        } else if let Some(ending) = path.extension().and_then(|ending| ending.to_str())
            && endings.contains(&ending)
        {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn below_root(path: &Path) -> String {
    let path = path.strip_prefix(root()).expect("below the root");
    path.to_str().expect("a plain name").to_owned()
}

#[test]
fn what_the_compiler_does_not_check_is_listed_and_argued() {
    let word = concat!("un", "safe");
    let lint = format!("{word}_code");
    let mut found = Vec::new();
    for folder in ["src", "tests", "benches", "perf"] {
        for file in rust_files(&root().join(folder)) {
            let name = below_root(&file);
            let text = read(&file);
            let code: Vec<&str> = text
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .filter(|line| *line != format!("#![deny({lint})]"))
                .collect();
            let any = code.iter().any(|line| {
                line.split(|c: char| !c.is_alphanumeric() && c != '_')
                    .any(|one| one == word || one == lint)
            });
            if !any {
                continue;
            }
            let code = code.join("\n");
            let blocks = code.matches(&format!("{word} {{")).count();
            let reasons = text.matches("// SAFETY:").count();
            assert!(
                reasons >= blocks,
                "{name}: {blocks} blocks, of which only {reasons} say why they are sound"
            );
            found.push((name, blocks));
        }
    }
    let listed: Vec<(String, usize)> = UNCHECKED
        .iter()
        .map(|(name, blocks, _)| ((*name).to_owned(), *blocks))
        .collect();
    assert_eq!(
        found, listed,
        "files with {word} code and their blocks: left what is there, right what tests/tidy.rs argues"
    );
    let house = read(&root().join("src/lib.rs"));
    assert!(house.contains(&format!("#![deny({lint})]")));
}

#[test]
fn files_of_c_are_listed_and_argued() {
    let mut found = Vec::new();
    for folder in ["src", "tests", "benches", "perf"] {
        let ours = files(&root().join(folder), &["c", "h", "cc", "cpp", "s", "S"]);
        found.extend(ours.iter().map(|file| below_root(file)));
    }
    let listed: Vec<&str> = FOREIGN.iter().map(|(name, _)| *name).collect();
    assert_eq!(found, listed);
    assert!(
        !root().join("build.rs").exists(),
        "nothing of Midge's own runs while it is built"
    );
}
