# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts are what the scenario says, and no module leaves a trace on them."""

from __future__ import annotations

import pytest

PYTHONS = {
    "php-stack-modules-bullseye": "Python 3.9.",
    "php-stack-modules-trixie": "Python 3.13.",
    "php-stack-modules-twin": "Python 3.11.",
}
READERS = ["fpm_pool_facts", "nginx_fastcgi_info", "fpm_sizing", "gateway_log_info"]


def test_the_python_that_runs_the_modules(host):
    wanted = PYTHONS[host.backend.get_hostname()]
    assert host.check_output("/usr/bin/python3 --version").startswith(wanted)


@pytest.mark.parametrize("module", READERS)
def test_a_module_by_hand_reads_and_changes_nothing(host, ask, module):
    before = host.check_output("find /etc /run/php -newermt @0 -printf '%p %T@ %m\\n' | sort | sha256sum")
    result = ask(module)
    assert (result["changed"], result["failed"]) == (False, False), result
    after = host.check_output("find /etc /run/php -newermt @0 -printf '%p %T@ %m\\n' | sort | sha256sum")
    assert after == before


def test_output_by_hand_ends_with_a_line_for_each_pool(ask, versions):
    result = ask("fpm_pool_facts")
    assert list(result)[-2:] == ["summary", "failed"]
    assert [line.partition(":")[0] for line in result["summary"]] == [
        f"{name} (PHP {version})" for version in versions for name in ("shop", "www")
    ]
