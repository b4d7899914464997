# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules about the way from nginx to a pool's socket (pure)."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.audit_findings import (
    Evidence,
    Outcome,
    RuleBook,
    bad,
    good,
    unknown,
    where,
)
from ansible_collections.webops.php_stack.plugins.module_utils.audit_snapshot import Snapshot, Target
from ansible_collections.webops.php_stack.plugins.module_utils.audit_view import (
    at,
    edit,
    is_local,
    log_cause,
    log_evidence,
    passes,
    place_of_setting,
    pool_title,
    pools_at,
    short,
    site,
)

_BOOK = RuleBook()
RULES = _BOOK.rules
# What SELinux lets the web server connect to without a boolean.
_LABELLED_PORT = "9000"
_EVERYWHERE = ("", "0.0.0.0", "*", "::")


def _pass(snapshot: Snapshot, location: dict[str, Any], target: dict[str, Any]) -> Evidence:
    """Where nginx is told the address: the upstream's server line, else the fastcgi_pass."""
    for upstream in (snapshot.nginx or {})["upstreams"] if target["via"] else ():
        for server in upstream["servers"]:
            if upstream["name"] == target["via"] and server["address"] == target["address"]:
                return at(f"server {target['address']} in upstream {target['via']}", server)
    return at(f"fastcgi_pass {location['fastcgi_pass']['value']}", location["fastcgi_pass"])


def _listen(pool: dict[str, Any]) -> Evidence:
    place = place_of_setting(pool, "listen")
    address = pool["listen"]["address"] or pool["listen"]["raw"]
    unit = pool["listen"]["socket_unit"]
    return Evidence(
        f"{pool_title(pool)} listens on {address}" + (f" (held by {unit})" if unit else ""),
        place.file,
        place.line,
    )


def nearest(pools: list[dict[str, Any]], address: str, name: str) -> dict[str, Any] | None:
    """The pool whose address is most like ``address``; one that carries the site's name comes first."""
    if not pools:
        return None
    label = name.split(".")[0]

    def likeness(pool: dict[str, Any]) -> tuple[bool, float]:
        own = pool["listen"]["address"] or ""
        return label == pool["name"], difflib.SequenceMatcher(None, address, own).ratio()

    return max(pools, key=likeness)


def _judged(snapshot: Snapshot) -> Iterator[tuple[dict[str, Any], dict[str, Any], Target]]:
    for location, target in passes(snapshot):
        state = snapshot.targets.get(target["address"])
        if state is not None:
            yield location, target, state


@_BOOK.rule(
    "S01",
    "critical",
    "nginx passes to an address on which no pool listens",
    "path_mismatch",
    "socket_missing",
    "tcp_refused",
    needs=("nginx",),
)
def target_without_pool(snapshot: Snapshot) -> Iterator[Outcome]:
    for location, target, state in _judged(snapshot):
        subject = site(location)
        if not is_local(target["address"]):
            continue
        pools = pools_at(snapshot, target["address"])
        if pools:
            yield good(
                subject,
                f"{target['address']} is the listener of {pool_title(pools[0])}",
                _pass(snapshot, location, target),
            )
        elif state.listening:
            names = ", ".join(sorted({holder.name for holder in state.holders or ()})) or "another program"
            yield good(subject, f"{names} listens on {target['address']}", _pass(snapshot, location, target))
        elif not snapshot.masters and state.listening is None:
            yield unknown(
                subject,
                f"no PHP-FPM was found to compare {target['address']} with",
                _pass(snapshot, location, target),
            )
        else:
            near = nearest(snapshot.pools, target["address"], subject)
            shown = [_pass(snapshot, location, target)] + ([_listen(near)] if near else [])
            fix = "# start a PHP-FPM that listens there"
            if near:
                word = "server" if target["via"] else "fastcgi_pass"
                fix = f"# {where(shown[0].file, shown[0].line)}\n{word} {near['listen']['address']};"
            yield bad(
                subject,
                f"nginx passes to {target['address'].removeprefix('unix:')}, and no pool listens there",
                "the address of a pool, the same on both sides",
                *shown,
                fix=fix,
            )


