# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What leaves a module: results and errors that Ansible can read, whatever the host's files hold."""

from __future__ import annotations

import json
from typing import Any, Callable

import pytest
from ansible_collections.webops.php_stack.plugins.module_utils.boundary import (
    StackError,
    printable,
    run_module,
)
from hypothesis import given
from hypothesis import strategies as st


class Exit(Exception):
    """Leaves a module as exit_json() does."""


class Module:
    """As much of AnsibleModule as the boundary uses."""

    _name = "webops.php_stack.some"

    def exit_json(self, **result: Any) -> None:
        raise Exit("exit", result)

    def fail_json(self, **result: Any) -> None:
        raise Exit("fail", result)


def outcome(action: Callable[[Any], dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    with pytest.raises(Exit) as caught:
        run_module(Module(), action)
    kind, result = caught.value.args
    json.dumps(result, ensure_ascii=False).encode()
    return kind, result


def test_a_result_with_a_byte_that_is_no_utf_8() -> None:
    found = outcome(lambda module: {"changed": False, "a": [{"caf\udce9": ("\u00e9\udcff", 1, None, True)}]})
    assert found == ("exit", {"changed": False, "a": [{"caf\\xe9": ["\u00e9\\xff", 1, None, True]}]})


def test_an_error_with_such_a_byte() -> None:
    def fail(module: Any) -> dict[str, Any]:
        raise StackError("no caf\udce9", file="/srv/caf\udce9")

    assert outcome(fail) == ("fail", {"msg": "no caf\\xe9", "file": "/srv/caf\\xe9"})


def test_a_mistake_of_ours() -> None:
    def fail(module: Any) -> dict[str, Any]:
        raise KeyError("caf\udce9")

    kind, result = outcome(fail)
    assert kind == "fail"
    assert result["msg"].startswith("webops.php_stack.some failed unexpectedly (KeyError: ")
    assert "Traceback" in result["exception"]


@given(
    st.recursive(st.binary(max_size=8) | st.integers() | st.none(), lambda inner: st.lists(inner, max_size=3))
)
def test_all_that_a_host_may_hold_can_be_printed(value: Any) -> None:
    def text(item: Any) -> Any:
        if isinstance(item, list):
            return [text(one) for one in item]
        return item.decode("utf-8", "surrogateescape") if isinstance(item, bytes) else item

    json.dumps(printable({"value": text(value)}), ensure_ascii=False).encode()
