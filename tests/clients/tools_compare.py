#!/usr/bin/env python3
"""Proves that midge's pub, sub and rr are what mosquitto_pub, mosquitto_sub and mosquitto_rr are.

    tools_compare.py MIDGE [--only TEXT] [--reference-only] [--list] [--show]

Each case is a command line that is run with Debian's tool (2.0.11) and with ours, once against Debian's mosquitto and
once against midge as the broker. Standard output, standard error, the exit code and the packets that the tool sent must
be the same byte for byte. Where 2.1 is not 2.0.11, or where Midge is different on purpose, the case says why and what is
expected. The cases are in compare/, data all of them; compare/run.py says what is replaced before the comparison.

--reference-only runs Debian's tools twice and compares these runs: it proves that the cases mean something.
--only TEXT runs the cases whose names contain TEXT; --list names them; --show prints what Debian's tools do.

Prints `ok NAME` or `not ok NAME` with a diff, then `N passed, M failed`; exits with 1 if any failed.
"""

import argparse
import concurrent.futures
import difflib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True

from compare import format as format_cases  # noqa: E402
from compare import failures, publish, request, subscribe, transport, usage  # noqa: E402
from compare.broker import Broker  # noqa: E402
from compare.run import Outcome, Runner  # noqa: E402

WORKERS = 4
ATTEMPTS = 3
DEBIAN = "/usr/bin"
MOSQUITTO = "/usr/sbin/mosquitto"
MODULES = [usage, publish, subscribe, format_cases, request, transport, failures]


def all_cases():
    cases = [one for module in MODULES for one in module.CASES]
    names = [one.name for one in cases]
    double = {name for name in names if names.count(name) > 1}
    if double:
        raise SystemExit(f"names that come twice: {', '.join(sorted(double))}")
    return list(enumerate(cases))


def tools_of(midge, directory):
    """A directory in which the tools have the names that scripts use."""
    os.makedirs(directory)
    for tool in ("pub", "sub", "rr"):
        os.symlink(os.path.abspath(midge), os.path.join(directory, "mosquitto_" + tool))
    return directory


def set_up(directory):
    """Certificates of two authorities, and the passwords of foo and bar."""
    make = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../conf/make-certs")
    certs, others = os.path.join(directory, "certs"), os.path.join(directory, "others")
    for path in (certs, others):
        subprocess.run([make, "--client", "meter", path], check=True, stdout=subprocess.DEVNULL)
    # A directory for --capath names each certificate by a hash of its subject.
    capath = os.path.join(certs, "hashed")
    os.makedirs(capath)
    shutil.copy(os.path.join(certs, "ca.crt"), capath)
    subprocess.run(["openssl", "rehash", capath], check=True, stdout=subprocess.DEVNULL)
    passwords = os.path.join(directory, "passwords")
    open(passwords, "w", encoding="utf-8").close()
    os.chmod(passwords, 0o600)
    for user in ("foo", "bar"):
        subprocess.run(["mosquitto_passwd", "-b", passwords, user, user + "-password"], check=True)
    return certs, others, passwords


def shape_of_usage(outcome):
    """The first line and the options that a usage text names. Its sentences are our own."""
    text = outcome.out.decode()
    options = sorted(set(re.findall(r"(?<![\w-])(--?[A-Za-z][\w-]*)", text)))
    return text.split("\n", 1)[0], options


def as_2_1(text):
    """What 2.0.11 printed, as 2.1 prints it: a client without an id, and a topic that an alias stands for, are `null`;
    in JSON, `retain` is true or false, the time has no Z before its zone, and user properties are an array, since a name may
    come twice."""
    text = text.replace(b"Client (null) ", b"Client null ").replace(b"'(null)'", b"'null'")
    text = re.sub(rb'("retain":\t?)([01])', lambda found: found[1] + (b"true" if found[2] == b"1" else b"false"), text)
    text = text.replace(b'"user-properties":{"k1":"v1","k2":"v2"}', b'"user-properties":[{"k1":"v1"},{"k2":"v2"}]')
    text = text.replace(b'"user-properties":\t{\n\t\t\t"k1":\t"v1",\n\t\t\t"k2":\t"v2"\n\t\t}',
                        b'"user-properties":\t[{\n\t\t\t\t"k1":\t"v1"\n\t\t\t}, {\n\t\t\t\t"k2":\t"v2"\n\t\t\t}]')
    return text.replace(b"<time32>", b"<time31>")


def wanted(case, number, reference, fill):
    """What ours must do: what Debian's tool does, but for what the case says."""
    expect = case.ours_only or case.differs_in_2_1
    if reference is not None:
        reference.out = as_2_1(reference.out)
    if expect is None:
        return reference
    base = reference or Outcome(b"", b"", 0, None)
    as_bytes = lambda text, other: other if text is None else fill(text.encode() if isinstance(text, str) else text)
    return Outcome(
        as_bytes(expect.out, base.out), as_bytes(expect.err, base.err),
        base.code if expect.code is None else expect.code,
        base.sent if expect.sent is None else [fill(line) for line in expect.sent])


