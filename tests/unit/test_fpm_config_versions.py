# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where PHP versions take the same text differently; each row was asked of ``php-fpm -tt`` of that version."""

from __future__ import annotations

import pytest
from ansible_collections.webops.php_stack.plugins.module_utils.fpm_config import load
from ansible_collections.webops.php_stack.plugins.module_utils.fpm_model import Build


class OneFile:
    """A source that holds one file."""

    def __init__(self, text):
        self.text = text

    def read_text(self, path):
        return self.text

    def glob(self, pattern):
        return []

    def is_dir(self, path):
        return False


def read(lines, version):
    text = f"[www]\nuser = www-data\nlisten = /run/www.sock\npm.max_children = 2\n{lines}\n"
    return load("/etc/fpm.conf", OneFile(text), Build(version, "/usr", "/var"))


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        ("yes", True, True),
        ("Off", False, False),
        ("none", False, False),
        ('"1"', True, True),
        ('""', False, False),
        ("0", None, False),
        ('"no"', None, False),
        ('"on"', None, True),
        ('"false"', None, False),
        ('"Yes"', None, None),
        ("00", None, None),
        ("y", None, None),
    ],
)
def test_a_boolean(text, old, new):
    """None: that version refuses it. Before 8.2 only what the ini reader makes "1" or "" of is one."""
    for version, wanted in (((7, 4), old), ((8, 2), new), ((8, 4), new)):
        config = read(f"pm = static\ncatch_workers_output = {text}", version)
        assert config.pools[0].value("catch_workers_output") is wanted
        assert [problem.line for problem in config.problems] == ([6] if wanted is None else [])


@pytest.mark.parametrize(
    ("mode", "version", "backlog", "wanted"),
    [
        ("ondemand", (7, 4), 100, 511),
        ("ondemand", (7, 4), 600, 600),
        ("ondemand", (8, 2), 100, 100),
        ("ondemand", (8, 4), -5, -1),
        ("static", (7, 4), 100, 100),
    ],
)
def test_ondemand_raises_a_backlog_below_the_default(mode, version, backlog, wanted):
    config = read(f"pm = {mode}\nlisten.backlog = {backlog}", version)
    assert config.pools[0].value("listen.backlog") == wanted
    assert config.problems == []
