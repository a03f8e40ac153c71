"""rr: a request, its response, and what happens without one."""

from .case import Case, Expect, Publish, Respond, Script, Wait, connack, suback

ANSWERED = [Respond(topic="<t>/request", to="<t>/r")]

# Mosquitto's rr leaves without DISCONNECT when it has its answer, so that its will is sent; ours says good-bye.
BYE = "packets: ours says DISCONNECT at its end"


def cases():
    for version in ("311", "5"):
        yield Case(f"rr by {version}", "rr", f"-t <t>/request -e <t>/r -m ask -i <id> -V {version}", then=ANSWERED, loose=BYE)
        yield Case(f"rr -v by {version}", "rr", f"-t <t>/request -e <t>/r -m ask -i <id> -v -V {version}", then=ANSWERED, loose=BYE)
        yield Case(f"rr at QoS 1 by {version}", "rr", f"-t <t>/request -e <t>/r -m ask -q 1 -i <id> -V {version}", then=ANSWERED, loose=BYE)
    yield Case("rr by its Response Topic", "rr", "-t <t>/request -e <t>/r -m ask -i <id> -D publish correlation-data 42 -F '%D %p'",
               then=[Respond(topic="<t>/request")], loose=BYE)
    yield Case("rr -n", "rr", "-t <t>/request -e <t>/r -n -i <id>", then=ANSWERED, loose=BYE)
    yield Case("rr -f", "rr", "-t <t>/request -e <t>/r -f <dir>/file -i <id>", files={"file": "x"}, then=ANSWERED, loose=BYE)
    yield Case("rr -s", "rr", "-t <t>/request -e <t>/r -s -i <id>", stdin=b"x", then=ANSWERED, loose=BYE)
    yield Case("rr -N", "rr", "-t <t>/request -e <t>/r -m x -N -i <id>", then=ANSWERED, loose=BYE)
    yield Case("rr -W", "rr", "-t <t>/request -e <t>/r -m x -W 1 -i <id>")
    yield Case("rr -W -d", "rr", "-t <t>/request -e <t>/r -m x -W 1 -i <id> -d")
    yield Case("rr with a Response Topic of its own", "rr", "-t a -e r -m x -D publish response-topic b", at=None)
    yield Case("rr that is not let in by 5", "rr", "-t a -e r -m x -i <id>", at="auth")
    yield Case("rr that is not let in by 311", "rr", "-t a -e r -m x -i <id> -V 311", at="auth", differs_in_2_1=Expect(
        "Mosquitto looks a code of 3.1.1 up among those of 5 and says 'Unknown reason'",
        err="Connection error: Connection Refused: not authorised.\n"))
    yield Case("rr with a subscription that is refused", "rr", "-t a -e r -m x -i <id>", at=Script(
        [("CONNECT", connack(0, version=5)), ("SUBSCRIBE", suback(0x87, version=5))]), loose=BYE)
    yield Case("rr and a server that goes", "rr", "-t a -e r -m x -i <id>", at=Script([("CONNECT", connack(0, version=5)), ("SUBSCRIBE", None)]))


CASES = list(cases())
