# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules return is what their RETURN says, key by key, in both directions."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest
import yaml

MODULES = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"]) / "plugins/modules"
ANSIBLES_OWN = {"changed", "failed", "invocation", "msg", "ansible_facts"}
# Dicts whose keys only a sample shows, and are always the same ones.
BY_SAMPLE = (
    "listen",
    "pm",
    "queue",
    "memory",
    "memory.workers",
    "unit_state",
    "budget",
    "latency_seconds",
    "socket",
)


def documented(module):
    """RETURN of a module, without importing it."""
    for node in ast.parse((MODULES / f"{module}.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "RETURN":
            return yaml.safe_load(node.value.value)
    raise AssertionError(f"{module} has no RETURN")


def differences(entry, value, path):
    """What a documented entry and a returned value do not have in common."""
    found = []
    entries = value if isinstance(value, list) else [value]
    if "contains" in entry:
        for one in filter(None, entries):
            always = {name for name, known in entry["contains"].items() if "returned" not in known}
            found += [f"{path}.{name} is not documented" for name in one.keys() - entry["contains"].keys()]
            found += [f"{path}.{name} is not returned" for name in always - one.keys()]
            for name in one.keys() & entry["contains"].keys():
                found += differences(entry["contains"][name], one[name], f"{path}.{name}")
    elif path.endswith(BY_SAMPLE) and isinstance(entry.get("sample"), dict) and value:
        found += [
            f"{path}: sample and answer differ in {name}" for name in entry["sample"].keys() ^ value.keys()
        ]
    return found


@pytest.mark.parametrize(
    "module",
    ["fpm_pool_facts", "nginx_fastcgi_info", "socket_check", "fpm_sizing", "gateway_log_info", "stack_audit"],
)
def test_return(ask, shops, module):
    params = {}
    if module == "socket_check":
        address = next(iter(shops.values()))["listen"]["address"]
        params = {"address": address, "as_user": "www-data", "status_path": "/status"}
    result = ask(module, **params)
    assert not result["failed"], result
    entries = documented(module)
    shown = set(result) - ANSIBLES_OWN - set(entries)
    missing = {name for name, entry in entries.items() if entry["returned"] == "success"} - set(result)
    assert (shown, missing) == (set(), set())
    wrong = [
        line
        for name in result.keys() & entries.keys()
        for line in differences(entries[name], result[name], name)
    ]
    assert sorted(set(wrong)) == []
