"""A soak: the release binary with everything on, for an hour or as long as one likes, in which nothing may be lost.

    soak.py BROKER_BINARY [--minutes M] [--kill-every SECONDS] [--seed NUMBER]

Two listeners, one of them with TLS; users, an ACL file that changes; persistence; the log in a file that is rotated. Against
them, of MQTT 3.1.1 and 5.0, over TCP and TLS: publishers at QoS 0, 1 and 2, subscribers that stay away for a while now and
then, a shared group, retained values, wills, messages that expire, and clients that come and go. SIGHUP every few seconds
takes a right away or gives it back. During the first half SIGKILL ends the broker again and again, and another begins in its
place; the second half is one undisturbed life, which ends with one more SIGKILL. Asserted:

1. What was acknowledged to a publisher (PUBACK, PUBREC) gets to every subscriber that was there before, and to one member of
   the group at least. At QoS 2 it gets there once, however often the broker was killed.
2. What one publisher sends at one QoS gets there in order; what comes again is what was not acknowledged.
3. A retained value is never older than the one acknowledged last; a will comes for each connection that was cut, whoever
   lived then; what has expired does not come; what may not be read does not come once the broker has told of the reload.
4. A session whose CONNACK was seen is there after SIGKILL.
5. In a life of ten minutes or more, the resident set grows by at most an eighth and 8 MiB from its second quarter to its
   last, and the open files do not grow.
6. The log has no warning and no error that is not in EXPECTED, with its reason.

Prints a line a minute, one for each life, then `N passed, N failed`, and exits with 1 if any failed. A publisher has one
message in 30 ms or so: it is the length that counts, not the load.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import random
import re
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from compare.wire import packet, properties, split, string

WINDOW = 20  # how many messages of a publisher are under way at most
PERIOD = 0.03  # seconds between two messages of a publisher
PATIENCE = 30  # seconds that anything which must happen may take
EXPIRY = 2  # seconds after which some messages expire
FILES = 200  # open files of the broker that are always too many

CONFIG = """\
user root
per_listener_settings false
allow_anonymous false
password_file {directory}/passwords
acl_file {directory}/acl
listener {port} 127.0.0.1
listener {tls_port} 127.0.0.1
certfile {directory}/certs/server.crt
keyfile {directory}/certs/server.key
persistence true
persistence_location {directory}/data/
max_queued_messages 0
max_inflight_messages 50
log_dest file {directory}/log
log_type error
log_type warning
log_type notice
log_type information
sys_interval 5
"""

# What the log may say, and why.
EXPECTED = {
    r"Warning: Mosquitto should not be run as root": "the test does",
}


def acl(guest_reads):
    return f"user soak\ntopic readwrite #\nuser guest\ntopic read {guest_reads}\ntopic subscribe news/#\n"


class Gone(Exception):
    """The connection ended."""


class Client:
    """One connection after another under one Client Identifier."""

    def __init__(self, soak, name, version=5, tls=False, user="soak", expiry=3600):
        self.soak, self.name, self.version, self.tls, self.user = soak, name, version, tls, user
        self.expiry, self.writer, self.has_session = expiry, None, False

    async def connect(self, will=None):
        """The packets that come, after CONNACK; whether there was a session is in `present`."""
        port = self.soak.tls_port if self.tls else self.soak.port
        context = self.soak.context if self.tls else None
        try:
            opening = asyncio.open_connection("127.0.0.1", port, ssl=context)
            self.reader, self.writer = await asyncio.wait_for(opening, PATIENCE)
            self.packets, self.buffer = [], bytearray()
            flags = 0xC0 | (2 if not self.expiry else 0) | (0x0C if will else 0)
            body = string("MQTT") + bytes([self.version, flags, 0, 60])
            if self.version == 5:
                body += properties([("session-expiry-interval", self.expiry)])
            body += string(self.name)
            if will:
                body += properties([]) * (self.version == 5) + string(will[0]) + string(will[1])
            self.send(0x10, body + string(self.user) + string("secret-" + self.user))
            first, body = await self.next()
        except (OSError, ssl.SSLError, asyncio.TimeoutError) as error:
            raise Gone from error
        if first >> 4 != 2 or body[1]:
            raise AssertionError(f"{self.name}: CONNACK was {first:02x} {body.hex()}")
        self.present = bool(body[0] & 1)
        if self.has_session and self.expiry and not self.present:
            self.soak.wrong(f"{self.name}: the session is gone")
        self.has_session = True

    def send(self, first, body=b""):
        if self.writer and not self.writer.is_closing():
            with contextlib.suppress(OSError, RuntimeError):
                self.writer.write(packet(first, body))

    async def next(self):
        while not self.packets:
            try:
                data = await asyncio.wait_for(self.reader.read(65536), PATIENCE)
            except (OSError, asyncio.TimeoutError) as error:
                raise Gone from error
            if not data:
                raise Gone
            self.buffer += data
            self.packets.extend(split(self.buffer))
        return self.packets.pop(0)

    async def expect(self, kind):
        while True:
            first, body = await self.next()
            if first >> 4 == kind:
                return body
            self.handle(first, body)

    def handle(self, first, body):
        """What comes unasked."""

    def cut(self):
        if self.writer:
            self.writer.transport.abort()
            self.writer = None

    async def leave(self):
        self.send(0xE0)
        with contextlib.suppress(OSError, RuntimeError, asyncio.TimeoutError):
            await asyncio.wait_for(self.writer.drain(), 1)
        self.cut()

    async def subscribe(self, filters, qos):
        body = b"\0\1" + (b"\0" if self.version == 5 else b"")
        self.send(0x82, body + b"".join(string(one) + bytes([qos]) for one in filters))
        granted = await self.expect(9)
        if granted[-len(filters):] != bytes([qos] * len(filters)):
            self.soak.wrong(f"{self.name}: SUBACK was {granted.hex()}")

    def publish(self, topic, payload, qos, packet_id=0, dup=False, retain=False, pairs=()):
        body = string(topic) + (packet_id.to_bytes(2, "big") if qos else b"")
        if self.version == 5:
            body += properties(pairs)
        self.send(0x30 | dup << 3 | qos << 1 | retain, body + payload)

    def parse(self, first, body):
        """Topic, Packet Identifier and payload of a PUBLISH."""
        size = int.from_bytes(body[:2], "big")
        topic, at, packet_id = body[2:2 + size].decode(), 2 + size, 0
        if first & 6:
            packet_id, at = int.from_bytes(body[at:at + 2], "big"), at + 2
        if self.version == 5:
            length = shift = 0
            while True:
                digit, at = body[at], at + 1
                length |= (digit & 127) << shift
                shift += 7
                if digit < 128:
                    break
            at += length
        return topic, packet_id, body[at:]

    async def again(self):
        """Between two connections."""
        self.cut()
        await asyncio.sleep(self.soak.random.uniform(0.05, 0.4))


class Publisher(Client):
    """Sends numbered messages at one QoS, and again what was not acknowledged."""

    def __init__(self, soak, number, qos, version, tls):
        super().__init__(soak, f"publisher-{number}", version, tls)
        self.number, self.qos, self.next_number = number, qos, 1
        self.under_way = {}  # by Packet Identifier, in order: [number, whether PUBREC came]
        self.acknowledged = 0

    def message(self, number):
        return f"soak/{self.number}/{number % 3}", f"{self.number} {number} ".encode() + b"x" * (number * 37 % 700)

    def send_message(self, packet_id, number, dup):
        topic, payload = self.message(number)
        self.publish(topic, payload, self.qos, packet_id, dup)

    def handle(self, first, body):
        kind, packet_id = first >> 4, int.from_bytes(body[:2], "big")
        if kind in (4, 5, 7) and len(body) > 2 and body[2] >= 0x80:
            if not (kind == 7 and body[2] == 0x92):
                self.soak.wrong(f"{self.name}: refused with {body[2]:02x}")
        if packet_id not in self.under_way:
            return
        if kind == 5:
            self.acknowledge(packet_id)
            self.under_way[packet_id][1] = True
            self.send(0x62, body[:2])
        elif kind == 4:
            self.acknowledge(packet_id)
            del self.under_way[packet_id]
        elif kind == 7:
            del self.under_way[packet_id]

    def acknowledge(self, packet_id):
        number, is_received = self.under_way[packet_id]
        if not is_received:
            self.acknowledged += 1
            self.soak.acknowledged[self.number].add(number)

    async def live(self):
        while not self.is_done():
            try:
                await self.connect()
                for packet_id, (number, is_received) in list(self.under_way.items()):
                    if is_received:
                        self.send(0x62, packet_id.to_bytes(2, "big"))
                    else:
                        self.send_message(packet_id, number, True)
                await asyncio.gather(self.read(), self.write())
            except Gone:
                pass
            await self.again()

    def is_done(self):
        return self.soak.is_ending and not self.under_way

    async def read(self):
        while not self.is_done():
            self.handle(*await self.next())

    async def write(self):
        while not self.is_done():
            await asyncio.sleep(PERIOD * self.soak.random.uniform(0.5, 1.5))
            if self.writer is None or self.writer.is_closing():
                raise Gone
            if self.soak.is_ending or len(self.under_way) >= WINDOW:
                self.send(0xC0)
                continue
            number, self.next_number = self.next_number, self.next_number + 1
            packet_id = number % 65535 + 1
            self.soak.sent[self.qos] += 1
            if self.qos:
                self.under_way[packet_id] = [number, False]
            self.send_message(packet_id, number, False)


class Subscriber(Client):
    """Has a session that stays, and checks what comes. Away for some seconds now and then."""

    def __init__(self, soak, name, filters, qos, version, tls, group=None):
        super().__init__(soak, name, version, tls)
        self.filters, self.qos, self.is_subscribed = filters, qos, False
        self.received = group if group is not None else {}  # by publisher: the numbers, as often as they came
        self.is_group = group is not None
        self.last = {}  # by publisher: the greatest number
        self.unreleased = {}
        self.ready = asyncio.Event()

    def handle(self, first, body):
        kind = first >> 4
        if kind == 6:
            self.unreleased.pop(bytes(body[:2]), None)
            self.send(0x70, body[:2])
        elif kind == 3:
            topic, packet_id, payload = self.parse(first, body)
            qos, identifier = first >> 1 & 3, packet_id.to_bytes(2, "big")
            if qos == 1:
                self.send(0x40, identifier)
            elif qos == 2:
                # A receiver takes a Packet Identifier once until it is released (4.3.3).
                is_new = identifier not in self.unreleased
                self.unreleased[identifier] = payload
                self.send(0x50, identifier)
                if not is_new:
                    return
            self.take(topic, qos, bool(first & 8), payload)

    def take(self, topic, qos, dup, payload):
        publisher, number = map(int, payload.split()[:2])
        self.soak.delivered[qos] += 1
        counts = self.received.setdefault(publisher, Counter())
        counts[number] += 1
        last = self.last.get(publisher, 0)
        sender_qos = self.soak.publishers[publisher].qos
        if min(sender_qos, self.qos) == 2 and counts[number] > 1:
            self.soak.wrong(f"{self.name}: message {number} of {publisher} came again at QoS 2")
        if not self.is_group and number <= last and counts[number] == 1:
            self.soak.wrong(f"{self.name}: message {number} of {publisher} came after {last}")
        self.last[publisher] = max(last, number)

    async def live(self):
        while not self.soak.is_over:
            try:
                await self.connect()
                if not self.is_subscribed:
                    await self.subscribe(self.filters, self.qos)
                    self.is_subscribed = True
                    self.ready.set()
                stays = self.soak.random.uniform(5, 40)
                until = time.monotonic() + stays
                while not self.soak.is_over and (time.monotonic() < until or self.soak.is_ending):
                    self.send(0xC0)
                    self.handle(*await self.next())
                if self.soak.random.random() < 0.5 and not self.soak.is_over:
                    await self.leave()
                    await asyncio.sleep(self.soak.random.uniform(0, 4))
            except Gone:
                pass
            await self.again()
        self.cut()


class Pinged(Client):
    """A client that only waits: it pings once a second."""

    async def wait_for_packets(self, seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self.soak.is_over:
            self.send(0xC0)
            self.handle(*await self.next())
            await asyncio.sleep(0.05)


class Values(Client):
    """Retained values: written, and read by somebody new."""

    def __init__(self, soak):
        super().__init__(soak, "values", 5, False)
        self.newest, self.acknowledged, self.waiting = 0, 0, None

    def handle(self, first, body):
        if first >> 4 == 4 and self.waiting:
            self.acknowledged, self.waiting = self.waiting, None

    async def live(self):
        while not self.soak.is_ending:
            try:
                await self.connect()
                if self.waiting:
                    self.publish("value", str(self.waiting).encode(), 1, 1, True, True)
                while not self.soak.is_ending:
                    if not self.waiting:
                        self.newest += 1
                        self.waiting = self.newest
                        self.publish("value", str(self.newest).encode(), 1, 1, False, True)
                    self.handle(*await self.next())
                    await asyncio.sleep(0.05)
            except Gone:
                pass
            await self.again()

    async def look(self):
        """Somebody new subscribes again and again."""
        looks = 0
        while not self.soak.is_ending:
            looks += 1
            reader = Client(self.soak, f"looks-{looks}", 4 + looks % 2, looks % 3 == 0, expiry=0)
            try:
                await reader.connect()
                least = self.acknowledged
                await reader.subscribe(["value"], 0)
                if least:
                    body = await reader.expect(3)
                    value = int(reader.parse(0x31, body)[2])
                    if value < least:
                        self.soak.wrong(f"the retained value is {value}, and {least} was acknowledged")
                    self.soak.checks["retained values read"] += 1
                await reader.leave()
            except Gone:
                pass
            await reader.again()


class Wills(Pinged):
    """Connections that are cut, and somebody who is to hear of each."""

    def __init__(self, soak):
        super().__init__(soak, "hears-wills", 5, True)
        self.cut_off, self.heard, self.is_subscribed = set(), set(), False

    def handle(self, first, body):
        if first >> 4 == 3:
            _, packet_id, payload = self.parse(first, body)
            self.heard.add(int(payload))
            self.send(0x40, packet_id.to_bytes(2, "big"))

    async def live(self):
        while not self.soak.is_over:
            try:
                await self.connect()
                if not self.is_subscribed:
                    await self.subscribe(["wills"], 1)
                    self.is_subscribed = True
                await self.wait_for_packets(1000)
            except Gone:
                pass
            await self.again()
        self.cut()

    async def die(self):
        number = 0
        while not self.soak.is_ending:
            number += 1
            # A session that outlives its connection for a moment is stored, and its will with it.
            mortal = Client(self.soak, f"mortal-{number}", 5, number % 4 == 0, expiry=1)
            mortal.has_session = False
            try:
                if self.is_subscribed:
                    await mortal.connect(("wills", str(number)))
                    await asyncio.sleep(self.soak.random.uniform(0, 0.5))
                    self.cut_off.add(number)
            except Gone:
                pass
            await mortal.again()
            await asyncio.sleep(0.2)


class Expiring(Pinged):
    """A session that is away for longer than messages to it last."""

    def __init__(self, soak):
        super().__init__(soak, "comes-late", 5, False)
        self.is_subscribed = False

    def handle(self, first, body):
        if first >> 4 == 3:
            _, packet_id, payload = self.parse(first, body)
            self.send(0x40, packet_id.to_bytes(2, "big"))
            late = time.time() - float(payload) - EXPIRY
            self.soak.checks["messages that could expire came"] += 1
            if late > 1.5 and not first & 8:  # what was sent once comes again, however late
                self.soak.wrong(f"a message came {late:.1f} s after it had expired")

    async def live(self):
        sender = Client(self.soak, "sends-what-expires", 5, True)
        while not self.soak.is_ending:
            try:
                await self.connect()
                if not self.is_subscribed:
                    await self.subscribe(["expires"], 1)
                    self.is_subscribed = True
                await self.wait_for_packets(1)
                await self.leave()
                await sender.connect()
                for packet_id in range(1, 6):
                    sender.publish("expires", str(time.time()).encode(), 1, packet_id,
                                   pairs=[("message-expiry-interval", EXPIRY)])
                    await sender.expect(4)
                await sender.leave()
                await asyncio.sleep(self.soak.random.choice([0, EXPIRY + 2]))
            except Gone:
                pass
            await sender.again()
            await self.again()


class Guest(Pinged):
    """May read one of two topics, which one changes with each reload."""

    def __init__(self, soak):
        super().__init__(soak, "guest", 4, True, user="guest")
        self.allowed, self.since, self.is_subscribed = "news/a", 0.0, False

    def handle(self, first, body):
        if first >> 4 == 3:
            topic, _, payload = self.parse(first, body)
            self.soak.checks["news read"] += 1
            if topic != self.allowed and float(payload) > self.since:
                self.soak.wrong(f"the guest read {topic}, published {float(payload) - self.since:.2f} s after the reload")

    async def live(self):
        while not self.soak.is_ending:
            try:
                await self.connect()
                # Whoever loses the right to read keeps what they may subscribe to.
                await self.subscribe(["news/#"], 0)
                await self.wait_for_packets(1000)
            except Gone:
                pass
            await self.again()
        self.cut()

    async def write(self):
        writer = Client(self.soak, "news-writer", 5, False)
        while not self.soak.is_ending:
            try:
                await writer.connect()
                while not self.soak.is_ending:
                    for topic in ("news/a", "news/b"):
                        writer.publish(topic, str(time.time()).encode(), 0)
                    writer.send(0xC0)
                    await writer.next()
                    await asyncio.sleep(0.1)
            except Gone:
                pass
            await writer.again()

    async def reload(self):
        while not self.soak.is_ending:
            await asyncio.sleep(self.soak.random.uniform(2, 6))
            async with self.soak.lives:
                allowed = "news/b" if self.allowed == "news/a" else "news/a"
                (self.soak.directory / "acl").write_text(acl(allowed))
                if self.soak.checks["reloads"] % 5 == 0:
                    (self.soak.directory / "log").rename(self.soak.directory / f"log.{time.monotonic()}")
                    self.soak.checks["log rotations"] += 1
                self.since = float("inf")
                before = self.soak.log_text().count("Reloading config.")
                self.soak.process.send_signal(signal.SIGHUP)
                end = time.monotonic() + PATIENCE
                while self.soak.log_text().count("Reloading config.") == before and time.monotonic() < end:
                    await asyncio.sleep(0.02)
                await asyncio.sleep(0.5)
                self.allowed, self.since = allowed, time.time()
                self.soak.checks["reloads"] += 1


class Soak:
    def __init__(self, binary, directory, options):
        self.binary, self.directory, self.options = binary, Path(directory), options
        self.random = random.Random(options.seed)
        self.port, self.tls_port = options.port, options.port + 1
        self.is_ending = self.is_over = False
        self.faults, self.sent, self.delivered, self.checks = [], Counter(), Counter(), Counter()
        self.process, self.samples, self.lives_told = None, [], []
        self.lives = asyncio.Lock()
        make = Path(__file__).parent / "../../conf/make-certs"
        subprocess.run([make, self.directory / "certs"], check=True, stdout=subprocess.DEVNULL)
        for user in ("soak", "guest"):
            (self.directory / "passwords").touch(0o600)
            subprocess.run([binary, "passwd", "-b", self.directory / "passwords", user, "secret-" + user],
                           check=True, stdout=subprocess.DEVNULL)
        (self.directory / "acl").touch(0o600)
        (self.directory / "acl").write_text(acl("news/a"))
        (self.directory / "data").mkdir()
        (self.directory / "midge.conf").write_text(
            CONFIG.format(directory=directory, port=self.port, tls_port=self.tls_port))
        self.context = ssl.create_default_context(cafile=self.directory / "certs/ca.crt")
        self.context.check_hostname = False

    def wrong(self, what):
        self.faults.append(what)
        if len(self.faults) <= 20:
            print(f"not ok {what}", flush=True)

    def log_text(self):
        return "".join(path.read_text(errors="replace") for path in sorted(self.directory.glob("log*")))

    async def begin_life(self):
        said = open(self.directory / "stderr", "ab")
        self.process = subprocess.Popen([self.binary, "-c", self.directory / "midge.conf"], stderr=said)
        self.born, self.samples = time.monotonic(), []
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.close()
                return
            if self.process.poll() is not None or time.monotonic() > self.born + PATIENCE:
                raise RuntimeError(f"the broker does not listen: {self.log_text()[-2000:]}")
            await asyncio.sleep(0.02)

    def end_life(self, how):
        self.process.send_signal(how)
        status = self.process.wait(PATIENCE)
        if how == signal.SIGTERM and status != 0:
            self.wrong(f"the broker ended with {status}")
        memory = [rss for _, rss, _ in self.samples]
        seconds = time.monotonic() - self.born
        if memory:
            quarter = len(memory) // 4
            second = statistics.median(memory[quarter:2 * quarter] or memory)
            last = statistics.median(memory[-quarter:])
            files = [count for _, _, count in self.samples]
            print(f"a life of {seconds:.0f} s: {min(memory):.1f} to {max(memory):.1f} MiB, in its second quarter "
                  f"{second:.1f}, in its last {last:.1f}; at most {max(files)} open files", flush=True)
            if seconds >= 600 and last > second * 9 / 8 + 8:
                self.wrong(f"the memory grew from {second:.1f} to {last:.1f} MiB")
            if max(files) > FILES:
                self.wrong(f"{max(files)} open files")

    async def kill(self, ends):
        """SIGKILL again and again during the first half."""
        while True:
            pause = self.options.kill_every * self.random.uniform(0.7, 1.3)
            if time.monotonic() + pause > ends:
                return
            await asyncio.sleep(pause)
            async with self.lives:
                self.end_life(signal.SIGKILL)
                self.checks["kills"] += 1
                await self.begin_life()

    async def watch(self):
        begun, told = time.monotonic(), 0
        while not self.is_over:
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{self.process.pid}/status").read_text()
                rss = int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024
                files = len(os.listdir(f"/proc/{self.process.pid}/fd"))
                if rss:
                    self.samples.append((time.monotonic() - self.born, rss, files))
            if (time.monotonic() - begun) // 60 > told:
                told += 1
                sent, delivered = ([counts[qos] for qos in range(3)] for counts in (self.sent, self.delivered))
                print(f"{told} min: sent {sent}, delivered {delivered} at QoS 0, 1, 2; {dict(self.checks)}; "
                      f"{self.samples[-1][1]:.1f} MiB, {len(self.faults)} faults", flush=True)
            await asyncio.sleep(2)

    def missing(self):
        """What was acknowledged and did not get there."""
        groups = {id(it.received): it for it in self.subscribers if it.qos}
        for subscriber in groups.values():
            for number, acknowledged in self.acknowledged.items():
                for lost in acknowledged - subscriber.received.get(number, Counter()).keys():
                    yield f"{subscriber.name}: message {lost} of {number} is missing"
        for number in self.wills.cut_off - self.wills.heard:
            yield f"the will of {number} is missing"

    async def run(self):
        await self.begin_life()
        kinds = [(0, 4, False), (0, 5, True), (1, 4, True), (1, 5, False), (2, 4, False), (2, 5, True)]
        self.publishers = [Publisher(self, number, *kind) for number, kind in enumerate(kinds)]
        self.acknowledged = {number: set() for number in range(len(kinds))}
        group = {}
        self.subscribers = [
            Subscriber(self, "all-at-0", ["soak/#"], 0, 4, False),
            Subscriber(self, "all-at-1", ["soak/#"], 1, 4, True),
            Subscriber(self, "all-at-2", ["soak/#"], 2, 5, False),
            Subscriber(self, "some-at-2", ["soak/+/0", "soak/+/1", "soak/+/2"], 2, 4, True),
            *(Subscriber(self, f"member-{n}", ["$share/group/soak/#"], 1, 5, n == 0, group) for n in range(3)),
        ]
        self.wills, values, guest, expiring = Wills(self), Values(self), Guest(self), Expiring(self)
        until = time.monotonic() + 60 * self.options.minutes
        lasting = [asyncio.create_task(it.live()) for it in [*self.subscribers, self.wills]]
        lasting.append(asyncio.create_task(self.watch()))
        for subscriber in self.subscribers:
            await asyncio.wait_for(subscriber.ready.wait(), PATIENCE)
        others = [asyncio.create_task(it) for it in [
            *(publisher.live() for publisher in self.publishers),
            self.wills.die(), values.live(), values.look(), expiring.live(),
            guest.live(), guest.write(), guest.reload(),
            self.kill(until - 30 * self.options.minutes),
        ]]
        try:
            while time.monotonic() < until and not any(task.done() and task.exception() for task in [*others, *lasting]):
                await asyncio.sleep(0.2)
            async with self.lives:
                self.end_life(signal.SIGKILL)
                self.checks["kills"] += 1
                await self.begin_life()
            self.is_ending = True
            await asyncio.wait_for(asyncio.gather(*others), 2 * PATIENCE)
            end = time.monotonic() + PATIENCE
            while any(self.missing()) and time.monotonic() < end:
                await asyncio.sleep(0.1)
            await asyncio.sleep(1)  # for what should not come
        finally:
            self.is_over = True
            for result in await asyncio.gather(*lasting, *others, return_exceptions=True):
                if isinstance(result, BaseException):
                    self.wrong(f"{type(result).__name__}: {result}")
            self.end_life(signal.SIGTERM)
        missing = list(self.missing())
        for what in missing[:10]:
            self.wrong(what)
        if len(missing) > 10:
            self.wrong(f"and {len(missing) - 10} more")
        self.read_log()

    def read_log(self):
        unexpected = Counter()
        for line in self.log_text().splitlines():
            text = re.sub(r"^[\d:T-]+ ", "", line)
            if re.search(r"\b(Warning|Error|error|Protocol|panicked|dropped)\b", text):
                if not any(re.search(pattern, text) for pattern in EXPECTED):
                    unexpected[re.sub(r"\d+", "N", text)] += 1
        for text, count in unexpected.most_common(10):
            self.wrong(f"the log says {count} times: {text}")
        said = [line for line in (self.directory / "stderr").read_text().splitlines() if "panicked" in line]
        for line in said:
            self.wrong(line)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("broker")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--kill-every", type=float, default=120)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # it tells of connections that end
    options.port = options.port or 20000 + os.getpid() % 5000 * 2
    with tempfile.TemporaryDirectory(prefix="midge-soak-") as directory:
        os.chmod(directory, 0o755)

        async def run():
            soak = Soak(options.broker, directory, options)
            await soak.run()
            return soak

        soak = asyncio.run(run())
    print(f"sent {dict(sorted(soak.sent.items()))} and delivered {dict(sorted(soak.delivered.items()))} by QoS; "
          f"{dict(soak.checks)}; wills {len(soak.wills.cut_off)} cut, {len(soak.wills.heard)} heard")
    print(f"{0 if soak.faults else 1} passed, {1 if soak.faults else 0} failed")
    sys.exit(1 if soak.faults else 0)


if __name__ == "__main__":
    main()
