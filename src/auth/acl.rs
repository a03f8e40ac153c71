//! `acl_file`: which topics a client may read, write and subscribe to.
//!
//! A line is `user NAME`, `topic [ACCESS] FILTER`, `pattern [ACCESS] FILTER`, a comment that starts with `#`, or blank.
//! A client's own list are the `topic` rules below its `user` lines, or those above the first one if it has no user
//! name; `pattern` rules are for everybody, and `%c` and `%u` in them stand for the client's names. It does not know
//! packets or sessions, nor what else the broker forbids, such as writing to `$SYS`.
//!
//! 1. What no rule allows is denied: an empty file, and one of comments alone, denies everything (CVE-2018-12550).
//! 2. The client's own list is asked before the patterns; in each, a `deny` rule that matches comes before the others.
//! 3. A filter that does not start with `$` matches no topic that does, not even one that starts with `%c` or `%u`:
//!    with `%c/#` Mosquitto lets a client that calls itself `$SYS` read what is there.
//! 4. No pattern matches for a client whose user name or Client Identifier has a wildcard (CVE-2017-7650).
//! 5. A file with one bad line is no `Acl`.
//!
//! As in Mosquitto every subscription is allowed and the right to read is asked for each message, unless the access
//! word `subscribe`, which is Midge's own, is used for the client: then what it subscribes to must be allowed too.

use std::collections::HashMap;
use std::fmt;
use std::ops::BitOr;
use std::path::Path;
use std::sync::Arc;

use super::file::{self, FileError};
use super::trie::{self, Names, Says, Trie};
use crate::config::{Place, Severity, Warning};
use crate::mqtt::topic;

/// How much of a word that should not be there is shown, in characters.
const SHOWN_CHARACTERS_MAX: usize = 40;

/// A set of what rules say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Access(u8);

impl Access {
    const NONE: Access = Access(0);
    const READ: Access = Access(1);
    const WRITE: Access = Access(1 << 1);
    const SUBSCRIBE: Access = Access(1 << 2);
    const DENY: Access = Access(1 << 3);

    /// Whether any of `other` is in the set.
    fn has(self, other: Access) -> bool {
        self.0 & other.0 != 0
    }
}

impl BitOr for Access {
    type Output = Access;

    fn bitor(self, other: Access) -> Access {
        Access(self.0 | other.0)
    }
}

impl Says for Access {
    const NOTHING: Access = Access::NONE;

    fn with(self, other: Access) -> Access {
        self | other
    }

    fn is_enough(self, wanted: Access) -> bool {
        self.has(wanted)
    }
}

/// The rules of one `acl_file`, compiled. Immutable.
pub struct Acl {
    trie: Trie<Access>,
    users: HashMap<Box<str>, List>,
    anonymous: List,
    patterns: List,
    rules: usize,
    warnings: Vec<Warning>,
    file_warnings: Vec<String>,
}

/// Rules that are asked together: where they start in the trie, and all that any of them says.
#[derive(Clone, Copy, Debug)]
struct List {
    root: u32,
    says: Access,
}

impl List {
    fn new(trie: &mut Trie<Access>) -> List {
        List {
            root: trie.add_root(),
            says: Access::NONE,
        }
    }
}

impl Acl {
    /// Reads and compiles the file at `path`.
    /// # Errors
    /// The file cannot be read, or its first bad line.
    pub fn load(path: &Path) -> Result<Acl, AclError> {
        let (text, warnings) = file::read(path).map_err(AclError::Unreadable)?;
        let mut acl = Acl::parse(path, &text)?;
        acl.file_warnings = warnings;
        Ok(acl)
    }

    /// Compiles `text` as the content of the file at `path`.
    /// # Errors
    /// The first bad line.
    pub fn parse(path: &Path, text: &[u8]) -> Result<Acl, AclError> {
        let file: Arc<str> = path.to_string_lossy().into();
        let mut trie = Trie::new();
        let mut acl = Acl {
            anonymous: List::new(&mut trie),
            patterns: List::new(&mut trie),
            trie,
            users: HashMap::new(),
            rules: 0,
            warnings: Vec::new(),
            file_warnings: Vec::new(),
        };
        let mut user = None;
        for (line, number) in text.split(|byte| *byte == b'\n').zip(1..) {
            let place = || Place {
                file: file.clone(),
                line: number,
            };
            match Line::read(line) {
                Ok(Line::Nothing) => {}
                Ok(Line::User(name)) => {
                    acl.add_user(name);
                    user = Some(name);
                }
                Ok(Line::Topic(access, filter)) => acl.add_topic(user, access, filter),
                Ok(Line::Pattern(access, filter)) => acl.add_pattern(access, filter, &place),
                Err(problem) => {
                    return Err(AclError::At {
                        place: place(),
                        problem,
                    });
                }
            }
        }
        Ok(acl)
    }

    /// What the operator should know about who else can reach the file.
    pub fn file_warnings(&self) -> &[String] {
        &self.file_warnings
    }

