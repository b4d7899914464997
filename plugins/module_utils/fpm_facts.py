# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything there is to know about a host's PHP-FPM, as plain data: what fpm_pool_facts returns."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils import kernel_sockets, procfs, systemd_units
from ansible_collections.webops.php_stack.plugins.module_utils.fastcgi import Address
from ansible_collections.webops.php_stack.plugins.module_utils.fpm_config import load
from ansible_collections.webops.php_stack.plugins.module_utils.fpm_discovery import Found, Survey, survey
from ansible_collections.webops.php_stack.plugins.module_utils.fpm_listen import (
    Endpoint,
    Held,
    endpoint,
    find_held,
    find_listener,
)
from ansible_collections.webops.php_stack.plugins.module_utils.fpm_model import (
    Build,
    FpmConfig,
    Pool,
    Problem,
    Setting,
)
from ansible_collections.webops.php_stack.plugins.module_utils.fpm_status import Answer, Question, ask_all
from ansible_collections.webops.php_stack.plugins.module_utils.host import Host
from ansible_collections.webops.php_stack.plugins.module_utils.kernel_sockets import Listener

_DEFAULT_MODE = "0660"
_SIZES = ("rss_bytes", "pss_bytes", "private_bytes", "shared_bytes", "private_peak_bytes")
_MARKER = "Managed by webops.php_stack ("


def gather(
    host: Host,
    status: bool = True,
    timeout: float = 2.0,
    pools: list[str] | None = None,
    defaults: bool = True,
) -> dict[str, list[dict[str, Any]]]:
    """The facts of a host or a tree.

    :param status: ask each pool's status page (never on a tree).
    :param timeout: seconds for one pool's answer.
    :param pools: names of the pools to return; all where None or empty.
    :param defaults: return the directives that no file sets with each pool and master, too.
    :returns: ``fpm_pools`` and ``fpm_masters``, as the module documents them.
    """
    found = survey(host)
    listeners = kernel_sockets.listeners(host) if host.live else None
    masters: list[dict[str, Any]] = []
    gathered: list[_PoolFacts] = []
    configs: dict[tuple[str, str, Any], FpmConfig] = {}
    for master in found.masters:
        key = (master.host.root, master.config_file, master.version)
        if key not in configs or master.environment:
            configs[key] = _load(master)
        config = configs[key]
        masters.append(_master(master, config, found, defaults))
        reader = _PoolReader(master, found, listeners, masters[-1]["running"], config)
        for pool in config.pools:
            if not pools or pool.name in pools:
                gathered.append(reader.pool(pool))
                gathered[-1].facts["directives"] = _settings(pool.settings, defaults)
    asked = [pool for pool in gathered if pool.question] if host.live and status else []
    answers = ask_all([pool.question for pool in asked if pool.question], timeout)
    by_pool = {id(pool): answer for pool, answer in zip(asked, answers)}
    sizes = found.processes.memory.result() if found.processes else {}
    for one in gathered:
        answer = by_pool.get(id(one))
        one.facts["memory"] = _memory(one.workers, sizes, answer.workers if answer else {})
        if answer:
            one.facts["status"] = judge(one.facts, answer, one.via, timeout)
    return {"fpm_pools": [pool.facts for pool in gathered], "fpm_masters": masters}


def _load(master: Found) -> FpmConfig:
    uid = master.process.uid if master.process else None
    build = Build(
        master.version,
        master.prefix,
        master.state_dir,
        master.environment.get,
        as_root=uid in (None, 0),
    )
    return load(master.config_file, master.host, build)


def _version(master: Found) -> str | None:
    return ".".join(map(str, master.version)) if master.version else None


def _settings(settings: dict[str, Setting], defaults: bool) -> dict[str, dict[str, Any]]:
    shown = {}
    for name, setting in settings.items():
        if setting.default and not defaults:
            continue
        shown[name] = {
            "value": setting.value,
            "file": setting.file,
            "line": setting.line,
            "default": setting.default,
        }
        if setting.unresolved is not None:
            shown[name]["unresolved"] = setting.unresolved
    return shown


def _problems(problems: list[Problem]) -> list[dict[str, Any]]:
    return [{"file": item.file, "line": item.line, "message": item.message} for item in problems]


