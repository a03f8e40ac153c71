//! Dynamic security: clients, groups and roles that are changed while the broker runs.

use std::fs;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::accounts::{answer, not_authorised};
use crate::harness::*;

const CONTROL: &str = "$CONTROL/dynamic-security/v1";
const ADMIN: [(&str, &str); 1] = [("first", "the first password\n")];

/// A broker that makes its own file, whose administrator has the password of [`ADMIN`].
fn start() -> Broker {
    let by_plugin = [
        "user root",
        "allow_anonymous false",
        "plugin /usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so",
        "plugin_opt_config_file {dir}/ds.json",
        "plugin_opt_password_init_file {dir}/first",
    ];
    Broker::start_with(&by_plugin, &ADMIN)
}

fn user(client_id: &str, name: &str, password: &str) -> Connect {
    connect(client_id).username(name).password(password)
}

/// Somebody who may administer, and hears the answers.
struct Admin(Raw);

impl Admin {
    fn enter(broker: &Broker) -> Admin {
        let connect = user("the-admin", "admin", "the first password");
        let mut raw = broker.connect_with(Version::V5, connect);
        raw.subscribe(&format!("{CONTROL}/response"), 0);
        Admin(raw)
    }

    /// The answer to one command.
    #[track_caller]
    fn ask(&mut self, command: Value) -> Value {
        let request = json!({ "commands": [command] }).to_string();
        self.0.send(publish(CONTROL, request));
        let response = self.0.expect_publish();
        let tree: Value = serde_json::from_slice(&response.payload).expect("JSON");
        tree["responses"][0].clone()
    }

    #[track_caller]
    fn done(&mut self, command: Value) {
        let response = self.ask(command.clone());
        assert_eq!(response.get("error"), None, "{command}");
    }
}

/// From the first file to the last command, as an operator would go.
#[test]
fn from_the_beginning_to_the_end() {
    let broker = start();
    let address = broker.address();
    broker.wait_for_log("Using admin password from file");
    for version in Version::ALL {
        let wrong = user("x", "admin", "wrong");
        assert_eq!(answer(address, version, &wrong), not_authorised(version));
        let unknown = user("x", "nobody", "the first password");
        assert_eq!(answer(address, version, &unknown), not_authorised(version));
        assert_eq!(
            answer(address, version, &connect("x")),
            not_authorised(version)
        );
    }
    let mut admin = Admin::enter(&broker);
    admin.done(
        json!({"command": "createRole", "rolename": "meter", "acls": [
            {"acltype": "publishClientSend", "topic": "meters/%u/#", "allow": true},
            {"acltype": "subscribePattern", "topic": "meters/%u/set", "allow": true},
        ]}),
    );
    admin.done(
        json!({"command": "createGroup", "groupname": "meters", "roles": [{"rolename": "meter"}]}),
    );
    admin.done(
        json!({"command": "createClient", "username": "m1", "password": "pw",
        "groups": [{"groupname": "meters"}]}),
    );
    let mut reader = Admin::enter_as_observer(&broker);

    let mut meter = broker.connect_with(Version::V5, user("c1", "m1", "pw"));
    meter.send(publish("meters/m1/x", "1").qos(1).packet_id(1));
    meter.expect(puback(1));
    assert_eq!(reader.expect_publish().topic, "meters/m1/x");
    meter.send(publish("meters/m2/x", "1").qos(1).packet_id(2));
    meter.expect(puback(2).reason(0x87));
    meter.send(
        subscribe(3)
            .filter("meters/m1/set", 1)
            .filter("meters/#", 1),
    );
    meter.expect(suback(3, &[1, 0x87]));
    // Nobody commands who was not told that they may.
    meter.send(publish(CONTROL, "{}").qos(1).packet_id(4));
    meter.expect(puback(4).reason(0x87));

    let client = admin.ask(json!({"command": "getClient", "username": "m1"}));
    assert_eq!(
        client["data"]["client"]["connections"],
        json!([{"address": "127.0.0.1"}])
    );

    admin.done(json!({"command": "setClientId", "username": "m1", "clientid": "c2"}));
    meter.expect(disconnect().reason(0x98));
    meter.expect_closed();
    assert_eq!(answer(address, Version::V5, &user("c1", "m1", "pw")), 0x87);
    assert_eq!(answer(address, Version::V5, &user("c2", "m1", "pw")), 0);
    admin.done(json!({"command": "setClientPassword", "username": "m1", "password": "new"}));
    assert_eq!(answer(address, Version::V5, &user("c2", "m1", "pw")), 0x87);
    let mut meter = broker.connect_with(Version::V311, user("c2", "m1", "new"));
    admin.done(json!({"command": "disableClient", "username": "m1"}));
    meter.expect_closed();
    assert_eq!(answer(address, Version::V5, &user("c2", "m1", "new")), 0x87);
    admin.done(json!({"command": "enableClient", "username": "m1"}));
    assert_eq!(answer(address, Version::V5, &user("c2", "m1", "new")), 0);
    admin.done(json!({"command": "deleteClient", "username": "m1"}));
    assert_eq!(answer(address, Version::V5, &user("c2", "m1", "new")), 0x87);
    broker.wait_for_log("dynsec: the-admin/admin | deleteClient | username=m1");
}

