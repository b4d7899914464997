# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What fpm_sizing does, from its parameters to its result."""

from __future__ import annotations

from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils import fpm_facts
from ansible_collections.webops.php_stack.plugins.module_utils.boundary import StackError
from ansible_collections.webops.php_stack.plugins.module_utils.host import Host
from ansible_collections.webops.php_stack.plugins.module_utils.sizing import plan_host
from ansible_collections.webops.php_stack.plugins.module_utils.sizing_build import build
from ansible_collections.webops.php_stack.plugins.module_utils.sizing_gather import read_all
from ansible_collections.webops.php_stack.plugins.module_utils.sizing_inputs import parse_params
from ansible_collections.webops.php_stack.plugins.module_utils.sizing_words import budget, result


def size_host(host: Host, params: dict[str, Any]) -> dict[str, Any]:
    """The module's result.

    :raises StackError: for parameters that contradict themselves, and when nothing fits.
    """
    try:
        wanted = parse_params(params)
        facts = {"fpm_pools": params.get("fpm_pools"), "fpm_masters": params.get("fpm_masters")}
        if facts["fpm_pools"] is None and wanted.measure:
            facts = dict(fpm_facts.gather(host))
        known = {key: value or [] for key, value in facts.items()}
        inputs = build(wanted, known, read_all(host, wanted, known))
        plan = plan_host(inputs.budget, list(inputs.pools))
    except ValueError as error:
        raise StackError(f"No plan: {error}.") from error
    done = {"changed": False, "feasible": plan.feasible, **result(plan, inputs.notes)}
    if not plan.feasible:
        numbers = {
            "feasible": False,
            "budget": budget(plan),
            "problems": list(plan.problems),
            "summary": done["summary"],
        }
        raise StackError(" ".join(plan.problems), **numbers)
    return done
