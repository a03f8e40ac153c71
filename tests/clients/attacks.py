"""Limits under attack: the real broker, over sockets, is attacked, while an honest pair of clients goes on as if nothing were.

    attacks.py BROKER_BINARY [--full] [--persistence] [--only TEXT] [--seed NUMBER]

Each attack has a broker of its own with Mosquitto's default limits where nothing else is said, and asserts:

1. The broker lives, ends well when asked to, and tells no fault of its own.
2. An honest publisher and subscriber in a process of their own lose, double and reorder nothing of a QoS 1 message each
   20 ms; 99 of 100 round trips and PINGs take at most HONEST_P99_MS, a bound for machines that do other things too.
   Where the attack is on memory_limit, beyond which messages are refused by design, the pair sends PINGs only.
3. The resident set never exceeds the one before the attack by more than `peak` MiB, and exceeds it by at most `after` MiB
   once the attackers are gone and what they left has been taken back. An allocator keeps some of what it once got: `after`
   is for that.
4. The log has at most `lines` lines for each connection of an attacker and 100 beside: nothing is logged for each packet.

Peak and after, in MiB, and lines; sizes in small and with --full (ATTACKS at the end; what each does is in its function):

    malformed packets             32   16   4    100,000 packets      1,000,000
    slow CONNECTs                 32   16   2    2000 sockets         the same until the broker closes them
    half-open TLS handshakes     200   60   2    2000                 5000, until the broker closes them
    clients that never read      200   40  40    20,000 messages      200,000 (a line each time the kernel took all that waited)
    stalled subscribers to #     100   40   4    60,000 messages      1,200,000
    topics of 65,535 bytes       500   50   4    600 filters          6000 (4000 of which are kept: 260 MiB of names alone)
    distinct topics              600  100   3    100,000 retained     1,000,000
    distinct subscriptions       600  100   3    100,000              1,000,000
    identifiers at their limits  100   50   4    200                  5000
    retained flood              1000  100   4    4000 of 16 KiB       40,000
    connect and disconnect        50   20   4    10,000               500,000
    connections                  200  100   3    50,000, or as many as the hard limit of open files allows
    descriptors exhausted         20   10   4    400 for 200          4000
    memory_limit (64 MB)         120   40   4    20,000 of 8 KiB      100,000

The sizes in small fit into a minute and a half, all of them together.

An attacker's socket is bound to one of many addresses of 127.0.0.0/8, so that no range of ports is used up.
Prints a line of figures for each attack, then `N passed, N failed`; exits with 1 if any failed.
"""

import argparse
import contextlib
import json
import os
import random
import resource
import select
import selectors
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HONEST_P99_MS = 500
HONEST_PERIOD = 0.02
# What is open in this process and in the broker beside the attackers' sockets.
OTHER_DESCRIPTORS = 100

CONFIG = """\
user root
listener {port} 127.0.0.1
allow_anonymous true
log_dest file {log}
"""

PERSISTENCE = """
persistence true
persistence_location {directory}/
"""

TLS_CONFIG = """
listener {tls_port} 127.0.0.1
allow_anonymous true
certfile {directory}/certs/server.crt
keyfile {directory}/certs/server.key
"""


# Packets.

def varint(number):
    encoded = bytearray()
    while True:
        number, digit = divmod(number, 128)
        encoded.append(digit | (128 if number else 0))
        if not number:
            return bytes(encoded)


def text(value):
    value = value if isinstance(value, bytes) else value.encode()
    return struct.pack(">H", len(value)) + value


def packet(first, body):
    return bytes([first]) + varint(len(body)) + body


def connect(client_id, version=4, clean=True, properties=b"", keep_alive=0):
    body = text("MQTT") + bytes([version, 2 if clean else 0]) + struct.pack(">H", keep_alive)
    if version == 5:
        body += varint(len(properties)) + properties
    return packet(0x10, body + text(client_id))


def publish(topic, payload=b"", qos=0, packet_id=1, retain=False, properties=None):
    body = text(topic) + (struct.pack(">H", packet_id) if qos else b"")
    if properties is not None:
        body += varint(len(properties)) + properties
    return packet(0x30 | qos << 1 | retain, body + payload)


def subscribe(filters, qos=0, packet_id=1, properties=None):
    body = struct.pack(">H", packet_id)
    if properties is not None:
        body += varint(len(properties)) + properties
    return packet(0x82, body + b"".join(text(one) + bytes([qos]) for one in filters))


def unsubscribe(filters, packet_id=1):
    return packet(0xA2, struct.pack(">H", packet_id) + b"".join(map(text, filters)))


