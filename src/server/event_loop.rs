//! One turn of the loop: poll, completions, accept, read and route, timers, commit, flush.
//!
//! 1. A connection is read once a turn, as much as [`crate::net::Net::read_bytes`] allows; again only while its packets are few and
//!    large, up to [`TURN_BYTES`]. What had more is served next turn, and so is what has used up its share of the turn's
//!    time (see `pace`), so that nobody starves.
//! 2. A client gets one vectored write a turn for all that the turn produced; one whose outbox grows past a bound within
//!    the turn gets it early, and then another.
//! 3. The poller's timeout is the next deadline of the broker. Without one, and with nothing to do, it sleeps for ever;
//!    with `busy_poll_us` it first looks for events so long without sleeping.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};

use super::pace::Pace;
use super::{INFORMATION, Server, memory};
use crate::broker::timers::Time;
use crate::broker::{Ending, Identity, Peer};
use crate::buffer::ConnectionKey;
use crate::config::system_reason;
use crate::mqtt::{self, Packet};
use crate::net::{Accepted, Established, Filled};

/// How many bytes of large packets one connection brings in one turn, about.
const TURN_BYTES: usize = 768 * 1024;

/// How many packets one connection has handled in one turn and may still bring more.
const TURN_PACKETS: usize = 64;

/// How many bytes of a SUBSCRIBE or UNSUBSCRIBE count as a packet: each Topic Filter costs about what a message does, and
/// hundreds of them fit into one packet.
const SUBSCRIPTION_BYTES: usize = 32;

/// What was in a ring.
struct Parsed {
    /// How many packets were handled, or how many others would have cost as much.
    packets: usize,
    /// How many bytes the packet has that is at the front now, as far as that is known.
    needed: usize,
    /// Whether the rest waits for the next turn.
    is_cut: bool,
}

/// The signals that the loop answers to.
pub fn signals() -> [i32; 6] {
    [
        SIGINT,
        SIGTERM,
        SIGHUP,
        SIGUSR1,
        SIGUSR2,
        reopen_log_signal(),
    ]
}

/// SIGRTMIN, which is a number of the C library's choice.
fn reopen_log_signal() -> i32 {
    nix::libc::SIGRTMIN()
}

/// How many packets `packet` of this many bytes counts as.
fn cost(packet: &Packet<'_>, bytes: usize) -> usize {
    match packet {
        Packet::Subscribe(_) | Packet::Unsubscribe(_) => 1 + bytes / SUBSCRIPTION_BYTES,
        _ => 1,
    }
}

impl Server {
    /// Turns until a signal ends it.
    ///
    /// # Errors
    /// When the poller fails: then there is no way to go on.
    pub fn run(&mut self) -> io::Result<()> {
        while self.turn()? {}
        self.stop();
        Ok(())
    }

    /// One turn. `false` when a signal asked for the end.
    fn turn(&mut self) -> io::Result<bool> {
        self.wait()?;
        let now = self.clock.now();
        self.process.alive(now);
        if self.answer_signals() {
            return Ok(false);
        }
        if self.net.clock_was_set() {
            self.look_at_clock();
        }
        self.complete(now);
        self.complete_commit(now);
        self.broker.set_memory(memory::allocated());
        self.accept(now);
        let deliveries = self.broker.statistics().publish_sent;
        let mut pace = Pace::begin(Instant::now(), self.net.ready(), deliveries);
        while !pace.is_over()
            && let Some(connection) = self.net.take_ready()
        {
            pace.next_connection(Instant::now);
            self.serve(connection, &mut pace, now);
        }
        self.tick(now);
        self.broker.go_on(now);
        self.drop_hung_up(now);
        self.compare_passwords(now);
        while let Some(chore) = self.broker.take_chore() {
            self.workers.do_chore(chore);
        }
        self.publish_log(now);
        self.commit();
        self.flush(now);
        if self.trimmer.is_due(memory::allocated(), now) {
            memory::trim();
        }
        Ok(true)
    }

    /// Waits for events or the next deadline: with open eyes for as long as `busy_poll_us` says, then asleep.
    fn wait(&mut self) -> io::Result<()> {
        let timeout = self.timeout();
        let busy_poll = self.broker.config().busy_poll;
        if busy_poll.is_zero() || timeout == Some(Duration::ZERO) {
            return self.net.poll(timeout);
        }
        let start = Instant::now();
        loop {
            self.net.poll(Some(Duration::ZERO))?;
            if self.net.has_work() {
                return Ok(());
            }
            // Deadlines and lines to publish come while it looks, too.
            let timeout = self.timeout();
            if timeout == Some(Duration::ZERO) || start.elapsed() >= busy_poll {
                return self.net.poll(timeout);
            }
        }
    }

