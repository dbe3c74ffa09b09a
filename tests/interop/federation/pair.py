"""Two stanzads: what each of them can, the other can too, so that all ways are tried.

The right one has a domain for each way in which it is found and proves itself. The left one has its
DNS answers validated, and of its two domains one lets TLSA records decide.
"""

import asyncio
import json
from dataclasses import dataclass

from client import ClientError
from contacts import word
from federation.network import S2S_PORT, S2S_TLS_PORT
from federation.part import Part
from persons import Person

CHECK_SECONDS = 40
LEFT, DANE = "left.test", "dane.left.test"
# For these dialback will do.
INSECURE = ("dialback.right.test", "calls-back.right.test")


@dataclass
class Way:
    """What `stanzad s2s list` says at the left one of a talk between these domains; the right one
    always takes the left one's certificate."""

    local: str
    remote: str
    # What has proven the right one on the first stream, and whether TLS was there first.
    proof: str
    is_direct: bool = False
    # How many streams there are in the other direction.
    others: int = 0


# The left one begins.
OURS = (
    Way(LEFT, "starttls.right.test", "certificate"),
    Way(LEFT, "direct.right.test", "certificate", is_direct=True),
    Way(LEFT, "dialback.right.test", "DNS alone"),
    Way(DANE, "dane.right.test", "DANE"),
    # A signed zone without TLSA records, and an unsigned one, whose records do not count.
    Way(DANE, "starttls.right.test", "certificate"),
    Way(DANE, "right.unsigned", "certificate"),
)
# The right one begins. Where its certificate is not enough, it is called back.
THEIRS = (
    Way(LEFT, "first.right.test", "EXTERNAL"),
    Way(LEFT, "calls-back.right.test", "dialback", others=1),
    Way(DANE, "dane-first.right.test", "EXTERNAL (DANE)"),
)
# Who is refused by the left one, from where, and words of the reason.
REFUSALS = (
    (LEFT, "dane.right.test", "self-signed"),
    (DANE, "dialback.right.test", "self-signed"),
    (DANE, "another-key.right.test", "TLSA"),
    (DANE, "right.bogus", "DNSSEC"),
)


class Pair(Part):
    """Both serve at once; the left one is looked at."""

    def __init__(self, suite, name):
        super().__init__(suite, name)
        options = {
            LEFT: [f"s2s.insecure_domains = {json.dumps(INSECURE)}"],
            DANE: ["s2s.dane = true"],
        }
        dns = ["dnssec = true", f'trust_anchor = "{suite.trust_anchor}"']
        self.left, host = self.stanzad("127.0.0.8", options, "left", dns=dns)
        self.certified(options, host)
        domains = {way.remote for way in (*OURS, *THEIRS)} | {remote for _, remote, _ in REFUSALS}
        self.right, host = self.stanzad("127.0.0.9", dict.fromkeys(sorted(domains), ()), "right")
        self._records(host)
        self._people = {
            domain: Person(suite, suite.client, f"juliet@{domain}")
            for domain in (*options, *domains)
        }

    def _records(self, host):
        suite, zone, unsigned, bogus = self.suite, *self.suite.zones
        self.certified(["starttls.right.test", "first.right.test"], host)
        suite.certificate("direct.right.test")
        zone.srv("direct.right.test", host, S2S_TLS_PORT, "xmpps-server")
        zone.no_service("direct.right.test", "xmpp-server")
        for domain in INSECURE:
            suite.self_signed(domain)
            zone.srv(domain, host)
        for domain in ("dane.right.test", "dane-first.right.test"):
            suite.self_signed(domain)
            self._described(domain, zone, domain)
        # Good certificates, and records that describe another.
        for domain, where in (
            ("another-key.right.test", zone),
            ("right.unsigned", unsigned),
            ("right.bogus", bogus),
        ):
            suite.certificate(domain)
            self._described(domain, where, "dane.right.test")

    def _described(self, domain, zone, whose):
        """Records of this domain, with a TLSA record of the certificate of another. Those are of a
        host and port, not of a domain, so that it has a host of its own."""
        host = f"host.{domain}"
        zone.address(host, self.right.address)
        zone.srv(domain, host)
        zone.tlsa(host, S2S_PORT, self.suite.certificates / f"{whose}.crt")

    async def prepare(self):
        for domain, person in self._people.items():
            await self.suite.account(self._server(domain), person.jid)

    def _server(self, domain):
        return self.left if domain in (LEFT, DANE) else self.right

    async def check(self):
        await asyncio.gather(*(person.log_in() for person in self._people.values()))
        work = [
            *(self._check(way.local, way.remote, "we begin", self._way(way)) for way in OURS),
            *(self._check(way.remote, way.local, "they begin", self._way(way)) for way in THEIRS),
        ]
        work += [
            self._check(local, remote, f"refused: {words}", self._refusal(local, remote, words))
            for local, remote, words in REFUSALS
        ]
        await asyncio.gather(*work)

    async def _check(self, local, remote, name, work):
        await self.report.check(f"{local} to {remote}", name, work, CHECK_SECONDS)

    async def _way(self, way):
        left, right = self._people[way.local], self._people[way.remote]
        ends = (right, left) if way in THEIRS else (left, right)
        for sender, receiver in (ends, ends[::-1]):
            body = word()
            await sender.says(receiver.full, body)
            await receiver.sees_message(body, sender.full)
        links = await self.left.links(way.local, way.remote)
        first, other = links["dialled"], links["accepted"]
        if way in THEIRS:
            first, other = other, first
        facts = ("peer_proven_by", "direct_tls", "both_ways")
        told = [[each[fact] for fact in facts] for each in first]
        # The same stream takes the answers (XEP-0288).
        assert told == [[way.proof, way.is_direct, True]], links
        assert len(other) == way.others, links
        ours = [each["proven_by_us"] for each in links["dialled"]]
        assert set(ours) <= {"EXTERNAL"}, links
        return f"{way.proof}, streams: {1 + way.others}"

    async def _refusal(self, local, remote, words):
        """By a request: a message would wait for what may yet be reached."""
        try:
            await self._people[local].asks("ping", to=remote)
        except ClientError as error:
            told = f"{error.condition} {error}"
            assert words in told, told
            return told
        raise AssertionError("it was answered")
