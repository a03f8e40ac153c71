//! Who may: password files and access control lists, compiled when they are loaded, pure answers afterwards.
//!
//! | file | knows |
//! |---|---|
//! | `password` | `password_file`, its hashes, and how long a check takes |
//! | `acl` | `acl_file`: user, topic and pattern rules |
//! | `file` | how such a file is read, and who else could |
//!
//! It knows names, passwords and topics; it does not know connections, sessions or packets.

pub mod acl;
pub mod file;
pub mod password;
