# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules about the host: who may reload, with which lock, and what is there after a boot (pure)."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterator

from ansible_collections.webops.php_stack.plugins.module_utils.audit_findings import (
    Evidence,
    Outcome,
    RuleBook,
    bad,
    good,
    unknown,
)
from ansible_collections.webops.php_stack.plugins.module_utils.audit_snapshot import Snapshot, SudoRule
from ansible_collections.webops.php_stack.plugins.module_utils.audit_view import place_of_setting, pool_title

_BOOK = RuleBook()
RULES = _BOOK.rules
_ROOTS = ("root", "%sudo", "%wheel", "%admin")
_VERBS = re.compile(r"\b(stop|start|restart|kill|mask|disable|enable|edit|set-property)\b")


def _sudo_faults(rule: SudoRule, versions: set[str]) -> list[str]:
    wrong = []
    words = rule.command.split()
    if any(char in rule.command for char in "*?["):
        wrong.append("a wildcard matches more than one command, and more than one word")
    if posixpath.basename(words[0]) in ("systemctl", "service") and len(words) == 1:
        wrong.append("without arguments every use of the program is allowed")
    verb = _VERBS.search(rule.command)
    if verb:
        wrong.append(f"it allows to {verb[1]}, not only to reload")
    if rule.exists is False:
        wrong.append(f"{words[0]} does not exist")
    named = re.search(r"php(?:-fpm)?-?(\d)\.?(\d)(?:-fpm)?", rule.command)
    if (
        named
        and versions
        and f"{named[1]}.{named[2]}" not in versions
        and words[0].rsplit("/", 1)[-1] != named[0]
    ):
        wrong.append(f"PHP {named[1]}.{named[2]} is not on this host")
    return wrong


@_BOOK.rule("U01", "high", "sudoers allows more than one exact reload", "restart_cut_requests", needs=())
def sudo(snapshot: Snapshot) -> Iterator[Outcome]:
    if snapshot.sudoers is None:
        yield unknown("sudoers", "the files of sudo cannot be read: run the audit as root")
        return
    versions = {str(master["version"]) for master in snapshot.masters if master["version"]}
    for rule in snapshot.sudoers:
        if rule.user in _ROOTS:
            continue
        place = Evidence(f"{rule.user}: {rule.command}", rule.file, rule.line)
        wrong = _sudo_faults(rule, versions)
        if wrong:
            unit = f"php{max(versions, default='X.Y')}-fpm"
            yield bad(
                rule.user,
                "; ".join(wrong),
                "one line for each unit, with the exact command",
                place,
                fix=f"{rule.user} ALL=(root) NOPASSWD: /usr/local/sbin/php-fpm-reload {unit}",
            )
        else:
            yield good(rule.user, f"may run {rule.command}", place)


def flock_options(line: str) -> tuple[bool, str | None]:
    """(whether it does not wait, the lock file) of a line with flock; None where the file is not plain."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        words = line.split()
    place = next((number for number, word in enumerate(words) if word.rsplit("/", 1)[-1] == "flock"), None)
    if place is None:
        return "--nonblock" in line or " -n" in line, None
    nonblock, lock = False, None
    rest = iter(words[place + 1 :])
    for word in rest:
        if word in ("--nonblock", "--nb") or re.fullmatch(r"-[a-z]*n[a-z]*", word):
            nonblock = True
        elif word in ("-w", "--timeout", "--wait", "-E", "--conflict-exit-code"):
            next(rest, None)
        elif not word.startswith("-"):
            lock = word
            break
    return nonblock, lock


@_BOOK.rule(
    "U02",
    "high",
    "A reload's lock loses deployments, or can be taken by anybody",
    "reload_cut_requests",
    needs=(),
)
def locks(snapshot: Snapshot) -> Iterator[Outcome]:
    if snapshot.scripts is None:
        yield unknown("scripts", "the deploy scripts cannot be read")
        return
    for line in snapshot.scripts:
        nonblock, lock = flock_options(line.text)
        wrong = []
        if nonblock:
            wrong.append("flock --nonblock skips the reload while another one runs: old code stays")
        if (lock or line.text).find("/tmp/") != -1:
            wrong.append("any user can hold a lock in /tmp")
        place = Evidence(line.text, line.file, line.line)
        if wrong:
            yield bad(
                line.file,
                "; ".join(wrong),
                "a lock that waits, in a folder of root under /run/lock",
                place,
                fix="flock /run/lock/php-fpm/reload.lock systemctl reload UNIT\n# or: php-fpm-reload UNIT",
                confidence="high" if lock else "medium",
            )
        else:
            yield good(line.file, "its lock waits, and lies in a safe place", place)


@_BOOK.rule(
    "U03",
    "high",
    "A socket's folder is gone after a boot, or goes with another version",
    "socket_missing",
    "socket_denied",
)
def runtime_folders(snapshot: Snapshot) -> Iterator[Outcome]:
    made = {
        line.text.split()[1].rstrip("/"): line
        for line in snapshot.tmpfiles or []
        if len(line.text.split()) > 1
    }
    owners: dict[str, list[str]] = {}
    for service in snapshot.services.values():
        for name in service.runtime_directory:
            owners.setdefault(f"/run/{name}", []).append(service.name)
    for folder, names in sorted(owners.items()):
        loose = [name for name in names if snapshot.services[name].runtime_preserve == "no"]
        if len(names) > 1 and loose:
            yield bad(
                folder,
                f"{' and '.join(names)} share it, and {loose[0]} deletes it when it stops",
                "a RuntimeDirectory of its own for each service, with RuntimeDirectoryPreserve=yes",
                *(Evidence("RuntimeDirectory", snapshot.services[name].file) for name in names),
                fix="[Service]\nRuntimeDirectory=phpX.Y-fpm\nRuntimeDirectoryPreserve=yes",
            )
    for pool in snapshot.pools:
        path = pool["listen"]["path"] or ""
        folder = posixpath.dirname(path.replace("/var/run/", "/run/", 1))
        if not folder.startswith("/run/") or pool["listen"]["held_by"]:
            continue  # systemd makes the folder of a socket that it holds
        place = place_of_setting(pool, "listen")
        if folder in owners or any(folder == one.replace("/var/run/", "/run/", 1) for one in made):
            by = owners.get(folder) or [
                made[one].file for one in made if one.endswith(folder.rsplit("/", 1)[-1])
            ]
            yield good(
                pool_title(pool), f"{folder} is made at boot by {by[0] if by else 'tmpfiles.d'}", place
            )
        elif snapshot.tmpfiles is None or (pool["unit"] or "") not in snapshot.services:
            yield unknown(pool_title(pool), f"whether anything makes {folder} at boot is not known", place)
        else:
            yield bad(
                pool_title(pool),
                f"nothing makes {folder} at boot: no line of tmpfiles.d, no RuntimeDirectory",
                "a line in tmpfiles.d",
                place,
                fix=f"# /etc/tmpfiles.d/php-fpm.conf\nd {folder} 0755 root root -",
            )
