//! `acl_file`: its grammar line by line, every rule of the evaluation, random files against a naive reading.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

fn parse(text: impl AsRef<[u8]>) -> Result<Acl, AclError> {
    Acl::parse(Path::new("f.acl"), text.as_ref())
}

fn acl(text: impl AsRef<[u8]>) -> Arc<Acl> {
    Arc::new(parse(text).expect("a good file"))
}

#[test]
fn good_lines() {
    // A file, and a topic that its anonymous client may write because of it.
    let table: &[(&str, &str)] = &[
        ("topic a", "a"),
        ("topic a\n", "a"),
        ("topic a\r\n", "a"),
        ("# comment\r\n\r\ntopic a\r\n", "a"),
        ("#topic deny a\ntopic a", "a"),
        (" topic a", "a"),
        ("   topic   a  ", "a"),
        ("topic \ta", "a"),
        ("topic a\t\t", "a"),
        ("topic write a", "a"),
        ("topic   write   a", "a"),
        ("topic readwrite a", "a"),
        ("topic write a b", "a b"),
        ("topic write   a  b  ", "a  b"),
        ("topic write \ta", "a"),
        // A lone word is the filter.
        ("topic read", "read"),
        ("topic deny ", "deny"),
        ("topic subscribe\n", "subscribe"),
        ("topic #", "x/y"),
        ("topic +/b", "a/b"),
        ("topic %c/%u", "%c/%u"),
        ("topic $SYS/x", "$SYS/x"),
        ("topic ä/日本", "ä/日本"),
        ("topic $share/g/a", "$share/g/a"),
        ("   \n\t\n\ntopic a", "a"),
        ("topic a\nuser b\ntopic deny a", "a"),
        ("pattern a", "a"),
        ("pattern write a b", "a b"),
        ("pattern write %c", "id"),
    ];
    for (text, topic) in table {
        let rights = acl(text).rights(None, "id");
        assert!(rights.may_write(topic), "{text:?}");
        assert!(!rights.may_write("something/else/altogether") || *text == "topic #");
    }
    // Mosquitto takes comments in any encoding.
    let latin = acl(b"# gr\xFC\xDFe\ntopic a");
    assert!(latin.rights(None, "id").may_read("a"));
}

#[test]
fn bad_lines() {
    let table: &[(&[u8], &str)] = &[
        (b"foo bar", "Invalid line in acl_file \"f.acl\": foo."),
        (b"Topic a", "Invalid line in acl_file \"f.acl\": Topic."),
        (b" # comment", "Invalid line in acl_file \"f.acl\": #."),
        (b"\ttopic a", "Invalid line in acl_file \"f.acl\": \ttopic."),
        (b"topic\ta", "Invalid line in acl_file \"f.acl\": topic\ta."),
        (b"usera b", "Invalid line in acl_file \"f.acl\": usera."),
        (b"user", "Missing username in acl_file \"f.acl\"."),
        (b"user   ", "Missing username in acl_file \"f.acl\"."),
        (b"topic", "Empty topic in acl_file \"f.acl\"."),
        (b"topic   ", "Empty topic in acl_file \"f.acl\"."),
        (b"pattern", "Empty topic in acl_file \"f.acl\"."),
        (
            b"topic a b",
            "Invalid topic access type \"a\" in acl_file \"f.acl\".",
        ),
        (
            b"topic READ a",
            "Invalid topic access type \"READ\" in acl_file \"f.acl\".",
        ),
        (
            b"pattern publish a",
            "Invalid topic access type \"publish\" in acl_file \"f.acl\".",
        ),
        (
            b"topic \tread a",
            "Invalid topic access type \"\tread\" in acl_file \"f.acl\".",
        ),
        (
            b"topic a#",
            "Invalid ACL topic \"a#\" in acl_file \"f.acl\".",
        ),
        (
            b"topic a/#/b",
            "Invalid ACL topic \"a/#/b\" in acl_file \"f.acl\".",
        ),
        (
            b"topic read a+/b",
            "Invalid ACL topic \"a+/b\" in acl_file \"f.acl\".",
        ),
        (
            b"pattern %u#",
            "Invalid ACL topic \"%u#\" in acl_file \"f.acl\".",
        ),
        (
            b"pattern read +%c/b",
            "Invalid ACL topic \"+%c/b\" in acl_file \"f.acl\".",
        ),
        (
            b"topic \xFF",
            "Malformed line in acl_file \"f.acl\": invalid UTF-8.",
        ),
        (
            b"user \xFF",
            "Malformed line in acl_file \"f.acl\": invalid UTF-8.",
        ),
        (
            b"topic a\0b",
            "Malformed line in acl_file \"f.acl\": a zero byte.",
        ),
        (b"\0", "Malformed line in acl_file \"f.acl\": a zero byte."),
    ];
    for (line, first) in table {
        // Everything before the bad line was good, which helps nothing.
        let text = [b"topic #\n\n", *line, b"\ntopic b"].concat();
        let error = parse(text).expect_err(first).to_string();
        let mut lines = error.lines();
        assert_eq!(lines.next(), Some(&*format!("Error: {first}")));
        assert_eq!(lines.next(), Some("Error found at f.acl:3."), "{first}");
        assert!(
            lines
                .next()
                .is_some_and(|line| line.starts_with("Expected: ")),
            "{first}"
        );
        assert_eq!(lines.next(), None, "{first}");
    }
    let deep = format!("topic {}", "/".repeat(topic::LEVELS_MAX));
    assert!(matches!(
        parse(deep),
        Err(AclError::At {
            problem: AclProblem::InvalidFilter(_),
            ..
        })
    ));
}

