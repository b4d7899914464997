# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``php-fpm -tt`` as an oracle: write configurations, let FPM judge them, read its dump.

A case is a dict of texts by path below its own folder; ``main.conf`` is the
file FPM is given. Only what exists on every host is named (www-data, /tmp), so
that FPM and the parser judge the same thing: the text.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.webops.php_stack.plugins.module_utils.fpm_config import load
from ansible_collections.webops.php_stack.plugins.module_utils.fpm_defaults import (
    GLOBAL,
    POOL,
    SUPPRESS_PATH_SINCE,
    Directive,
    Version,
)
from ansible_collections.webops.php_stack.plugins.module_utils.fpm_model import Build, FpmConfig, Setting
from ansible_collections.webops.php_stack.plugins.module_utils.host import Host

FOLDER = "/tmp/fpm-oracle"
Case = dict[str, str]
Dump = dict[str, dict[str, str]]

# What the host's FPM is asked, in the host: one start of Python for many cases. The wrapper sets the log
# level last, because FPM prints its dump as notices, and a file that wants warnings only would hide it.
_RUNNER = """
import json, os, shutil, subprocess, sys
binary, folder, cases = json.load(sys.stdin)
answers = []
for number, case in enumerate(cases):
    top = "%s/%d" % (folder, number)
    shutil.rmtree(top, ignore_errors=True)
    for path, text in case.items():
        os.makedirs(os.path.dirname(top + "/" + path), exist_ok=True)
        with open(top + "/" + path, "wb") as handle:
            handle.write(text.encode("utf-8", "surrogateescape"))
    with open(top + "/wrapper.conf", "w") as handle:
        handle.write("include = %s/main.conf\\n[global]\\nlog_level = notice\\n" % top)
    done = subprocess.run([binary, "-tt", "-y", top + "/wrapper.conf"], stdout=-1, stderr=-1)
    answers.append((done.returncode, done.stderr.decode("utf-8", "surrogateescape")))
json.dump(answers, sys.stdout)
"""
_FACILITIES = {
    "kern": 0, "user": 1, "mail": 2, "daemon": 3, "auth": 4, "syslog": 5, "lpr": 6, "news": 7, "uucp": 8,
    "cron": 9, "authpriv": 10, "ftp": 11, **{f"local{number}": 16 + number for number in range(8)},
}  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What FPM says of one case: ``rc`` 0 with the dump, or 78 with its errors as (file, line or 0)."""

    rc: int
    dump: Dump
    places: list[tuple[str, int]]
    stderr: str


def ask(container: str, version: Version, cases: list[Case]) -> list[Verdict]:
    """FPM's verdict on each case, over one ``docker exec``."""
    binary = f"/usr/sbin/php-fpm{version[0]}.{version[1]}"
    done = subprocess.run(
        ["docker", "exec", "-i", container, "python3", "-c", _RUNNER],
        input=json.dumps([binary, FOLDER, cases]), check=True, capture_output=True, text=True,
    )  # fmt: skip
    return [
        Verdict(rc, parse_dump(stderr), parse_places(stderr), stderr)
        for rc, stderr in json.loads(done.stdout)
    ]


def parse_dump(stderr: str) -> Dump:
    """The values by section. FPM prints arrays backwards: what it printed last was set first."""
    found: Dump = {}
    section = None
    for message in re.split(r"(?m)^\[\d\d-\w{3}-\d{4} [\d:]+\] ", stderr):
        text = message[len("NOTICE: ") :].removesuffix("\n")
        if not message.startswith("NOTICE: "):
            continue
        if text.startswith("\t") and section is not None:
            name, _sep, value = text[1:].partition(" = ")
            section[name] = value
        elif text.startswith("[") and text.endswith("]"):
            section = found.setdefault(text[1:-1], {})
    return found


def parse_places(stderr: str) -> list[tuple[str, int]]:
    """Where FPM says that something is wrong: ERROR: [/path/file.conf:12] …"""
    places = re.findall(r"ERROR: \[([^\]\n]+):(\d+)\]", stderr)
    return [(file, int(line)) for file, line in places]


def counts_lines(case: Case, file: str) -> bool:
    """Whether FPM's line numbers are right in a file: behind an include it goes on with the other file's."""
    text = next(text for path, text in case.items() if file.endswith(f"/{path}"))
    return "include" not in text


