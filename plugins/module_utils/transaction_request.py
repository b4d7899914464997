# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the module's parameters to a Request: the argument spec and its reading."""

from __future__ import annotations

import base64
import json
import os
import zlib
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.boundary import StackError
from ansible_collections.webops.php_stack.plugins.module_utils.transaction import Options, Validator, run
from ansible_collections.webops.php_stack.plugins.module_utils.transaction_plan import (
    DirectoryWish,
    DueWork,
    FileWish,
    ManagedDir,
    Request,
)

_OWNERSHIP: dict[str, Any] = {
    "owner": {"type": "str"},
    "group": {"type": "str"},
    "mode": {"type": "raw"},
}
ARGUMENT_SPEC: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "files": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "path": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent", "link"], "default": "present"},
            "content": {"type": "str"},
            "template": {"type": "str"},
            "vars": {"type": "dict", "default": {}},
            "target": {"type": "str"},
            **_OWNERSHIP,
            "comment": {"type": "str", "default": "#"},
            "sensitive": {"type": "bool", "default": False},
        },
    },
    "directories": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {"path": {"type": "str", "required": True}, **_OWNERSHIP},
    },
    "manage": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "aliases": ["managed_dirs"],
        "options": {
            "dir": {"type": "str", "required": True},
            "pattern": {"type": "str", "default": "*.conf"},
        },
    },
    "adopt": {"type": "bool", "default": True},
    "validate": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "command": {"type": "list", "elements": "str", "required": True},
            "when_changed": {"type": "list", "elements": "str", "default": []},
            "rc_ok": {"type": "list", "elements": "int", "default": [0]},
            "timeout": {"type": "float", "default": 60},
            "optional": {"type": "bool", "default": False},
        },
    },
    "due": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "when_changed": {"type": "list", "elements": "str", "default": []},
        },
    },
    "done": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "id": {"type": "str", "required": True},
            "earlier": {"type": "bool"},
        },
    },
    "validate_always": {"type": "bool", "default": False},
    "lock_timeout": {"type": "float", "default": 300},
    # The contents, packed by the action plugin. As one secret parameter they stay
    # out of the log and of -vvv, which show all parameters of every module.
    "_contents": {"type": "str", "no_log": True},
}


def pack(contents: list[str | None]) -> str:
    """The contents of all files, in order, as one text; the opposite of unpack."""
    return base64.b64encode(zlib.compress(json.dumps(contents).encode("ascii"), 1)).decode("ascii")


def unpack(packed: str) -> list[str | None]:
    """The contents that pack() was given."""
    return list(json.loads(zlib.decompress(base64.b64decode(packed))))


def request_of(params: dict[str, Any]) -> Request:
    """The request that the module's parameters make.

    :raises StackError: for parameters that did not pass through the action plugin.
    """
    files = params["files"]
    if params["_contents"] is None:
        raise StackError(
            "config_transaction must be called by its full name, webops.php_stack.config_transaction: its templates"
            " and contents are prepared on the controller"
        )
    contents = unpack(params["_contents"])
    return Request(
        name=params["name"],
        files=tuple(
            FileWish(
                path=item["path"],
                state=item["state"],
                content=None if content is None else content.encode("utf-8", "surrogateescape"),
                target=item["target"] or "",
                owner=item["owner"],
                group=item["group"],
                mode=mode_text(item["mode"]),
                comment=item["comment"],
                sensitive=item["sensitive"],
            )
            for item, content in zip(files, contents)
        ),
        directories=tuple(
            DirectoryWish(item["path"], item["owner"], item["group"], mode_text(item["mode"]))
            for item in params["directories"]
        ),
        manage=tuple(ManagedDir(item["dir"], item["pattern"]) for item in params["manage"]),
        adopt=params["adopt"],
        due=tuple(DueWork(item["name"], tuple(item["when_changed"])) for item in params["due"]),
        done=tuple((item["name"], item["id"]) for item in params["done"]),
    )


def mode_text(mode: Any) -> str | None:
    """The mode as text; a number, which YAML makes of 0644 without quotes, becomes a text that check() refuses."""
    if mode is None or isinstance(mode, str):
        return mode
    return f"{mode} (a number)"


def run_request(module: Any) -> dict[str, Any]:
    """What the module does, between its parameters and its result."""
    params = module.params
    if os.geteuid() != 0:
        raise StackError(
            "this module reads and changes the system's configuration: run it as root (become: true)"
        )
    return run(
        request_of(params),
        tuple(
            Validator(
                item["name"],
                tuple(item["command"]),
                tuple(item["when_changed"]),
                tuple(item["rc_ok"]),
                item["timeout"],
                item["optional"],
            )
            for item in params["validate"]
        ),
        Options(
            check_mode=module.check_mode,
            diff=module._diff,
            validate_always=params["validate_always"],
            lock_timeout=params["lock_timeout"],
            relabel=lambda path: module.set_default_selinux_context(path, False),
        ),
    )