/// A password file in the place of the ACL file does not bring its hashes into the log.
#[test]
fn errors_keep_hashes_to_themselves() {
    for text in [
        "bob:$7$101$c2FsdA==$aGFzaA==\n",
        "topic bob:$7$101$c2FsdA== x\n",
    ] {
        let error = parse(text).expect_err("no ACL file").to_string();
        assert!(
            error.contains("bob...") && !error.contains("$7$"),
            "{error}"
        );
    }
    let long = "x".repeat(1000);
    assert!(parse(&long).expect_err("no word").to_string().len() < 300);
}

#[test]
fn warnings_name_the_line() {
    let acl = acl("pattern read %u/a\npattern read a/b\npattern %d\n");
    let texts: Vec<String> = acl.warnings().iter().map(Warning::to_string).collect();
    assert_eq!(
        texts,
        [
            "Warning: ACL pattern 'a/b' does not contain '%c' or '%u'. (f.acl:2)",
            "Warning: ACL pattern '%d' does not contain '%c' or '%u'. (f.acl:3)",
        ]
    );
}

#[test]
fn files_that_cannot_be_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let missing = directory.path().join("missing");
    let error = Acl::load(&missing).expect_err("no file").to_string();
    assert_eq!(
        error,
        format!(
            "Error: Unable to open acl_file \"{}\".\nNo such file or directory",
            missing.display()
        )
    );
    assert!(matches!(
        Acl::load(directory.path()),
        Err(AclError::Unreadable(_))
    ));
    let there = directory.path().join("there");
    std::fs::write(&there, "topic a\n").expect("a file");
    let acl = Arc::new(Acl::load(&there).expect("a good file"));
    assert!(acl.rights(None, "id").may_read("a"));
}

/// A file that has no rule allows nothing.
#[test]
fn cve_2018_12550_empty_file() {
    for text in ["", "\n", "# topic #\n", "user u\n", "  \r\n#\n"] {
        let acl = acl(text);
        for user_name in [None, Some("u"), Some("")] {
            let rights = acl.rights(user_name, "id");
            for topic in ["a", "id", "u", "/", "$SYS/a"] {
                assert!(
                    !rights.may_read(topic) && !rights.may_write(topic),
                    "{text:?}"
                );
            }
        }
    }
}

/// Names that would be wildcards, or nothing, in a pattern.
#[test]
fn cve_2017_7650_wildcards_in_names() {
    let acl = acl(
        "topic anonymous\nuser a+b\ntopic own\nuser #\ntopic own\npattern %c/x\npattern %u/y\npattern all\n",
    );
    let table: &[(Option<&str>, &str, &str, bool)] = &[
        (Some("u"), "c", "c/x", true),
        (Some("u"), "c", "u/y", true),
        (Some("u"), "c", "all", true),
        (Some("u"), "+", "+/x", false),
        (Some("u"), "+", "c/x", false),
        (Some("u"), "#", "c/x", false),
        (Some("u"), "a#b", "u/y", false),
        (Some("u"), "+", "all", false),
        (Some("+"), "c", "u/y", false),
        (Some("#"), "c", "c/x", false),
        (Some("a+b"), "c", "all", false),
        // What the operator gave to this very name is its own, as in Mosquitto.
        (Some("a+b"), "c", "own", true),
        (Some("#"), "c", "own", true),
        (Some("#"), "c", "other", false),
        (None, "+", "anonymous", true),
        (None, "+", "all", false),
        // Without a name, nothing stands for it.
        (None, "c", "/y", false),
        (Some(""), "c", "/y", false),
        (Some(""), "", "/x", false),
        (Some("u"), "", "/x", false),
        (Some("u"), "", "u/y", true),
        (Some(""), "c", "anonymous", false),
    ];
    for (user_name, client_id, topic, expected) in table {
        let rights = acl.rights(*user_name, client_id);
        assert_eq!(
            rights.may_write(topic),
            *expected,
            "{user_name:?} {client_id} {topic}"
        );
    }
}

