"""A broker for the cases, Debian's mosquitto or midge: the same configuration file for both."""

import getpass
import os
import subprocess

from . import wire

TEXT = """
per_listener_settings true
user {user}
log_dest file {directory}/log
log_type all
persistence false

listener {plain} 127.0.0.1
allow_anonymous true
max_inflight_messages 20

listener {auth} 127.0.0.1
allow_anonymous false
password_file {passwords}
acl_file {rights}

listener 0 {directory}/socket
allow_anonymous true

listener {tls} 127.0.0.1
allow_anonymous true
certfile {certs}/server.crt
keyfile {certs}/server.key

listener {mutual} 127.0.0.1
allow_anonymous true
certfile {certs}/server.crt
keyfile {certs}/server.key
cafile {certs}/ca.crt
require_certificate true
use_identity_as_username true
"""

WEBSOCKETS = """
listener {ws} 127.0.0.1
protocol websockets
allow_anonymous true
"""

# The user foo may do anything below `open/`; bar may only read there.
RIGHTS = """user foo
topic readwrite open/#
user bar
topic read open/#
"""


class Broker:
    """Listens when the constructor returns."""

    def __init__(self, command, kind, directory, certs, others, passwords):
        self.kind, self.directory, self.certs, self.others = kind, directory, certs, others
        os.makedirs(directory)
        self.socket = os.path.join(directory, "socket")
        rights = os.path.join(directory, "rights")
        with open(rights, "w", encoding="utf-8") as file:
            file.write(RIGHTS)
        os.chmod(rights, 0o600)
        for _ in range(5):
            for name in ("plain", "auth", "tls", "mutual", "ws", "closed"):
                setattr(self, name, wire.free_port())
            text = TEXT + (WEBSOCKETS if kind == "midge" else "")
            path = os.path.join(directory, "broker.conf")
            with open(path, "w", encoding="utf-8") as file:
                file.write(text.format(user=getpass.getuser(), directory=directory, passwords=passwords, certs=certs,
                                       rights=rights, **{name: getattr(self, name) for name in
                                                         ("plain", "auth", "tls", "mutual", "ws")}))
            with open(os.path.join(directory, "stderr"), "wb") as stderr:
                self.process = subprocess.Popen(command + ["-c", path], stdout=stderr, stderr=stderr,
                                                stdin=subprocess.DEVNULL)
            if wire.wait_for_port(self.mutual, self.process):
                return
            self.process.kill()
            self.process.wait()
        with open(os.path.join(directory, "stderr"), encoding="utf-8", errors="replace") as said:
            raise SystemExit(f"the broker {kind} does not start:\n{said.read()}")

    def stop(self):
        """The exit code must be 0."""
        self.process.terminate()
        try:
            return self.process.wait(wire.DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
