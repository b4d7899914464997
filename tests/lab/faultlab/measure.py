# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One fault, or one change, on one stack under the steady load."""

from __future__ import annotations

import time
from typing import Any

from faultlab import outcome
from faultlab.client import Load
from faultlab.faults import Fault
from faultlab.stacks import SITE, Stack

RATE = 40
WARM_SECONDS = 1.0
SETTLE_SECONDS = 4.0
QUICK_SETTLE_SECONDS = 3.0


def measure(stack: Stack, fault: Fault, quick: bool) -> dict[str, Any]:
    """One fault on one stack: the load before, during and after it, counted."""
    # Unique among the runs whose requests nginx's error log still names.
    tag = f"{fault.name}-{time.time_ns() // 1_000_000}"
    settle = QUICK_SETTLE_SECONDS if quick else SETTLE_SECONDS
    exit_code = 0
    if fault.reboot:
        exit_code = fault.inject(stack, quick)
    load = Load(stack.address(), tag, SITE, RATE)
    load.start()
    try:
        end = 0.0
        if not fault.reboot:
            time.sleep(WARM_SECONDS)
            exit_code = fault.inject(stack, quick)
            end = load.clock()
        time.sleep(settle)
        window = load.clock()
    finally:
        outcomes = load.stop()
    if fault.reboot:
        stack.boot()
    words = outcome.reasons(stack.error_log(tag))
    return {
        **outcome.count(outcomes, tag, words, end, window),
        "exit_code": exit_code if fault.playbook or fault.proves else 0,
    }
