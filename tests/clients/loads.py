"""The load generator of perf/ in small, against Midge and against the floor: nothing is lost at any shape of traffic, and a
way to the broker that loses or doubles a message is found out.

    loads.py BROKER_BINARY LOAD_BINARY FLOOR_BINARY

No figure is judged here: see perf/compare. Prints a line for each run, then `N passed, N failed`; exits with 1 if any failed.
"""

import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

CONFIG = """\
listener {port} 127.0.0.1
allow_anonymous true
max_queued_messages 0
max_inflight_messages 1000
log_type error
"""

# What the generator is asked for: it fails where anything is lost, doubled or out of order.
LOADS = [
    "--pairs 5 -w 8 --messages 2000",
    "--pairs 5 -w 8 -q 1 --messages 2000",
    "--pairs 5 -w 8 -q 2 --messages 2000",
    "--pairs 3 -w 4 -s 65536 --messages 300",
    "--pairs 3 -w 4 -q 1 -s 65536 --messages 300",
    "--pairs 2 -w 3 -s 1900000 --messages 20",
    "--fan-out 50 -w 4 --messages 100",
    "--fan-in 50 -w 2 -q 1 --messages 2000",
]
BROKER_LOADS = [
    "--pairs 5 -w 8 -q 1 --properties --messages 1000",
    "--pairs 5 -w 8 --alias --messages 1000",
    "--pairs 5 -w 8 --unique-topics --messages 1000",
    "--wildcards 2000 --clients 10 -w 8 --messages 4000",
    "--connect 300 --at-once 32",
    "--idle 200 --subscribe --hold 1",
    "--retained 2000",
    "--queued 1000 -q 1",
    "--pairs 10 --rate 2000 --messages 1000",
    "--pairs 10 --rate 2000 --spin --flood 100 --messages 1000",
]

# How long a run may take, in seconds.
DEADLINE = 90


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(command, port):
    """A server of ours, once it listens."""
    process = subprocess.Popen(command)
    try:
        end = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"{command[0]} does not listen") from None
                time.sleep(0.02)
        yield process
    finally:
        process.terminate()
        process.wait(10)


def run(load, port, words, pid=None):
    command = [load, "--port", str(port), *words.split()]
    if pid:
        command += ["--broker-pid", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)


class Relay:
    """Passes a connection on to `port`, and what comes back through `spoil`, once it has a whole PUBLISH in its hands."""

    def __init__(self, port, spoil):
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port, self.target, self.spoil = self.server.getsockname()[1], port, spoil
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.server.accept()
                broker = socket.create_connection(("127.0.0.1", self.target))
                for source, sink, spoil in ((client, broker, None), (broker, client, self.spoil)):
                    threading.Thread(target=self.pass_on, args=(source, sink, spoil), daemon=True).start()

    @staticmethod
    def pass_on(source, sink, spoil):
        held, seen = b"", 0
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if spoil is None:
                    sink.sendall(data)
                    continue
                held += data
                # Packets of a load with payloads of 64 bytes have one byte of Remaining Length.
                packets = []
                while len(held) >= 2 and len(held) >= 2 + held[1]:
                    packets.append(held[:2 + held[1]])
                    held = held[2 + held[1]:]
                for packet in packets:
                    seen += packet[0] >> 4 == 3
                    sink.sendall(spoil(packet) if packet[0] >> 4 == 3 and seen == 100 else packet)
            sink.shutdown(socket.SHUT_WR)


SPOILED = [("lost", lambda _: b""), ("doubled", lambda packet: 2 * packet)]


def main():
    broker, load, floor = sys.argv[1:4]
    passed = failed = 0

    def tell(name, problem):
        nonlocal passed, failed
        passed, failed = passed + (not problem), failed + bool(problem)
        print(f"FAILED {name}: {problem}" if problem else f"ok {name}", flush=True)

    def check(name, port, words, pid):
        done = run(load, port, words, pid)
        if done.returncode != 0:
            return tell(name, done.stderr.strip()[:500])
        figures = json.loads(done.stdout)
        has_figure = "broker_cpu_us" in figures or "idle_cpu_percent" in figures
        tell(name, None if has_figure else f"no figure of the broker: {done.stdout}")

    with tempfile.TemporaryDirectory() as directory:
        port = free_port()
        config = Path(directory) / "midge.conf"
        config.write_text(CONFIG.format(port=port))
        with running([broker, "-c", config], port) as process:
            for words in LOADS + BROKER_LOADS:
                check(f"midge {words}", port, words, process.pid)
            for name, spoil in SPOILED:
                done = run(load, Relay(port, spoil).port, "--pairs 1 -w 8 --messages 1000")
                is_found = done.returncode != 0 and "FAILED" in done.stderr
                tell(f"a message that is {name} is found out", None if is_found else f"{done.stdout}{done.stderr}")
        tell("the broker ends well", f"exit code {process.returncode}" if process.returncode else None)
        port = free_port()
        with running([floor, "--port", str(port)], port) as process:
            for words in LOADS:
                check(f"floor {words}", port, words, process.pid)
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
