//! Files: those that are included, and the one that is read again.

use super::*;

#[test]
fn included_files_are_read_in_order() {
    let directory = Directory::new("order");
    let names = [
        "b.conf", "A.conf", "01.conf", "a.conf", "B.conf", "00.conf", "aB.conf", "Ab.conf",
    ];
    for (index, name) in names.iter().enumerate() {
        directory.file(name, &format!("listener {}\n", index + 1));
    }
    directory.file("c.txt", "nonsense");
    directory.file(".conf", "nonsense");
    let text = format!(
        "listener 100\ninclude_dir {}\nmax_qos 1\n",
        directory.0.display()
    );
    let config = config(&text);
    let read: Vec<&str> = config.listeners[1..]
        .iter()
        .map(|listener| names[usize::from(listener.port) - 1])
        .collect();
    assert_eq!(
        read,
        [
            "00.conf", "01.conf", "A.conf", "Ab.conf", "a.conf", "aB.conf", "B.conf", "b.conf"
        ]
    );
    // A line after the included files belongs to the listener before them.
    assert_eq!(config.listeners[0].max_qos, 1);
}

#[test]
fn an_included_file_starts_afresh_and_includes_nothing() {
    let directory = Directory::new("afresh");
    let nested = format!("include_dir {}\nmax_qos 1\n", directory.0.display());
    let path = directory.file("a.conf", &nested);
    let config = config(&format!(
        "listener 2\ninclude_dir {}\n",
        directory.0.display()
    ));
    let found: Vec<_> = config
        .listeners
        .iter()
        .map(|listener| (listener.port, listener.max_qos))
        .collect();
    assert_eq!(found, [(2, 2), (1883, 1)]);
    let place = format!("({}:1)", path.display());
    assert_eq!(
        config.warnings[0].to_string(),
        format!(
            "Warning: 'include_dir' has an effect only in the main configuration file. {place}"
        )
    );
    directory.file("a.conf", "foo 1");
    let message = error(format!("include_dir {}\n", directory.0.display()));
    assert!(
        message.contains(&format!("Error found at {}:1.", path.display())),
        "{message}"
    );
}

#[test]
fn the_source_is_remembered() {
    let directory = Directory::new("source");
    let path = directory.file("a.conf", "sys_interval 5");
    let config = Config::load(&path).expect("a good file");
    assert_eq!(config.source.as_deref(), Some(&*path));
    directory.file("a.conf", "sys_interval 6");
    let again = config.reread().expect("a good file");
    assert_eq!(again.sys_interval, Some(Duration::from_secs(6)));
}

#[test]
fn places_of_options() {
    let text = "password_file a\nlistener 1\ncertfile c\nkeyfile k\nkeyfile l\nlistener 2\nlistener 0 /s\nmount_point m/\n\
                maximum_qos 1\nacl_file b\n";
    let config = config(text);
    let line = |option, index: Option<usize>| {
        let listener = index.map(|index| &config.listeners[index]);
        config.place_of(option, listener).map(|place| place.line)
    };
    for (option, index, expected) in [
        ("password_file", None, Some(1)),
        ("password_file", Some(1), Some(1)),
        ("acl_file", Some(0), Some(10)),
        ("certfile", Some(0), Some(3)),
        ("keyfile", Some(0), Some(5)),
        ("certfile", Some(1), None),
        ("certfile", None, None),
        ("listener", Some(0), Some(2)),
        ("listener", Some(1), Some(6)),
        ("mount_point", Some(2), Some(8)),
        ("max_qos", Some(2), Some(9)),
        ("user", None, None),
    ] {
        assert_eq!(line(option, index), expected, "{option} {index:?}");
    }
    let own = self::config(
        "per_listener_settings true\nlistener 1\nacl_file a\nport 2\nacl_file b\nlistener 3\nprotocol websockets\n\
         acl_file c",
    );
    let lines: Vec<_> = own
        .listeners
        .iter()
        .map(|listener| own.place_of("acl_file", Some(listener)))
        .map(|place| place.map(|place| place.line))
        .collect();
    assert_eq!(lines, [Some(3), Some(5)]);
    // What is told does not depend on the order in which somebody keeps the listeners.
    let mut turned = own.clone();
    turned.listeners.reverse();
    let first = turned.place_of("acl_file", turned.listeners.first());
    assert_eq!(first.map(|place| place.line), Some(5));
}

/// A password file for one listener does not come to be another's because of the file that it stands in.
#[test]
fn an_included_file_has_no_listener_of_another_file() {
    let directory = Directory::new("owner");
    let path = directory.file("a.conf", "password_file p\n");
    let include = format!("include_dir {}\n", directory.0.display());
    let per_listener = error(format!("per_listener_settings true\nlistener 1\n{include}"));
    assert_eq!(
        per_listener,
        format!(
            "Error: The 'password_file' option requires a listener to be defined first.\nError found at {}:1.",
            path.display()
        )
    );
    let config = config(&format!("listener 1\n{include}listener 2\n"));
    for listener in &config.listeners {
        assert_eq!(listener.password_file.as_deref(), Some(Path::new("p")));
        let place = config.place_of("password_file", Some(listener));
        assert_eq!(place.map(|place| &*place.file), path.to_str());
    }
    directory.file("a.conf", "certfile c\n");
    let message = error(format!("listener 1\nkeyfile k\n{include}"));
    assert!(
        message.contains("The 'keyfile' option requires 'certfile'."),
        "{message}"
    );
}
