"""What each part of the suite has for itself: its servers, which are told of when a check fails."""

import asyncio

from federation.stanzad import Stanzad
from report import FAILED


# The ends of the logs are told of so many failed checks of a part; the others have much the same.
TOLD_MAX = 3


class Checks:
    """The suite's report, as one part sees it: a check that fails brings the ends of its logs."""

    def __init__(self, report, servers):
        self._report = report
        self._servers = servers
        self._failed = 0

    async def check(self, client, name, work, seconds=40):
        """As `Report.check`."""
        value = await self._report.check(client, name, work, seconds)
        if value is FAILED:
            self._tell()
        return value

    def fail(self, client, name, detail):
        """As `Report.fail`."""
        self._report.fail(client, name, detail)

    def _tell(self):
        self._failed += 1
        if self._failed <= TOLD_MAX:
            for each in self._servers:
                print(f"\nThe end of the log of {each.name}:\n{each.log_tail(25)}\n", flush=True)


class Part:
    """One part. A subclass plans names, records and servers in `__init__`: no server runs yet."""

    def __init__(self, suite, name):
        self.suite = suite
        self.name = name
        self.servers = []
        self.report = Checks(suite.report, self.servers)
        self.folder = suite.folder / name
        self.folder.mkdir()

    def stanzad(self, address, domains, name="stanzad", **more):
        """A server of ours for `domains`, each with the TOML lines of its section; `more` as
        Stanzad has it. Yields it and the name of its host, which has an address record."""
        server = Stanzad(name, self.suite, self.folder / name, address, domains, **more)
        host = f"{name}.{self.name}.hosts.test"
        self.suite.zone.address(host, address)
        for domain in domains:
            self.suite.host(domain, address)
        self.servers.append(server)
        return server, host

    def certified(self, domains, host):
        """Gives them certificates for servers, as public authorities issue them, and records."""
        for domain in domains:
            self.suite.certificate(domain)
            self.suite.zone.srv(domain, host)

    async def run(self):
        """Starts the servers, checks, and stops them."""
        try:
            await self.prepare()
            started = await asyncio.gather(*(self._start(each) for each in self.servers))
            if FAILED not in started:
                await self.check()
        except Exception as error:
            self.report.fail("suite", self.name, f"{type(error).__name__}: {error}")
        finally:
            for each in self.servers:
                await self.report.check(each.name, f"stops ({self.name})", each.stop())

    async def prepare(self):
        """Makes accounts: some servers want them before they start."""

    async def check(self):
        raise NotImplementedError

    async def _start(self, server):
        return await self.report.check(server.name, f"starts ({self.name})", server.start())
