//! stub
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;
use super::options::{Route, Target};
pub struct Transport { s: TcpStream }
pub struct Dialer { r: Route }
#[derive(Debug)]
pub enum DialError { Interrupted, Connect(io::Error) }
impl std::fmt::Display for DialError { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { match self { DialError::Connect(e) => write!(f, "{}", crate::config::system_reason(e)), _ => write!(f, "x") } } }
impl DialError { pub fn library_code(&self) -> u8 { 14 } }
impl Dialer { pub fn new(r: &Route) -> Result<Dialer, DialError> { Ok(Dialer{ r: r.clone() }) }
 pub fn dial(&mut self, _t: Duration, _i: Option<BorrowedFd<'_>>) -> Result<Transport, DialError> {
   let Target::Tcp{host,port} = &self.r.target else { return Err(DialError::Interrupted) };
   let s = TcpStream::connect((host.as_str(), *port)).map_err(DialError::Connect)?; s.set_nonblocking(true).unwrap(); Ok(Transport{s}) } }
impl Transport {
 pub fn as_fd(&self) -> BorrowedFd<'_> { self.s.as_fd() }
 pub fn read(&mut self, into: &mut Vec<u8>, max: usize) -> io::Result<usize> { let n = into.len(); into.resize(n+max, 0); let r = self.s.read(&mut into[n..]); into.truncate(n + *r.as_ref().unwrap_or(&0)); r }
 pub fn write(&mut self, b: &[u8]) -> io::Result<usize> { self.s.write(b) }
 pub fn flush(&mut self) -> io::Result<bool> { Ok(true) }
 pub fn wants_write(&self) -> bool { false }
 pub fn shutdown(&mut self) { let _ = self.s.shutdown(std::net::Shutdown::Write); }
}
