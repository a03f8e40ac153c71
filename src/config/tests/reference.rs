//! `conf/mosquitto.conf`, the reference page: written from the table, and held to it.

use std::fmt::Write;

use super::*;
use options::PARTS;

const PATH: &str = "conf/mosquitto.conf";
const COLUMNS: usize = 100;

const HEAD: &str = "\
# mosquitto.conf: every option, with its default

# This file is read with 'midge -c FILE', and checked with 'midge --test-config -c FILE'. Every line in it is a comment: \
as it stands it asks for nothing, and only programs on this machine can connect, on port 1883. To serve others, define a \
listener and say who may connect, for example:

#listener 1883
#allow_anonymous false
#password_file /etc/mosquitto/passwd

# A line is a comment if its very first character is '#'. Any other line is the name of an option, a space, and its \
value, which may hold spaces and goes on to the end of the line. A name that is not known, a value that is not good and \
an option given twice where it may be given once are errors, and the broker does not start. Paths that do not start with \
a slash are relative to the directory that the broker was started in.

# On SIGHUP the broker reads its files again. What it cannot take up is told in the log; if anything is wrong with the \
new files, it goes on with what it had. 'After a restart' below is said of options that are read at the start alone.

# Below, '#' and a space begin what is explained; '#' and a name are an option with its default or, where it has none, \
with an example. Options are Mosquitto's as well, but for \
those that are said to be Midge's own; where Midge does otherwise, it is said.
";

/// `text` in lines of [`COLUMNS`], as comments.
fn comment(page: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split(' ') {
        if line.len() + 1 + word.len() > COLUMNS {
            writeln!(page, "{line}").expect("a String takes all");
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    writeln!(page, "{line}").expect("a String takes all");
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    // The name of an option stays as it is written.
    let is_name = text
        .split(' ')
        .any(|word| word.contains('_') && text.starts_with(word));
    let first = letters.next().map(|letter| match is_name {
        true => letter,
        false => letter.to_ascii_uppercase(),
    });
    let end = if text.ends_with('.') { "" } else { "." };
    format!(
        "{}{}{end}",
        first.map(String::from).unwrap_or_default(),
        letters.as_str()
    )
}

fn option_line(row: &Row) -> String {
    let value = match row.default {
        "" => row.example,
        default => default,
    };
    let name = match row.name {
        "plugin_opt_*" => "plugin_opt_acl_file",
        "auth_opt_*" => "auth_opt_acl_file",
        name => name,
    };
    format!("{name} {value}")
}

/// What a row says of itself beside its help: what it takes, its default, whose it is, and when it is taken up.
fn facts(row: &Row) -> String {
    let mut facts = Vec::new();
    if row.kind != Kind::Anything {
        let unit = match row.unit {
            "" => String::new(),
            unit => format!(", in {unit}"),
        };
        facts.push(format!("Takes {}{unit}.", row.kind.expected()));
        facts.push(match row.default {
            "" => "No default: this is an example.".to_owned(),
            default => format!("Default: {default}."),
        });
    }
    if row.scope == Scope::Security {
        let whose =
            "For the whole broker, or with per_listener_settings true for the listener above.";
        facts.push(whose.to_owned());
    }
    if row.listener_first {
        facts.push("For the listener above, and an error before any listener line.".to_owned());
    }
    if row.repeat == Repeat::Each {
        facts.push("May be given several times.".to_owned());
    }
    if !row.aliases.is_empty() {
        facts.push(format!("Also called {}.", row.aliases.join(", ")));
    }
    if row.own {
        facts.push("Midge's own: Mosquitto does not know it.".to_owned());
    }
    if let Some(instead) = row.instead {
        facts.push(format!("Deprecated: use {instead}."));
    }
    let reload = match row.reloadable {
        true => "Taken up on SIGHUP.",
        false => "After a restart.",
    };
    let has_part_text = matches!(row.scope, Scope::Bridge);
    facts.push(match row.standing {
        Standing::InForce => reload.to_owned(),
        Standing::NoEffect if has_part_text => String::new(),
        Standing::NoEffect => "HAS NO EFFECT YET, and a warning says so.".to_owned(),
        Standing::NoMeaning => "Has no meaning in Midge, and a notice says so.".to_owned(),
        Standing::Obsolete => "No longer available: accepted with a warning.".to_owned(),
        Standing::Refused(reason) => {
            let except = match row.default {
                "" => "",
                _ => " other than the default",
            };
            format!("REFUSED: the broker does not start with it{except}. {reason}")
        }
    });
    facts.retain(|fact| !fact.is_empty());
    facts.join(" ")
}

fn page() -> String {
    let mut page = String::new();
    for paragraph in HEAD.trim_end().split('\n') {
        match paragraph.strip_prefix("# ") {
            Some(text) => comment(&mut page, text),
            None => writeln!(page, "{paragraph}").expect("a String takes all"),
        }
    }
    for row in TABLE {
        if let Some(part) = PARTS.iter().find(|part| part.first == row.name) {
            let rule = "=".repeat(COLUMNS - 2);
            write!(page, "\n# {rule}\n# {}\n# {rule}\n", part.title).expect("a String takes all");
            if !part.text.is_empty() {
                comment(&mut page, part.text);
            }
        }
        page.push('\n');
        comment(&mut page, &sentence(row.help));
        if !row.details.is_empty() {
            comment(&mut page, row.details);
        }
        match facts(row) {
            facts if facts.is_empty() => {}
            facts => comment(&mut page, &facts),
        }
        writeln!(page, "#{}", option_line(row)).expect("a String takes all");
    }
    page
}

fn written() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PATH);
    std::fs::read_to_string(path).expect("the reference page is there")
}

