"""Flows of MQTT 3.1, 3.1.1 and 5.0 between paho-mqtt clients, through a broker of their own.

    paho_flows.py BROKER_BINARY

Each flow is a function that takes a Bench; `@flow` says in which versions it runs. A flow has its own topics, so
that all can share one broker. The broker has three listeners more for those about users and TLS: one that asks for a
user name and a password, the same with TLS, and one that asks for a certificate. Prints a line for each, then
`N passed, N failed`; exits with 1 if any failed.
"""

import contextlib
import getpass
import pathlib
import queue
import socket
import ssl
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import traceback

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

DEADLINE = 10.0
"""Seconds that anything which must happen may take; only a failing flow spends them."""

V31, V311, V5 = paho.MQTTv31, paho.MQTTv311, paho.MQTTv5
NAMES = {V31: "3.1", V311: "3.1.1", V5: "5.0"}
FLOWS = []


class Client:
    """A paho client whose calls return when the broker has answered, and whose messages wait in a queue."""

    def __init__(
        self,
        version,
        client_id,
        port,
        clean=True,
        expiry=None,
        will=None,
        user=None,
        tls=None,
        **properties,
    ):
        self.version = version
        self.port = port
        session = {} if version == V5 else {"clean_session": clean}
        self.paho = paho.Client(
            paho.CallbackAPIVersion.VERSION2, client_id, protocol=version, **session
        )
        self.start = {}
        if version == V5:
            if expiry is not None:
                properties["SessionExpiryInterval"] = expiry
            self.start["clean_start"] = clean
            self.start["properties"] = made(PacketTypes.CONNECT, properties)
        if will:
            self.paho.will_set(**will)
        if user:
            self.paho.username_pw_set(*user)
        if tls:
            self.paho.tls_set(**tls)
        self.messages = queue.Queue()
        self.connected = queue.Queue()
        self.subscribed = queue.Queue()
        self.gone = threading.Event()
        self.paho.on_connect = lambda *args: self.connected.put(args)
        self.paho.on_subscribe = lambda *args: self.subscribed.put(args)
        self.paho.on_unsubscribe = lambda *args: self.subscribed.put(args)
        self.paho.on_message = lambda _client, _data, message: self.messages.put(message)
        self.paho.on_disconnect = lambda *_: self.gone.set()

    def answer(self):
        """Connects; what the CONNACK says is returned."""
        self.gone.clear()
        self.paho.connect("127.0.0.1", self.port, keepalive=60, **self.start)
        self.paho.loop_start()
        _, _, flags, reason, properties = self.connected.get(timeout=DEADLINE)
        return flags, reason, properties

    def connect(self):
        flags, reason, properties = self.answer()
        assert not reason.is_failure, f"refused: {reason}"
        self.session_present = flags.session_present
        self.connack = properties
        return self

    def disconnect(self):
        self.paho.disconnect()
        assert self.gone.wait(DEADLINE), "the connection did not end"
        self.paho.loop_stop()

    def break_off(self):
        """Ends the connection without DISCONNECT, so that the broker must send the will."""
        self.paho.loop_stop()
        self.paho._sock_close()

    def subscribe(self, topic_filter, qos=0, **options):
        if self.version == V5:
            identifier = options.pop("identifier", None)
            properties = {"SubscriptionIdentifier": identifier} if identifier else {}
            self.paho.subscribe(
                topic_filter,
                options=SubscribeOptions(qos, **options),
                properties=made(PacketTypes.SUBSCRIBE, properties),
            )
        else:
            self.paho.subscribe(topic_filter, qos)
        reasons = self.subscribed.get(timeout=DEADLINE)[3]
        assert not any(reason.is_failure for reason in reasons), f"not subscribed: {reasons}"
        return self

    def unsubscribe(self, topic_filter):
        self.paho.unsubscribe(topic_filter)
        self.subscribed.get(timeout=DEADLINE)

    def publish(self, topic, payload, qos=0, retain=False, **properties):
        """Publishes and waits until the whole exchange of that QoS is done."""
        extra = {"properties": made(PacketTypes.PUBLISH, properties)} if properties else {}
        info = self.paho.publish(topic, payload, qos, retain, **extra)
        info.wait_for_publish(DEADLINE)
        assert info.is_published(), "the exchange was not finished"

    def next(self):
        return self.messages.get(timeout=DEADLINE)

    def expect(self, topic, payload, qos=0, retain=False):
        message = self.next()
        received = (message.topic, message.payload, message.qos, message.retain)
        assert received == (topic, bytes_of(payload), qos, retain), f"received {received}"
        return message

    def expect_nothing_before(self, topic):
        """Sends itself a message on `topic`: it must be the next to arrive."""
        self.subscribe(topic)
        self.publish(topic, "fence")
        self.expect(topic, "fence")


