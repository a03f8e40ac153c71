//! Every command, every error, and whom a change concerns.

use super::super::file;
use super::*;
use crate::auth::password::Kind;

/// Hashes at once, and knows one connection of each client.
struct Here;

impl Surroundings for Here {
    fn hash(&mut self, password: &str) -> Option<Arc<PasswordHash>> {
        PasswordHash::create(Kind::SHA512_PBKDF2, password.as_bytes())
            .ok()
            .map(Arc::new)
    }

    fn addresses(&self, user_name: &str, _: Option<&str>) -> Vec<String> {
        vec![format!("address of {user_name}")]
    }
}

fn request(security: &mut Security, request: &str) -> Outcome {
    let caller = Caller {
        client_id: "ctrl",
        user_name: Some("admin"),
    };
    let outcome = execute(security, request.as_bytes(), caller, &mut Here);
    security.check_invariants();
    outcome
}

/// Carries out one command; its answer, and whose connections end.
fn ask(security: &mut Security, command: Value) -> (Value, BTreeSet<Concerned>) {
    let outcome = request(security, &json!({ "commands": [command] }).to_string());
    let tree: Value = serde_json::from_str(&outcome.response).expect("JSON");
    let responses = tree["responses"].as_array().expect("an array");
    assert_eq!(responses.len(), 1);
    assert_eq!(
        outcome.changed,
        responses[0].get("error").is_none() && outcome.changed
    );
    (responses[0].clone(), outcome.concerned)
}

/// What a command that goes well has to tell.
fn data(security: &mut Security, command: Value) -> Value {
    let (response, _) = ask(security, command.clone());
    assert_eq!(response.get("error"), None, "{command}");
    response["data"].clone()
}

/// Carries out a command that goes well, and concerns these clients; `""` stands for those without a name.
fn done(security: &mut Security, command: Value, concerned: &[&str]) {
    let (response, found) = ask(security, command.clone());
    assert_eq!(response.get("error"), None, "{command}");
    assert_eq!(response.get("data"), None, "{command}");
    let wanted = concerned.iter().map(|name| match *name {
        "" => Concerned::Anonymous,
        name => Concerned::Client(name.into()),
    });
    assert_eq!(found, wanted.collect(), "{command}");
}

/// A client `c` in group `g`, which has role `of-g`; `c` has role `r`; there is `alone`, too.
fn some() -> Security {
    let mut security = Security::default();
    for command in [
        json!({"command": "createRole", "rolename": "r", "acls": [
            {"acltype": "publishClientSend", "topic": "t/#", "priority": 3, "allow": true},
        ]}),
        json!({"command": "createRole", "rolename": "of-g"}),
        json!({"command": "createGroup", "groupname": "g", "roles": [{"rolename": "of-g", "priority": 2}]}),
        json!({"command": "createClient", "username": "c", "password": "pw", "clientid": "c-1", "textname": "C",
            "roles": [{"rolename": "r"}], "groups": [{"groupname": "g", "priority": 4}]}),
        json!({"command": "createClient", "username": "alone"}),
    ] {
        let concerned: &[&str] = &[];
        done(&mut security, command, concerned);
    }
    security
}

