# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands and units: what systemd knows about a unit, and which php-fpm it runs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from fpm_reload import limits
from fpm_reload.outcome import UNEXPECTED, UNKNOWN_UNIT, USAGE, Failure

# What a unit may be called here. It starts with a letter or a digit, so it can never be an option.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}(@[A-Za-z0-9._-]{1,99})?")
_BINARY = re.compile(r"""["'@:+!-]*(/[^\s"']*/php[0-9.-]*-?fpm[0-9.-]*)["']?""")
_ARGV = re.compile(r"argv\[\]=(.*?) ; ignore_errors=")
_PROPERTIES = (
    "Id",
    "LoadState",
    "ActiveState",
    "SubState",
    "MainPID",
    "UnitFileState",
    "TriggeredBy",
    "ExecStart",
    *limits.PROPERTIES,
)
# Options that say which configuration is read, and whether a value follows.
_CONFIG_OPTIONS = {
    "-y": True,
    "--fpm-config": True,
    "-c": True,
    "--php-ini": True,
    "-p": True,
    "--prefix": True,
    "-d": True,
    "--define": True,
    "-n": False,
    "--no-php-ini": False,
    "-R": False,
    "--allow-to-run-as-root": False,
}
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


@dataclass(frozen=True)
class Ran:
    """A command that ended; ``cut_off`` says why it did not end by itself, and ``rc`` is then below 0."""

    rc: int
    stdout: str
    stderr: str
    cut_off: str = ""

    @property
    def words(self) -> list[str]:
        return [line for line in (self.stderr + self.stdout).splitlines() if line.strip()]