class Session:
    def __init__(self, options, directory):
        self.options, self.directory = options, directory
        certs = set_up(directory)
        midge = os.path.abspath(options.midge)
        self.brokers = []
        sides = {"first": DEBIAN, "second": DEBIAN}
        if not options.reference_only and not options.show:
            sides = {"reference": DEBIAN, "ours": tools_of(midge, os.path.join(directory, "ours-tools"))}
        elif options.show:
            sides = {"reference": DEBIAN}
        self.runners = {}
        for kind, command in (("mosquitto", [MOSQUITTO]), ("midge", [midge])):
            for side, tools in sides.items():
                broker = Broker(command, kind, os.path.join(directory, f"{kind}-{side}"), *certs)
                self.brokers.append(broker)
                cases = os.path.join(directory, f"{kind}-{side}-cases")
                self.runners[kind, side] = Runner(tools, broker, cases)

    def check(self, number, case):
        """Name and complaint (None if there is none), for each broker that the case is run with."""
        results = []
        brokers = case.brokers if case.at not in (None, "bare") else case.brokers[:1]
        if not isinstance(case.at, str):
            brokers = brokers[:1]
        for kind in brokers:
            name = case.name if len(brokers) == 1 else f"{case.name} ({kind})"
            try:
                results.append((name, self.complaint(number, case, kind)))
            except Exception as error:  # a case that breaks the runner is a failed case, not the end of the suite
                results.append((name, [f"{type(error).__name__}: {error}"]))
        return results

    def complaint(self, number, case, kind):
        run = lambda side: self.runners[kind, side].run(number, case)
        if self.options.show:
            return ["(ours only)"] if case.ours_only else run("reference").lines()
        if self.options.reference_only:
            if case.ours_only:
                return None
            return difference(run("first"), run("second"))
        reference = None if case.ours_only else run("reference")
        ours = run("ours")
        if case.usage:
            return difference_of_usage(reference, ours, case)
        places = {"<t>": f"c{number}", "<id>": f"id{number}"}

        def fill(text):
            for place, value in places.items():
                text = (text.replace(place.encode(), value.encode()) if isinstance(text, bytes)
                        else text.replace(place, value))
            return text
        complaint = None
        for _ in range(ATTEMPTS):
            want = wanted(case, number, reference, fill)
            if want.sent is None:
                want.sent = ours.sent  # a case of ours alone that says nothing about packets
            say_good_bye(want, ours)
            complaint = difference(want, ours)
            if complaint is None or reference is None:
                break
            # Debian's tools race with themselves now and then (a signal that is missed, packets that cross): ours, which
            # is not run again, must do what they do at least once.
            reference = run("reference")
        return complaint

    def stop(self):
        return [f"the broker {one.kind} ended with {code}" for one in self.brokers if (code := one.stop()) != 0]


def say_good_bye(want, have):
    """Debian's tools may end before their DISCONNECT is written; that ours is there is no difference then."""
    without = [line for line in have.sent or [] if not line.startswith("DISCONNECT")]
    if want.sent == without:
        want.sent = have.sent


def difference(want, have):
    failed = [line for line in (have.sent or []) if line.startswith(("step failed", "not received"))]
    if want.lines() == have.lines() and want.out == have.out and want.err == have.err:
        # The same failure in both is no proof of anything.
        return failed or (["it did not end"] if have.code == "does not end" else None)
    return list(difflib.unified_diff(want.lines(), have.lines(), "expected", "received", lineterm="", n=2))


def difference_of_usage(reference, ours, case):
    expect = case.ours_only or case.differs_in_2_1
    code = reference.code if expect is None or expect.code is None else expect.code
    complaint = [] if ours.code == code else [f"exit code {ours.code}, expected {code}"]
    first, options = shape_of_usage(reference)
    our_first, our_options = shape_of_usage(ours)
    if expect is not None and expect.out is not None:
        first = expect.out
    if not our_first.startswith(first.split(" ", 1)[0]):
        complaint.append(f"first line {our_first!r}, expected {first!r}")
    missing = [one for one in options if one not in our_options]
    if missing:
        complaint.append(f"not named: {' '.join(missing)}")
    return complaint or None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("midge")
    parser.add_argument("--only", default="")
    parser.add_argument("--reference-only", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--show", action="store_true")
    options = parser.parse_args()
    cases = [(number, case) for number, case in all_cases() if options.only in case.name]
    if options.list:
        for _, case in cases:
            print(case.name)
        print(f"{len(cases)} cases")
        return 0
    passed = failed = 0
    begun = time.monotonic()
    os.umask(0o077)
    with tempfile.TemporaryDirectory(prefix="compare-") as directory:
        session = Session(options, directory)
        try:
            # Those that wait for a second or more come first, so that no worker is left with one at the end.
            cases.sort(key=lambda pair: "-W" not in str(pair[1].args))
            with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
                for results in pool.map(lambda pair: session.check(*pair), cases):
                    for name, complaint in results:
                        if options.show:
                            print(f"== {name}", *complaint, sep="\n   ")
                        elif complaint is None:
                            print(f"ok {name}")
                            passed += 1
                        else:
                            print(f"not ok {name}", *complaint, sep="\n    ")
                            failed += 1
                        sys.stdout.flush()
        finally:
            for complaint in session.stop():
                print(f"not ok {complaint}")
                failed += 1
    print(f"{len(cases)} cases in {time.monotonic() - begun:.0f} s")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