#[test]
fn each_error_is_told_and_changes_nothing() {
    let no_username = "Invalid/missing username";
    let no_groupname = "Invalid/missing groupname";
    let no_rolename = "Invalid/missing rolename";
    let table: Vec<(Value, &str)> = vec![
        (json!({"command": "unheardOf"}), "Unknown command"),
        (
            json!({"command": "setDefaultACLAccess"}),
            "Missing/invalid actions array",
        ),
        (json!({"command": "createClient"}), no_username),
        (
            json!({"command": "createClient", "username": 5}),
            no_username,
        ),
        (
            json!({"command": "createClient", "username": ""}),
            "Empty username",
        ),
        (
            json!({"command": "createClient", "username": "a\u{1}"}),
            "Username not valid UTF-8",
        ),
        (
            json!({"command": "createClient", "username": "n", "password": 1}),
            "Invalid/missing password",
        ),
        (
            json!({"command": "createClient", "username": "n", "clientid": 1}),
            "Invalid/missing client id",
        ),
        (
            json!({"command": "createClient", "username": "n", "clientid": "\u{7f}"}),
            "Client ID not valid UTF-8",
        ),
        (
            json!({"command": "createClient", "username": "n", "textname": 1}),
            "Invalid/missing textname",
        ),
        (
            json!({"command": "createClient", "username": "n", "textdescription": 1}),
            "Invalid/missing textdescription",
        ),
        (
            json!({"command": "createClient", "username": "c"}),
            "Client already exists",
        ),
        (
            json!({"command": "createClient", "username": "n", "roles": [{"rolename": "none"}]}),
            "Role not found",
        ),
        (
            json!({"command": "createClient", "username": "n", "roles": {}}),
            "'roles' not an array or missing/invalid rolename",
        ),
        (
            json!({"command": "createClient", "username": "n", "roles": [1]}),
            "'roles' not an array or missing/invalid rolename",
        ),
        (
            json!({"command": "createClient", "username": "n", "groups": [{"groupname": "none"}]}),
            "Group not found",
        ),
        (json!({"command": "deleteClient"}), no_username),
        (
            json!({"command": "deleteClient", "username": "none"}),
            "Client not found",
        ),
        (json!({"command": "enableClient"}), no_username),
        (
            json!({"command": "enableClient", "username": "none"}),
            "Client not found",
        ),
        (json!({"command": "disableClient"}), no_username),
        (
            json!({"command": "disableClient", "username": "none"}),
            "Client not found",
        ),
        (json!({"command": "getClient"}), no_username),
        (
            json!({"command": "getClient", "username": "none"}),
            "Client not found",
        ),
        (json!({"command": "setClientId"}), no_username),
        (
            json!({"command": "setClientId", "username": "none"}),
            "Client not found",
        ),
        (
            json!({"command": "setClientId", "username": "c", "clientid": 1}),
            "Invalid/missing client ID",
        ),
        (json!({"command": "setClientPassword"}), no_username),
        (
            json!({"command": "setClientPassword", "username": "c"}),
            "Invalid/missing password",
        ),
        (
            json!({"command": "setClientPassword", "username": "c", "password": ""}),
            "Empty password is not allowed",
        ),
        (
            json!({"command": "setClientPassword", "username": "none", "password": "p"}),
            "Client not found",
        ),
        (json!({"command": "modifyClient"}), no_username),
        (
            json!({"command": "modifyClient", "username": "none"}),
            "Client not found",
        ),
        (
            json!({"command": "modifyClient", "username": "c", "roles": [{"rolename": "none"}]}),
            "Role not found",
        ),
        (
            json!({"command": "modifyClient", "username": "c", "groups": [{"groupname": "none"}]}),
            "'groups' contains an object with a 'groupname' that does not exist",
        ),
        (
            json!({"command": "modifyClient", "username": "c", "groups": [{}]}),
            "'groups' contains an object with an invalid 'groupname'",
        ),
        (json!({"command": "addClientRole"}), no_username),
        (
            json!({"command": "addClientRole", "username": "c"}),
            no_rolename,
        ),
        (
            json!({"command": "addClientRole", "username": "none", "rolename": "r"}),
            "Client not found",
        ),
        (
            json!({"command": "addClientRole", "username": "c", "rolename": "none"}),
            "Role not found",
        ),
        (
            json!({"command": "addClientRole", "username": "c", "rolename": "r"}),
            "Client is already in this role",
        ),
        (
            json!({"command": "removeClientRole", "username": "c"}),
            no_rolename,
        ),
        (
            json!({"command": "removeClientRole", "username": "none", "rolename": "r"}),
            "Client not found",
        ),
        (
            json!({"command": "removeClientRole", "username": "c", "rolename": "none"}),
            "Role not found",
        ),
        (json!({"command": "createGroup"}), no_groupname),
        (
            json!({"command": "createGroup", "groupname": ""}),
            "Empty groupname",
        ),
        (
            json!({"command": "createGroup", "groupname": "\u{ffff}"}),
            "Group name not valid UTF-8",
        ),
        (
            json!({"command": "createGroup", "groupname": "g"}),
            "Group already exists",
        ),
        (
            json!({"command": "createGroup", "groupname": "n", "roles": [{"rolename": "none"}]}),
            "Role not found",
        ),
        (json!({"command": "deleteGroup"}), no_groupname),
        (
            json!({"command": "deleteGroup", "groupname": "none"}),
            "Group not found",
        ),
        (json!({"command": "getGroup"}), no_groupname),
        (
            json!({"command": "getGroup", "groupname": "none"}),
            "Group not found",
        ),
        (json!({"command": "modifyGroup"}), no_groupname),
        (
            json!({"command": "modifyGroup", "groupname": "none"}),
            "Group not found",
        ),
        (
            json!({"command": "modifyGroup", "groupname": "g", "clients": [{"username": "none"}]}),
            "'clients' contains an object with a 'username' that does not exist",
        ),
        (
            json!({"command": "modifyGroup", "groupname": "g", "clients": [3]}),
            "'clients' contains an object with an invalid 'username'",
        ),
        (
            json!({"command": "addGroupClient", "groupname": "g"}),
            no_username,
        ),
        (
            json!({"command": "addGroupClient", "username": "c"}),
            no_groupname,
        ),
        (
            json!({"command": "addGroupClient", "username": "none", "groupname": "g"}),
            "Client not found",
        ),
        (
            json!({"command": "addGroupClient", "username": "c", "groupname": "none"}),
            "Group not found",
        ),
        (
            json!({"command": "addGroupClient", "username": "c", "groupname": "g"}),
            "Client is already in this group",
        ),
        (
            json!({"command": "removeGroupClient", "username": "none", "groupname": "g"}),
            "Client not found",
        ),
        (
            json!({"command": "removeGroupClient", "username": "c", "groupname": "none"}),
            "Group not found",
        ),
        (
            json!({"command": "addGroupRole", "groupname": "g"}),
            no_rolename,
        ),
        (
            json!({"command": "addGroupRole", "groupname": "none", "rolename": "r"}),
            "Group not found",
        ),
        (
            json!({"command": "addGroupRole", "groupname": "g", "rolename": "none"}),
            "Role not found",
        ),
        (
            json!({"command": "addGroupRole", "groupname": "g", "rolename": "of-g"}),
            "Group is already in this role",
        ),
        (
            json!({"command": "removeGroupRole", "groupname": "none", "rolename": "r"}),
            "Group not found",
        ),
        (
            json!({"command": "removeGroupRole", "groupname": "g", "rolename": "none"}),
            "Role not found",
        ),
        (json!({"command": "setAnonymousGroup"}), no_groupname),
        (
            json!({"command": "setAnonymousGroup", "groupname": "none"}),
            "Group not found",
        ),
        (json!({"command": "createRole"}), no_rolename),
        (
            json!({"command": "createRole", "rolename": ""}),
            "Empty rolename",
        ),
        (
            json!({"command": "createRole", "rolename": "\u{fdd0}"}),
            "Role name not valid UTF-8",
        ),
        (
            json!({"command": "createRole", "rolename": "r"}),
            "Role already exists",
        ),
        (
            json!({"command": "createRole", "rolename": "n", "allowwildcardsubs": 1}),
            "Invalid allowwildcardsubs",
        ),
        (
            json!({"command": "createRole", "rolename": "n", "acls": [{"acltype": "subscribeLiteral", "topic": "a#"}]}),
            "Invalid ACL topic",
        ),
        (json!({"command": "deleteRole"}), no_rolename),
        (
            json!({"command": "deleteRole", "rolename": "none"}),
            "Role not found",
        ),
        (json!({"command": "getRole"}), no_rolename),
        (
            json!({"command": "getRole", "rolename": "none"}),
            "Role not found",
        ),
        (
            json!({"command": "modifyRole", "rolename": "none"}),
            "Role does not exist",
        ),
        (
            json!({"command": "modifyRole", "rolename": "r", "acls": [{"acltype": "subscribeLiteral", "topic": "+a"}]}),
            "Invalid ACL topic",
        ),
        (json!({"command": "addRoleACL"}), no_rolename),
        (
            json!({"command": "addRoleACL", "rolename": "none"}),
            "Role not found",
        ),
        (
            json!({"command": "addRoleACL", "rolename": "r"}),
            "Invalid/missing acltype",
        ),
        (
            json!({"command": "addRoleACL", "rolename": "r", "acltype": "x"}),
            "Unknown acltype",
        ),
        (
            json!({"command": "addRoleACL", "rolename": "r", "acltype": "subscribeLiteral"}),
            "Invalid/missing topic",
        ),
        (
            json!({"command": "addRoleACL", "rolename": "r", "acltype": "subscribeLiteral", "topic": "a/#/b"}),
            "Invalid ACL topic",
        ),
        (
            json!({"command": "addRoleACL", "rolename": "r", "acltype": "subscribeLiteral", "topic": "\u{1}"}),
            "Topic not valid UTF-8",
        ),
        (
            json!({"command": "addRoleACL", "rolename": "r", "acltype": "publishclientsend", "topic": "t/#"}),
            "ACL with this topic already exists",
        ),
        (
            json!({"command": "removeRoleACL", "rolename": "r", "acltype": "publishClientSend", "topic": "t"}),
            "ACL not found",
        ),
        (
            json!({"command": "removeRoleACL", "rolename": "none", "acltype": "publishClientSend", "topic": "t"}),
            "Role not found",
        ),
    ];
    let mut security = some();
    let before = security.clone();
    for (command, error) in table {
        let outcome = request(&mut security, &json!({"commands": [command]}).to_string());
        let tree: Value = serde_json::from_str(&outcome.response).expect("JSON");
        assert_eq!(tree["responses"][0]["error"], error, "{command}");
        assert_eq!(tree["responses"][0]["command"], command["command"]);
        assert!(!outcome.changed, "{command}");
        assert!(outcome.concerned.is_empty(), "{command}");
        assert_eq!(security, before, "{command}");
    }
}

