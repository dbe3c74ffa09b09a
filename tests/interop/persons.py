"""Two kinds of persons with one set of verbs: one at a library's program, one at profanity.

What a person sees raises AssertionError when it does not come. A roster item is looked for as a
roster push where the library tells pushes, and on the screen where there is one.
"""

import asyncio
import re
import secrets
from datetime import datetime, timedelta

from clients.profanity import Profanity


def require_live(message, sender):
    """This message is no error and has not waited."""
    assert message["from"] == sender, f"from {message['from']}, not {sender}"
    assert message["type"] == "chat", f"type {message['type']}"
    assert message["delay"] is None, f"delayed: {message['delay']}"


def require_waited(got, bodies, sender, domain, sent):
    """These messages, and no other, have waited as `sees_offline_messages` tells."""
    told = [message["body"] for message in got]
    assert told == bodies, f"sent {bodies}, received {told}"
    # XEP-0082 allows stamps in whole seconds.
    earliest, latest = sent[0] - timedelta(seconds=1), sent[1]
    for message in got:
        assert message["from"] == sender, f"from {message['from']}, not {sender}"
        delay = message["delay"]
        assert delay, f"not stamped: {message}"
        assert delay["from"] == domain, f"stamped by {delay['from']}, not {domain}"
        stamp = datetime.fromisoformat(delay["stamp"])
        assert earliest <= stamp <= latest, f"{stamp} is not between {earliest} and {latest}"


class Person:
    """An account, and the session of a library's program that its owner uses now."""

    def __init__(self, suite, client, jid):
        self._suite = suite
        self._client = client
        self._session = None
        self._sessions = []
        self.name = client.name
        self.jid = jid
        self.full = None
        # What was told last to those who see its presence.
        self.shown = {}

    async def log_in(self):
        """Connects with a fresh resource and becomes available; yields the roster items."""
        session = f"{self.jid.split('@')[0]}-{secrets.token_hex(4)}"
        tls = secrets.choice(("starttls", "direct"))
        facts = await self._suite.login(self._client, self.jid, session, tls)
        assert facts["roster"] == "result", f"the roster was refused: {facts['roster']}"
        self._session, self.full, self.shown = session, facts["jid"], {}
        self._sessions.append(session)
        return facts["contacts"]

    async def log_out(self):
        """Closes the stream."""
        await self.asks("close")

    async def vanishes(self):
        """Loses the connection without a word."""
        await self.asks("drop")

    async def is_cut_off(self):
        """The server ends the session."""
        await self._hears("closed")

    async def shows(self, show, status, priority):
        """Becomes available in this way."""
        self.shown = {"show": show, "status": status, "priority": priority}
        await self.asks("presence", **self.shown)

    async def says(self, to, body):
        await self.asks("send", to=to, body=body)

    async def settles(self, jid):
        """Waits until the server has handled all that was sent to this account: in the order in
        which it was sent (RFC 6120 §10.1), so that an answer for the account comes last."""
        await self.asks("unknown", to=jid)

    async def adds(self, jid, name, groups):
        """Puts a contact into the roster."""
        await self.asks("contact", jid=jid, name=name, groups=groups)

    async def removes(self, jid):
        """Takes a contact out of the roster."""
        await self.asks("remove", jid=jid)

    async def tells(self, type_, jid):
        """Sends presence of a subscription type."""
        await self.asks("subscription", to=jid, type=type_)

    async def asks(self, op, **arguments):
        """Runs another command of the program; yields its value."""
        return await self._client.call(op, session=self._session, **arguments)

    async def sees_item(self, jid, subscription, **more):
        """A roster push for this contact."""
        return await self._hears("push", jid=jid, subscription=subscription, **more)

    async def sees_request(self, jid):
        await self._hears("presence", **{"from": jid}, type="subscribe")

    async def sees_answer(self, type_, jid):
        """Presence of another subscription type."""
        await self._hears("presence", **{"from": jid}, type=type_)

    async def sees_available(self, full, show=None, status=None, priority=0):
        await self._hears(
            "presence",
            **{"from": full},
            type="available",
            show=show,
            status=status,
            priority=priority,
        )

    async def sees_unavailable(self, full):
        await self._hears("presence", **{"from": full}, type="unavailable")

    async def sees_capabilities(self, jid):
        """What somebody can do, whose hash has been verified; yields it."""
        return await self._hears("capabilities", **{"from": jid})

    async def sees_message(self, body, sender):
        """A message that is no error and has not waited."""
        require_live(await self._hears("message", body=body), sender)

    async def sees_error(self, jid, condition=None):
        """A message that comes back from this address; yields it."""
        more = {"condition": condition} if condition else {}
        return await self._hears("message", **{"from": jid}, type="error", **more)

    async def sees_offline_messages(self, bodies, sender, domain, sent):
        """All of `bodies` once, in order, from `sender`, with the time at which they were `sent`
        (from when to when) as `domain` has stamped it (XEP-0203)."""
        await self._hears("message", body=bodies[-1])
        got = self._client.heard(self._session, "message")
        require_waited(got, bodies, sender, domain, sent)

    async def has_not_seen(self, status, barrier):
        """No presence with this status, after the message `barrier` that its sender sent later."""
        await self._hears("message", body=barrier)
        seen = [each["status"] for each in self._client.heard(self._session, "presence")]
        assert status not in seen, f"presence came: {status}"

    async def has_only(self, bodies):
        """This session has received these messages and no other."""
        await self._hears("message", body=bodies[-1])
        got = [message["body"] for message in self._client.heard(self._session, "message")]
        assert got == bodies, f"received {got}"

    async def has_no_request(self):
        """Nobody has asked this session for a subscription."""
        asked = [
            each["from"]
            for each in self._client.heard(self._session, "presence")
            if each["type"] == "subscribe"
        ]
        assert not asked, f"asked by {asked}"

    async def has_no_errors(self):
        """None of the sessions has received a stanza of type "error"."""
        for session in self._sessions:
            for event in ("message", "presence"):
                errors = [e for e in self._client.heard(session, event) if e["condition"]]
                assert not errors, f"{session} received {errors}"

    async def _hears(self, event, **expected):
        return await self._client.hears(self._session, event, **expected)


