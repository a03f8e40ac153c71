//! The trie against a naive list.
