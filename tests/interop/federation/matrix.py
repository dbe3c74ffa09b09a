"""Each state of a peer's certificate with each policy of ours, in both directions, all at once.

One running Prosody has a virtual host for each state, one running stanzad a domain for each policy,
and an account of each writes to each of the other side. What must come of it is in matrix.txt.
"""

import asyncio
import re
from pathlib import Path

from certificates import issue_self_signed
from federation.cases import Case, Cases
from federation.prosody import Prosody, tls
from persons import Person

POLICIES = {
    "default": [],
    "dialback": ["s2s.secure_auth = false"],
    "anything": ["s2s.secure_auth = false", "s2s.require_encryption = false"],
}
HOSTS = ("both", "server", "expired", "self", "name", "authority", "none")


def table(ours):
    """The rows; all combinations are there, each once."""
    text = Path(__file__).with_name("matrix.txt").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    rows = [re.split(r"\s{2,}", line) for line in lines[1:]]
    there = sorted((row[0], row[1]) for row in rows)
    wanted = sorted((host, policy) for host in HOSTS for policy in POLICIES)
    assert there == wanted, "matrix.txt must have each host with each policy, once"
    return [
        Case(f"{host}.peer.test", ours, f"{policy}.ours.test", sends, is_sent_to, host != "none")
        for host, policy, sends, is_sent_to in rows
    ]


class Matrix(Cases):
    """Its servers are strict or lenient as said; the peer itself talks with everybody."""

    def __init__(self, suite, name):
        super().__init__(suite, name)
        domains = {f"{policy}.ours.test": lines for policy, lines in POLICIES.items()}
        self.ours, ours = self.stanzad("127.0.0.6", domains)
        self._cases = table(self.ours)
        self.certified(domains, ours)
        address = "127.0.0.7"
        suite.zone.address("peer.hosts.test", address)
        sections = {}
        for host in HOSTS:
            domain = f"{host}.peer.test"
            suite.zone.srv(domain, "peer.hosts.test")
            suite.host(domain, address)
            sections[domain] = self._section(host, domain)
        # Not by certificate alone, since the host without TLS could then reach nobody.
        lenient = ["s2s_secure_auth = false", "s2s_require_encryption = false", "s2s_timeout = 5"]
        folder = self.folder / "prosody"
        self.theirs = Prosody(suite, folder, address, sections, lenient)
        self.servers.append(self.theirs)

    def _section(self, host, domain):
        """The settings of a virtual host. Its clients always get a good certificate."""
        suite, bad = self.suite, self.folder / "bad"
        bad.mkdir(exist_ok=True)
        suite.certificate(domain, client=host != "server")
        lines = [tls("ssl", suite.certificates, domain)]
        if host == "none":
            return [*lines, "s2s_allow_encryption = false"]
        if host in ("both", "server"):
            return lines
        if host == "expired":
            suite.authority.issue(bad, domain, days=(-10, -1), client=True)
        elif host == "self":
            issue_self_signed(bad, domain, client=True)
        elif host == "name":
            suite.authority.issue(bad, domain, name="another.test", client=True)
        elif host == "authority":
            suite.unknown_authority.issue(bad, domain, client=True)
        return [*lines, tls("s2s_ssl", bad, domain)]

    async def prepare(self):
        for case in self._cases:
            for server, domain in ((self.ours, case.domain), (self.theirs, case.host)):
                jid = f"juliet@{domain}"
                if jid not in self.suite.passwords:
                    await self.suite.account(server, jid)

    async def check(self):
        domains = {case.domain for case in self._cases} | {case.host for case in self._cases}
        people = {each: Person(self.suite, self.suite.client, f"juliet@{each}") for each in domains}
        await asyncio.gather(*(person.log_in() for person in people.values()))
        await self.check_cases(self._cases, people)