#[test]
fn the_reference_says_what_the_table_says() {
    let page = page();
    if std::env::var_os("MIDGE_WRITE_REFERENCE").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PATH);
        std::fs::write(path, &page).expect("the reference page can be written");
    }
    let written = written();
    let line = page
        .lines()
        .zip(written.lines())
        .position(|(expected, line)| expected != line);
    assert!(
        page == written,
        "{PATH} is not what the table of options says, from line {}. Write it again with \
         `MIDGE_WRITE_REFERENCE=1 cargo test reference`.",
        line.map_or(page.lines().count().min(written.lines().count()), |line| {
            line
        }) + 1
    );
}

#[test]
fn the_reference_is_good_and_asks_for_nothing() {
    let page = page();
    let uncommented: String = page
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect();
    for text in [&page, &uncommented] {
        assert_eq!(settings(config(text)), settings(Config::default()));
        assert_eq!(warnings(text), [""; 0]);
    }
    assert!(page.lines().all(|line| line.len() <= COLUMNS));
}

#[test]
fn every_line_of_the_reference_is_good() {
    let page = page();
    let mut lines = page
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase()));
    for line in lines.by_ref().take(3) {
        config(&format!("listener 1\n{line}"));
    }
    for row in TABLE {
        let line = lines.next().expect("a line for every row");
        assert_eq!(line, option_line(row));
        assert_eq!(
            options::find(line.split(' ').next().expect("a name")).map(|row| row.name),
            Some(row.name)
        );
        let before = match row.name {
            "plugin_use" => {
                "plugin_load rules mosquitto_acl_file.so\nplugin_opt_acl_file a\nlistener 1\n"
                    .to_owned()
            }
            "plugin_opt_*" | "auth_opt_*" => "plugin mosquitto_acl_file.so\n".to_owned(),
            _ => context(row),
        };
        let after = match row.name {
            "plugin" | "global_plugin" | "plugin_load" => "\nplugin_opt_acl_file a",
            _ => "",
        };
        let text = format!("{before}{line}{after}");
        match (row.standing, Config::from_text("t.conf", &text)) {
            (Standing::Refused(_), Err(ConfigError::Refused(_))) => {}
            (_, Ok(_)) => {}
            (_, Err(error)) if row.name == "include_dir" => {
                assert!(error.to_string().contains("Unable to open include_dir"));
            }
            (_, Err(error)) => panic!("{text}: {error}"),
        }
    }
    assert_eq!(lines.next(), None);
}
