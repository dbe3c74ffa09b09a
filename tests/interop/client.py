"""A client under test as a child process that speaks JSON lines.

The suite writes commands to its standard input, one object a line, and reads answers and events:

    {"ref": 1, "op": "connect", "session": "a", "jid": "juliet@example.org", "resource": "r",
     "password": "...", "host": "127.0.0.1", "port": 5222, "tls": "starttls" | "direct",
     "ca": "/path/ca.crt"}
    {"ref": 1, "value": {"jid": "juliet@example.org/r", "contacts": [ITEM, ...], ...}}
    {"ref": 1, "error": "...", "condition": "item-not-found"}
    {"event": "message", "session": "a", "from": "...", "type": "chat", "body": "...",
     "delay": {"from": "...", "stamp": "2026-11-28T03:00:00+00:00"}}
    {"event": "presence", "session": "a", "from": "...", "type": "available", "show": "away",
     "status": "...", "priority": 5}
    {"event": "push", "session": "a", ITEM}
    {"event": "closed", "session": "a"}

ITEM is a roster item: "jid", "name", "subscription", "ask", "groups". What is not there is null; a
stanza of type "error" has its "condition". `connect` asks for the roster and becomes available.

Every client also knows `send` (to, body), `ping`, `disco`, `version`, `unknown` (to), and `close`.
Those that have contacts know `presence` (show, status, priority), `subscription` (to, type),
`contact` (jid, name, groups) and `remove` (jid), and tell presence, pushes and delays. slixmpp and
xmpp.js know `drop`, which ends the connection without a word; slixmpp has more, for what its
plugins do, and tells the "text" of an error. All the protocol work is the library's; the child only
translates.
"""

import asyncio
import json

# Generous: the clients and the server share two cores with whatever else CI does. Only what fails
# takes as long.
ANSWER_SECONDS = 30
EVENT_SECONDS = 30


class ClientError(Exception):
    """The client answered a command with an error; `condition` is that of the stanza, if any."""

    def __init__(self, words, condition=None):
        super().__init__(words)
        self.condition = condition


class Client:
    """The child process; `name` stands in the report."""

    def __init__(self, name, argv, env, stderr_path):
        self.name = name
        self._argv = argv
        self._env = env
        self._stderr_path = stderr_path
        self._process = None
        self._reader = None
        self._refs = 0
        self._waiting = {}
        self._heard = {}
        self._news = asyncio.Condition()

    async def start(self):
        with open(self._stderr_path, "wb") as stderr:
            self._process = await asyncio.create_subprocess_exec(
                *self._argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                env=self._env,
                limit=1 << 20,
            )
        self._reader = asyncio.create_task(self._read())

    async def _read(self):
        while line := await self._process.stdout.readline():
            try:
                message = json.loads(line)
            except ValueError:
                continue  # A library's own print; the answer it displaced will time out.
            if "ref" in message:
                self._answered(message)
            elif "event" in message:
                async with self._news:
                    self._heard.setdefault(message["session"], []).append(message)
                    self._news.notify_all()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ClientError(f"{self.name} ended; see {self._stderr_path}"))

    def _answered(self, message):
        future = self._waiting.pop(message["ref"], None)
        if future is None or future.done():
            return
        if "error" in message:
            future.set_exception(ClientError(message["error"], message.get("condition")))
        else:
            future.set_result(message["value"])

    async def call(self, op, **arguments):
        """Runs one command; yields its value.

        Raises ClientError with the client's own words, or when it does not answer in time.
        """
        self._refs += 1
        future = asyncio.get_running_loop().create_future()
        self._waiting[self._refs] = future
        line = json.dumps({"ref": self._refs, "op": op, **arguments}) + "\n"
        self._process.stdin.write(line.encode())
        await self._process.stdin.drain()
        try:
            return await asyncio.wait_for(future, ANSWER_SECONDS)
        except TimeoutError:
            raise ClientError(f"no answer to {op} within {ANSWER_SECONDS} s") from None

    async def hears(self, session, event, **expected):
        """Waits until `session` has heard an event with these values, and takes it: the next call
        finds the next one. A value may be a function that tells whether it likes one. Yields it.

        Raises AssertionError, which tells what was heard instead, after EVENT_SECONDS.
        """

        def fits(value, told):
            return value(told) if callable(value) else told == value

        def found():
            return next(
                (
                    each
                    for each in self.heard(session, event)
                    if not each.get("taken")
                    and all(fits(value, each.get(key)) for key, value in expected.items())
                ),
                None,
            )

        async with self._news:
            try:
                await asyncio.wait_for(self._news.wait_for(found), EVENT_SECONDS)
            except TimeoutError:
                rest = [e for e in self.heard(session, event) if not e.get("taken")]
                words = f"no {event} with {expected} came to {session} at {self.name}, but {rest}"
                raise AssertionError(words) from None
            event = found()
            event["taken"] = True
        return event

    async def message(self, session, body):
        """Waits for a message with this body and takes it; yields it."""
        return await self.hears(session, "message", body=body)

    def heard(self, session, event):
        """All events of this kind that a session has heard so far, in order, taken or not."""
        return [each for each in self._heard.get(session, []) if each["event"] == event]

    async def stop(self):
        if self._process is None:
            return
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 5)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        self._reader.cancel()
