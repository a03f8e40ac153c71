//! A client that is only a socket: it sends what it is told, and reads whole packets.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::packet::{fixed_header, sort_properties};
use super::{
    Ack, Connack, DEADLINE, Encode, Publish, Version, disconnect, pingreq, pingresp, puback,
    pubcomp, pubrec, pubrel, suback, subscribe,
};

/// One network connection to the broker. It answers nothing by itself.
pub struct Raw {
    stream: TcpStream,
    version: Version,
    received: Vec<u8>,
    /// What the broker answered to CONNECT, if [`super::Broker::connect_with`] made this client.
    pub connack: Connack,
}

/// The broker has closed the connection, or is gone.
#[derive(Clone, Copy, Debug)]
pub struct Closed;

/// What a read came to.
enum Filled {
    Bytes,
    Closed,
    TimedOut,
}

impl Raw {
    /// Connects to `address`; the packets that this client sends and expects are in the encoding of `version`.
    pub fn open(address: SocketAddr, version: Version) -> Raw {
        let stream = TcpStream::connect_timeout(&address, DEADLINE).expect("the broker listens");
        Raw::over(stream, version)
    }

    /// [`Raw::open`] where the connection is there already.
    pub fn over(stream: TcpStream, version: Version) -> Raw {
        stream.set_nodelay(true).expect("it is a TCP socket");
        stream
            .set_write_timeout(Some(DEADLINE))
            .expect("the time-out is not zero");
        Raw {
            stream,
            version,
            received: Vec::new(),
            connack: Connack::default(),
        }
    }

    /// The version that it speaks.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Sends a packet, or any bytes.
    ///
    /// The broker may have closed the connection already; that shows at the next `expect`.
    pub fn send(&mut self, packet: impl Encode) {
        match self.stream.write_all(&packet.encode(self.version)) {
            Ok(()) => {}
            Err(error) if is_disconnect(error.kind()) => {}
            Err(error) => panic!("cannot send: {error}"),
        }
    }

    /// Expects this packet to be the next. Properties may come in any order.
    #[track_caller]
    pub fn expect(&mut self, packet: impl Encode) {
        let expected = packet.encode(self.version);
        let received = self.expect_packet();
        assert!(
            sort_properties(&received, self.version) == sort_properties(&expected, self.version),
            "expected: {}\nreceived: {}",
            hex(&expected),
            hex(&received)
        );
    }

    /// The next packet, whatever it is.
    #[track_caller]
    pub fn expect_packet(&mut self) -> Vec<u8> {
        match self.poll(DEADLINE) {
            Ok(Some(packet)) => packet,
            Ok(None) => panic!("no packet in time{}", self.leftover()),
            Err(Closed) => panic!("closed; a packet was expected{}", self.leftover()),
        }
    }