/// Names in patterns are text: Mosquitto 2.1 took rights from everybody with a `/` in the client id.
#[test]
fn names_in_patterns_are_text() {
    let table: &[(&str, &str, &str, &str, bool)] = &[
        ("%c/x", "u", "a/b", "a/b/x", true),
        ("%c/x", "u", "a/b", "a/x", false),
        ("%c/x", "u", "a/b", "a/b/c/x", false),
        ("%c", "u", "a/b", "a/b", true),
        ("%c/#", "u", "a/b", "a/b", true),
        ("%c/#", "u", "a/b", "a/b/c/d", true),
        ("%c/#", "u", "a/b", "a", false),
        ("%c/#", "u", "a/b", "a/bc", false),
        ("%c/+/x", "u", "/", "//y/x", true),
        ("dev-%u/x", "u", "c", "dev-u/x", true),
        ("dev-%u/x", "u", "c", "dev-/x", false),
        ("dev-%u/x", "u", "c", "dev-uu/x", false),
        ("%u-%c-%u", "u", "a/b", "u-a/b-u", true),
        ("%%c%", "u", "a", "%a%", true),
        ("%c%c", "u", "a", "aa", true),
        ("%c/x", "u", "%u", "%u/x", true),
        ("%c/x", "u", "%u", "u/x", false),
        ("$dev/%c", "u", "c", "$dev/c", true),
        ("$%c/x", "u", "c", "$c/x", true),
        ("x/%c", "u", "$c", "x/$c", true),
        // Mosquitto allows these two.
        ("%c/#", "u", "$SYS", "$SYS/a", false),
        ("%u/x", "$u", "c", "$u/x", false),
        ("x/%C/%U/%d", "u", "c", "x/c/u/d", false),
        ("x/%C/%U/%d", "u", "c", "x/%C/%U/%d", true),
    ];
    for (filter, user_name, client_id, topic, expected) in table {
        let rights = acl(format!("pattern read {filter}")).rights(Some(user_name), client_id);
        assert_eq!(
            rights.may_read(topic),
            *expected,
            "{filter} {client_id} {topic}"
        );
        assert!(!rights.may_write(topic), "{filter} {client_id} {topic}");
    }
}

#[test]
fn order_of_rules() {
    let text = "
topic read for/anonymous
topic deny secret
topic #

user u
topic read r
topic write w
topic readwrite b
topic read twice
topic write twice
topic own/#
topic deny own/secret/#
topic deny $SYS/broker/log
topic read $SYS/#
topic own

user v
topic v

user u
topic later

pattern deny p/secret
pattern readwrite p/#
pattern deny own/pattern
pattern %u/%c
pattern read $SYS/broker/uptime
";
    // User name, topic, may read, may write.
    let table: &[(Option<&str>, &str, bool, bool)] = &[
        (None, "for/anonymous", true, true),
        (None, "anything", true, true),
        (None, "secret", false, false),
        (None, "$SYS/a", false, false),
        (None, "$SYS/broker/uptime", true, false),
        // The own list says yes before the pattern says no.
        (None, "p/secret", true, true),
        (Some("u"), "for/anonymous", false, false),
        (Some("u"), "r", true, false),
        (Some("u"), "w", false, true),
        (Some("u"), "b", true, true),
        (Some("u"), "twice", true, true),
        (Some("u"), "own", true, true),
        (Some("u"), "own/a/b", true, true),
        (Some("u"), "own/secret", false, false),
        (Some("u"), "own/secret/a", false, false),
        (Some("u"), "own/pattern", true, true),
        (Some("u"), "$SYS/a", true, false),
        (Some("u"), "$SYS", true, false),
        (Some("u"), "$SYS/broker/log", false, false),
        (Some("u"), "later", true, true),
        (Some("u"), "v", false, false),
        (Some("u"), "u/id", true, true),
        (Some("v"), "v", true, true),
        (Some("v"), "r", false, false),
        (Some("v"), "later", false, false),
        (Some("w"), "p/a", true, true),
        (Some("w"), "p/secret", false, false),
        (Some("w"), "own/pattern", false, false),
        (Some("w"), "w/id", true, true),
        (Some("w"), "anything", false, false),
        (Some("U"), "r", false, false),
    ];
    let acl = acl(text);
    for (user_name, topic, read, write) in table {
        let rights = acl.rights(*user_name, "id");
        assert_eq!(rights.may_read(topic), *read, "{user_name:?} {topic}");
        assert_eq!(rights.may_write(topic), *write, "{user_name:?} {topic}");
        assert!(rights.may_subscribe(topic), "{user_name:?} {topic}");
    }
}

