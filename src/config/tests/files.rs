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