class Bench:
    """What a flow works with: a version, a topic of its own, and clients that end with it."""

    def __init__(self, name, version, broker):
        self.version = version
        self.topic = f"{name}/{NAMES[version]}"
        self.broker = broker
        self.clients = []

    def client(self, name="client", **settings):
        """Makes a client of this flow; the same name is the same client identifier."""
        return self.stranger(name, **settings).connect()

    def stranger(self, name="client", listener="open", **settings):
        """The same, not connected yet."""
        client_id = f"{self.topic}-{name}".replace("/", "-")
        client = Client(self.version, client_id, self.broker.ports[listener], **settings)
        self.clients.append(client)
        return client

    def certificate(self, name, authority="certs"):
        """What paho is told to show as `name`, and that it is to trust our authority."""
        directory = self.broker.directory
        return {
            "ca_certs": str(directory / "certs/ca.crt"),
            "certfile": str(directory / authority / f"{name}.crt"),
            "keyfile": str(directory / authority / f"{name}.key"),
        }

    def authority(self, name="certs"):
        """What paho is told to trust alone."""
        return {"ca_certs": str(self.broker.directory / name / "ca.crt")}

    def close(self):
        for client in self.clients:
            with contextlib.suppress(Exception):
                client.paho.disconnect()
                client.paho.loop_stop()


def made(packet_type, values):
    properties = Properties(packet_type)
    for name, value in values.items():
        setattr(properties, name, value)
    return properties


def bytes_of(payload):
    return payload.encode() if isinstance(payload, str) else payload


def flow(*versions):
    def register(function):
        FLOWS.extend((function, version) for version in versions)
        return function

    return register


@flow(V31, V311, V5)
def every_qos_both_ways(bench):
    for qos_out in (0, 1, 2):
        subscriber = bench.client(f"subscriber{qos_out}").subscribe(bench.topic, qos_out)
        publisher = bench.client(f"publisher{qos_out}")
        for qos_in in (0, 1, 2):
            publisher.publish(bench.topic, f"{qos_in} to {qos_out}", qos_in)
            subscriber.expect(bench.topic, f"{qos_in} to {qos_out}", min(qos_in, qos_out))


@flow(V31, V311, V5)
def many_messages_in_order(bench):
    subscriber = bench.client("subscriber").subscribe(bench.topic, 2)
    publisher = bench.client("publisher")
    for qos in (0, 1, 2):
        payloads = [f"{qos}-{number}" for number in range(300)]
        infos = [publisher.paho.publish(bench.topic, payload, qos) for payload in payloads]
        for payload in payloads:
            subscriber.expect(bench.topic, payload, qos)
        for info in infos:
            info.wait_for_publish(DEADLINE)


@flow(V31, V311, V5)
def retained_messages(bench):
    publisher = bench.client("publisher")
    publisher.publish(bench.topic, "first", 1, retain=True)
    publisher.publish(bench.topic, "second", 1, retain=True)
    subscriber = bench.client("subscriber").subscribe(bench.topic, 1)
    subscriber.expect(bench.topic, "second", 1, retain=True)
    publisher.publish(bench.topic, "live", 1, retain=True)
    subscriber.expect(bench.topic, "live", 1, retain=False)
    publisher.publish(bench.topic, "", 1, retain=True)
    late = bench.client("late").subscribe(bench.topic)
    late.expect_nothing_before(f"{bench.topic}/fence")


@flow(V31, V311, V5)
def wills(bench):
    watcher = bench.client("watcher").subscribe(bench.topic, 2)
    for qos in (0, 1, 2):
        will = {"topic": bench.topic, "payload": f"gone {qos}", "qos": qos}
        bench.client("leaving", will=will).disconnect()
        bench.client("breaking", will=will).break_off()
        watcher.expect(bench.topic, f"gone {qos}", qos)
    will = {"topic": bench.topic, "payload": "kept", "qos": 1, "retain": True}
    bench.client("breaking", will=will).break_off()
    watcher.expect(bench.topic, "kept", 1)
    bench.client("late").subscribe(bench.topic, 1).expect(bench.topic, "kept", 1, retain=True)


