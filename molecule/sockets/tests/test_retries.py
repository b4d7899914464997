# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A request that no worker survives: tried so often and no oftener, a POST once, and the pool goes on."""

from __future__ import annotations

import pytest
from faultlab.faults import Fault
from faultlab.measure import measure

testinfra_hosts = ["ansible://php-stack-sockets-twin"]


def deaths(host):
    return int(host.run("grep -c 'pool shop.*exited on signal 9' /var/log/php8.2-fpm.log").stdout)


@pytest.mark.parametrize(("method", "tries"), [("GET", 3), ("POST", 1)])
def test_a_deadly_request_does_not_take_the_pool_with_it(host, stack, method, tries):
    answers = []

    def inject(stack, _quick):
        body = "-d name=value" if method == "POST" else ""
        done = stack.sh(
            f"curl -s -m 15 -o /dev/null -w '%{{http_code}}' -X {method} {body} -H 'Host: shop.example.com'"
            " http://127.0.0.1/die.php"
        )
        answers.append(done.stdout)
        return 0

    before = deaths(host)
    figures = measure(stack, Fault("deadly", "a deadly request", inject), quick=True)
    assert answers == ["502"]
    assert deaths(host) - before == tries
    assert figures["lost"] == 0, figures["by_kind"]
    assert host.run("grep -c 'no live upstreams' /var/log/nginx/error.log").stdout.strip() == "0"
