# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place where a module's results become JSON, and its errors fail_json."""

from __future__ import annotations

import marshal
import re
import traceback
from typing import Any, Callable


class StackError(Exception):
    """A failure that a user can act on: what, where, what to do.

    :param details: further keys of the module's result, beside ``msg``.
    """

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.details = details


# How marshal writes a surrogate that stands for a byte.
_SURROGATE = re.compile(rb"\xed[\xb2\xb3][\x80-\xbf]")


def run_module(module: Any, action: Callable[[Any], dict[str, Any]]) -> None:
    """Run ``action(module)`` and exit with what it returns, or fail in words.

    :param module: an AnsibleModule; never imported here, so that the core stays free of Ansible.
    """
    try:
        result = action(module)
    except StackError as error:
        module.fail_json(**printable({"msg": str(error), **error.details}))
    except Exception as error:  # the boundary: a bug must not reach a user as a bare traceback
        words = (
            f"{module._name} failed unexpectedly ({type(error).__name__}: {error}). This is a bug in"
            " webops.php_stack: please report it with the output of -vvv."
        )
        module.fail_json(**printable({"msg": words, "exception": traceback.format_exc()}))
    else:
        module.exit_json(**printable(result))


def printable(result: dict[str, Any]) -> dict[str, Any]:
    """The same, with each byte that is not UTF-8 written as \\xNN: Ansible refuses an answer that holds one.

    Inside, such bytes live as surrogates, so that a file is found again under its name.
    """
    try:
        is_printable = not _SURROGATE.search(marshal.dumps(result))
    except ValueError:
        is_printable = False
    # To look at each value of a large answer takes far longer than to search it in one piece.
    return result if is_printable else {key: _printable(value) for key, value in result.items()}


def _printable(value: Any) -> Any:
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_printable(item) for item in value]
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return value