def read(number: int, case: Case, top: Path, version: Version) -> FpmConfig:
    """The same case as our parser reads it, from a tree below ``top``."""
    folder = f"{FOLDER}/{number}"
    for path, text in case.items():
        file = top / f"{folder}/{path}".lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode("utf-8", "surrogateescape"))
    # The runner in the host has HOME, and no other variable that the cases name.
    build = Build(version, "/usr", "/var", lambda name: "/root" if name == "HOME" else "")
    return load(f"{folder}/main.conf", Host(str(top)), build)


def rendered(config: FpmConfig) -> Dump:
    """Our values as FPM prints them."""
    shown = {"global": _section(config.settings, GLOBAL)}
    shown.update({pool.name: _section(pool.settings, POOL) for pool in config.pools})
    for values in shown.values():
        # FPM prints the wrapper's level, and never apparmor_hat.
        values.pop("log_level", None)
        values.pop("apparmor_hat", None)
    return shown


def _section(settings: dict[str, Setting], known: dict[str, Directive]) -> dict[str, str]:
    shown: dict[str, str] = {}
    for name, setting in settings.items():
        printed = re.sub(r"^access\.suppress_path\[\d+\]", "access.suppress_path[]", name)
        shown.setdefault(printed, _text(known.get(name), setting.value))
    return shown


def _text(directive: Directive | None, value: object) -> str:
    if value is None:
        return "undefined"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if directive is not None and directive.kind == "seconds" and directive.name != "pm.process_idle_timeout":
        return f"{value}s"
    if directive is not None and directive.kind == "facility":
        return str(_FACILITIES[str(value)] * 8)
    return str(value)


def theirs(dump: Dump) -> Dump:
    return {
        name: {key: value for key, value in section.items() if key not in ("log_level", "apparmor_hat")}
        for name, section in dump.items()
    }


# -- generated configurations --------------------------------------------------------------------

_GOOD = {
    "int": ("1", "3", "12", '"7"', "'8'", " 20 ", "5 ; five"),
    "seconds": ("0", "10", "30s", "2m", "1h", "1d", '"45s"', "3s;x", "  7s  "),
    "bool": ("yes", "no", "on", "off", "true", "false", "1", "Yes", "NO", "none", "null", "", "yes ; why"),
    "core_limit": ("0", "1024", "unlimited", '"Unlimited"'),
    "log_level": ("debug", "notice", "warning", "error", "alert", "WARN"),
    "facility": ("daemon", "local3", "User", "mail"),
    "string": (
        "plain", '"in quotes"', "'single'", "two words", "a,b", '"a;b"', "a ; b", '"with # hash"', "with#hash",
        "$pool", "x-$pool-y", "${HOME}/x", '"${NOT_SET}z"', "E_ALL", "E_ALL & ~E_NOTICE", "a\tb", '"\\"q\\""',
        '"C:\\dir"', "caf\udce9", "é", "none", "", "%R - %u", "'it' 's'", '"a" "b"', "1|4", "(3)", "!5", "-2.5",
    ),
}  # fmt: skip
_BAD = {
    "int": ("1k", "many", "3.5", "0x10", "+4"),
    "seconds": ("5x", "soon", "10ms", "", "3 S"),
    "bool": ("2", "maybe", '"yes"', "0", "enabled"),
    "core_limit": ("-5", "lots"),
    "log_level": ("loud", ""),
    "facility": ("local8", "kernel"),
    "string": ('"not closed', "a=b)", "a(b", "x{y}=", '"a" = "b"', "a)", "${", "3|4|"),
}
# Directives whose values must fit the host or one another; the generator sets them with care, or not at all.
_BY_HAND = {
    "pid", "error_log", "events.mechanism", "log_limit", "process.priority", "prefix", "user", "group", "listen",
    "listen.acl_users", "listen.acl_groups", "listen.owner", "listen.group", "listen.allowed_clients", "pm",
    "pm.status_path", "pm.status_listen", "ping.path", "access.log", "slowlog", "chroot", "chdir",
    "request_slowlog_timeout", "request_slowlog_trace_depth", "pm.max_children", "pm.start_servers",
    "pm.min_spare_servers", "pm.max_spare_servers", "pm.max_spawn_rate", "syslog.ident", "ping.response",
    "listen.mode", "access.format", "log_level", "apparmor_hat",
}  # fmt: skip
_PAGES = ("/status", "/ping", '"/a/b.c~d"', "/", "nothing", "/a b", "/ä", "", "/$pool")
_LINES = (
    "; a comment", "", "   ", "\t; indented", "\r", ";[not a section]",
)  # fmt: skip
_BROKEN = (
    "# not a comment", "no_such_directive = 1", "just words", "[unclosed", "= 3", "env[A]", "env[] = x",
    "nope[x] = y", "php_admin_flag[x] = perhaps", "include = /nowhere/at/all/*.conf", "env[E] =", "pm = fast",
    "listen.backlog = a", "php_value[x = 3", "user", "access.suppress_path[] = relative", "log_level = notice",
    "pid = /x", 'access.suppress_path[x] = "/y"', "include = ${",
)  # fmt: skip


