"""Limits under attack: the real broker, over sockets, is attacked, while an honest pair of clients goes on as if nothing were.

    attacks.py BROKER_BINARY [--full] [--only TEXT] [--seed NUMBER]

Each attack has a broker of its own with Mosquitto's default limits where nothing else is said, and asserts:

1. The broker lives, ends well when asked to, and tells no fault of its own.
2. An honest publisher and subscriber in a process of their own lose, double and reorder nothing of a QoS 1 message each
   20 ms; 99 of 100 round trips and PINGs take at most HONEST_P99_MS, a bound for machines that do other things too.
3. The resident set never exceeds the one before the attack by more than `peak` MiB, and exceeds it by at most `after` MiB
   once the attackers are gone and what they left has been taken back. An allocator keeps some of what it once got: `after`
   is a part of `peak`, and a second attack of the same kind fits into it.
4. The log has at most `lines` lines for each connection of an attacker and 100 beside: nothing is logged for each packet.

The attacks, their bounds and what they ask in small and with --full stand in ATTACKS at the end; what each does stands in
its function. The sizes in small fit into a minute and a half, all of them together.

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

    def settle(self, seconds=10):
        """Waits until the broker has next to nothing to do."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            before = self.cpu()
            time.sleep(0.25)
            if self.cpu() - before <= 0.02:
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


def main():
    if sys.argv[1:2] == ["--honest"]:
        return honest(int(sys.argv[2]), sys.argv[3] == "sends")
    parser = argparse.ArgumentParser()
    parser.add_argument("broker")
    parser.add_argument("--full", action="store_true", help="the large sizes")
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
        broker = Broker(options.broker, directory, row.get("settings", ""), row.get("descriptors"))
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
            peak, after = broker.memory("VmHWM"), broker.memory("VmRSS")
            heard = pair.communicate(timeout=60)[0].strip().splitlines()
            return judge(row, attack, what, heard, (before, peak, after), lines_before, connections)
        finally:
            pair.kill()
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
]

if __name__ == "__main__":
    main()
