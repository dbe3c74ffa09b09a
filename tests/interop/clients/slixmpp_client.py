"""Obeys the suite's commands (see client.py) with slixmpp, over Python's ssl module.

Beyond what all clients know, its plugins do `vcard_set` (name, photo), `vcard` (to), `bookmark_set`
(name, jid), `bookmarks`, `last` (to), `time` (to); and the event "capabilities" (from, features)
follows a presence, or the stream features, whose hash slixmpp has verified. `items` (to) is
disco#items.

`component` (session, name, secret, host, port) connects a component (XEP-0114), which knows `send`
and `subscription` with a "from" of its own, `available` (from, to), `ping` and `close`.
"""

import asyncio
import base64
import json
import sys
from pathlib import Path

import slixmpp
from slixmpp.exceptions import IqError
from slixmpp.plugins.xep_0048 import Bookmarks

STEP_SECONDS = 25
PLUGINS = (
    "xep_0012",  # Last Activity
    "xep_0030",  # Service Discovery
    "xep_0048",  # Bookmarks, in Private XML Storage (XEP-0049)
    "xep_0054",  # vcard-temp
    "xep_0092",  # Software Version
    "xep_0115",  # Entity Capabilities
    "xep_0199",  # XMPP Ping
    "xep_0202",  # Entity Time
    "xep_0203",  # Delayed Delivery
)


