"""Debian's ejabberd (23.01) as a peer.

What it needs beyond its defaults to talk with others by certificate:
- `s2s_use_starttls: required`, since without it there is no TLS between servers at all. It does not
  ask for a certificate: who has no valid one is asked for dialback.
- `ca_file`: it trusts the machine's authorities otherwise.
- `mod_s2s_dialback`: dialback is a module, and not there unless it is named.
"""

import os
import platform

from federation.network import C2S_PORT, S2S_PORT, Process, find, in_own_mounts, is_listening

MODULES = (
    *("disco", "last", "offline", "ping", "roster", "s2s_dialback", "time", "version"),
)


class Ejabberd(Process):
    """One host."""

    def __init__(self, folder, address, ca, host, certificate):
        """`certificate`: the path of a PEM file with certificate and key."""
        super().__init__("ejabberd", folder)
        self.address = address
        self._ca = ca
        self._host = host
        self._certificate = certificate
        self._accounts = {}
        self.log = self.folder / "ejabberd.log"

    def add_account(self, jid, password):
        """Before the start."""
        self._accounts[jid.split("@")[0]] = password

    async def start(self):
        """As ejabberdctl does, but without a distributed node, so that no epmd is left behind."""
        config = self.folder / "ejabberd.yml"
        config.write_text(self._settings())
        ready = self.folder / "ready"
        ready.unlink(missing_ok=True)
        register = "".join(
            f'ok = ejabberd_auth:try_register(<<"{user}">>, <<"{self._host}">>, <<"{password}">>),'
            for user, password in self._accounts.items()
        )
        argv = (
            *(find("erl"), "-noinput", "+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none"),
            *("-mnesia", "dir", f'"{self.folder}/mnesia"', "-s", "ejabberd"),
            *("-eval", f'{register} file:write_file("{ready}", <<>>).'),
        )
        await self.spawn(
            *in_own_mounts(self.folder, *argv),
            HOME=str(self.folder),
            ERL_LIBS=f"/usr/lib/{platform.machine()}-linux-gnu",
            ERL_CRASH_DUMP=os.devnull,
            EJABBERD_CONFIG_PATH=str(config),
            EJABBERD_LOG_PATH=str(self.log),
        )

        async def is_up():
            ports = (C2S_PORT, S2S_PORT)
            listening = [await is_listening(self.address, port) for port in ports]
            return ready.exists() and all(listening)

        await self.until(is_up, "does not accept")
        # It remembers them.
        self._accounts.clear()

    def _settings(self):
        modules = [f"  mod_{name}: {{}}" for name in MODULES]
        lines = [
            f'hosts: ["{self._host}"]',
            "loglevel: debug",
            f'certfiles: ["{self._certificate}"]',
            f'ca_file: "{self._ca}"',
            "s2s_use_starttls: required",
            "auth_method: internal",
            "auth_password_format: scram",
            "auth_scram_hash: sha256",
            "disable_sasl_mechanisms: [digest-md5, X-OAUTH2]",
            "listen:",
            f"  - port: {C2S_PORT}",
            f'    ip: "{self.address}"',
            "    module: ejabberd_c2s",
            "    starttls_required: true",
            f"  - port: {S2S_PORT}",
            f'    ip: "{self.address}"',
            "    module: ejabberd_s2s_in",
            "access_rules:",
            "  c2s: {allow: all}",
            "modules:",
            *modules,
        ]
        return "\n".join(lines) + "\n"
