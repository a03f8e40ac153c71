//! Dynamic security: a file, and requests of clients that may administer, each behind a zero byte.

use midge::auth::dynsec::control::{self, Caller, Surroundings};
use midge::auth::dynsec::{Security, file};
use midge::auth::password::{Kind, PasswordHash};
use midge::mqtt::topic;
use std::sync::{Arc, LazyLock};

/// The hash of every password: hashing is not what is fed here.
static HASH: LazyLock<Arc<PasswordHash>> =
    LazyLock::new(|| Arc::new(PasswordHash::create(Kind::Sha512, b"password").expect("a hash")));

struct Nobody;

impl Surroundings for Nobody {
    fn hash(&mut self, _: &str) -> Option<Arc<PasswordHash>> {
        Some(Arc::clone(&HASH))
    }

    fn addresses(&self, user_name: &str, _: Option<&str>) -> Vec<String> {
        vec![user_name.to_owned()]
    }
}

/// Whatever is asked, there is an answer, everything holds that should, what was changed is saved and read back the same,
/// and everybody may ask about every topic in it.
pub fn feed(bytes: &[u8]) {
    let mut parts = bytes.split(|byte| *byte == 0);
    let first = file::parse(parts.next().unwrap_or_default());
    let mut security = first.map_or_else(|_| Security::default(), |(security, _)| security);
    security.check_invariants();
    let caller = Caller {
        client_id: "fuzzer",
        user_name: None,
    };
    for request in parts {
        let before = security.clone();
        control::passwords(request);
        let outcome = control::execute(&mut security, request, caller, &mut Nobody);
        security.check_invariants();
        assert!(outcome.changed || security == before);
        assert!(outcome.changed || outcome.concerned.is_empty());
        file::parse(outcome.response.as_bytes()).expect("an answer is an object");
        file::parse(outcome.unsaved("no room").as_bytes()).expect("an answer is an object");
    }
    let (again, left_out) = file::parse(file::to_text(&security).as_bytes()).expect("it is ours");
    assert!(left_out.is_empty(), "{left_out:?}");
    assert!(again == security);
    let words: Vec<&str> = bytes
        .split(|byte| !byte.is_ascii_graphic() || *byte == b'"')
        .filter_map(|word| str::from_utf8(word).ok())
        .collect();
    let names = security.clients().keys().map(|name| Some(&**name));
    for name in names.chain([None, Some("nobody")]).take(4) {
        let rights = security.rights(name, "id");
        for word in words.iter().take(32) {
            if topic::name(word.as_bytes()).is_ok() {
                rights.may_read(word);
                rights.may_write(word);
            }
            if topic::check_filter(word).is_ok() {
                rights.may_subscribe(word);
                rights.may_unsubscribe(word);
            }
        }
    }
}

/// Files and requests with something of everything.
pub fn seeds() -> Vec<Vec<u8>> {
    const FILE: &str = r#"{"clients":[{"username":"u","clientid":"c","roles":[{"rolename":"r","priority":3}],"password":"AAAA","salt":"AAAA","iterations":9}],"groups":[{"groupname":"g","roles":[{"rolename":"r"}],"clients":[{"username":"u","priority":-4}]}],"roles":[{"rolename":"r","allowwildcardsubs":false,"acls":[{"acltype":"publishClientSend","topic":"a/%c/#","priority":1,"allow":true}]}],"anonymousGroup":"g","defaultACLAccess":{"subscribe":true},"changeIndex":7}"#;
    let requests = [
        r#"{"command":"createClient","username":"n","password":"p","roles":[{"rolename":"r"}],"groups":[{"groupname":"g","priority":2}]},{"command":"modifyClient","username":"n","groups":[],"textname":"t"},{"command":"deleteClient","username":"u"}"#,
        r#"{"command":"disableClient","username":"u"},{"command":"enableClient","username":"u"},{"command":"setClientId","username":"u","clientid":""},{"command":"setClientPassword","username":"u","password":"q"}"#,
        r#"{"command":"addClientRole","username":"u","rolename":"r"},{"command":"removeClientRole","username":"u","rolename":"r"},{"command":"getClient","username":"u"},{"command":"listClients","verbose":true,"count":1,"offset":0}"#,
        r#"{"command":"createGroup","groupname":"h","roles":[{"rolename":"r"}]},{"command":"modifyGroup","groupname":"h","clients":[{"username":"u"}]},{"command":"setAnonymousGroup","groupname":"h"},{"command":"deleteGroup","groupname":"g"}"#,
        r#"{"command":"addGroupClient","groupname":"g","username":"u"},{"command":"removeGroupClient","groupname":"g","username":"u"},{"command":"addGroupRole","groupname":"g","rolename":"r"},{"command":"removeGroupRole","groupname":"g","rolename":"r"}"#,
        r##"{"command":"createRole","rolename":"s","acls":[{"acltype":"subscribeLiteral","topic":"#","allow":false}]},{"command":"addRoleACL","rolename":"s","acltype":"subscribePattern","topic":"b/+/%u","priority":9,"allow":true},{"command":"removeRoleACL","rolename":"s","acltype":"subscribeLiteral","topic":"#"}"##,
        r#"{"command":"modifyRole","rolename":"r","allowwildcardsubs":true,"acls":[]},{"command":"deleteRole","rolename":"r"},{"command":"listRoles"},{"command":"getDetails","correlationData":"x"}"#,
        r#"{"command":"setDefaultACLAccess","acls":[{"acltype":"subscribe","allow":false}]},{"command":"getDefaultACLAccess"},{"command":"getAnonymousGroup"},5"#,
    ];
    let seeds =
        requests.map(|commands| format!("{FILE}\0{{\"commands\":[{commands}]}}").into_bytes());
    seeds.to_vec()
}
