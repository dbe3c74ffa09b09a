"""SCRAM with channel binding, by a small client of our own on pyOpenSSL.

Clients in the field only send what is right. This one also sends a wrong binding and a stripped
offer, which the server must refuse, and it knows both binding types on TLS 1.2 and 1.3.
"""

import base64
import hashlib
import hmac
import os
import select
import socket
import time
from xml.etree import ElementTree

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

STEP_SECONDS = 10
SASL = "{urn:ietf:params:xml:ns:xmpp-sasl}"
STREAMS = "{http://etherx.jabber.org/streams}"
CHANNEL_BINDING = "{urn:xmpp:sasl-cb:0}"
EXPORTER = "tls-exporter"
END_POINT = "tls-server-end-point"


class Refused(Exception):
    """The server ended the exchange with a SASL failure; the text is its condition."""


class BoundStream:
    """A direct TLS stream up to the features, and SASL on it."""

    def __init__(self, port, domain, ca, version):
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.load_verify_locations(str(ca))
        context.set_verify(SSL.VERIFY_PEER, None)
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
        context.set_alpn_protos([b"xmpp-client"])
        self._socket = socket.create_connection(("127.0.0.1", port), STEP_SECONDS)
        self.tls = SSL.Connection(context, self._socket)
        self.tls.set_tlsext_host_name(domain.encode())
        self.tls.set_connect_state()
        self._retry(self.tls.do_handshake)
        self._parser = ElementTree.XMLPullParser(["start", "end"])
        self._depth = 0
        self.domain = domain
        self.write(
            f"<?xml version='1.0'?><stream:stream to='{domain}' version='1.0' xmlns='jabber:client'"
            " xmlns:stream='http://etherx.jabber.org/streams'>"
        )
        features = self.element()
        assert features.tag == f"{STREAMS}features", f"not features: {features.tag}"
        self.mechanisms = [m.text for m in features.iter(f"{SASL}mechanism")]
        self.bindings = [b.get("type") for b in features.iter(f"{CHANNEL_BINDING}channel-binding")]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    def _retry(self, call, *arguments):
        deadline = time.monotonic() + STEP_SECONDS
        while True:
            try:
                return call(*arguments)
            except SSL.WantReadError:
                left = deadline - time.monotonic()
                if left <= 0 or not select.select([self._socket], [], [], left)[0]:
                    raise TimeoutError("the server is silent") from None

    def write(self, text):
        self._retry(self.tls.sendall, text.encode())

    def element(self):
        """The next child of the stream."""
        while True:
            for event, element in self._parser.read_events():
                self._depth += 1 if event == "start" else -1
                if event == "end" and self._depth == 1:
                    return element
            self._parser.feed(self._retry(self.tls.recv, 65536))

    def binding(self, kind):
        """The binding's bytes, computed on this side (RFC 9266 §2, RFC 5929 §4)."""
        if kind == EXPORTER:
            return self.tls.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")
        certificate = self.tls.get_peer_certificate().to_cryptography()
        digest = certificate.signature_hash_algorithm.name
        name = "sha256" if digest in ("md5", "sha1") else digest
        return hashlib.new(name, certificate.public_bytes(Encoding.DER)).digest()

    def scram(self, mechanism, username, password, flag, data=b""):
        """One SCRAM exchange (RFC 5802 §5). `flag` is the gs2-cbind-flag, `data` its binding.

        Raises Refused; AssertionError when the server's own proof is wrong.
        """
        digest = mechanism.removeprefix("SCRAM-").removesuffix("-PLUS").replace("-", "").lower()

        def mac(key, message):
            return hmac.digest(key, message, digest)

        header = f"{flag},,"
        bare = f"n={username},r={base64.b64encode(os.urandom(18)).decode()}"
        first = base64.b64encode(f"{header}{bare}".encode()).decode()
        self.write(f"<auth xmlns='{SASL[1:-1]}' mechanism='{mechanism}'>{first}</auth>")
        server_first = self._challenge("challenge")
        fields = dict(field.split("=", 1) for field in server_first.split(","))
        assert fields.get("h") == self._offer_hash(digest), (
            "the hash of the offer is missing or wrong"
        )
        salted = hashlib.pbkdf2_hmac(
            digest, password.encode(), base64.b64decode(fields["s"]), int(fields["i"])
        )
        bound = base64.b64encode(header.encode() + data).decode()
        without_proof = f"c={bound},r={fields['r']}"
        message = f"{bare},{server_first},{without_proof}".encode()
        client_key = mac(salted, b"Client Key")
        signature = mac(hashlib.new(digest, client_key).digest(), message)
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        final = f"{without_proof},p={base64.b64encode(proof).decode()}"
        self.write(
            f"<response xmlns='{SASL[1:-1]}'>{base64.b64encode(final.encode()).decode()}</response>"
        )
        verdict = self._challenge("success")
        expected = base64.b64encode(mac(mac(salted, b"Server Key"), message)).decode()
        assert verdict == f"v={expected}", "the server's signature is wrong"

    def _offer_hash(self, digest):
        """What protects the lists of mechanisms and bindings from a change (XEP-0474 §6.1)."""
        offer = "\x1e".join(sorted(self.mechanisms))
        if self.bindings:
            offer += "\x1f" + "\x1e".join(sorted(self.bindings))
        return base64.b64encode(hashlib.new(digest, offer.encode()).digest()).decode()

    def _challenge(self, name):
        answer = self.element()
        if answer.tag == f"{SASL}failure":
            raise Refused(answer[0].tag.removeprefix(SASL))
        assert answer.tag == f"{SASL}{name}", f"not {name}: {answer.tag}"
        return base64.b64decode(answer.text).decode()


