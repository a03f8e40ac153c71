//! `acl_file`: which topics a client may read and write.