@_BOOK.rule(
    "S02",
    "critical",
    "Nothing answers at a pool's address",
    "socket_refused",
    "tcp_refused",
    "socket_missing",
    needs=("nginx",),
)
def refused(snapshot: Snapshot) -> Iterator[Outcome]:
    for location, target, state in _judged(snapshot):
        pools = pools_at(snapshot, target["address"])
        if not pools and state.listening is False:
            continue  # S01 has it: nothing is meant to listen there
        if state.cause in ("socket_refused", "tcp_refused", "socket_missing"):
            unit = next((pool["unit"] for pool in pools if pool["unit"]), None) or "php-fpm"
            yield bad(
                site(location),
                state.message or f"{target['address']} refuses connections",
                "a process that accepts connections",
                _pass(snapshot, location, target),
                *(_listen(pool) for pool in pools[:1]),
                fix=f"systemctl status {unit}\nsystemctl reset-failed {unit} && systemctl start {unit}",
            )
        elif state.cause is None:
            yield unknown(
                site(location),
                f"no connection to {target['address']} was tried",
                _pass(snapshot, location, target),
            )
        elif state.cause in ("", "backlog_full", "socket_denied"):
            yield good(
                site(location), f"{target['address']} is listened on", _pass(snapshot, location, target)
            )


@_BOOK.rule(
    "S03",
    "critical",
    "nginx's workers may not connect to a pool's socket",
    "socket_denied",
    needs=("nginx", "fpm"),
)
def denied(snapshot: Snapshot) -> Iterator[Outcome]:
    for location, target, state in _judged(snapshot):
        if not target["address"].startswith("unix:"):
            continue
        pool = next(iter(pools_at(snapshot, target["address"])), None)
        shown = [_pass(snapshot, location, target)]
        if state.cause == "socket_denied":
            yield bad(
                site(location),
                state.message,
                "a socket and folders that let nginx's user through",
                *shown,
                *_permission_places(pool),
                fix=_permission_fix(snapshot, pool),
            )
        elif state.cause == "":
            yield good(site(location), f"nginx's user connects to {target['address']}", *shown)
        elif pool is not None:
            yield _by_configuration(snapshot, location, pool, shown)


def _permission_places(pool: dict[str, Any] | None) -> list[Evidence]:
    if pool is None or pool["listen"]["held_by"]:
        return [] if pool is None else [_listen(pool)]
    return [place_of_setting(pool, f"listen.{name}") for name in ("owner", "group", "mode")]


def _permission_fix(snapshot: Snapshot, pool: dict[str, Any] | None) -> str:
    user = snapshot.nginx["nginx"]["worker_user"]["name"] if snapshot.nginx else "www-data"
    if pool is None:
        return f"namei -l on the path shows which folder stops {user}"
    if pool["listen"]["held_by"]:
        return f"# {pool['listen']['socket_unit']}\n[Socket]\nSocketUser={user}\nSocketMode=0660"
    return (
        f"# {pool['file']}, then restart {pool['unit'] or 'PHP-FPM'} (a reload does not apply it)\n"
        f"listen.owner = {user}\nlisten.group = {user}\nlisten.mode = 0660"
    )


def _by_configuration(
    snapshot: Snapshot, location: dict[str, Any], pool: dict[str, Any], shown: list[Evidence]
) -> Outcome:
    """Without a connection: what the socket's owner, group and mode will be."""
    listen, worker = pool["listen"], snapshot.worker
    if worker is None:
        return unknown(site(location), "the groups of nginx's user are not known", *shown)
    try:
        mode = int(str(listen["mode"]), 8)
    except ValueError:
        return unknown(site(location), f"the mode of {pool_title(pool)}'s socket is not known", *shown)
    owner, group = listen["owner"] or "root", listen["group"] or "root"
    if worker.name == "root" or worker.name in listen["acl_users"]:
        allowed = True
    elif worker.name == owner:
        allowed = bool(mode & 0o200)
    elif group in worker.groups:
        allowed = bool(mode & 0o020)
    else:
        allowed = bool(mode & 0o002)
    words = f"the socket of {pool_title(pool)} is {owner}:{group} {mode:04o}, nginx's workers run as {worker.name}"
    if allowed:
        return good(site(location), words, *shown)
    return bad(
        site(location),
        words,
        f"a socket that {worker.name} may write to",
        *shown,
        *_permission_places(pool),
        fix=_permission_fix(snapshot, pool),
        confidence="medium",
    )


