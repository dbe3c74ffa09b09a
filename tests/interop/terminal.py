"""profanity, with libstrophe, in a terminal: logs in, asks, and chats with slixmpp."""

import asyncio
import secrets

from clients.profanity import Profanity
from report import FAILED
from server import DOMAIN


async def run(suite):
    """Over both ways of TLS, each with a profanity of its own."""
    name, other = "profanity", suite.clients["slixmpp"]
    jid, friend = f"profanity@{DOMAIN}", f"profanity-friend@{DOMAIN}"
    await suite.account(jid)
    await suite.account(friend)
    await suite.login(other, friend, "friend", "direct")
    ways = {
        "starttls": ("force", suite.server.port),
        "direct": ("legacy", suite.server.direct_port),
    }
    for way, (policy, port) in ways.items():
        home = suite.folder / f"profanity-{way}"

        def session(check, *arguments):
            return asyncio.to_thread(check, *arguments)

        program = await suite.report.check(
            name, f"starts ({way})", session(Profanity, home, suite.trusted())
        )
        if program is FAILED:
            continue
        full = f"{jid}/{way}"

        async def chat_both_ways():
            there, back = f"there-{secrets.token_hex(6)}", f"back-{secrets.token_hex(6)}"
            # The window of a bare JID is the one in which the answer of any resource appears.
            await session(program.message, friend, there)
            message = await other.message("friend", there)
            assert message["from"] == full, f"from {message['from']}, not {full}"
            await other.call("send", session="friend", to=full, body=back)
            await session(program.see_message, back)

        password = suite.passwords[jid]
        login = session(program.connect, full, password, port, policy)
        if await suite.report.check(name, f"login ({way})", login) is not FAILED:
            for check in (program.ping, program.version):
                await suite.report.check(name, f"{check.__name__} ({way})", session(check, DOMAIN))
            await suite.report.check(name, f"chat both ways with slixmpp ({way})", chat_both_ways())
        await suite.report.check(name, f"closes ({way})", session(program.quit))
    await other.call("close", session="friend")