def _master(master: Found, config: FpmConfig, found: Survey, defaults: bool) -> dict[str, Any]:
    unit = (found.units or {}).get(master.unit or "")
    process = master.process
    return {
        "version": _version(master),
        "layout": master.layout,
        "panel": master.panel.name if master.panel else None,
        "panel_override": master.panel.override if master.panel else None,
        "config_file": master.config_file,
        "files": config.files,
        "binary": master.binary,
        "unit": master.unit,
        "unit_state": systemd_units.unit_state(unit) if unit else None,
        "pid": process.pid if process else None,
        "running": _is_running(master, unit, found),
        "in_container": process is not None and process.root != "/",
        "process_control_timeout": config.settings["process_control_timeout"].value,
        "pools": [pool.name for pool in config.pools],
        "globals": _settings(config.settings, defaults),
        "errors": _problems(config.problems),
        "warnings": _problems(config.warnings),
    }


def _is_running(master: Found, unit: dict[str, str] | None, found: Survey) -> bool | None:
    """None on a tree, and where the processes of others are hidden from us."""
    if master.process is not None:
        return True
    if found.processes is None:
        return None
    if unit and unit.get("ActiveState") == "active" and unit.get("MainPID", "0") != "0":
        return True
    return None if os.geteuid() != 0 and not found.processes.masters else False


@dataclass
class _PoolFacts:
    """The facts of one pool and what is needed for the rest of them.

    :param workers: None where processes cannot be seen.
    :param question: what to ask for its status, of the listener ``via``.
    """

    facts: dict[str, Any]
    workers: list[procfs.Worker] | None
    question: Question | None
    via: str


