//! Password files, rules and dynamic security together.

use super::*;
use password::Kind;
use std::fs;
use tempfile::TempDir;

/// What a listener with these lines has, in a directory with these files, whose name is `{dir}` in them.
fn auth(files: &[(&str, &str)], lines: &str, making: Making) -> (Result<Auth, AuthError>, TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, text) in files {
        fs::write(directory.path().join(name), text).expect("written");
    }
    let dir = directory.path().display().to_string();
    let text = format!("listener 1883\n{lines}").replace("{dir}", &dir);
    let config = Config::from_text("test.conf", text).expect("a good configuration");
    (Auth::load(&config, making), directory)
}

fn hash(password: &str) -> String {
    let hash = PasswordHash::create(Kind::SHA512_PBKDF2, password.as_bytes());
    hash.expect("a hash").encode()
}

#[test]
fn an_acl_file_decides_alone_but_of_control() {
    let known = r#"{"clients": [{"username": "u", "roles": [{"rolename": "r"}]}],
        "roles": [{"rolename": "r", "acls": [
            {"acltype": "publishClientSend", "topic": "roles/#", "allow": true},
            {"acltype": "publishClientSend", "topic": "$CONTROL/#", "allow": true},
            {"acltype": "unsubscribePattern", "topic": "kept", "allow": false}]}]}"#;
    let files = [
        ("ds.json", known),
        (
            "rules",
            "user u\ntopic rules/#\ntopic $CONTROL/#\nuser v\ntopic $CONTROL/#\n",
        ),
    ];
    let lines = "dynamic_security_file {dir}/ds.json\nacl_file {dir}/rules";
    let (auth, _directory) = auth(&files, lines, Making::Forbidden);
    let auth = auth.expect("good files");
    let rights = auth.rights(0, Some("u"), "id").expect("there are rules");
    assert!(rights.may_write("rules/a") && !rights.may_write("roles/a"));
    assert!(rights.may_control("$CONTROL/dynamic-security/v1"));
    assert!(
        rights.may_unsubscribe("kept"),
        "an acl_file has nothing against it"
    );
    let rights = auth.rights(0, Some("v"), "id").expect("there are rules");
    assert!(
        !rights.may_control("$CONTROL/dynamic-security/v1"),
        "no role says so"
    );
    assert!(!rights.may_read("$CONTROL/dynamic-security/v1/response"));
}

#[test]
fn names_are_looked_for_in_dynamic_security_first() {
    let (own, others) = (hash("own"), hash("others"));
    let known = format!(
        r#"{{"clients": [
            {{"username": "both", "encoded_password": "{own}", "clientid": "bound"}},
            {{"username": "off", "encoded_password": "{own}", "disabled": true}},
            {{"username": "none"}}]}}"#
    );
    let passwords = format!("both:{others}\noff:{others}\nnone:{others}\nfile:{others}\n");
    let files = [("ds.json", &*known), ("users", &*passwords)];
    let lines = "dynamic_security_file {dir}/ds.json\npassword_file {dir}/users";
    let (auth, _directory) = auth(&files, lines, Making::Forbidden);
    let auth = auth.expect("good files");
    let knows = |name: &str, password: &str| auth.challenge(0, name).verify(password.as_bytes());
    assert!(knows("both", "own") && !knows("both", "others"));
    assert!(knows("file", "others"));
    for name in ["off", "none", "nobody"] {
        assert!(!knows(name, "own") && !knows(name, "others"), "{name}");
        assert!(auth.hash_of(0, name).is_none(), "{name}");
    }
    assert!(auth.admits(0, "both", "bound") && !auth.admits(0, "both", "other"));
    assert!(auth.admits(0, "file", "any") && !auth.admits(0, "off", "any"));
}

#[test]
fn a_check_makes_no_file_and_a_start_does() {
    let line = "dynamic_security_file {dir}/ds.json\ndynamic_security_password_file {dir}/first";
    let files = [("first", "a password")];
    let (checked, directory) = auth(&files, line, Making::Forbidden);
    assert!(
        checked
            .expect("nothing is wrong")
            .warnings()
            .next()
            .is_none()
    );
    assert!(!directory.path().join("ds.json").exists());
    let (made, directory) = auth(&files, line, Making::Allowed);
    let made = made.expect("it is made");
    assert!(directory.path().join("ds.json").exists());
    assert!(made.challenge(0, "admin").verify(b"a password"));
}

#[test]
fn a_reload_keeps_what_commands_did() {
    let files = [("ds.json", r#"{"clients": []}"#)];
    let line = "dynamic_security_file {dir}/ds.json";
    let (running, _directory) = auth(&files, line, Making::Forbidden);
    let mut running = running.expect("a good file");
    let mut read_again = running.clone();
    let (_, security) = running.security_mut(0).expect("it is on");
    Arc::make_mut(security)
        .add_client("new")
        .expect("there is none");
    read_again.keep_securities_of(&running);
    let security = read_again.security(0).expect("it is on");
    assert!(security.clients().contains_key("new"));
}
