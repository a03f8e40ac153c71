"""What the tests share that speak MQTT byte by byte: packets of MQTT 3.1, 3.1.1 and 5.0, and the broker as a process.

Packets are made as they are asked for, also where no well-behaved client would send them; 3 is MQTT 3.1, 4 is 3.1.1.
"""

import os
import socket
import struct
import subprocess
import time
from pathlib import Path

PINGREQ = b"\xc0\0"
DISCONNECT = b"\xe0\0"


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


def connect(client_id, version=4, clean=True, properties=b"", keep_alive=0, user=None, password="", will=None):
    """`will` is its topic, payload, QoS, whether it is retained, and, in 5.0, its properties."""
    flags = 2 if clean else 0
    rest = text(client_id)
    if will:
        topic, payload, qos, retain, will_properties = will
        flags |= 4 | qos << 3 | retain << 5
        if version == 5:
            rest += varint(len(will_properties)) + will_properties
        rest += text(topic) + text(payload)
    if user is not None:
        flags |= 0xC0
        rest += text(user) + text(password)
    body = text("MQIsdp" if version == 3 else "MQTT") + bytes([version, flags]) + struct.pack(">H", keep_alive)
    if version == 5:
        body += varint(len(properties)) + properties
    return packet(0x10, body + rest)


def publish(topic, payload=b"", qos=0, packet_id=1, retain=False, properties=None, dup=False):
    body = text(topic) + (struct.pack(">H", packet_id) if qos else b"")
    if properties is not None:
        body += varint(len(properties)) + properties
    return packet(0x30 | dup << 3 | qos << 1 | retain, body + payload)


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


def varint_at(data, at):
    """The number there, and where it ends."""
    number = shift = 0
    while True:
        digit = data[at]
        number |= (digit & 127) << shift
        shift, at = shift + 7, at + 1
        if digit < 128:
            return number, at


# Properties of 5.0 by the form of their values: a number of so many bytes, or else ("varint", "text", "pair").
PROPERTY_FORMS = {
    0x01: 1, 0x02: 4, 0x03: "text", 0x08: "text", 0x09: "text", 0x0B: "varint", 0x11: 4, 0x12: "text", 0x13: 2,
    0x15: "text", 0x16: "text", 0x17: 1, 0x18: 4, 0x19: 1, 0x1A: "text", 0x1C: "text", 0x1F: "text", 0x21: 2, 0x22: 2,
    0x23: 2, 0x24: 1, 0x25: 1, 0x26: "pair", 0x27: 4, 0x28: 1, 0x29: 1, 0x2A: 1,
}


def properties_at(data, at):
    """The properties there, as a list of identifiers and values, and where they end."""
    length, at = varint_at(data, at)
    end, found = at + length, []
    while at < end:
        which, at = varint_at(data, at)
        form = PROPERTY_FORMS[which]
        if form == "varint":
            value, at = varint_at(data, at)
        elif isinstance(form, int):
            value, at = int.from_bytes(data[at:at + form], "big"), at + form
        else:
            value = []
            for _ in range(2 if form == "pair" else 1):
                size = int.from_bytes(data[at:at + 2], "big")
                value.append(data[at + 2:at + 2 + size])
                at += 2 + size
            value = tuple(value) if form == "pair" else value[0]
        found.append((which, value))
    return found, end


# The broker.

def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """A process, and what the system says of it."""

    def __init__(self, command, **how):
        self.process = subprocess.Popen(command, **how)
        self.pid = self.process.pid

    def listens(self, port, seconds=10):
        """Waits until there is somebody on that port, as long as the process lives."""
        end = time.monotonic() + seconds
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return True
            except OSError:
                if self.process.poll() is not None or time.monotonic() > end:
                    return False
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

    def descriptors(self):
        """How many are open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def stop(self):
        self.process.terminate()
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return "none: it did not end"
