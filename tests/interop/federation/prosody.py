"""Debian's Prosody as a peer."""

from federation.network import (
    C2S_PORT,
    S2S_PORT,
    S2S_TLS_PORT,
    Process,
    find,
    in_own_mounts,
    is_listening,
)

MODULES = (
    *("roster", "saslauth", "tls", "dialback", "disco", "ping", "version", "presence", "message"),
    *("iq", "offline", "s2s", "s2s_auth_certs"),
)


class Prosody(Process):
    """`hosts` maps each virtual host to the Lua lines of its section."""

    def __init__(self, suite, folder, address, hosts, settings=(), modules=()):
        super().__init__("prosody", folder)
        self.address = address
        self._hosts = hosts
        self._ca = suite.ca
        self._trust_anchor = suite.trust_anchor
        self._more = settings
        self._modules = (*MODULES, *modules)
        self._data = self.folder / "data"
        self.log = self.folder / "prosody.log"

    def add_account(self, jid, password):
        """Before the start; Prosody hashes the password at the first login."""
        user, host = jid.split("@")
        accounts = self._data / host.replace(".", "%2e").replace("-", "%2d") / "accounts"
        accounts.mkdir(parents=True, exist_ok=True)
        name = user.replace("-", "%2d")
        (accounts / f"{name}.dat").write_text(f'return {{ ["password"] = "{password}" }};\n')

    async def start(self):
        config = self.folder / "prosody.cfg.lua"
        config.write_text(self._settings())
        argv = (find("prosody"), "-F", "--config", str(config))
        await self.spawn(*in_own_mounts(self.folder, *argv))

        async def is_up():
            ports = (C2S_PORT, S2S_PORT, S2S_TLS_PORT)
            return all([await is_listening(self.address, port) for port in ports])

        await self.until(is_up, "does not accept")

    def _settings(self):
        root_key = self._trust_anchor.read_text().strip()
        modules = ", ".join(f'"{name}"' for name in self._modules)
        lines = [
            "run_as_root = true",
            "daemonize = false",
            f'pidfile = "{self.folder}/prosody.pid"',
            f'data_path = "{self._data}"',
            f'interfaces = {{ "{self.address}" }}',
            f"c2s_ports = {{ {C2S_PORT} }}",
            f"s2s_ports = {{ {S2S_PORT} }}",
            f"s2s_direct_tls_ports = {{ {S2S_TLS_PORT} }}",
            f"modules_enabled = {{ {modules} }}",
            'authentication = "internal_hashed"',
            'storage = "internal"',
            f'ssl = {{ cafile = "{self._ca}" }}',
            f"unbound = {{ resolvconf = true, trusted = '{root_key}', options = {{",
            # Of itself it answers for these names, and asks nobody on loopback.
            '    ["local-zone:"] = "test. transparent", ["do-not-query-localhost:"] = "no",',
            "} }",
            f'log = {{ debug = "{self.log}" }}',
            *self._more,
        ]
        for host, section in self._hosts.items():
            lines += [f'VirtualHost "{host}"', *section]
        return "\n".join(lines) + "\n"


def certificate(folder, name):
    """The members of a table of TLS settings that name a certificate."""
    return f'certificate = "{folder}/{name}.crt"; key = "{folder}/{name}.key"'


def tls(option, folder, name):
    """The line that sets a certificate: `ssl` for all streams, `s2s_ssl` for those of servers."""
    return f"{option} = {{ {certificate(folder, name)} }}"
