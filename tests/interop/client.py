"""A client under test as a child process that speaks JSON lines.

The suite writes commands to its standard input, one object a line, and reads answers and events:

    {"ref": 1, "op": "connect", "session": "a", "jid": "juliet@example.org", "resource": "r",
     "password": "...", "host": "127.0.0.1", "port": 5222, "tls": "starttls" | "direct",
     "ca": "/path/ca.crt"}
    {"ref": 1, "value": {"jid": "juliet@example.org/r", "mechanism": ...}}
    {"ref": 1, "error": "..."}
    {"event": "message", "session": "a", "from": "...", "type": "chat", "body": "..."}
    {"event": "closed", "session": "a"}

Other operations: `send` (to, body), `ping`, `disco`, `version`, `unknown` (to), `close`. All the
protocol work is the library's; the child only translates.
"""

import asyncio
import json

ANSWER_SECONDS = 18
MESSAGE_SECONDS = 10


class ClientError(Exception):
    """The client answered a command with an error."""


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
        self._messages = {}
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
                future = self._waiting.pop(message["ref"], None)
                if future is None or future.done():
                    continue
                if "error" in message:
                    future.set_exception(ClientError(message["error"]))
                else:
                    future.set_result(message["value"])
            elif message.get("event") == "message":
                async with self._news:
                    self._messages.setdefault(message["session"], []).append(message)
                    self._news.notify_all()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ClientError(f"{self.name} ended; see {self._stderr_path}"))

    async def call(self, op, **arguments):
        """Runs one command; yields its value.

        Raises ClientError with the client's own words, or TimeoutError.
        """
        self._refs += 1
        future = asyncio.get_running_loop().create_future()
        self._waiting[self._refs] = future
        line = json.dumps({"ref": self._refs, "op": op, **arguments}) + "\n"
        self._process.stdin.write(line.encode())
        await self._process.stdin.drain()
        return await asyncio.wait_for(future, ANSWER_SECONDS)

    async def message(self, session, body):
        """Waits until `session` has received a message with this body; yields it.

        Raises TimeoutError after MESSAGE_SECONDS.
        """

        def found():
            return [m for m in self._messages.get(session, []) if m["body"] == body]

        async with self._news:
            await asyncio.wait_for(self._news.wait_for(found), MESSAGE_SECONDS)
        return found()[0]

    def received(self, session):
        """All messages of a session so far, in order."""
        return list(self._messages.get(session, []))

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
