//! `password_file`: who has which password.
#![allow(missing_docs)]
use std::path::Path;
use std::sync::Arc;
#[derive(Debug)]
pub struct PasswordFile;
#[derive(Debug)]
pub struct PasswordFileError;
impl std::fmt::Display for PasswordFileError {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ok(())
    }
}
#[derive(Debug, PartialEq, Eq)]
pub struct PasswordHash;
#[derive(Debug)]
pub struct Challenge;
#[derive(Debug)]
pub struct Verified;
impl PasswordFile {
    pub fn load(_: &Path) -> Result<PasswordFile, PasswordFileError> {
        Ok(PasswordFile)
    }
    pub fn challenge(&self, _: &str) -> Challenge {
        Challenge
    }
    pub fn hash_of(&self, _: &str) -> Option<&Arc<PasswordHash>> {
        None
    }
}
impl Challenge {
    pub fn verify(&self, _: &[u8]) -> bool {
        false
    }
    pub fn hash(&self) -> Option<&Arc<PasswordHash>> {
        None
    }
}
impl Verified {
    pub fn new() -> Verified {
        Verified
    }
    pub fn knows(&self, _: &str, _: &Arc<PasswordHash>, _: &[u8]) -> bool {
        false
    }
    pub fn remember(&mut self, _: &str, _: &Arc<PasswordHash>, _: &[u8]) {}
}