#[test]
fn covered_filters() {
    // A rule, a filter, whether the rule covers it.
    let table: &[(&str, &str, bool)] = &[
        ("a/b", "a/b", true),
        ("a/b", "a/+", false),
        ("a/b", "a/#", false),
        ("a/+", "a/b", true),
        ("a/+", "a/+", true),
        ("a/+", "a/#", false),
        ("a/+", "+/b", false),
        ("a/#", "a", true),
        ("a/#", "a/#", true),
        ("a/#", "a/+/b/#", true),
        ("a/#", "+/#", false),
        ("a/+/#", "a/#", false),
        ("a/+/#", "a/+", true),
        ("+/b", "a/b", true),
        ("+/+", "+/b", true),
        ("+/b", "+/+", false),
        ("#", "#", true),
        ("#", "+/#", true),
        ("#", "a/+", true),
        ("+/#", "#", true),
        ("+/#", "+/#", true),
        ("+/#", "a", true),
        ("+/+/#", "#", false),
        ("+", "#", false),
        ("#", "$SYS/#", false),
        ("+/#", "$SYS/#", false),
        ("+/a", "$SYS/a", false),
        ("$SYS/#", "$SYS/#", true),
        ("$SYS/#", "$SYS/a/+", true),
        ("$SYS/#", "#", false),
        ("$SYS/#", "+/a", false),
        ("a/b", "a", false),
        ("a", "a/b", false),
        ("/#", "/", true),
        ("+/+", "/", true),
    ];
    for (rule, filter, expected) in table {
        let rights = acl(format!("topic subscribe {rule}")).rights(None, "id");
        assert_eq!(rights.may_subscribe(filter), *expected, "{rule} {filter}");
        assert!(!rights.may_read(rule) && !rights.may_write(rule), "{rule}");
        let rights = acl(format!(
            "topic subscribe #\ntopic subscribe $SYS/#\ntopic deny {rule}"
        ))
        .rights(None, "id");
        assert_eq!(rights.may_subscribe(filter), !*expected, "{rule} {filter}");
    }
}

#[test]
fn subscribe_rules_concern_whom_they_name() {
    let text = "
topic readwrite #
user u
topic subscribe u/#
topic read #
user v
topic #
topic deny v/#
";
    let table: &[(Option<&str>, &str, bool)] = &[
        (Some("u"), "u/#", true),
        (Some("u"), "u/a", true),
        (Some("u"), "#", false),
        (Some("u"), "v", false),
        // Nothing says `subscribe` here: what comes is checked.
        (Some("v"), "#", true),
        (Some("v"), "v/#", true),
        (Some("w"), "#", true),
        (None, "#", true),
    ];
    let own = acl(text);
    for (user_name, filter, expected) in table {
        let rights = own.rights(*user_name, "id");
        assert_eq!(
            rights.may_subscribe(filter),
            *expected,
            "{user_name:?} {filter}"
        );
    }

    // A pattern is for everybody, also for those that it cannot match.
    let table: &[(Option<&str>, &str, bool)] = &[
        (Some("u"), "u/#", true),
        (Some("u"), "u/+/a", true),
        (Some("u"), "+/#", false),
        (Some("a/b"), "a/b/c", true),
        (Some("a/b"), "a/+/c", false),
        (Some("x"), "topic/a", true),
        (Some("y"), "topic/a", false),
        (Some("+"), "+/#", false),
        (Some(""), "/#", false),
        (None, "a", false),
    ];
    let pattern = acl("pattern subscribe %u/#\nuser x\ntopic subscribe topic/#\nuser y\ntopic #\n");
    for (user_name, filter, expected) in table {
        let rights = pattern.rights(*user_name, "id");
        assert_eq!(
            rights.may_subscribe(filter),
            *expected,
            "{user_name:?} {filter}"
        );
    }
}