class _PoolReader:
    """Reads the pools of one master."""

    def __init__(
        self,
        master: Found,
        found: Survey,
        listeners: list[Listener] | None,
        running: bool | None,
        config: FpmConfig,
    ) -> None:
        self.master = master
        self.names = {pool.name for pool in config.pools}
        # Files that the roles of this collection wrote: their marker is the first line.
        self.managed = {file for file, line in config.first_lines.items() if _MARKER in line}
        self.found = found
        self.sockets = [unit for unit in found.sockets if master.unit is None or master.unit in unit.services]
        self.running = running
        self.process = master.process
        self.listeners = listeners
        if self.process and self.process.root != "/" and not procfs.same_network(self.process.pid):
            # Their sockets are not in our network namespace, and ours are not theirs.
            self.listeners = None
        self.inodes = procfs.socket_inodes(self.process.pid) if self.process else set()
        self.by_inode = {entry.inode: entry for entry in self.listeners or []}
        self.by_path: dict[str, list[Listener]] = {}
        for entry in self.listeners or []:
            self.by_path.setdefault(entry.path, []).append(entry)
        self.workers: dict[str, list[procfs.Worker]] = {}
        if found.processes and self.process:
            for worker in found.processes.workers:
                if worker.parent == self.process.pid:
                    self.workers.setdefault(worker.pool, []).append(worker)

    def workers_of(self, pool: Pool) -> list[procfs.Worker]:
        """The workers that carry the pool's name, or the beginning of it that only this pool has."""
        found = self.workers.get(pool.name)
        if found is not None:
            return found
        names = {name for name in self.workers if name not in self.names and pool.name.startswith(name)}
        for name in sorted(names, key=len, reverse=True):
            if sum(other.startswith(name) for other in self.names) == 1:
                return self.workers[name]
        return []

    def pool(self, pool: Pool) -> _PoolFacts:
        workers = self.workers_of(pool)
        held = self.held(pool, workers)
        target = held.endpoint if held else endpoint(pool.value("listen"))
        socket = held.socket if held else target
        listener = self.listener(socket)
        if self.process is None and listener is not None:
            workers = self.orphans(listener)
        facts = {
            "name": pool.name,
            "version": _version(self.master),
            "layout": self.master.layout,
            "panel": self.master.panel.name if self.master.panel else None,
            "master": self.master.config_file,
            "file": pool.file,
            "line": pool.line,
            "managed": pool.file in self.managed,
            "user": pool.value("user"),
            "group": pool.value("group"),
            "listen": _listen(pool, target, held),
            "pm": {
                "mode": pool.value("pm"),
                **{
                    name: pool.value(f"pm.{name}")
                    for name in (
                        "max_children",
                        "start_servers",
                        "min_spare_servers",
                        "max_spare_servers",
                        "process_idle_timeout",
                        "max_requests",
                    )
                },
            },
            "request_terminate_timeout": pool.value("request_terminate_timeout"),
            "request_slowlog_timeout": pool.value("request_slowlog_timeout"),
            "ping_path": pool.value("ping.path") or None,
            "status_path": pool.value("pm.status_path") or None,
            "status_listen": pool.value("pm.status_listen") or None,
            "unit": self.master.unit,
            "pid": self.process.pid if self.process else None,
            "queue": {"waiting": listener.waiting, "backlog": listener.backlog} if listener else None,
        }
        question, because, via = self.question(pool, target, listener, held)
        state, _sep, reason = because.partition(": ")
        facts["status"] = {"state": state, "reason": reason}
        return _PoolFacts(facts, workers if self.found.processes else None, question, via)

    def listener(self, target: Endpoint | None) -> Listener | None:
        if target is None:
            return None
        entries = self.by_path.get(target.path, []) if target.path else self.listeners or []
        return find_listener(target, entries, self.inodes)

    def held(self, pool: Pool, workers: list[procfs.Worker]) -> Held | None:
        listen = pool.value("listen")
        if not listen or not self.sockets:
            return None
        accepts_on = None
        if workers:
            accepts_on = self.by_inode.get(procfs.listening_inode(workers[0].pid) or 0)
        if accepts_on is None:
            plain = endpoint(listen)
            accepts_on = self.listener(plain)
        return find_held(
            pool.name, listen, self.master.unit, self.sockets, self.master.environment, accepts_on
        )

    def orphans(self, listener: Listener) -> list[procfs.Worker]:
        """Workers that outlived their master and go on to serve its socket."""
        processes = self.found.processes
        if processes is None:
            return []
        alive = {master.pid for master in processes.masters}
        lone = [worker for worker in processes.workers if worker.parent not in alive]
        return [worker for worker in lone if procfs.listening_inode(worker.pid) == listener.inode]

    def question(
        self, pool: Pool, target: Endpoint | None, listener: Listener | None, held: Held | None
    ) -> tuple[Question | None, str, str]:
        """(what to ask or None, the state and its reason unless it is asked, which listener is asked)."""
        if self.found.processes is None:
            return None, "unknown: a tree is not asked", ""
        path = pool.value("pm.status_path")
        if self.running is False and (held is not None or listener is None):
            # A connection to a socket that systemd holds would start the service.
            return None, f"not_running: {self.why_not_running(target)}", ""
        if not path:
            return None, "not_configured: pm.status_path is not set", ""
        via = "status_listen" if pool.value("pm.status_listen") else "listen"
        asked = endpoint(pool.value("pm.status_listen")) if via == "status_listen" else target
        if asked is None:
            return None, "unknown: the address to ask is not known", via
        if self.process and self.process.root != "/":
            if asked.kind == "tcp" and self.listeners is None:
                return None, "unknown: it listens in a network of its own (a container)", via
            if asked.kind == "unix":
                asked = Endpoint("unix", path=self.master.host.real(asked.path or ""))
        try:
            return Question(Address.parse(asked.nginx), path), "unknown: it was not asked", via
        except ValueError as error:
            return None, f"unknown: {error}", via

    def why_not_running(self, target: Endpoint | None) -> str:
        words = "no master runs"
        unit = (self.found.units or {}).get(self.master.unit or "")
        if unit:
            words += f"; {self.master.unit} is {unit.get('ActiveState')} ({unit.get('Result')})"
        if target and target.kind == "unix" and target.path and self.master.host.is_socket(target.path):
            words += f"; {target.path} is left over"
        return words


def _names(value: str | None) -> list[str]:
    return [name for name in (value or "").replace(" ", "").split(",") if name]


def _listen(pool: Pool, target: Endpoint | None, held: Held | None) -> dict[str, Any]:
    unit = held.unit if held else None
    setting = pool.settings["listen"]
    users, groups = (
        (None, None) if unit else (pool.value("listen.acl_users"), pool.value("listen.acl_groups"))
    )
    is_unix = target is not None and target.kind == "unix"
    return {
        "raw": setting.unresolved or setting.value,
        "kind": target.kind if target else None,
        "address": target.nginx if target else None,
        "path": target.path if target else None,
        "host": target.host if target else None,
        "port": target.port if target else None,
        "owner": unit.user if unit else pool.value("listen.owner"),
        "group": unit.group if unit else pool.value("listen.group"),
        "mode": (unit.mode if unit else pool.value("listen.mode") or _DEFAULT_MODE) if is_unix else None,
        "acl_users": _names(users),
        "acl_groups": _names(groups),
        "backlog": unit.backlog if unit else pool.value("listen.backlog"),
        "allowed_clients": _names(pool.value("listen.allowed_clients")),
        "held_by": "systemd" if unit else None,
        "socket_unit": unit.id if unit else None,
    }