def emit(message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def items(iq):
    """The roster items of a result or push."""
    return [
        {
            "jid": jid.full,
            "name": item["name"] or None,
            "subscription": item["subscription"] or None,
            "ask": item["ask"] or None,
            "groups": item["groups"],
        }
        for jid, item in iq["roster"]["items"].items()
    ]


def delay(stanza):
    told = stanza.get_plugin("delay", check=True)
    if told is None:
        return None
    return {"from": str(told["from"]), "stamp": told["stamp"].isoformat()}


def condition(stanza):
    return stanza["error"]["condition"] if stanza["type"] == "error" else None


class Telling:
    """Of a client or a component: its outcome is a future, what it hears are events."""

    def _listens(self, label):
        self.label = label
        # By default slixmpp grants every subscription request and asks back.
        self.auto_authorize = None
        self.auto_subscribe = False
        self.outcome = asyncio.get_running_loop().create_future()
        # All of them before the login: messages and presence follow the initial presence at once.
        self.add_event_handler("session_start", self._started)
        self.add_event_handler("connection_failed", self._unreachable)
        self.add_event_handler("message", self._message)
        self.add_event_handler("message_error", self._tell_message)
        self.add_event_handler("presence", self._presence)
        self.add_event_handler("disconnected", self._closed)

    def _unreachable(self, event):
        self._settle_error(f"no connection: {event}")

    def _closed(self, reason):
        self._settle_error(f"disconnected: {reason}")
        self._tell("closed")

    def _tell(self, event, **values):
        emit({"event": event, "session": self.label, **values})

    def _message(self, stanza):
        # One that has an error and a body comes as both events.
        if stanza["type"] != "error":
            self._tell_message(stanza)

    def _tell_message(self, stanza):
        self._tell(
            "message",
            **{"from": stanza["from"].full},
            type=stanza["type"],
            body=stanza["body"],
            condition=condition(stanza),
            text=stanza["error"]["text"] if stanza["type"] == "error" else None,
            delay=delay(stanza),
        )

    def _presence(self, stanza):
        # The "type" of slixmpp is that of the stanza or else its <show/>.
        is_shown = stanza["type"] in stanza.showtypes
        self._tell(
            "presence",
            **{"from": stanza["from"].full},
            type="available" if is_shown else stanza["type"],
            show=stanza["show"] or None,
            status=stanza["status"] or None,
            priority=stanza["priority"],
            condition=condition(stanza),
        )

    def _settle(self, value):
        if not self.outcome.done():
            self.outcome.set_result(value)

    def _settle_error(self, text):
        if not self.outcome.done():
            self.outcome.set_exception(RuntimeError(text))


class Session(Telling, slixmpp.ClientXMPP):
    """One login."""

    def __init__(self, command):
        super().__init__(f"{command['jid']}/{command['resource']}", command["password"])
        self._listens(command["session"])
        self.ca_certs = Path(command["ca"])
        self.enable_direct_tls = command["tls"] == "direct"
        self.enable_starttls = command["tls"] == "starttls"
        self.enable_plaintext = False
        for plugin in PLUGINS:
            self.register_plugin(plugin)
        # A name of its own gives each session a hash that nobody has verified before.
        name = f"slixmpp {self.label}"
        self.plugin["xep_0030"].add_identity(category="client", itype="bot", name=name)
        self.add_event_handler("failed_all_auth", self._refused)
        self.add_event_handler("roster_update", self._roster)
        self.add_event_handler("entity_caps", self._capabilities)

    async def _started(self, _event):
        try:
            roster, contacts = "result", items(await self.get_roster(timeout=STEP_SECONDS))
        except IqError as error:
            roster, contacts = error.condition, None
        await self.plugin["xep_0115"].update_caps(broadcast=False)
        self.send_presence()
        self._settle(
            {
                "jid": self.boundjid.full,
                "roster": roster,
                "contacts": contacts,
                "mechanism": self.plugin["feature_mechanisms"].mech.name,
                "tls_version": self.socket.version(),
            }
        )

    def _refused(self, event):
        self._settle_error(f"authentication refused: {event}")

    def _roster(self, iq):
        if iq["type"] == "set":
            for item in items(iq):
                self._tell("push", **item)

    async def _capabilities(self, presence):
        # The plugin has a handler of its own for this event, which tells nobody when it is through;
        # a second call waits for the first, and has nothing left to do.
        await self.plugin["xep_0115"]._process_caps(presence)
        verified = await self.plugin["xep_0115"].get_caps(jid=presence["from"])
        if verified is not None:
            self._tell(
                "capabilities",
                **{"from": presence["from"].full},
                features=sorted(verified["features"]),
            )


class Component(Telling, slixmpp.ComponentXMPP):
    """One stream of a component."""

    def __init__(self, command):
        super().__init__(command["name"], command["secret"], command["host"], command["port"])
        for plugin in ("xep_0030", "xep_0199"):
            self.register_plugin(plugin)
        self.plugin["xep_0030"].add_identity(category="gateway", itype="irc", name="a gateway")
        self._listens(command["session"])
        self.add_event_handler("stream_error", self._refused)

    def _started(self, _event):
        self._settle({"jid": self.boundjid.full})

    def _refused(self, error):
        self._settle_error(f"refused: {error['condition']}")


class Commands:
    """What the suite may ask for; `session` is already looked up but in `connect`."""

    def __init__(self):
        self.sessions = {}

    async def connect(self, command):
        session = Session(command)
        session.connect(command["host"], command["port"])
        return await self._connected(session, command)

    async def component(self, command):
        session = Component(command)
        session.connect()
        return await self._connected(session, command)

    async def _connected(self, session, command):
        try:
            facts = await asyncio.wait_for(session.outcome, STEP_SECONDS)
        except BaseException:
            session.abort()
            raise
        self.sessions[command["session"]] = session
        return facts

    async def send(self, session, command):
        session.send_message(
            mto=command["to"], mbody=command["body"], mtype="chat", mfrom=command.get("from")
        )

    async def presence(self, session, command):
        session.send_presence(
            pshow=command["show"], pstatus=command["status"], ppriority=command["priority"]
        )

    async def subscription(self, session, command):
        session.send_presence_subscription(
            command["to"], pfrom=command.get("from"), ptype=command["type"]
        )

    async def available(self, session, command):
        session.send_presence(pto=command["to"], pfrom=command["from"])

    async def items(self, session, command):
        answer = await session.plugin["xep_0030"].get_items(jid=command["to"], timeout=STEP_SECONDS)
        return {"jids": sorted(str(item[0]) for item in answer["disco_items"]["items"])}

    async def contact(self, session, command):
        await session.update_roster(
            command["jid"], name=command["name"], groups=command["groups"], timeout=STEP_SECONDS
        )

    async def remove(self, session, command):
        # `remove` of the roster would send an "unsubscribe" first, which is the server's task.
        await session.update_roster(command["jid"], subscription="remove", timeout=STEP_SECONDS)

    async def ping(self, session, command):
        seconds = await session.plugin["xep_0199"].ping(command["to"], timeout=STEP_SECONDS)
        return {"seconds": seconds}

    async def disco(self, session, command):
        answer = await session.plugin["xep_0030"].get_info(jid=command["to"], timeout=STEP_SECONDS)
        info = answer["disco_info"]
        return {
            "identities": [list(identity)[:2] for identity in info["identities"]],
            "features": list(info["features"]),
        }

    async def version(self, session, command):
        answer = await session.plugin["xep_0092"].get_version(command["to"], timeout=STEP_SECONDS)
        return {"name": answer["software_version"]["name"]}

    async def unknown(self, session, command):
        """Sends an IQ that no server knows; yields the condition of the error."""
        iq = session.make_iq_get(queryxmlns="urn:example:no-such-thing", ito=command["to"])
        try:
            await iq.send(timeout=STEP_SECONDS)
        except IqError as error:
            return {"condition": error.condition}
        raise RuntimeError("the unknown IQ was answered with a result")

    async def vcard_set(self, session, command):
        vcard = session.plugin["xep_0054"].make_vcard()
        vcard["FN"] = command["name"]
        vcard["PHOTO"]["TYPE"] = "image/png"
        vcard["PHOTO"]["BINVAL"] = base64.b64decode(command["photo"])
        await session.plugin["xep_0054"].publish_vcard(vcard, timeout=STEP_SECONDS)

    async def vcard(self, session, command):
        answer = await session.plugin["xep_0054"].get_vcard(command["to"], timeout=STEP_SECONDS)
        vcard = answer["vcard_temp"]
        photo = vcard["PHOTO"]["BINVAL"]
        return {"name": vcard["FN"], "photo": base64.b64encode(photo or b"").decode()}

    async def bookmark_set(self, session, command):
        bookmarks = Bookmarks()
        bookmarks.add_conference(command["jid"], "nick", name=command["name"])
        await session.plugin["xep_0048"].set_bookmarks(bookmarks, timeout=STEP_SECONDS)

    async def bookmarks(self, session, _command):
        answer = await session.plugin["xep_0048"].get_bookmarks(timeout=STEP_SECONDS)
        found = answer["private"]["bookmarks"]["conferences"]
        return {"rooms": [[each["name"], str(each["jid"])] for each in found]}

    async def last(self, session, command):
        plugin = session.plugin["xep_0012"]
        answer = await plugin.get_last_activity(command["to"], timeout=STEP_SECONDS)
        return {"seconds": answer["last_activity"]["seconds"]}

    async def time(self, session, command):
        answer = await session.plugin["xep_0202"].get_entity_time(
            command["to"], timeout=STEP_SECONDS
        )
        # slixmpp 1.17 appends a second "Z" to the time before it reads it.
        return {"time": answer.xml.findtext(".//{urn:xmpp:time}utc")}

    async def drop(self, session, _command):
        """Ends the connection, and says nothing before."""
        del self.sessions[session.label]
        session.abort()

    async def close(self, session, _command):
        del self.sessions[session.label]
        closed = session.wait_until("disconnected", timeout=STEP_SECONDS)
        session.disconnect()
        await closed


async def main():
    commands = Commands()
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def answer(command):
        try:
            operation = getattr(commands, command["op"])
            if command["op"] in ("connect", "component"):
                value = await operation(command)
            else:
                value = await operation(commands.sessions[command["session"]], command)
            emit({"ref": command["ref"], "value": value or {}})
        except IqError as error:
            told = {"error": error.format(), "condition": error.condition}
            emit({"ref": command["ref"], **told})
        except Exception as error:
            emit({"ref": command["ref"], "error": f"{type(error).__name__}: {error}"})

    running = set()
    while line := await reader.readline():
        task = asyncio.create_task(answer(json.loads(line)))
        running.add(task)
        task.add_done_callback(running.discard)


asyncio.run(main())
