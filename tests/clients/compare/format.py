"""-F: every escape with flags, widths and precisions, on payloads of all kinds; -v, %j and %J with properties."""

from .case import Case, Expect, Publish
from .request import ANSWERED, BYE

PROPERTIES = [("payload-format-indicator", 1), ("message-expiry-interval", 100), ("content-type", "text"), ("response-topic", "r/t"),
              ("correlation-data", b"corr"), ("user-property", ("k1", "v1")), ("user-property", ("k2", "v2"))]

PLAIN = ["%t %p", "%%|@@|\\\\\\\\", "%l|%5l|%-5l|%05l", "%m|%q|%r", "%8p|%-8p|%3p|%08p", "%-p|", "%5t|%-5t|%.1t|%12.3t|%-12.3t|%012t",
         "%x|%X", "a\\\\tb\\\\nc\\\\rd\\\\ve\\\\af\\\\eg", "%A|%C|%D|%F|%P|%R|%S", "%3A|%3C|%3D|%03E|%3F|%3P|%3R|%3S",
         "%I", "%U", "%40I|%-40I|", "@Y-@m-@dT@H", "%j", "%J", "ä%tö", "[%p]"]
PAYLOADS = {"text": b"hello", "nothing": b"", "binary": b"\x01\xff\n\x7f", "json": b'{"a":[1,2.50,-3e2,"x\\u00e4\\n"],"b":{},"c":null,"a":true}'}


def cases():
    for text in PLAIN:
        for kind, payload in PAYLOADS.items():
            if text == "%J" and kind == "binary":
                continue
            yield Case(f"-F {text} of {kind}", "sub", f"-t <t> -C 1 -q 1 -i <id> -F '{text}'", then=[Publish(payload=payload, qos=1)],
                       brokers=("mosquitto",))
    for text in ("%A|%C|%D|%E|%F|%P|%R|%S", "%3A|%-8C|%8C|%.2C|%-5F|%05F|%8R|%-8R|%06S", "%j", "%J", "%E|%8E|%-8E|%08E"):
        yield Case(f"-F {text} with properties", "sub", f"-t <t> -C 1 -q 1 -i <id> -V 5 -D subscribe subscription-identifier 5 -F '{text}'",
                   then=[Publish(payload=b"1", qos=1, properties=PROPERTIES)], brokers=("midge",))
    for text in ("%j", "%J"):
        yield Case(f"-F {text} --pretty", "sub", f"-t <t> -C 1 -i <id> -V 5 --pretty -F '{text}'",
                   then=[Publish(payload=PAYLOADS["json"], properties=PROPERTIES)])
        yield Case(f"-F {text} retained at QoS 2", "sub", f"-t <t> -C 1 -q 2 -i <id> -F '{text}'",
                   before=[Publish(payload=b'"x"', qos=2, retain=True)])
    for payload in (b"1", b" 1 ", b"1e3", b"0.1", b"123456789012345678", b"01", b"tru", b"[1,]", b'"\\ud83d\\ude00"', b"[[[]]]",
                    b'{"a" : 1 , "b" : "/" }', b"1.7976931348623157e308", b"-0", b"12345678901", b"0.30000000000000004", b"\xef\xbb\xbf1",
                    b'"tab\there"', b"{}x"):
        yield Case(f"%J of {payload!r}", "sub", "-t <t> -C 1 -i <id> -F '<%J>'", then=[Publish(payload=payload)], brokers=("mosquitto",))
    yield Case("%J with a NUL", "sub", "-t <t> -C 1 -i <id> -F '%J'", then=[Publish(payload=b'"a\\u0000b"')], differs_in_2_1=Expect(
        "cJSON ends the string at the NUL",
        out='{"tst":"<time31>","topic":"<t>","qos":0,"retain":false,"payloadlen":10,"payload":"a\\u0000b"}\n', err="", code=0))
    yield Case("-F -N", "sub", "-t <t> -C 2 -i <id> -N -F '%p;'", then=[Publish(payload=b"1"), Publish(payload=b"2")])
    yield Case("-F in rr", "rr", "-t <t>/request -e <t>/r -m x -i <id> -F '%t:%p'", then=ANSWERED, loose=BYE)
    yield Case("-F %x with widths", "sub", "-t <t> -C 1 -i <id> -F '%14x|%-14x|%2x|%014X'", then=[Publish()], differs_in_2_1=Expect(
        "2.1 counts the width in digits", out="    68656c6c6f|68656c6c6f    |6865|000068656C6C6F\n", err="", code=0))


CASES = list(cases())
