# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/description.md against the schema that it describes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.webops.php_stack.plugins.module_utils.plan_pools import POOL_KEYS
from ansible_collections.webops.php_stack.plugins.module_utils.plan_sites import SITE_KEYS

TEXT = (Path(__file__).resolve().parents[2] / "docs/description.md").read_text()


def rows(section):
    body = TEXT.split(f"## A {section}:")[1].split("\n## ")[0]
    return re.findall(r"(?m)^\| `(\w+)` \| *(.*?) *\| ", body)


def written(default):
    """A default as the table writes it."""
    if isinstance(default, list):
        return ", ".join(f"`{item}`" for item in default) or "`[]`"
    if isinstance(default, dict):
        return "`{}`"
    if default in (None, ""):
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


@pytest.mark.parametrize(("section", "keys"), [("pool", POOL_KEYS), ("site", SITE_KEYS)])
def test_every_key_is_documented_with_its_default(section, keys):
    expected = [(name, "required" if key.required else written(key.default)) for name, key in keys.items()]
    assert rows(section) == expected
