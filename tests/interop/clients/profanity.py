"""profanity, driven in a pseudo-terminal as a person would: keys in, screen out."""

import os
import time
from pathlib import Path

import pexpect
import pyte

STEP_SECONDS = 12
PROGRAM = "/usr/bin/profanity"
# Wide, so that no line that is waited for is broken.
COLUMNS, ROWS = 200, 60


class Profanity:
    """One running profanity with a home of its own. All methods block."""

    def __init__(self, home, ca_directory):
        """`ca_directory` holds trusted certificates as `openssl rehash` leaves it."""
        home = Path(home)
        settings = home / "config/profanity"
        settings.mkdir(parents=True)
        settings.joinpath("profrc").write_text(f"[connection]\ntls.certpath={ca_directory}\n")
        environment = {
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "PATH": os.environ["PATH"],
            "TERM": "xterm",
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_DATA_HOME": str(home / "data"),
        }
        self._screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.Stream(self._screen)
        self._terminal = pexpect.spawn(
            PROGRAM,
            ["-l", "DEBUG"],
            env=environment,
            dimensions=(ROWS, COLUMNS),
            encoding="utf-8",
        )
        self._see("/help")

    def _see(self, text):
        """Waits until `text` stands on the screen; raises AssertionError when it does not."""
        deadline = time.monotonic() + STEP_SECONDS
        while not any(text in line for line in self._screen.display):
            try:
                self._stream.feed(self._terminal.read_nonblocking(65536, timeout=0.5))
            except pexpect.TIMEOUT:
                pass
            except pexpect.EOF:
                raise AssertionError(f"profanity ended:\n{self._shown()}") from None
            if time.monotonic() > deadline:
                raise AssertionError(f"profanity never showed {text!r}:\n{self._shown()}")

    def _shown(self):
        return "\n".join(line.rstrip() for line in self._screen.display if line.strip())

    def type(self, line):
        self._terminal.send(f"{line}\r")

    def connect(self, jid, password, port, policy):
        """Logs in; `policy` is profanity's word: "force" (STARTTLS) or "legacy" (direct TLS)."""
        self.type(f"/connect {jid} server 127.0.0.1 port {port} tls {policy}")
        self._see("Enter password")
        self.type(password)
        self._see("logged in successfully")

    def wrong_password(self, jid, password, port):
        """A login that must not succeed, and that profanity must tell as such."""
        self.type(f"/connect {jid} server 127.0.0.1 port {port} tls force")
        self._see("Enter password")
        self.type(password)
        self._see("Login failed")

    def version(self, domain):
        self.type("/win 1")
        self.type(f"/serversoftware {domain}")
        self._see("Name")

    def ping(self, _domain):
        """Pings the server, which profanity does only where disco#info announces it."""
        self.type("/win 1")
        self.type("/ping")
        self._see("Ping response")

    def message(self, to, word):
        self.type(f"/msg {to} {word}")

    def see_message(self, word):
        """Waits for an incoming message; its window must be in front."""
        self._see(word)

    def quit(self):
        """Leaves profanity, which closes its stream first."""
        if self._terminal.isalive():
            self.type("/quit")
            try:
                self._terminal.expect(pexpect.EOF, timeout=STEP_SECONDS)
            finally:
                self._terminal.close(force=True)
