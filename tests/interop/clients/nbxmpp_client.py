"""Obeys the suite's commands (see client.py) with nbxmpp, Gajim's library, over GLib and GnuTLS.

With "binding" in a `connect` command ("tls-exporter" or "tls-server-end-point") it logs in by a
-PLUS mechanism. nbxmpp has these mechanisms, but leaves them off: PyGObject crashes when it hands
over the bytes of `g_tls_connection_get_channel_binding_data`. Here ctypes calls that function, so
the binding is GnuTLS's own, and nbxmpp's mechanism does the rest.

No request has a time limit here: nbxmpp 7.4 gives up at once on one that is made while it still
watches over another (`StanzaDispatcher.add_callback_for_id`). The suite has limits of its own.
"""

import ctypes
import json
import sys
from datetime import UTC, datetime

from gi.repository import Gio, GLib
from nbxmpp.client import Client
from nbxmpp.const import ConnectionProtocol, ConnectionType
from nbxmpp.errors import StanzaError
from nbxmpp.protocol import JID, Iq, Message, NodeProcessed
from nbxmpp.sasl import SCRAM_SHA_256_PLUS
from nbxmpp.structs import ChannelBindingData, StanzaHandler

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


def told_item(item):
    """A RosterItem as an ITEM of client.py."""
    return {
        "jid": str(item.jid),
        "name": item.name,
        "subscription": item.subscription,
        "ask": item.ask,
        "groups": sorted(item.groups),
    }


def told_delay(stanza, properties):
    if not properties.has_server_delay:
        return None
    sender = stanza.getTag("delay", namespace="urn:xmpp:delay").getAttr("from")
    stamp = datetime.fromtimestamp(properties.timestamp, UTC)
    return {"from": sender, "stamp": stamp.isoformat()}


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
        for handler in (
            StanzaHandler(name="message", callback=self._message),
            StanzaHandler(name="presence", callback=self._presence),
            StanzaHandler(name="iq", callback=self._push, typ="set", ns="jabber:iq:roster"),
        ):
            self.client.register_handler(handler)
        self.closing_ref = None

    def _connected(self, *_):
        task = self.client.get_module("Roster").request_roster()
        task.add_done_callback(self._with_roster, weak=False)

    def _with_roster(self, task):
        roster, contacts = "result", None
        try:
            contacts = [told_item(item) for item in task.finish().items or ()]
        except StanzaError as error:
            roster = error.condition
        facts = {
            "jid": str(self.client.get_bound_jid()),
            "roster": roster,
            "contacts": contacts,
            "mechanism": self.client._sasl._mechanism.name,
            "tls_version": self.client.tls_version.value_nick,
            "cipher": self.client.ciphersuite,
        }
        self.client.get_module("BasePresence").send()
        self._settle({"value": facts})

    def _ended(self, *_):
        self._settle({"error": f"disconnected: {self.client.get_error()}"})
        self._tell("closed")
        if self.closing_ref is not None:
            emit({"ref": self.closing_ref, "value": {}})

    def _settle(self, answer):
        if self._ref is not None:
            emit({"ref": self._ref, **answer})
            self._ref = None

    def _message(self, _client, stanza, properties):
        if stanza.getBody() is None and not stanza.isError():
            return
        self._tell(
            "message",
            **{"from": str(stanza.getFrom())},
            type=stanza.getType() or "normal",
            body=stanza.getBody(),
            condition=stanza.getError() if stanza.isError() else None,
            delay=told_delay(stanza, properties),
        )

    def _presence(self, _client, stanza, properties):
        self._tell(
            "presence",
            **{"from": str(properties.jid)},
            type=properties.type.value or "available",
            show=None if properties.show.is_online else properties.show.value,
            status=properties.status or None,
            priority=properties.priority,
            condition=stanza.getError() if properties.type.is_error else None,
        )

    def _push(self, _client, _stanza, properties):
        self._tell("push", **told_item(properties.roster.item))
        # The library's own handler has answered it before.
        raise NodeProcessed

    def _tell(self, event, **values):
        emit({"event": event, "session": self.label, **values})

    def request(self, iq, answered):
        self.client.send_stanza(iq, callback=lambda _client, answer: answered(answer))


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

    def presence(self, command):
        self.sessions[command["session"]].client.get_module("BasePresence").send(
            show=command["show"], status=command["status"], priority=command["priority"]
        )
        emit({"ref": command["ref"], "value": {}})

    def subscription(self, command):
        module = self.sessions[command["session"]].client.get_module("BasePresence")
        getattr(module, command["type"])(JID.from_string(command["to"]))
        emit({"ref": command["ref"], "value": {}})

    def contact(self, command):
        module = self.sessions[command["session"]].client.get_module("Roster")
        jid, groups = JID.from_string(command["jid"]), set(command["groups"])
        self._wait(command, module.set_item(jid, command["name"], groups))

    def remove(self, command):
        module = self.sessions[command["session"]].client.get_module("Roster")
        jid = JID.from_string(command["jid"])
        self._wait(command, module.delete_item(jid))

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

    def _wait(self, command, task):
        def done(task):
            try:
                task.finish()
                emit({"ref": command["ref"], "value": {}})
            except StanzaError as error:
                told = {"error": str(error), "condition": error.condition}
                emit({"ref": command["ref"], **told})

        task.add_done_callback(done, weak=False)

    def _ask(self, command, iq, read):
        def answered(answer):
            if answer.isError():
                condition = answer.getError()
                emit({"ref": command["ref"], "error": condition, "condition": condition})
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
