"""sub: what it asks for, which messages it shows, and when it ends."""

import signal

from .case import Case, CloseOutput, Expect, Publish, Script, Session, Signal, Wait, WaitOutput, WaitSent, connack, suback

P = Publish


def cases():
    for version in ("31", "311", "5"):
        for qos in (0, 1, 2):
            yield Case(f"sub QoS {qos} by {version}", "sub", f"-t <t> -q {qos} -V mqttv{version} -d -C 1 -i <id>", then=[P(qos=qos)])
    yield Case("sub without an id", "sub", "-t <t> -d -C 1", then=[P()])
    yield Case("sub by 5 without an id", "sub", "-t <t> -d -C 1 -V 5", then=[P()])
    yield Case("sub several topics", "sub", "-t <t>/a -t <t>/b -t <t>/+/c -d -C 2 -v -i <id>",
               then=[P("<t>/b", b"1"), P("<t>/x", b"no"), P("<t>/x/c", b"2")])
    yield Case("sub -v", "sub", "-t <t>/# -v -C 3 -i <id>", then=[P("<t>/a", b"1"), P("<t>/b", b""), P("<t>", b"two words")])
    yield Case("sub -N", "sub", "-t <t> -N -C 2 -i <id>", then=[P(payload=b"1"), P(payload=b"2")])
    yield Case("sub -N -v", "sub", "-t <t> -N -v -C 2 -i <id>", then=[P(payload=b""), P(payload=b"2")])
    yield Case("sub an empty payload", "sub", "-t <t> -C 2 -i <id>", then=[P(payload=b""), P(payload=b"2")])
    yield Case("sub binary", "sub", "-t <t> -C 1 -i <id>", then=[P(payload=bytes(range(256)))])
    yield Case("sub retained", "sub", "-t <t>/# -v -C 2 -i <id>", before=[P("<t>/a", b"old", retain=True)], then=[P("<t>/b", b"new")])
    yield Case("sub -R", "sub", "-t <t>/# -R -v -C 1 -i <id>", before=[P("<t>/a", b"old", retain=True)], then=[P("<t>/b", b"new")])
    yield Case("sub --retained-only", "sub", "-t <t>/# --retained-only -v -i <id>",
               before=[P("<t>/a", b"old", retain=True)], then=[P("<t>/b", b"new"), P("<t>/c", b"newer")],
               loose="packets: Debian's may end without DISCONNECT")
    yield Case("sub --remove-retained", "sub", "-t <t>/# --remove-retained --retained-only -v -i <id>",
               before=[P("<t>/a", b"old", retain=True)], then=[P("<t>/b", b"new"), P("<t>/c", b"newer")],
               differs_in_2_1=Expect("2.0.11 waits for ever", out="<t>/a old\n", err="", code=0),
               loose="packets: ours waits for the answer to what it removed, then says DISCONNECT")
    yield Case("sub --retain-as-published", "sub", "-t <t> --retain-as-published -V 5 -C 1 -i <id> -F %r", then=[P(retain=True)])
    yield Case("sub -T", "sub", "-t <t>/# -T <t>/no/+ -T <t>/x -v -C 1 -i <id>", then=[P("<t>/no/a"), P("<t>/x"), P("<t>/yes")])
    yield Case("sub -U", "sub", "-t <t> -U <t>/u -U <t>/w -d -C 1 -i <id>", then=[Wait("UNSUBACK", 2), P()])
    yield Case("sub -E", "sub", "-t <t> -E -d -i <id>")
    yield Case("sub -E -c, then -c", "sub", "-t <t> -c -q 1 -C 1 -i <id>", before=[Session(), P(qos=1, wait=False)])
    yield Case("sub -c by 5", "sub", "-t <t> -c -q 1 -E -i <id> -V 5")
    yield Case("sub -x", "sub", "-t <t> -x 30 -E -i <id> -V 5")
    yield Case("sub -W", "sub", "-t <t> -W 1 -i <id>")
    yield Case("sub -W -d by 5", "sub", "-t <t> -W 1 -i <id> -d -V 5")
    yield Case("sub -W --quiet", "sub", "-t <t> -W 1 -i <id> --quiet")
    yield Case("sub -W after a message", "sub", "-t <t> -W 1 -i <id>", then=[P()])
    yield Case("sub -C 3 by 5", "sub", "-t <t> -C 3 -q 1 -i <id> -V 5", then=[P(qos=1), P(qos=1), P(qos=1)])
    yield Case("sub --random-filter 0", "sub", "-t <t> --random-filter 0 -C 2 -i <id>", at=None)
    yield Case("sub --random-filter 100", "sub", "-t <t> --random-filter 100 -C 2 -i <id>", then=[P(payload=b"1"), P(payload=b"2")],
               differs_in_2_1=Expect("Debian's takes 100 for ten per cent", out="1\n2\n", err="", code=0))
    yield Case("sub with properties", "sub",
               "-t <t> -U <t>/u -V 5 -C 1 -i <id> -D subscribe subscription-identifier 9 -D subscribe user-property a b "
               "-D unsubscribe user-property c d -D connect receive-maximum 3 -F %S", then=[Wait("UNSUBACK"), P()])
    yield Case("sub with a will", "sub", "-t <t> -E -i <id> --will-topic <t>/w --will-payload gone")
    yield Case("sub -k", "sub", "-t <t> -E -i <id> -k 77")
    yield Case("sub -L", "sub", "-L mqtt://127.0.0.1:<port>/<t>/# -C 1 -v -i <id>", then=[P("<t>/a")])
    yield Case("sub -L and -t", "sub", "-L mqtt://127.0.0.1:<port>/<t>/a -t <t>/b -C 2 -v -i <id>", then=[P("<t>/a"), P("<t>/b")])
    yield Case("sub --unix", "sub", "-t <t> -E -i <id>", at="unix")
    yield Case("sub with a login", "sub", "-t open/<t> -u bar -P bar-password -E -i <id>", at="auth")
    for version in ("31", "311", "5"):
        yield Case(f"sub that is not let in by {version}", "sub", f"-t a -V {version} -i <id> -d", at="auth")
        yield Case(f"sub that may not by {version}", "sub", f"-t other/<t> -u bar -P bar-password -V {version} -i <id> -d -W 2", at="auth",
                   brokers=("mosquitto",) if version == "31" else ("mosquitto", "midge"))
    for code in (1, 2, 3, 4, 5, 6):
        yield Case(f"sub refused with {code}", "sub", "-t a -i <id>", at=Script([("CONNECT", connack(code))]))
    for code in (128, 132, 135, 137):
        yield Case(f"sub by 5 refused with {code}", "sub", "-t a -i <id> -V 5", at=Script([("CONNECT", connack(code, version=5))]))
    yield Case("sub with nothing granted", "sub", "-t a -t b -d -i <id>", at=Script([("CONNECT", connack(0)), ("SUBSCRIBE", suback(128, 128))]))
    yield Case("sub with something granted", "sub", "-t a -t b -d -E -i <id>", at=Script(
        [("CONNECT", connack(0)), ("SUBSCRIBE", suback(128, 1))]))
    yield Case("sub with nothing granted by 5", "sub", "-t a -V 5 -i <id>", at=Script(
        [("CONNECT", connack(0, version=5)), ("SUBSCRIBE", suback(0x87, version=5))]))
    for number in (signal.SIGINT, signal.SIGTERM):
        for version in ("311", "5"):
            yield Case(f"sub and {number.name} by {version}", "sub", f"-t <t> -i <id> -V {version}", then=[Wait("SUBACK"), Signal(number)])
    yield Case("sub and a closed pipe", "sub", "-t <t> -i <id> -d", then=[Wait("SUBACK"), CloseOutput(), P(), P()],
               loose="packets: how many messages are written before the end is noticed")
    yield Case("sub connects again", "sub", "-t <t> -i <id> -C 1 -d", at=Script(
        [("CONNECT", connack(0)), ("SUBSCRIBE", None)],
        [("CONNECT", connack(0)), ("SUBSCRIBE", lambda body: suback(0)(body) + b"\x30\x04\x00\x01ax")]))
    yield Case("sub --debug --verbose", "sub", "--topic <t> --debug --verbose -C 1 --id <id>", then=[P()])


CASES = list(cases())