def _memory(
    workers: list[procfs.Worker] | None,
    measured: dict[int, procfs.Memory],
    told: dict[int, tuple[int | None, str | None]],
) -> dict[str, Any]:
    """Sums over the workers, and the peak of the greatest; a size not known for one is not known for all.

    :param told: requests and state by pid, as the status page says.
    """
    if workers is None:
        return {"worker_count": None, **dict.fromkeys(_SIZES), "workers": []}
    listed: list[dict[str, Any]] = []
    for worker in workers:
        memory = measured[worker.pid]
        requests, state = told.get(worker.pid, (None, None))
        listed.append(
            {
                "pid": worker.pid,
                "rss_bytes": memory.rss_bytes,
                "pss_bytes": memory.pss_bytes,
                "private_bytes": memory.private_bytes,
                "shared_bytes": memory.shared_bytes,
                "private_peak_bytes": memory.private_peak_bytes,
                "age_seconds": worker.age_seconds,
                "requests": requests,
                "state": state,
            }
        )
    facts: dict[str, Any] = {"worker_count": len(workers)}
    for size in _SIZES:
        values = [one[size] for one in listed]
        facts[size] = None if None in values else sum(values)
    if not workers or facts["private_peak_bytes"] is None:
        facts["private_peak_bytes"] = None
    else:
        facts["private_peak_bytes"] = max(one["private_peak_bytes"] for one in listed)
    facts["workers"] = listed
    return facts


def judge(facts: dict[str, Any], answer: Answer, via: str, timeout: float) -> dict[str, Any]:
    """A pool's state from the answer of its status page, its workers and the kernel's queue."""
    most, workers = facts["pm"]["max_children"], facts["memory"]["worker_count"]
    queue = facts["queue"] or {}
    words = f"; {queue['waiting']} connections wait, {queue['backlog']} may" if queue else ""
    if answer.kind == "ok":
        # Asked on its own socket a pool has just had a worker free: the one that answered.
        active = answer.fields.get("active_processes", 0)
        full = via == "status_listen" and most is not None and active >= most
        reason = f"all {active} workers are busy{words}" if full else ""
        state = "saturated" if full else "ok"
        return {"state": state, "reason": reason, **answer.fields, "processes": answer.processes}
    if answer.kind == "full":
        return {"state": "saturated", "reason": f"{answer.reason}{words}"}
    if answer.kind in ("silent", "connect_timeout"):
        busy = bool(workers and most and workers >= most)
        if busy or queue.get("waiting", 0) > 0:
            causes = ([f"all {workers} of {most} workers are busy"] if busy else []) + (
                [words[2:]] if words else []
            )
            reason = f"no answer within {timeout:g} s: {'; '.join(causes)}"
            return {"state": "saturated", "reason": reason}
    if answer.kind in ("other", "not_fastcgi"):
        return {"state": "unknown", "reason": answer.reason or "the status page cannot be read"}
    return {"state": "unreachable", "reason": f"{answer.reason}{words}"}


def summary(facts: dict[str, list[dict[str, Any]]]) -> list[str]:
    """One line a pool and one a mistake, for people."""
    lines = []
    for pool in facts["fpm_pools"]:
        memory, pm = pool["memory"], pool["pm"]
        words = f"{pool['name']} (PHP {pool['version'] or '?'}): {pool['listen']['address'] or 'no address'}"
        words += f", {pm['mode'] or 'no pm'} {pm['max_children']}"
        if memory["worker_count"]:
            words += f", {memory['worker_count']} worker" + "s" * (memory["worker_count"] > 1)
            if memory["pss_bytes"] is not None:
                words += f" with {memory['pss_bytes'] / 2**20:.0f} MiB (PSS)"
        if pool["queue"]:
            words += f", queue {pool['queue']['waiting']}/{pool['queue']['backlog']}"
        state, reason = pool["status"]["state"], pool["status"]["reason"]
        lines.append(f"{words}: {state}" + (f" ({reason})" if reason else ""))
    for master in facts["fpm_masters"]:
        for error in master["errors"]:
            where = ":".join(str(part) for part in (error["file"], error["line"]) if part is not None)
            lines.append(f"error: {where}: {error['message']}")
    return lines
