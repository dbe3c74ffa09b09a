"""Two people become contacts, see each other, talk, miss messages, and part (RFC 6121).

The story is told once for each pair of clients. Each observation is a check of the report; when one
fails, the rest of its story has nothing to stand on, and is told as one more failure.
"""

import json
import secrets
from datetime import UTC, datetime

from persons import AtTerminal, Person
from report import FAILED
from server import DOMAIN

# Enough to see an order, few enough for one screen.
MISSED = 4
# Accounts are spread over two shards by a hash with a fresh key: that all of these are on one shard
# happens once in 524,288 runs.
CANDIDATES = 20
# A step takes some logins at most, seconds on a busy machine. Only what fails takes as long.
STEP_SECONDS = 60


class BrokenError(Exception):
    """A check failed on which the rest depends."""


def word():
    """A word that stands nowhere else, on no screen and in no log."""
    return secrets.token_hex(6)


async def person(suite, client, localpart):
    """A new account, and somebody at the named client."""
    jid = f"{localpart}@{DOMAIN}"
    await suite.account(jid)
    return Person(suite, suite.clients[client], jid)


class Story:
    """The checks of one pair, each told under the same name."""

    def __init__(self, report, one, other, title, second=None):
        """`second` is at another program with the account of `one`."""
        self._report = report
        self._title = title
        self.one = one
        self.other = other
        self.second = second

    async def tell(self):
        """All steps in order; a failed one is the last."""
        try:
            await self._meet()
            await self._see()
            if self.second:
                await self._see_twice()
            await self._talk()
            for gone, there, way in self._both_ways():
                await self._miss(gone, there, way)
            await self._part()
            await self._ask_again()
        except BrokenError as broken:
            self._report.fail(self._title, "the rest", f"not tried, since this failed: {broken}")

    async def _check(self, name, work):
        if await self._report.check(self._title, name, work, STEP_SECONDS) is FAILED:
            raise BrokenError(name)

    def _both_ways(self):
        """Each of the two with the other, and a word for which way that is."""
        return ((self.one, self.other, "there"), (self.other, self.one, "back"))

    async def _meet(self):
        one, other = self.one, self.other
        name, group = f"name {word()}", f"group {word()}"

        async def log_in():
            for each in (one, other):
                contacts = await each.log_in()
                assert contacts == [], f"{each.jid} has contacts: {contacts}"

        async def add():
            await one.adds(other.jid, name, [group])
            await one.sees_item(other.jid, "none", ask=None, name=name, groups=[group])

        async def request():
            await one.tells("subscribe", other.jid)
            await one.sees_item(other.jid, "none", ask="subscribe", name=name, groups=[group])
            await other.sees_request(one.jid)

        async def grant():
            await other.tells("subscribed", one.jid)
            await other.sees_item(one.jid, "from")
            await one.sees_answer("subscribed", other.jid)
            await one.sees_item(other.jid, "to", ask=None, name=name, groups=[group])
            await one.sees_available(other.full)

        async def the_other_way():
            await other.tells("subscribe", one.jid)
            await other.sees_item(one.jid, "from", ask="subscribe")
            await one.sees_request(other.jid)
            await one.tells("subscribed", other.jid)
            await one.sees_item(other.jid, "both", ask=None, name=name, groups=[group])
            await other.sees_answer("subscribed", one.jid)
            await other.sees_item(one.jid, "both", ask=None)
            await other.sees_available(one.full)

        await self._check("rosters are empty at first", log_in())
        await self._check("a contact is added", add())
        await self._check("a subscription request arrives", request())
        await self._check("it is granted, and presence comes", grant())
        await self._check("the same the other way: subscription is both", the_other_way())

    async def _see(self):
        for seen, seer, way in self._both_ways():

            async def change():
                status = word()
                await seen.shows("dnd", status, 7)
                await seer.sees_available(seen.full, "dnd", status, 7)

            await self._check(f"show, status and priority are seen ({way})", change())

    async def _see_twice(self):
        one, other, second = self.one, self.other, self.second

        async def come():
            contacts = await second.log_in()
            assert [item["jid"] for item in contacts] == [other.jid], f"contacts: {contacts}"
            await second.sees_available(other.full, **other.shown)
            await second.sees_available(one.full, **one.shown)
            for seer in (one, other):
                await seer.sees_available(second.full)

        async def rename():
            name = word()
            await second.adds(other.jid, name, [])
            for seer in (one, second):
                await seer.sees_item(other.jid, "both", name=name, groups=[])

        async def vanish():
            await second.vanishes()
            for seer in (one, other):
                await seer.sees_unavailable(second.full)

        await self._check("a second resource sees and is seen", come())
        await self._check("both resources get roster pushes", rename())
        await self._check("a second resource that vanishes is seen to go", vanish())

    async def _talk(self):
        for sender, receiver, way in self._both_ways():

            async def talk():
                for to in (receiver.full, receiver.jid):
                    body = word()
                    await sender.says(to, body)
                    await receiver.sees_message(body, sender.full)

            await self._check(f"chat to the full and the bare JID ({way})", talk())

    async def _miss(self, gone, there, way):
        bodies = [word() for _ in range(MISSED)]
        domain = gone.jid.split("@")[1]

        async def leave():
            await gone.log_out()
            await there.sees_unavailable(gone.full)

        async def wait():
            began = datetime.now(UTC)
            for body in bodies:
                await there.says(gone.jid, body)
            await there.settles(gone.jid)
            ended = datetime.now(UTC)
            contacts = await gone.log_in()
            told = [(item["jid"], item["subscription"]) for item in contacts]
            assert told == [(there.jid, "both")], f"contacts at login: {contacts}"
            await gone.sees_offline_messages(bodies, there.full, domain, (began, ended))

        async def see_again():
            await there.sees_available(gone.full)
            await gone.sees_available(there.full, **there.shown)

        async def come_once():
            await gone.log_out()
            await there.sees_unavailable(gone.full)
            await gone.log_in()
            await there.sees_available(gone.full)
            last = word()
            await there.says(gone.full, last)
            await gone.has_only([last])

        await self._check(f"going offline is seen ({way})", leave())
        await self._check(f"messages wait for the next login, in order, stamped ({way})", wait())
        await self._check(f"presence is seen again at login ({way})", see_again())
        await self._check(f"what has waited comes once ({way})", come_once())

    async def _part(self):
        one, other = self.one, self.other

        async def remove():
            await one.removes(other.jid)
            await one.sees_item(other.jid, "remove")
            await other.sees_unavailable(one.full)
            await other.sees_answer("unsubscribe", one.jid)
            await other.sees_answer("unsubscribed", one.jid)
            await other.sees_item(one.jid, "none")

        await self._check("a removed contact is told", remove())
        for seen, seer, way in self._both_ways():

            async def hide():
                status, barrier = word(), word()
                await seen.shows("away", status, 3)
                await seen.says(seer.full, barrier)
                await seer.has_not_seen(status, barrier)

            await self._check(f"no presence comes after that ({way})", hide())

        async def remove_too():
            await other.removes(one.jid)
            await other.sees_item(one.jid, "remove")

        await self._check("the contact removes too", remove_too())

    async def _ask_again(self):
        one, other = self.one, self.other

        async def request_offline():
            await other.log_out()
            await one.tells("subscribe", other.jid)
            await one.sees_item(other.jid, "none", ask="subscribe")
            for _ in range(2):
                contacts = await other.log_in()
                assert contacts == [], f"who asks is in the roster: {contacts}"
                await other.sees_request(one.jid)
                await other.log_out()
            await other.log_in()
            await other.sees_request(one.jid)

        async def decline():
            await other.tells("unsubscribed", one.jid)
            await one.sees_answer("unsubscribed", other.jid)
            await one.sees_item(other.jid, "none", ask=None)

        async def cancel():
            await one.tells("subscribe", other.jid)
            await one.sees_item(other.jid, "none", ask="subscribe")
            await other.sees_request(one.jid)
            await other.tells("subscribed", one.jid)
            await other.sees_item(one.jid, "from")
            await one.sees_item(other.jid, "to", ask=None)
            await one.sees_available(other.full, **other.shown)
            await other.tells("unsubscribed", one.jid)
            await other.sees_item(one.jid, "none")
            await one.sees_answer("unsubscribed", other.jid)
            await one.sees_unavailable(other.full)
            await one.sees_item(other.jid, "none", ask=None)

        async def end():
            await one.removes(other.jid)
            await other.removes(one.jid)
            for each in (one, other):
                await each.log_out()
                contacts = await each.log_in()
                assert contacts == [], f"{each.jid} still has contacts: {contacts}"
            barrier = word()
            await one.says(other.full, barrier)
            await other.has_only([barrier])
            await other.has_no_request()
            for each in (one, other):
                await each.has_no_errors()
                await each.log_out()

        await self._check("a request waits for each login until answered", request_offline())
        await self._check("it is declined", decline())
        await self._check("a granted subscription is cancelled", cancel())
        await self._check("rosters are empty at the end, no error came", end())