def packets_in(buffer):
    """Takes whole packets off the front of a bytearray: their first bytes and bodies."""
    found, at = [], 0
    while len(buffer) - at >= 2:
        length = shift = 0
        start = at + 1
        while start < len(buffer):
            digit = buffer[start]
            length |= (digit & 127) << shift
            shift, start = shift + 7, start + 1
            if digit < 128:
                break
        else:
            break
        if len(buffer) < start + length:
            break
        found.append((buffer[at], bytes(buffer[start:start + length])))
        at = start + length
    del buffer[:at]
    return found


PINGREQ = b"\xc0\0"
DISCONNECT = b"\xe0\0"


# The honest pair, in a process of its own so that the attackers' work does not count as the broker's.

def honest(port, sends):
    """Publishes and PINGs until its standard input ends; prints what came of it."""
    ends = {}
    for role in ("publisher", "subscriber"):
        end = socket.create_connection(("127.0.0.1", port), 10)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end.sendall(connect("honest-" + role))
        ends[end] = bytearray()
    publisher, subscriber = ends
    subscriber.sendall(subscribe(["honest/topic"], qos=1))
    sent, pinged, trips, pings = {}, [], [], []
    number = acknowledged = 0
    expected, wrong = 0, []
    due, stop_at = None, None
    while True:
        now = time.monotonic()
        if stop_at and (now > stop_at or not (sent or pinged) and acknowledged == number):
            break
        if due is not None and now >= due and not stop_at:
            due = max(due + HONEST_PERIOD, now)
            if sends:
                sent[number] = now
                publisher.sendall(publish("honest/topic", struct.pack(">I", number), 1, number % 65535 + 1))
                number += 1
            pinged.append(now)
            publisher.sendall(PINGREQ)
        wait = 0.5 if due is None or stop_at else max(due - now, 0)
        watched = list(ends) + ([] if stop_at else [sys.stdin])
        for end in select.select(watched, [], [], wait)[0]:
            if end is sys.stdin:
                # As long as the attack lasted, but at most half a minute for what is under way.
                stop_at = time.monotonic() + 30
                continue
            try:
                data = end.recv(65536)
            except OSError:
                data = b""
            now = time.monotonic()
            if not data:
                wrong.append(f"the {'publisher' if end is publisher else 'subscriber'} was disconnected")
                print(json.dumps({"wrong": wrong, "lost": len(sent), "trips": trips, "pings": pings}))
                return
            ends[end] += data
            for first, body in packets_in(ends[end]):
                if first >> 4 == 9:
                    due = now
                    print("ready", flush=True)
                elif first >> 4 == 4:
                    acknowledged += 1
                elif first >> 4 == 13:
                    pings.append(now - pinged.pop(0))
                elif first >> 4 == 3:
                    size = struct.unpack(">H", body[:2])[0]
                    packet_id, which = struct.unpack(">HI", body[2 + size:])
                    end.sendall(packet(0x40, struct.pack(">H", packet_id)))
                    if which != expected:
                        wrong.append(f"message {which} came in the place of {expected}")
                    expected = which + 1
                    if which in sent:
                        trips.append(now - sent.pop(which))
    if acknowledged != number:
        wrong.append(f"{number - acknowledged} were not acknowledged")
    print(json.dumps({"wrong": wrong, "lost": len(sent) + len(pinged), "trips": trips, "pings": pings}))


# The broker.

def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Broker:
    def __init__(self, binary, directory, settings="", descriptors=None):
        self.directory, self.log = directory, Path(directory) / "log"
        self.port, self.tls_port = free_port(), free_port()
        self.log.write_text("")
        config = Path(directory) / "midge.conf"
        config.write_text((CONFIG + settings).format(
            port=self.port, tls_port=self.tls_port, log=self.log, directory=directory))

        def limit():
            _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors or hard, descriptors or hard))

        self.process = subprocess.Popen([binary, "-c", config], preexec_fn=limit, stderr=subprocess.DEVNULL)
        self.pid = self.process.pid
        end = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"the broker does not listen: {self.log.read_text()}") from None
                time.sleep(0.02)

    def memory(self, field):
        """VmRSS now or VmHWM, the most since the last `forget_peak`, in MiB."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) / 1024
        return 0.0

    def forget_peak(self):
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def cpu(self):
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def cpu_part(self, seconds):
        """Which part of a processor the broker takes."""
        before = self.cpu()
        time.sleep(seconds)
        return (self.cpu() - before) / seconds

    def settle(self, seconds=10):
        """Waits until the broker has next to nothing to do."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            # The honest pair takes a little all the time.
            if self.cpu_part(0.25) <= 0.08:
                return

    def stop(self):
        self.process.terminate()
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return "none: it did not end"


# The attackers.