    /// What the operator should know about the rules.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The rules for one client, to be made when it connects and again after a reload.
    ///
    /// `user_name` is the one it is known by: from CONNECT or from its certificate.
    pub fn rights(self: &Arc<Self>, user_name: Option<&str>, client_id: &str) -> Rights {
        let own = match user_name {
            Some(name) => self.users.get(name).copied(),
            None => Some(self.anonymous),
        };
        let has_wildcard = |name: &str| name.contains(['+', '#']);
        let is_barred = has_wildcard(client_id) || user_name.is_some_and(has_wildcard);
        let named = |name: &str| (!name.is_empty()).then(|| name.into());
        Rights {
            own,
            patterns: (!is_barred).then_some(self.patterns),
            asks_subscribe: own.is_some_and(|own| own.says.has(Access::SUBSCRIBE))
                || self.patterns.says.has(Access::SUBSCRIBE),
            user_name: user_name.and_then(named),
            client_id: named(client_id),
            acl: self.clone(),
        }
    }

    /// Sees that the user `name` has a list; the same user may come twice.
    fn add_user(&mut self, name: &str) {
        if !self.users.contains_key(name) {
            let list = List::new(&mut self.trie);
            self.users.insert(name.into(), list);
        }
    }

    fn add_topic(&mut self, user: Option<&str>, access: Access, filter: &str) {
        let list = match user {
            Some(name) => self
                .users
                .get_mut(name)
                .expect("a user has a list from its line on"),
            None => &mut self.anonymous,
        };
        list.says = list.says | access;
        self.trie.add_literal(list.root, filter, access);
        self.rules += 1;
    }

    fn add_pattern(&mut self, access: Access, filter: &str, place: &dyn Fn() -> Place) {
        if !trie::is_template(filter.as_bytes()) {
            self.warnings.push(Warning {
                severity: Severity::Warning,
                text: format!("Warning: ACL pattern '{filter}' does not contain '%c' or '%u'."),
                place: Some(place()),
            });
        }
        self.patterns.says = self.patterns.says | access;
        self.trie.add_template(self.patterns.root, filter, access);
        self.rules += 1;
    }
}

impl fmt::Debug for Acl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acl")
            .field("users", &self.users.len())
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

/// What one client may do.
#[derive(Clone)]
pub struct Rights {
    acl: Arc<Acl>,
    own: Option<List>,
    /// `None` for a client whose names have wildcards.
    patterns: Option<List>,
    /// Whether a rule for this client says `subscribe`.
    asks_subscribe: bool,
    /// What `%u` stands for; an empty name stands for nothing.
    user_name: Option<Box<str>>,
    /// What `%c` stands for.
    client_id: Option<Box<str>>,
}

impl Rights {
    /// Whether messages on `topic` may be sent to the client, whichever way they come.
    pub fn may_read(&self, topic: &str) -> bool {
        self.allows(Access::READ, topic)
    }

    /// Whether the client may publish to `topic`, by PUBLISH or by its will.
    pub fn may_write(&self, topic: &str) -> bool {
        self.allows(Access::WRITE, topic)
    }

    /// Whether the client may subscribe to the valid `filter`, given without share name.
    ///
    /// Where rules say `subscribe`, one of them must cover the filter: match every topic that the filter matches. A
    /// `deny` rule that covers the filter refuses it; one that covers a part of it is for [`Rights::may_read`].
    pub fn may_subscribe(&self, filter: &str) -> bool {
        // Besides what starts with a slash, `/#` matches the topic above it, which is empty and so none.
        let filter = if filter == "/#" { "/+/#" } else { filter };
        !self.asks_subscribe || self.allows(Access::SUBSCRIBE, filter)
    }

    fn allows(&self, wanted: Access, text: &str) -> bool {
        let names = Names {
            user_name: self.user_name.as_deref(),
            client_id: self.client_id.as_deref(),
        };
        for list in [self.own, self.patterns].into_iter().flatten() {
            let stop = if list.says.has(Access::DENY) {
                Access::DENY
            } else {
                wanted
            };
            let found = self.acl.trie.find(list.root, text, names, stop);
            if found.has(Access::DENY) {
                return false;
            }
            if found.has(wanted) {
                return true;
            }
        }
        false
    }
}

impl fmt::Debug for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rights")
            .field("user_name", &self.user_name)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

