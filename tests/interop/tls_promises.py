"""What stanzad promises of TLS, seen by OpenSSL's s_client and by our own vendored library.

Each refusal has a control: the same offer is accepted by an `openssl s_server` that takes anything,
so that it is the server which refuses, and not this machine's client.
"""

import asyncio
import os
import re

from server import free_port

OPENSSL = "/usr/bin/openssl"
STEP_SECONDS = 10
# Debian's openssl.cnf forbids what the controls need.
ENVIRONMENT = {**os.environ, "OPENSSL_CONF": "/dev/null"}
HEADER = (
    "<?xml version='1.0'?><stream:stream to='{domain}' version='1.0' xmlns='jabber:client'"
    " xmlns:stream='http://etherx.jabber.org/streams'>"
)
TLS12_SUITES = ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
TLS13_SUITES = (
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
)
GROUPS = {"X25519": "X25519", "P-256": "ECDH, prime256v1", "P-384": "ECDH, secp384r1"}
ANYTHING = "ALL:COMPLEMENTOFALL:@SECLEVEL=0"
# Offers that must be refused: domain kind, and s_client's arguments.
REFUSALS = {
    "TLS 1.0": ("ecdsa", ["-tls1", "-cipher", ANYTHING]),
    "TLS 1.1": ("ecdsa", ["-tls1_1", "-cipher", ANYTHING]),
    "TLS 1.2 with CBC suites only": (
        "ecdsa",
        [
            "-tls1_2",
            "-cipher",
            "ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA384:ECDHE-ECDSA-AES128-SHA:"
            "ECDHE-ECDSA-AES256-SHA",
        ],
    ),
    "TLS 1.2 with CBC suites only (RSA certificate)": (
        "rsa",
        ["-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA256:ECDHE-RSA-AES256-SHA"],
    ),
    "TLS 1.2 with RSA key transport only": (
        "rsa",
        ["-tls1_2", "-cipher", "AES128-GCM-SHA256:AES256-GCM-SHA384:AES128-SHA"],
    ),
    "TLS 1.2 without authentication (aNULL)": ("rsa", ["-tls1_2", "-cipher", "aNULL:@SECLEVEL=0"]),
    "TLS 1.2 with DHE only, as dhparam is not set": (
        "rsa",
        ["-tls1_2", "-cipher", "DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384"],
    ),
    "TLS 1.3 with group ffdhe2048 only": ("ecdsa", ["-tls1_3", "-groups", "ffdhe2048"]),
    "TLS 1.3 with group P-521 only": ("ecdsa", ["-tls1_3", "-groups", "P-521"]),
}


class Handshake:
    """What one run of s_client saw."""

    def __init__(self, output, status):
        self.text = output.decode(errors="replace")
        self.status = status

    @property
    def suite(self):
        """The suite agreed on, or None when there was no handshake."""
        found = re.search(r"^New, (\S+), Cipher is (\S+)", self.text, re.MULTILINE)
        return None if found is None or found[2] == "(NONE)" else found[2]

    @property
    def protocol(self):
        return re.search(r"^New, (\S+),", self.text, re.MULTILINE)[1]

    @property
    def alert(self):
        found = re.search(r"alert [a-z0-9 ]+", self.text)
        return found[0] if found else "no alert"

    def has(self, pattern):
        return re.search(pattern, self.text, re.MULTILINE) is not None

    def expect(self, pattern, what):
        assert self.has(pattern), f"{what}: nothing like {pattern!r} in {self.text}"


