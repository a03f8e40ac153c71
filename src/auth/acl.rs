//! `acl_file`: which topics a client may read and write.
use std::path::Path;
use std::sync::Arc;
/// Provisional.
#[derive(Debug)]
pub struct Acl;
/// Provisional.
#[derive(Debug)]
pub struct Rights;
/// Provisional.
#[derive(Debug)]
pub struct AclError;
impl std::fmt::Display for AclError {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ok(())
    }
}
#[allow(missing_docs)]
impl Acl {
    pub fn load(_: &Path) -> Result<Acl, AclError> {
        Ok(Acl)
    }
    pub fn rights(self: &Arc<Self>, _: Option<&str>, _: &str) -> Rights {
        Rights
    }
}
#[allow(missing_docs)]
impl Rights {
    pub fn may_read(&self, _: &str) -> bool {
        true
    }
    pub fn may_write(&self, _: &str) -> bool {
        true
    }
    pub fn may_subscribe(&self, _: &str) -> bool {
        true
    }
}
