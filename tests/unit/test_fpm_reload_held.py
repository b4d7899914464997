# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of php-fpm-reload about sockets that systemd holds, as far as they need no host."""

from __future__ import annotations

import os
import sys
from pathlib import Path

FILES = Path(__file__).resolve().parents[2] / "roles/fpm_reload/files"
sys.path[:0] = [str(FILES), str(FILES.parents[2] / "plugins/module_utils")]

from fpm_reload import held

SHOWN_SOCKETS = """\
Backlog=511
SocketUser=www-data
SocketGroup=web
SocketMode=0600
Listen=/run/php8.4-fpm/held/shop.sock (Stream)
Symlinks=/run/php8.4-fpm/shop.sock /run/php/old.sock
Id=php8.4-fpm-shop.socket
ActiveState=active

Backlog=128
SocketUser=
SocketGroup=
SocketMode=0666
Listen=/run/php8.4-fpm/held/blog.sock (Stream)
Symlinks=
Id=php8.4-fpm-blog.socket
ActiveState=failed

Backlog=128
SocketUser=
SocketGroup=
SocketMode=0666
Listen=/run/initctl (FIFO)
Symlinks=
Id=systemd-initctl.socket
ActiveState=active

Backlog=128
SocketMode=0666
Listen=127.0.0.1:9000 (Stream)
Id=tcp.socket
ActiveState=active
"""


def test_what_systemd_says_of_its_unix_sockets_is_read() -> None:
    assert held.parse(SHOWN_SOCKETS) == [
        held.Held(
            "php8.4-fpm-shop.socket", True, "/run/php8.4-fpm/held/shop.sock",
            ("/run/php8.4-fpm/shop.sock", "/run/php/old.sock"), 511, "www-data", "web", 0o600,
        ),
        held.Held("php8.4-fpm-blog.socket", False, "/run/php8.4-fpm/held/blog.sock", (), 128, "", "", 0o666),
    ]  # fmt: skip
    assert held.parse("") == []


def test_a_link_is_made_moved_and_left_alone(tmp_path: Path) -> None:
    link, first, second = (str(tmp_path / name) for name in ("new/link", "first", "second"))
    assert held.publish(first, link) is True
    assert held.publish(first, link) is False
    assert held.publish(second, link) is True
    assert os.readlink(link) == second
    # A socket in its place gives way in one step, and what a broken-off attempt left does no harm.
    os.unlink(link)
    Path(link).touch()
    os.symlink(first, f"{link}.php_stack-new")
    assert held.publish(second, link) is True
    assert (os.readlink(link), os.listdir(tmp_path / "new")) == (second, ["link"])
