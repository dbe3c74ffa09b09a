"""What proves Prosody beside authorities that everybody trusts: TLSA records, a pinned key, a
pinned authority, one of our own; and what Prosody makes of TLSA records of ours.

Each host of Prosody has what its name says, and a certificate that would say the contrary by
itself: the right ones are signed by themselves or by an authority that nobody knows, the wrong ones
are valid.
"""

import asyncio

from certificates import issue_self_signed, key_digest
from client import ClientError
from federation.cases import REFUSED, Case, Cases
from federation.network import S2S_PORT
from federation.prosody import Prosody, tls
from persons import Person

CHECK_SECONDS = 40
DANE, PINS, PRIVATE = "dane.evidence.test", "pins.evidence.test", "private.evidence.test"
# Of ours: with the right TLSA record, with that of another key, and with none.
DESCRIBED, MISDESCRIBED = "described.evidence.test", "misdescribed.evidence.test"
UNDESCRIBED = "undescribed.evidence.test"
# The host of Prosody that writes to them.
WRITER = "writer.proves.test"

# The host of Prosody, our domain, and what must come of it when it sends, and when it is sent to.
CASES = (
    ("right-record", DANE, "EXTERNAL (DANE)", "DANE"),
    ("wrong-record", DANE, "refused: TLSA", "refused: TLSA"),
    ("right-key", PINS, "EXTERNAL (pin)", "pin"),
    ("wrong-key", PINS, "refused: pins", "refused: pins"),
    ("right-authority", PINS, "EXTERNAL (pin)", "pin"),
    ("wrong-authority", PINS, "refused: pins", "refused: pins"),
    ("private", PRIVATE, "EXTERNAL", "certificate"),
    ("public", PRIVATE, "refused: unknown authority", "refused: unknown authority"),
)