# What profanity's console says of these.
ANSWERS = {"subscribed": "Subscription received from {}", "unsubscribed": "{} deleted subscription"}


class AtTerminal:
    """An account, and profanity in a pseudo-terminal. Its roster, requests and contacts are looked
    up by its commands; what it does not show of a stanza is read in its XML console."""

    name = "profanity"

    def __init__(self, suite, program, jid):
        self._suite = suite
        self._program = program
        self.jid = jid
        self.full = None
        self.shown = {}

    @classmethod
    async def start(cls, suite, jid):
        """With a profanity of its own, which `stop` ends."""
        home = suite.folder / f"profanity-{jid.split('@')[0]}"
        program = await asyncio.to_thread(Profanity, home, suite.trusted())
        return cls(suite, program, jid)

    async def stop(self):
        await self._do(self._program.quit)

    async def _do(self, function, *arguments):
        return await asyncio.to_thread(function, *arguments)

    async def log_in(self):
        self.full, self.shown = f"{self.jid}/{secrets.token_hex(4)}", {}
        ways = (("force", self._suite.server.port), ("legacy", self._suite.server.direct_port))
        policy, port = secrets.choice(ways)
        password = self._suite.passwords[self.jid]
        await self._do(self._program.connect, self.full, password, port, policy)
        await self._do(self._program.stanzas_until, roster_result)
        return items(await self._do(self._program.ask, "/roster"))

    async def log_out(self):
        await self._do(self._program.disconnect)

    async def shows(self, show, status, priority):
        self.shown = {"show": show, "status": status, "priority": priority}
        for command in (f"/priority {priority}", f'/status set {show} "{status}"'):
            await self._do(self._program.ask, command)

    async def says(self, to, body):
        await self._do(self._program.message, to, body)

    async def settles(self, jid):
        await self._do(self._program.disco, jid)

    async def adds(self, jid, name, groups):
        await self._do(self._program.ask, f'/roster add {jid} "{name}"')
        await self.sees_item(jid, "none", name=name)
        for group in groups:
            await self._do(self._program.ask, f'/roster group add "{group}" {jid}')

    async def removes(self, jid):
        await self._do(self._program.ask, f"/roster remove {jid}")

    async def tells(self, type_, jid):
        verb = {"subscribe": "request", "subscribed": "allow", "unsubscribed": "deny"}[type_]
        await self._do(self._program.ask, f"/sub {verb} {jid}")

    async def sees_item(self, jid, subscription, **more):
        expected = {"jid": jid, "subscription": subscription, **more}

        def find(lines):
            found = items(lines)
            if subscription == "remove":
                return all(item["jid"] != jid for item in found)
            return any(expected.items() <= item.items() for item in found)

        await self._do(self._program.ask_until, "/roster", find)

    async def sees_request(self, jid):
        await self._do(self._program.ask_until, "/sub received", lambda lines: f"  {jid}" in lines)

    async def sees_answer(self, type_, jid):
        pattern = f"^{re.escape(ANSWERS[type_].format(jid))}$"
        await self._do(self._program.see_in_console, pattern)

    async def sees_available(self, full, show=None, status=None, priority=0):
        jid, resource = full.split("/")
        line = f"  {resource} ({priority}), {show or 'online'}"
        if status:
            line += f', "{status}"'
        await self._do(self._program.ask_until, f"/info {jid}", lambda lines: line in lines)

    async def sees_unavailable(self, full):
        jid, resource = full.split("/")

        def find(lines):
            is_known = any(line.startswith(jid) for line in lines)
            return is_known and not any(line.startswith(f"  {resource} (") for line in lines)

        await self._do(self._program.ask_until, f"/info {jid}", find)

    async def sees_message(self, body, sender):
        (message,) = [m for m in await self._messages_until(body) if m["body"] == body]
        require_live(message, sender)
        jid, resource = sender.split("/")
        await self._do(self._program.see_chat, jid, f"/{resource}: {body}")

    async def sees_offline_messages(self, bodies, sender, domain, sent):
        require_waited(await self._messages_until(bodies[-1]), bodies, sender, domain, sent)
        jid, resource = sender.split("/")
        endings = [f"/{resource}: {body}" for body in bodies]
        lines = await self._do(self._program.see_chat, jid, *endings)
        shown = [body for line in lines for body in bodies if body in line]
        assert shown == bodies, f"sent {bodies}, shown {shown}"

    async def has_not_seen(self, status, barrier):
        text = await self._do(self._program.stanzas_until, lambda text: barrier in text)
        assert status not in text, f"presence came: {status}"

    async def has_only(self, bodies):
        got = [message["body"] for message in await self._messages_until(bodies[-1])]
        assert got == bodies, f"received {got}"

    async def has_no_request(self):
        lines = await self._do(self._program.ask, "/sub received")
        assert not any("@" in line for line in lines), f"asked: {lines}"

    async def has_no_errors(self):
        text = await self._do(self._program.stanzas_until, roster_result)
        errors = re.findall(r'<(?:message|presence) [^>]*type="error"[^>]*>', text)
        assert not errors, f"received {errors}"

    async def _messages_until(self, body):
        """The messages that have come since the login, as events of client.py."""
        text = await self._do(
            self._program.stanzas_until, lambda text: f"<body>{body}</body>" in text
        )
        received = re.findall(r"RECV: (<message .*?</message>)", text)
        return [message_event(message) for message in received]


