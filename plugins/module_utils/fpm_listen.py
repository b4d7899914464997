# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a pool can be reached: its `listen` as FPM reads it, and the socket that systemd may hold for it."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.webops.php_stack.plugins.module_utils.fpm_checks import is_tcp
from ansible_collections.webops.php_stack.plugins.module_utils.kernel_sockets import Listener
from ansible_collections.webops.php_stack.plugins.module_utils.systemd_units import SocketUnit

_EVERY_ADDRESS = {"": "127.0.0.1", "*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True)
class Endpoint:
    """An address to connect to.

    :param kind: ``unix`` (then ``path``) or ``tcp`` (then ``host`` and ``port``).
    """

    kind: str
    path: str | None = None
    host: str | None = None
    port: int | None = None

    @property
    def nginx(self) -> str:
        """As fastcgi_pass takes it."""
        if self.kind == "unix":
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in (self.host or "") else f"{self.host}:{self.port}"


def endpoint(listen: str | None) -> Endpoint | None:
    """What to connect to for a `listen`; None where it is not set or makes no sense.

    Where FPM listens on every address, this machine's own is meant.
    """
    if not listen:
        return None
    if not is_tcp(listen):
        return Endpoint("unix", path=listen)
    host, _sep, port = listen.rpartition(":")
    host = host.strip("[]")
    if not port.isdigit() or not 0 < int(port) < 65536:
        return None
    return Endpoint("tcp", host=_EVERY_ADDRESS.get(host, host), port=int(port))


@dataclass(frozen=True)
class Held:
    """A socket that systemd holds for a pool.

    :param endpoint: the address that nginx is given: the first link to the socket, or the socket itself.
    :param socket: where the socket itself is.
    """

    unit: SocketUnit
    endpoint: Endpoint
    socket: Endpoint


def find_held(
    pool: str,
    listen: str,
    service: str | None,
    sockets: list[SocketUnit],
    environment: dict[str, str],
    accepts_on: Listener | None,
) -> Held | None:
    """The socket unit behind a pool's `listen`; None for a socket that FPM makes itself.

    The evidence, best first: the socket on which a worker of the pool really accepts; the
    unit's address being `listen` itself; FPM_SOCKETS naming `listen` where the service has
    one socket only; a descriptor named after the pool.

    :param environment: what the service's unit sets.
    :param accepts_on: the kernel's entry of the socket that a worker of this pool uses.
    """
    mine = [unit for unit in sockets if service is None or service in unit.services]
    if accepts_on is not None:
        for unit in mine:
            for address in unit.addresses:
                if _is(accepts_on, endpoint(address)):
                    return _held(unit, address)
        return None
    for unit in mine:
        if listen in unit.addresses:
            return _held(unit, listen)
    addresses = [(unit, address) for unit in mine for address in unit.addresses]
    inherited = [pair.rpartition("=")[0] for pair in environment.get("FPM_SOCKETS", "").split(",")]
    if listen in inherited and len(addresses) == 1:
        return _held(*addresses[0])
    if listen.startswith("/") and service is not None:
        for unit, address in addresses:
            if unit.names == pool and len(unit.addresses) == 1:
                return _held(unit, address)
    return None


def _held(unit: SocketUnit, address: str) -> Held | None:
    found = endpoint(address)
    if found is None:
        return None
    link = endpoint(unit.links[0]) if unit.links else None
    return Held(unit, link or found, found)


def _is(listener: Listener, target: Endpoint | None) -> bool:
    if target is None or listener.kind != target.kind:
        return False
    if target.kind == "unix":
        return listener.path == target.path
    return listener.port == target.port


def find_listener(
    target: Endpoint, listeners: list[Listener], inodes: set[int] | None = None
) -> Listener | None:
    """The kernel's entry for an address.

    :param inodes: the sockets of the master: they decide between several entries with one path
        (an unlinked socket keeps its name as long as somebody holds it).
    """
    if target.kind == "unix":
        fits = [entry for entry in listeners if entry.kind == "unix" and entry.path == target.path]
    else:
        wanted = (target.host, "0.0.0.0", "::")
        fits = [entry for entry in listeners if entry.kind == "tcp" and entry.port == target.port]
        fits = [entry for entry in fits if entry.host in wanted] or (
            fits if target.host == "localhost" else []
        )
    if inodes:
        owned = [entry for entry in fits if entry.inode in inodes]
        fits = owned or fits
    return fits[-1] if fits else None
