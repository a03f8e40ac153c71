"""Arguments that are wrong: what each option says that lacks its value or has a bad one, and the usage texts."""

from .case import Case, Expect

TOOLS = ("pub", "sub", "rr")
# Enough for each tool to go on to the option under test.
BASE = {"pub": "-t a -m b", "sub": "-t a", "rr": "-t a -e r -m b"}

VALUES = ["-A", "--cafile", "--capath", "--cert", "--ciphers", "-D", "-h", "-i", "-I", "-k", "--key", "-L", "-M", "-p", "-P",
          "--proxy", "-q", "-t", "--tls-alpn", "--tls-version", "-u", "--unix", "-V", "--will-payload", "--will-qos",
          "--will-topic", "-x"]
OWN = {"pub": ["-f", "-m", "--repeat", "--repeat-delay"], "sub": ["-C", "-F", "-T", "-U", "-W", "--random-filter"],
       "rr": ["-e", "-f", "-F", "-m", "-W"]}

BAD = {
    "pub": ["-k 4", "-k 65536", "-k x", "-q 3", "-q -1", "-p -1", "-p 65536", "-V 6", "-V mqttv4", "-M 65536",
            "--will-qos 3", "--will-topic a/# --will-payload x", "--will-payload x", "--will-retain", "-i a -I b", "-I b -i a",
            "-L http://a/b", "-L mqtt://", "-L mqtt://host", "--proxy http://a", "--repeat 0", "--repeat -3",
            "--repeat-delay -1", "-m x -f y", "-f y -m x", "-n -m x", "-l -m x", "-s -n", "-l -n", "-m x -s", "--nonsense", "-Z",
            "-t a/#", "-t a/+/b", "-c", "-x 5x", "-x 4294967296 -V 5", "-x -2", "--cert c", "--key k", "--cafile /nope",
            "--keyform pem", "-C 1", "-v", "-W 1", "-R", "--pretty", "-E", "-T a", "-U a", "-e r", "-F %p"],
    "sub": ["-t a/#/b", "-t a+", "-T a/#/b", "-U #/a", "-F %", "-F %z", "-F \\\\q", "-F @", "-C 0", "-C -1", "-W 0", "-W x",
            "-R --retained-only", "--random-filter -1", "--random-filter 101", "-c", "-c -I pre", "-m x", "-l", "-n", "-r",
            "--repeat 2", "-e r", "--latency", "-q 3", "-t"],
    "rr": ["-e a/#", "-t a/+", "-W -1", "-l", "-C 1", "-U a", "-T a", "-E", "--retained-only", "--random-filter 5"],
}

LACKING = {"pub": ["-t a", "-m a", "", "-t a -q 1"], "sub": ["", "-q 1"], "rr": ["-t a -m b", "-t a -e b", "-e b -m c", ""]}

PROPERTIES = ["connect", "connect session-expiry-interval", "connect nonsense 1", "nonsense user-property a b", "publish content-type",
              "publish user-property a", "publish topic-alias", "publish session-expiry-interval 1", "publish correlation-data",
              "connect receive-maximum 0x", "subscribe content-type a", "unsubscribe response-topic a", "disconnect topic-alias 1",
              "auth authentication-method a", "connack reason-string a", "publish payload-format-indicator 256",
              "publish message-expiry-interval -1", "subscribe subscription-identifier -1"]

HINT = "\n\nUse 'mosquitto_pub --help' to see usage.\n"

CHANGED = {
    "-L http://a/b": Expect("2.1 begins with a capital", err="Error: Unsupported URL scheme.\n" + HINT),
    "-D connect nonsense 1": Expect("2.1 names the word", err="Error: Invalid property name nonsense given in --property argument.\n" + HINT),
    "-D nonsense user-property a b": Expect("2.1 names the word", err="Error: Invalid command nonsense given in --property argument.\n" + HINT),
    "-D connect receive-maximum 0x": Expect(
        "2.1 finds it when it connects",
        err="Unable to connect (A network protocol error occurred when communicating with the broker.).\n"),
    # Written from the source of 2.1, where it says more than 2.0.11.
    "sub -q 1": Expect("2.1 names -U too",
                       err="Error: You must specify a topic to subscribe to (-t) or unsubscribe from (-U).\n\n"
                           "Use 'mosquitto_sub --help' to see usage.\n"),
    "sub ": Expect("2.1 names -U too",
                   err="Error: You must specify a topic to subscribe to (-t) or unsubscribe from (-U).\n\n"
                       "Use 'mosquitto_sub --help' to see usage.\n"),
}


def cases():
    for tool in TOOLS:
        for option in ("--help", "--version"):
            yield Case(f"{tool} {option}", tool, option, at=None, usage=True)
        for option in VALUES + OWN[tool]:
            yield Case(f"{tool} {option} without a value", tool, f"{BASE[tool]} {option}", at=None)
        for text in BAD[tool]:
            yield Case(f"{tool} with {text}", tool, f"{BASE[tool]} {text}", at=None, differs_in_2_1=CHANGED.get(text))
        for text in LACKING[tool]:
            yield Case(f"{tool} with only '{text}'", tool, text, at=None, usage=tool == "pub",
                       differs_in_2_1=CHANGED.get(f"{tool} {text}"))
    for text in PROPERTIES:
        yield Case(f"pub -D {text}", "pub", f"{BASE['pub']} -D {text}", at=None, differs_in_2_1=CHANGED.get(f"-D {text}"))


CASES = list(cases())
