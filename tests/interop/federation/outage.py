"""What waits for servers that are away, when stanzad itself is killed meanwhile: all of it comes,
each once, in order, and what is written later comes after it.

One Prosody is not started before stanzad runs again. Another one is stopped by SIGSTOP: the kernel
takes connections for it, and nobody answers.
"""

import asyncio
import signal

from contacts import word
from federation.part import Part
from federation.prosody import Prosody, tls
from persons import Person

CHECK_SECONDS = 60
OURS = "killed.test"
# Not started; stopped.
ABSENT, FROZEN = "absent.test", "frozen.test"
ROW = 100


class Outage(Part):
    """One stanzad, and two Prosodys that have to wait."""

    def __init__(self, suite, name):
        super().__init__(suite, name)
        self.ours, host = self.stanzad("127.0.0.15", {OURS: []})
        self.certified((OURS,), host)
        self.absent = self._prosody(ABSENT, "127.0.0.16")
        self.frozen = self._prosody(FROZEN, "127.0.0.17")
        self.servers.append(self.frozen)
        self._sent = {ABSENT: [], FROZEN: []}
        self._juliet = Person(suite, suite.client, f"juliet@{OURS}")

    def _prosody(self, domain, address):
        suite = self.suite
        suite.certificate(domain)
        suite.zone.address(f"host.{domain}", address)
        suite.zone.srv(domain, f"host.{domain}")
        suite.host(domain, address)
        hosts = {domain: [tls("ssl", suite.certificates, domain)]}
        return Prosody(suite, self.folder / domain, address, hosts, ["s2s_secure_auth = true"])

    async def prepare(self):
        await self.suite.account(self.ours, f"juliet@{OURS}")
        for server, domain in ((self.absent, ABSENT), (self.frozen, FROZEN)):
            await self.suite.account(server, f"romeo@{domain}")

    async def check(self):
        title = f"{OURS} to {ABSENT}, {FROZEN}"
        try:
            check = self.report.check
            await check(title, "stored before the kill", self._write_and_die(), CHECK_SECONDS)
            await check(title, "written after it", self._come_back(), CHECK_SECONDS)
        finally:
            # A stopped one would not heed the signal that ends it.
            self.frozen.signal(signal.SIGCONT)
        await asyncio.gather(*(self._check_row(domain) for domain in self._sent))

    async def _write_and_die(self):
        self.frozen.signal(signal.SIGSTOP)
        await self._juliet.log_in()
        for _ in range(ROW):
            for domain in self._sent:
                await self._write(domain)
        while (waiting := self.ours.waiting()) < 2 * ROW:
            await asyncio.sleep(0.05)
        await self.ours.kill()
        assert waiting == 2 * ROW, f"{waiting} are stored"
        await self._juliet.is_cut_off()

    async def _come_back(self):
        await self.ours.start()
        await self._juliet.log_in()
        for domain in self._sent:
            await self._write(domain)
        self.servers.append(self.absent)
        await self.absent.start()

    async def _write(self, domain):
        body = word()
        self._sent[domain].append(body)
        await self._juliet.says(f"romeo@{domain}", body)

    async def _check_row(self, domain):
        async def comes():
            romeo = Person(self.suite, self.suite.client, f"romeo@{domain}")
            await romeo.log_in()
            await romeo.has_only(self._sent[domain])
            while self.ours.waiting(domain):
                await asyncio.sleep(0.05)
            # Behind what may have been sent twice.
            await self._write(domain)
            await romeo.has_only(self._sent[domain])

        name = f"{ROW} stored and a later one"
        await self.report.check(f"{OURS} to {domain}", name, comes(), CHECK_SECONDS)
