//! What the tests of this room share; the tests themselves are below, by subject.

use super::options::{Kind, Repeat, Row, Scope, Standing, TABLE};
use super::*;

mod errors;
mod files;
mod listeners;
mod logging;
mod plugins;
mod random;
mod reference;
mod reload;
mod tls;
mod values;

fn config(text: &str) -> Config {
    Config::from_text("t.conf", text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

fn error(text: impl AsRef<[u8]>) -> String {
    let text = text.as_ref();
    match Config::from_text("t.conf", text) {
        Ok(_) => panic!("{:?} was taken", String::from_utf8_lossy(text)),
        Err(error) => error.to_string(),
    }
}

fn warnings(text: &str) -> Vec<String> {
    config(text)
        .warnings
        .iter()
        .map(Warning::to_string)
        .collect()
}

/// What of a configuration does not come from where it was read.
fn settings(config: Config) -> Config {
    Config {
        source: None,
        warnings: Vec::new(),
        places: Places::default(),
        ..config
    }
}

/// A plugin that Midge does without, and so refuses nobody over.
const PLUGIN: &str = "/lib/mosquitto_sparkplug_aware.so";

/// Lines after which a line of `row` has all that it needs.
fn context(row: &Row) -> String {
    match row.scope {
        _ if row.name == "plugin_use" => format!("plugin_load name {PLUGIN}\nlistener 1884\n"),
        _ if row.name == "listener" => String::new(),
        Scope::Listener => {
            "listener 1884\ncertfile c\nkeyfile k\ncafile a\nenable_proxy_protocol 2\n".to_owned()
        }
        Scope::Bridge => "connection bridge\n".to_owned(),
        Scope::Plugin => format!("plugin {PLUGIN}\n"),
        Scope::Global | Scope::Security => String::new(),
    }
}

/// A good value of `row`, whether it has an effect or not, and not the default.
fn good_value(row: &Row) -> String {
    match (row.name, row.kind) {
        ("include_dir", _) => std::env::temp_dir()
            .join("midge-no-such-directory")
            .display()
            .to_string(),
        ("plugin" | "global_plugin", _) => PLUGIN.to_owned(),
        ("plugin_load", _) => format!("name {PLUGIN}"),
        ("plugin_use", _) => "name".to_owned(),
        ("protocol", _) => "mqtt".to_owned(),
        // What stands before it has 2.
        ("enable_proxy_protocol", _) => "1".to_owned(),
        (_, Kind::Flag) => (row.default != "true").to_string(),
        (_, Kind::Integer { min, max, .. }) => {
            let number = 2.clamp(min, max);
            if row.default == number.to_string() {
                (number - 1).to_string()
            } else {
                number.to_string()
            }
        }
        (_, Kind::Text { .. } | Kind::Path | Kind::Topic | Kind::Words(_)) => {
            "some text".to_owned()
        }
        (_, Kind::Versions) => "4,5".to_owned(),
        (_, Kind::Word(words)) => words[0].to_owned(),
        (_, Kind::Duration) => "2d".to_owned(),
        (_, Kind::Listener) => "1883 127.0.0.1".to_owned(),
        (_, Kind::LogDest(_)) => "stdout".to_owned(),
        (_, Kind::Anything) => "some text".to_owned(),
    }
}

/// A directory of this test's own, gone when it ends.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("midge-config-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory can be made");
        Directory(path)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("a file can be written");
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
