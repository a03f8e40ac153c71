//! stub
pub struct Format;
#[derive(Debug)]
pub struct FormatError;
impl std::fmt::Display for FormatError { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { write!(f, "x") } }
#[derive(Clone,Copy)]
pub struct Plain { pub verbose: bool, pub newline: bool, pub colour: bool }
impl Format { pub fn parse(_t:&str,_p:bool)->Result<Format,FormatError>{Ok(Format)}
 pub fn write(&self,_p:&crate::mqtt::Publish<'_>,_n:&jiff::Zoned,_o:&mut Vec<u8>)->Result<(),FormatError>{Ok(())} }
pub fn write_plain(p:&crate::mqtt::Publish<'_>,l:Plain,o:&mut Vec<u8>){ if l.verbose { o.extend_from_slice(p.topic.as_bytes()); o.push(32);} o.extend_from_slice(p.payload); if l.newline {o.push(10);} }
