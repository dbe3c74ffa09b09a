"""Drives the built server with other servers, and tells what passed.

Started by `../federate`, which installs what this needs. See ../README.md.
"""

import asyncio
import os
import secrets
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import invocation  # noqa: E402
from certificates import Authority, issue_self_signed  # noqa: E402
from client import Client  # noqa: E402
from federation.evidence import Evidence  # noqa: E402
from federation.matrix import Matrix  # noqa: E402
from federation.network import C2S_PORT, Dns, Zone, loopback_up  # noqa: E402
from federation.outage import Outage  # noqa: E402
from federation.pair import Pair  # noqa: E402
from federation.resolving import Resolving  # noqa: E402
from federation.stories import WithEjabberd, WithProsody, WithProsodyBothWays  # noqa: E402
from report import FAILED, Report  # noqa: E402

PARTS = {
    "prosody": WithProsody,
    "prosody-both-ways": WithProsodyBothWays,
    "ejabberd": WithEjabberd,
    "matrix": Matrix,
    "pair": Pair,
    "evidence": Evidence,
    "outage": Outage,
    "resolving": Resolving,
}


# Each has a dozen of logins at its start, which cost Prosody the most.
PARTS_AT_ONCE = 2


class Suite:
    """What all parts share: names, certificates, accounts, and slixmpp at all servers."""

    def __init__(self, options, folder):
        self.options = options
        self.folder = folder
        self.report = Report()
        self.ca = folder / "ca.crt"
        self.certificates = folder / "certificates"
        self.certificates.mkdir()
        self.authority = Authority()
        self.authority.write(self.ca)
        self.unknown_authority = Authority("an authority that nobody knows")
        self.passwords = {}
        self._addresses = {}
        self._self_signed = set()
        self.zone = Zone(".")
        unsigned, bogus = Zone("unsigned."), Zone("bogus.")
        self.zone.delegate(unsigned)
        self.zone.delegate(bogus, is_bogus=True)
        self.zones = (self.zone, unsigned, bogus)
        self.trust_anchor = folder / "root.key"
        python = str(options.tools / "venv/bin/python")
        argv = [python, str(HERE.parent / "clients/slixmpp_client.py")]
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        self.client = Client("slixmpp", argv, environment, folder / "slixmpp.err")

    def certificate(self, domain, **more):
        """A certificate that all servers trust; `more` as Authority.issue has it."""
        self.authority.issue(self.certificates, domain, **more)

    def self_signed(self, domain):
        """A certificate that only the clients of the domain trust."""
        issue_self_signed(self.certificates, domain)
        self._self_signed.add(domain)

    def host(self, domain, address):
        """Where the clients of this domain connect to; the DNS does not tell them."""
        self._addresses[domain] = address

    async def account(self, server, jid):
        """Makes an account with a random password."""
        self.passwords[jid] = secrets.token_hex(12)
        done = server.add_account(jid, self.passwords[jid])
        if done is not None:
            await done

    async def login(self, client, jid, session, _tls, **more):
        """Connects a session as persons.py wants it, always by STARTTLS."""
        domain = jid.split("@")[1]
        ca = self.certificates / f"{domain}.crt" if domain in self._self_signed else self.ca
        return await client.call(
            "connect",
            session=session,
            jid=jid,
            resource=session,
            host=self._addresses[domain],
            port=C2S_PORT,
            tls="starttls",
            ca=str(ca),
            password=self.passwords[jid],
            **more,
        )


async def in_turn(turns, part):
    async with turns:
        await part.run()


async def main():
    options = invocation.parser(__doc__).parse_args()
    parts = invocation.wanted(PARTS, options.only)
    loopback_up()
    folder = Path(tempfile.mkdtemp(prefix="stanzad-federation-"))
    suite = Suite(options, folder)
    report = suite.report
    # All of them say which names they need before the zone is signed.
    planned = [part(suite, name) for name, part in parts.items()]
    dns = Dns(folder / "dns", suite.trust_anchor, *suite.zones)
    try:
        if await report.check(dns.name, "starts", dns.start()) is not FAILED:
            await report.check(suite.client.name, "starts", suite.client.start())
            turns = asyncio.Semaphore(PARTS_AT_ONCE)
            await asyncio.gather(*(in_turn(turns, each) for each in planned))
    finally:
        for each in (suite.client, dns):
            await report.check(each.name, "stops", each.stop())
    return invocation.close(report, folder, options.keep)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