def _opened(port, domain, ca, version="1.3"):
    versions = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}
    return BoundStream(port, domain, ca, versions[version])


def announced(port, domain, ca):
    """-PLUS is offered for each hash, and both binding types are announced (XEP-0440 §3)."""
    with _opened(port, domain, ca) as stream:
        for digest in ("SHA-1", "SHA-256", "SHA-512"):
            for name in (f"SCRAM-{digest}", f"SCRAM-{digest}-PLUS"):
                assert name in stream.mechanisms, f"{name} is not in {stream.mechanisms}"
        assert set(stream.bindings) == {EXPORTER, END_POINT}, f"announced: {stream.bindings}"
        return " ".join(stream.mechanisms)


def accepted(port, domain, ca, account, password, kind, version, digest):
    """The right binding logs in."""
    with _opened(port, domain, ca, version) as stream:
        data = stream.binding(kind)
        stream.scram(f"SCRAM-{digest}-PLUS", account, password, f"p={kind}", data)


def unbound(port, domain, ca, account, password):
    """A client that knows no binding, and says so, logs in by plain SCRAM."""
    with _opened(port, domain, ca) as stream:
        stream.scram("SCRAM-SHA-256", account, password, "n")


def refused(port, domain, ca, account, password, mechanism, flag, data):
    """This exchange fails; `data` maps a stream to the binding sent. Yields the condition."""
    with _opened(port, domain, ca) as stream:
        # Otherwise the refusal would be one of the mechanism and prove nothing.
        assert mechanism in stream.mechanisms, f"{mechanism} is not in {stream.mechanisms}"
        try:
            stream.scram(mechanism, account, password, flag, data(stream))
        except Refused as refusal:
            return str(refusal)
    raise AssertionError("the server let it in")


def flipped(data):
    """The same bytes with one bit of the last changed."""
    return data[:-1] + bytes([data[-1] ^ 1])


def refusals():
    """Name, mechanism, gs2 flag and binding of each exchange that must fail."""
    plus, plain = "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"
    return [
        ("wrong tls-exporter", plus, f"p={EXPORTER}", lambda s: flipped(s.binding(EXPORTER))),
        (
            "wrong tls-server-end-point",
            plus,
            f"p={END_POINT}",
            lambda s: flipped(s.binding(END_POINT)),
        ),
        (
            "one binding under the other's name",
            plus,
            f"p={EXPORTER}",
            lambda s: s.binding(END_POINT),
        ),
        ("empty binding", plus, f"p={EXPORTER}", lambda _: b""),
        # The peer's Finished would be tls-unique, which TLS 1.3 does not have.
        ("binding that is not offered (tls-unique)", plus, "p=tls-unique", lambda _: b"x" * 12),
        # RFC 5802 §6: the client could bind but saw no offer of it, so someone took that out.
        ("stripped -PLUS offer ('y' flag)", plain, "y", lambda _: b""),
        ("-PLUS without a binding ('n' flag)", plus, "n", lambda _: b""),
        (
            "binding with a mechanism that has none",
            plain,
            f"p={EXPORTER}",
            lambda s: s.binding(EXPORTER),
        ),
    ]
