# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders the templates of a config_transaction on the controller: all its files travel in one call."""

from __future__ import annotations

import os
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.common.text.converters import to_text
from ansible.plugins.action import ActionBase
from ansible_collections.webops.php_stack.plugins.module_utils.transaction_request import pack

try:
    from ansible.template import trust_as_template
except ImportError:  # ansible-core 2.18 trusts every text

    def trust_as_template(value: str) -> str:
        return value


# What ansible.builtin.template sets, so that a template reads the same in both.
_OVERRIDES = {"trim_blocks": True, "lstrip_blocks": False}


class ActionModule(ActionBase):
    """See the module of the same name for the options."""

    TRANSFERS_FILES = False
    _requires_connection = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        args = dict(self._task.args)
        if "_contents" in args:
            raise AnsibleActionFail("_contents is not an option of config_transaction")
        files, contents = self._prepare(args.get("files") or [], task_vars)
        args.update(files=files, _contents=pack(contents))
        return self._execute_module(
            module_name="webops.php_stack.config_transaction", module_args=args, task_vars=task_vars
        )

    def _prepare(
        self, items: Any, task_vars: dict[str, Any]
    ) -> tuple[list[dict[str, Any]], list[str | None]]:
        """The files without their contents, and the contents; all templates' mistakes at once."""
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise AnsibleActionFail("files must be a list of mappings, each with a path")
        renderer = _Renderer(self, task_vars)
        files: list[dict[str, Any]] = []
        contents: list[str | None] = []
        problems: list[str] = []
        for number, item in enumerate(items):
            content = item.get("content")
            try:
                if item.get("template") is not None:
                    if content is not None:
                        raise AnsibleActionFail("content and template exclude each other")
                    own_vars = item.get("vars") or {}
                    if not isinstance(item["template"], str):
                        raise AnsibleActionFail("template must be a text, the name of a file")
                    if not isinstance(own_vars, dict):
                        raise AnsibleActionFail("vars must be a mapping of names to values")
                    content = renderer.render(item["template"], own_vars, item.get("path"))
                elif isinstance(content, (dict, list)):
                    raise AnsibleActionFail(
                        "content must be a text; a template or the to_json filter makes one"
                    )
            except AnsibleError as error:
                problems.append(f"files[{number}] ({item.get('path')}): {to_text(error)}")
            contents.append(None if content is None else to_text(content))
            files.append(
                {key: value for key, value in item.items() if key not in ("content", "template", "vars")}
            )
        if problems:
            raise AnsibleActionFail("\n".join(problems))
        return files, contents


class _Renderer:
    """Finds and reads each template once, and keeps one templar for it."""

    def __init__(self, action: ActionBase, task_vars: dict[str, Any]) -> None:
        self.action = action
        self.task_vars = task_vars
        self.known: dict[str, tuple[str, Any, Any]] = {}

    def render(self, name: str, own_vars: dict[str, Any], destination: str | None) -> str:
        """The text of a template.

        :raises AnsibleError: for a template that is not found or does not render.
        """
        if name not in self.known:
            self.known[name] = self.load(name)
        source, text, templar = self.known[name]
        templar.available_variables = {
            **self.task_vars,
            "template_path": name,
            "template_fullpath": source,
            "template_destpath": destination,
            **own_vars,
        }
        options: dict[str, Any] = {"escape_backslashes": False, "overrides": _OVERRIDES}
        if not hasattr(
            templar, "evaluate_expression"
        ):  # before 2.19 the result was made a list or number again
            options["convert_data"] = False
        return to_text(templar.template(text, **options), nonstring="simplerepr")

    def load(self, name: str) -> tuple[str, Any, Any]:
        source = self.action._find_needle("templates", name)
        plain = self.action._loader.get_real_file(source)  # a vaulted template comes decrypted
        try:
            with open(plain, encoding="utf-8") as handle:
                text = trust_as_template(handle.read())
        finally:
            self.action._loader.cleanup_tmp_file(plain)
        bases = [*self.task_vars.get("ansible_search_path", []), self.action._loader.get_basedir()]
        bases.append(os.path.dirname(source))
        search = [path for base in bases for path in (os.path.join(base, "templates"), base)]
        templar = self.action._templar.copy_with_new_env(searchpath=search, available_variables={})
        return source, text, templar