#[test]
fn clients_from_their_beginning_to_their_end() {
    let mut security = some();
    let get = json!({"command": "getClient", "username": "c"});
    assert_eq!(
        data(&mut security, get.clone()),
        json!({"client": {
            "username": "c", "clientid": "c-1", "textname": "C",
            "roles": [{"rolename": "r"}], "groups": [{"groupname": "g", "priority": 4}],
            "connections": [{"address": "address of c"}],
        }})
    );
    let change = json!({"command": "modifyClient", "username": "c", "clientid": "", "textdescription": "D",
        "password": "other", "roles": [{"rolename": "of-g", "priority": 9}], "groups": []});
    done(&mut security, change, &["c"]);
    let client = data(&mut security, get.clone());
    assert_eq!(client["client"]["textdescription"], "D");
    assert_eq!(client["client"].get("clientid"), None);
    assert_eq!(client["client"]["groups"], json!([]));
    assert_eq!(
        client["client"]["roles"],
        json!([{"rolename": "of-g", "priority": 9}])
    );
    let password = security.clients()["c"]
        .password
        .clone()
        .expect("it has one");
    assert_eq!(password.verify(b"other"), Ok(true));

    let of = |command: &str| json!({"command": command, "username": "c"});
    done(&mut security, of("disableClient"), &["c"]);
    assert_eq!(data(&mut security, get)["client"]["disabled"], true);
    done(&mut security, of("enableClient"), &[]);
    let set = json!({"command": "setClientPassword", "username": "c", "password": "third"});
    done(&mut security, set, &["c"]);
    let set = json!({"command": "SETCLIENTID", "userName": "c", "clientID": "new"});
    done(&mut security, set, &["c"]);
    assert_eq!(security.clients()["c"].client_id.as_deref(), Some("new"));
    let add = json!({"command": "addClientRole", "username": "c", "rolename": "r", "priority": 1_000_000});
    done(&mut security, add, &["c"]);
    assert_eq!(
        security.clients()["c"].roles().iter().next(),
        Some(("r", super::super::PRIORITY_MAX))
    );
    let remove = json!({"command": "removeClientRole", "username": "c", "rolename": "r"});
    done(&mut security, remove, &["c"]);
    done(&mut security, of("deleteClient"), &["c"]);
    let list = data(&mut security, json!({"command": "listClients"}));
    assert_eq!(list, json!({"totalCount": 1, "clients": ["alone"]}));
}

