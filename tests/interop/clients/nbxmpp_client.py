"""Obeys the suite's commands (see client.py) with nbxmpp, Gajim's library, over GLib and GnuTLS.

With "binding" in a `connect` command ("tls-exporter" or "tls-server-end-point") it logs in by a
-PLUS mechanism. nbxmpp has these mechanisms, but leaves them off: PyGObject crashes when it hands
over the bytes of `g_tls_connection_get_channel_binding_data`. Here ctypes calls that function, so
the binding is GnuTLS's own, and nbxmpp's mechanism does the rest.
"""

import ctypes
import json
import sys

from gi.repository import Gio, GLib
from nbxmpp.client import Client
from nbxmpp.const import ConnectionProtocol, ConnectionType
from nbxmpp.protocol import Iq, Message, Presence
from nbxmpp.sasl import SCRAM_SHA_256_PLUS
from nbxmpp.structs import ChannelBindingData, StanzaHandler

STEP_SECONDS = 15
PLUS = "SCRAM-SHA-256-PLUS"


def emit(message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


class ByteArray(ctypes.Structure):
    """GByteArray."""

    _fields_ = [("data", ctypes.POINTER(ctypes.c_uint8)), ("len", ctypes.c_uint)]


def binding_data(tls_connection, kind):
    """The channel binding of a Gio.TlsConnection as bytes; raises RuntimeError if there is none."""
    gio = ctypes.CDLL("libgio-2.0.so.0")
    gio.g_byte_array_new.restype = ctypes.POINTER(ByteArray)
    array = gio.g_byte_array_new()
    types = {
        "tls-exporter": Gio.TlsChannelBindingType.EXPORTER,
        "tls-server-end-point": Gio.TlsChannelBindingType.SERVER_END_POINT,
    }
    found = gio.g_tls_connection_get_channel_binding_data(
        # The hash of a PyGObject wrapper is the address of its GObject.
        ctypes.c_void_p(hash(tls_connection)),
        ctypes.c_int(int(types[kind])),
        array,
        None,
    )
    data = bytes(array.contents.data[: array.contents.len]) if found else b""
    gio.g_byte_array_unref(array)
    if not data:
        raise RuntimeError(f"GnuTLS has no {kind} binding for this connection")
    return data


class PlusOnly(set):
    """A set of mechanisms from which nbxmpp cannot drop -PLUS."""

    def discard(self, name):
        if name != PLUS:
            super().discard(name)


class BoundClient(Client):
    """nbxmpp's client with its -PLUS mechanism switched on."""

    def __init__(self, label, kind):
        super().__init__(label)
        self._sasl._mechanism_classes[PLUS] = self._plus
        self._kind = kind

    @property
    def mechs(self):
        return PlusOnly({PLUS})

    def _plus(self, *arguments):
        mechanism = SCRAM_SHA_256_PLUS(*arguments)
        data = binding_data(self._con._tls_con, self._kind)
        mechanism.set_channel_binding_data(ChannelBindingData(self._kind, data))
        return mechanism


class Session:
    def __init__(self, command):
        self.label = command["session"]
        self._ref = command["ref"]
        localpart, domain = command["jid"].split("@")
        kind = command.get("binding")
        self.client = BoundClient(self.label, kind) if kind else Client(self.label)
        self.client.set_domain(domain)
        self.client.set_username(localpart)
        self.client.set_password(command["password"])
        self.client.set_resource(command["resource"])
        address = f"{command['host']}:{command['port']}"
        transport = {"direct": ConnectionType.DIRECT_TLS, "starttls": ConnectionType.START_TLS}
        self.client.set_connection_types([transport[command["tls"]]])
        self.client.set_custom_host(address, ConnectionProtocol.TCP, transport[command["tls"]])
        self.client.subscribe("connected", self._connected)
        self.client.subscribe("disconnected", self._ended)
        self.client.subscribe("connection-failed", self._ended)
        self.client.register_handler(StanzaHandler(name="message", callback=self._message))
        self.closing_ref = None

    def _connected(self, *_):
        self.request(
            Iq("get", queryNS="jabber:iq:roster"),
            self._with_roster,
        )

    def _with_roster(self, answer):
        facts = {
            "jid": str(self.client.get_bound_jid()),
            # The first version has no roster; a client must live with the error.
            "roster": answer.getError() if answer.isError() else "result",
            "mechanism": self.client._sasl._mechanism.name,
            "tls_version": self.client.tls_version.value_nick,
            "cipher": self.client.ciphersuite,
        }
        self.client.send_stanza(Presence())
        self._settle({"value": facts})

    def _ended(self, *_):
        self._settle({"error": f"disconnected: {self.client.get_error()}"})
        emit({"event": "closed", "session": self.label})
        if self.closing_ref is not None:
            emit({"ref": self.closing_ref, "value": {}})

    def _settle(self, answer):
        if self._ref is not None:
            emit({"ref": self._ref, **answer})
            self._ref = None

    def _message(self, _client, stanza, _properties):
        if stanza.getBody() is None:
            return
        emit(
            {
                "event": "message",
                "session": self.label,
                "from": str(stanza.getFrom()),
                "type": stanza.getType() or "normal",
                "body": stanza.getBody(),
            }
        )

    def request(self, iq, answered):
        self.client.send_stanza(
            iq, callback=lambda _client, answer: answered(answer), timeout=STEP_SECONDS
        )


class Commands:
    def __init__(self):
        self.sessions = {}
        self.trusted = None

    def connect(self, command):
        if self.trusted != command["ca"]:
            database = Gio.TlsFileDatabase.new(command["ca"])
            Gio.TlsBackend.get_default().set_default_database(database)
            self.trusted = command["ca"]
        session = Session(command)
        self.sessions[command["session"]] = session
        session.client.connect()

    def send(self, command):
        message = Message(to=command["to"], body=command["body"], typ="chat")
        self.sessions[command["session"]].client.send_stanza(message)
        emit({"ref": command["ref"], "value": {}})

    def ping(self, command):
        iq = Iq("get", to=command["to"])
        iq.addChild(name="ping", namespace="urn:xmpp:ping")
        self._ask(command, iq, lambda answer: {})

    def disco(self, command):
        def read(answer):
            query = answer.getQuery()
            return {
                "identities": [
                    [tag.getAttr("category"), tag.getAttr("type")]
                    for tag in query.getTags("identity")
                ],
                "features": [tag.getAttr("var") for tag in query.getTags("feature")],
            }

        iq = Iq("get", to=command["to"], queryNS="http://jabber.org/protocol/disco#info")
        self._ask(command, iq, read)

    def version(self, command):
        iq = Iq("get", to=command["to"], queryNS="jabber:iq:version")
        self._ask(command, iq, lambda answer: {"name": answer.getQuery().getTagData("name")})

    def unknown(self, command):
        def answered(answer):
            if answer.isError():
                emit({"ref": command["ref"], "value": {"condition": answer.getError()}})
            else:
                emit({"ref": command["ref"], "error": "the unknown IQ was answered with a result"})

        iq = Iq("get", to=command["to"], queryNS="urn:example:no-such-thing")
        self.sessions[command["session"]].request(iq, answered)

    def close(self, command):
        session = self.sessions.pop(command["session"])
        session.closing_ref = command["ref"]
        session.client.disconnect()

    def _ask(self, command, iq, read):
        def answered(answer):
            if answer.isError():
                emit({"ref": command["ref"], "error": str(answer.getError())})
            else:
                emit({"ref": command["ref"], "value": read(answer)})

        self.sessions[command["session"]].request(iq, answered)


def main():
    commands = Commands()
    loop = GLib.MainLoop()
    lines = Gio.DataInputStream.new(Gio.UnixInputStream.new(0, False))

    def next_line(stream, result):
        line, _ = stream.read_line_finish_utf8(result)
        if line is None:
            loop.quit()
            return
        command = json.loads(line)
        try:
            getattr(commands, command["op"])(command)
        except Exception as error:
            emit({"ref": command["ref"], "error": f"{type(error).__name__}: {error}"})
        stream.read_line_async(GLib.PRIORITY_DEFAULT, None, next_line)

    lines.read_line_async(GLib.PRIORITY_DEFAULT, None, next_line)
    loop.run()


main()
