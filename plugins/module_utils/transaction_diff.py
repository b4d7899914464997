# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ansible --diff shows of one change; pure."""

from __future__ import annotations

import hashlib

from ansible_collections.webops.php_stack.plugins.module_utils.transaction_plan import (
    DIRECTORY,
    FILE,
    LINK,
    Change,
    Entry,
)


def diff_of(change: Change) -> list[dict[str, str]]:
    """The content's difference, and one of owner, group and mode where these change.

    Each has ``before``, ``after``, ``before_header`` and ``after_header``.
    Sensitive content is hidden, binary content named by its length and digest.
    """
    found = []
    before, after = change.before, change.after
    if (before.kind, before.data, before.target) != (after.kind, after.data, after.target):
        found.append(_item(change.path, *_texts(change)))
    old, new = _meta(before), _meta(after)
    if old and new and old != new:
        found.append(_item(f"{change.path} (owner, group, mode)", old, new))
    return found


def _item(header: str, before: str, after: str) -> dict[str, str]:
    return {"before_header": header, "after_header": header, "before": before, "after": after}


def _texts(change: Change) -> tuple[str, str]:
    # Not even a digest of a secret: a short one could be guessed from it.
    return (
        _text(change.before, "(content hidden)\n" if change.sensitive else ""),
        _text(change.after, "(content hidden, it differs)\n" if change.sensitive else ""),
    )


def _text(entry: Entry, hidden: str) -> str:
    if entry.kind == LINK:
        return f"link to {entry.target}\n"
    if entry.kind == DIRECTORY:
        return "directory\n"
    if entry.kind != FILE:
        return ""
    if hidden:
        return hidden
    try:
        text = entry.data.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        return f"(binary: {len(entry.data)} bytes, sha256 {hashlib.sha256(entry.data).hexdigest()})\n"
    return text


def _meta(entry: Entry) -> str:
    if entry.meta is None:
        return ""
    return f"owner: {entry.meta.uid}\ngroup: {entry.meta.gid}\nmode: 0{entry.meta.mode:03o}\n"
