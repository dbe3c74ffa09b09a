"""What people at stanzad and at another server do together: each story and each request once by an
account at stanzad, and once by one at the other."""

import asyncio
import signal

from contacts import Story, word
from federation.ejabberd import Ejabberd
from federation.network import S2S_TLS_PORT
from federation.part import Part
from federation.prosody import Prosody, tls
from persons import Person

CHECK_SECONDS = 60
DISCO_INFO = "http://jabber.org/protocol/disco#info"
# Messages in a row.
ROW = 50
# Who begins a story, and who does not; who asks the other server, who hears a row of messages, and who
# writes to whom while the other server ends.
PEOPLE = ("begins", "follows", "asks", "listens", "stays", "returns")


class Correspondent(Person):
    """A person whose contact is at another server."""

    async def sees_answer(self, type_, jid):
        """Presence of another subscription type, from the bare JID as RFC 6121 §3 has it, or from
        the resource that has removed its contact: Prosody 0.12 leaves that in."""

        def is_from(told):
            return told.split("/")[0] == jid

        await self._hears("presence", **{"from": is_from}, type=type_)


class WithPeer(Part):
    """stanzad serves `local`, and `more` to look at single streams; the other server `remote`."""

    def __init__(self, suite, name, address, more=()):
        super().__init__(suite, name)
        self.local, self.remote, self.more = f"with-{name}.test", f"{name}.test", more
        domains = {domain: [] for domain in (self.local, *more)}
        self.ours, self.host = self.stanzad(address, domains)
        self.certified(domains, self.host)
        self.theirs = None
        # Records of this one lead to stanzad, which does not serve it; of the next ones there are
        # none, or one that says that there is no server.
        self.unserved = f"unserved-by-{self.local}"
        suite.zone.srv(self.unserved, self.host)
        self.unknown = f"unknown-{self.local}"
        self.without = f"without-{self.local}"
        suite.zone.no_service(self.without, "xmpp-server")

    def with_peer(self, server):
        self.theirs = server
        self.servers.append(server)
        self.suite.host(self.remote, server.address)

    async def prepare(self):
        for server, domain in ((self.ours, self.local), (self.theirs, self.remote)):
            for localpart in PEOPLE:
                await self.suite.account(server, f"{localpart}@{domain}")
        for domain in self.more:
            await self.suite.account(self.ours, f"talks@{domain}")
        await self.suite.account(self.theirs, f"talks@{self.remote}")

    async def check(self):
        ways = ((self.local, self.remote), (self.remote, self.local))
        await asyncio.gather(*(self._one_way(*way) for way in ways))
        await self._check(self.local, self.remote, "who has proven what", self.proofs())
        name = "what it has not read when it is killed"
        await self._check(self.local, self.remote, name, self._killed())

    async def _killed(self):
        """What is written to a server that does not read, and is lost with it, comes when it is back:
        neither Prosody nor ejabberd has stream management between servers here. They have streams
        by now. Whom it is for logs in when all of it is there: one that ejabberd is storing during a
        login stays for the next one."""
        one, other = self._person("stays", self.local), self._person("returns", self.remote)
        await one.log_in()
        self.theirs.signal(signal.SIGSTOP)
        bodies = [word() for _ in range(ROW)]
        for body in bodies:
            await one.says(other.jid, body)
        await one.asks("ping", to=self.local)
        await self.theirs.kill()
        await self.theirs.start()
        # Refused by us while there is no stream, and by the other server behind the row.
        while (await one.asks("unknown", to=self.remote))["condition"] != "service-unavailable":
            await asyncio.sleep(0.1)
        await other.log_in()
        await other.has_only(bodies)

    async def proofs(self):
        """How the two servers have proven themselves."""
        raise NotImplementedError

    async def talk(self, local, is_ours_first=True):
        """A message each way between a domain of `more` and `remote`; yields what `links` says."""
        ends = [self._person("talks", local), self._person("talks", self.remote)]
        for each in ends:
            await each.log_in()
        for sender, receiver in (ends, ends[::-1]) if is_ours_first else (ends[::-1], ends):
            body = word()
            await sender.says(receiver.full, body)
            await receiver.sees_message(body, sender.full)
        return await self.ours.links(local, self.remote)

    async def _links(self, local):
        """The stream that the other server has opened, and the one that it has accepted."""
        links = await self.ours.links(local, self.remote)
        (accepted,), (dialled,) = links["accepted"], links["dialled"]
        return accepted, dialled

    def _both_by_certificate(self, accepted, dialled, ours):
        """The other server has shown a certificate on both streams; `ours` is what it has taken."""
        assert accepted["peer_proven_by"] == "EXTERNAL", accepted
        assert dialled["peer_proven_by"] == "certificate", dialled
        assert dialled["proven_by_us"] == ours, dialled
        return f"certificates; we by {ours}"

    def _person(self, localpart, domain):
        return Correspondent(self.suite, self.suite.client, f"{localpart}@{domain}")

    async def _check(self, asker, asked, name, work):
        return await self.report.check(f"{asker} to {asked}", name, work, CHECK_SECONDS)

    async def _one_way(self, asker, asked):
        one, other = self._person("begins", asker), self._person("follows", asked)
        second = self._person("begins", asker)
        story = Story(self.report, one, other, f"{asker} to {asked}", second)
        await asyncio.gather(story.tell(), self._requests(asker, asked))

    async def _requests(self, asker, asked):
        one = self._person("asks", asker)
        await one.log_in()
        nobody = f"nobody@{asked}"

        async def disco():
            info = await one.asks("disco", to=asked)
            assert ["server", "im"] in info["identities"], f"identities: {info['identities']}"
            assert DISCO_INFO in info["features"], f"features: {info['features']}"

        async def ping():
            await one.asks("ping", to=asked)

        async def version():
            return (await one.asks("version", to=asked))["name"]

        async def unknown_request():
            answer = await one.asks("unknown", to=asked)
            assert answer["condition"] == "service-unavailable", answer["condition"]

        async def request_to_nobody():
            answer = await one.asks("unknown", to=nobody)
            assert answer["condition"] == "service-unavailable", answer["condition"]

        async def message_to_nobody():
            await one.says(nobody, word())
            await one.sees_error(nobody, "service-unavailable")

        async def row_of_messages():
            # In order, each once; from us also those that wait for the stream. Those of Prosody 0.12
            # are overtaken by what comes when the stream is nearly there.
            other = self._person("listens", asked)
            await other.log_in()
            bodies = [word() for _ in range(ROW)]
            for body in bodies:
                await one.says(other.full, body)
                if asker == self.remote and body == bodies[0]:
                    await other.sees_message(body, one.full)
            await other.has_only(bodies)

        checks = (
            *(row_of_messages, disco, ping, version, unknown_request),
            *(request_to_nobody, message_to_nobody),
        )
        for check in checks:
            await self._check(asker, asked, check.__name__.replace("_", " "), check())
        if asker == self.local:
            for domain in (self.unknown, self.without, self.unserved):
                await self._check(asker, domain, "not found", self._not_found(one, domain))
        else:
            await self._check(asker, self.unserved, "not found", self._refused(one, self.unserved))

    async def _not_found(self, one, domain):
        began = asyncio.get_running_loop().time()
        await one.says(f"juliet@{domain}", word())
        event = await one.sees_error(f"juliet@{domain}", "remote-server-not-found")
        return f"{asyncio.get_running_loop().time() - began:.1f} s: {event['text']}"

    async def _refused(self, one, domain):
        """Another server chooses its own condition."""
        await one.says(f"juliet@{domain}", word())
        return (await one.sees_error(f"juliet@{domain}"))["condition"]


