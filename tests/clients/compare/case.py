"""What a case is: plain data. It knows neither brokers nor processes; `run.py` does.

In arguments, topics, payloads, files and expectations `<t>` stands for a topic of the case's own, `<id>` for a client id
of its own, `<dir>` for its directory, `<port>` for the port of its endpoint, `<certs>` for the certificates, and so on
(`run.places`). A case is the same text for both tools, so what they say can be compared as it is.
"""

import signal
from dataclasses import dataclass, field


@dataclass
class Expect:
    """What ours does where that is not what Debian's 2.0.11 does. What is None is still compared with Debian's."""

    why: str
    out: str | bytes | None = None
    err: str | bytes | None = None
    code: int | None = None
    sent: list | None = None  # the packets, as `wire.show` writes them


@dataclass
class Case:
    name: str
    tool: str  # pub, sub or rr
    args: str | list  # a string is split as a shell does
    at: object = "plain"  # None, plain, auth, unix, tls, mutual, ws, or a Script
    before: list = field(default_factory=list)  # steps, before the tool is started
    then: list = field(default_factory=list)  # steps, while it runs
    stdin: bytes = b""
    env: dict = field(default_factory=dict)  # a value of None takes the variable away
    files: dict = field(default_factory=dict)  # name in <dir> -> text or bytes
    differs_in_2_1: Expect | None = None  # 2.1, or Midge on purpose: the reason is in it
    ours_only: Expect | None = None  # 2.0.11 does not know it at all
    usage: bool = False  # a usage text: the first line, the options that are named, and the exit code
    loose: str = ""  # what of the packets cannot be compared, and why: "packets: WHY" or ""
    brokers: tuple = ("mosquitto", "midge")


# Steps. All that wait have a deadline.
@dataclass
class Publish:
    """A neutral client publishes, and the broker has dealt with it when the step ends."""

    topic: str = "<t>"
    payload: bytes = b"hello"
    qos: int = 0
    retain: bool = False
    properties: list = field(default_factory=list)  # (name, value): the message is sent as 5.0 in any case
    wait: bool = True  # the tool has subscribed first


@dataclass
class Session:
    """A neutral client leaves a session behind: `<id>` subscribed to a topic."""

    topic: str = "<t>"
    qos: int = 1
    version: int = 4


@dataclass
class Wait:
    """Until the broker has sent the tool so many packets of a kind."""

    packet: str = "SUBACK"
    count: int = 1


@dataclass
class WaitSent:
    """Until the tool has sent so many packets of a kind."""

    packet: str
    count: int = 1


@dataclass
class WaitOutput:
    """Until the tool has written something to standard output."""

    text: str


@dataclass
class Signal:
    number: signal.Signals = signal.SIGINT


@dataclass
class Drop:
    """The connection breaks; the next one is let through."""


@dataclass
class Input:
    """Further standard input, through a pipe that is closed at the end of the steps."""

    data: bytes


@dataclass
class CloseOutput:
    """Nobody reads the tool's standard output any longer."""


@dataclass
class Respond:
    """A neutral client subscribes to a topic before the tool starts, and answers the first message there. With no
    topic to answer to, it takes the Response Topic and the Correlation Data of the request, as 5.0 has them."""

    topic: str = "<t>/request"
    to: str | None = None
    payload: bytes = b"answer"
    retain: bool = False
    properties: list = field(default_factory=list)


@dataclass
class Watch:
    """A neutral subscriber; what it receives is part of what is compared (`received` in `sent`)."""

    topic: str = "<t>"
    count: int = 1


class Script:
    """A server that says what it is told: for each connection a list of (packet awaited, answer). An answer is bytes,
    None (closes the connection) or a function of the packet's body. The last list serves all further connections."""

    def __init__(self, *connections, tail=b""):
        self.connections = connections or ([],)


def connack(code, session=0, version=4):
    return bytes([0x20, 2, session, code]) if version < 5 else bytes([0x20, 3, session, code, 0])


def suback(*codes, version=4):
    """Answers a SUBSCRIBE."""
    def answer(body):
        rest = body[:2] + (b"\0" if version == 5 else b"") + bytes(codes)
        return bytes([0x90, len(rest)]) + rest
    return answer


def ack(first, code=None):
    """Answers a PUBLISH of QoS above 0 (its identifier follows the topic) or another packet that begins with one."""
    def answer(body, is_publish=first in (0x40, 0x50)):
        at = 2 + int.from_bytes(body[:2], "big") if is_publish else 0
        rest = body[at:at + 2] + (b"" if code is None else bytes([code]))
        return bytes([first, len(rest)]) + rest
    return answer
