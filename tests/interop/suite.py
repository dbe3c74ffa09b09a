"""Drives the built server with clients that others wrote, and tells what passed.

Started by `run`, which installs what this needs. See README.md in this folder.
"""

import asyncio
import itertools
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import account_requests
import channel_binding
import components
import contacts
import expat_check
import invocation
import terminal
import tls_promises
from certificates import Authority
from client import Client, ClientError
from report import FAILED, Report
from server import DOMAIN, Server

HERE = Path(__file__).parent
RSA_DOMAIN = "rsa.example.org"
PLUS_DOMAIN = "plus.example.org"
# Accounts are spread over two shards by a hash with a fresh key. With ten a side, pairs of only one
# kind (same shard, across) would need both sides to be on one shard each: once in 262,144 runs.
CHAT_ACCOUNTS = 10
BURST = 50


def arguments():
    parser = invocation.parser(__doc__)
    parser.add_argument(
        "--examples", required=True, type=Path, help="folder of our example binaries"
    )
    parser.add_argument("--seed", default=secrets.token_hex(4), help="of the random documents")
    return parser.parse_args()


class Suite:
    """What all parts share."""

    def __init__(self, options, folder):
        self.options = options
        self.folder = folder
        self.report = Report()
        self.ca = folder / "ca.crt"
        self.certificates = folder / "certificates"
        self.certificates.mkdir()
        authority = Authority()
        authority.write(self.ca)
        authority.issue(self.certificates, DOMAIN, "ecdsa")
        authority.issue(self.certificates, RSA_DOMAIN, "rsa")
        authority.issue(self.certificates, PLUS_DOMAIN, "ecdsa")
        self.passwords = {}
        self.server = self.new_server("main")
        self.clients = self._clients()

    def new_server(self, name, tls=""):
        """Another instance, not started."""
        domains = {
            DOMAIN: "",
            RSA_DOMAIN: "",
            PLUS_DOMAIN: 'auth.mechanisms = ["SCRAM-SHA-256-PLUS"]',
        }
        folder = self.folder / name
        secrets_of = {components.NAME: components.SECRET}
        return Server(self.options.stanzad, folder, self.certificates, domains, tls, secrets_of)

    def _clients(self):
        tools = self.options.tools
        python = str(tools / "venv/bin/python")
        environment = {
            **os.environ,
            "NODE_EXTRA_CA_CERTS": str(self.ca),
            "SSL_CERT_FILE": str(self.ca),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        programs = {
            "slixmpp": [python, str(HERE / "clients/slixmpp_client.py")],
            "xmpp.js": [
                str(tools / "venv/bin/node"),
                str(HERE / "clients/xmppjs/client.mjs"),
                str(tools / "node"),
            ],
            "nbxmpp": [python, str(HERE / "clients/nbxmpp_client.py")],
            "tokio-xmpp": [str(tools / "tokio_xmpp/debug/tokio-xmpp-client")],
        }
        return {
            name: Client(name, argv, environment, self.folder / f"{name}.err")
            for name, argv in programs.items()
        }

    def trusted(self):
        """A folder with the authority's certificate as `openssl rehash` leaves it."""
        folder = self.folder / "trusted"
        if not folder.exists():
            folder.mkdir()
            shutil.copy(self.ca, folder / "ca.pem")
            subprocess.run(["/usr/bin/openssl", "rehash", folder], check=True, timeout=10)
        return folder

    async def account(self, jid):
        """Makes an account with a random password; yields the password."""
        password = self.passwords[jid] = secrets.token_urlsafe(12)
        await self.server.add_account(jid, password)
        return password

    async def login(self, client, jid, session, tls, **more):
        """Connects `session` of a client; yields the facts that it tells of the login."""
        port = self.server.direct_port if tls == "direct" else self.server.port
        return await client.call(
            "connect",
            session=session,
            jid=jid,
            resource=session,
            host="127.0.0.1",
            port=port,
            tls=tls,
            ca=str(self.ca),
            **{"password": self.passwords[jid], **more},
        )


async def basics(suite):
    """Each client, over both ways of TLS, on the ECDSA and the RSA domain."""
    for name, client in suite.clients.items():
        localpart = name.replace(".", "")
        for domain, tls in itertools.product((DOMAIN, RSA_DOMAIN), ("starttls", "direct")):
            if (name, domain, tls) == ("xmpp.js", RSA_DOMAIN, "direct"):
                # xmpp.js 0.14 sends no SNI on direct TLS (Node's `tls.connect` needs `servername`
                # for that), so it can only reach the default domain in this way.
                continue
            jid = f"{localpart}@{domain}"
            key = "ECDSA" if domain == DOMAIN else "RSA"
            where = f"{tls}, {key}"
            session = f"{tls}-{key}"
            if jid not in suite.passwords:
                await suite.account(jid)

            async def login():
                facts = await suite.login(client, jid, session, tls)
                assert facts["jid"] == f"{jid}/{session}", f"bound as {facts['jid']}"
                assert facts["roster"] == "result", f"the roster: {facts['roster']}"
                told = [facts.get("tls_version"), facts.get("mechanism")]
                return ", ".join(str(fact) for fact in told if fact)

            if await suite.report.check(name, f"login ({where})", login()) is FAILED:
                continue
            if domain == DOMAIN:
                await services(suite, client, session, where)
            await suite.report.check(
                name, f"close ({where})", client.call("close", session=session)
            )


async def services(suite, client, session, where):
    """What a client asks of its server's domain."""

    async def ping():
        await client.call("ping", session=session, to=DOMAIN)

    async def disco():
        info = await client.call("disco", session=session, to=DOMAIN)
        assert ["server", "im"] in info["identities"], f"identities: {info['identities']}"
        expected = {
            "http://jabber.org/protocol/disco#info",
            "urn:xmpp:ping",
            "jabber:iq:version",
        }
        missing = expected - set(info["features"])
        assert not missing, f"not announced: {', '.join(sorted(missing))}"

    async def version():
        answer = await client.call("version", session=session, to=DOMAIN)
        assert answer["name"], "the version has no name"
        return answer["name"]

    async def unknown():
        answer = await client.call("unknown", session=session, to=DOMAIN)
        assert answer["condition"] == "service-unavailable", answer["condition"]

    for check in (ping, disco, version, unknown):
        await suite.report.check(client.name, f"{check.__name__} ({where})", check())


async def wrong_passwords(suite):
    """A wrong password is refused, and the client understands why."""
    for name in ("slixmpp", "xmpp.js", "nbxmpp"):
        client = suite.clients[name]
        jid = f"wrong-{name.replace('.', '')}@{DOMAIN}"
        await suite.account(jid)

        async def login():
            try:
                await suite.login(client, jid, "wrong", "starttls", password="not the password")
            except ClientError as error:
                words = str(error).lower()
                assert "authori" in words or "authenti" in words, f"told as: {error}"
                return
            raise AssertionError("a wrong password logged in")

        await suite.report.check(name, "wrong password refused", login())


async def chat(suite):
    """Chat both ways between slixmpp and xmpp.js, all accounts with all, on and across shards."""
    left, right = suite.clients["slixmpp"], suite.clients["xmpp.js"]
    sessions = {left: [], right: []}

    async def log_in(client, number):
        localpart = f"chat-{client.name.replace('.', '')}-{number}"
        jid = f"{localpart}@{DOMAIN}"
        await suite.account(jid)
        facts = await suite.login(client, jid, localpart, "direct" if number % 2 else "starttls")
        sessions[client].append((localpart, facts["jid"]))

    async def log_all_in():
        for number in range(CHAT_ACCOUNTS):
            await asyncio.gather(log_in(left, number), log_in(right, number))

    both = f"{left.name} + {right.name}"
    check = suite.report.check
    if await check(both, f"{2 * CHAT_ACCOUNTS} accounts online", log_all_in(), 60) is FAILED:
        return
    await check(right.name, "group X25519MLKEM768", hybrid_group(suite, sessions[right]))
    shards = await check(both, "accounts on both shards", shards_covered(suite, sessions))
    for sender, receiver in ((left, right), (right, left)):
        name = f"{sender.name} to {receiver.name}"
        pairs = list(itertools.product(sessions[sender], sessions[receiver]))
        await check(name, f"chat, {len(pairs)} pairs", all_pairs(sender, receiver, pairs))
        await check(name, "message to a bare JID", to_bare(sender, receiver, pairs[0]))
        for kind in ("on one shard", "across shards"):
            title = f"{BURST} messages in a row, in order, each once, {kind}"
            if shards is FAILED:
                suite.report.fail(name, title, "it is not known who is on which shard")
                continue
            ends = next(
                (source, target)
                for source, target in pairs
                if (shards[source[1]] == shards[target[1]]) == (kind == "on one shard")
            )
            await check(name, title, burst(sender, receiver, *ends))
    for client, opened in sessions.items():
        for session, _ in opened:
            await client.call("close", session=session)


async def shards_covered(suite, sessions):
    """The server's own list tells where each account is; both kinds of pairs must occur."""
    told = json.loads(await suite.server.sessions())["sessions"]
    shards = {session["jid"]: session["shard"] for session in told}
    left, right = ([shards[jid] for _, jid in opened] for opened in sessions.values())
    same = sum(a == b for a, b in itertools.product(left, right))
    other = len(left) * len(right) - same
    print(f"      {same} pairs on one shard, {other} across")
    assert same and other, f"{same} pairs on one shard, {other} across"
    return shards


async def hybrid_group(suite, opened):
    """Node's OpenSSL offers X25519MLKEM768, as browsers do, and it is what stanzad prefers."""
    told = json.loads(await suite.server.sessions())["sessions"]
    ours = {jid for _, jid in opened}
    groups = {session["group"] for session in told if session["jid"] in ours}
    assert groups == {"X25519MLKEM768"}, f"groups: {groups}"


async def all_pairs(sender, receiver, pairs):
    """A message from each session of the one to each of the other, by full JID."""

    async def one(source, target):
        body = f'{source[0]} to {target[0]}: <&> "d\'accord" äöü 你好 \U0001f680'
        await sender.call("send", session=source[0], to=target[1], body=body)
        message = await receiver.message(target[0], body)
        assert message["from"] == source[1], f"from {message['from']}, not {source[1]}"
        assert message["type"] == "chat", f"type {message['type']}"

    await asyncio.gather(*(one(source, target) for source, target in pairs))


async def to_bare(sender, receiver, pair):
    """A message to the bare JID arrives at the one resource that is online."""
    source, target = pair
    body = f"to the bare JID from {source[0]}"
    await sender.call("send", session=source[0], to=target[1].split("/")[0], body=body)
    await receiver.message(target[0], body)


async def burst(sender, receiver, source, target):
    """Messages between two sessions keep their order, none lost, none twice."""
    tag = f"burst {secrets.token_hex(4)}"
    bodies = [f"{tag} {number}" for number in range(BURST)]
    for body in bodies:
        await sender.call("send", session=source[0], to=target[1], body=body)
    await receiver.message(target[0], bodies[-1])
    got = [m["body"] for m in receiver.heard(target[0], "message") if m["body"].startswith(tag)]
    assert got == bodies, f"sent {len(bodies)}, received {len(got)}, or in another order"


async def mixed_chat(suite):
    """The other libraries chat with the first two, both ways."""
    for one, other in (("nbxmpp", "slixmpp"), ("tokio-xmpp", "xmpp.js"), ("nbxmpp", "tokio-xmpp")):
        left, right = suite.clients[one], suite.clients[other]

        async def both_ways():
            ends = []
            for client, tls in ((left, "direct"), (right, "starttls")):
                localpart = f"mixed-{one}-{other}-{client.name}".replace(".", "")
                jid = f"{localpart}@{DOMAIN}"
                await suite.account(jid)
                facts = await suite.login(client, jid, localpart, tls)
                ends.append((localpart, facts["jid"]))
            await all_pairs(left, right, [(ends[0], ends[1])])
            await all_pairs(right, left, [(ends[1], ends[0])])
            await burst(left, right, ends[0], ends[1])
            for client, end in zip((left, right), ends, strict=True):
                await client.call("close", session=end[0])

        await suite.report.check(f"{one} + {other}", "chat both ways", both_ways(), 40)


async def bindings(suite):
    """-PLUS by foreign clients, then by our own, right and wrong."""
    jid = f"bound@{PLUS_DOMAIN}"
    await suite.account(jid)

    async def tokio():
        # The domain offers nothing but SCRAM-SHA-256-PLUS: being in is the proof.
        client = suite.clients["tokio-xmpp"]
        for tls in ("starttls", "direct"):
            session = f"plus-{tls}"
            await suite.login(client, jid, session, tls)
            await client.call("ping", session=session, to=PLUS_DOMAIN)
            await client.call("close", session=session)

    name = "SCRAM-SHA-256-PLUS by tls-exporter"
    await suite.report.check("tokio-xmpp", name, tokio(), 40)
    for kind in (channel_binding.EXPORTER, channel_binding.END_POINT):

        async def nbxmpp():
            client = suite.clients["nbxmpp"]
            session = f"plus-{kind}"
            facts = await suite.login(client, jid, session, "starttls", binding=kind)
            assert facts["mechanism"] == "SCRAM-SHA-256-PLUS", facts["mechanism"]
            await client.call("ping", session=session, to=PLUS_DOMAIN)
            await client.call("close", session=session)

        await suite.report.check("nbxmpp", f"SCRAM-SHA-256-PLUS by {kind}", nbxmpp())
    await own_bindings(suite)


async def own_bindings(suite):
    """The exchanges of channel_binding.py on the ECDSA and the RSA domain."""
    port, name = suite.server.direct_port, "pyOpenSSL"

    async def check(title, function, *arguments):
        await suite.report.check(name, title, asyncio.to_thread(function, port, *arguments))

    for domain, key in ((DOMAIN, "ECDSA"), (RSA_DOMAIN, "RSA")):
        jid = f"own-binding@{domain}"
        login = (domain, suite.ca, "own-binding", await suite.account(jid))
        await check(f"-PLUS and its types announced ({key})", channel_binding.announced, *login[:2])
        await check(f"SCRAM without binding ('n') ({key})", channel_binding.unbound, *login)
        kinds = (channel_binding.EXPORTER, channel_binding.END_POINT)
        for kind, version in itertools.product(kinds, ("1.2", "1.3")):
            for digest in ("SHA-1", "SHA-256", "SHA-512"):
                await check(
                    f"SCRAM-{digest}-PLUS by {kind}, TLS {version} ({key})",
                    channel_binding.accepted,
                    *login,
                    kind,
                    version,
                    digest,
                )
        for title, mechanism, flag, data in channel_binding.refusals():
            await check(
                f"refused: {title} ({key})", channel_binding.refused, *login, mechanism, flag, data
            )


async def tls(suite):
    """The promises on the running server, then on one with dhparam."""
    await tls_promises.run(suite)
    server = suite.new_server("dhparam", 'dhparam = "ffdhe2048"')
    await suite.report.check("stanzad", "starts (dhparam)", server.start(), 30)
    try:
        await tls_promises.with_dhparam(suite, server)
    finally:
        await suite.report.check("stanzad", "stops (dhparam)", server.stop())


async def xml(suite):
    """What the parser passes on is what expat reads."""
    await expat_check.run(suite, asyncio.to_thread)


LIBRARIES = ("slixmpp", "xmpp.js", "nbxmpp", "tokio-xmpp")
# Each part with the libraries that it drives. `run` builds for a part only what it needs.
PARTS = {
    "basics": (basics, LIBRARIES),
    "wrong_passwords": (wrong_passwords, ("slixmpp", "xmpp.js", "nbxmpp")),
    "chat": (chat, ("slixmpp", "xmpp.js")),
    "mixed_chat": (mixed_chat, LIBRARIES),
    "contacts": (contacts.run, ("slixmpp", "xmpp.js", "nbxmpp")),
    "account_requests": (account_requests.run, ("slixmpp",)),
    "components": (components.run, ("slixmpp",)),
    "profanity": (terminal.run, ("slixmpp",)),
    "bindings": (bindings, ("nbxmpp", "tokio-xmpp")),
    "tls": (tls, ()),
    "xml": (xml, ()),
}


async def main():
    options = arguments()
    parts = invocation.wanted(PARTS, options.only)
    folder = Path(tempfile.mkdtemp(prefix="stanzad-interop-"))
    suite = Suite(options, folder)
    report = suite.report
    driven = {library for _, libraries in parts.values() for library in libraries}
    clients = [client for name, client in suite.clients.items() if name in driven]
    try:
        await report.check("stanzad", "starts", suite.server.start(), 30)
        for client in clients:
            await report.check(client.name, "starts", client.start())
        for name, (part, _) in parts.items():
            try:
                await part(suite)
            except Exception as error:
                report.fail("suite", name, f"{type(error).__name__}: {error}")
    finally:
        for each in (*reversed(clients), suite.server):
            name = getattr(each, "name", "stanzad")
            await report.check(name, "stops", each.stop())
    if report.failed:
        print(f"\nThe end of the server's log:\n{suite.server.log_tail()}")
    return invocation.close(report, folder, options.keep)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
