# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The small readers of an audit's port: php.ini, units, sudoers, tmpfiles.d, scripts, document roots."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable

from ansible_collections.webops.php_stack.plugins.module_utils.audit_snapshot import (
    IniValue,
    Root,
    Service,
    SudoRule,
    TextLine,
    User,
)
from ansible_collections.webops.php_stack.plugins.module_utils.host import MAX_TEXT_BYTES, Host

# FPM's own php.ini per layout: {v} is 8.2, {d} is 82. Files of the folder beside it come after it.
_PHP_INI = (
    ("/etc/php/{v}/fpm/php.ini", "/etc/php/{v}/fpm/conf.d"),
    ("/etc/opt/remi/php{d}/php.ini", "/etc/opt/remi/php{d}/php.d"),
    ("/etc/php{d}/php.ini", "/etc/php{d}/conf.d"),
    ("/usr/local/etc/php/php.ini", "/usr/local/etc/php/conf.d"),
    ("/etc/php.ini", "/etc/php.d"),
)
_INI_LINE = re.compile(r"[ \t]*([A-Za-z_][\w.]*)[ \t]*=[ \t]*(?:\"([^\"]*)\"|([^;]*))")
_UNIT_FOLDERS = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
_UNIT_PROPERTIES = (
    "Id,LoadState,FragmentPath,Restart,ExecReload,Result,NRestarts,PrivateTmp,RuntimeDirectory,"
    "RuntimeDirectoryPreserve,LimitNOFILE"
)
_TMPFILES = ("/etc/tmpfiles.d", "/run/tmpfiles.d", "/usr/lib/tmpfiles.d")
# Where people keep what deploys a site.
_SCRIPTS = (
    "/usr/local/bin/*",
    "/usr/local/sbin/*",
    "/opt/*/bin/*",
    "/home/*/bin/*",
    "/home/*/*.sh",
    "/home/*/deploy*",
    "/etc/cron.d/*",
    "/etc/cron.daily/*",
    "/etc/logrotate.d/*",
)
_SCRIPT_BYTES = 256 << 10
_FRAMEWORKS = (
    ("artisan", "Laravel"),
    ("bin/console", "Symfony"),
    ("wp-load.php", "WordPress"),
    ("core/lib/Drupal.php", "Drupal"),
    ("bin/magento", "Magento"),
    ("typo3", "TYPO3"),
    ("vendor/autoload.php", "a Composer application"),
)
_MARKERS = re.compile(
    r"(?i)(ansible[ -]managed|managed by (?:ansible|puppet|chef|salt)[^\n]*|webops\.php_stack[^\n]*)"
)


def _text(host: Host, path: str, limit: int = MAX_TEXT_BYTES) -> str | None:
    try:
        return host.read_bytes(path, limit).decode("utf-8", "replace")
    except OSError:
        return None


def php_ini(host: Host, version: str) -> dict[str, IniValue]:
    """Every directive of the php.ini that FPM of a version reads; the last line of several counts."""
    found: dict[str, IniValue] = {}
    for main, folder in _PHP_INI:
        names = {"v": version, "d": version.replace(".", "")}
        files = [main.format(**names), *host.glob(f"{folder.format(**names)}/*.ini")]
        for path in files:
            for number, line in enumerate((_text(host, path) or "").splitlines(), 1):
                match = _INI_LINE.match(line)
                if match:
                    value = match[2] if match[2] is not None else match[3].strip()
                    found[match[1]] = IniValue(value, path, number)
        if host.exists(files[0]):
            break
    return found


def services(host: Host, names: list[str]) -> dict[str, Service]:
    """Those of the units that exist."""
    if host.live:
        done = host.run(["systemctl", "show", "--no-pager", f"--property={_UNIT_PROPERTIES}", "--", *names])
        if done.rc != 0:
            return {}
        shown = (_properties(block) for block in done.stdout.split("\n\n"))
        return {one["Id"][0]: _live_service(one) for one in shown if one.get("LoadState") == ["loaded"]}
    read = {name: _tree_service(host, name) for name in names}
    return {name: service for name, service in read.items() if service is not None}


def _properties(block: str) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for line in block.splitlines():
        key, _separator, value = line.partition("=")
        values.setdefault(key, []).append(value)
    return values


def _live_service(shown: dict[str, list[str]]) -> Service:
    def one(key: str) -> str:
        return shown.get(key, [""])[-1]

    commands = [re.search(r"argv\[\]=(.*?) ; ", text) for text in shown.get("ExecReload", [])]
    return Service(
        one("Id"),
        one("FragmentPath") or None,
        one("Restart") or None,
        tuple(match[1] for match in commands if match),
        one("Result") or None,
        int(one("NRestarts")) if one("NRestarts").isdigit() else None,
        {"yes": True, "no": False}.get(one("PrivateTmp")),
        tuple(one("RuntimeDirectory").split()),
        one("RuntimeDirectoryPreserve") or "no",
        int(one("LimitNOFILE")) if one("LimitNOFILE").isdigit() else None,
    )