@flow(V31, V311, V5)
def persistent_session_with_offline_queue(bench):
    first = bench.client("sleeper", clean=False, expiry=600)
    assert not first.session_present
    first.subscribe(bench.topic, 2)
    first.disconnect()
    publisher = bench.client("publisher")
    for number in range(50):
        publisher.publish(bench.topic, f"waiting {number}", 1 + number % 2)
    second = bench.client("sleeper", clean=False, expiry=600)
    if bench.version != V31:
        assert second.session_present
    received = sorted(second.next().payload for _ in range(50))
    assert received == sorted(f"waiting {number}".encode() for number in range(50))
    second.unsubscribe(bench.topic)
    second.expect_nothing_before(f"{bench.topic}/fence")


@flow(V31, V311, V5)
def wildcards(bench):
    client = bench.client()
    client.subscribe(f"{bench.topic}/+/end").subscribe(f"{bench.topic}/deep/#")
    for topic, matches in [
        ("one/end", True),
        ("one/two/end", False),
        ("/end", True),
        ("deep", True),
        ("deep/er/and/deeper", True),
        ("deeper", False),
    ]:
        client.publish(f"{bench.topic}/{topic}", topic)
        if matches:
            client.expect(f"{bench.topic}/{topic}", topic)
    client.expect_nothing_before(f"{bench.topic}/fence")


@flow(V31, V311, V5)
def large_payloads(bench):
    client = bench.client().subscribe(bench.topic, 2)
    for qos in (0, 1, 2):
        payload = bytes(range(256)) * 800
        client.publish(bench.topic, payload, qos)
        client.expect(bench.topic, payload, qos)


@flow(V31, V311, V5)
def take_over(bench):
    old = bench.client()
    told = queue.Queue()

    def on_disconnect(client, _data, flags, _reason, _properties):
        client.disconnect()
        told.put(flags.is_disconnect_packet_from_server)

    old.paho.on_disconnect = on_disconnect
    new = bench.client()
    was_told = told.get(timeout=DEADLINE)
    # paho reads a reason code only from a DISCONNECT of more than two bytes of body, and ours has one.
    assert was_told == (bench.version == V5), "only 5.0 has a DISCONNECT from the server"
    new.expect_nothing_before(f"{bench.topic}/fence")


@flow(V311, V5)
def shared_subscription(bench):
    members = [
        bench.client(f"member{number}").subscribe(f"$share/group/{bench.topic}", 1)
        for number in range(3)
    ]
    publisher = bench.client("publisher")
    for number in range(30):
        publisher.publish(bench.topic, str(number), 1)
    received = [[int(member.next().payload) for _ in range(10)] for member in members]
    assert sorted(sum(received, [])) == list(range(30)), f"received {received}"
    members[0].unsubscribe(f"$share/group/{bench.topic}")
    publisher.publish(bench.topic, "one", 1)
    publisher.publish(bench.topic, "two", 1)
    assert {members[1].next().payload, members[2].next().payload} == {b"one", b"two"}


@flow(V5)
def properties_pass_through(bench):
    client = bench.client().subscribe(bench.topic, 1)
    client.publish(
        bench.topic,
        "payload",
        1,
        PayloadFormatIndicator=1,
        ContentType="text/plain",
        ResponseTopic="answers/here",
        CorrelationData=b"\x00\xff",
        MessageExpiryInterval=100,
        UserProperty=[("a", "1"), ("b", "2"), ("a", "1")],
    )
    properties = client.next().properties
    assert properties.PayloadFormatIndicator == 1
    assert properties.ContentType == "text/plain"
    assert properties.ResponseTopic == "answers/here"
    assert properties.CorrelationData == b"\x00\xff"
    assert 98 <= properties.MessageExpiryInterval <= 100
    assert properties.UserProperty == [("a", "1"), ("b", "2"), ("a", "1")]


@flow(V5)
def request_and_response(bench):
    server = bench.client("server").subscribe(f"{bench.topic}/ask")
    asker = bench.client("asker").subscribe(f"{bench.topic}/answers")
    asker.publish(
        f"{bench.topic}/ask", "2+2", ResponseTopic=f"{bench.topic}/answers", CorrelationData=b"7"
    )
    question = server.next()
    server.publish(
        question.properties.ResponseTopic, "4", CorrelationData=question.properties.CorrelationData
    )
    assert asker.expect(f"{bench.topic}/answers", "4").properties.CorrelationData == b"7"


