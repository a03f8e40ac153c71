//! What Midge is built from: licences, duplicates, bans, sources, and a reason for every direct dependency.
//!
//! It holds what tests/deny.toml says, wherever `cargo test` runs and without the network; it does not know the
//! advisories, for which cargo-deny asks.
//!
//! 1. The lists are those of tests/deny.toml: there is no second one here.
//! 2. What is judged is what is built for this machine, with the tests and benches; sources are judged for all of
//!    Cargo.lock.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A crate that is built.
struct Built {
    name: String,
    version: String,
    licence: String,
}

/// Everything that is built here, without Midge, as cargo itself resolves it.
fn built() -> Vec<Built> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "--color", "never"])
        .args(["--edges", "normal,build,dev", "--prefix", "none"])
        .args(["--format", "{p}|{l}|"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "cargo tree: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut found = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let mut fields = line.split('|');
        let mut package = fields.next().expect("a line").split(' ');
        let licence = fields.next().expect("a licence, even if empty");
        let name = package.next().expect("a name").to_owned();
        let version = package.next().expect("a version");
        let version = version.trim_start_matches('v').to_owned();
        if name != "midge" {
            found.insert((name, version), licence.to_owned());
        }
    }
    assert!(
        found.len() > 50,
        "cargo tree shows hardly anything:\n{text}"
    );
    found
        .into_iter()
        .map(|((name, version), licence)| Built {
            name,
            version,
            licence,
        })
        .collect()
}

/// The lines of the list `[section] key = [ … ]` of tests/deny.toml, without comments.
fn list(section: &str, key: &str) -> Vec<String> {
    let text = read("tests/deny.toml");
    let lines: Vec<String> = text
        .lines()
        .map(str::trim)
        .skip_while(|line| *line != format!("[{section}]"))
        .skip(1)
        .take_while(|line| !(line.starts_with('[') && line.ends_with(']')))
        .skip_while(|line| *line != format!("{key} = ["))
        .skip(1)
        .take_while(|line| *line != "]")
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    assert!(
        !lines.is_empty(),
        "tests/deny.toml: [{section}] has no {key}"
    );
    lines
}

/// What stands between the quotes of a line, in order.
fn quoted(line: &str) -> Vec<String> {
    line.split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// The entries `{ crate = "…", reason = "…" }` of a list: the crates. Each must have a reason.
fn argued(section: &str, key: &str) -> BTreeSet<String> {
    let entries = list(section, key);
    entries
        .iter()
        .map(|line| {
            let parts = quoted(line);
            assert!(
                line.contains("reason = ") && parts.len() == 2 && parts[1].len() > 5,
                "tests/deny.toml: {line} is not {{ crate, reason }}"
            );
            parts[0].clone()
        })
        .collect()
}

/// Whether a licence expression can be fulfilled with the licences that `allowed` knows. AND binds closer than OR;
/// `a/b` is how OR was written once. What cannot be read is not allowed.
fn permits(expression: &str, allowed: &dyn Fn(&str) -> bool) -> bool {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let answer = either(&tokens, &mut at, allowed);
    answer == Some(true) && at == tokens.len()
}

fn either(tokens: &[&str], at: &mut usize, allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
    let mut answer = both(tokens, at, allowed)?;
    while tokens.get(*at) == Some(&"OR") {
        *at += 1;
        answer |= both(tokens, at, allowed)?;
    }
    Some(answer)
}

fn both(tokens: &[&str], at: &mut usize, allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
    let mut answer = one(tokens, at, allowed)?;
    while tokens.get(*at) == Some(&"AND") {
        *at += 1;
        answer &= one(tokens, at, allowed)?;
    }
    Some(answer)
}

fn one(tokens: &[&str], at: &mut usize, allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
    let token = *tokens.get(*at)?;
    *at += 1;
    match token {
        "(" => {
            let answer = either(tokens, at, allowed)?;
            let closed = tokens.get(*at) == Some(&")");
            *at += 1;
            closed.then_some(answer)
        }
        ")" | "AND" | "OR" | "WITH" => None,
        licence if tokens.get(*at) == Some(&"WITH") => {
            let exception = tokens.get(*at + 1)?;
            *at += 2;
            Some(allowed(&format!("{licence} WITH {exception}")))
        }
        licence => Some(allowed(licence)),
    }
}

#[test]
fn licence_expressions_are_read() {
    let allowed = |licence: &str| ["MIT", "ISC"].contains(&licence);
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0-only", false),
        ("MIT OR GPL-3.0-only", true),
        ("GPL-3.0-only/MIT", true),
        ("MIT AND GPL-3.0-only", false),
        ("GPL-2.0-only OR MIT AND GPL-3.0-only", false),
        ("(GPL-3.0-only OR MIT) AND ISC", true),
        ("ISC AND (GPL-3.0-only OR (MIT AND ISC))", true),
        ("MIT WITH something", false),
        ("GPL-2.0-only WITH something OR MIT", true),
        ("", false),
        ("MIT ISC", false),
        ("(MIT", false),
        ("MIT OR", false),
    ] {
        assert_eq!(permits(expression, &allowed), expected, "{expression:?}");
    }
}