class Evidence(Cases):
    """One stanzad validates its DNS answers and pins, another has an authority of its own."""

    def __init__(self, suite, name):
        super().__init__(suite, name)
        self._shown = self.folder / "shown"
        self._shown.mkdir()
        self._authority = self.folder / "private.crt"
        suite.unknown_authority.write(self._authority)
        hosts = {f"{host}.proves.test": self._section(host) for host, *_ in CASES}
        suite.certificate(WRITER)
        hosts[WRITER] = [tls("ssl", suite.certificates, WRITER)]
        self._with_prosody("127.0.0.13", hosts)
        domains = {DANE: ["s2s.dane = true"], PINS: self._pins()}
        domains |= dict.fromkeys((DESCRIBED, MISDESCRIBED, UNDESCRIBED), ())
        dns = ("dnssec = true", f'trust_anchor = "{suite.trust_anchor}"')
        self.ours, host = self.stanzad("127.0.0.12", domains, dns=dns)
        self.certified((DANE, PINS), host)
        self._describe()
        tls_lines = (f'ca = "{self._authority}"',)
        self.private, host = self.stanzad("127.0.0.14", {PRIVATE: []}, "private", tls=tls_lines)
        self.certified((PRIVATE,), host)
        self._cases = [
            Case(f"{host}.proves.test", self._server(domain), domain, sends, is_sent_to)
            for host, domain, sends, is_sent_to in CASES
        ]

    def _server(self, domain):
        return self.private if domain == PRIVATE else self.ours

    def _section(self, host):
        """The settings of a virtual host. Its clients always get a good certificate."""
        suite, domain = self.suite, f"{host}.proves.test"
        suite.certificate(domain, client=True)
        lines = [tls("ssl", suite.certificates, domain)]
        if host in ("right-record", "right-key"):
            issue_self_signed(self._shown, domain, client=True)
        elif host in ("right-authority", "private"):
            suite.unknown_authority.issue(self._shown, domain, client=True)
        else:
            return lines
        return [*lines, tls("s2s_ssl", self._shown, domain)]

    def _with_prosody(self, address, hosts):
        suite = self.suite
        settings = ["s2s_secure_auth = true", "use_dane = true"]
        self.theirs = Prosody(suite, self.folder / "prosody", address, hosts, settings)
        self.servers.append(self.theirs)
        for domain in hosts:
            # TLSA records are of a host and port, not of a domain, so that each has one of its own.
            host = f"host.{domain}"
            suite.zone.address(host, address)
            suite.zone.srv(domain, host)
            suite.host(domain, address)
        for which in ("right", "wrong"):
            described = self._shown / "right-record.proves.test.crt"
            suite.zone.tlsa(f"host.{which}-record.proves.test", S2S_PORT, described)

    def _pins(self):
        digest = key_digest(self._shown / "right-key.proves.test.crt")
        return [
            f's2s.peer."{which}-key.proves.test".pin = ["sha256:{digest}"]'
            for which in ("right", "wrong")
        ] + [
            f's2s.peer."{which}-authority.proves.test".ca = "{self._authority}"'
            for which in ("right", "wrong")
        ]

    def _describe(self):
        """The domains of ours that Prosody judges by their records."""
        suite = self.suite
        for domain in (DESCRIBED, UNDESCRIBED):
            suite.self_signed(domain)
        suite.certificate(MISDESCRIBED)
        for domain in (DESCRIBED, MISDESCRIBED, UNDESCRIBED):
            host = f"host.{domain}"
            suite.zone.address(host, self.ours.address)
            suite.zone.srv(domain, host)
        described = suite.certificates / f"{DESCRIBED}.crt"
        for domain in (DESCRIBED, MISDESCRIBED):
            suite.zone.tlsa(f"host.{domain}", S2S_PORT, described)

    async def prepare(self):
        jids = {f"juliet@{case.host}": self.theirs for case in self._cases}
        jids[f"juliet@{WRITER}"] = self.theirs
        for domain in (DANE, PINS, PRIVATE, DESCRIBED, MISDESCRIBED, UNDESCRIBED):
            jids[f"juliet@{domain}"] = self._server(domain)
        for jid, server in jids.items():
            await self.suite.account(server, jid)
        self._people = {
            jid.split("@")[1]: Person(self.suite, self.suite.client, jid) for jid in jids
        }

    async def check(self):
        await asyncio.gather(*(person.log_in() for person in self._people.values()))
        await self.check_cases(self._cases, self._people)
        judged = (
            (DESCRIBED, "DANE alone proves us", self._is_written_to()),
            (MISDESCRIBED, f"{REFUSED}another key", self._is_not_written_to(MISDESCRIBED)),
            (UNDESCRIBED, f"{REFUSED}self-signed", self._is_not_written_to(UNDESCRIBED)),
        )
        for domain, name, work in judged:
            await self.report.check(f"{WRITER} to {domain}", name, work, CHECK_SECONDS)
        work = self._cannot_write()
        await self.report.check(f"{DESCRIBED} to {WRITER}", "not by DANE", work, CHECK_SECONDS)

    async def _is_written_to(self):
        told = await self.comes_or_comes_back(self._people[WRITER], self._people[DESCRIBED])
        assert told is None, f"it came back: {told}"
        log = self.theirs.log.read_text(errors="replace")
        assert "Enabling DANE with 1 TLSA records" in log, "Prosody has not used the record"
        return (await self.ours.links(DESCRIBED, WRITER))["accepted"][0]["peer_proven_by"]

    async def _is_not_written_to(self, domain):
        told = await self.comes_or_comes_back(self._people[WRITER], self._people[domain])
        assert told is not None, "the message came"
        return told

    async def _cannot_write(self):
        """Prosody 0.12 asks for TLSA records of whom it dials, not of who dials it."""
        try:
            await self._people[DESCRIBED].asks("ping", to=WRITER)
        except ClientError as error:
            return f"{error.condition} {error}"
        raise AssertionError("it was answered")
