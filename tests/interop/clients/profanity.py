"""profanity, driven in a pseudo-terminal as a person would: keys in, screen out."""

import os
import re
import secrets
import time
from pathlib import Path

import pexpect
import pyte

STEP_SECONDS = 30
PROGRAM = "/usr/bin/profanity"
# Wide, so that no line that is waited for is broken; long, so that the stanzas of a login and what
# follows them stand on one screen.
COLUMNS, ROWS = 200, 140
# A line of a window begins with "03:29:45 - ".
TIME_COLUMNS = 11
# readline's "unix-line-discard".
DISCARD_LINE = "\x15"


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
            # Of what it has, pyte knows all; xterm can scroll in a way that pyte does not follow.
            "TERM": "linux",
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
        # By default it looks at its socket once a second. Nothing but the console and what is typed
        # shall take rows, and no message be shown again from its own history.
        for command in (
            "/inpblock dynamic off",
            "/inpblock timeout 10",
            "/roster hide",
            "/history off",
            "/carbons off",
        ):
            self.type(command)
        self._mark = self._marked()

    def _see(self, text):
        """Waits until `text` stands on the screen; raises AssertionError when it does not."""
        self._wait(lambda: any(text in line for line in self._screen.display), repr(text))

    def _wait(self, is_shown, what):
        deadline = time.monotonic() + STEP_SECONDS
        while not is_shown():
            self._read()
            if time.monotonic() > deadline:
                raise AssertionError(f"profanity never showed {what}:\n{self._shown()}")

    def _read(self):
        """Takes what it has written, or waits for that for half a second."""
        try:
            self._stream.feed(self._terminal.read_nonblocking(65536, timeout=0.5))
        except pexpect.TIMEOUT:
            pass
        except pexpect.EOF:
            raise AssertionError(f"profanity ended:\n{self._shown()}") from None

    def _marked(self):
        """Leaves a fresh mark in the console, waits for it, and yields it."""
        self.type("/win 1")
        mark = f"/{secrets.token_hex(6)}"
        self.type(mark)
        self._see(f"Unknown command: {mark}")
        self._drawn()
        return f"Unknown command: {mark}"

    def _drawn(self):
        """Waits until the window in front is on the screen as it is now: what is typed next shows
        after that."""
        word = secrets.token_hex(6)
        self._terminal.send(word)
        self._see(word)
        self._terminal.send(DISCARD_LINE)

    def _console_since(self, mark):
        """What stands in the console after a mark; it must be in front."""
        lines = [line[TIME_COLUMNS:].rstrip() for line in self._screen.display]
        return lines[lines.index(mark) + 1 :] if mark in lines else lines

    def ask(self, command):
        """Runs a command that answers at once in the console; yields the lines of its answer."""
        begin = self._marked()
        self.type(command)
        self._mark = self._marked()
        lines = self._console_since(begin)
        return lines[: lines.index(self._mark)]

    def ask_until(self, command, find):
        """Runs a command again and again, until `find` finds something in the lines of its answer;
        yields that."""
        deadline = time.monotonic() + STEP_SECONDS
        while True:
            lines = self.ask(command)
            found = find(lines)
            if found:
                return found
            if time.monotonic() > deadline:
                raise AssertionError(f"{command} never showed what it should, but {lines}")
            # Something has to arrive first, which may show.
            self._read()

    def see_in_console(self, pattern):
        """Waits for a line in the console that has come after the last `ask`."""
        self.type("/win 1")
        self._drawn()

        def is_shown():
            return any(re.search(pattern, line) for line in self._console_since(self._mark))

        self._wait(is_shown, f"a line like {pattern!r}")

    def stanzas_until(self, find):
        """The text of the stanzas since the login, as soon as `find` finds something in it."""
        self.type("/xmlconsole")
        self._drawn()

        def text():
            # Lines are broken between words, where XML may have any white space.
            return " ".join(line[TIME_COLUMNS:].strip() for line in self._screen.display)

        self._wait(lambda: find(text()), "the stanzas")
        self._drawn()
        return text()

    def see_chat(self, jid, *endings):
        """Waits for lines with these endings in the window of a JID; yields all its lines."""
        self.type(f"/msg {jid}")
        self._drawn()

        def lines():
            return [line.rstrip() for line in self._screen.display]

        def is_shown():
            return all(any(line.endswith(ending) for line in lines()) for ending in endings)

        self._wait(is_shown, f"{endings} from {jid}")
        self._drawn()
        return lines()

    def _shown(self):
        return "\n".join(line.rstrip() for line in self._screen.display if line.strip())

    def type(self, line):
        self._terminal.send(f"{line}\r")

    def connect(self, jid, password, port, policy):
        """Logs in; `policy` is profanity's word: "force" (STARTTLS) or "legacy" (direct TLS)."""
        # The windows of the last login are gone. This one shows stanzas from when it is opened.
        self.type("/xmlconsole")
        self.type("/win 1")
        self.type(f"/connect {jid} server 127.0.0.1 port {port} tls {policy}")
        self._see("Enter password")
        self.type(password)
        self._see(f"{jid} logged in successfully")

    def disconnect(self):
        """Closes the stream, and waits until it is closed."""
        self._mark = self._marked()
        self.type("/disconnect")
        self.see_in_console("logged out successfully")

    def wrong_password(self, jid, password, port):
        """A login that must not succeed, and that profanity must tell as such."""
        self.type(f"/connect {jid} server 127.0.0.1 port {port} tls force")
        self._see("Enter password")
        self.type(password)
        self._see("Login failed")

    def version(self, domain):
        self._mark = self._marked()
        self.type(f"/serversoftware {domain}")
        self.see_in_console("Name")

    def disco(self, jid):
        """Asks what a JID is and can."""
        self._mark = self._marked()
        self.type(f"/disco info {jid}")
        self.see_in_console(rf"^Service discovery .* {re.escape(jid)}")

    def ping(self, _domain):
        """Pings the server, which profanity does only where disco#info announces it."""
        self._mark = self._marked()
        self.type("/ping")
        self.see_in_console("Ping response")

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
