//! The trie of access rules: what the rules that match a Topic Name say together (MQTT 5.0, 4.7).
//!
//! It knows filters, and templates, which are filters with `%c` and `%u` for a client's names; it knows neither whose
//! rules these are nor what they say, which is a [`Says`]. All lists live in one arena, each below a root of its own. A child is found by
//! parent and level in one hash table; a `+` child and the children with templates hang off their parent.
//!
//! 1. Every node but the roots is linked exactly once: in the table, as its parent's `plus`, or in its parent's list
//!    of templates. A root has no rule of its own in `here`.
//! 2. A name is put for `%c` and `%u` as text: one with `/` takes several levels. No name has `+` or `#`, and none is
//!    empty.
//! 3. Wildcards and names at the root pass over what begins with `$` [MQTT-4.7.2-1].
//!
//! What a walk costs: a node is reached from its parent alone, and the parent's place in the topic decides its own (a
//! level further, or what the client's name takes). So no walk looks at a node twice, and none at more nodes than the
//! rules have levels, whatever the topic; rules without wildcards and templates cost one probe of the table a level.
//! Only nodes with both a `+` child and literal ones branch, and a template is compared where it stands, one comparison
//! for each different template level below the same node. Nothing recurses, and what waits to be looked at is kept on
//! the stack unless it is more than [`PENDING_INLINE`].
//!
//! A Topic Filter is looked up by the same walk, which then finds the rules that cover it, that is, match every topic
//! the filter matches: `+` is covered by `+`, a literal level by itself and by `+`, and `#` by `#` alone, but at the
//! front also by `+/#`, since every topic has a first level.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use smallvec::{SmallVec, smallvec};

/// No node.
const NONE: u32 = u32::MAX;

/// How many nodes wait on the stack; with more, a walk allocates.
const PENDING_INLINE: usize = 24;

/// What rules say, and what several of them say together.
pub(super) trait Says: Copy {
    /// What no rule says.
    const NOTHING: Self;

    /// What `self` and `other` say together.
    fn with(self, other: Self) -> Self;

    /// Whether nothing that other rules say can matter to who asks for `wanted`.
    fn is_enough(self, wanted: Self) -> bool;
}

/// What `%u` and `%c` stand for; without a name, a template does not match.
#[derive(Clone, Copy)]
pub(super) struct Names<'a> {
    pub(super) user_name: Option<&'a str>,
    pub(super) client_id: Option<&'a str>,
}

struct Node<S> {
    parent: u32,
    /// Where its level, or its template, is in `Trie::text`.
    level_start: u32,
    level_end: u32,
    plus: u32,
    first_template: u32,
    next_template: u32,
    /// What rules say that end here.
    here: S,
    /// What rules say that go on with `#`.
    below: S,
}

/// The rules of all lists.
pub(super) struct Trie<S> {
    nodes: Vec<Node<S>>,
    text: Vec<u8>,
    literals: HashTable<u32>,
    /// Of no secret seed: the table holds the operator's words alone, so no peer can fill it with collisions.
    hash: FixedState,
}

impl<S: Says> Trie<S> {
    pub(super) fn new() -> Trie<S> {
        Trie {
            nodes: Vec::new(),
            text: Vec::new(),
            literals: HashTable::new(),
            hash: FixedState::with_seed(0),
        }
    }

    /// A new list, without rules.
    pub(super) fn add_root(&mut self) -> u32 {
        self.add_node(NONE, b"")
    }

    /// Adds a rule that says this about the topics that the valid `filter` matches.
    pub(super) fn add_literal(&mut self, root: u32, filter: &str, says: S) {
        self.add(root, filter, says, false);
    }

    /// As [`Trie::add_literal`], with `%c` and `%u` in `filter` for a client's names.
    pub(super) fn add_template(&mut self, root: u32, filter: &str, says: S) {
        self.add(root, filter, says, true);
    }

    fn add(&mut self, root: u32, filter: &str, says: S, has_templates: bool) {
        let mut node = root;
        for level in filter.as_bytes().split(|byte| *byte == b'/') {
            node = match level {
                b"#" => {
                    let below = &mut self.nodes[node as usize].below;
                    *below = below.with(says);
                    return;
                }
                b"+" => self.plus(node),
                level if has_templates && is_template(level) => self.template(node, level),
                level => self.literal(node, level),
            };
        }
        let here = &mut self.nodes[node as usize].here;
        *here = here.with(says);
    }

    fn plus(&mut self, parent: u32) -> u32 {
        if self.nodes[parent as usize].plus == NONE {
            self.nodes[parent as usize].plus = self.add_node(parent, b"+");
        }
        self.nodes[parent as usize].plus
    }

    fn template(&mut self, parent: u32, level: &[u8]) -> u32 {
        let found = self
            .templates(parent)
            .find(|node| self.level(*node) == level);
        found.unwrap_or_else(|| {
            let node = self.add_node(parent, level);
            let first = &mut self.nodes[parent as usize].first_template;
            let next = std::mem::replace(first, node);
            self.nodes[node as usize].next_template = next;
            node
        })
    }

