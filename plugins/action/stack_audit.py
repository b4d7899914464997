# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the module stack_audit and prints its text, so that a person reads words and not JSON."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

_TEXTS = {"line": "line", "verdict": "text", "full": "details"}


class ActionModule(ActionBase):
    """See the module of the same name for the options."""

    TRANSFERS_FILES = False
    _requires_connection = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        result: dict[str, Any] = self._execute_module(
            module_name="webops.php_stack.stack_audit", task_vars=task_vars
        )
        text = result.get(_TEXTS.get(str(self._task.args.get("show")), ""))
        name = str(task_vars.get("inventory_hostname", "this host"))
        if text and self._task.args["show"] == "line":
            Display().display(f"{name}: {text}")
        elif text:
            Display().display(f"\n=== {name} {'=' * max(3, 75 - len(name))}\n{text}\n")
        return result