#[test]
fn groups_from_their_beginning_to_their_end() {
    let mut security = some();
    let add =
        json!({"command": "addGroupClient", "groupname": "g", "username": "alone", "priority": -2});
    done(&mut security, add, &["alone"]);
    let get = json!({"command": "getGroup", "groupname": "g"});
    assert_eq!(
        data(&mut security, get),
        json!({"group": {"groupname": "g", "clients": [{"username": "alone"}, {"username": "c"}],
            "roles": [{"rolename": "of-g", "priority": 2}]}})
    );
    let add = json!({"command": "addGroupRole", "groupname": "g", "rolename": "r"});
    done(&mut security, add, &["alone", "c"]);
    let remove = json!({"command": "removeGroupRole", "groupname": "g", "rolename": "r"});
    done(&mut security, remove, &["alone", "c"]);
    let change = json!({"command": "modifyGroup", "groupname": "g", "clients": [{"username": "alone"}],
        "roles": [{"rolename": "r"}], "textname": "G"});
    done(&mut security, change, &["alone", "c"]);
    let remove = json!({"command": "removeGroupClient", "groupname": "g", "username": "alone"});
    done(&mut security, remove, &["alone"]);

    let anonymous = data(&mut security, json!({"command": "getAnonymousGroup"}));
    assert_eq!(anonymous, json!({"group": {"groupname": ""}}));
    let set = json!({"command": "setAnonymousGroup", "groupname": "g"});
    done(&mut security, set, &[""]);
    let add = json!({"command": "addGroupRole", "groupname": "g", "rolename": "of-g"});
    done(&mut security, add, &[""]);
    let (response, _) = ask(
        &mut security,
        json!({"command": "deleteGroup", "groupname": "g"}),
    );
    assert_eq!(
        response["error"],
        "Deleting the anonymous group is forbidden"
    );
    done(
        &mut security,
        json!({"command": "createGroup", "groupname": "h"}),
        &[],
    );
    let set = json!({"command": "setAnonymousGroup", "groupname": "h"});
    done(&mut security, set, &[""]);
    done(
        &mut security,
        json!({"command": "deleteGroup", "groupname": "g"}),
        &[],
    );
    let list = json!({"command": "listGroups", "verbose": true});
    assert_eq!(
        data(&mut security, list),
        json!({"totalCount": 1, "groups": [{"groupname": "h", "clients": [], "roles": []}]})
    );
}

