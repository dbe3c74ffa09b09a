"""The network of one run: loopback addresses, and DNS that is signed.

All of it is in a network namespace of its own, which `../federate` makes: ports are the standard
ones, whatever else runs on the machine, and nothing outside can be reached. The peers have a mount
namespace on top, in which /etc/resolv.conf names the DNS server below. stanzad has not, save in
resolving.py: it sees the machine's own, whose servers it cannot reach here, and is pointed at the
DNS by `[dns] servers`.
"""

import asyncio
import fcntl
import os
import shutil
import socket
import struct
from pathlib import Path

from certificates import key_digest

DNS_ADDRESS = "127.0.0.53"
START_SECONDS = 30
STOP_SECONDS = 15
C2S_PORT = 5222
C2S_TLS_PORT = 5223
S2S_PORT = 5269
S2S_TLS_PORT = 5270


def loopback_up():
    """Switches the namespace's loopback device on, as `ip link set lo up` does."""
    get_flags, set_flags, up = 0x8913, 0x8914, 0x1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        told = fcntl.ioctl(any_socket, get_flags, request)
        (flags,) = struct.unpack_from("h", told, 16)
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sh14x", b"lo", flags | up))


class Process:
    """A server that is not ours, its folder and its log."""

    def __init__(self, name, folder):
        self.name = name
        self.folder = Path(folder)
        self.folder.mkdir(mode=0o700)
        self.log = self.folder / "output.log"
        self._process = None

    async def spawn(self, *argv, **environment):
        """Starts it; what it prints goes to the log."""
        with open(self.log, "wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, **environment},
            )

    async def until(self, is_there, what):
        """Waits until `is_there` yields true, since the server has no other way to tell.

        Raises RuntimeError with the end of the log if it ends, or is not there in time.
        """
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while not await is_there():
            ended = self._process.returncode is not None
            if ended or asyncio.get_running_loop().time() > deadline:
                raise RuntimeError(f"{self.name}: {what}: {self.log_tail()}")
            await asyncio.sleep(0.05)

    def log_tail(self, lines=25):
        words = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(words.splitlines()[-lines:])

    def signal(self, number):
        """Sends a signal while it runs."""
        self._process.send_signal(number)

    async def kill(self):
        """SIGKILL. It can be started again."""
        process, self._process = self._process, None
        process.kill()
        await process.wait()

    async def stop(self):
        """SIGTERM, then waits."""
        if self._process is None:
            return
        process, self._process = self._process, None
        if process.returncode is not None:
            raise RuntimeError(f"{self.name} had ended ({process.returncode}): {self.log_tail()}")
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()


async def is_listening(address, port):
    try:
        _, writer = await asyncio.open_connection(address, port)
    except OSError:
        return False
    writer.close()
    return True


def write_resolv_conf(folder, nameserver):
    """Writes a resolv.conf; yields its path. Who has it for its own sees a change at once."""
    written = Path(folder) / "resolv.conf"
    # One try of a second: whoever is not answered on loopback will not be.
    written.write_text(f"nameserver {nameserver}\noptions timeout:1 attempts:2\n")
    return written


def in_own_mounts(folder, *argv, nameserver=DNS_ADDRESS):
    """The command that runs `argv` with a resolv.conf of its own, which is made in `folder`."""
    written = write_resolv_conf(folder, nameserver)
    real = Path("/etc/resolv.conf").resolve()
    script = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
    return ("unshare", "--mount", "sh", "-c", script, "sh", str(written), str(real), *argv)


class Zone:
    """Records of a zone, in the text form of RFC 1035 §5."""

    def __init__(self, name):
        """`name` ends with a dot."""
        self.name = name
        self.lines = [
            "$TTL 60",
            f"{name} SOA ns.hosts.test. hostmaster.hosts.test. 1 3600 600 86400 60",
            f"{name} NS ns.hosts.test.",
        ]

    def address(self, host, address):
        self.lines.append(f"{host}. A {address}")

    def srv(self, domain, target, port=S2S_PORT, service="xmpp-server", order="0 0"):
        """A SRV record; `order` is priority and weight."""
        self.lines.append(f"_{service}._tcp.{domain}. SRV {order} {port} {target}.")

    def no_service(self, domain, service):
        """There is none, says a target of "." (RFC 2782)."""
        self.lines.append(f"_{service}._tcp.{domain}. SRV 0 0 0 .")

    def tlsa(self, host, port, certificate):
        """The key of the certificate in this file is that of the service (RFC 6698: 3 1 1)."""
        self.lines.append(f"_{port}._tcp.{host}. TLSA 3 1 1 {key_digest(certificate)}")

    def delegate(self, zone, is_bogus=False):
        """An unsigned zone below this one, at the same server; `is_bogus`: with a DS record, which
        says that it is signed."""
        self.lines.append(f"{zone.name} NS ns.hosts.test.")
        if is_bogus:
            self.lines.append(f"{zone.name} DS 1 13 2 {'00' * 32}")


class Dns(Process):
    """Knot, which serves a signed root zone that has all the names, and unsigned zones below."""

    def __init__(self, folder, trust_anchor, root, *unsigned):
        super().__init__("knot", folder)
        self._root = root
        self._unsigned = unsigned
        self._trust_anchor = trust_anchor
        self.config = self.folder / "knot.conf"

    async def start(self):
        """Starts it, and writes `trust_anchor`: the key of the root zone as a record."""
        self._root.address("ns.hosts.test", DNS_ADDRESS)
        self.config.write_text(self._settings())
        for number, zone in enumerate((self._root, *self._unsigned)):
            text = "\n".join(zone.lines) + "\n"
            (self.folder / f"{number}.zone").write_text(text)
        await self.spawn(find("knotd"), "--config", str(self.config))

        async def is_signed():
            key = await self._keymgr("dnskey")
            if key:
                # A whole record, where keymgr leaves out its time to live and class.
                self._trust_anchor.write_text(key.replace(" DNSKEY ", " 3600 IN DNSKEY ", 1))
            return bool(key) and await is_listening(DNS_ADDRESS, 53)

        await self.until(is_signed, "no signed zone")

    async def _keymgr(self, verb):
        process = await asyncio.create_subprocess_exec(
            *(find("keymgr"), "--config", str(self.config), ".", verb),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        output, _ = await asyncio.wait_for(process.communicate(), STOP_SECONDS)
        return output.decode() if process.returncode == 0 else ""

    def _settings(self):
        signed = ["    dnssec-signing: on", "    dnssec-policy: one-key"]
        zones = [line for line in self._zone(0, self._root, signed)]
        for number, zone in enumerate(self._unsigned, start=1):
            zones += self._zone(number, zone, [])
        lines = [
            "server:",
            f'    rundir: "{self.folder}"',
            f"    listen: {DNS_ADDRESS}@53",
            "log:",
            "  - target: stderr",
            "    any: info",
            "database:",
            f'    storage: "{self.folder}"',
            "policy:",
            "  - id: one-key",
            "    algorithm: ecdsap256sha256",
            "    single-type-signing: on",
            "zone:",
            *zones,
        ]
        return "\n".join(lines) + "\n"

    def _zone(self, number, zone, more):
        return [
            f'  - domain: "{zone.name}"',
            f'    file: "{self.folder}/{number}.zone"',
            "    zonefile-sync: -1",
            *more,
        ]


def find(program):
    """Debian has servers in sbin, which is not in the PATH of all."""
    found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if not found:
        raise RuntimeError(f"there is no {program}")
    return found