    /// The next packet if there is one within `patience`, for a client whose broker may end at any time.
    ///
    /// # Errors
    /// [`Closed`] when the connection is.
    pub fn poll(&mut self, patience: Duration) -> Result<Option<Vec<u8>>, Closed> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(len) = fixed_header(&self.received).map(|(header, body)| header + body)
                && self.received.len() >= len
            {
                return Ok(Some(self.received.drain(..len).collect()));
            }
            match self.fill(deadline) {
                Filled::Bytes => {}
                Filled::Closed => return Err(Closed),
                Filled::TimedOut => return Ok(None),
            }
        }
    }

    /// The next packet, which must be a CONNACK.
    #[track_caller]
    pub fn expect_connack(&mut self) -> Connack {
        let packet = self.expect_packet();
        Connack::decode(&packet, self.version)
            .unwrap_or_else(|| panic!("not a CONNACK: {}", hex(&packet)))
    }

    /// The next packet, which must be a PUBLISH.
    #[track_caller]
    pub fn expect_publish(&mut self) -> Publish {
        let packet = self.expect_packet();
        Publish::decode(&packet, self.version)
            .unwrap_or_else(|| panic!("not a PUBLISH: {}", hex(&packet)))
    }

    /// Subscribes to `filter` with these Subscription Options, and expects to be granted their QoS.
    #[track_caller]
    pub fn subscribe(&mut self, filter: &str, options: u8) {
        self.send(subscribe(1).filter(filter, options));
        self.expect(suback(1, &[options & 3]));
    }

    /// Publishes, and completes the exchange that its QoS asks for, whether or not anybody wants the message.
    #[track_caller]
    pub fn publish(&mut self, publish: &Publish) {
        let id = publish.packet_id;
        self.send(publish);
        match publish.qos {
            0 => self.fence(),
            1 => self.expect_ack(puback(id)),
            _ => {
                self.expect_ack(pubrec(id));
                self.send(pubrel(id));
                self.expect(pubcomp(id));
            }
        }
    }

    /// Expects this PUBACK or PUBREC, of success; 5.0 may add that there are no matching subscribers (0x10).
    #[track_caller]
    fn expect_ack(&mut self, ack: Ack) {
        let received = self.expect_packet();
        let without_subscribers = ack.clone().reason(0x10).encode(self.version);
        assert!(
            received == ack.encode(self.version) || received == without_subscribers,
            "expected: {ack:?}\nreceived: {}",
            hex(&received)
        );
    }

    /// Expects this PUBLISH to be the next, and completes the exchange that its QoS asks for.
    #[track_caller]
    pub fn receive(&mut self, publish: &Publish) {
        self.expect(publish);
        let id = publish.packet_id;
        match publish.qos {
            0 => {}
            1 => self.send(puback(id)),
            _ => {
                self.send(pubrec(id));
                self.expect(pubrel(id));
                self.send(pubcomp(id));
            }
        }
    }

    /// The next PUBLISH, whatever it is, acknowledged; any PUBREL before it is answered.
    ///
    /// For many messages in flight at a time. The PUBREL of the last ones stays unanswered until the next call.
    #[track_caller]
    pub fn receive_any(&mut self) -> Publish {
        loop {
            let packet = self.expect_packet();
            if let [0x62, _, high, low, ..] = packet[..] {
                self.send(pubcomp(u16::from_be_bytes([high, low])));
                continue;
            }
            let received = Publish::decode(&packet, self.version)
                .unwrap_or_else(|| panic!("neither PUBLISH nor PUBREL: {}", hex(&packet)));
            match received.qos {
                0 => {}
                1 => self.send(puback(received.packet_id)),
                _ => self.send(pubrec(received.packet_id)),
            }
            return received;
        }
    }

    /// Expects the broker to close the connection without another byte.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            assert!(
                self.received.is_empty(),
                "expected the end{}",
                self.leftover()
            );
            match self.fill(deadline) {
                Filled::Bytes => {}
                Filled::Closed => return,
                Filled::TimedOut => panic!("the connection is still open"),
            }
        }
    }

    /// Says good-bye, and waits for the broker to close: it has then handled the end, and the session sleeps or is gone.
    #[track_caller]
    pub fn leave(mut self) {
        self.send(disconnect());
        assert!(
            self.drain_until_closed().is_some(),
            "not closed after DISCONNECT"
        );
    }

    /// Everything up to the end of the connection; `None` if the broker does not end it.
    pub fn drain_until_closed(&mut self) -> Option<Vec<u8>> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.fill(deadline) {
                Filled::Bytes => {}
                Filled::Closed => return Some(std::mem::take(&mut self.received)),
                Filled::TimedOut => return None,
            }
        }
    }

    /// Expects nothing for a while. Costs that while in every run: prefer [`Raw::fence`] where it will do.
    #[track_caller]
    pub fn expect_silence(&mut self, patience: Duration) {
        let deadline = Instant::now() + patience;
        while self.received.is_empty() {
            match self.fill(deadline) {
                Filled::Bytes => {}
                Filled::Closed => panic!("closed; silence was expected"),
                Filled::TimedOut => return,
            }
        }
        panic!("silence was expected{}", self.leftover());
    }

    /// Sends PINGREQ and expects PINGRESP next: the broker has handled all that was sent before, and nothing else
    /// was waiting for this client.
    #[track_caller]
    pub fn fence(&mut self) {
        self.send(pingreq());
        self.expect(pingresp());
    }

    /// Ends the sending half: the broker reads the end, this client still reads.
    pub fn shutdown_send(&mut self) {
        self.stream
            .shutdown(Shutdown::Write)
            .expect("the connection is open");
    }

    /// Its socket, for what is not about packets.
    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }

    fn fill(&mut self, deadline: Instant) -> Filled {
        let mut buffer = [0; 65536];
        let patience = deadline.saturating_duration_since(Instant::now());
        if patience.is_zero() {
            return Filled::TimedOut;
        }
        self.stream
            .set_read_timeout(Some(patience))
            .expect("it is not zero");
        match self.stream.read(&mut buffer) {
            Ok(0) => Filled::Closed,
            Ok(len) => {
                self.received.extend_from_slice(&buffer[..len]);
                Filled::Bytes
            }
            Err(error) if is_disconnect(error.kind()) => Filled::Closed,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Filled::TimedOut
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Filled::Bytes,
            Err(error) => panic!("cannot read: {error}"),
        }
    }

    fn leftover(&self) -> String {
        match self.received.as_slice() {
            [] => String::new(),
            bytes => format!("; received: {}", hex(bytes)),
        }
    }
}

fn is_disconnect(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted
    )
}

/// Bytes for a reader: hexadecimal, and the text among them; a long packet is cut.
fn hex(bytes: &[u8]) -> String {
    const SHOWN: usize = 200;
    let shown = &bytes[..bytes.len().min(SHOWN)];
    let digits: String = shown.iter().map(|byte| format!("{byte:02x} ")).collect();
    format!(
        "{digits}({} bytes, \"{}\")",
        bytes.len(),
        shown.escape_ascii()
    )
}