class Peer:
    """One attacker's socket."""
    __slots__ = ("sock", "out", "deaf", "closed", "received", "keep", "data")

    def __init__(self, sock, deaf=False, keep=False):
        self.sock, self.out, self.deaf, self.closed = sock, memoryview(b""), deaf, False
        self.received, self.keep, self.data = 0, keep, bytearray()


class Swarm:
    """Sockets of attackers, all in one thread. What comes is thrown away unless a peer keeps it or does not read."""

    def __init__(self, port, total=0):
        self.port, self.peers, self.total, self.sent = port, [], total, 0
        self.selector = selectors.EpollSelector()

    def open(self, count=1, first=b"", deaf=False, keep=False, port=None):
        """New peers, each with `first` to send: bytes, or a function of its number."""
        new = []
        for _ in range(count):
            sock = socket.socket()
            if deaf:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            # No TIME_WAIT is left behind here, and the addresses share what is left behind there.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
            sock.bind((f"127.0.{self.total // 200 % 250 + 1}.{self.total % 200 + 1}", 0))
            sock.settimeout(10)
            sock.connect(("127.0.0.1", port or self.port))
            sock.setblocking(False)
            peer = Peer(sock, deaf, keep)
            self.total += 1
            if not deaf:
                self.selector.register(sock, selectors.EVENT_READ, peer)
            new.append(peer)
            self.peers.append(peer)
            if first:
                self.send(peer, first(self.total) if callable(first) else first)
        return new

    def send(self, peer, data):
        """Sends at once what the socket takes, and the rest in `pump`."""
        peer.out = memoryview(bytes(peer.out) + data) if peer.out else memoryview(data)
        self.write(peer)
        self.watch(peer)

    def write(self, peer):
        try:
            while peer.out and not peer.closed:
                count = peer.sock.send(peer.out)
                self.sent += count
                peer.out = peer.out[count:]
        except BlockingIOError:
            pass
        except OSError:
            self.close(peer)

    def watch(self, peer):
        if peer.closed:
            return
        mask = (0 if peer.deaf else selectors.EVENT_READ) | (selectors.EVENT_WRITE if peer.out else 0)
        try:
            if mask:
                self.selector.modify(peer.sock, mask, peer)
            else:
                self.selector.unregister(peer.sock)
        except KeyError:
            if mask:
                self.selector.register(peer.sock, mask, peer)

    def close(self, peer):
        if not peer.closed:
            peer.closed = True
            peer.out = memoryview(b"")
            with contextlib.suppress(KeyError):
                self.selector.unregister(peer.sock)
            peer.sock.close()

    def turn(self, wait):
        for key, events in self.selector.select(wait):
            peer = key.data
            if events & selectors.EVENT_READ:
                try:
                    data = peer.sock.recv(262144)
                except BlockingIOError:
                    data = None
                except OSError:
                    data = b""
                if data == b"":
                    self.close(peer)
                    continue
                if data:
                    peer.received += len(data)
                    if peer.keep:
                        peer.data += data
            if events & selectors.EVENT_WRITE:
                self.write(peer)
                if not peer.out:
                    self.watch(peer)

    def pump(self, seconds, until=None):
        """Lets everything go on for so long, or until something holds."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if until and until():
                return True
            self.turn(min(left, 0.1))
        return bool(until and until())

    def drain(self, seconds):
        """Lets everything go on until nobody has anything left to send."""
        return self.pump(seconds, lambda: not any(peer.out for peer in self.peers))

    def alive(self):
        return sum(not peer.closed for peer in self.peers)

    def end(self):
        for peer in self.peers:
            self.close(peer)
        self.peers.clear()


class Attack:
    """What an attack has at hand."""

    def __init__(self, broker, size, rng, full):
        self.broker, self.size, self.rng, self.full = broker, size, rng, full
        self.swarm = Swarm(broker.port)
        # Seconds that one stage may take.
        self.patience = 600 if full else 30
        self.wrong = []

    def expect(self, holds, otherwise):
        if not holds:
            self.wrong.append(otherwise)

    def answered(self, peer, first, seconds=10):
        """Whether a packet with this first byte comes to a peer that keeps what it gets."""
        return self.swarm.pump(seconds, lambda: any(one[0] == first for one in packets_in(peer.data)))


def malformed(attack):
    """Connections that bring a CONNECT and four packets, valid ones with one to four bytes changed, cut or put in."""
    rng = attack.rng
    valid = [
        connect("attacker", 4), connect("attacker", 5, properties=b"\x11\0\0\0\x09\x21\0\x10"),
        publish("a/b", b"payload"), publish("a/b", b"payload", 1), publish("a/b", b"payload", 2, retain=True),
        publish("a/b", b"payload", 1, 7, properties=b"\x02\0\0\0\x09\x26\0\1a\0\1b\x23\0\1"),
        subscribe(["a/+", "b/#"], 2), subscribe(["$share/g/a"], 1, properties=b"\x0b\x80\x01"),
        unsubscribe(["a/+"]), PINGREQ, DISCONNECT, b"\xe0\x02\x04\0", b"\xf0\x02\0\0",
        *(packet(first, b"\0\1") for first in (0x40, 0x50, 0x62, 0x70, 0x20, 0x90, 0xB0)),
    ]

    def mutated(of):
        data = bytearray(of)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data))
            how = rng.randrange(4)
            if how == 0:
                data[at] ^= 1 << rng.randrange(8)
            elif how == 1:
                data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
            elif how == 2:
                data[at:at] = rng.randbytes(rng.randint(1, 4))
            elif len(data) > 1:
                del data[at]
        return bytes(data)

    def chunk():
        first = rng.choice(valid[:2])
        return (mutated(first) if rng.randrange(4) == 0 else first) + b"".join(
            mutated(rng.choice(valid[2:] if rng.randrange(8) else valid)) for _ in range(4))

    chunks = [chunk() for _ in range(10_000)]
    swarm, at_once = attack.swarm, 200
    for start in range(0, attack.size // 5, at_once):
        swarm.open(at_once, lambda number: chunks[number % len(chunks)] if number % 3 else chunks[rng.randrange(10_000)])
        # Most are closed by the broker; the others wait for the rest of a packet.
        swarm.pump(0.05, lambda: swarm.alive() == 0)
        if start % (at_once * 5) == 0:
            swarm.pump(0.2, lambda: swarm.alive() == 0)
        swarm.end()
    return f"{attack.size} packets on {swarm.total} connections"


def slow_connect(attack):
    """Sockets that send a byte of a CONNECT now and then. With --full, until the broker has had enough of all of them."""
    swarm = attack.swarm
    peers = swarm.open(attack.size)
    data = connect("x" * 2000)
    end = time.monotonic() + (80 if attack.full else 4)
    rounds = 0
    while time.monotonic() < end and swarm.alive():
        for peer in peers:
            if not peer.closed:
                swarm.send(peer, data[rounds % len(data):][:1])
        rounds += 1
        swarm.pump(0.5)
    if attack.full:
        attack.expect(swarm.alive() == 0, f"{swarm.alive()} of them are still there after 80 seconds")
    else:
        attack.expect(swarm.alive() == attack.size, "they were closed too early to be attackers")
    return f"{attack.size} sockets, a byte each {rounds} times"


def half_tls(attack):
    """TLS handshakes that stop: before the first byte, in a ClientHello, after it, and with what is no TLS."""
    swarm = attack.swarm
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        ssl._create_unverified_context().wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    hello = outgoing.read()
    stages = [b"", hello[:3], hello[:len(hello) // 2], hello, hello[:9] + b"\xff" * 500]
    swarm.open(attack.size, lambda number: stages[number % len(stages)], port=attack.broker.tls_port)
    swarm.pump(80 if attack.full else 3, lambda: swarm.alive() == 0)
    if attack.full:
        attack.expect(swarm.alive() == 0, f"{swarm.alive()} of them are still there after 80 seconds")
    return f"{attack.size} handshakes"


def never_read(attack):
    """50 subscribers, a third of them for each QoS, never read a byte of a firehose of 1 KiB messages, QoS 0 and 1."""
    swarm, payload = attack.swarm, bytes(1024)
    for number in range(50):
        swarm.open(1, connect(f"deaf-{number}") + subscribe(["fire/#"], number % 3), deaf=True)
    source = swarm.open(1, connect("firehose"))[0]
    burst = b"".join(publish(f"fire/{one % 10}", payload, one % 2, one + 1) for one in range(1000))
    for _ in range(attack.size // 1000):
        swarm.send(source, burst)
        attack.expect(swarm.drain(attack.patience), "the firehose is stuck")
    attack.expect(not source.closed, "the firehose was disconnected")
    return f"{attack.size} messages for 50 who do not read"


def stall(attack):
    """A subscriber to # of each QoS stops reading under full load of four publishers of each QoS."""
    swarm = attack.swarm
    for qos in range(3):
        swarm.open(1, connect(f"stalled-{qos}") + subscribe(["#"], qos), deaf=True)
    publishers = [(swarm.open(1, connect(f"load-{number}"))[0], number % 3) for number in range(12)]
    rounds = max(attack.size // 12 // 500, 1)
    for start in range(rounds):
        for peer, qos in publishers:
            ids = [1 + (start * 500 + one) % 60_000 for one in range(500)]
            swarm.send(peer, b"".join(publish(f"load/{one % 50}", b"x" * 200, qos, one) for one in ids))
            if qos == 2:
                # In order, so that no PUBREC need be read to know what comes next.
                swarm.send(peer, b"".join(packet(0x62, struct.pack(">H", one)) for one in ids))
        attack.expect(swarm.drain(attack.patience), "the publishers are stuck")
    attack.expect(not any(peer.closed for peer, _ in publishers), "publishers were disconnected")
    return f"{rounds * 6000} messages to 3 who stall"


def long_topics(attack):
    """Topics of 65,535 bytes, of one level, of the most levels there may be, and of tens of thousands, in PUBLISH (retained),
    SUBSCRIBE and UNSUBSCRIBE, of each version. Those of too many levels end the connection; the others may stay."""
    swarm = attack.swarm

    def shapes(number):
        # A topic of its own each time, or what comes to one goes to all.
        own = f"{number:07}/"
        return [own + "x" * 65527, own + "/".join(["x" * 325] * 200) + "x" * 328, own + "/" * 65527,
                own + "/".join("a" * 10_000), own + "+/" * 32763 + "#", f"$share/{number}/" + "/" * 60_000]

    for number in range(attack.size):
        topic, version = shapes(number)[number % 6], (4, 5)[number // 6 % 2]
        properties = b"" if version == 5 else None
        swarm.open(1, connect(f"long-{number}", version) + subscribe([topic], 1, properties=properties))
        if "+" not in topic and "$" not in topic:
            swarm.open(1, connect(f"long-p{number}", version) + publish(topic, b"p", 0, 1, True, properties))
        swarm.turn(0)
    swarm.drain(attack.patience)
    swarm.pump(0.5)
    alive = swarm.alive()
    attack.expect(alive > 0, "not even topics of one level were taken")
    # Those that may be retained are taken back.
    cleaner = swarm.open(1, connect("cleaner"), keep=True)[0]
    for number in range(attack.size):
        if number % 6 < 2:
            swarm.send(cleaner, publish(shapes(number)[number % 6], retain=True))
    swarm.send(cleaner, PINGREQ)
    attack.expect(attack.answered(cleaner, 0xD0, attack.patience), "the retained topics could not be taken back")
    return f"{attack.size} filters and two thirds as many topics, {alive} connections of {swarm.total - 1} kept"


def many_topics(attack):
    """Distinct topics, each retained, from four publishers; then each is taken back."""
    swarm = attack.swarm
    peers = swarm.open(4, lambda number: connect(f"topics-{number}"), keep=True)
    for payload in (b"retained", b""):
        for start in range(0, attack.size, 20_000):
            for which, peer in enumerate(peers):
                swarm.send(peer, b"".join(
                    publish(f"many/{one % 1000}/topic/{one}", payload, 0, 1, True)
                    for one in range(start + which, min(start + 20_000, attack.size), 4)))
            attack.expect(swarm.drain(attack.patience), "the publishers are stuck")
        for peer in peers:
            swarm.send(peer, PINGREQ)
            attack.expect(attack.answered(peer, 0xD0, attack.patience), "a publisher was not answered")
    return f"{attack.size} retained topics, set and taken back"


def many_subscriptions(attack):
    """Distinct filters of ten clients, 500 in a packet; then they are gone all at once."""
    swarm = attack.swarm
    peers = swarm.open(10, lambda number: connect(f"filters-{number}"))
    for start in range(0, attack.size, 50_000):
        for which, peer in enumerate(peers):
            names = [f"many/{one % 1000}/{'+' if one % 3 else 'topic'}/{one}" for one in
                     range(start + which, min(start + 50_000, attack.size), 10)]
            swarm.send(peer, b"".join(subscribe(names[at:at + 500], 1) for at in range(0, len(names), 500)))
        attack.expect(swarm.drain(attack.patience), "the subscribers are stuck")
    swarm.pump(attack.patience, lambda: sum(peer.received for peer in peers) >= attack.size)
    attack.expect(swarm.alive() == 10, "subscribers were disconnected")
    attack.expect(sum(peer.received for peer in peers) >= attack.size, "not all were answered")
    return f"{attack.size} subscriptions"


def at_their_limits(attack):
    """Topic aliases, Packet Identifiers, user properties and Subscription Identifiers at their limits and just past them."""
    swarm, count = attack.swarm, attack.size
    users = b"".join(b"\x26" + text("k") + text(str(one % 10)) for one in range(8000))

    def alias(number):
        return b"\x23" + struct.pack(">H", number)

    def identifier(number):
        return b"\x0b" + varint(number)

    def begun(packet_id):
        return publish("ids", b"", 2, packet_id, properties=b"")

    def released(packet_id):
        return packet(0x62, struct.pack(">H", packet_id))

    def five(name, properties=b""):
        return connect(name, 5, properties=properties)
    # What is refused: it ends the connection that brought it.
    refused = [
        publish("a", b"", 0, 1, properties=alias(0)),
        publish("a", b"", 0, 1, properties=alias(11)),
        publish("a", b"", 0, 1, properties=alias(65535)),
        publish("", b"", 0, 1, properties=alias(10)),
        publish("a", b"", 1, 0, properties=b""),
        subscribe(["a"], 1, 0, b""),
        subscribe(["a"], 1, 1, identifier(0)),
        subscribe(["a"], 1, 1, b"\x0b\xff\xff\xff\xff\x7f"),
        subscribe(["a"], 1, 1, identifier(5) + identifier(6)),
    ]
    bad = [swarm.open(1, lambda number: five(f"refused-{number}") + one)[0] for _ in range(count // 20) for one in refused]
    # What is taken: as many aliases as there may be, again and again; as many exchanges of QoS 2 as
    # there may be, with the highest identifiers; user properties by the thousand, to subscribers that get them; the largest Subscription Identifier on a filter with many others.
    good = swarm.open(1, five("aliases") + b"".join(
        publish(f"alias/{one}" if one % 3 else f"a/{one % 10}", b"", 0, 1, properties=alias(one % 10 + 1))
        for one in range(count * 20)))
    good += swarm.open(1, five("identifiers", b"\x27\x00\x10\x00\x00") + b"".join(
        packet_of(65535 - one % 20) for packet_of in (begun, released) for one in range(20)) * (count // 2))
    good += swarm.open(10, lambda number: five(f"reader-{number}") + subscribe(
        ["users/#"], 1, 1, identifier(268_435_455)))
    swarm.drain(attack.patience)
    with_users = publish("users/a", b"", 0, 1, properties=users)
    good += swarm.open(1, five("users") + with_users * (count // 10))
    # In CONNECT only so many: those who are not known yet share what memory they may use.
    good += swarm.open(min(count // 10, 50), lambda number: five(f"connect-{number}", users))
    attack.expect(swarm.drain(attack.patience), "attackers are stuck")
    swarm.pump(3, lambda: all(peer.closed for peer in bad))
    attack.expect(all(peer.closed for peer in bad), f"{sum(not peer.closed for peer in bad)} were not refused")
    attack.expect(not any(peer.closed for peer in good), f"{sum(peer.closed for peer in good)} were refused")
    return f"{len(bad)} past the limits, {count * 30 + count // 5} packets at them"


def retained_flood(attack):
    """Retained messages of 16 KiB, read back through # by five who read and five who do not; then all are taken back."""
    swarm, payload = attack.swarm, bytes(16 * 1024)
    source = swarm.open(1, connect("flood"), keep=True)[0]
    for start in range(0, attack.size, 500):
        swarm.send(source, b"".join(
            publish(f"flood/{one}", payload, 0, 1, True) for one in range(start, start + 500)))
        attack.expect(swarm.drain(attack.patience), "the flood is stuck")
    readers = swarm.open(5, lambda number: connect(f"reads-{number}") + subscribe(["#"]))
    swarm.open(5, lambda number: connect(f"deaf-{number}") + subscribe(["#"], 1), deaf=True)
    whole = attack.size * len(payload)
    attack.expect(swarm.pump(attack.patience, lambda: all(peer.received >= whole for peer in readers)),
                  f"readers got {[peer.received for peer in readers]} bytes, of {whole}")
    swarm.send(source, b"".join(publish(f"flood/{one}", retain=True) for one in range(attack.size)) + PINGREQ)
    attack.expect(attack.answered(source, 0xD0, attack.patience), "they could not be taken back")
    return f"{attack.size} retained messages of 16 KiB, read back by 10"


def storm(attack):
    """Connections that connect, subscribe, publish and go, half of them without a word, each client again and again."""
    swarm, at_once = attack.swarm, 100
    for _ in range(0, attack.size, at_once):
        swarm.open(at_once, lambda number: connect(f"storm-{number % 1000}") + subscribe(["storm/#"], 1)
                   + publish("storm/a", b"x" * 50) + (DISCONNECT if number % 2 else b""))
        swarm.pump(0.02)
        swarm.end()
    return f"{attack.size} connections"


def connections(attack):
    """As many connections as the open files of a process allow, each with a session; all of them are served."""
    swarm = attack.swarm
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    count = min(attack.size, hard - OTHER_DESCRIPTORS)
    for start in range(0, count, 500):
        swarm.open(min(500, count - start), lambda number: connect(f"many-{number}") + PINGREQ)
        swarm.turn(0)
    served = swarm.pump(attack.patience, lambda: all(peer.received >= 6 for peer in swarm.peers))
    attack.expect(served, f"{sum(peer.received < 6 for peer in swarm.peers)} of {count} were not served")
    return f"{count} connections (open files allowed: {hard})"


def descriptors(attack):
    """More connections than the broker has descriptors: who is there goes on, and others get in when some have gone."""
    swarm = attack.swarm
    swarm.open(attack.size, lambda number: connect(f"fd-{number}"))
    swarm.pump(3)
    served = sum(peer.received > 0 for peer in swarm.peers)
    attack.expect(0 < served < 200, f"{served} were served, with 200 descriptors")
    attack.expect(attack.broker.cpu_part(1) < 0.5, "the broker is busy with those it cannot take")
    swarm.end()
    late = swarm.open(20, lambda number: connect(f"late-{number}"))
    attack.expect(swarm.pump(10, lambda: all(peer.received >= 4 for peer in late)), "those who came later were not served")
    return f"{attack.size} connections, 200 descriptors, {served} served"


def memory_limit(attack):
    """Messages queue without bound for one who does not read, until memory_limit: who is connected is answered, whoever
    brings more is turned away, and once the reader is gone all is as before."""
    swarm, payload = attack.swarm, bytes(8192)
    deaf = swarm.open(1, connect("deaf") + subscribe(["fill/#"], 1), deaf=True)[0]
    swarm.pump(0.2)
    refused = 0
    for number in range(attack.size // 100):
        source = swarm.open(1, lambda number: connect(f"fill-{number}") + b"".join(
            publish("fill/a", payload, 1, one + 1) for one in range(100)))[0]
        swarm.pump(0.05, lambda: source.closed or not source.out)
        refused += source.closed
    swarm.pump(0.5)
    refused = sum(peer.closed for peer in swarm.peers)
    attack.expect(refused > 0, "nobody was turned away")
    swarm.close(deaf)
    attack.broker.settle()
    late = swarm.open(2, lambda number: connect(f"late-{number}") + subscribe(["late"], 1)
                      + publish("late", b"again", 1), keep=True)
    attack.expect(attack.answered(late[0], 0x40), "nobody gets in after memory has come back")
    return f"{attack.size} messages of 8 KiB, {refused} of {swarm.total} connections turned away"


def main():
    if sys.argv[1:2] == ["--honest"]:
        return honest(int(sys.argv[2]), sys.argv[3] == "sends")
    parser = argparse.ArgumentParser()
    parser.add_argument("broker")
    parser.add_argument("--full", action="store_true", help="the large sizes")
    parser.add_argument("--persistence", action="store_true", help="everything that must survive is stored")
    parser.add_argument("--only", default="", help="those whose names contain this")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    passed = failed = 0
    for row in ATTACKS:
        if options.only in row["name"]:
            good = run(row, options)
            passed, failed = passed + good, failed + (not good)
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)


def run(row, options):
    name = row["name"]
    with tempfile.TemporaryDirectory() as directory:
        if "{tls_port}" in row.get("settings", ""):
            make = Path(__file__).parent / "../../conf/make-certs"
            subprocess.run([make, Path(directory) / "certs"], check=True, stdout=subprocess.DEVNULL)
        settings = row.get("settings", "") + (PERSISTENCE if options.persistence else "")
        broker = Broker(options.broker, directory, settings, row.get("descriptors"))
        size = row["full" if options.full else "small"]
        attack = Attack(broker, size, random.Random(options.seed), options.full)
        pair = subprocess.Popen(
            [sys.executable, __file__, "--honest", str(broker.port), row.get("honest", "sends")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            pair.stdout.readline()
            time.sleep(0.3)
            broker.forget_peak()
            before = broker.memory("VmRSS")
            lines_before = broker.log.read_bytes().count(b"\n")
            try:
                what = row["run"](attack)
            except (OSError, RuntimeError) as error:
                what = "it could not be carried out"
                attack.wrong.append(f"{type(error).__name__}: {error}")
            connections = attack.swarm.total
            attack.swarm.end()
            broker.settle()
            end = time.monotonic() + 15
            while broker.memory("VmRSS") > before + row["after"] and time.monotonic() < end:
                time.sleep(0.2)
            peak, after = broker.memory("VmHWM"), broker.memory("VmRSS")
            heard = pair.communicate(timeout=60)[0].strip().splitlines()
            return judge(row, attack, what, heard, (before, peak, after), lines_before, connections)
        finally:
            pair.kill()
            if keep := os.environ.get("KEEP_LOG"):
                Path(keep).write_bytes(broker.log.read_bytes())
            attack.swarm.end()
            if broker.process.poll() is None:
                broker.stop()


def judge(row, attack, what, heard, memory, lines_before, connections):
    wrong, broker = attack.wrong, attack.broker
    before, peak, after = memory
    if broker.process.poll() is not None:
        wrong.append(f"the broker is dead: {broker.process.returncode}")
    elif (code := broker.stop()) != 0:
        wrong.append(f"the broker's exit code is {code}")
    log = broker.log.read_bytes()
    lines = log.count(b"\n") - lines_before
    if b"fault of the broker" in log:
        wrong.append("the broker told a fault of its own")
    lines_max = 100 + int(row["lines"] * connections)
    if lines > lines_max:
        wrong.append(f"{lines} log lines, of {lines_max} at most; the last: {log.splitlines()[-3:]}")
    figures = json.loads(heard[-1]) if heard and heard[-1].startswith("{") else {
        "wrong": ["the honest pair said nothing"], "lost": 0, "trips": [], "pings": []}
    wrong += figures["wrong"][:3]
    if figures["lost"]:
        wrong.append(f"{figures['lost']} of the honest were lost")
    times = sorted(figures["trips"] + figures["pings"])
    p50, p99, most = (1000 * times[min(len(times) - 1, int(len(times) * part))] if times else 0.0
                      for part in (0.5, 0.99, 1.0))
    if len(times) < 20:
        wrong.append(f"only {len(times)} round trips")
    if p99 > HONEST_P99_MS:
        wrong.append(f"the honest p99 is {p99:.0f} ms")
    if peak > before + row["peak"]:
        wrong.append(f"the peak is {peak - before:.0f} MiB above the start, of {row['peak']} at most")
    if after > before + row["after"]:
        wrong.append(f"{after - before:.0f} MiB stay, of {row['after']} at most")
    print(f"{'not ok' if wrong else 'ok'} {row['name']}: {what}; honest {len(times)}, "
          f"p50/p99/max {p50:.1f}/{p99:.1f}/{most:.1f} ms; "
          f"RSS {before:.0f}/{peak:.0f}/{after:.0f} MiB; {lines} log lines", flush=True)
    for one in wrong:
        print(f"   FAILED: {one}", flush=True)
    return not wrong


# name; run; small and full size; peak and after in MiB above the start; log lines for each connection of an attacker.
ATTACKS = [
    {"name": "malformed packets", "run": malformed, "small": 100_000, "full": 1_000_000,
     "peak": 32, "after": 16, "lines": 4},
    {"name": "slow CONNECTs", "run": slow_connect, "small": 2000, "full": 2000, "peak": 32, "after": 16, "lines": 2},
    {"name": "half-open TLS handshakes", "run": half_tls, "small": 2000, "full": 5000, "settings": TLS_CONFIG,
     "peak": 200, "after": 60, "lines": 2},
    {"name": "clients that never read", "run": never_read, "small": 20_000, "full": 200_000,
     "peak": 200, "after": 40, "lines": 40},
    {"name": "stalled subscribers to #", "run": stall, "small": 60_000, "full": 1_200_000,
     "peak": 100, "after": 40, "lines": 4},
    {"name": "topics of 65,535 bytes", "run": long_topics, "small": 600, "full": 6000,
     "peak": 500, "after": 50, "lines": 4},
    {"name": "distinct topics", "run": many_topics, "small": 100_000, "full": 1_000_000, "peak": 600, "after": 100,
     "lines": 3},
    {"name": "distinct subscriptions", "run": many_subscriptions, "small": 100_000, "full": 1_000_000,
     "peak": 600, "after": 100, "lines": 3},
    {"name": "identifiers at their limits", "run": at_their_limits, "small": 200, "full": 5000,
     "peak": 100, "after": 50, "lines": 4},
    {"name": "retained flood", "run": retained_flood, "small": 4000, "full": 40_000,
     "peak": 1000, "after": 100, "lines": 4},
    {"name": "connect and disconnect", "run": storm, "small": 10_000, "full": 500_000, "peak": 50, "after": 20, "lines": 4},
    {"name": "connections", "run": connections, "small": 50_000, "full": 50_000, "peak": 200, "after": 100, "lines": 3},
    {"name": "descriptors exhausted", "run": descriptors, "small": 400, "full": 4000, "descriptors": 200,
     "peak": 20, "after": 10, "lines": 4},
    {"name": "memory_limit", "run": memory_limit, "small": 20_000, "full": 100_000, "honest": "pings",
     "settings": "memory_limit 64000000\nmax_queued_messages 0\n", "peak": 120, "after": 40, "lines": 4},
]

if __name__ == "__main__":
    main()
