# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What PHP-FPM knows: every directive, its kind, its default, and since when.

The order is the one in which ``php-fpm -tt`` prints them. Versions older than
7.2 are treated as 7.2 is: a directive without ``since`` is taken to be known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Version = tuple[int, int]


@dataclass(frozen=True)
class Directive:
    """One directive.

    :param kind: ``string``, ``path``, ``int``, ``seconds``, ``bool``, ``log_level``, ``facility``,
        ``core_limit`` (a number or "unlimited", kept as -1) or ``pm``.
    :param default: what FPM uses where nothing sets it; None is FPM's "undefined".
    :param since: the first PHP that knows it; an older one refuses to start.
    :param earlier: (default, version): the default that held before that version.
    """

    name: str
    kind: str
    default: Any = None
    since: Version | None = None
    earlier: tuple[Any, Version] | None = None

    def default_for(self, version: Version | None) -> Any:
        """The default of that PHP; None where it changed and the version is unknown."""
        if self.earlier is None:
            return self.default
        if version is None:
            return None
        value, until = self.earlier
        return value if version < until else self.default

    def known_to(self, version: Version | None) -> bool:
        """Whether that PHP accepts it; an unknown version gets the benefit of the doubt."""
        return self.since is None or version is None or version >= self.since


# Numbers that FPM keeps where a priority is not set.
UNSET_PRIORITY = 64

_GLOBAL = (
    Directive("pid", "path"),
    Directive("error_log", "path", "log/php-fpm.log"),
    Directive("syslog.ident", "string", "php-fpm"),
    Directive("syslog.facility", "facility", "daemon"),
    Directive("log_buffering", "bool", True, since=(7, 3)),
    Directive("log_level", "log_level", "notice"),
    Directive("log_limit", "int", 1024, since=(7, 3)),
    Directive("emergency_restart_interval", "seconds", 0),
    Directive("emergency_restart_threshold", "int", 0),
    Directive("process_control_timeout", "seconds", 0),
    Directive("process.max", "int", 0),
    Directive("process.priority", "int"),
    Directive("daemonize", "bool", True),
    Directive("rlimit_files", "int", 0),
    Directive("rlimit_core", "core_limit", 0),
    Directive("events.mechanism", "string", "epoll"),
    Directive("systemd_interval", "seconds", 10),
)

_POOL = (
    Directive("prefix", "path"),
    Directive("user", "string"),
    Directive("group", "string"),
    Directive("listen", "string"),
    Directive("listen.backlog", "int", -1, earlier=(511, (8, 2))),
    Directive("listen.acl_users", "string"),
    Directive("listen.acl_groups", "string"),
    Directive("listen.owner", "string"),
    Directive("listen.group", "string"),
    Directive("listen.mode", "string"),
    Directive("listen.allowed_clients", "string"),
    Directive("process.priority", "int"),
    Directive("process.dumpable", "bool", False),
    Directive("pm", "pm"),
    Directive("pm.max_children", "int", 0),
    Directive("pm.start_servers", "int", 0),
    Directive("pm.min_spare_servers", "int", 0),
    Directive("pm.max_spare_servers", "int", 0),
    Directive("pm.max_spawn_rate", "int", 32, since=(8, 1)),
    Directive("pm.process_idle_timeout", "seconds", 10),
    Directive("pm.max_requests", "int", 0),
    Directive("pm.status_path", "string"),
    Directive("pm.status_listen", "string", since=(8, 0)),
    Directive("ping.path", "string"),
    Directive("ping.response", "string"),
    Directive("access.log", "path"),
    Directive("access.format", "string"),
    Directive("slowlog", "path"),
    Directive("request_slowlog_timeout", "seconds", 0),
    Directive("request_slowlog_trace_depth", "int", 20, since=(7, 2)),
    Directive("request_terminate_timeout", "seconds", 0),
    Directive("request_terminate_timeout_track_finished", "bool", False, since=(7, 3)),
    Directive("rlimit_files", "int", 0),
    Directive("rlimit_core", "core_limit", 0),
    Directive("chroot", "path"),
    Directive("chdir", "path"),
    Directive("catch_workers_output", "bool", False),
    Directive("decorate_workers_output", "bool", True, since=(7, 3)),
    Directive("clear_env", "bool", True),
    Directive("security.limit_extensions", "string", ".php .phar"),
    Directive("apparmor_hat", "string"),
)

GLOBAL: dict[str, Directive] = {directive.name: directive for directive in _GLOBAL}
POOL: dict[str, Directive] = {directive.name: directive for directive in _POOL}

# Arrays (name[key] = value) and the name under which FPM keeps them: a flag is a value of 0 or 1.
ARRAYS: dict[str, str] = {
    "env": "env",
    "php_value": "php_value",
    "php_flag": "php_value",
    "php_admin_value": "php_admin_value",
    "php_admin_flag": "php_admin_value",
    "access.suppress_path": "access.suppress_path",
}
SUPPRESS_PATH_SINCE: Version = (8, 2)

# PHP settings whose relative values FPM completes with the pool's prefix.
EXPANDED_INI = frozenset(
    {
        "error_log",
        "extension_dir",
        "mime_magic.magicfile",
        "sendmail_path",
        "session.cookie_path",
        "session_pgsql.sem_file_name",
        "soap.wsdl_cache_dir",
        "uploadprogress.file.filename_template",
        "xdebug.output_dir",
        "xdebug.profiler_output_dir",
        "xdebug.trace_output_dir",
        "xmms.path",
        "axis2.client_home",
        "blenc.key_file",
        "coin_acceptor.device",
    }
)

LOG_LEVELS = {
    "debug": "debug",
    "notice": "notice",
    "warn": "warning",
    "warning": "warning",
    "error": "error",
    "alert": "alert",
}
EVENT_MECHANISMS = frozenset({"select", "poll", "epoll"})
FACILITIES = frozenset(
    {"auth", "authpriv", "cron", "daemon", "ftp", "kern", "lpr", "mail", "news", "syslog", "user", "uucp"}
    | {f"local{number}" for number in range(8)}
)
MIN_LOG_LIMIT = 512
DEFAULT_ACCESS_FORMAT = '%R - %u %t "%m %r" %s'