impl Admin {
    /// The administrator may read everything.
    fn enter_as_observer(broker: &Broker) -> Raw {
        let connect = user("observer", "admin", "the first password");
        let mut raw = broker.connect_with(Version::V5, connect);
        raw.subscribe("#", 0);
        raw
    }
}

/// What was answered is there after SIGKILL, and a reload does not undo it.
#[test]
fn what_was_answered_outlives_the_broker() {
    let broker = start();
    let mut admin = Admin::enter(&broker);
    for number in 0..20 {
        let name = format!("c{number}");
        admin.done(json!({"command": "createClient", "username": name, "password": "pw"}));
        if number == 10 {
            broker.reload();
        }
    }
    let file = broker.dir().join("ds.json");
    let text = fs::read_to_string(&file).expect("a file");
    broker.stop_by(Signal::KILL);
    let again = Broker::start_with(
        &["user root", "dynamic_security_file {dir}/ds.json"],
        &[("ds.json", &text)],
    );
    for number in 0..20 {
        let connect = user("c", &format!("c{number}"), "pw");
        assert_eq!(answer(again.address(), Version::V5, &connect), 0);
    }
}

/// A damaged file lets nobody in: there is no broker.
#[test]
fn a_damaged_file_is_an_error() {
    let dir = new_dir();
    fs::write(dir.join("ds.json"), "{\"clients\": [").expect("the directory is ours");
    let conf = "listener 0 127.0.0.1\nuser root\ndynamic_security_file ds.json\n";
    fs::write(dir.join("m.conf"), conf).expect("the directory is ours");
    let mut command = Command::new(program());
    let ended = command.args(["-c", "m.conf"]).current_dir(&dir).output();
    let ended = ended.expect("the program runs");
    assert_eq!(ended.status.code(), Some(3));
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(said.contains("not valid JSON"), "{said}");
}

/// 5.0 hears which filters it may not let go of.
#[test]
fn unsubscribing_is_a_right() {
    let broker = start();
    let mut admin = Admin::enter(&broker);
    admin.done(json!({"command": "createRole", "rolename": "r", "acls": [
        {"acltype": "subscribePattern", "topic": "#", "allow": true},
        {"acltype": "unsubscribeLiteral", "topic": "kept", "allow": false},
    ]}));
    admin.done(json!({"command": "createClient", "username": "u", "password": "pw", "roles": [{"rolename": "r"}]}));
    let mut client = broker.connect_with(Version::V5, user("c", "u", "pw"));
    client.subscribe("kept", 0);
    client.subscribe("left", 0);
    client.send(unsubscribe(9, &["kept", "left"]));
    client.expect(unsuback(9, &[0x87, 0]));
}

