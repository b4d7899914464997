# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The faults of `make bench-faults`, fewer blows of each: no request is lost that anybody could save."""

from __future__ import annotations

import pytest
from faultlab.faults import FAULTS, broken_promises
from faultlab.measure import measure

testinfra_hosts = ["ansible://php-stack-sockets-twin"]


@pytest.mark.parametrize(
    "fault", [fault for fault in FAULTS if not fault.playbook], ids=lambda fault: fault.name
)
def test_no_request_is_lost(stack, fault):
    figures = measure(stack, fault, quick=True)
    assert figures["exit_code"] == 0, "the fault did not come about"
    assert figures["requests"] > 100
    assert broken_promises(fault, figures) == []
