# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""crossplane's parse and ours in one shape, so that tests can compare them.

A directive is ``(name, line, args, block)``. Two habits of crossplane are taken
out: it leaves escapes as they are written, and strips the parentheses of ``if``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import crossplane
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_config import Directive, unescape

Shape = list[tuple[str, int, list[str], Optional[list[Any]]]]


def _bare_if(name: str, args: list[str]) -> list[str]:
    if name != "if" or not args or not args[0].startswith("(") or not args[-1].endswith(")"):
        return args
    args = [args[0][1:].lstrip(), *args[1:]] if len(args) > 1 else [args[0][1:].lstrip()]
    args[-1] = args[-1][:-1].rstrip()
    return args[int(not args[0]) : len(args) - int(not args[-1])]


def ours(directives: list[Directive]) -> Shape:
    """Our tree in the common shape."""
    return [
        (
            item.name,
            item.line,
            _bare_if(item.name, item.args),
            None if item.block is None else ours(item.block),
        )
        for item in directives
    ]


def _theirs(directives: list[dict[str, Any]]) -> Shape:
    return [
        (
            unescape(item["directive"]),
            item["line"],
            [unescape(word) for word in item["args"]],
            _theirs(item["block"]) if "block" in item else None,
        )
        for item in directives
    ]


def theirs(path: Path, follow: bool = False) -> Shape | None:
    """crossplane's tree of a file in the common shape; None where it refuses the file.

    :param follow: with its includes in place.
    """
    options = {"combine": True} if follow else {"single": True}
    payload = crossplane.parse(str(path), check_ctx=False, check_args=False, **options)
    return _theirs(payload["config"][0]["parsed"]) if payload["status"] == "ok" else None
