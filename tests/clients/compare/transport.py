"""The way to the broker: TLS, option files, and what is not there."""

from .case import Case, Expect, Watch


TLS = "Error: A TLS error occurred.\n"
UNTRUSTED = TLS + ("The server's certificate '<subject>' comes from '<issuer>', an authority that is not trusted here: name the "
                   "file of that authority (--cafile).\n")
UNASKED = TLS + "The server wants a certificate of ours: give one with --cert and --key.\n"


def cases():
    for tool, rest in (("pub", "-t <t> -m x"), ("sub", "-t <t> -E")):
        base = f"{rest} -i <id>"
        yield Case(f"{tool} with TLS", tool, f"{base} --cafile <certs>/ca.crt", at="tls")
        yield Case(f"{tool} with --capath", tool, f"{base} --capath <certs>/hashed", at="tls")
        yield Case(f"{tool} with TLS 1.2", tool, f"{base} --cafile <certs>/ca.crt --tls-version tlsv1.2", at="tls")
        yield Case(f"{tool} with TLS 1.3", tool, f"{base} --cafile <certs>/ca.crt --tls-version tlsv1.3", at="tls")
        yield Case(f"{tool} with a bad TLS version", tool, f"{base} --cafile <certs>/ca.crt --tls-version tlsv1.9", at="tls")
        yield Case(f"{tool} with --ciphers", tool, f"{base} --cafile <certs>/ca.crt --ciphers ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256",
                   at="tls")
        yield Case(f"{tool} with --tls-alpn", tool, f"{base} --cafile <certs>/ca.crt --tls-alpn mqtt", at="tls")
        yield Case(f"{tool} with --insecure", tool, f"-h 127.0.0.1 {base} --cafile <certs>/ca.crt --insecure", at="tls")
        yield Case(f"{tool} with a certificate", tool, f"{base} --cafile <certs>/ca.crt --cert <certs>/meter.crt --key <certs>/meter.key",
                   at="mutual")
        yield Case(f"{tool} with mqtts://", tool, f"-L mqtts://localhost:<tls>/<t> -i <id> --cafile <certs>/ca.crt " + ("-m x" if tool == "pub" else "-E"), at="tls")
        yield Case(f"{tool} to a port where nobody is", tool, f"-h 127.0.0.1 -p <closed> {rest}", at="bare")
        yield Case(f"{tool} to a port where nobody is, --quiet", tool, f"-h 127.0.0.1 -p <closed> {rest} --quiet", at="bare")
        yield Case(f"{tool} to a name that is none", tool, f"-h no.such.name.invalid {rest}", at="bare")
        yield Case(f"{tool} to a socket that is none", tool, f"--unix <dir>/nope {rest}", at="bare")
        yield Case(f"{tool} from an address that is not ours", tool, f"{rest} -A 192.0.2.1")
        yield Case(f"{tool} with a CA file that is not there", tool, f"{rest} --cafile <dir>/nope", at="tls")
        yield Case(f"{tool} with half a certificate", tool, f"{rest} --cafile <certs>/ca.crt --cert <certs>/meter.crt", at="tls")
        yield Case(f"{tool} with the wrong authority", tool, f"{rest} --cafile <others>/ca.crt", at="tls", differs_in_2_1=Expect(
            "Debian's has two sentences and codes for this, by chance; ours says below what is wrong", code=8, err=UNTRUSTED))
        yield Case(f"{tool} without the certificate that is asked for", tool, f"{rest} --cafile <certs>/ca.crt", at="mutual",
                   differs_in_2_1=Expect("Debian's says that the connection was lost", code=8, err=UNASKED))
        name = f"mosquitto_{tool}"
        options = f"# defaults\n-h 127.0.0.1\n-p <port>\n-i <id>\n-q 1\n-d\n"
        yield Case(f"{tool} with options of HOME", tool, rest, files={f"home/.config/{name}": options})
        yield Case(f"{tool} with options of XDG_CONFIG_HOME", tool, rest, files={f"xdg/{name}": options}, env={"XDG_CONFIG_HOME": "<dir>/xdg"})
        yield Case(f"{tool} whose arguments come after the options", tool, f"{rest} -q 0", files={f"home/.config/{name}": options})
        yield Case(f"{tool} with a bad option in a file", tool, rest, at="bare", files={f"home/.config/{name}": "-h 127.0.0.1\n--nonsense\n"})
        yield Case(f"{tool} -o", tool, f"{rest} -o <dir>/options", files={"options": options.replace("-d\n", "")}, ours_only=Expect("new in 2.1", code=0, err=""))


CASES = list(cases())
