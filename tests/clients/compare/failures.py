"""What only ours or only 2.1 knows."""

from .case import Case, Expect, Publish, Wait

CASES = [
    Case("sub --message-rate", "sub", "-t <t> --message-rate -W 2 -i <id>", then=[Publish(), Publish()],
         ours_only=Expect("new in 2.1", out="2 msgs/s\n0 msgs/s\n", err="Timed out\n", code=27)),
    Case("sub --retain-handling never", "sub", "-t <t> --retain-handling never -V 5 -C 1 -i <id>",
         before=[Publish(payload=b"old", retain=True)], then=[Publish(payload=b"new")],
         ours_only=Expect("new in 2.1", out="new\n", err="", code=0)),
    Case("sub -w", "sub", "-t <t>/# -w -C 3 -i <id> -h 127.0.0.1 -p <port>", then=[Publish("<t>/a", b"1"), Publish("<t>/b", b"2"), Publish("<t>/a", b"3")],
         ours_only=Expect("new in 2.1", err="", code=0,
                          out="\x1b[2J\x1b[1;1HBroker: 127.0.0.1\n\x1b[2;1H1\n\x1b[2;1H\n\x1b[3;1H2\n\x1b[3;1H\n\x1b[2;1H3\n\x1b[3;1H\n")),
    Case("sub -F with separators", "sub", "-t <t> -C 1 -i <id> -F '%.2x|%.4:X|%.1-x'", then=[Publish()],
         ours_only=Expect("new in 2.1", out="68 65 6c 6c 6f|6865:6C6C:6F|6-8-6-5-6-c-6-c-6-f\n", err="", code=0)),
    Case("sub -F %f %d", "sub", "-t <t> -C 1 -i <id> -F '%.2f'", then=[Publish(payload=b"\x00\x00\xa0\xbf")],
         ours_only=Expect("new in 2.1", out="-1.25\n", err="", code=0)),
    Case("pub --tls-keylog", "pub", "-t <t> -m x -i <id> --cafile <certs>/ca.crt --tls-keylog <dir>/keys", at="tls",
         ours_only=Expect("new in 2.1", out="", err="", code=0)),
    Case("pub --no-tls", "pub", "-t <t> -m x -i <id> --cafile <certs>/ca.crt --no-tls", ours_only=Expect("new in 2.1", out="", err="", code=0)),
    Case("pub --psk", "pub", "-t a -m x --psk 1234 --psk-identity me", at=None,
         ours_only=Expect(
             "rustls has no pre-shared keys", code=1,
             err="Error: TLS with a pre-shared key is not supported; use certificates (--cafile, --cert, --key) instead of --psk.\n")),
]