    /// How long the poller may sleep.
    fn timeout(&self) -> Option<Duration> {
        let logging = self.logging.as_ref();
        let has_lines = logging.is_some_and(|logging| logging.has_topic_lines());
        if self.broker.has_output() || has_lines {
            return Some(Duration::ZERO);
        }
        let deadlines = [self.broker.next_deadline(), self.process.next_alive()];
        let deadline = deadlines.into_iter().flatten().min();
        let deadline = deadline.map(|deadline| deadline.saturating_sub(self.clock.now()));
        [deadline, self.next_commit()].into_iter().flatten().min()
    }

    /// Whether one of the signals that came asks for the end.
    fn answer_signals(&mut self) -> bool {
        let mut end = false;
        for signal in self.net.take_signals() {
            match signal {
                SIGINT | SIGTERM => end = true,
                SIGHUP => {
                    self.reopen_log();
                    self.begin_reload();
                }
                signal if signal == reopen_log_signal() => self.reopen_log(),
                SIGUSR1 => {
                    let what = match &self.store {
                        Some(_) => "Nothing to save: what is acknowledged is on the disk already.",
                        None => "Nothing to save: persistence is off.",
                    };
                    ::log::info!(target: INFORMATION, "{what}");
                }
                _ => self.print_tree(),
            }
        }
        end
    }

    /// Gives the threads passwords to compare, as many as they can begin with; the others wait in the broker. Of a thousand
    /// clients with one name and password only the first ones need it.
    fn compare_passwords(&mut self, now: Time) {
        while self.workers.is_free() {
            let Some(check) = self.broker.take_password_check() else {
                return;
            };
            if self.broker.is_known(&check) {
                self.broker.password_compared(&check, true, now);
                self.net.resume(check.connection);
            } else {
                self.workers.compare(check);
            }
        }
    }

    /// Whoever closes while their password waits to be compared needs no answer, and nobody is to wait for them.
    fn drop_hung_up(&mut self, now: Time) {
        while let Some(connection) = self.net.take_hung_up() {
            if self.broker.is_waiting(connection) {
                self.broker.detach(connection, Ending::ClosedByClient, now);
            }
        }
    }

    /// After a rotation: the file of that name is another one now.
    fn reopen_log(&self) {
        if let Some(logging) = &self.logging {
            logging.reopen();
        }
    }

    /// Publishes the lines that were logged since the last turn, where somebody asked for that.
    fn publish_log(&mut self, now: Time) {
        let Some(logging) = &self.logging else {
            return;
        };
        let mut lines = std::mem::take(&mut self.log_lines);
        let _muted = logging.take_topic_lines(&mut lines);
        for (topic, line) in lines.drain(..) {
            self.broker.publish_log_line(topic, &line, now);
        }
        self.log_lines = lines;
    }

    /// SIGUSR2: who subscribed to what, on standard output, as Mosquitto does; a closed output is nobody's loss.
    fn print_tree(&self) {
        let _ = io::stdout().write_all(self.broker.subscription_tree().as_bytes());
    }

    fn accept(&mut self, now: Time) {
        while let Some(Accepted {
            connection,
            peer,
            listener,
            ..
        }) = self.net.accept()
        {
            let limit = self.broker.config().global_max_connections;
            if limit.is_some_and(|max| self.broker.connections() >= max.get()) {
                let address = peer.host();
                ::log::info!(
                    target: super::NOTICE,
                    "Client connection from {address} denied: global_max_connections exceeded."
                );
                self.net.close(connection);
                continue;
            }
            self.broker.attach(
                connection,
                Peer {
                    address: peer,
                    listener,
                },
                now,
            );
        }
    }

    /// Reads `connection` and handles the whole packets in its ring, as far as its share of the turn allows.
    fn serve(&mut self, connection: ConnectionKey, pace: &mut Pace, now: Time) {
        if self.broker.is_congested(connection) {
            // It does not read our answers; until it does, it gets no more of them.
            self.net.pause(connection);
            return;
        }
        if self.broker.is_waiting(connection) {
            self.net.pause(connection);
            return;
        }
        // What an earlier turn left.
        if self.net.has_packet(connection) {
            let Some(parsed) = self.handle_packets(connection, pace, now) else {
                return;
            };
            if parsed.is_cut || self.broker.is_waiting(connection) {
                return self.net.settle(connection, parsed.needed);
            }
        }
        let (mut bytes, mut packets) = (0, 0);
        loop {
            let received = match self.net.fill(connection) {
                Ok(Filled::Bytes(count)) => count,
                Ok(Filled::Established) => {
                    self.identify(connection);
                    self.net.settle(connection, 0);
                    return;
                }
                Ok(Filled::Closed) => {
                    return self.broker.detach(connection, Ending::ClosedByClient, now);
                }
                Err(error) => {
                    let text = error.to_string();
                    return self
                        .broker
                        .detach(connection, Ending::SocketError(&text), now);
                }
            };
            let Some(parsed) = self.handle_packets(connection, pace, now) else {
                return;
            };
            if received > 0 && parsed.needed > 0 {
                self.broker.touch(connection, now);
            }
            bytes += received;
            packets += parsed.packets;
            // Packets cost more than bytes. Large ones that came together go on together, in one write.
            let goes_on = received == self.net.read_bytes()
                && !parsed.is_cut
                && bytes < TURN_BYTES
                && packets < TURN_PACKETS
                && !self.broker.is_waiting(connection)
                && !self.broker.is_congested(connection);
            if !goes_on {
                return self.net.settle(connection, parsed.needed);
            }
        }
    }

