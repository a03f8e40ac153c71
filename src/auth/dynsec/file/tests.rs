//! Files of Mosquitto, damaged ones, and our own read back.

use super::*;
use serde_json::json;
use std::os::unix::fs::PermissionsExt;

fn parsed(tree: &Value) -> (Security, Vec<String>) {
    let (security, left_out) = parse(tree.to_string().as_bytes()).expect("it is sound");
    security.check_invariants();
    (security, left_out)
}

/// As `mosquitto_ctrl dynsec init` of 2.0 writes it, with a client and a group more. The password is `pw`.
fn of_2_0() -> Value {
    json!({
        "defaultACLAccess": {"publishClientSend": false, "publishClientReceive": true, "subscribe": false, "unsubscribe": true},
        "clients": [
            {
                "username": "admin", "textName": "Dynsec admin user", "roles": [{"rolename": "admin"}],
                "password": "VlnBbJrUNqNYHFRr5VaSsTcLEFMWLDkVE3PTHdYP8wF6VVRGfcLCVYlcCqOpHuoPNcEdOr6oxuOpvzaEvP8ObA==",
                "salt": "Zm9vYmFyYmF6cXV4", "iterations": 101,
            },
            {"username": "sensor", "clientid": "s-1", "disabled": true, "roles": []},
        ],
        "groups": [{"groupname": "g", "roles": [{"rolename": "admin", "priority": 3}], "clients": [{"username": "sensor", "priority": 7}]}],
        "roles": [{"rolename": "admin", "acls": [
            {"acltype": "publishClientSend", "topic": "$CONTROL/dynamic-security/#", "priority": 0, "allow": true},
            {"acltype": "subscribePattern", "topic": "#", "priority": 5, "allow": true},
        ]}],
        "anonymousGroup": "g",
    })
}

#[test]
fn reads_what_2_0_writes() {
    let (security, left_out) = parsed(&of_2_0());
    assert!(left_out.is_empty(), "{left_out:?}");
    let admin = &security.clients()["admin"];
    let hash = admin.password.as_ref().expect("it has a password");
    assert!(hash.encode().starts_with("$7$101$Zm9vYmFyYmF6cXV4$"));
    assert_eq!(admin.texts.name.as_deref(), Some("Dynsec admin user"));
    let sensor = &security.clients()["sensor"];
    assert!(sensor.disabled && sensor.password.is_none());
    assert_eq!(sensor.client_id.as_deref(), Some("s-1"));
    assert_eq!(sensor.groups().iter().collect::<Vec<_>>(), [("g", 7)]);
    assert_eq!(security.anonymous_group(), Some("g"));
    assert!(security.roles()["admin"].allows_wildcards());
    assert_eq!(security.change_index, 0);
}

#[test]
fn reads_what_2_1_writes() {
    let hash = PasswordHash::create(Kind::SHA512_PBKDF2, b"pw").expect("a hash");
    let (security, left_out) = parsed(&json!({
        "changeIndex": 41,
        "clients": [{"username": "c", "encoded_password": hash.encode(), "roles": []}],
        "roles": [{"rolename": "r", "allowwildcardsubs": false, "acls": []}],
    }));
    assert!(left_out.is_empty(), "{left_out:?}");
    assert_eq!(security.change_index, 41);
    let known = security.clients()["c"].password.as_ref();
    assert_eq!(known.expect("it has one").verify(b"pw"), Ok(true));
    assert!(!security.roles()["r"].allows_wildcards());
}

#[test]
fn what_is_written_is_read_back_the_same_and_has_both_forms_of_a_password() {
    let (mut security, _) = parsed(&of_2_0());
    security.change_index = 7;
    let text = to_text(&security);
    let (again, left_out) = parse(text.as_bytes()).expect("it is sound");
    assert!(left_out.is_empty(), "{left_out:?}");
    assert_eq!(again, security);
    let tree: Value = serde_json::from_str(&text).expect("JSON");
    let admin = &tree["clients"][0];
    assert_eq!(admin["iterations"], 101);
    assert_eq!(admin["salt"], "Zm9vYmFyYmF6cXV4");
    let encoded = admin["encoded_password"].as_str().expect("text");
    assert!(encoded.ends_with(admin["password"].as_str().expect("text")));
    assert_eq!(tree["groups"][0]["clients"][0]["priority"], 7);
}

#[test]
fn what_is_damaged_is_nothing_at_all() {
    for (damaged, problem) in [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("{\"clients\": [", "not valid JSON"),
        ("[]", "not a JSON object"),
        ("null", "not a JSON object"),
        ("{\"clients\": {}}", "'clients' is not an array"),
        ("{\"roles\": 1}", "'roles' is not an array"),
        ("{\"groups\": \"g\"}", "'groups' is not an array"),
    ] {
        let error = parse(damaged.as_bytes()).expect_err(damaged);
        assert!(error.contains(problem), "{damaged}: {error}");
    }
    let deep = "[".repeat(100_000);
    assert!(parse(deep.as_bytes()).is_err());
}

#[test]
fn what_does_not_fit_is_left_out_and_told() {
    let (security, left_out) = parsed(&json!({
        "clients": [
            {"roles": []}, 5, {"username": ""},
            {"username": "c", "roles": [{"rolename": "none"}], "encoded_password": "$8$x"},
            {"username": "c"},
        ],
        "roles": [{"rolename": "r", "acls": [{"acltype": "other", "topic": "a"}, {"acltype": "subscribeLiteral"}]}],
        "groups": [{"groupname": "g", "clients": [{"username": "nobody"}]}],
        "anonymousGroup": "none",
    }));
    assert_eq!(security.clients().len(), 1);
    assert!(security.clients()["c"].password.is_none());
    for what in [
        "entry 1 of 'clients' has no 'username'",
        "entry 2 of 'clients'",
        "entry 3 of 'clients'",
        "client 'c' has the role 'none'",
        "nobody can connect as 'c'",
        "'c' is in 'clients' twice",
        "role 'r': an ACL without a known 'acltype'",
        "role 'r': an ACL without a 'topic'",
        "group 'g' has the client 'nobody'",
        "the anonymous group is 'none'",
    ] {
        assert!(
            left_out.iter().any(|it| it.contains(what)),
            "{what}: {left_out:?}"
        );
    }
    assert_eq!(left_out.len(), 10, "{left_out:?}");
}

#[test]
fn a_file_is_saved_whole_for_its_owner_only() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("dynamic-security.json");
    let (security, _) = parsed(&of_2_0());
    save(&path, &to_text(&security)).expect("saved");
    let mode = path.metadata().expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (again, warnings) = load(&path).expect("loaded");
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(again, security);
    // What stands in the way of the new file leaves the old one as it was.
    let lost = directory.path().join("none").join("file");
    assert!(save(&lost, "{}").is_err());
    let files = std::fs::read_dir(directory.path()).expect("a directory");
    assert_eq!(files.count(), 1, "nothing else is left behind");
}
