"""What accounts keep and tell beside contacts and messages, asked for by slixmpp's plugins.

vcard-temp (XEP-0054), Private XML Storage (XEP-0049), Last Activity (XEP-0012), Entity Time
(XEP-0202), Service Discovery (XEP-0030) and Entity Capabilities (XEP-0115): each by whom it is for,
and, where others must not learn of it, by a stranger.
"""

import base64
import json
import secrets
from datetime import UTC, datetime, timedelta

from client import ClientError
from contacts import STEP_SECONDS, befriend, person, word
from server import DOMAIN

CLIENT = "slixmpp"
DISCO_INFO = "http://jabber.org/protocol/disco#info"
CAPS = "http://jabber.org/protocol/caps"
# Of a server with the features that these checks use.
SERVER_FEATURES = {
    DISCO_INFO,
    "jabber:iq:last",
    "msgoffline",
    "urn:xmpp:time",
    "vcard-temp",
}
# RFC 6121 §8.5.1 and the XEPs differ on which of these a stranger gets; both tell nothing.
REFUSALS = ("forbidden", "item-not-found", "service-unavailable", "subscription-required")


async def refused(work):
    """The request must end in one of REFUSALS; yields which."""
    try:
        value = await work
    except ClientError as error:
        assert error.condition in REFUSALS, f"refused with {error.condition}: {error}"
        return error.condition
    raise AssertionError(f"answered with {value}")


class Requests:
    """Two contacts and a stranger."""

    def __init__(self, suite, owner, contact, stranger):
        self._suite = suite
        self.owner = owner
        self.contact = contact
        self.stranger = stranger

    async def meet(self):
        """All log in; the owner and the contact subscribe to each other."""
        for each in (self.owner, self.contact, self.stranger):
            await each.log_in()
        await befriend(self.owner, self.contact)

    async def server_info(self):
        info = await self.owner.asks("disco", to=DOMAIN)
        assert ["server", "im"] in info["identities"], f"identities: {info['identities']}"
        missing = SERVER_FEATURES - set(info["features"])
        assert not missing, f"not announced: {', '.join(sorted(missing))}"

    async def account_info(self):
        info = await self.contact.asks("disco", to=self.owner.jid)
        assert ["account", "registered"] in info["identities"], f"{info['identities']}"
        assert DISCO_INFO in info["features"], f"features: {info['features']}"

    async def account_info_of_stranger(self):
        return await refused(self.stranger.asks("disco", to=self.owner.jid))

    async def capabilities_of_server(self):
        told = await self.owner.sees_capabilities(DOMAIN)
        assert DISCO_INFO in told["features"], f"features: {told['features']}"

    async def capabilities_of_contact(self):
        told = await self.contact.sees_capabilities(self.owner.full)
        assert CAPS in told["features"], f"features: {told['features']}"

    async def capabilities_at_server(self):
        """What the operator is shown is the name in slixmpp's answer to the server's question."""
        # The question went out behind the session's own presence; its answer is read before this.
        await self.owner.settles(DOMAIN)
        told = json.loads(await self._suite.server.sessions())["sessions"]
        (client,) = (each["client"] for each in told if each["jid"] == self.owner.full)
        assert client and client.startswith("slixmpp "), f"the client is {client}"
        return client

    async def vcard(self):
        name = f"Juliet <&> {word()} 你好"
        photo = base64.b64encode(secrets.token_bytes(8000)).decode()
        await self.owner.asks("vcard_set", name=name, photo=photo)
        for asker in (self.owner, self.contact, self.stranger):
            told = await asker.asks("vcard", to=self.owner.jid)
            assert told["name"] == name, f"the name is {told['name']}, not {name}"
            assert told["photo"] == photo, "the photo is another"

    async def no_vcard(self):
        without = await refused(self.owner.asks("vcard", to=self.contact.jid))
        nobody = await refused(self.owner.asks("vcard", to=f"nobody-{word()}@{DOMAIN}"))
        assert without == nobody, f"an account tells {without}, no account {nobody}"
        return without

    async def private(self):
        name, room = word(), f"room-{word()}@rooms.{DOMAIN}"
        await self.owner.asks("bookmark_set", name=name, jid=room)
        await self.owner.log_out()
        await self.owner.log_in()
        told = await self.owner.asks("bookmarks")
        assert told["rooms"] == [[name, room]], f"bookmarks: {told['rooms']}"
        told = await self.contact.asks("bookmarks")
        assert told["rooms"] == [], f"bookmarks of another: {told['rooms']}"

    async def time(self):
        before = datetime.now(UTC)
        told = datetime.fromisoformat((await self.owner.asks("time", to=DOMAIN))["time"])
        # XEP-0082 allows times in whole seconds.
        earliest, latest = before - timedelta(seconds=1), datetime.now(UTC)
        assert earliest <= told <= latest, f"{told} is not between {earliest} and {latest}"

    async def uptime(self):
        told = await self.owner.asks("last", to=DOMAIN)
        assert told["seconds"] >= 0, f"{told['seconds']} seconds"

    async def last(self):
        before = datetime.now(UTC)
        await self.owner.log_out()
        await self.contact.sees_unavailable(self.owner.full)
        told = await self.contact.asks("last", to=self.owner.jid)
        elapsed = (datetime.now(UTC) - before).total_seconds()
        assert 0 <= told["seconds"] <= elapsed + 1, f"{told['seconds']} s, of {elapsed} s"

    async def last_of_stranger(self):
        return await refused(self.stranger.asks("last", to=self.owner.jid))

    async def go(self):
        for each in (self.contact, self.stranger):
            await each.log_out()


async def run(suite):
    """All requests in turn; none of them depends on another, but for the first."""
    people = [await person(suite, CLIENT, name) for name in ("owner", "owners-contact", "stranger")]
    requests = Requests(suite, *people)
    checks = {
        "two contacts and a stranger": requests.meet,
        "disco#info of the server": requests.server_info,
        "disco#info of an account, by a contact": requests.account_info,
        "disco#info of an account, by a stranger: refused": requests.account_info_of_stranger,
        "capabilities of the server, verified": requests.capabilities_of_server,
        "capabilities of a contact, verified": requests.capabilities_of_contact,
        "capabilities as the server knows them": requests.capabilities_at_server,
        "vCard: stored, and fetched by all": requests.vcard,
        "vCard: none is like no account": requests.no_vcard,
        "private XML: kept for the next session, for nobody else": requests.private,
        "entity time of the server": requests.time,
        "uptime of the server": requests.uptime,
        "last activity of a contact": requests.last,
        "last activity, by a stranger: refused": requests.last_of_stranger,
        "all log out": requests.go,
    }
    for name, check in checks.items():
        await suite.report.check(CLIENT, name, check(), STEP_SECONDS)