@_BOOK.rule("S04", "high", "Everybody on the host may talk to a pool")
def world_writable(snapshot: Snapshot) -> Iterator[Outcome]:
    for pool in snapshot.pools:
        if pool["listen"]["kind"] != "unix":
            continue
        mode = str(pool["listen"]["mode"])
        if not mode.isdigit():
            yield unknown(pool_title(pool), "the mode of its socket is not known", _listen(pool))
        elif int(mode, 8) & 0o002:
            yield bad(
                pool_title(pool),
                f"its socket has the mode {mode}: every local user can run PHP as {pool['user']}",
                "0660, with nginx's user as owner or group",
                place_of_setting(pool, "listen.mode"),
                fix=edit(pool, "listen.mode", "0660"),
            )
        else:
            yield good(pool_title(pool), f"its socket has the mode {mode}", _listen(pool))


@_BOOK.rule(
    "S05",
    "high",
    "A pool's address is held by another process",
    "upstream_reset",
    "address_in_use",
    "script_not_found",
)
def foreign_listener(snapshot: Snapshot) -> Iterator[Outcome]:
    masters = {master["config_file"]: master for master in snapshot.masters}
    for pool in snapshot.pools:
        state = snapshot.targets.get(pool["listen"]["address"])
        master = masters.get(pool["master"], {})
        if state is None or state.holders is None or not master.get("pid"):
            if pool["listen"]["kind"]:
                yield unknown(
                    pool_title(pool), "which process holds its listener is not known", _listen(pool)
                )
            continue
        others = [holder for holder in state.holders if holder.pid != 1]
        mine = {master["pid"], *(worker["pid"] for worker in pool["memory"]["workers"])}
        if any(holder.pid in mine for holder in others) or not others:
            yield good(pool_title(pool), "its listener belongs to its own master", _listen(pool))
            continue
        names = ", ".join(f"{holder.name} (pid {holder.pid})" for holder in others[:3])
        old = all("php-fpm" in holder.name for holder in others)
        yield bad(
            pool_title(pool),
            f"{pool['listen']['address']} is held by {names}"
            + (", an old or another PHP-FPM" if old else ""),
            f"PHP-FPM with pid {master['pid']}",
            _listen(pool),
            fix=f"kill -QUIT {others[0].pid} && systemctl restart {pool['unit'] or 'php-fpm'}",
        )


@_BOOK.rule(
    "S06", "critical", "SELinux forbids the way from nginx to a pool", "selinux_denied", needs=("nginx",)
)
def selinux(snapshot: Snapshot) -> Iterator[Outcome]:
    state = snapshot.selinux
    seen = log_cause(snapshot, "selinux_denied")
    if seen:
        yield bad(
            "host",
            "SELinux denied nginx or PHP-FPM something",
            "labels and booleans that allow it",
            log_evidence(seen),
            fix="ausearch -m avc -ts recent\nrestorecon -Rv /run /etc/php-fpm.d",
        )
        return
    if state is None:
        yield unknown("host", "whether SELinux enforces is not written in a tree")
        return
    if not state.enforcing:
        return
    for folder, label in sorted(state.labels.items()):
        if not any(
            kind in label for kind in (":httpd_var_run_t:", ":httpd_sys_rw_content_t:", ":httpd_tmp_t:")
        ):
            yield bad(
                folder,
                f"the folder of the sockets has the label {label}",
                "httpd_var_run_t",
                Evidence(f"{folder} is {label}"),
                fix=f"semanage fcontext -a -t httpd_var_run_t '{folder}(/.*)?'\nrestorecon -Rv {folder}",
                confidence="medium",
            )
        else:
            yield good(folder, f"it has the label {label}")
    for location, target in passes(snapshot):
        if target["kind"] == "tcp" and target["address"].rpartition(":")[2] != _LABELLED_PORT:
            allowed = state.booleans.get("httpd_can_network_connect")
            if allowed is None:
                yield unknown(site(location), "the boolean httpd_can_network_connect is not known")
            elif not allowed:
                yield bad(
                    site(location),
                    f"{target['address']} needs the boolean httpd_can_network_connect, and it is off",
                    "the boolean on, or a port labelled http_port_t",
                    _pass(snapshot, location, target),
                    fix="setsebool -P httpd_can_network_connect on",
                    confidence="medium",
                )


