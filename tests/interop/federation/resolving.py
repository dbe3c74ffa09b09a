"""The name servers of /etc/resolv.conf, and those that it names after a change and a reload."""

import asyncio

from contacts import word
from federation.network import DNS_ADDRESS, write_resolv_conf
from federation.part import Part
from persons import Person

CHECK_SECONDS = 40
OURS, THEIRS = "asks.resolving.test", "found.resolving.test"
# Nobody is there.
NO_DNS_ADDRESS = "127.0.0.54"


class Resolving(Part):
    """Two stanzads; one of them is not told of the DNS by its conf file."""

    def __init__(self, suite, name):
        super().__init__(suite, name)
        self.ours, host = self.stanzad("127.0.0.18", {OURS: []}, nameserver=NO_DNS_ADDRESS)
        self.certified((OURS,), host)
        self.theirs, host = self.stanzad("127.0.0.19", {THEIRS: []}, "found")
        self.certified((THEIRS,), host)

    async def prepare(self):
        await self.suite.account(self.ours, f"juliet@{OURS}")
        await self.suite.account(self.theirs, f"romeo@{THEIRS}")

    async def check(self):
        title = f"{OURS} to {THEIRS}"
        work = self._is_taken_up()
        await self.report.check(title, "a changed resolv.conf", work, CHECK_SECONDS)

    async def _is_taken_up(self):
        juliet = Person(self.suite, self.suite.client, f"juliet@{OURS}")
        romeo = Person(self.suite, self.suite.client, f"romeo@{THEIRS}")
        await asyncio.gather(juliet.log_in(), romeo.log_in())
        body = word()
        await juliet.says(romeo.jid, body)
        while not (lines := self.ours.log_lines("server not reached", f"to={THEIRS}")):
            await asyncio.sleep(0.05)
        write_resolv_conf(self.ours.folder, DNS_ADDRESS)
        await self.ours.reload()
        await romeo.sees_message(body, juliet.full)
        return lines[0].partition(" reason=")[2]
