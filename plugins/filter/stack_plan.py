# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter behind the roles: see stack_plan.yml beside this file."""

from __future__ import annotations

from typing import Any, Callable

from ansible.errors import AnsibleFilterError
from ansible_collections.webops.php_stack.plugins.module_utils.stack_plan import PlanError, plan


def stack_plan(pools: Any, fail: bool = True, **options: Any) -> dict[str, Any]:
    try:
        return plan(pools, **options)
    except PlanError as error:
        if not fail:
            return {"error": str(error), "errors": error.errors}
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The collection's filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"stack_plan": stack_plan}
