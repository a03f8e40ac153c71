"""Runs one case with one tool against one broker, and says what came of it as text that can be compared.

What varies by nature is replaced, and nothing else:
- a random client id (`mosq-` and 18 letters and digits; `auto-` and a UUID, which a broker assigns), since it is random;
- the process id of the tool, which `-I` puts into the client id, with the length before it;
- the times that `%I`, `%U`, `%j`, `%J` and `@` print (the cases that ask for them are run in UTC);
- the directory of the case and the ports, which differ from run to run.
"""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import threading
import time
from dataclasses import dataclass

from . import case as kinds
from . import wire

VARIES = [
    # Certificates are made for each run.
    (re.compile(rb"certificate 'CN=[^']+' comes from 'CN=[^']+'"), b"certificate '<subject>' comes from '<issuer>'"),
    # Random client ids.
    (re.compile(rb"mosq-[0-9A-Za-z]{18}"), b"mosq-<random>"),
    (re.compile(rb"auto-[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"), b"auto-<random>"),
    # ISO 8601 with a zone, as %I has it and, with microseconds, %j.
    (re.compile(rb"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z?[+-]\d{4}"), lambda m: b"<time%d>" % len(m.group())),
    # Seconds and nanoseconds since 1970, as %U has them.
    (re.compile(rb"\b\d{10}\.\d{9}\b"), b"<unix time>"),
]


@dataclass
class Outcome:
    out: bytes = b""
    err: bytes = b""
    code: object = None
    sent: list = None  # lines

    def lines(self):
        """All of it as lines, for a diff."""
        text = [f"exit code {self.code}"]
        for name, data in (("out", self.out), ("err", self.err)):
            text += [f"{name}: {line.decode('utf-8', 'backslashreplace')!r}" for line in data.splitlines(keepends=True)]
        return text + [f"sent: {line}" for line in self.sent or []]


class Runner:
    """Runs cases with the tools of a directory (`mosquitto_pub` and so on in it) against a running broker."""

    def __init__(self, tools, broker, directory):
        self.tools, self.broker, self.directory = tools, broker, directory

    def run(self, number, case):
        """The outcome of a case. A step that fails is part of the outcome, and so never goes unseen."""
        directory = os.path.join(self.directory, str(number))
        os.makedirs(directory, exist_ok=True)
        run = Run(self, number, case, directory)
        try:
            return run.outcome()
        finally:
            run.close()
            shutil.rmtree(directory, ignore_errors=True)


