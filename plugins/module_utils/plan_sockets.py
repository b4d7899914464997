# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Planning the sockets that systemd holds for one PHP version.

All pools of a master stand and fall with it, so once one socket is held, the other unix pools of that
version are held too: those that leave later in the same run, and those that nobody described ("guests").
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.plan_layout import socket_of
from ansible_collections.webops.php_stack.plugins.module_utils.plan_pools import SOCKET_PATH_BYTES

# What a unit file, a table of words and FPM_SOCKETS take as it is: no blank, %, comma, colon or equals sign.
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9._@+/-]+")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9._-]+")


def plan_sockets(
    version: dict[str, Any],
    pools: Sequence[dict[str, Any]],
    absent: set[str],
    host_pools: Sequence[dict[str, Any]],
    activation: bool,
    prune: bool,
) -> list[dict[str, Any]]:
    """The sockets of one version, by pool name.

    :param version: of plan_layout.layout.
    :param pools: the version's planned pools.
    :param absent: names of the version's pools that are to go.
    :param host_pools: the version's pools on the host (fpm_pools of fpm_pool_facts).
    :param activation: False where every pool is to make its socket itself.
    :param prune: False while nginx may still use what is to go: pools that leave, old paths, and sockets
        of pools that return to a plain listener.
    :returns: for each, beside the keys of socket_of: listen (the name in FPM's configuration), links (the
        paths that nginx connects to), user, group, mode, backlog, and guest (True where the pool's file is not ours).
    """
    on_host = {pool["name"]: pool for pool in host_pools if pool["listen"]["kind"] == "unix"}
    planned = {pool["name"]: pool for pool in pools}
    held = {name: pool for name, pool in on_host.items() if _is_held(version, pool)}
    if activation:
        result = [_planned(pool, on_host.get(pool["name"]), prune) for pool in pools if pool["socket"]]
        # A version without a planned socket keeps those that it has.
        result += [
            _guest(version, pool, planned)
            for name, pool in (on_host if result else held).items()
            if name not in planned and not (prune and leaves(pool, absent)) and _can_be_held(version, pool)
        ]
    elif prune:
        result = []
    else:
        result = [_returning(version, pool, planned.get(name)) for name, pool in held.items()]
    return sorted(result, key=lambda item: item["pool"])


def leaves(pool: dict[str, Any], absent: set[str]) -> bool:
    """Whether a pool of the host that is not planned goes: it is ours, or described as absent."""
    return bool(pool.get("managed")) or pool["name"] in absent


def _is_held(version: dict[str, Any], pool: dict[str, Any]) -> bool:
    return bool(pool["listen"].get("socket_unit") == socket_of(version, pool["name"])["unit"])


def _can_be_held(version: dict[str, Any], pool: dict[str, Any]) -> bool:
    """Whether a guest's socket can be a unit's. If not, the guest keeps a listener of its own."""
    return bool(
        not (pool["listen"]["acl_users"] or pool["listen"].get("acl_groups"))
        and _PLAIN_NAME.fullmatch(pool["name"])
        and _PLAIN_PATH.fullmatch(pool["listen"]["path"] or "")
        and len(socket_of(version, pool["name"])["path"]) <= SOCKET_PATH_BYTES
    )


def _planned(pool: dict[str, Any], before: dict[str, Any] | None, prune: bool) -> dict[str, Any]:
    links = [pool["listen"]]
    if before and not prune and before["listen"]["path"] not in (None, *links):
        links.append(before["listen"]["path"])
    return {
        **pool["socket"],
        "listen": pool["socket"]["listen_name"],
        "links": links,
        "user": pool["listen_owner"],
        "group": pool["listen_group"],
        "mode": pool["listen_mode"],
        "backlog": pool["settings"]["listen_backlog"],
        "guest": False,
    }


def _guest(
    version: dict[str, Any], pool: dict[str, Any], planned: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    socket = socket_of(version, pool["name"])
    path = pool["listen"]["path"]
    taken = any(item["listen"] == path for item in planned.values())
    return {
        **socket,
        "listen": socket["listen_name"],
        "links": [] if taken else [path],
        **_rights(pool),
        "guest": True,
    }


def _returning(
    version: dict[str, Any], pool: dict[str, Any], planned: dict[str, Any] | None
) -> dict[str, Any]:
    """FPM inherits the socket once more, under its path, as if it had made it: so it goes on without systemd.

    A pool of ours that leaves keeps its file until then, and so its name.
    """
    socket = socket_of(version, pool["name"])
    path = planned["listen"] if planned else pool["listen"]["path"]
    links = [path] + ([pool["listen"]["path"]] if pool["listen"]["path"] != path else [])
    return {
        **socket,
        "listen": socket["listen_name"] if not planned and pool.get("managed") else path,
        "links": links,
        **_rights(pool),
        "guest": planned is None,
    }


def _rights(pool: dict[str, Any]) -> dict[str, Any]:
    listen = pool["listen"]
    backlog = str(listen.get("backlog") or "")
    return {
        "user": listen.get("owner") or "",
        "group": listen.get("group") or "",
        "mode": listen.get("mode") or "0660",
        "backlog": int(backlog) if backlog.isdigit() and int(backlog) > 0 else 511,
    }