def _tree_service(host: Host, name: str) -> Service | None:
    files = [path for folder in _UNIT_FOLDERS for path in host.glob(f"{folder}/{name}")][:1]
    if not files:
        return None
    drop_ins = {}
    for folder in reversed(_UNIT_FOLDERS):
        drop_ins.update({path.rsplit("/", 1)[-1]: path for path in host.glob(f"{folder}/{name}.d/*.conf")})
    values: dict[str, list[str]] = {}
    for path in files + [drop_ins[key] for key in sorted(drop_ins)]:
        for line in (_text(host, path) or "").replace("\\\n", " ").splitlines():
            key, equals, value = line.strip().partition("=")
            if not equals or key.startswith(("#", ";")):
                continue
            values[key.strip()] = [*values.get(key.strip(), []), value.strip()] if value.strip() else []

    def last(key: str) -> str:
        return (values.get(key) or [""])[-1]

    limit = last("LimitNOFILE").partition(":")[0]
    return Service(
        name,
        files[0],
        last("Restart") or "no",
        tuple(command.lstrip("-+!@:") for command in values.get("ExecReload", [])),
        None,
        None,
        last("PrivateTmp").lower() in ("yes", "true", "on", "1"),
        tuple(word for value in values.get("RuntimeDirectory", []) for word in value.split()),
        last("RuntimeDirectoryPreserve") or "no",
        int(limit) if limit.isdigit() else None,
    )


def sudoers(host: Host) -> list[SudoRule] | None:
    """The commands about PHP-FPM that sudoers allows; None where it cannot be read."""
    if not host.exists("/etc/sudoers") and not host.is_dir("/etc/sudoers.d"):
        return []
    main = _text(host, "/etc/sudoers")
    if main is None:
        return None
    # sudo skips names with a dot or a tilde at the end.
    extra = [
        path for path in host.glob("/etc/sudoers.d/*") if "." not in path[15:] and not path.endswith("~")
    ]
    rules = []
    for path in ["/etc/sudoers", *extra]:
        text = _text(host, path)
        if text is None:
            return None
        for number, line in _joined(text):
            rules += list(_sudo_rules(host, line, path, number))
    return rules


def _joined(text: str) -> Iterable[tuple[int, str]]:
    """Lines with their continuations, and the number of the first."""
    start, parts = 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        start = start or number
        if line.endswith("\\"):
            parts += line[:-1] + " "
            continue
        yield start, parts + line
        start, parts = 0, ""


def _sudo_rules(host: Host, line: str, path: str, number: int) -> Iterable[SudoRule]:
    line = line.strip()
    if (
        line.startswith(("#", "Defaults", "@"))
        or "=" not in line
        or not re.search(r"fpm|systemctl|service\b", line)
    ):
        return
    left, _separator, right = line.partition("=")
    user = left.split()[0] if left.split() else ""
    if user.endswith("_Alias"):
        user = "alias " + [*left.split(), "?"][1]
    right = re.sub(r"\([^)]*\)", "", right)
    for part in right.split(","):
        command = re.sub(r"^\s*(?:[A-Z_]+:\s*)*", "", part).strip()
        if not command.startswith("/") or not re.search(r"fpm|\*|systemctl\s*$", command):
            continue
        program = command.split()[0]
        yield SudoRule(user, command, path, number, None if "*" in program else host.exists(program))


def tmpfiles(host: Host) -> list[TextLine]:
    """The lines of tmpfiles.d that make directories."""
    files: dict[str, str] = {}
    for folder in reversed(_TMPFILES):
        files.update({path.rsplit("/", 1)[-1]: path for path in host.glob(f"{folder}/*.conf")})
    return [
        TextLine(path, number, line.strip())
        for path in files.values()
        for number, line in enumerate((_text(host, path) or "").splitlines(), 1)
        if re.match(r"\s*[dDvqQ][!+=-]*\s+/", line)
    ]


def scripts(host: Host, extra: list[str]) -> list[TextLine]:
    """Lines of scripts that take a lock with flock, in files that also name PHP-FPM.

    :param extra: further paths or globs.
    """
    found = []
    paths = {path for pattern in [*_SCRIPTS, *extra] for path in host.glob(pattern)}
    for path in sorted(paths):
        try:
            if not stat.S_ISREG(host.stat(path).st_mode):
                continue
        except OSError:
            continue
        text = _text(host, path, _SCRIPT_BYTES) or ""
        if "fpm" not in text or "\0" in text[:4096]:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if re.search(r"\bflock\b", line) and not line.lstrip().startswith("#"):
                found.append(TextLine(path, number, line.strip()))
    return found


def root(host: Host, path: str) -> Root:
    """A document root: what runs in it, and whether a link leads to it."""
    link, here = None, ""
    for part in path.strip("/").split("/"):
        here += f"/{part}"
        try:
            if stat.S_ISLNK(host.lstat(here).st_mode):
                link = here
                break
        except OSError:
            break
    framework = None
    for base in (path, os.path.dirname(path.rstrip("/"))):
        framework = framework or next(
            (name for file, name in _FRAMEWORKS if host.exists(os.path.join(base, file))), None
        )
    return Root(path, host.is_dir(path), framework, link)


def pool_head(host: Host, path: str) -> str:
    """The marker of a tool that wrote a file."""
    match = _MARKERS.search(_text(host, path, 4096) or "")
    return match[1] if match else ""


def user(host: Host, name: str) -> User | None:
    """A user with its groups by name, from the host's files; None where they do not know it."""
    passwd, group = _text(host, "/etc/passwd"), _text(host, "/etc/group")
    if passwd is None or group is None:
        return None
    entry = next((line.split(":") for line in passwd.splitlines() if line.startswith(f"{name}:")), None)
    if entry is None or len(entry) < 4:
        return None
    groups = set()
    for line in group.splitlines():
        fields = line.split(":")
        if len(fields) > 3 and (fields[2] == entry[3] or name in fields[3].split(",")):
            groups.add(fields[0])
    return User(name, frozenset(groups))
