#!/usr/bin/env python3
# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the README's tables of variables from the roles' argument_specs; --check only compares."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

CHECKOUT = Path(__file__).resolve().parents[1]
README = CHECKOUT / "README.md"
BEGIN, END = "<!-- variables: made by `make docs` -->", "<!-- end of variables -->"
# Ansible's documentation markup, as Markdown.
MARKUP = [
    (re.compile(r"\b[CVO]\(([^()]*(?:\([^()]*\)[^()]*)*)\)"), r"`\1`"),
    (re.compile(r"\b[PM]\(([^()#]+)(?:#\w+)?\)"), r"`\1`"),
]


def plain(text: str | list[str]) -> str:
    sentences = " ".join(text if isinstance(text, list) else [text])
    for pattern, replacement in MARKUP:
        sentences = pattern.sub(replacement, sentences)
    return sentences.replace("|", "\\|")


def default(option: dict[str, Any]) -> str:
    return (
        f"`{json.dumps(option['default'])}`"
        if "default" in option
        else "required"
        if option.get("required")
        else ""
    )


def table(role: str) -> str:
    specs = yaml.safe_load((CHECKOUT / f"roles/{role}/meta/argument_specs.yml").read_text())
    main = specs["argument_specs"]["main"]
    rows = [
        f"#### `{role}`: {main['short_description']}",
        "",
        "| variable | default | meaning |",
        "| --- | --- | --- |",
    ]
    rows += [
        f"| `{name}` | {default(option)} | {plain(option['description'])} |"
        for name, option in main["options"].items()
    ]
    return "\n".join(rows)


def main() -> int:
    roles = [
        path.name
        for path in sorted((CHECKOUT / "roles").iterdir())
        if (path / "meta/argument_specs.yml").exists()
    ]
    text = README.read_text()
    before, _begin, rest = text.partition(BEGIN)
    _old, _end, after = rest.partition(END)
    wanted = before + BEGIN + "\n\n" + "\n\n".join(table(role) for role in roles) + "\n\n" + END + after
    if "--check" not in sys.argv:
        README.write_text(wanted)
    elif wanted != text:
        sys.exit("README.md: its tables of variables are out of date; run `make docs`")
    return 0


if __name__ == "__main__":
    sys.exit(main())