/// Debian's mosquitto_ctrl makes a file, and commands the broker that reads it.
#[test]
#[ignore = "needs Debian's mosquitto: `cargo test --test integration -- --ignored passwd dynsec`"]
fn mosquitto_ctrl_commands_us() {
    let dir = new_dir();
    let file = dir.join("ds.json");
    let ctrl = |arguments: &[&str]| {
        let mut command = Command::new("/usr/bin/mosquitto_ctrl");
        let ended = command.args(arguments).stdin(Stdio::null()).output();
        let ended = ended.expect("mosquitto_ctrl runs");
        let said = [ended.stdout, ended.stderr].concat();
        // It warns of connections without TLS.
        let is_warning =
            |line: &&str| line.starts_with("Warning: ") || line.starts_with("This means");
        let said = String::from_utf8_lossy(&said).into_owned();
        let lines: Vec<&str> = said.lines().filter(|line| !is_warning(line)).collect();
        lines.join("\n").trim_end().to_owned()
    };
    let path = file.to_str().expect("UTF-8");
    ctrl(&["dynsec", "init", path, "boss", "secret"]);
    let text = fs::read_to_string(&file).expect("it made the file");
    let broker = Broker::start_with(
        &["user root", "dynamic_security_file {dir}/ds.json"],
        &[("ds.json", &text)],
    );
    let port = broker.address().port().to_string();
    let dynsec = |arguments: &[&str]| {
        let mut all = vec!["-p", &port, "-u", "boss", "-P", "secret", "dynsec"];
        all.extend(arguments);
        ctrl(&all)
    };
    assert_eq!(dynsec(&["createRole", "r"]), "");
    let acl = ["addRoleACL", "r", "publishClientSend", "t/#", "allow", "5"];
    assert_eq!(dynsec(&acl), "");
    assert_eq!(dynsec(&["createClient", "u", "-p", "pw"]), "");
    assert_eq!(dynsec(&["addClientRole", "u", "r", "3"]), "");
    assert_eq!(dynsec(&["createGroup", "g"]), "");
    assert_eq!(dynsec(&["addGroupClient", "g", "u"]), "");
    let client = dynsec(&["getClient", "u"]);
    for part in ["Username: u", "r (priority: 3)", "Groups:   g"] {
        assert!(client.contains(part), "{client}");
    }
    let role = dynsec(&["getRole", "r"]);
    assert!(
        role.contains("publishClientSend") && role.contains("t/#"),
        "{role}"
    );
    assert_eq!(dynsec(&["listClients"]), "boss\nu");
    assert!(dynsec(&["createRole", "r"]).contains("Role already exists"));
    let mut client = broker.connect_with(Version::V5, user("c", "u", "pw"));
    client.send(publish("t/1", "").qos(1).packet_id(1));
    client.expect(puback(1).reason(0x10));
    assert_eq!(dynsec(&["deleteClient", "u"]), "");
    client.expect(disconnect().reason(0x98));
}

/// Mosquitto goes on with the file that we wrote.
#[test]
#[ignore = "needs Debian's mosquitto: `cargo test --test integration -- --ignored passwd dynsec`"]
fn mosquitto_reads_our_file() {
    let broker = start();
    let mut admin = Admin::enter(&broker);
    admin.done(json!({"command": "createClient", "username": "u", "password": "pw"}));
    let text = fs::read_to_string(broker.dir().join("ds.json")).expect("a file");
    broker.stop();
    let dir = new_dir();
    fs::write(dir.join("ds.json"), text).expect("the directory is ours");
    let port = free_port();
    let conf = format!(
        "listener {port} 127.0.0.1\nuser root\nplugin /usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so\n\
         plugin_opt_config_file {}/ds.json\n",
        dir.display()
    );
    fs::write(dir.join("m.conf"), conf).expect("the directory is ours");
    let mut mosquitto = Command::new("/usr/sbin/mosquitto")
        .arg("-c")
        .arg(dir.join("m.conf"))
        .stderr(Stdio::null())
        .spawn()
        .expect("mosquitto runs");
    let port = port.to_string();
    let list = || {
        let mut ctrl = Command::new("/usr/bin/mosquitto_ctrl");
        let admin = ["-p", &port, "-u", "admin", "-P", "the first password"];
        let ended = ctrl.args(admin).args(["dynsec", "listClients"]).output();
        String::from_utf8_lossy(&ended.expect("mosquitto_ctrl runs").stdout).into_owned()
    };
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let mut listed = list();
    while listed.is_empty() && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(50));
        listed = list();
    }
    mosquitto.kill().expect("it is ours");
    mosquitto.wait().expect("it is ours");
    assert_eq!(listed, "admin\nu\n");
}
