"""A component (XEP-0114) made with slixmpp, and a client of slixmpp that uses it like a gateway.

It is found by service discovery, asked and chatted with both ways, subscribed to, told of logins
and logouts, and missed when it is gone. A wrong secret is refused before, and a second stream while
it is there.
"""

import secrets

from client import ClientError
from contacts import STEP_SECONDS, person, word
from server import DOMAIN

CLIENT = "slixmpp"
NAME = f"gateway.{DOMAIN}"
SECRET = secrets.token_hex(20)
SESSION = "component"
BURST = 50


class Gateway:
    """The component, and somebody who uses it."""

    def __init__(self, suite, user):
        self._suite = suite
        self._client = suite.clients[CLIENT]
        self.user = user

    async def _connects(self, session, secret):
        port = self._suite.server.component_port
        return await self._client.call(
            "component", session=session, name=NAME, secret=secret, host="127.0.0.1", port=port
        )

    async def _asks(self, op, **arguments):
        return await self._client.call(op, session=SESSION, **arguments)

    async def _hears(self, event, **expected):
        return await self._client.hears(SESSION, event, **expected)

    async def refused(self):
        return await self._is_refused("not the secret", "not-authorized")

    async def connects(self):
        told = await self._connects(SESSION, SECRET)
        assert told["jid"] == NAME, f"it is {told['jid']}"
        await self.user.log_in()

    async def refused_twice(self):
        await self._is_refused(SECRET, "conflict")
        await self._asks("ping", to=DOMAIN)

    async def _is_refused(self, secret, condition):
        try:
            await self._connects(f"refused-{word()}", secret)
        except ClientError as error:
            assert condition in str(error), f"told as: {error}"
            return
        raise AssertionError("it was let in")

    async def found(self):
        told = await self.user.asks("items", to=DOMAIN)
        assert NAME in told["jids"], f"items: {told['jids']}"
        info = await self.user.asks("disco", to=NAME)
        assert ["gateway", "irc"] in info["identities"], f"identities: {info['identities']}"

    async def pings(self):
        await self.user.asks("ping", to=NAME)
        await self._asks("ping", to=DOMAIN)

    async def chats(self):
        """As somebody behind the gateway, with any address of its domain."""
        other = f"romeo-{word()}%irc.example.net@{NAME}"
        body = f'<&> "d\'accord" äöü 你好 \U0001f680 {word()}'
        await self.user.says(other, body)
        heard = await self._hears("message", body=body)
        assert heard["from"] == self.user.full, f"from {heard['from']}"
        await self._asks("send", to=self.user.full, body=body, **{"from": f"{other}/orchard"})
        await self.user.sees_message(body, f"{other}/orchard")

    async def bursts(self):
        tag = word()
        bodies = [f"{tag} {number}" for number in range(BURST)]
        for body in bodies:
            await self.user.says(NAME, body)
            await self._asks("send", to=self.user.full, body=body, **{"from": NAME})
        await self._hears("message", body=bodies[-1])
        await self.user.sees_message(bodies[-1], NAME)
        got = [each["body"] for each in self._client.heard(SESSION, "message")]
        got = [body for body in got if body.startswith(tag)]
        assert got == bodies, f"sent {len(bodies)}, received {len(got)}, or in another order"

    async def subscribes(self):
        """As with a contact of another server, and the gateway asks back."""
        await self.user.tells("subscribe", NAME)
        await self._hears("presence", type="subscribe", **{"from": self.user.jid})
        for type_ in ("subscribed", "subscribe"):
            await self._asks("subscription", to=self.user.jid, type=type_, **{"from": NAME})
        await self._asks("available", to=self.user.jid, **{"from": NAME})
        await self.user.sees_available(NAME)
        await self.user.sees_request(NAME)
        await self.user.tells("subscribed", NAME)
        await self.user.sees_item(NAME, "both")
        await self._hears("presence", type="available", **{"from": self.user.full})

    async def sees_logins(self):
        await self.user.log_out()
        await self._hears("presence", type="unavailable", **{"from": self.user.full})
        await self.user.log_in()
        await self._hears("presence", type="probe", **{"from": self.user.jid})
        await self._hears("presence", type="available", **{"from": self.user.full})
        await self._asks("available", to=self.user.full, **{"from": NAME})
        await self.user.sees_available(NAME)

    async def missed(self):
        await self._asks("close")
        await self.user.says(NAME, "are you there?")
        error = await self.user.sees_error(NAME)
        assert error["text"], f"the error says nothing: {error}"
        return error["condition"]

    async def comes_again(self):
        await self._connects(SESSION, SECRET)
        await self.pings()
        await self._asks("close")
        await self.user.log_out()


async def run(suite):
    """In turn, since most depend on those before."""
    gateway = Gateway(suite, await person(suite, CLIENT, "gateway-user"))
    checks = {
        "component with a wrong secret: refused": gateway.refused,
        "component: connects": gateway.connects,
        "component: a second stream: refused": gateway.refused_twice,
        "component: found by service discovery": gateway.found,
        "component: pings both ways": gateway.pings,
        "component: chat both ways": gateway.chats,
        f"component: {BURST} messages each way, in order": gateway.bursts,
        "component: subscriptions both ways": gateway.subscribes,
        "component: sees logout and login": gateway.sees_logins,
        "component gone: messages come back": gateway.missed,
        "component: comes again": gateway.comes_again,
    }
    for name, check in checks.items():
        await suite.report.check(CLIENT, name, check(), STEP_SECONDS)
