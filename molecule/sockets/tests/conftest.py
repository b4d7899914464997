# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scenario's host as a stack of the fault lab: its load, its faults and its counting are used here."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(os.environ["PHP_STACK_CHECKOUT"])
sys.path.insert(0, str(CHECKOUT / "tests/lab"))

from faultlab.faults import Fault
from faultlab.measure import measure
from faultlab.stacks import Ours, Wanted


class Host(Ours):
    def __init__(self, name: str) -> None:
        self.name = name
        self.wanted = Wanted()
        self.inventory = Path(os.environ["MOLECULE_INVENTORY_FILE"])
        self.log = CHECKOUT / f".cache/lab/{name}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)


@pytest.fixture
def stack(host):
    """The host, sound when the test begins; what a test broke and did not mend is mended for the next."""
    found = Host(host.backend.get_hostname())
    yield found
    found.restore()


@pytest.fixture
def while_loaded(stack):
    """while_loaded(variables, rc=0) -> (the figures, what the playbook printed), of a run under the steady load."""

    def run(variables, rc=0):
        said = []

        def inject(_stack, _quick):
            done = stack.play(variables)
            said.append(done.stdout + done.stderr)
            return done.returncode

        figures = measure(stack, Fault("change", "a change", inject, playbook=True), quick=True)
        assert figures["exit_code"] == rc, said[0][-6000:]
        return figures, said[0]

    return run