class Generator:
    """Configurations from a seed: mostly sound, some broken in one place, some contradicting themselves."""

    def __init__(self, seed: int, version: Version) -> None:
        self.random = random.Random(seed)
        self.version = version

    def case(self, number: int) -> Case:
        top = f"{FOLDER}/{number}"
        pools = [self.random.choice(("www", "Shop", "a.b-c", "w w", "x1", "intranet")) for _turn in range(3)]
        pools = pools[: self.random.choice((1, 1, 2, 3))]
        main = ["[global]", f"error_log = {top}/error.log", *self.some(GLOBAL, 4)]
        files: Case = {}
        chunks = [self.pool(name, top) for name in dict.fromkeys(pools)]
        for name in pools:
            if self.random.random() < 0.4:
                # The same pool again, in part, under a name in another case at times.
                again = self.random.choice((name, name.upper(), f"  {name}  "))
                chunks.append([f"[{again}]", *self.some(POOL, 3), *self.arrays()])
        style = self.random.choice(("one", "glob", "named", "nested"))
        if style == "one":
            main += [line for chunk in chunks for line in chunk]
        else:
            for position, chunk in enumerate(chunks):
                files[f"pool.d/{position:02}{self.random.choice('ab')}.conf"] = self.text(chunk)
            if self.random.random() < 0.4:
                # No section: it goes on in the pool of the file before.
                files["pool.d/99z.conf"] = self.text([*self.some(POOL, 2), *self.arrays()])
            if style == "glob":
                main.append(f"include={top}/pool.d/*.conf")
            elif style == "named":
                main += [
                    f'include = "{top}/{path}"' for path in sorted(files, reverse=self.random.random() < 0.3)
                ]
            else:
                files["more.conf"] = f"include = {top}/pool.d/*.conf\n"
                main.append(f"include = {top}/more.conf")
            if self.random.random() < 0.3:
                main += ["[global]", *self.some(GLOBAL, 2)]
        files["main.conf"] = self.text(main)
        if self.random.random() < 0.22:
            path = self.random.choice(sorted(files))
            lines = files[path].split("\n")
            lines.insert(self.random.randrange(len(lines)), self.random.choice(_BROKEN))
            files[path] = "\n".join(lines)
        return files

    def text(self, lines: list[str]) -> str:
        mixed = []
        for line in lines:
            if self.random.random() < 0.1:
                mixed.append(self.random.choice(_LINES))
            mixed.append(line)
        end = "\r\n" if self.random.random() < 0.15 else "\n"
        return end.join(mixed) + (end if self.random.random() < 0.9 else "")

    def line(self, name: str, value: str) -> str:
        if self.random.random() < 0.1:
            name = name.upper()
        return self.random.choice(("{} = {}", "{}={}", "  {}\t=  {}", "{}= {} ")).format(name, value)

    def value(self, kind: str) -> str:
        kind = "string" if kind == "path" else kind
        return self.random.choice(_BAD[kind] if self.random.random() < 0.005 else _GOOD[kind])

    def some(self, known: dict[str, Directive], most: int) -> list[str]:
        names = [name for name in known if name not in _BY_HAND]
        if self.random.random() < 0.99:
            names = [name for name in names if known[name].known_to(self.version)]
        chosen = self.random.choices(names, k=self.random.randint(0, most))
        return [self.line(name, self.value(known[name].kind)) for name in chosen]

    def arrays(self) -> list[str]:
        lines = []
        for _turn in range(self.random.randint(0, 4)):
            name = self.random.choice(("php_value", "php_admin_value", "php_flag", "php_admin_flag", "env"))
            key = self.random.choice(
                ("memory_limit", "error_log", "A", "date.timezone", "sendmail_path", "b c")
            )
            value = self.value("bool" if name.endswith("flag") else "string")
            if name == "env" and value in ("", "none"):
                value = "set"
            lines.append(self.line(f"{name}[{key}]", value) if name != "env" else f"env[{key}] = {value}")
        if self.version >= SUPPRESS_PATH_SINCE and self.random.random() < 0.2:
            lines.append("access.suppress_path[] = /" + self.random.choice("pq"))
        # Of arrays PHP takes the name as written; in another case FPM does not know it.
        return [re.sub(r"^(\s*)([A-Z_]+)\[", lambda match: match.group(0).lower(), line) for line in lines]

    def pool(self, name: str, top: str) -> list[str]:
        choose, chance = self.random.choice, self.random.random
        lines = [choose((f"[{name}]", f"[{name}] ; here", f"\t[{name}]"))]
        listen = choose(
            (f"{top}/$pool.sock", f"{top}/$pool.sock", "127.0.0.1:{0}", "{0}", "[::1]:{0}", "run/{0}.sock")
        )
        # Some pools share an address, which FPM refuses.
        listen = listen.replace("{0}", str(9000 + sum(map(ord, name)) % (40 if chance() < 0.9 else 2)))
        settings: list[tuple[str, str]] = [("listen", listen), ("user", choose(("www-data", "nobody")))]
        number = self.random.randint
        low = number(1, 3)
        high = low + number(-1 if chance() < 0.1 else 0, 3)
        most = number(0, 9) if chance() < 0.1 else number(high, 9)
        settings += [
            ("pm", choose(("static", "dynamic", "ondemand", "Static"))),
            ("pm.max_children", str(most)),
        ]
        if chance() < 0.95:
            settings += [("pm.min_spare_servers", str(low)), ("pm.max_spare_servers", str(high))]
            if chance() < 0.5:
                settings.append(("pm.start_servers", str(choose((0, low, high, low, high, 4)))))
        if self.version >= (8, 1) and chance() < 0.2:
            settings.append(("pm.max_spawn_rate", str(choose((0, 1, 8, 32, 40)))))
        if self.version >= (8, 0) and chance() < 0.2:
            settings.append(("pm.status_listen", choose((f"{top}/{name}.st", "127.0.0.1:9100", "9101"))))
        pages = _PAGES if chance() < 0.15 else _PAGES[:3]
        for page in ("pm.status_path", "ping.path"):
            if chance() < 0.3:
                settings.append((page, choose(pages)))
        if chance() < 0.3:
            settings += [
                ("slowlog", f"{top}/slow.$pool"),
                ("request_slowlog_timeout", choose(("0", "5s", "1m"))),
            ]
            if chance() < 0.3:
                settings.append(("request_slowlog_trace_depth", str(choose((0, 5, 20, 30)))))
        elif chance() < 0.03:
            settings.append(("request_slowlog_trace_depth", str(choose((-1, 0, 5)))))
        optional = (
            ("ping.response", ("pong", '"a b"', "yes")), ("listen.mode", ("0666", '"0600"')),
            ("listen.allowed_clients", ("127.0.0.1", "127.0.0.1,::1")), ("chdir", ("/", "/.")),
            ("access.log", (f"{top}/access.log", f"{top}/$pool.log")), ("access.format", ('"%R %t"', '"%m;%s"')),
            ("process.priority", ("-5", "0", "19", "20", "64", "-19", "21")), ("group", ("www-data",)),
            ("prefix", ("/tmp", "/tmp/")), ("chroot", ("/tmp", "$prefix", "/")), ("listen.owner", ("www-data",)),
        )  # fmt: skip
        settings += [(key, choose(values)) for key, values in optional if chance() < 0.12]
        if chance() < 0.03:
            settings.pop(self.random.randrange(len(settings)))
        self.random.shuffle(settings)
        lines += [self.line(key, value) for key, value in settings]
        return [*lines, *self.some(POOL, 5), *self.arrays()]