class WithProsody(WithPeer):
    """Prosody, which wants certificates, with direct TLS on both sides: it prefers that, too."""

    def __init__(self, suite, name):
        super().__init__(suite, name, "127.0.0.2")
        host = self.with_prosody("127.0.0.3")
        for domain, host in ((self.remote, host), (self.local, self.host)):
            self.suite.zone.srv(domain, host, S2S_TLS_PORT, "xmpps-server")

    def with_prosody(self, address, modules=()):
        suite = self.suite
        suite.certificate(self.remote)
        host = f"prosody.{self.name}.hosts.test"
        suite.zone.address(host, address)
        # Below the record for direct TLS, where there is one.
        suite.zone.srv(self.remote, host, order="10 0")
        hosts = {self.remote: [tls("ssl", suite.certificates, self.remote)]}
        settings = [
            "s2s_secure_auth = true",
            tls("s2s_direct_tls_ssl", suite.certificates, self.remote),
        ]
        folder = self.folder / "prosody"
        self.with_peer(Prosody(suite, folder, address, hosts, settings, modules))
        return host

    async def proofs(self):
        accepted, dialled = await self._links(self.local)
        assert accepted["direct_tls"] and dialled["direct_tls"], f"{accepted}, {dialled}"
        return self._both_by_certificate(accepted, dialled, "EXTERNAL")


class WithProsodyBothWays(WithProsody):
    """The same with STARTTLS, and a stream carries the stanzas of both servers (XEP-0288)."""

    def __init__(self, suite, name):
        more = ["ours-first.test", "theirs-first.test"]
        WithPeer.__init__(self, suite, name, "127.0.0.10", more)
        self.with_prosody("127.0.0.11", ["s2s_bidi"])

    async def proofs(self):
        """Where both begin at once there may be two streams, so by domains that were silent."""
        ours, theirs = self.more
        links = await self.talk(ours)
        assert [len(links[way]) for way in ("dialled", "accepted")] == [1, 0], links
        (dialled,) = links["dialled"]
        assert dialled["both_ways"] and dialled["peer_proven_by"] == "certificate", links
        links = await self.talk(theirs, is_ours_first=False)
        assert [len(links[way]) for way in ("dialled", "accepted")] == [0, 1], links
        (accepted,) = links["accepted"]
        assert accepted["both_ways"] and accepted["peer_proven_by"] == "EXTERNAL", links
        return "one stream each, of who has begun"


class WithEjabberd(WithPeer):
    """ejabberd, which offers EXTERNAL and then refuses a certificate that is for servers alone
    ("unsupported certificate purpose"): dialback is what remains. A second domain of ours has a
    certificate for both purposes."""

    def __init__(self, suite, name):
        self.with_both = "with-both-purposes.test"
        super().__init__(suite, name, "127.0.0.4", [self.with_both])
        suite.certificate(self.with_both, client=True)
        suite.certificate(self.remote)
        host = "ejabberd.hosts.test"
        suite.zone.address(host, "127.0.0.5")
        suite.zone.srv(self.remote, host)
        both = self.folder / "ejabberd.pem"
        files = (suite.certificates / f"{self.remote}.{ending}" for ending in ("crt", "key"))
        both.write_bytes(b"".join(each.read_bytes() for each in files))
        folder = self.folder / "ejabberd"
        self.with_peer(Ejabberd(folder, "127.0.0.5", suite.ca, self.remote, both))

    async def proofs(self):
        accepted, dialled = await self._links(self.local)
        self._both_by_certificate(accepted, dialled, "dialback")
        await self.talk(self.with_both)
        accepted, dialled = await self._links(self.with_both)
        return self._both_by_certificate(accepted, dialled, "EXTERNAL")
