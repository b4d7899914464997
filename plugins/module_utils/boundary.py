# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place where a module's errors become fail_json."""

from __future__ import annotations

import traceback
from typing import Any, Callable


class StackError(Exception):
    """A failure that a user can act on: what, where, what to do.

    :param details: further keys of the module's result, beside ``msg``.
    """

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.details = details


def run_module(module: Any, action: Callable[[Any], dict[str, Any]]) -> None:
    """Run ``action(module)`` and exit with what it returns, or fail in words.

    :param module: an AnsibleModule; never imported here, so that the core stays free of Ansible.
    """
    try:
        result = action(module)
    except StackError as error:
        module.fail_json(msg=str(error), **error.details)
    except Exception as error:  # the boundary: a bug must not reach a user as a bare traceback
        module.fail_json(
            msg=f"{module._name} failed unexpectedly ({type(error).__name__}: {error}). This is a bug in"
            " webops.php_stack: please report it with the output of -vvv.",
            exception=traceback.format_exc(),
        )
    else:
        module.exit_json(**result)