async def on_two_shards(suite, client, title):
    """Two people whose accounts are on different shards, as the server's own list tells."""
    candidates = []

    async def shards():
        told = json.loads(await suite.server.sessions())["sessions"]
        return {session["jid"]: session["shard"] for session in told}

    async def find():
        while len(candidates) < CANDIDATES:
            candidates.append(await person(suite, client, f"sharded-{len(candidates)}"))
            await candidates[-1].log_in()
            if len(candidates) > 1:
                found = await shards()
                if found[candidates[0].full] != found[candidates[-1].full]:
                    return
        raise AssertionError(f"{CANDIDATES} accounts are on one shard")

    await suite.report.check(title, "two accounts on two shards", find(), STEP_SECONDS)
    for each in candidates:
        await each.log_out()
    return candidates[0], candidates[-1]


async def befriend(one, other):
    """Both subscribe to each other, who have not known each other before."""
    for asker, asked in ((one, other), (other, one)):
        await asker.tells("subscribe", asked.jid)
        await asked.sees_request(asker.jid)
        await asked.tells("subscribed", asker.jid)
        await asker.sees_available(asked.full)


async def deletion(suite):
    """An account is deleted while it is in use."""
    gone = await person(suite, "xmpp.js", "deleted")
    there = await person(suite, "slixmpp", "contact-of-deleted")

    async def delete():
        for each in (gone, there):
            await each.log_in()
        await befriend(gone, there)
        await there.sees_item(gone.jid, "both")
        await suite.server.delete_account(gone.jid)
        await gone.is_cut_off()
        await there.sees_unavailable(gone.full)
        await there.sees_answer("unsubscribe", gone.jid)
        await there.sees_answer("unsubscribed", gone.jid)
        await there.sees_item(gone.jid, "none", ask=None)

    async def succeed():
        await suite.account(gone.jid)
        contacts = await gone.log_in()
        assert contacts == [], f"a successor has contacts: {contacts}"
        barrier = word()
        await gone.says(there.full, barrier)
        await there.sees_message(barrier, gone.full)
        for each in (gone, there):
            await each.log_out()

    title = f"{gone.name} + {there.name}"
    check = suite.report.check
    if await check(title, "a deleted account tells its contact", delete(), STEP_SECONDS) is FAILED:
        return
    await check(title, "its successor has no contacts", succeed(), STEP_SECONDS)


async def run(suite):
    """The story of each pair; then that of a deleted account."""
    title = "slixmpp + xmpp.js"
    one = await person(suite, "slixmpp", "contact-slixmpp")
    other = await person(suite, "xmpp.js", "contact-xmppjs")
    second = Person(suite, suite.clients["xmpp.js"], one.jid)
    await Story(suite.report, one, other, title, second).tell()

    title = "slixmpp + slixmpp"
    one, other = await on_two_shards(suite, "slixmpp", title)
    second = Person(suite, suite.clients["slixmpp"], one.jid)
    await Story(suite.report, one, other, title, second).tell()

    title = "nbxmpp + slixmpp"
    one = await person(suite, "nbxmpp", "contact-nbxmpp")
    other = await person(suite, "slixmpp", "contact-of-nbxmpp")
    await Story(suite.report, one, other, title).tell()

    title = "profanity + slixmpp"
    jid = f"contact-profanity@{DOMAIN}"
    await suite.account(jid)
    other = await person(suite, "slixmpp", "contact-of-profanity")
    one = await AtTerminal.start(suite, jid)
    try:
        await Story(suite.report, one, other, title).tell()
    finally:
        await one.stop()

    await deletion(suite)
