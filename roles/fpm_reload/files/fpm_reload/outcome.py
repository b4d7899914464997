# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a call can end: exit codes (stable, part of the interface) and the failure that carries one."""

from __future__ import annotations

from collections.abc import Iterable

DONE = 0
UNEXPECTED = 1
USAGE = 2
NOT_PERMITTED = 3
UNKNOWN_UNIT = 4
CONFIG_INVALID = 5
RELOAD_FAILED = 6
SOCKETS_SILENT = 7
LOCK_TIMEOUT = 8
LOCK_UNSAFE = 9
RESTORED = 10
SWITCHED_OFF = 11
UNTESTED = 12

MEANINGS = {
    DONE: "done: reloaded, started, or a reload that started after this request has done it",
    UNEXPECTED: "unexpected: a bug, or systemd does not answer",
    USAGE: "usage: wrong arguments",
    NOT_PERMITTED: "not permitted: run it as root, or through the sudo rule made for you",
    UNKNOWN_UNIT: "unknown unit: systemd has no such unit, or it does not run PHP-FPM",
    CONFIG_INVALID: "configuration invalid: the running PHP-FPM was left alone",
    RELOAD_FAILED: "reload failed: systemd refused, the master died, or old workers did not end in time",
    SOCKETS_SILENT: "sockets silent: the new generation runs, but a socket does not answer",
    LOCK_TIMEOUT: "lock timeout: another reload or configuration change held the lock too long",
    LOCK_UNSAFE: "lock unsafe: the lock folder or file is not root's, or is a link",
    RESTORED: "restored: the new configuration failed when live; the last good one is back and serves",
    SWITCHED_OFF: "switched off: the unit is stopped and disabled, so it was not started",
    UNTESTED: "untested: php-fpm's own test crashed or did not end; the running PHP-FPM was left alone",
}


class Failure(Exception):
    """A call that did not do its work.

    :param code: one of the exit codes above.
    :param words: what FPM or systemd said about it, a line each.
    :param config_suspect: the configuration passed its test but did not work live.
    """

    def __init__(
        self, code: int, message: str, words: Iterable[str] = (), config_suspect: bool = False
    ) -> None:
        super().__init__(message)
        self.code = code
        self.words = [line for line in words if line.strip()]
        self.config_suspect = config_suspect
