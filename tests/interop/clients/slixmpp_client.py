"""Obeys the suite's commands (see client.py) with slixmpp, over Python's ssl module."""

import asyncio
import json
import sys
from pathlib import Path

import slixmpp
from slixmpp.exceptions import IqError

STEP_SECONDS = 15


def emit(message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


class Session(slixmpp.ClientXMPP):
    """One login; its outcome is a future, its messages are events."""

    def __init__(self, command):
        super().__init__(f"{command['jid']}/{command['resource']}", command["password"])
        self.label = command["session"]
        self.ca_certs = Path(command["ca"])
        self.enable_direct_tls = command["tls"] == "direct"
        self.enable_starttls = command["tls"] == "starttls"
        self.enable_plaintext = False
        for plugin in ("xep_0030", "xep_0092", "xep_0199"):
            self.register_plugin(plugin)
        self.outcome = asyncio.get_running_loop().create_future()
        self.add_event_handler("session_start", self._started)
        self.add_event_handler("failed_all_auth", self._refused)
        self.add_event_handler("connection_failed", self._unreachable)
        self.add_event_handler("message", self._message)
        self.add_event_handler("disconnected", self._closed)

    async def _started(self, _event):
        try:
            await self.get_roster(timeout=STEP_SECONDS)
            roster = "result"
        except IqError as error:
            # The first version has no roster; a client must live with the error.
            roster = error.condition
        self.send_presence()
        self._settle(
            {
                "jid": self.boundjid.full,
                "roster": roster,
                "mechanism": self["feature_mechanisms"].mech.name,
                "tls_version": self.socket.version(),
            }
        )

    def _refused(self, event):
        self._settle_error(f"authentication refused: {event}")

    def _unreachable(self, event):
        self._settle_error(f"no connection: {event}")

    def _closed(self, reason):
        self._settle_error(f"disconnected: {reason}")
        emit({"event": "closed", "session": self.label})

    def _message(self, stanza):
        emit(
            {
                "event": "message",
                "session": self.label,
                "from": stanza["from"].full,
                "type": stanza["type"],
                "body": stanza["body"],
            }
        )

    def _settle(self, value):
        if not self.outcome.done():
            self.outcome.set_result(value)

    def _settle_error(self, text):
        if not self.outcome.done():
            self.outcome.set_exception(RuntimeError(text))


class Commands:
    def __init__(self):
        self.sessions = {}

    async def connect(self, command):
        session = Session(command)
        session.connect(command["host"], command["port"])
        try:
            facts = await asyncio.wait_for(session.outcome, STEP_SECONDS)
        except BaseException:
            session.abort()
            raise
        self.sessions[command["session"]] = session
        return facts

    async def send(self, command):
        session = self.sessions[command["session"]]
        session.send_message(mto=command["to"], mbody=command["body"], mtype="chat")
        return {}

    async def ping(self, command):
        session = self.sessions[command["session"]]
        seconds = await session["xep_0199"].ping(command["to"], timeout=STEP_SECONDS)
        return {"seconds": seconds}

    async def disco(self, command):
        session = self.sessions[command["session"]]
        answer = await session["xep_0030"].get_info(jid=command["to"], timeout=STEP_SECONDS)
        info = answer["disco_info"]
        return {
            "identities": [list(identity)[:2] for identity in info["identities"]],
            "features": list(info["features"]),
        }

    async def version(self, command):
        session = self.sessions[command["session"]]
        answer = await session["xep_0092"].get_version(command["to"], timeout=STEP_SECONDS)
        return {"name": answer["software_version"]["name"]}

    async def unknown(self, command):
        """Sends an IQ that no server knows; yields the condition of the error."""
        session = self.sessions[command["session"]]
        iq = session.make_iq_get(queryxmlns="urn:example:no-such-thing", ito=command["to"])
        try:
            await iq.send(timeout=STEP_SECONDS)
        except IqError as error:
            return {"condition": error.condition}
        raise RuntimeError("the unknown IQ was answered with a result")

    async def close(self, command):
        session = self.sessions.pop(command["session"])
        closed = session.wait_until("disconnected", timeout=STEP_SECONDS)
        session.disconnect()
        await closed
        return {}


async def main():
    commands = Commands()
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def answer(command):
        try:
            value = await getattr(commands, command["op"])(command)
            emit({"ref": command["ref"], "value": value})
        except Exception as error:
            emit({"ref": command["ref"], "error": f"{type(error).__name__}: {error}"})

    running = set()
    while line := await reader.readline():
        task = asyncio.create_task(answer(json.loads(line)))
        running.add(task)
        task.add_done_callback(running.discard)


asyncio.run(main())
