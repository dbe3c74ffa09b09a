"""Each state of a peer's certificate with each policy of ours, in both directions, all at once.

One running Prosody has a virtual host for each state, one running stanzad a domain for each policy,
and an account of each writes to each of the other side. What must come of it is in matrix.txt.
"""

import asyncio
import re
from pathlib import Path

from certificates import issue_self_signed
from contacts import word
from federation.part import Part
from federation.prosody import Prosody, tls
from persons import Person

POLICIES = {
    "default": [],
    "dialback": ["s2s.secure_auth = false"],
    "anything": ["s2s.secure_auth = false", "s2s.require_encryption = false"],
}
HOSTS = ("both", "server", "expired", "self", "name", "authority", "none")
# A case has failed when it says nothing, and none of the others has ended for so long: with all at
# once on a busy machine a case may take longer than by itself.
QUIET_SECONDS = 5
REFUSED = "refused: "


class Case:
    """A row of the table."""

    def __init__(self, row):
        host, policy, self.sends, self.is_sent_to = row
        assert host in HOSTS and policy in POLICIES, f"there is no such case: {row}"
        self.host = f"{host}.peer.test"
        self.domain = f"{policy}.ours.test"


def table():
    """The rows; all combinations are there, each once."""
    text = Path(__file__).with_name("matrix.txt").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    rows = [re.split(r"\s{2,}", line) for line in lines[1:]]
    there = sorted((row[0], row[1]) for row in rows)
    wanted = sorted((host, policy) for host in HOSTS for policy in POLICIES)
    assert there == wanted, "matrix.txt must have each host with each policy, once"
    return [Case(row) for row in rows]


class Matrix(Part):
    """Its servers are strict or lenient as said; the peer itself talks with everybody."""

    def __init__(self, suite, name):
        super().__init__(suite, name)
        self._cases = table()
        domains = {f"{policy}.ours.test": lines for policy, lines in POLICIES.items()}
        self.ours, ours = self.stanzad("127.0.0.6", domains)
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
        self._progress = 0
        self._ended = asyncio.Condition()

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
        work = []
        for case in self._cases:
            there, here = people[case.host], people[case.domain]
            work += [self._sends(case, there, here), self._is_sent_to(case, here, there)]
        await asyncio.gather(*work)
        # Each of them is a process that reads the configuration and shakes hands.
        turns = asyncio.Semaphore(4)
        await asyncio.gather(*(self._explained(case, turns) for case in self._cases))

    async def _sends(self, case, sender, receiver):
        title = f"{case.host} to {case.domain}"
        work = self._case(case.sends, case, "accepted", sender, receiver)
        await self.report.check(title, case.sends, work, 60)

    async def _is_sent_to(self, case, sender, receiver):
        title = f"{case.domain} to {case.host}"
        work = self._case(case.is_sent_to, case, "dialled", sender, receiver)
        await self.report.check(title, case.is_sent_to, work, 60)

    async def _case(self, expected, case, direction, sender, receiver):
        """Sends a message, and waits until it is there or comes back."""
        body = word()
        await sender.says(receiver.jid, body)
        came = asyncio.ensure_future(receiver.sees_message(body, sender.full))
        came_back = asyncio.ensure_future(sender.sees_error(receiver.jid))
        try:
            await self._first(came, came_back)
        finally:
            for each in (came, came_back):
                each.cancel()
        if came_back.done() and not came_back.cancelled():
            error = came_back.result()
            told = f"{error['condition']} {error['text'] or ''}"
            assert expected.startswith(REFUSED), f"it came back: {told}"
            await self._refused(expected.removeprefix(REFUSED), case, direction, told)
            return told
        assert not expected.startswith(REFUSED), "the message came"
        return await self._proven(expected, case, direction)

    async def _first(self, *outcomes):
        """Waits for one of them, as long as any case makes progress."""
        while True:
            before = self._progress
            done, _ = await asyncio.wait(
                outcomes, timeout=QUIET_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if done:
                self._progress += 1
                return
            assert self._progress > before, f"nothing came in {QUIET_SECONDS} s"

    async def _explained(self, case, turns):
        """A dry run comes to the same."""

        async def explain():
            async with turns:
                told = await self.ours.explain(case.domain, case.host)
            (verdict,) = [
                line for line in told.splitlines() if line.startswith(f"{case.domain} ")
            ]
            if case.is_sent_to.startswith(REFUSED):
                assert f"does not talk with {case.host}: " in verdict, told
                assert case.is_sent_to.removeprefix(REFUSED) in verdict, told
            else:
                assert f"talks with {case.host}: " in verdict, told
            return verdict

        await self.report.check(f"{case.domain} to {case.host}", "explained", explain(), 60)

    async def _refused(self, words, case, direction, told):
        """The log says why, of a stream of this direction; a sender of ours is told the same."""
        if direction == "dialled":
            assert words in told, f"the sender is not told {words!r}, but {told}"
        deadline = asyncio.get_running_loop().time() + QUIET_SECONDS
        # The log has a thread of its own, which may be behind.
        while not self._is_logged(words, case, direction):
            is_late = asyncio.get_running_loop().time() > deadline
            assert not is_late, f"no refusal with {words!r} of what was {direction} is in the log"
            await asyncio.sleep(0.05)

    def _is_logged(self, words, case, direction):
        for line in self.ours.log_lines("server refused", f"peer={case.host} ", case.domain, words):
            (stream,) = re.findall(r" stream=(\d+) ", line)
            is_dialled = bool(self.ours.log_lines(" dialling ", f" stream={stream} "))
            if is_dialled == (direction == "dialled"):
                return True
        return False

    async def _proven(self, expected, case, direction):
        links = await self.ours.links(case.domain, case.host)
        means = [each["peer_proven_by"] for each in links[direction]]
        assert means == [expected], f"proven by {means}, {links}"
        encrypted = [each["tls_version"] is not None for each in links[direction]]
        assert encrypted == [case.host != "none.peer.test"], links
        return means[0]
