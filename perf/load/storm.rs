//! Connections that come and go, so many of them under way at once: TCP, TLS, CONNECT, CONNACK, DISCONNECT, close.
//!
//! Knows of MQTT what a good CONNACK looks like. Each source address is used for so many connections only, so that
//! ports that wait out their last minute are not missed.

use std::io::{self, ErrorKind, IoSlice};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::handshake::{Client, Common, connect_packet};
use crate::stream::Stream;

/// Bytes of a DISCONNECT that says no more than that (3.14.1).
const DISCONNECT: [u8; 2] = [0xE0, 0];

/// Longer than a CONNACK and the front of what TLS may have before it.
const BUFFER_BYTES: usize = 64 * 1024;

/// Without any progress for this long the run has failed.
const PATIENCE: Duration = Duration::from_secs(20);

struct Slot {
    stream: Stream<TcpStream>,
    connect: Vec<u8>,
    /// Whether CONNECT has been given to the stream.
    is_introduced: bool,
    received: Vec<u8>,
}

/// Connections in slots.
pub struct Storm<'a> {
    common: &'a Common,
    qualifier: String,
    poll: Poll,
    slots: Vec<Option<Slot>>,
    opened: u32,
    /// Connections that came to their CONNACK.
    pub done: u32,
    /// Of these, those whose TLS session was resumed.
    pub resumed: u32,
    raw: Vec<u8>,
    out: Vec<u8>,
}

impl<'a> Storm<'a> {
    /// A storm of `at_once` connections at a time.
    ///
    /// # Errors
    /// No poller.
    pub fn new(common: &'a Common, at_once: u32) -> io::Result<Storm<'a>> {
        Ok(Storm {
            common,
            qualifier: format!("storm-{}", std::process::id()),
            poll: Poll::new()?,
            slots: (0..at_once).map(|_| None).collect(),
            opened: 0,
            done: 0,
            resumed: 0,
            raw: vec![0; BUFFER_BYTES],
            out: vec![0; 2 * BUFFER_BYTES],
        })
    }

    /// Has connections come and go until `total` have altogether.
    ///
    /// # Errors
    /// A connection refused or broken, or silence.
    pub fn run(&mut self, total: u32) -> Result<(), String> {
        let mut events = Events::with_capacity(1024);
        for index in 0..self.slots.len() {
            self.open(index, total)?;
        }
        while self.done < total {
            if let Err(error) = self.poll.poll(&mut events, Some(PATIENCE))
                && error.kind() != ErrorKind::Interrupted
            {
                return Err(format!("poll: {error}"));
            }
            if events.is_empty() {
                return Err(format!(
                    "{} of {total} connections, then silence",
                    self.done
                ));
            }
            for event in &events {
                let Token(index) = event.token();
                let is_done = self
                    .serve(index, event.is_writable())
                    .map_err(|error| format!("connection {} of {total}: {error}", self.done + 1))?;
                if is_done {
                    self.done += 1;
                    self.open(index, total)?;
                }
            }
        }
        Ok(())
    }

    /// Puts the next connection into slot `index`, unless there are enough.
    fn open(&mut self, index: usize, total: u32) -> Result<(), String> {
        self.slots[index] = None;
        if self.opened == total {
            return Ok(());
        }
        let client = Client {
            client_id: format!("{}-{}", self.qualifier, self.opened),
            filters: Vec::new(),
            qos: midge::mqtt::QoS::AtMostOnce,
            is_persistent: false,
        };
        let interest = Interest::READABLE | Interest::WRITABLE;
        let dial = || {
            let tls = self.common.tls.as_ref();
            let mut stream = Stream::dial(self.common.port, self.opened, tls)?;
            self.poll
                .registry()
                .register(&mut stream.socket, Token(index), interest)?;
            io::Result::Ok(stream)
        };
        let stream = dial().map_err(|error| format!("connection {}: {error}", self.opened))?;
        self.opened += 1;
        self.slots[index] = Some(Slot {
            stream,
            connect: connect_packet(self.common, &client),
            is_introduced: false,
            received: Vec::new(),
        });
        Ok(())
    }

    /// An event came for slot `index`; whether its connection is done.
    fn serve(&mut self, index: usize, is_writable: bool) -> io::Result<bool> {
        let Some(slot) = &mut self.slots[index] else {
            return Ok(false);
        };
        if !slot.is_introduced && is_writable {
            let (written, _) = slot.stream.push(&[IoSlice::new(&slot.connect)])?;
            // An event of the slot's last connection may come before this one is connected: nothing is written then.
            if written == 0 {
                return Ok(false);
            }
            assert_eq!(
                written,
                slot.connect.len(),
                "a new socket has room for a CONNECT"
            );
            slot.is_introduced = true;
        }
        if !slot.stream.flush()? {
            return Ok(false);
        }
        loop {
            let is_drained = match slot.stream.pull(&mut self.raw, &mut self.out) {
                Ok((length, is_drained)) => {
                    slot.received.extend_from_slice(&self.out[..length]);
                    is_drained
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                // Not connected yet: the event was the last connection's.
                Err(error) if !slot.is_introduced && error.kind() == ErrorKind::NotConnected => {
                    return Ok(false);
                }
                Err(error) => return Err(error),
            };
            if let [0x20, length, _, code, ..] = slot.received[..]
                && slot.received.len() >= 2 + usize::from(length)
            {
                if code != 0 {
                    return Err(io::Error::other(format!(
                        "CONNECT refused with code {code}"
                    )));
                }
                slot.stream.push(&[IoSlice::new(&DISCONNECT)])?;
                slot.stream.notify_close();
                self.resumed += u32::from(slot.stream.is_resumed());
                return Ok(true);
            }
            if is_drained {
                return Ok(false);
            }
        }
    }
}