@flow(V5)
def message_expiry(bench):
    sleeper = bench.client("sleeper", clean=False, expiry=600).subscribe(bench.topic, 1)
    sleeper.disconnect()
    publisher = bench.client("publisher")
    publisher.publish(bench.topic, "short", 1, MessageExpiryInterval=1)
    publisher.publish(bench.topic, "long", 1, MessageExpiryInterval=600)
    time.sleep(2.5)
    message = bench.client("sleeper", clean=False, expiry=600).expect(bench.topic, "long", 1)
    assert 590 <= message.properties.MessageExpiryInterval < 600


@flow(V5)
def topic_aliases(bench):
    subscriber = bench.client("subscriber").subscribe(bench.topic)
    publisher = bench.client("publisher")
    assert publisher.connack.TopicAliasMaximum >= 1
    publisher.publish(bench.topic, "named", TopicAlias=1)
    publisher.publish("", "alias", TopicAlias=1)
    subscriber.expect(bench.topic, "named")
    subscriber.expect(bench.topic, "alias")


@flow(V5)
def subscription_options(bench):
    publisher = bench.client("publisher")
    publisher.publish(bench.topic, "retained", retain=True)
    client = bench.client()
    client.subscribe(bench.topic, noLocal=True, retainHandling=2, identifier=42)
    client.publish(bench.topic, "own")
    publisher.publish(bench.topic, "other")
    assert client.expect(bench.topic, "other").properties.SubscriptionIdentifier == [42]
    client.subscribe(bench.topic, retainAsPublished=True, retainHandling=1)
    publisher.publish(bench.topic, "flagged", retain=True)
    client.expect(bench.topic, "flagged", retain=True)
    client.subscribe(bench.topic, retainHandling=0)
    client.expect(bench.topic, "flagged", retain=True)


@flow(V5)
def assigned_client_identifier(bench):
    client = Client(V5, "", bench.broker.ports["open"]).connect()
    bench.clients.append(client)
    assert client.connack.AssignedClientIdentifier.startswith("auto-")


@flow(V5)
def session_expiry(bench):
    first = bench.client("short", clean=False, expiry=1).subscribe(bench.topic)
    first.disconnect()
    assert bench.client("short", clean=False, expiry=1).session_present
    bench.clients[-1].disconnect()
    time.sleep(2.5)
    assert not bench.client("short", clean=False, expiry=1).session_present


@flow(V31, V311, V5)
def user_name_and_password(bench):
    ann = bench.client("ann", listener="users", user=("ann", "ann's")).subscribe(bench.topic, 1)
    ann.publish(bench.topic, "mine", 1)
    ann.expect(bench.topic, "mine", 1)
    for user in [None, ("ann",), ("ann", "wrong"), ("ann", ""), ("nobody", "ann's")]:
        expect_refused(bench.stranger("refused", listener="users", user=user))


@flow(V31, V311, V5)
def tls_with_a_password(bench):
    settings = {"listener": "tls", "tls": bench.authority()}
    ann = bench.client("ann", user=("ann", "ann's"), **settings).subscribe(bench.topic, 2)
    for qos, payload in enumerate([b"short", bytes(range(256)) * 800, b""]):
        ann.publish(bench.topic, payload, qos)
        ann.expect(bench.topic, payload, qos)
    expect_refused(bench.stranger("refused", user=("ann", "wrong"), **settings))


@flow(V311, V5)
def tls_of_a_server_that_nobody_knows(bench):
    for tls in [bench.authority("others"), SYSTEM]:
        expect_no_handshake(bench.stranger(listener="tls", user=("ann", "ann's"), tls=tls))


@flow(V31, V311, V5)
def tls_with_certificates(bench):
    settings = {"listener": "mutual", "tls": bench.certificate("meter")}
    meter = bench.client("meter", **settings).subscribe("meters/#", 1)
    watcher = bench.client("watcher", **settings).subscribe("meters/#", 1)
    # Its certificate says who it is and so what it may write, whatever user name it sends.
    liar = bench.client("liar", user=("ann", "ann's"), **settings)
    liar.publish("meters/other/power", "not the meter's", 1)
    liar.publish("meters/meter/power", bench.topic, 1)
    for client in (meter, watcher):
        client.expect("meters/meter/power", bench.topic, 1)


@flow(V311, V5)
def tls_without_a_good_certificate(bench):
    for tls in [bench.authority(), bench.certificate("meter", "others")]:
        expect_no_connection(bench.stranger(listener="mutual", tls=tls))


SYSTEM = {"ca_certs": None}
"""The authorities that the system trusts, ours not among them."""