    /// The layers below MQTT have learnt who `connection` is.
    fn identify(&mut self, connection: ConnectionKey) {
        let Some(established) = self.net.established(connection) else {
            return;
        };
        let Established {
            peer,
            user_name,
            tls,
        } = established.clone();
        self.broker
            .identify(connection, peer, Identity { user_name, tls });
    }

    /// Handles the whole packets in the ring of `connection`, as far as its share of the turn allows, but one at least;
    /// `None` when the connection has no future.
    fn handle_packets(
        &mut self,
        connection: ConnectionKey,
        pace: &mut Pace,
        now: Time,
    ) -> Option<Parsed> {
        let mut packets = 0;
        while let Some(limits) = self.broker.limits(connection) {
            let ring = self.net.ring(connection);
            let bytes = ring.filled();
            match mqtt::decode(bytes, limits) {
                Ok(Some((packet, length))) => {
                    let is_connect = matches!(packet, Packet::Connect(_));
                    let cost = cost(&packet, length);
                    packets += cost;
                    self.broker.handle(connection, packet, now);
                    if is_connect && self.broker.is_waiting(connection) {
                        self.net.pause(connection);
                        return Some(Parsed {
                            packets,
                            needed: length,
                            is_cut: false,
                        });
                    }
                    ring.consume(length);
                    self.flush_urgent(now);
                    let deliveries = self.broker.statistics().publish_sent;
                    if pace.spend(cost, deliveries, Instant::now) {
                        // What is left is looked at next turn, whether it is whole, a part, or malformed.
                        let left = self.net.ring(connection).len();
                        return Some(Parsed {
                            packets,
                            needed: left,
                            is_cut: true,
                        });
                    }
                }
                Ok(None) => {
                    return Some(Parsed {
                        packets,
                        needed: mqtt::promised_length(bytes),
                        is_cut: false,
                    });
                }
                Err(error) => {
                    self.broker.reject(connection, error, now);
                    return None;
                }
            }
        }
        None
    }

    fn tick(&mut self, now: Time) {
        if self
            .broker
            .next_deadline()
            .is_none_or(|deadline| deadline > now)
        {
            return;
        }
        let statistics = self.broker.statistics();
        statistics.bytes_received = self.net.bytes_received();
        statistics.bytes_sent = self.net.bytes_sent();
        statistics.sockets = self.net.connections_accepted();
        self.broker.tick(now);
    }

    /// Sends what the turn produced, and closes what is to be closed.
    fn flush(&mut self, now: Time) {
        let mut flushing = std::mem::take(&mut self.flushing);
        flushing.extend(std::iter::from_fn(|| self.net.take_writable()));
        self.broker.take_dirty(&mut flushing);
        for connection in flushing.drain(..) {
            self.flush_one(connection, now);
        }
        self.flushing = flushing;
        while let Some(mut farewell) = self.broker.take_closing() {
            // Whoever does not take its last bytes now does not get them.
            let _ = self.net.flush(farewell.connection, &mut farewell.outbox);
            self.net.close(farewell.connection);
            farewell.outbox.clear(self.broker.buffers());
        }
    }

    fn flush_urgent(&mut self, now: Time) {
        while let Some(connection) = self.broker.take_urgent() {
            self.flush_one(connection, now);
        }
    }

    fn flush_one(&mut self, connection: ConnectionKey, now: Time) {
        let Some(outbox) = self.broker.outbox(connection) else {
            return;
        };
        if outbox.is_empty() {
            return;
        }
        let waiting = outbox.len();
        match self.net.flush(connection, outbox) {
            Ok(_) => {
                let sent = waiting - outbox.len();
                self.broker.flushed(connection, sent, now);
                if !self.broker.is_congested(connection) {
                    self.net.resume(connection);
                }
            }
            Err(error) => {
                let text = system_reason(&error);
                self.broker
                    .detach(connection, Ending::SocketError(&text), now);
            }
        }
    }

    /// Says good-bye to everybody.
    fn stop(&mut self) {
        self.process.stopping();
        // What was done is acknowledged while everybody is still there.
        self.save();
        let now = self.clock.now();
        self.flush(now);
        self.broker.shut_down(now);
        self.flush(now);
        self.save_and_tell();
    }
}
