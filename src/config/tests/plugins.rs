//! Plugins: those of Mosquitto that Midge does the work of, and all others.

use super::*;

const PASSWORDS: &str = "/usr/lib/x86_64-linux-gnu/mosquitto_password_file.so";
const RULES: &str = "mosquitto_acl_file.so";

fn files(text: &str) -> Vec<(Option<PathBuf>, Option<PathBuf>)> {
    config(text)
        .listeners
        .into_iter()
        .map(|listener| (listener.password_file, listener.acl_file))
        .collect()
}

#[test]
fn files_of_mosquittos_own_plugins_are_in_force() {
    let (p, a) = (Some(PathBuf::from("p w")), Some(PathBuf::from("a")));
    for (text, expected) in [
        (
            format!(
                "plugin {PASSWORDS}\nplugin_opt_password_file p w\nplugin {RULES}\nplugin_opt_acl_file a\nlistener 1\n\
                 listener 2"
            ),
            vec![(p.clone(), a.clone()), (p.clone(), a.clone())],
        ),
        (
            format!("auth_plugin {PASSWORDS}\nauth_opt_password_file p w"),
            vec![(p.clone(), None)],
        ),
        (
            format!(
                "per_listener_settings true\nlistener 1\nplugin {PASSWORDS}\nplugin_opt_password_file p w\n\
                 listener 2\nacl_file a"
            ),
            vec![(p.clone(), None), (None, a.clone())],
        ),
        (
            format!(
                "per_listener_settings true\nglobal_plugin {RULES}\nplugin_opt_acl_file a\nlistener 1\nlistener 2\n\
                 password_file p w"
            ),
            vec![(None, a.clone()), (p.clone(), a.clone())],
        ),
        (
            format!(
                "plugin_load x {RULES}\nplugin_opt_acl_file a\nlistener 1\nlistener 2\nplugin_use x"
            ),
            vec![(None, None), (None, a.clone())],
        ),
        // Said twice alike is said once.
        (
            format!("acl_file a\nplugin {RULES}\nplugin_opt_acl_file a\nlistener 1"),
            vec![(None, a.clone())],
        ),
    ] {
        assert_eq!(files(&text), expected, "{text}");
        assert_eq!(warnings(&text), [""; 0], "{text}");
    }
    let text = format!("listener 1\nplugin {RULES}\nplugin_opt_acl_file a\n");
    let config = config(&text);
    let place = config.place_of("acl_file", config.listeners.first());
    assert_eq!(place.map(Place::to_string).as_deref(), Some("t.conf:3"));
}

#[test]
fn plugins_that_keep_nobody_out_are_told() {
    for (text, expected) in [
        (
            "plugin /x/mosquitto_persist_sqlite.so\nplugin_opt_sync full",
            "The plugin 'mosquitto_persist_sqlite.so' is not loaded: it stands for 'persistence true', and its database \
             is not read. (t.conf:1)",
        ),
        (
            "global_plugin mosquitto_sparkplug_aware.so",
            "Warning: The plugin 'mosquitto_sparkplug_aware.so' is not loaded: messages of Sparkplug are passed on as \
             all others are. (t.conf:1)",
        ),
        (
            "plugin_load a mosquitto_acl_file.so\nplugin_opt_acl_file f\nlistener 1",
            "Warning: The plugin 'mosquitto_acl_file.so' has no effect: no 'plugin_use' names it. (t.conf:1)",
        ),
        (
            "plugin mosquitto_acl_file.so\nplugin_opt_acl_file f\nplugin_opt_x y",
            "Warning: The 'plugin_opt_x' option has no effect. (t.conf:3)",
        ),
    ] {
        assert_eq!(warnings(text), [expected], "{text}");
    }
}

#[test]
fn other_plugins_are_refused() {
    let refused = |option: &str, file: &str, line| {
        format!(
            "Error: The '{option}' option is not supported.\nError found at t.conf:{line}.\n\
             Midge loads no plugins, and does not know what '{file}' would keep out. Use 'password_file' and \
             'acl_file' where they are enough, or 'dynamic_security_file'.\n\
             Without these lines the broker would allow more than was asked for; take them out if that is meant."
        )
    };
    for (text, expected) in [
        (
            "listener 1\nauth_plugin auth.so\nauth_opt_password_file p",
            refused("auth_plugin", "auth.so", 2),
        ),
        ("global_plugin g.so", refused("global_plugin", "g.so", 1)),
        (
            "plugin_load a l.so\nlistener 1\nplugin_use a",
            refused("plugin_load", "l.so", 1),
        ),
        (
            "plugin mosquitto_password_file.so.bak",
            refused("plugin", "mosquitto_password_file.so.bak", 1),
        ),
        (
            "plugin mosquitto_acl_file.so",
            "Error: The 'plugin' option requires 'plugin_opt_acl_file'.\nError found at t.conf:1.\n\
             Midge does not start with less than this line asks for."
                .to_owned(),
        ),
        (
            "plugin mosquitto_acl_file.so\nplugin_opt_acl_file a\nplugin_opt_acl_file b",
            "Error: Duplicate 'plugin_opt_acl_file' value in configuration.\nError found at t.conf:3.\n\
             'plugin_opt_acl_file' may be given once here, and was at t.conf:2."
                .to_owned(),
        ),
        (
            "acl_file b\nplugin mosquitto_acl_file.so\nplugin_opt_acl_file a\nlistener 1",
            "Error: Duplicate 'acl_file' value in configuration.\nError found at t.conf:3.\n\
             'acl_file' may be given once here, and was at t.conf:1."
                .to_owned(),
        ),
        (
            "listener 1\nplugin_use a",
            "Error: Plugin 'a' is not loaded.\nError found at t.conf:2.\n\
             Expected before this line: 'plugin_load a PATH'."
                .to_owned(),
        ),
        (
            "plugin_load a mosquitto_acl_file.so\nplugin_load a mosquitto_acl_file.so",
            "Error: Duplicate plugin name 'a'.\nError found at t.conf:2.".to_owned(),
        ),
        (
            "plugin_load a",
            "Error: Invalid 'plugin_load' value (a).\nError found at t.conf:1.\n\
             Expected for 'plugin_load': a name and a path."
                .to_owned(),
        ),
    ] {
        assert_eq!(error(text), expected, "{text}");
    }
}

#[test]
fn dynamic_security_by_plugin_and_by_option() {
    let by_plugin = "listener 1\nplugin /x/mosquitto_dynamic_security.so\nplugin_opt_config_file d.json\n\
                     plugin_opt_password_init_file first";
    let by_option =
        "listener 1\ndynamic_security_file d.json\ndynamic_security_password_file first";
    for text in [by_plugin, by_option] {
        let config = config(text);
        let dynamic_security = config.listeners[0].dynamic_security.as_ref();
        let expected = DynamicSecurity {
            file: "d.json".into(),
            password_file: Some("first".into()),
        };
        assert_eq!(dynamic_security, Some(&expected), "{text}");
    }
    assert_eq!(
        config("listener 1\nacl_file a").listeners[0].dynamic_security,
        None
    );
    let text = "plugin /x/mosquitto_dynamic_security.so".to_owned();
    let error = Config::from_text("t.conf", text).expect_err("no file is given");
    assert!(
        error.to_string().contains("'plugin_opt_config_file'"),
        "{error}"
    );
}