/// Every mixture of `a` and `+` over many levels, and the deepest rules and topics there can be.
#[test]
fn many_branches_and_levels() {
    let mut text = String::new();
    for mixture in 0..1 << 12 {
        let levels: Vec<&str> = (0..12)
            .map(|level| if mixture >> level & 1 == 0 { "a" } else { "+" })
            .collect();
        text.push_str(&format!("topic {}\n", levels.join("/")));
    }
    let deepest = ["+"; topic::LEVELS_MAX].join("/");
    text.push_str(&format!(
        "topic deny {deepest}\ntopic deny {}a\n",
        "+/a/".repeat(100)
    ));
    let rights = acl(text).rights(None, "id");
    let levels = |number: usize| vec!["a"; number].join("/");
    assert!(rights.may_read(&levels(12)));
    assert!(rights.may_read(&["b"; 12].join("/")));
    assert!(!rights.may_read(&levels(11)) && !rights.may_read(&levels(13)));
    assert!(!rights.may_read(&levels(topic::LEVELS_MAX)));
    assert!(!rights.may_read(&"/".repeat(65_535)));
}

#[test]
fn rights_outlive_the_file() {
    fn sent<T: Send>(value: T) -> T {
        value
    }
    let acl = Arc::new(sent(
        parse("user u\ntopic secret/place\n").expect("a good file"),
    ));
    let rights = acl.rights(Some("u"), "id");
    drop(acl);
    assert!(rights.may_read("secret/place"));
    let text = format!("{rights:?} {:?}", rights.acl);
    assert!(text.contains("\"u\"") && !text.contains("secret"), "{text}");
}

#[test]
fn many_templates_below_one_node() {
    let text: String = (0..100)
        .map(|n| format!("pattern write {n}-%c/%c/x\n"))
        .collect();
    let rights = acl(text).rights(None, "/");
    assert!(rights.may_write("7-////x"));
    assert!(!rights.may_write("7-////y"));
}

/// One rule, as the naive reading has it.
#[derive(Clone, Debug)]
struct Rule {
    /// `None` for a pattern, otherwise whose section it is in.
    section: Option<Option<&'static str>>,
    access: &'static str,
    filter: String,
}

/// Topics deep and different enough that a filter over them is covered if and only if these are.
fn topics() -> Vec<String> {
    let mut topics = vec![String::new()];
    let mut deepest = topics.clone();
    for depth in 0..4 {
        let longer = |topic: &String| {
            let topic = topic.clone();
            ["", "a", "b", "$s", "u", "other"].map(|level| match depth {
                0 => level.to_owned(),
                _ => format!("{topic}/{level}"),
            })
        };
        deepest = deepest.iter().flat_map(longer).collect();
        topics.extend(deepest.clone());
    }
    topics.retain(|topic| !topic.is_empty());
    topics
}

fn filter(levels: &'static [&'static str]) -> impl Strategy<Value = String> {
    (vec(select(levels), 0..3), any::<bool>())
        .prop_map(|(levels, more)| {
            let end = more.then_some("#");
            levels.into_iter().chain(end).collect::<Vec<_>>().join("/")
        })
        .prop_filter("a filter is not empty", |filter| !filter.is_empty())
}

fn rule() -> impl Strategy<Value = Rule> {
    let section = select(vec![
        None,
        None,
        Some(None),
        Some(Some("u")),
        Some(Some("u")),
        Some(Some("v")),
        Some(Some("a+")),
    ]);
    let access = select(vec![
        "",
        "read ",
        "write ",
        "readwrite ",
        "deny ",
        "subscribe ",
    ]);
    let levels = &[
        "a", "b", "$s", "", "+", "+", "%c", "%u", "a%c", "%u%c", "$%u", "u",
    ];
    (section, access, filter(levels)).prop_map(|(section, access, filter)| Rule {
        section,
        access,
        filter,
    })
}

impl Rule {
    fn says(&self, wanted: &str) -> bool {
        match self.access.trim() {
            "" | "readwrite" => wanted == "read" || wanted == "write",
            access => access == wanted,
        }
    }