    fn literal(&mut self, parent: u32, level: &[u8]) -> u32 {
        if let Some(node) = self.find_literal(parent, level) {
            return node;
        }
        let node = self.add_node(parent, level);
        let Trie {
            nodes,
            text,
            literals,
            hash,
        } = self;
        literals.insert_unique(hash_of(hash, parent, level), node, |node| {
            let node = &nodes[*node as usize];
            hash_of(hash, node.parent, &text[node.level_range()])
        });
        node
    }

    fn add_node(&mut self, parent: u32, level: &[u8]) -> u32 {
        let place =
            |len: usize| u32::try_from(len).expect("a file has fewer bytes than fit in 32 bits");
        let level_start = place(self.text.len());
        self.text.extend_from_slice(level);
        let node = place(self.nodes.len());
        self.nodes.push(Node {
            parent,
            level_start,
            level_end: place(self.text.len()),
            plus: NONE,
            first_template: NONE,
            next_template: NONE,
            here: S::NOTHING,
            below: S::NOTHING,
        });
        node
    }

    fn level(&self, node: u32) -> &[u8] {
        &self.text[self.nodes[node as usize].level_range()]
    }

    fn find_literal(&self, parent: u32, level: &[u8]) -> Option<u32> {
        let is_it = |node: &u32| {
            let node = &self.nodes[*node as usize];
            node.parent == parent && &self.text[node.level_range()] == level
        };
        let hash = hash_of(&self.hash, parent, level);
        self.literals.find(hash, is_it).copied()
    }

    fn templates(&self, parent: u32) -> impl Iterator<Item = u32> {
        let mut next = self.nodes[parent as usize].first_template;
        std::iter::from_fn(move || {
            let node = (next != NONE).then_some(next)?;
            next = self.nodes[node as usize].next_template;
            Some(node)
        })
    }

    /// What the rules below `root` say that match the Topic Name `text`, or that cover the valid Topic Filter `text`.
    ///
    /// The walk ends as soon as what was found is enough for `wanted`: what the others say is then missing.
    pub(super) fn find(&self, root: u32, text: &str, names: Names<'_>, wanted: S) -> S {
        let text = text.as_bytes();
        let mut found = S::NOTHING;
        // Nodes, and where in `text` the level below them starts: behind its end, if there is none.
        let mut pending: SmallVec<[(u32, usize); PENDING_INLINE]> = smallvec![(root, 0)];
        while let Some((key, start)) = pending.pop() {
            let node = &self.nodes[key as usize];
            let passes_over = start == 0 && text.first() == Some(&b'$');
            if !passes_over {
                found = found.with(node.below);
            }
            let Some(rest) = text.get(start..) else {
                found = found.with(node.here);
                if found.is_enough(wanted) {
                    break;
                }
                continue;
            };
            if found.is_enough(wanted) {
                break;
            }
            let level = &rest[..memchr::memchr(b'/', rest).unwrap_or(rest.len())];
            let next = start + level.len() + 1;
            match level {
                b"#" => {
                    if start == 0 && node.plus != NONE {
                        found = found.with(self.nodes[node.plus as usize].below);
                    }
                    continue;
                }
                b"+" => {}
                _ => {
                    pending.extend(self.find_literal(key, level).map(|child| (child, next)));
                    for child in self.templates(key) {
                        let template = self.level(child);
                        if passes_over && !template.starts_with(b"$") {
                            continue;
                        }
                        if let Some(len) = expanded_len(template, names, rest) {
                            pending.push((child, start + len + 1));
                        }
                    }
                }
            }
            if node.plus != NONE && !passes_over {
                pending.push((node.plus, next));
            }
        }
        found
    }
}

impl<S> Node<S> {
    fn level_range(&self) -> std::ops::Range<usize> {
        self.level_start as usize..self.level_end as usize
    }
}

fn hash_of(state: &FixedState, parent: u32, level: &[u8]) -> u64 {
    let mut hasher = state.build_hasher();
    hasher.write_u32(parent);
    hasher.write(level);
    hasher.finish()
}

/// Whether `%c` or `%u` is in `text`.
pub(super) fn is_template(text: &[u8]) -> bool {
    text.windows(2).any(|pair| pair == b"%c" || pair == b"%u")
}

/// How many bytes of `text` the template takes with names put in, if that is what whole levels of `text` start with.
fn expanded_len(mut template: &[u8], names: Names<'_>, text: &[u8]) -> Option<usize> {
    let mut rest = text;
    while !template.is_empty() {
        let literal = 1 + memchr::memchr(b'%', &template[1..]).unwrap_or(template.len() - 1);
        let (name, taken) = match template {
            [b'%', b'c', ..] => (names.client_id?.as_bytes(), 2),
            [b'%', b'u', ..] => (names.user_name?.as_bytes(), 2),
            _ => (&template[..literal], literal),
        };
        rest = rest.strip_prefix(name)?;
        template = &template[taken..];
    }
    matches!(rest.first(), None | Some(b'/')).then(|| text.len() - rest.len())
}