class Prober:
    """Runs s_client against one server."""

    def __init__(self, suite, server):
        self.server = server
        self._suite = suite

    async def _s_client(self, port, arguments, keys, until):
        process = await asyncio.create_subprocess_exec(
            OPENSSL,
            "s_client",
            "-connect",
            f"127.0.0.1:{port}",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=ENVIRONMENT,
        )
        seen = b""

        async def read():
            nonlocal seen
            while until is None or until not in seen:
                data = await process.stdout.read(65536)
                if not data:
                    return
                seen += data

        try:
            if until is None:
                process.stdin.close()
            elif keys:
                process.stdin.write(keys)
            await asyncio.wait_for(read(), STEP_SECONDS)
            if until is not None:
                process.stdin.close()
                seen += await asyncio.wait_for(process.stdout.read(), STEP_SECONDS)
            await asyncio.wait_for(process.wait(), STEP_SECONDS)
        except (BrokenPipeError, ConnectionResetError):
            await process.wait()
        except TimeoutError:
            words = seen.decode(errors="replace")
            raise AssertionError(
                f"s_client did not end, or never showed {until}: {words}"
            ) from None
        finally:
            if process.returncode is None:
                process.kill()
        return Handshake(seen, process.returncode)

    async def direct(self, *arguments, name="example.org", keys=b"", until=None):
        """Direct TLS with SNI `name` (None: no SNI)."""
        sni = ["-noservername"] if name is None else ["-servername", name]
        port = self.server.direct_port
        return await self._s_client(port, [*sni, *arguments], keys, until)

    async def starttls(
        self, *arguments, name="example.org", to="example.org", keys=b"", until=None
    ):
        """STARTTLS on a stream to `to`, with SNI `name` (None: no SNI)."""
        sni = ["-noservername"] if name is None else ["-servername", name]
        line = ["-starttls", "xmpp", "-xmpphost", to, *sni, *arguments]
        return await self._s_client(self.server.port, line, keys, until)

    async def permissive(self, kind, arguments):
        """The same offer to an `openssl s_server` that accepts anything (the control)."""
        domain = {"ecdsa": "example.org", "rsa": "rsa.example.org"}[kind]
        certificates = self._suite.certificates
        port = free_port()
        process = await asyncio.create_subprocess_exec(
            OPENSSL,
            "s_server",
            *("-accept", f"127.0.0.1:{port}", "-naccept", "1", "-cipher", ANYTHING),
            *("-cert", certificates / f"{domain}.crt", "-key", certificates / f"{domain}.key"),
            *("-groups", "X25519:P-256:P-521:ffdhe2048"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=ENVIRONMENT,
        )
        try:
            await asyncio.wait_for(process.stdout.readuntil(b"ACCEPT"), STEP_SECONDS)
            return await self._s_client(port, arguments, b"", None)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def run(suite):
    """All promises; each is one check in the report."""
    prober = Prober(suite, suite.server)
    verified = ["-CAfile", str(suite.ca), "-verify_return_error", "-verify_hostname"]
    await versions(suite, prober, verified)
    await suites_and_groups(suite, prober)
    await refusals(suite, prober)
    await names(suite, prober, verified)
    await session_rules(suite, prober)
    await post_quantum(suite)


def _check(suite, name, work, seconds=25):
    return suite.report.check("openssl s_client", name, work, seconds)


async def versions(suite, prober, verified):
    for version, protocol in (("1.2", "TLSv1.2"), ("1.3", "TLSv1.3")):
        flag = f"-tls{version.replace('.', '_')}"
        for way in (prober.direct, prober.starttls):

            async def spoken():
                seen = await way(flag, *verified, "example.org")
                assert seen.suite and seen.protocol == protocol, seen.text
                seen.expect(r"Verification: OK", "the chain")
                return seen.suite

            await _check(suite, f"TLS {version}, {way.__name__}, chain and name verified", spoken())


async def suites_and_groups(suite, prober):
    for name, kind in (("example.org", "ECDSA"), ("rsa.example.org", "RSA")):
        for tail in TLS12_SUITES:

            async def agreed():
                wanted = f"ECDHE-{kind}-{tail}"
                seen = await prober.direct("-tls1_2", "-cipher", wanted, name=name)
                assert seen.suite == wanted, seen.text

            await _check(suite, f"suite ECDHE-{kind}-{tail}", agreed())
    for wanted in TLS13_SUITES:

        async def agreed():
            seen = await prober.direct("-tls1_3", "-ciphersuites", wanted)
            assert seen.suite == wanted, seen.text

        await _check(suite, f"suite {wanted}", agreed())
    for group, shown in GROUPS.items():
        for flag in ("-tls1_2", "-tls1_3"):

            async def exchanged():
                seen = await prober.direct(flag, "-groups", group, name="rsa.example.org")
                assert seen.suite, seen.text
                seen.expect(rf"Server Temp Key: {shown}, \d+ bits", "the group")

            await _check(suite, f"group {group}, {flag}", exchanged())


async def refusals(suite, prober):
    for title, (kind, offer) in REFUSALS.items():
        name = {"ecdsa": "example.org", "rsa": "rsa.example.org"}[kind]

        async def refused():
            control = await prober.permissive(kind, offer)
            assert control.suite, f"the control failed, this proves nothing: {control.text}"
            seen = await prober.direct(*offer, name=name)
            assert seen.suite is None, f"agreed on {seen.suite}"
            seen.expect(r"alert ", "an alert")
            return seen.alert

        await _check(suite, f"refused: {title}", refused())


async def names(suite, prober, verified):
    async def by_sni():
        for name, key in (("example.org", "ECDSA"), ("rsa.example.org", "RSA")):
            for way in (prober.direct, prober.starttls):
                seen = await way(*verified, name, name=name)
                assert seen.suite, seen.text
                seen.expect(r"Verification: OK", f"{way.__name__} {name}")
                seen.expect(rf"Peer signature type: {key}", f"{way.__name__} {name}")

    async def by_stream():
        seen = await prober.starttls(*verified, "rsa.example.org", name=None, to="rsa.example.org")
        assert seen.suite, seen.text
        seen.expect(r"Verification: OK", "the certificate of the stream's `to`")

    async def unknown():
        for way in (prober.direct, prober.starttls):
            for name in ("no-such-domain.example", None):
                seen = await way(name=name)
                assert seen.suite, f"{way.__name__}, SNI {name}: {seen.text}"

    async def protocol():
        for offer in ("xmpp-client", "h2,xmpp-client"):
            seen = await prober.direct("-alpn", offer)
            seen.expect(r"^ALPN protocol: xmpp-client", f"offered {offer}")
        seen = await prober.direct()
        assert seen.suite, "a client without ALPN is refused"

    await _check(suite, "SNI chooses the certificate", by_sni(), 40)
    await _check(suite, "without SNI, the stream's `to` chooses", by_stream())
    await _check(suite, "an unknown SNI name, or none, still handshakes", unknown(), 40)
    await _check(suite, "ALPN xmpp-client answered", protocol())


async def session_rules(suite, prober):
    header = HEADER.format(domain="example.org").encode() + b"\n"
    features = b"</stream:features>"

    async def compression():
        for flag in ("-tls1_2", "-tls1_3"):
            seen = await prober.direct(flag, "-comp")
            seen.expect(r"^Compression: NONE", flag)

    async def renegotiation():
        seen = await prober.direct("-tls1_2", keys=b"", until=b"Verify return code")
        seen.expect(r"Secure Renegotiation IS supported", "RFC 5746")
        # A line that begins with R makes s_client ask for a new handshake.
        seen = await prober.direct("-tls1_2", keys=b"R\n", until=b"no renegotiation")
        seen.expect(r"^RENEGOTIATING", "s_client")

    async def tickets():
        for flag in ("-tls1_2", "-tls1_3"):
            # The features come after all that the handshake could leave behind.
            seen = await prober.direct(flag, keys=header, until=features)
            assert not seen.has(r"Session Ticket arrived|TLS session ticket:"), seen.text
            assert seen.has(r"^New, TLS"), seen.text

    async def master_secret():
        seen = await prober.direct("-tls1_2")
        seen.expect(r"Extended master secret: yes", "RFC 7627")

    await _check(suite, "no compression", compression())
    await _check(suite, "no renegotiation", renegotiation())
    await _check(suite, "no session tickets", tickets())
    await _check(suite, "extended master secret (TLS 1.2)", master_secret())


async def with_dhparam(suite, server):
    """A server with `tls.dhparam`: clients that offer nothing but DHE are served."""
    prober = Prober(suite, server)

    async def dhe(cipher):
        offer = ["-tls1_2", "-cipher", cipher]
        seen = await prober.direct(*offer, name="rsa.example.org")
        assert seen.suite == cipher, seen.text
        seen.expect(r"Server Temp Key: DH, 2048 bits", "ffdhe2048")

    async def ecdhe_first():
        both = "DHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"
        seen = await prober.direct("-tls1_2", "-cipher", both, name="rsa.example.org")
        assert seen.suite == "ECDHE-RSA-AES128-GCM-SHA256", seen.text

    for cipher in ("DHE-RSA-AES128-GCM-SHA256", "DHE-RSA-AES256-GCM-SHA384"):
        await _check(suite, f"with dhparam: {cipher}, 2048 bits", dhe(cipher))
    await _check(suite, "with dhparam: ECDHE is preferred to DHE", ecdhe_first())


async def post_quantum(suite):
    """Debian's OpenSSL is too old for the hybrid group: the library that we build has it."""
    probe = suite.options.examples / "tls_probe"
    address = f"127.0.0.1:{suite.server.direct_port}"

    async def hybrid():
        # The group is the only one that the client offers.
        process = await asyncio.create_subprocess_exec(
            probe,
            *(address, "example.org", str(suite.ca), "X25519MLKEM768"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), STEP_SECONDS)
        words = output.decode(errors="replace").strip()
        assert process.returncode == 0 and words.startswith("TLSv1.3"), words
        return words

    await suite.report.check("vendored OpenSSL", "group X25519MLKEM768", hybrid())