def expect_refused(client):
    _, reason, _ = client.answer()
    # For 3.1 and 3.1.1 paho translates the return code into that of 5.0.
    assert reason.value == 0x87, f"answered: {reason}"
    client.paho.disconnect()
    client.paho.loop_stop()


def expect_no_handshake(client):
    try:
        client.paho.connect("127.0.0.1", client.port, **client.start)
    except ssl.SSLCertVerificationError:
        return
    raise AssertionError("the client trusts a server that it should not know")


def expect_no_connection(client):
    """With TLS 1.3 a client learns only from its first read that its certificate was refused."""
    client.paho.on_connect_fail = lambda *_: client.gone.set()
    with contextlib.suppress(OSError):
        client.paho.connect("127.0.0.1", client.port, **client.start)
        client.paho.loop_start()
        assert client.gone.wait(DEADLINE), "the connection did not end"
        client.paho.loop_stop()
    assert client.connected.empty(), "there was a CONNACK"


class Broker:
    """A broker of its own on free loopback ports, with users and certificates, in a directory that goes with it."""

    CONFIGURATION = """
        user {user}
        per_listener_settings true

        listener {ports[open]} 127.0.0.1
        allow_anonymous true

        listener {ports[users]} 127.0.0.1
        password_file {directory}/passwords

        listener {ports[tls]} 127.0.0.1
        password_file {directory}/passwords
        certfile {directory}/certs/server.crt
        keyfile {directory}/certs/server.key

        listener {ports[mutual]} 127.0.0.1
        acl_file {directory}/rights
        certfile {directory}/certs/server.crt
        keyfile {directory}/certs/server.key
        cafile {directory}/certs/ca.crt
        require_certificate true
        use_identity_as_username true
        """

    RIGHTS = "user meter\ntopic write meters/meter/#\ntopic read meters/#\nuser ann\ntopic readwrite #\n"

    def __init__(self, binary, directory):
        self.directory = pathlib.Path(directory)
        self.ports = dict(zip(("open", "users", "tls", "mutual"), free_ports(4)))
        self.command("sh", MAKE_CERTS, "--client", "meter", self.directory / "certs")
        self.command("sh", MAKE_CERTS, "--client", "meter", self.directory / "others")
        self.command(binary, "passwd", "-c", "-b", self.directory / "passwords", "ann", "ann's")
        rights = self.directory / "rights"
        rights.write_text(self.RIGHTS)
        rights.chmod(0o600)
        settings = {"user": getpass.getuser(), "ports": self.ports, "directory": self.directory}
        config = self.directory / "midge.conf"
        config.write_text(textwrap.dedent(self.CONFIGURATION.format(**settings)))
        self.log = self.directory / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([binary, "-c", str(config)], stderr=log)

    @staticmethod
    def command(*words):
        done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{words}: {done.stdout}{done.stderr}")

    def wait_until_open(self):
        deadline = time.monotonic() + DEADLINE
        while self.process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                for port in self.ports.values():
                    socket.create_connection(("127.0.0.1", port)).close()
                return
            time.sleep(0.02)
        print(self.log.read_text(errors="replace"))
        raise SystemExit("the broker did not open its ports")

    def stop(self):
        self.process.terminate()
        code = self.process.wait(DEADLINE)
        if code != 0:
            print(self.log.read_text(errors="replace"))
            raise SystemExit(f"the broker ended with {code}")


MAKE_CERTS = pathlib.Path(__file__).parent / "../../conf/make-certs"


def free_ports(count):
    with contextlib.ExitStack() as probes:
        sockets = [
            probes.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [probe.getsockname()[1] for probe in sockets]


@contextlib.contextmanager
def running(binary):
    """Runs a broker; it must end by SIGTERM with exit code 0."""
    with tempfile.TemporaryDirectory() as directory:
        broker = Broker(binary, directory)
        try:
            broker.wait_until_open()
            yield broker
        finally:
            broker.stop()


def run(function, version, broker):
    name = function.__name__
    bench = Bench(name, version, broker)
    try:
        function(bench)
    except Exception:
        print(f"FAILED {name} ({NAMES[version]})")
        traceback.print_exc(file=sys.stdout)
        return False
    finally:
        bench.close()
    print(f"ok {name} ({NAMES[version]})")
    return True


def main():
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    with running(sys.argv[1]) as broker:
        results = [run(function, version, broker) for function, version in FLOWS]
    failed = results.count(False)
    print(f"{len(results) - failed} passed, {failed} failed")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
