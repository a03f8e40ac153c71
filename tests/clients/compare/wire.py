"""MQTT on raw sockets, as little as a neutral third party needs: packets, a client, a proxy that sees what passes, and a
server that follows a script. It shares no code with what it tests."""

import os
import socket
import threading
import time

DEADLINE = 10  # seconds that anything which must happen may take

NAMES = ["RESERVED", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE", "SUBACK",
         "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH"]

# Identifier and type of the properties that the neutral client sends.
PROPERTIES = {
    "payload-format-indicator": (1, "byte"), "message-expiry-interval": (2, "four"), "content-type": (3, "text"),
    "response-topic": (8, "text"), "correlation-data": (9, "text"), "user-property": (38, "pair"),
    "session-expiry-interval": (17, "four"),
}


def string(value):
    value = value if isinstance(value, bytes) else value.encode()
    return len(value).to_bytes(2, "big") + value


def variable(number):
    out = bytearray()
    while True:
        number, digit = divmod(number, 128)
        out.append(digit | (0x80 if number else 0))
        if not number:
            return bytes(out)


def packet(first, body):
    return bytes([first]) + variable(len(body)) + body


def properties(pairs):
    out = b""
    for name, value in pairs:
        identifier, kind = PROPERTIES[name]
        out += bytes([identifier])
        if kind == "byte":
            out += bytes([value])
        elif kind == "four":
            out += value.to_bytes(4, "big")
        elif kind == "pair":
            out += string(value[0]) + string(value[1])
        else:
            out += string(value)
    return variable(len(out)) + out


def split(buffer):
    """Takes the whole packets off the front of a bytearray: (first byte, body) each."""
    while True:
        length = shift = 0
        for at in range(1, min(len(buffer), 5)):
            length |= (buffer[at] & 0x7f) << shift
            shift += 7
            if not buffer[at] & 0x80:
                break
        else:
            return
        end = at + 1 + length
        if len(buffer) < end:
            return
        body = bytes(buffer[at + 1:end])
        first = buffer[0]
        del buffer[:end]
        yield first, body


def show(first, body):
    """A packet as a line: its name, its flags where they say something, and the body."""
    flags = f" {first & 15:x}" if first >> 4 == 3 else ""
    return f"{NAMES[first >> 4]}{flags} {body!r}"


class Client:
    """The neutral third party, of MQTT 5.0 unless told."""

    def __init__(self, port, client_id="", version=5, clean=True):
        self.version = version
        self.socket = socket.create_connection(("127.0.0.1", port), DEADLINE)
        self.socket.settimeout(DEADLINE)
        self.buffer = bytearray()
        self.packets = []
        self.identifier = 0
        expiry = properties([("session-expiry-interval", 0 if clean else 1000)]) if version == 5 else b""
        flags = 2 if clean else 0
        self.send(0x10, string("MQTT") + bytes([version, flags, 0, 60]) + expiry + string(client_id))
        self.expect(2)

    def send(self, first, body=b""):
        self.socket.sendall(packet(first, body))

    def next(self):
        while not self.packets:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError("the broker closed the neutral client's connection")
            self.buffer += data
            self.packets.extend(split(self.buffer))
        return self.packets.pop(0)

    def expect(self, kind):
        while True:
            first, body = self.next()
            if first >> 4 == kind:
                return first, body

    def new_identifier(self):
        self.identifier += 1
        return self.identifier.to_bytes(2, "big")

    def publish(self, topic, payload, qos=0, retain=False, pairs=()):
        identifier = self.new_identifier() if qos else b""
        of_five = properties(pairs) if self.version == 5 else b""
        self.send(0x30 | qos << 1 | retain, string(topic) + identifier + of_five + payload)
        if qos == 0:
            self.send(0xC0)
            self.expect(13)
        elif qos == 1:
            self.expect(4)
        else:
            self.expect(5)
            self.send(0x62, identifier)
            self.expect(7)

    def subscribe(self, topic, qos=0):
        of_five = b"\0" if self.version == 5 else b""
        self.send(0x82, self.new_identifier() + of_five + string(topic) + bytes([qos]))
        self.expect(9)

    def received(self):
        """The next PUBLISH of QoS 0 in 5.0: topic, properties as bytes, payload."""
        _, body = self.expect(3)
        end = 2 + int.from_bytes(body[:2], "big")
        length = body[end]  # properties above 127 bytes are not for neutral subscribers
        return body[2:end].decode(), body[end + 1:end + 1 + length], body[end + 1 + length:]

    def close(self):
        try:
            self.send(0xE0)
        finally:
            self.socket.close()


