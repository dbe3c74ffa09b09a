"""stanzad among other servers: the standard ports of one address, and the DNS of the run."""

import json
import sqlite3
from contextlib import closing

from federation.network import (
    C2S_PORT,
    C2S_TLS_PORT,
    DNS_ADDRESS,
    S2S_PORT,
    S2S_TLS_PORT,
    in_own_mounts,
)
from server import Server


class Stanzad(Server):
    """`dns` and `tls`: further TOML lines for these sections; `nameserver`: the address of the one
    that its own resolv.conf names, where the conf file is to name none."""

    def __init__(self, name, suite, folder, address, domains, *, dns=(), tls=(), nameserver=None):
        self.name = name
        self._listening = address
        self._dns = dns if nameserver else (f'servers = ["{DNS_ADDRESS}:53"]', *dns)
        self._tls = tls
        self._nameserver = nameserver
        super().__init__(suite.options.stanzad, folder, suite.certificates, domains)
        self.address = address
        self._environment["SSL_CERT_FILE"] = str(suite.ca)

    def _ports(self):
        return C2S_PORT, C2S_TLS_PORT

    def _settings(self, certificates, domains, _tls):
        lines = [
            "[server]",
            f'data = "{self.folder}/data"',
            "shards = 2",
            f'control = "{self.folder}/control.sock"',
            "[listen]",
            f'c2s = ["{self._listening}:{C2S_PORT}"]',
            f'c2s_tls = ["{self._listening}:{C2S_TLS_PORT}"]',
            f's2s = ["{self._listening}:{S2S_PORT}"]',
            f's2s_tls = ["{self._listening}:{S2S_TLS_PORT}"]',
            "[tls]",
            f'certificates = "{certificates}"',
            *self._tls,
            "[dns]",
            *self._dns,
            "[log]",
            'level = "debug"',
        ]
        for domain, section in domains.items():
            lines += [f'[domain."{domain}"]', *section]
        return "\n".join(lines) + "\n"

    def _command_line(self):
        argv = super()._command_line()
        if self._nameserver is None:
            return argv
        return in_own_mounts(self.folder, *argv, nameserver=self._nameserver)

    def waiting(self, remote=None):
        """How many messages for other servers, or for one, are stored."""
        path = self.folder / "data" / "stanzad.sqlite"
        query = "SELECT count(*) FROM peer_queue WHERE ?1 IS NULL OR remote = ?1"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            (count,) = database.execute(query, (remote,)).fetchone()
        return count

    async def links(self, local, remote):
        """What `stanzad s2s list` says of the streams on which these domains are proven: a list of
        facts for each direction, "accepted" and "dialled"."""
        told = await self._command("s2s", "list", "--config", str(self.config), "--json", remote)
        found = {"accepted": [], "dialled": []}
        for stream in json.loads(told)["servers"]:
            for pair in stream["proven"]:
                if (pair["local"], pair["remote"]) == (local, remote):
                    found[stream["direction"]].append({**stream, **pair})
        return found

    async def explain(self, local, remote):
        """What `stanzad explain s2s` says of a domain: the lines for people."""
        arguments = ("--config", str(self.config), "--from", local, remote)
        told = await self._command("explain", "s2s", *arguments, statuses=(0, 1))
        return told.decode()

    def log_lines(self, *words):
        """The lines of the log that have all these words."""
        lines = self.log.read_text(errors="replace").splitlines()
        return [line for line in lines if all(word in line for word in words)]