/// What a line says.
enum Line<'a> {
    Nothing,
    User(&'a str),
    Topic(Access, &'a str),
    Pattern(Access, &'a str),
}

impl<'a> Line<'a> {
    /// Words are set apart by spaces alone, and what follows the last word that is looked for may hold some.
    fn read(line: &'a [u8]) -> Result<Line<'a>, AclProblem> {
        // In any encoding: nothing is done with a comment.
        if line.starts_with(b"#") {
            return Ok(Line::Nothing);
        }
        let line = str::from_utf8(line).map_err(|_| AclProblem::Malformed("invalid UTF-8"))?;
        if line.contains('\0') {
            return Err(AclProblem::Malformed("a zero byte"));
        }
        let Some((word, rest)) = first_word(line.trim_end_matches(is_blank)) else {
            return Ok(Line::Nothing);
        };
        match word {
            "user" => match rest.trim_matches(is_blank) {
                "" => Err(AclProblem::NoUser),
                name => Ok(Line::User(name)),
            },
            "topic" => rule(rest).map(|(access, filter)| Line::Topic(access, filter)),
            "pattern" => rule(rest).map(|(access, filter)| Line::Pattern(access, filter)),
            _ => Err(AclProblem::UnknownWord(shown(word))),
        }
    }
}

/// `[ACCESS] FILTER`: a lone word is the filter, even if it is an access word.
fn rule(text: &str) -> Result<(Access, &str), AclProblem> {
    let (word, rest) = first_word(text).ok_or(AclProblem::NoFilter)?;
    let (access, filter) = match (word, rest.trim_matches(is_blank)) {
        (filter, "") => (Access::READ | Access::WRITE, filter.trim_matches(is_blank)),
        ("read", filter) => (Access::READ, filter),
        ("write", filter) => (Access::WRITE, filter),
        ("readwrite", filter) => (Access::READ | Access::WRITE, filter),
        ("subscribe", filter) => (Access::SUBSCRIBE, filter),
        ("deny", filter) => (Access::DENY, filter),
        (unknown, _) => return Err(AclProblem::UnknownAccess(shown(unknown))),
    };
    match topic::check_filter(filter) {
        Ok(()) => Ok((access, filter)),
        Err(_) => Err(AclProblem::InvalidFilter(filter.to_owned())),
    }
}

/// The first word of `text`, and what follows it.
fn first_word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches(' ');
    match text.split_once(' ') {
        Some(words) => Some(words),
        None if text.is_empty() => None,
        None => Some((text, "")),
    }
}

/// What C's `isspace` takes for blank.
fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t'..='\r')
}

/// As much of `word` as may be shown: a password file that was given for this one has its hashes behind a colon.
fn shown(word: &str) -> String {
    let name = word.split(':').next().unwrap_or(word);
    let mut shown: String = name.chars().take(SHOWN_CHARACTERS_MAX).collect();
    if shown.len() < word.len() {
        shown.push_str("...");
    }
    shown
}

/// Why an `acl_file` cannot be used. Its `Display` is two or three lines, the first of them Mosquitto's.
#[derive(Debug)]
pub enum AclError {
    /// The file could not be read.
    Unreadable(FileError),
    /// A line is wrong.
    At {
        /// The line.
        place: Place,
        /// What is wrong with it.
        problem: AclProblem,
    },
}

/// What is wrong with a line of an `acl_file`.
#[derive(Debug, PartialEq, Eq)]
pub enum AclProblem {
    /// It starts with no word that is known.
    UnknownWord(String),
    /// `user` without a name.
    NoUser,
    /// `topic` or `pattern` without a filter.
    NoFilter,
    /// Two words behind `topic` or `pattern`, and the first says no access.
    UnknownAccess(String),
    /// The filter is no valid Topic Filter.
    InvalidFilter(String),
    /// The line is no text: what was found instead.
    Malformed(&'static str),
}

impl fmt::Display for AclError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AclError::Unreadable(FileError { path, reason }) => write!(
                f,
                "Error: Unable to open acl_file \"{}\".\n{reason}",
                path.display()
            ),
            AclError::At { place, problem } => {
                let file = &place.file;
                f.write_str("Error: ")?;
                match problem {
                    AclProblem::UnknownWord(word) => {
                        write!(f, "Invalid line in acl_file \"{file}\": {word}.")
                    }
                    AclProblem::NoUser => write!(f, "Missing username in acl_file \"{file}\"."),
                    AclProblem::NoFilter => write!(f, "Empty topic in acl_file \"{file}\"."),
                    AclProblem::UnknownAccess(word) => write!(
                        f,
                        "Invalid topic access type \"{word}\" in acl_file \"{file}\"."
                    ),
                    AclProblem::InvalidFilter(filter) => {
                        write!(f, "Invalid ACL topic \"{filter}\" in acl_file \"{file}\".")
                    }
                    AclProblem::Malformed(what) => {
                        write!(f, "Malformed line in acl_file \"{file}\": {what}.")
                    }
                }?;
                write!(
                    f,
                    "\nError found at {place}.\nExpected: {}.",
                    problem.expected()
                )
            }
        }
    }
}

impl AclProblem {
    fn expected(&self) -> &'static str {
        match self {
            AclProblem::UnknownWord(_) => {
                "'user', 'topic' or 'pattern' and a space, or '#' as the first character of a comment"
            }
            AclProblem::NoUser => "'user NAME'",
            AclProblem::NoFilter => {
                "'topic [ACCESS] FILTER' or 'pattern [ACCESS] FILTER', where ACCESS is read, write, readwrite, \
                 subscribe or deny"
            }
            AclProblem::UnknownAccess(_) => {
                "read, write, readwrite, subscribe or deny, also before a topic that has spaces"
            }
            AclProblem::InvalidFilter(_) => {
                "a topic filter of at most 201 levels, with + alone in its level and # alone in the last one"
            }
            AclProblem::Malformed(_) => "UTF-8 without zero bytes",
        }
    }
}

impl std::error::Error for AclError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            AclError::Unreadable(error) => Some(error),
            AclError::At { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests;
