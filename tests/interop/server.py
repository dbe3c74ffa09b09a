"""The server under test: its files in a temporary directory, its accounts, its life."""

import asyncio
import os
import signal
import socket
from pathlib import Path

# The first domain, which a client gets that names none.
DOMAIN = "example.org"
START_SECONDS = 20
STOP_SECONDS = 15
COMMAND_SECONDS = 20


def free_port():
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """One instance of stanzad. `domains` maps each domain to the TOML lines of its section, and
    `components` each component to its secret."""

    def __init__(self, program, folder, certificates, domains, tls="", components=None):
        self._program = program
        self.folder = Path(folder)
        self.folder.mkdir(mode=0o700, parents=True)
        self.address = "127.0.0.1"
        self.port, self.direct_port = self._ports()
        self.component_port = free_port()
        self._components = components or {}
        self.config = self.folder / "stanzad.toml"
        self.log = self.folder / "server.log"
        self._environment = {"RUST_BACKTRACE": "1"}
        self._process = None
        self.config.write_text(self._settings(certificates, domains, tls))
        self.config.chmod(0o600)

    def _ports(self):
        """For clients: with STARTTLS, and with direct TLS."""
        return free_port(), free_port()

    def _settings(self, certificates, domains, tls):
        # The suite comes from one address with many connections and, on purpose, many failed
        # logins: the limits on them are tested elsewhere and would only slow this down.
        lines = [
            "[server]",
            f'data = "{self.folder}/data"',
            "shards = 2",
            f'control = "{self.folder}/control.sock"',
            "[listen]",
            f'c2s = ["127.0.0.1:{self.port}"]',
            f'c2s_tls = ["127.0.0.1:{self.direct_port}"]',
            "s2s = []",
            "s2s_tls = []",
            f'component = ["127.0.0.1:{self.component_port}"]',
            "[tls]",
            f'certificates = "{certificates}"',
            tls,
            "[limits]",
            "connections_per_address_max = 1000",
            "login_failures_per_address_max = 1000",
            "login_failures_per_account_max = 1000",
        ]
        for domain, section in domains.items():
            lines += [f'[domain."{domain}"]', section]
        for component, secret in self._components.items():
            lines += [f'[component."{component}"]', f'secret = "{secret}"']
        return "\n".join(line for line in lines if line) + "\n"

    async def _command(self, *arguments, stdin=b"", statuses=(0,)):
        process = await asyncio.create_subprocess_exec(
            self._program,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **self._environment},
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(stdin), COMMAND_SECONDS)
        except TimeoutError:
            process.kill()
            raise
        if process.returncode not in statuses:
            words = output.decode(errors="replace")
            raise RuntimeError(f"{' '.join(arguments)}: status {process.returncode}: {words}")
        return output

    async def add_account(self, jid, password):
        """`stanzad account add`, the password on standard input."""
        arguments = ("account", "add", "--config", str(self.config), jid)
        await self._command(*arguments, stdin=f"{password}\n".encode())

    async def delete_account(self, jid):
        """`stanzad account delete`."""
        await self._command("account", "delete", "--config", str(self.config), jid)

    async def sessions(self):
        """What `stanzad sessions --json` says."""
        return await self._command("sessions", "--config", str(self.config), "--json")

    async def start(self):
        """Starts it, for the first time or again, and waits until both ports accept.

        Raises RuntimeError with the end of the log when it ends or does not accept in time.
        """
        with open(self.log, "ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command_line(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self._environment},
            )
        for port in (self.port, self.direct_port):
            await self._accepting(port)

    def _command_line(self):
        return self._program, "run", "--config", str(self.config)

    async def _accepting(self, port):
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while True:
            try:
                _, writer = await asyncio.open_connection(self.address, port)
                writer.close()
                return
            except OSError:
                ended = self._process.returncode is not None
                if ended or asyncio.get_running_loop().time() > deadline:
                    raise RuntimeError(f"the server did not start: {self.log_tail()}") from None
                await asyncio.sleep(0.1)

    def log_tail(self, lines=30):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    async def kill(self):
        """Ends it at once, as `kill -9` does."""
        process, self._process = self._process, None
        process.kill()
        await process.wait()

    async def reload(self):
        """`stanzad reload`."""
        await self._command("reload", "--config", str(self.config))

    async def stop(self):
        """SIGTERM, then waits; the exit status must be 0.

        Raises RuntimeError when the server had ended before, does not end, or ends badly.
        """
        if self._process is None:
            return
        process, self._process = self._process, None
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            status = await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise RuntimeError("the server did not end on SIGTERM") from None
        if status != 0:
            raise RuntimeError(f"the server ended with status {status}: {self.log_tail()}")
