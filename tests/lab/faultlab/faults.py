# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The faults. Each one takes a stack and breaks it, changes it or has it restarted while the load runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from faultlab.stacks import SATURATED_SITE, Stack

Inject = Callable[[Stack, bool], int]


@dataclass(frozen=True)
class Fault:
    """`inject(stack, quick)` returns the exit code of what was done."""

    name: str
    title: str
    inject: Inject
    playbook: bool = False
    reboot: bool = False
    # The playbook is to be red: then its exit code is part of the result.
    should_fail: bool = False
    # The script's exit code tells whether the fault came about at all.
    proves: bool = False
    # Somebody's hand takes the socket away: nginx finds nothing there, and says so at once.
    by_hand: bool = False
    # A request dies with its worker. A POST is never sent twice, nor a request whose answer has begun.
    kills_workers: bool = False


# How soon a socket that was removed or closed by hand is to be back.
HEALED_WITHIN_SECONDS = 2.0


def broken_promises(fault: Fault, figures: dict[str, Any]) -> list[str]:
    """What of a fault's figures (outcome.count) ours is not to show, in words."""
    healthy = figures["healthy_after_seconds"]
    if healthy is None:
        return ["it did not become healthy without a person"]
    if fault.by_hand:
        return [f"healthy only after {healthy} s"] if healthy > HEALED_WITHIN_SECONDS else []
    return [
        f"{kind['count']} {kind['method']} lost, {kind['answer']}: {kind['reason']}"
        for kind in figures["by_kind"]
        if not (fault.kills_workers and (kind["method"] == "POST" or kind["answer"] == "cut"))
    ]


def _script(text: str, times: int = 1, quick: int = 1) -> Inject:
    """A bash script for the host: @N@ is how often, @DEPLOY@ how a deployment reloads, @SOCKET@ the pool's path."""

    def inject(stack: Stack, is_quick: bool) -> int:
        script = text.replace("@N@", str(quick if is_quick else times)).replace("@DEPLOY@", stack.deploy)
        if "@SOCKET@" in script:
            path = stack.socket()
            # Nothing may be removed or changed by an empty path.
            if not path.startswith("/run/"):
                raise RuntimeError(f"{stack.title}: the pool's socket was not found")
            script = script.replace("@SOCKET@", path)
        return stack.sh(script).returncode

    return inject


MASTER = "$(systemctl show -P MainPID php8.2-fpm)"
# Process 0 would be the script's own group.
KILL_MASTER = f"pid={MASTER}; [ $pid -eq 0 ] || kill -KILL $pid"
DEAD_WORKERS = "$(grep -c 'exited on signal 9' /var/log/php8.2-fpm.log)"


def _pool_edit(stack: Stack, _quick: bool) -> int:
    return stack.apply(replace(stack.wanted, max_children=6))


def _ini_edit(stack: Stack, _quick: bool) -> int:
    return stack.apply(replace(stack.wanted, ini={"realpath_cache_ttl": "300"}))


def _pool_invalid(stack: Stack, _quick: bool) -> int:
    # A typing error that only FPM itself can know.
    return stack.apply(replace(stack.wanted, directives={"rlimit_fils": "1024"}))


def _listen_owner(stack: Stack, _quick: bool) -> int:
    return stack.apply(replace(stack.wanted, owner="root"))


def _pool_rename(stack: Stack, _quick: bool) -> int:
    old = (*stack.wanted.old, (stack.wanted.version, stack.wanted.pool))
    return stack.apply(replace(stack.wanted, pool="store", old=old))


def _version_switch(stack: Stack, _quick: bool) -> int:
    old = tuple((stack.wanted.version, pool) for pool in (stack.wanted.pool, "blog"))
    return stack.apply(replace(stack.wanted, version="7.4", old=old))


def _reboot(stack: Stack, _quick: bool) -> int:
    stack.reboot()
    return 0


FAULTS = (
    Fault("none", "no fault", _script("sleep 5")),
    Fault("reloads", "20 reloads",
          _script("for _ in $(seq @N@); do @DEPLOY@; sleep 0.2; done", 20, 4)),
    Fault("restarts", "10 restarts",
          _script("for _ in $(seq @N@); do systemctl restart php8.2-fpm; sleep 0.5; done", 10, 3)),
    Fault("master_kills", "5 kills of the master",
          _script(f"for _ in $(seq @N@); do {KILL_MASTER}; sleep 1.5; done", 5, 2)),
    Fault("worker_kills", "15 kills of a worker",
          _script(f"for _ in $(seq @N@); do kill -KILL $(pgrep -P {MASTER} -f 'pool shop' | shuf -n 1);"
                  " sleep 0.3; done", 15, 5), kills_workers=True),
    Fault("worker_oom", "a worker killed by the OOM killer",
          _script(f"before={DEAD_WORKERS}; curl -s -o /dev/null -m 15 -H 'Host: {SATURATED_SITE}'"
                  f" http://127.0.0.1/eat.php; [ {DEAD_WORKERS} -gt $before ]"),
          proves=True, kills_workers=True),
    Fault("reinstall", "php8.2-fpm's package reinstalled",
          _script("DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --reinstall php8.2-fpm"),
          proves=True),
    Fault("deployments", "five deployments reload at once",
          _script("for _ in $(seq 5); do @DEPLOY@ & done; wait")),
    Fault("saturated", "another pool saturated",
          _script(f"hey -z 4s -c 30 -t 30 -host {SATURATED_SITE} 'http://127.0.0.1/load.php?ms=1000'")),
    Fault("socket_removed", "the socket's file removed", _script("rm -f '@SOCKET@'"), by_hand=True),
    Fault("socket_gone", "the socket's file and its links removed",
          _script("rm -f \"$(realpath '@SOCKET@')\" '@SOCKET@'"), by_hand=True),
    Fault("socket_closed", "the socket's mode set to 0", _script("chmod 0 '@SOCKET@'"), by_hand=True),
    Fault("broken_crash", "broken config and a crash, mended after 3 s",
          _script("printf '[broken]\\nnonsense = 1\\n' >/etc/php/8.2/fpm/pool.d/zz-broken.conf;"
                  f" {KILL_MASTER}; sleep 3; rm /etc/php/8.2/fpm/pool.d/zz-broken.conf")),
    Fault("reboot", "host rebooted (from nginx's first answer)", _reboot, reboot=True),
    Fault("pool_edit", "playbook: a pool's size changed", _pool_edit, playbook=True),
    Fault("ini_edit", "playbook: php.ini changed", _ini_edit, playbook=True),
    Fault("pool_invalid", "playbook: a pool made invalid", _pool_invalid, playbook=True, should_fail=True),
    Fault("listen_owner", "playbook: the socket's owner changed", _listen_owner, playbook=True),
    Fault("pool_rename", "playbook: the pool renamed", _pool_rename, playbook=True),
    Fault("version_switch", "playbook: the site moved to PHP 7.4", _version_switch, playbook=True),
)  # fmt: skip

BY_NAME = {fault.name: fault for fault in FAULTS}
