//! The tests and `statements.txt` name the same statements.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

const STATEMENTS: &str = include_str!("statements.txt");

/// Every tag that a test cites in brackets is a tag of one of the standards.
#[test]
fn cited_tags_exist() {
    let known: HashSet<&str> = STATEMENTS.lines().filter_map(tag_of_line).collect();
    for (file, text) in sources() {
        for cited in text.split("[MQTT-").skip(1) {
            let tag = cited.split(']').next().expect("a split has a first part");
            assert!(
                known.contains(tag),
                "{file} cites [MQTT-{tag}], which is not in statements.txt"
            );
        }
    }
}

/// A test named after a statement cites it just above.
#[test]
fn test_names_are_cited_tags() {
    for (file, text) in sources() {
        for (above, test) in text.split("\nfn ").zip(text.split("\nfn ").skip(1)) {
            let name = test.split('(').next().expect("a split has a first part");
            let Some(numbers) = name.strip_prefix("mqtt_").or(name.strip_prefix("mqtt311_")) else {
                continue;
            };
            let numbers: Vec<&str> = numbers
                .split('_')
                .take_while(|part| is_number(part))
                .collect();
            let (last, section) = numbers.split_last().expect("the name has a tag");
            let tag = format!("[MQTT-{}-{last}]", section.join("."));
            let doc = above
                .rsplit("\n\n")
                .next()
                .expect("a split has a first part");
            assert!(doc.contains(&tag), "{file}: {name} does not cite {tag}");
        }
    }
}

/// Every statement that a test can hold is cited by one, here or beside the code.
#[test]
fn every_statement_is_cited() {
    let mut texts = sources();
    unit_tests(&root().join("src"), false, &mut texts);
    let cited: HashSet<&str> = texts
        .iter()
        .flat_map(|(_, text)| text.split("[MQTT-").skip(1))
        .filter_map(|cited| cited.split(']').next())
        .collect();
    let is_to_be_held =
        |line: &&str| !matches!(line.split_whitespace().nth(1), Some("client" | "inside"));
    let uncited: Vec<&str> = STATEMENTS
        .lines()
        .filter(is_to_be_held)
        .filter(|line| tag_of_line(line).is_some_and(|tag| !cited.contains(tag)))
        .collect();
    assert!(uncited.is_empty(), "no test cites:\n{}", uncited.join("\n"));
}

fn tag_of_line(line: &str) -> Option<&str> {
    line.strip_prefix("MQTT-")?.split(' ').next()
}

fn is_number(part: &str) -> bool {
    part.bytes().all(|byte| byte.is_ascii_digit())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Adds the modules of unit tests below `dir`, all of which are if `is_tests`: name and text.
fn unit_tests(dir: &Path, is_tests: bool, texts: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(dir).expect("the code stands where it was built") {
        let path = entry.expect("it can be listed").path();
        let is_tests = is_tests || path.file_stem().is_some_and(|stem| stem == "tests");
        if path.is_dir() {
            unit_tests(&path, is_tests, texts);
            continue;
        }
        let text = fs::read_to_string(&path).expect("it is text");
        let start = if is_tests {
            Some(0)
        } else {
            text.find("\n#[cfg(test)]\nmod tests {")
        };
        if let Some(start) = start {
            texts.push((path.display().to_string(), text[start..].to_owned()));
        }
    }
}

/// The modules of tests: name and text.
fn sources() -> Vec<(String, String)> {
    let dir = root().join("tests/integration");
    let entries = fs::read_dir(dir).expect("the tests stand where they were built");
    let paths = entries.map(|entry| entry.expect("it can be listed").path());
    let modules = paths.filter(|path| {
        let own = path.ends_with("statements.rs") || path.ends_with("main.rs");
        path.extension().is_some_and(|extension| extension == "rs") && !own
    });
    let read = |path: &Path| fs::read_to_string(path).expect("it is text");
    modules
        .map(|path| (path.display().to_string(), read(&path)))
        .collect()
}