    /// The filter with names put in as text, where the rule can match at all.
    fn expanded(&self, user_name: Option<&str>, client_id: &str) -> Option<String> {
        if self.section.is_some() {
            return Some(self.filter.clone());
        }
        if [user_name, Some(client_id)]
            .into_iter()
            .flatten()
            .any(|name| name.contains(['+', '#']))
        {
            return None;
        }
        let mut expanded = String::new();
        let mut rest = self.filter.as_str();
        while let Some(at) = rest.find('%') {
            let name = match &rest[at..at + 2] {
                "%c" => client_id,
                _ => user_name?,
            };
            if name.is_empty() {
                return None;
            }
            expanded.push_str(&rest[..at]);
            expanded.push_str(name);
            rest = &rest[at + 2..];
        }
        Some(expanded + rest)
    }

    fn matches(&self, expanded: &str, name: &str) -> bool {
        (!name.starts_with('$') || self.filter.starts_with('$')) && topic::matches(expanded, name)
    }
}

/// Rule by rule, in the order of the manual; `hits` says whether a rule concerns what is asked.
fn naive(rules: &[Rule], user: Option<&str>, wanted: &str, hits: impl Fn(&Rule) -> bool) -> bool {
    let (own, patterns): (Vec<&Rule>, Vec<&Rule>) = rules
        .iter()
        .filter(|rule| rule.section.is_none_or(|section| section == user))
        .partition(|rule| rule.section.is_some());
    for list in [own, patterns] {
        for says in ["deny", wanted] {
            if list.iter().any(|rule| rule.says(says) && hits(rule)) {
                return says != "deny";
            }
        }
    }
    false
}

fn file(rules: &[Rule]) -> String {
    let mut text = String::new();
    // Anonymous rules come before any user.
    for rule in rules.iter().filter(|rule| rule.section == Some(None)) {
        text.push_str(&format!("topic {}{}\n", rule.access, rule.filter));
    }
    for rule in rules {
        match rule.section {
            None => text.push_str(&format!("pattern {}{}\n", rule.access, rule.filter)),
            Some(Some(user)) => {
                text.push_str(&format!(
                    "user {user}\ntopic {}{}\n",
                    rule.access, rule.filter
                ));
            }
            Some(None) => {}
        }
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn answers_as_the_naive_reading(
        rules in vec(rule(), 0..12),
        user in select(vec![None, Some("u"), Some("v"), Some("a+"), Some(""), Some("a/b"), Some("$s")]),
        client_id in select(vec!["a", "b", "a/b", "$s", "a+", "#", "%u", "a/", "/", ""]),
        filters in vec(filter(&["a", "b", "$s", "", "+", "u"]), 20),
    ) {
        let rights = acl(file(&rules)).rights(user, client_id);
        let topics = topics();
        for topic in &topics {
            let hits = |rule: &Rule| {
                rule.expanded(user, client_id).is_some_and(|filter| rule.matches(&filter, topic))
            };
            prop_assert_eq!(rights.may_read(topic), naive(&rules, user, "read", hits), "read {}", topic);
            prop_assert_eq!(rights.may_write(topic), naive(&rules, user, "write", hits), "write {}", topic);
        }
        let is_asked = rules.iter().any(|rule| {
            rule.says("subscribe") && rule.section.is_none_or(|section| section == user)
        });
        for filter in filters {
            let wanted: Vec<&String> = topics.iter().filter(|topic| topic::matches(&filter, topic)).collect();
            let covers = |rule: &Rule| {
                rule.expanded(user, client_id)
                    .is_some_and(|expanded| wanted.iter().all(|topic| rule.matches(&expanded, topic)))
            };
            let expected = !is_asked || naive(&rules, user, "subscribe", covers);
            prop_assert_eq!(rights.may_subscribe(&filter), expected, "subscribe {}", filter);
        }
    }

    #[test]
    fn any_bytes_are_a_file_or_an_error(bytes in vec(any::<u8>(), 0..200)) {
        let _ = parse(bytes);
    }

    #[test]
    fn any_words_are_a_file_or_an_error(
        words in vec(select(vec!["user", "topic", "pattern", "read", " ", "\n", "#", "+", "%u", "%", "/", "a", "\t"]), 0..60),
        name in "\\PC{0,4}",
    ) {
        if let Ok(acl) = parse(words.concat()) {
            let acl = Arc::new(acl);
            for rights in [acl.rights(None, &name), acl.rights(Some(&name), &name)] {
                rights.may_read(&name);
                rights.may_subscribe(&name);
            }
        }
    }
}