#[test]
fn roles_from_their_beginning_to_their_end() {
    let mut security = some();
    let add = json!({"command": "addRoleACL", "rolename": "of-g", "acltype": "SubscribePattern", "topic": "s/#", "allow": true});
    done(&mut security, add, &["c"]);
    let rights = security.rights(Some("c"), "c-1");
    assert!(rights.may_write("t/1") && rights.may_subscribe("s/1"));
    let get = json!({"command": "getRole", "rolename": "of-g"});
    assert_eq!(
        data(&mut security, get),
        json!({"role": {"rolename": "of-g", "allowwildcardsubs": true, "acls": [
            {"acltype": "subscribePattern", "topic": "s/#", "priority": 0, "allow": true},
        ]}})
    );
    let change = json!({"command": "modifyRole", "rolename": "of-g", "textname": "T"});
    done(&mut security, change, &[]);
    let change = json!({"command": "modifyRole", "rolename": "of-g", "allowwildcardsubs": false});
    done(&mut security, change, &["c"]);
    assert!(!security.rights(Some("c"), "c-1").may_subscribe("s/+"));
    let change = json!({"command": "modifyRole", "rolename": "of-g", "acls": []});
    done(&mut security, change, &["c"]);
    assert!(!security.rights(Some("c"), "c-1").may_subscribe("s/1"));
    let remove = json!({"command": "removeRoleACL", "rolename": "r", "acltype": "publishClientSend", "topic": "t/#"});
    done(&mut security, remove, &["c"]);
    done(
        &mut security,
        json!({"command": "deleteRole", "rolename": "of-g"}),
        &["c"],
    );
    let list = data(&mut security, json!({"command": "listRoles"}));
    assert_eq!(list, json!({"totalCount": 1, "roles": ["r"]}));
}