@_BOOK.rule(
    "S07",
    "high",
    "A socket lies in /tmp while a service has a /tmp of its own",
    "socket_missing",
    needs=("nginx", "fpm"),
)
def private_tmp(snapshot: Snapshot) -> Iterator[Outcome]:
    for location, target in passes(snapshot):
        path = target["address"][5:] if target["kind"] == "unix" else ""
        if not path.startswith(("/tmp/", "/var/tmp/")):
            continue
        units = {
            "nginx.service",
            *(pool["unit"] or "PHP-FPM's unit" for pool in pools_at(snapshot, target["address"])),
        }
        known = [snapshot.services[unit] for unit in sorted(units) if unit in snapshot.services]
        private = [service for service in known if service.private_tmp]
        if private:
            yield bad(
                site(location),
                f"{path} is in /tmp, and {private[0].name} has PrivateTmp=yes: it sees another /tmp",
                "a socket under /run",
                _pass(snapshot, location, target),
                Evidence("PrivateTmp=yes", private[0].file),
                fix="listen = /run/php/NAME.sock\nfastcgi_pass unix:/run/php/NAME.sock;",
            )
        elif len(known) < len(units):
            yield unknown(site(location), f"whether {' or '.join(sorted(units))} has PrivateTmp is not known")
        else:
            yield good(site(location), "no service has a private /tmp")


@_BOOK.rule(
    "S08",
    "high",
    "nginx and the pool are in different network namespaces",
    "tcp_refused",
    needs=("nginx", "fpm"),
)
def other_namespace(snapshot: Snapshot) -> Iterator[Outcome]:
    masters = {master["config_file"]: master for master in snapshot.masters}
    front = next(
        (snapshot.network.get(one["pid"]) for one in (snapshot.nginx or {})["nginx"]["masters"]), None
    )
    for location, target in passes(snapshot):
        if target["kind"] != "tcp" or not is_local(target["address"]):
            continue
        for pool in pools_at(snapshot, target["address"]):
            back = snapshot.network.get(masters.get(pool["master"], {}).get("pid") or 0)
            if not front or not back:
                yield unknown(site(location), "the network namespaces of nginx and PHP-FPM are not known")
            elif front != back:
                yield bad(
                    site(location),
                    f"{target['address']} is another machine for {pool_title(pool)}: it runs in {back}, nginx in {front}",
                    "a unix socket in a shared folder, or the container's own address",
                    _pass(snapshot, location, target),
                    _listen(pool),
                    fix=f"fastcgi_pass CONTAINER:{target['address'].rpartition(':')[2]};",
                )
            else:
                yield good(site(location), "nginx and PHP-FPM share a network namespace")


@_BOOK.rule("S09", "critical", "Two pools have the same listener", "address_in_use", "config_invalid")
def same_listener(snapshot: Snapshot) -> Iterator[Outcome]:
    by_address: dict[str, list[dict[str, Any]]] = {}
    for pool in snapshot.pools:
        if pool["listen"]["address"]:
            by_address.setdefault(pool["listen"]["address"], []).append(pool)
    for address, pools in sorted(by_address.items()):
        if len({(pool["master"], pool["name"]) for pool in pools}) > 1:
            yield bad(
                address,
                f"{' and '.join(pool_title(pool) for pool in pools)} have the same address",
                "one address for each pool",
                *(_listen(pool) for pool in pools),
                fix=edit(
                    pools[-1], "listen", f"/run/php/{pools[-1]['name']}-{pools[-1]['version'] or ''}.sock"
                ),
            )
        else:
            yield good(address, "one pool has this address", _listen(pools[0]))


@_BOOK.rule("S10", "high", "A pool listens on all addresses without listen.allowed_clients")
def open_port(snapshot: Snapshot) -> Iterator[Outcome]:
    for pool in snapshot.pools:
        listen = pool["listen"]
        if listen["kind"] != "tcp":
            continue
        text = str(listen["raw"] or "")
        host = "" if text.isdigit() else text.rpartition(":")[0].strip("[]")
        if host in _EVERYWHERE and not listen["allowed_clients"]:
            yield bad(
                pool_title(pool),
                f"listen = {text}: whoever reaches port {listen['port']} can run any script as {pool['user']}",
                "an address of this host only, or listen.allowed_clients",
                place_of_setting(pool, "listen"),
                place_of_setting(pool, "listen.allowed_clients"),
                fix=f"listen = 127.0.0.1:{listen['port']}\n# or: listen.allowed_clients = ADDRESS-OF-NGINX",
            )
        else:
            yield good(pool_title(pool), f"listen = {text}", place_of_setting(pool, "listen"))


def socket_note(pool: dict[str, Any]) -> str:
    """ "pool www listens on /run/php/www.sock (www.conf:41)", for a verdict."""
    place = _listen(pool)
    line = f":{place.line}" if place.line else ""
    address = (pool["listen"]["address"] or "an unknown address").removeprefix("unix:")
    return f"pool {pool['name']} listens on {address} ({short(place.file)}{line})"