def roster_result(text):
    """Profanity asks for the roster with the id "roster"."""
    return re.search(r'<iq (?=[^>]*\bid="roster")(?=[^>]*\btype="result")', text)


def items(lines):
    """The roster items that `/roster` has shown."""
    found = []
    for line in lines:
        match = re.fullmatch(
            r"  (?P<jid>\S+@\S+?)(?: \((?P<name>.*)\))? - (?P<subscription>none|to|from|both)"
            r"(?P<ask>, request sent)?(?:, request received)?(?: - (?P<groups>.*))?",
            line,
        )
        if match:
            item = match.groupdict()
            item["ask"] = "subscribe" if item["ask"] else None
            item["groups"] = item["groups"].split(", ") if item["groups"] else []
            found.append(item)
    return found


def message_event(xml):
    """A message of the XML console as an event of client.py."""

    def attributes(name):
        tag = re.search(rf"<{name} ([^>]*?)/?>", xml)
        return dict(re.findall(r'(\w+)="([^"]*)"', tag[1])) if tag else None

    head, delay = attributes("message"), attributes("delay")
    body = re.search(r"<body>(.*?)</body>", xml)
    return {
        "from": head["from"],
        "type": head.get("type", "normal"),
        "body": body and body[1],
        "delay": delay and {"from": delay["from"], "stamp": delay["stamp"]},
    }