def run(argv: Sequence[str], seconds: float) -> Ran:
    """Run a command without a shell, in an environment of our own.

    :raises Failure: when the program cannot be started.
    """
    try:
        done = subprocess.run(
            list(argv),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=max(seconds, 0.1),
            env=_ENVIRONMENT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        late = f"did not end within {seconds:.0f} s"
        return Ran(-1, "", f"{argv[0]} {late}", late)
    except OSError as error:
        raise Failure(UNEXPECTED, f"{argv[0]} cannot be run: {error.strerror}") from error
    return Ran(
        done.returncode,
        done.stdout.decode("utf-8", "replace"),
        done.stderr.decode("utf-8", "replace"),
        f"was killed by signal {_signal_words(-done.returncode)}" if done.returncode < 0 else "",
    )


def _signal_words(number: int) -> str:
    try:
        return f"{number} ({signal.Signals(number).name})"
    except ValueError:
        return str(number)


@dataclass(frozen=True)
class Unit:
    """A service that runs PHP-FPM.

    :param name: without ``.service``; an alias is already replaced by the unit's own name.
    :param binary: of php-fpm, from ExecStart.
    :param options: those of its options that decide which configuration it reads.
    :param sockets: socket units that start it.
    :param limits: of its processes, as the unit has them now.
    """

    name: str
    active: str
    sub: str
    pid: int
    file_state: str
    sockets: tuple[str, ...]
    binary: str
    options: tuple[str, ...]
    limits: limits.Limits = field(default_factory=dict)

    @property
    def service(self) -> str:
        return f"{self.name}.service"

    @property
    def running(self) -> bool:
        return self.active in ("active", "reloading") and self.pid > 0

    @property
    def config_file(self) -> str:
        """The main configuration file, as its options name it; empty where they name none."""
        for option, value in zip(self.options, self.options[1:]):
            if option in ("-y", "--fpm-config"):
                return value
        return ""


def check_name(given: str) -> str:
    """The unit's name without ``.service``.

    :raises Failure: for anything that is no plain unit name.
    """
    name = given[: -len(".service")] if given.endswith(".service") else given
    if not NAME.fullmatch(name) or name.endswith(
        (".socket", ".target", ".timer", ".slice", ".mount", ".path")
    ):
        raise Failure(USAGE, f"{given!r} is not the name of a service; give one like php8.2-fpm")
    return name


def parse_exec_start(line: str) -> tuple[str, tuple[str, ...]] | None:
    """Binary and configuration options out of ``systemctl show -p ExecStart``.

    A wrapper is looked through: what counts is the first word that names a php-fpm by
    its full path. None where there is no such word.

    :raises ValueError: for an option that a variable would fill in.
    """
    found = _ARGV.search(line)
    words = found.group(1).split() if found else []
    for position, word in enumerate(words):
        binary = _BINARY.fullmatch(word)
        if binary:
            return binary.group(1), _config_options(words[position + 1 :])
    return None


def _config_options(words: list[str]) -> tuple[str, ...]:
    kept: list[str] = []
    rest = [word.strip("\"'") for word in words]
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if "$" in word and word != "$@":
            raise ValueError(f"its option {word} is filled in by a variable")
        if equals and _CONFIG_OPTIONS.get(name):
            kept += [name, value]
        elif word in _CONFIG_OPTIONS:
            kept.append(word)
            if _CONFIG_OPTIONS[word] and rest:
                kept.append(rest.pop(0))
        elif len(word) > 2 and word[0] == "-" and word[1] != "-" and _CONFIG_OPTIONS.get(word[:2]):
            kept += [word[:2], word[2:]]
    return tuple(kept)


def parse_show(text: str) -> dict[str, list[str]]:
    """``systemctl show``: each property with all of its lines."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, _sep, value = line.partition("=")
        found.setdefault(key, []).append(value)
    return found


def show(name: str) -> Unit:
    """Ask systemd about a unit.

    :raises Failure: UNKNOWN_UNIT, or UNEXPECTED when systemd does not answer.
    """
    if not os.path.isdir("/run/systemd/system"):
        raise Failure(UNEXPECTED, "systemd does not run here, and php-fpm-reload works through it")
    asked = run(["systemctl", "show", f"--property={','.join(_PROPERTIES)}", "--", f"{name}.service"], 30)
    if asked.rc != 0:
        raise Failure(UNEXPECTED, f"systemd does not answer about {name}", asked.words)
    shown = parse_show(asked.stdout)

    def value(key: str) -> str:
        return shown.get(key, [""])[0]

    if value("LoadState") != "loaded":
        raise Failure(UNKNOWN_UNIT, f"systemd cannot use a unit {name}.service: it is {value('LoadState')}")
    try:
        starts = [found for found in map(parse_exec_start, shown.get("ExecStart", [])) if found]
    except ValueError as error:
        raise Failure(UNKNOWN_UNIT, f"{name}.service cannot be checked: {error}") from error
    if not starts:
        raise Failure(UNKNOWN_UNIT, f"{name}.service does not run PHP-FPM: its ExecStart names no php-fpm")
    binary, options = starts[0]
    return Unit(
        name=check_name(value("Id")),
        active=value("ActiveState"),
        sub=value("SubState"),
        pid=int(value("MainPID") or 0),
        file_state=value("UnitFileState"),
        sockets=tuple(unit for unit in value("TriggeredBy").split() if unit.endswith(".socket")),
        binary=binary,
        options=options,
        limits=limits.parse(shown),
    )


def settled_at(unit: Unit) -> float:
    """When the unit's last start or reload was done (seconds of the epoch); 0 where systemd does not say."""
    asked = run(["systemctl", "show", "--property=StateChangeTimestampMonotonic", "--", unit.service], 30)
    stamp = parse_show(asked.stdout).get("StateChangeTimestampMonotonic", ["0"])[0]
    return time.time() - (time.monotonic() - int(stamp) / 1e6) if int(stamp) else 0.0


def idle_sockets(unit: Unit) -> list[str]:
    """Socket units that belong to the service and do not listen yet: only a restart opens them."""
    if not unit.sockets:
        return []
    asked = run(["systemctl", "show", "--property=Id,ActiveState", "--", *unit.sockets], 30)
    blocks = [parse_show(block) for block in asked.stdout.split("\n\n")]
    return sorted(b["Id"][0] for b in blocks if b.get("ActiveState") == ["inactive"] and b.get("Id"))


def journal_since(unit: Unit, since: float) -> list[str]:
    """Complaints of the unit's processes since a moment (seconds of the epoch), at most ten lines."""
    argv = [
        "journalctl",
        "--quiet",
        "--no-pager",
        "--output=cat",
        f"--unit={unit.service}",
        f"--since=@{since:.3f}",
    ]
    said = [
        line for line in run(argv, 20).stdout.splitlines() if re.search(r"ERROR|ALERT|WARNING|Fatal", line)
    ]
    return list(dict.fromkeys(said))[-10:]
