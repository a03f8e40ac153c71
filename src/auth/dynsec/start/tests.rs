//! The first file, and the passwords in it.

use super::*;
use std::os::unix::fs::PermissionsExt;

fn knows(security: &Security, user_name: &str, password: &str) -> bool {
    let hash = security.clients()[user_name].password.as_ref();
    hash.expect("it has a password").verify(password.as_bytes()) == Ok(true)
}

#[test]
fn a_random_password_stands_beside_the_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ds.json");
    let (security, said) = load_or_make(&path, &Source::Random).expect("made");
    security.check_invariants();
    assert!(said[1].ends_with("ds.json.pw"), "{said:?}");
    let beside = directory.path().join("ds.json.pw");
    let mode = beside.metadata().expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let passwords = std::fs::read_to_string(&beside).expect("text");
    for line in passwords.lines() {
        let (user_name, password) = line.split_once(' ').expect("two words");
        assert_eq!(password.len(), PASSWORD_CHARACTERS);
        assert!(knows(&security, user_name, password));
    }
    assert_eq!(passwords.lines().count(), 2);
    let (again, said) = load_or_make(&path, &Source::Random).expect("read");
    assert!(said.is_empty(), "{said:?}");
    assert_eq!(again, security);
}

#[test]
fn the_administrator_administers_and_sees_and_no_more() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ds.json");
    let source = Source::Variable("correct horse".to_owned());
    let (security, _) = make(&path, &source).expect("made");
    assert!(knows(&security, ADMINISTRATOR, "correct horse"));
    assert_eq!(security.clients().len(), 1);
    let rights = security.rights(Some(ADMINISTRATOR), "id");
    assert!(rights.may_write("$CONTROL/dynamic-security/v1"));
    assert!(rights.may_subscribe("$CONTROL/dynamic-security/v1/response"));
    assert!(rights.may_subscribe("$SYS/#") && rights.may_subscribe("#"));
    assert!(!rights.may_write("a"));
    let rights = security.rights(None, "id");
    assert!(!rights.may_write("a") && !rights.may_subscribe("a"));
}

#[test]
fn a_password_that_is_none_makes_no_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ds.json");
    let init = directory.path().join("init");
    std::fs::write(&init, " \nsecond\n").expect("written");
    for source in [
        Source::Variable("eleven chrs".to_owned()),
        Source::File(init.clone()),
        Source::File(directory.path().join("none")),
    ] {
        assert!(make(&path, &source).is_err(), "{source:?}");
        assert!(!path.exists());
    }
    std::fs::write(&init, "from the file \nsecond\n").expect("written");
    let (security, _) = make(&path, &Source::File(init)).expect("made");
    assert!(knows(&security, ADMINISTRATOR, "from the file"));
}