#[test]
fn defaults_and_details() {
    let mut security = some();
    let set = json!({"command": "setDefaultACLAccess", "acls": [
        {"acltype": "publishClientSend", "allow": true}, {"acltype": "SUBSCRIBE", "allow": true},
        {"acltype": "unsubscribe", "allow": false}, {"acltype": "other", "allow": true}, {"acltype": "subscribe"},
    ]});
    done(&mut security, set, &[]);
    let access = data(&mut security, json!({"command": "getDefaultACLAccess"}));
    assert_eq!(
        access,
        json!({"acls": [
            {"acltype": "publishClientSend", "allow": true}, {"acltype": "publishClientReceive", "allow": true},
            {"acltype": "subscribe", "allow": true}, {"acltype": "unsubscribe", "allow": false},
        ]})
    );
    let details = data(&mut security, json!({"command": "getDetails"}));
    assert_eq!(
        details,
        json!({"clientCount": 2, "groupCount": 1, "roleCount": 2, "changeIndex": 6})
    );
}

#[test]
fn lists_come_in_pages() {
    let mut security = Security::default();
    for number in 0..10 {
        let name = format!("c{number}");
        done(
            &mut security,
            json!({"command": "createClient", "username": name}),
            &[],
        );
    }
    for (count, offset, shown) in [
        (-1, 0, 0..10),
        (3, 0, 0..3),
        (3, 8, 8..10),
        (1, 9, 9..10),
        (0, 2, 2..3),
        (5, 50, 0..0),
        (-7, -3, 0..10),
    ] {
        let list = json!({"command": "listClients", "count": count, "offset": offset});
        let shown: Vec<String> = shown.map(|number| format!("c{number}")).collect();
        let wanted = json!({"totalCount": 10, "clients": shown});
        assert_eq!(data(&mut security, list), wanted, "{count} {offset}");
    }
}

#[test]
fn a_list_of_commands_goes_on_until_one_is_no_command() {
    let mut security = Security::default();
    let list = json!({"commands": [
        {"command": "createRole", "rolename": "r", "correlationData": "one"},
        {"command": "createRole", "rolename": "r", "correlationData": "two"},
        {"command": "LISTROLES", "correlationData": "three"},
        5,
        {"command": "createRole", "rolename": "never"},
    ]});
    let outcome = request(&mut security, &list.to_string());
    assert!(outcome.changed);
    let tree: Value = serde_json::from_str(&outcome.response).expect("JSON");
    assert_eq!(
        tree,
        json!({"responses": [
            {"command": "createRole", "correlationData": "one"},
            {"command": "createRole", "error": "Role already exists", "correlationData": "two"},
            {"command": "listRoles", "data": {"totalCount": 1, "roles": ["r"]}, "correlationData": "three"},
            {"command": "Unknown command", "error": "Command not an object"},
        ]})
    );
    for (bytes, error) in [
        (&b"\xFF"[..], "Payload not valid JSON"),
        (b"", "Payload not valid JSON"),
        (b"{}", "Invalid/missing commands"),
        (b"[]", "Invalid/missing commands"),
        (b"{\"commands\": {}}", "Invalid/missing commands"),
        (b"{\"commands\": [{}]}", "Missing command"),
        (
            b"{\"commands\": [{\"command\": \"getDetails\", \"correlationData\": 1}]}",
            "Invalid correlationData data type.",
        ),
    ] {
        let caller = Caller {
            client_id: "c",
            user_name: None,
        };
        let outcome = execute(&mut security, bytes, caller, &mut Here);
        let tree: Value = serde_json::from_str(&outcome.response).expect("JSON");
        assert_eq!(tree["responses"][0]["error"], error);
        assert!(!outcome.changed);
    }
}

#[test]
fn passwords_are_known_before() {
    let list = json!({"commands": [
        {"command": "createClient", "username": "a", "password": "one"},
        {"command": "SetClientPassword", "username": "a", "PASSWORD": "two"},
        {"command": "modifyClient", "username": "a", "password": "one"},
        {"command": "getClient", "username": "a", "password": "never"},
        {"command": "createClient", "username": "b", "password": ""},
    ]});
    let found = passwords(list.to_string().as_bytes());
    assert_eq!(found, BTreeSet::from(["one".to_owned(), "two".to_owned()]));
    assert!(passwords(b"{").is_empty());
}

#[test]
fn what_commands_made_is_saved_and_read_back() {
    let security = some();
    let (again, left_out) = file::parse(file::to_text(&security).as_bytes()).expect("sound");
    assert!(left_out.is_empty(), "{left_out:?}");
    assert_eq!(again, security);
}