#[test]
fn licences_are_those_agreed() {
    let everywhere: BTreeSet<String> = list("licenses", "allow")
        .iter()
        .flat_map(|line| quoted(line))
        .collect();
    let alone: BTreeMap<String, Vec<String>> = list("licenses", "exceptions")
        .iter()
        .map(|line| {
            let mut parts = quoted(line);
            (parts.remove(0), parts)
        })
        .collect();
    let built = built();
    for package in &built {
        let own = alone.get(&package.name);
        let allowed = |licence: &str| {
            everywhere.contains(licence)
                || own.is_some_and(|own| own.iter().any(|one| one == licence))
        };
        assert!(
            permits(&package.licence, &allowed),
            "{} {}: its licence is {:?}, which tests/deny.toml does not permit",
            package.name,
            package.version,
            package.licence
        );
    }
    for name in alone.keys() {
        assert!(
            built.iter().any(|package| package.name == *name),
            "tests/deny.toml: {name} has an exception, but is not built any more"
        );
    }
}

#[test]
fn two_versions_of_a_crate_are_argued() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in built() {
        versions
            .entry(package.name)
            .or_default()
            .insert(package.version);
    }
    let skipped = argued("bans", "skip");
    for (name, versions) in &versions {
        let unargued = versions
            .iter()
            .filter(|version| !skipped.contains(&format!("{name}@{version}")));
        assert!(
            unargued.count() <= 1,
            "{name} is built in the versions {versions:?}, and tests/deny.toml does not say why"
        );
    }
    for skipped in skipped {
        let (name, version) = skipped.split_once('@').expect("crate@version");
        assert!(
            versions
                .get(name)
                .is_some_and(|versions| versions.len() > 1 && versions.contains(version)),
            "tests/deny.toml: {skipped} is skipped, but there are no two versions of it any more"
        );
    }
}

#[test]
fn no_banned_crate_is_built() {
    let banned = argued("bans", "deny");
    for package in built() {
        assert!(
            !banned.contains(&package.name),
            "{} is built, and tests/deny.toml says why it must not be",
            package.name
        );
    }
}

#[test]
fn everything_comes_from_the_default_registry() {
    let lock = read("Cargo.lock");
    let mut packages = 0;
    for package in lock.split("[[package]]").skip(1) {
        packages += 1;
        let field = |key: &str| {
            package
                .lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "))
                .map(|value| value.trim_matches('"'))
        };
        let name = field("name").expect("a package has a name");
        if name == "midge" {
            assert_eq!(field("source"), None, "midge is here");
            continue;
        }
        let source = field("source");
        assert!(
            source.is_some_and(|source| {
                source.starts_with("registry+") && source.ends_with("/crates.io-index")
            }),
            "{name} comes from {source:?} (nothing: a path), not from the default registry"
        );
        assert!(
            field("checksum").is_some_and(|sum| sum.len() == 64),
            "{name} has no checksum"
        );
    }
    assert!(packages > 50, "Cargo.lock is not Cargo.lock");
}

#[test]
fn every_direct_dependency_is_argued_and_has_a_version() {
    let text = read("Cargo.toml");
    let mut inside = false;
    let mut before = "";
    let mut found = 0;
    for line in text.lines() {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]");
            assert!(
                !line.contains("dependencies."),
                "Cargo.toml: {line}: dependencies stand one to a line, below [dependencies]"
            );
            assert!(
                !line.starts_with("[patch") && !line.starts_with("[replace"),
                "Cargo.toml: {line}: what is built must be what the registry has"
            );
        } else if let (true, Some((name, what))) = (inside, line.split_once(" = ")) {
            found += 1;
            assert!(
                before.starts_with("# ") && before.len() > 15,
                "Cargo.toml: {name} has no comment above it that says what it is for"
            );
            assert!(
                !what.contains("path =") && !what.contains("git =") && !what.contains("\"*\""),
                "Cargo.toml: {name} must be a version of the default registry: {what}"
            );
        }
        before = line;
    }
    assert!(found > 10, "Cargo.toml is not Cargo.toml");
}