def find_properties(data):
    """Response Topic and Correlation Data among encoded properties."""
    found, at = {}, 0
    sizes = {1: 1, 2: 4}
    while at < len(data):
        identifier = data[at]
        at += 1
        if identifier in sizes:
            at += sizes[identifier]
            continue
        for _ in range(2 if identifier == 38 else 1):
            end = at + 2 + int.from_bytes(data[at:at + 2], "big")
            found[identifier] = data[at + 2:end]
            at = end
    return found


class Endpoint:
    """What the tool connects to. Records what passes and lets others wait for it."""

    def __init__(self, path=None):
        if path:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(path)
            self.listener.listen()
            self.port = 0
        else:
            self.listener = socket.create_server(("127.0.0.1", 0))
            self.port = self.listener.getsockname()[1]
        self.changed = threading.Condition()
        self.sent, self.answered = [], []  # (first byte, body) of the tool and of the broker
        self.trace = []  # lines: what the tool sent, and where connections begin and end
        self.open, self.connections, self.busy = [], 0, 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                tool, _ = self.listener.accept()
            except OSError:
                return
            with self.changed:
                self.connections += 1
                number = self.connections
                self.busy += 1
            threading.Thread(target=self.serve_and_tell, args=(tool, number), daemon=True).start()

    def serve_and_tell(self, tool, number):
        try:
            self.serve(tool, number)
        except OSError:
            pass
        finally:
            tool.close()
            with self.changed:
                self.trace.append("(closed)")
                self.busy -= 1
                self.changed.notify_all()

    def record(self, packets, line_of=None):
        with self.changed:
            for first, body in packets:
                if line_of is None:
                    self.sent.append((first, body))
                    self.trace.append((first, body))
                else:
                    self.answered.append((first, body))
            self.changed.notify_all()

    def wait(self, kind, count, of_tool):
        number = NAMES.index(kind)
        packets = self.sent if of_tool else self.answered
        with self.changed:
            if not self.changed.wait_for(
                    lambda: sum(first >> 4 == number for first, _ in packets) >= count, DEADLINE):
                raise TimeoutError(f"no {kind} number {count}")

    def settle(self):
        """Until all connections have ended, so that the trace is whole."""
        with self.changed:
            self.changed.wait_for(lambda: self.busy == 0, 2)

    def drop(self):
        for one in list(self.open):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        # Only shutdown wakes the thread in accept().
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        self.drop()


class Proxy(Endpoint):
    def __init__(self, target, path=None, raw=False):
        self.target, self.raw = target, raw
        super().__init__(path)

    def serve(self, tool, number):
        if isinstance(self.target, str):
            broker = socket.socket(socket.AF_UNIX)
            broker.connect(self.target)
        else:
            broker = socket.create_connection(("127.0.0.1", self.target))
        for one in (tool, broker):
            if one.family == socket.AF_INET:
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.open += [tool, broker]
        back = threading.Thread(target=self.pump, args=(broker, tool, "answer"), daemon=True)
        back.start()
        try:
            self.pump(tool, broker, None)
        finally:
            back.join()
            broker.close()

    def pump(self, source, sink, line_of):
        buffer = bytearray()
        try:
            while data := source.recv(65536):
                # Recorded first: who waits for an answer of the broker may act before the tool has seen it, but what
                # the tool sends is never missing from the record when the broker has answered it.
                buffer += data
                if not self.raw:
                    self.record(split(buffer), line_of)
                sink.sendall(data)
        except OSError:
            pass
        finally:
            for one in (sink, source):
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass


class Scripted(Endpoint):
    def __init__(self, script):
        self.script = script
        super().__init__()

    def serve(self, tool, number):
        self.open.append(tool)
        steps = list(self.script.connections[min(number, len(self.script.connections)) - 1])
        buffer = bytearray()
        while data := tool.recv(65536):
            buffer += data
            for first, body in split(buffer):
                self.record([(first, body)])
                if steps and NAMES[first >> 4] == steps[0][0]:
                    answer = steps.pop(0)[1]
                    if answer is None:
                        return
                    tool.sendall(answer(body) if callable(answer) else answer)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


def wait_for_port(port, process):
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if process.poll() is not None:
            return False
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        except OSError:
            time.sleep(0.02)
    return False


def exists(path):
    return os.path.exists(path)
