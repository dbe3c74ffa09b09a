"""The name servers of /etc/resolv.conf, and those that it names after a change and a reload."""

import asyncio

from contacts import word
from federation.network import DNS_ADDRESS, write_resolv_conf
from federation.part import Part
from persons import Person

CHECK_SECONDS = 40
OURS, THEIRS = "asks.resolving.test", "found.resolving.test"
# A name server that is out of order.
BROKEN_DNS_ADDRESS = "127.0.0.54"


class Broken(asyncio.DatagramProtocol):
    """Answers that it has failed, whatever it is asked (RFC 1035 §4.1.1: RCODE 2)."""

    def __init__(self):
        self.asked = 0
        self._transport = None

    def connection_made(self, transport):
        self._transport = transport

    def datagram_received(self, query, sender):
        self.asked += 1
        question = query[12 : query.index(0, 12) + 5]
        self._transport.sendto(query[:2] + b"\x81\x82\0\1" + bytes(6) + question, sender)


class Resolving(Part):
    """Two stanzads; one of them is not told of the DNS by its conf file."""

    def __init__(self, suite, name):
        super().__init__(suite, name)
        self.ours, host = self.stanzad("127.0.0.18", {OURS: []}, nameserver=BROKEN_DNS_ADDRESS)
        self.certified((OURS,), host)
        self.theirs, host = self.stanzad("127.0.0.19", {THEIRS: []}, "found")
        self.certified((THEIRS,), host)

    async def prepare(self):
        await self.suite.account(self.ours, f"juliet@{OURS}")
        await self.suite.account(self.theirs, f"romeo@{THEIRS}")

    async def check(self):
        title = f"{OURS} to {THEIRS}"
        loop = asyncio.get_running_loop()
        transport, broken = await loop.create_datagram_endpoint(
            Broken, local_addr=(BROKEN_DNS_ADDRESS, 53)
        )
        work = self._is_taken_up(broken)
        await self.report.check(title, "a changed resolv.conf", work, CHECK_SECONDS)
        transport.close()

    async def _is_taken_up(self, broken):
        juliet = Person(self.suite, self.suite.client, f"juliet@{OURS}")
        romeo = Person(self.suite, self.suite.client, f"romeo@{THEIRS}")
        await asyncio.gather(juliet.log_in(), romeo.log_in())
        body = word()
        await juliet.says(romeo.jid, body)
        while not (lines := self.ours.log_lines("server not reached", f"to={THEIRS}")):
            await asyncio.sleep(0.05)
        assert broken.asked, "the first name server was not asked"
        write_resolv_conf(self.ours.folder, DNS_ADDRESS)
        await self.ours.reload()
        await romeo.sees_message(body, juliet.full)
        return lines[0].partition(" reason=")[2]