class Run:
    def __init__(self, runner, number, case, directory):
        self.runner, self.case, self.directory = runner, case, directory
        self.endpoint = self.process = self.pipe = None
        self.neutral = self.responder = None
        self.watchers, self.failures = [], []
        broker = runner.broker
        self.places = {
            "<t>": f"c{number}", "<id>": f"id{number}", "<dir>": directory,
            "<closed>": str(broker.closed), "<certs>": broker.certs, "<others>": broker.others,
            "<tls>": str(broker.tls), "<mutual>": str(broker.mutual), "<ws>": str(broker.ws),
        }

    def fill(self, text):
        if isinstance(text, bytes):
            for name, value in self.places.items():
                text = text.replace(name.encode(), value.encode())
            return text
        for name, value in self.places.items():
            text = text.replace(name, value)
        return text

    def arguments(self):
        case, at = self.case, self.case.at
        args = shlex.split(case.args) if isinstance(case.args, str) else list(case.args)
        text = " ".join(args)
        # In front, so that a value that is missing is missing at the end.
        if at is None or at == "bare":
            front = []
        elif at == "unix":
            front = [] if "<socket>" in text else ["--unix", "<socket>"]
        elif at == "tls":
            front = ["-h", "localhost", "-p", "<tls>"]
        elif at == "mutual":
            front = ["-h", "localhost", "-p", "<mutual>"]
        elif "<port>" in text or any("<port>" in str(one) for one in case.files.values()):
            front = []
        else:
            front = ["-h", "127.0.0.1", "-p", "<port>"]
        return [self.fill(one) for one in front + args]

    def open_endpoint(self):
        broker, at = self.runner.broker, self.case.at
        if at in ("plain", "auth", "ws"):
            self.endpoint = wire.Proxy(getattr(broker, at), raw=at == "ws")
        elif at == "unix":
            path = os.path.join(self.directory, "s")
            self.endpoint = wire.Proxy(broker.socket, path)
            self.places["<socket>"] = path
        elif isinstance(at, kinds.Script):
            self.endpoint = wire.Scripted(at)
        if self.endpoint and self.endpoint.port:
            self.places["<port>"] = str(self.endpoint.port)

    def outcome(self):
        self.open_endpoint()
        for name, content in self.case.files.items():
            path = os.path.join(self.directory, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            content = self.fill(content)
            with open(path, "wb") as file:
                file.write(content if isinstance(content, bytes) else content.encode())
        try:
            for step in self.case.before:
                self.step(step)
            for step in self.case.then:
                if isinstance(step, (kinds.Respond, kinds.Watch)):
                    self.prepare(step)
            self.start()
            for step in self.case.then:
                self.step(step)
        except (OSError, EOFError, TimeoutError) as error:
            self.failures.append(f"step failed: {type(error).__name__}: {error}")
        if self.process is None:
            return Outcome(code=None, sent=self.failures)
        if self.pipe is not None:
            self.close_pipe()
        try:
            code = self.process.wait(wire.DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            code = "does not end"
        sent = self.failures[:]
        if self.endpoint:
            self.endpoint.settle()
            if not self.case.loose and not getattr(self.endpoint, "raw", False):
                sent += [self.packet_line(one) for one in self.endpoint.trace]
        for watcher, count in self.watchers:
            try:
                sent += [f"received {watcher.received()!r}" for _ in range(count)]
            except (OSError, EOFError) as error:
                sent.append(f"not received: {error}")
        return Outcome(self.normal(self.read("stdout")), self.normal(self.read("stderr")), code, sent)

    def packet_line(self, one):
        if isinstance(one, str):
            return one
        first, body = one
        # The length is replaced together with the process id.
        pid = str(self.process.pid).encode()
        body = re.sub(rb"\0.([\w/-]*)" + pid, lambda m: b"\0<n>" + m.group(1) + b"<pid>", body, flags=re.S)
        return wire.show(first, self.normal(body))

    def normal(self, data):
        for pattern, replacement in VARIES:
            data = pattern.sub(replacement, data)
        if self.process and b" -I " in b" " + " ".join(self.arguments()).encode("utf-8", "replace") + b" ":
            data = data.replace(str(self.process.pid).encode(), b"<pid>")
        for name in ("<dir>", "<port>", "<closed>", "<tls>", "<mutual>", "<ws>", "<certs>", "<others>"):
            if len(self.places.get(name, "")) > 3:
                data = data.replace(self.places[name].encode(), name.encode())
        return data

    def read(self, name):
        with open(os.path.join(self.directory, name), "rb") as file:
            return file.read()

    def start(self):
        program = os.path.join(self.runner.tools, "mosquitto_" + self.case.tool)
        home = os.path.join(self.directory, "home")
        os.makedirs(home, exist_ok=True)
        env = {"HOME": home, "PATH": os.environ["PATH"], "TZ": "UTC", "LC_ALL": "C.UTF-8"}
        for name, value in self.case.env.items():
            if value is None:
                env.pop(name, None)
            else:
                env[name] = self.fill(value)
        self.stdout = open(os.path.join(self.directory, "stdout"), "wb")
        self.stderr = open(os.path.join(self.directory, "stderr"), "wb")
        stdin = subprocess.DEVNULL
        writes = any(isinstance(step, kinds.Input) for step in self.case.then)
        if self.case.stdin or writes:
            stdin = subprocess.PIPE
        reader = None
        out = self.stdout
        if any(isinstance(step, kinds.CloseOutput) for step in self.case.then):
            reader, out = os.pipe()
        self.reader = reader
        self.process = subprocess.Popen(
            [program] + self.arguments(), stdin=stdin, stdout=out, stderr=self.stderr, env=env, cwd=self.directory,
            executable=program)
        if reader is not None:
            os.close(out)
        if stdin == subprocess.PIPE:
            self.pipe = self.process.stdin
            if self.case.stdin:
                data = self.fill(self.case.stdin)
                threading.Thread(target=self.feed, args=(data, not writes), daemon=True).start()
                if not writes:
                    self.pipe = None

    def feed(self, data, last):
        try:
            self.process.stdin.write(data)
            self.process.stdin.flush()
            if last:
                self.process.stdin.close()
        except OSError:
            pass

    def close_pipe(self):
        try:
            self.pipe.close()
        except OSError:
            pass
        self.pipe = None

    def client(self):
        if self.neutral is None:
            self.neutral = wire.Client(self.runner.broker.plain)
        return self.neutral

    def prepare(self, step):
        client = wire.Client(self.runner.broker.plain)
        client.subscribe(self.fill(step.topic))
        if isinstance(step, kinds.Respond):
            self.responder = client
        else:
            self.watchers.append((client, step.count))

    def step(self, step):
        if isinstance(step, kinds.Publish):
            if step.wait and self.process and self.endpoint:
                self.endpoint.wait("SUBACK", 1, False)
            pairs = [(name, self.fill(value) if isinstance(value, (str, bytes)) else value)
                     for name, value in step.properties]
            self.client().publish(self.fill(step.topic), self.fill(step.payload), step.qos, step.retain, pairs)
        elif isinstance(step, kinds.Session):
            client = wire.Client(self.runner.broker.plain, self.fill("<id>"), step.version, clean=False)
            client.subscribe(self.fill(step.topic), step.qos)
            client.close()
        elif isinstance(step, kinds.Wait):
            self.endpoint.wait(step.packet, step.count, False)
        elif isinstance(step, kinds.WaitSent):
            self.endpoint.wait(step.packet, step.count, True)
        elif isinstance(step, kinds.WaitOutput):
            self.wait_for_output(self.fill(step.text).encode())
        elif isinstance(step, kinds.Signal):
            self.process.send_signal(step.number)
        elif isinstance(step, kinds.Drop):
            self.endpoint.drop()
        elif isinstance(step, kinds.Input):
            self.pipe.write(self.fill(step.data))
            self.pipe.flush()
        elif isinstance(step, kinds.CloseOutput):
            os.close(self.reader)
            self.reader = None
        elif isinstance(step, kinds.Respond):
            _, properties, _ = self.responder.received()
            found = wire.find_properties(properties)
            topic = self.fill(step.to) if step.to else found[8].decode()
            pairs = list(step.properties) + ([("correlation-data", found[9])] if 9 in found else [])
            self.responder.publish(topic, step.payload, 0, step.retain, pairs)

    def wait_for_output(self, text):
        end = time.monotonic() + wire.DEADLINE
        while time.monotonic() < end:
            if text in self.read("stdout"):
                return
            time.sleep(0.005)
        raise TimeoutError(f"no {text!r} in standard output")

    def close(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for file in (getattr(self, "stdout", None), getattr(self, "stderr", None)):
            if file:
                file.close()
        if getattr(self, "reader", None) is not None:
            os.close(self.reader)
        for client in [self.neutral, self.responder] + [one for one, _ in self.watchers]:
            if client:
                try:
                    client.close()
                except OSError:
                    pass
        if self.endpoint:
            self.endpoint.close()
