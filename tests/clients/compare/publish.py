"""pub: where messages come from, and the packets it sends."""

from .case import Case, Expect, Input, Publish, Script, Wait, WaitSent, Watch, ack, connack

VERSIONS = ("31", "311", "5")


def cases():
    for version in VERSIONS:
        for qos in (0, 1, 2):
            yield Case(f"pub QoS {qos} by {version}", "pub", f"-t <t> -m hello -q {qos} -V mqttv{version} -d -i <id>", then=[Watch()])
    yield Case("pub without an id", "pub", "-t <t> -m hello -d", then=[Watch()])
    yield Case("pub by 3.1 without an id", "pub", "-t <t> -m hello -d -V 31")
    yield Case("pub by 5 without an id", "pub", "-t <t> -m hello -d -V 5")
    yield Case("pub -I", "pub", "-t <t> -m hello -d -I pre-")
    yield Case("pub retained", "pub", "-t <t> -m hello -r -d -i <id>", then=[Watch()])
    yield Case("pub -n", "pub", "-t <t> -n -d -i <id>", then=[Watch()])
    yield Case("pub -m empty", "pub", ["-t", "<t>", "-m", "", "-d", "-i", "<id>"], then=[Watch()])
    yield Case("pub -f", "pub", "-t <t> -f <dir>/file -i <id>", files={"file": b"line\n\0\xff\r\n"}, then=[Watch()])
    yield Case("pub -f of a large file", "pub", "-t <t> -f <dir>/file -q 1 -i <id>", files={"file": b"x" * 300_000}, then=[Watch()])
    yield Case("pub -f of no file", "pub", "-t <t> -f <dir>/nope", at=None, differs_in_2_1=Expect(
        "2.1 says why", err='Error: Unable to read file "<dir>/nope": No such file or directory.\n'
                            'Error loading input file "<dir>/nope".\n'))
    yield Case("pub -f of no file --quiet", "pub", "-t <t> -f <dir>/nope --quiet", at=None)
    yield Case("pub -f of an empty file", "pub", "-t <t> -f <dir>/file -d -i <id>", files={"file": b""}, differs_in_2_1=Expect(
        "2.1 sends it", out="Client <id> sending CONNECT\nClient <id> received CONNACK (0)\n"
                            "Client <id> sending PUBLISH (d0, q0, r0, m1, '<t>', ... (0 bytes))\nClient <id> sending DISCONNECT\n",
        err="", code=0), loose="packets: 2.0.11 sends none")
    yield Case("pub -s", "pub", "-t <t> -s -i <id>", stdin=b"all\nof it", then=[Watch()])
    yield Case("pub -s of nothing", "pub", "-t <t> -s -i <id>", at=None)
    yield Case("pub -l", "pub", "-t <t> -l -i <id>", stdin=b"one\n\nthree\nlast", then=[Watch(count=4)])
    yield Case("pub -l of nothing", "pub", "-t <t> -l -i <id> -d")
    yield Case("pub -l at QoS 1, one at a time", "pub", "-t <t> -l -q 1 -M 1 -i <id>", stdin=b"one\ntwo\n", then=[Watch(count=2)])
    yield Case("pub -l at QoS 2", "pub", "-t <t> -l -q 2 -M 1 -i <id> -d", stdin=b"one\n")
    yield Case("pub -l as it comes", "pub", "-t <t> -l -i <id>", then=[
        Watch(count=2), Input(b"one\n"), WaitSent("PUBLISH"), Input(b"two\n"), WaitSent("PUBLISH", 2)])
    yield Case("pub --repeat", "pub", "-t <t> -m x --repeat 3 -q 1 -d -i <id>", then=[Watch(count=3)])
    yield Case("pub --repeat at QoS 0", "pub", "-t <t> -m x --repeat 3 -i <id>", then=[Watch(count=3)])
    yield Case("pub --repeat --repeat-delay", "pub", "-t <t> -m x --repeat 2 --repeat-delay 0.2 -q 2 -d -i <id>", then=[Watch(count=2)])
    yield Case("pub --repeat of nothing", "pub", "-t <t> -n --repeat 2 -i <id> -q 1", then=[Watch(count=2)])
    yield Case("pub with properties", "pub",
               "-t <t> -m x -V 5 -i <id> -D publish payload-format-indicator 1 -D publish message-expiry-interval 100 "
               "-D publish content-type text/plain -D publish response-topic r -D publish correlation-data corr "
               "-D publish user-property k v -D publish user-property k w", then=[Watch()])
    yield Case("pub with properties of other packets", "pub",
               "-t <t> -m x -V 5 -i <id> -D connect session-expiry-interval 10 -D connect user-property a b "
               "-D connect request-problem-information 0 -D connect request-response-information 1 "
               "-D connect maximum-packet-size 1000 -D connect topic-alias-maximum 3 -D connect receive-maximum 7 "
               "-D disconnect session-expiry-interval 5 -D disconnect reason-string bye -D disconnect user-property c d")
    yield Case("pub -D turns 5 on", "pub", "-t <t> -m x -i <id> -D publish user-property a b")
    yield Case("pub with a topic alias", "pub", "-t <t> -m x -V 5 -i <id> -D publish topic-alias 1 --repeat 2 -q 1 -d", then=[Watch(count=2)])
    yield Case("pub with a will", "pub", "-t <t> -m x -i <id> --will-topic <t>/w --will-payload gone --will-qos 2 --will-retain")
    yield Case("pub with an empty will", "pub", "-t <t> -m x -i <id> --will-topic <t>/w")
    yield Case("pub with a will of 5", "pub",
               "-t <t> -m x -i <id> -V 5 --will-topic <t>/w --will-payload gone -D will will-delay-interval 9 -D will content-type c "
               "-D will message-expiry-interval 3 -D will response-topic r -D will correlation-data d -D will user-property a b "
               "-D will payload-format-indicator 1")
    yield Case("pub -c", "pub", "-t <t> -m x -c -i <id>")
    yield Case("pub -c by 5", "pub", "-t <t> -m x -c -i <id> -V 5")
    yield Case("pub -x", "pub", "-t <t> -m x -x 30 -i <id> -V 5")
    yield Case("pub -x for ever", "pub", "-t <t> -m x -x -1 -i <id> -V 5")
    yield Case("pub -x ∞", "pub", "-t <t> -m x -x ∞ -i <id> -V 5")
    yield Case("pub -k", "pub", "-t <t> -m x -k 5 -i <id>")
    yield Case("pub --nodelay -A", "pub", "-t <t> -m x --nodelay -A 127.0.0.1 -i <id>")
    yield Case("pub long options", "pub", "--topic <t> --message x --id <id> --qos 1 --retain --debug --protocol-version 5 --keepalive 20",
               then=[Watch()])
    yield Case("pub -L", "pub", "-L mqtt://127.0.0.1:<port>/<t> -m x -i <id>", then=[Watch()])
    yield Case("pub -L with a login", "pub", "-L mqtt://foo:foo-password@127.0.0.1:<port>/open/<t> -m x -i <id>", at="auth")
    yield Case("pub -L with a user only", "pub", "-L mqtt://foo@127.0.0.1:<port>/open/<t> -m x -i <id> -d", at="auth")
    yield Case("pub -u -P", "pub", "-t open/<t> -m x -u foo -P foo-password -i <id>", at="auth")
    yield Case("pub with a wrong password", "pub", "-t open/<t> -m x -u foo -P wrong -i <id> -d", at="auth")
    for version in VERSIONS:
        yield Case(f"pub that is not let in by {version}", "pub", f"-t a -m x -V {version} -i <id>", at="auth")
        yield Case(f"pub -l that is not let in by {version}", "pub", f"-t a -l -V {version} -i <id>", at="auth", stdin=b"x\n")
    yield Case("pub that is not let in, --quiet", "pub", "-t a -m x --quiet -i <id>", at="auth")
    yield Case("pub without the right by 5", "pub", "-t open/<t> -m x -u bar -P bar-password -V 5 -q 1 -i <id>", at="auth")
    yield Case("pub without the right by 311", "pub", "-t open/<t> -m x -u bar -P bar-password -q 1 -i <id>", at="auth")
    for code in (1, 2, 3, 4, 5, 6, 77):
        yield Case(f"pub refused with {code}", "pub", "-t a -m x -i <id>", at=Script([("CONNECT", connack(code))]))
    for code in (128, 132, 133, 134, 136, 138, 149, 151):
        yield Case(f"pub by 5 refused with {code}", "pub", "-t a -m x -i <id> -V 5", at=Script([("CONNECT", connack(code, version=5))]))
    yield Case("pub by 5 refused by a server of 3.1.1", "pub", "-t a -m x -i <id> -V 5", at=Script([("CONNECT", connack(1))]))
    for code in (0x10, 0x80, 0x87, 0x97):
        yield Case(f"pub with PUBACK {code}", "pub", "-t a -m x -q 1 -V 5 -d -i <id>", at=Script(
            [("CONNECT", connack(0, version=5)), ("PUBLISH", ack(0x40, code))]))
        yield Case(f"pub with PUBREC {code}", "pub", "-t a -m x -q 2 -V 5 -d -i <id>", at=Script(
            [("CONNECT", connack(0, version=5)), ("PUBLISH", ack(0x50, code)), ("PUBREL", ack(0x70))]))
    yield Case("pub and a server that goes", "pub", "-t a -m x -q 1 -i <id>", at=Script([("CONNECT", connack(0)), ("PUBLISH", None)]))
    yield Case("pub and a server that goes at once", "pub", "-t a -m x -q 1 -i <id>", at=Script([("CONNECT", None)]))
    yield Case("pub --unix", "pub", "-t <t> -m x -i <id>", at="unix")


CASES = list(cases())
