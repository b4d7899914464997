# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters behind the HTML report: see stack_report.yml and stack_report_paths.yml beside this file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

from ansible.errors import AnsibleFilterError
from ansible_collections.webops.php_stack.plugins.module_utils.report_input import root_paths
from ansible_collections.webops.php_stack.plugins.module_utils.report_text import clean
from ansible_collections.webops.php_stack.plugins.module_utils.report_view import build
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES = Path(__file__).resolve().parents[2] / "playbooks/templates/report"


def _shown(value: Any) -> Any:
    """What every expression of the template passes through before autoescape sees it.

    Only text that the template itself made is markup; all else is data.
    """
    if type(value) is Markup or isinstance(value, (int, float)):
        return value
    return clean(value)


def render(view: Any) -> str:
    """The page. Its policy allows the style sheet inside it, by its hash, and nothing else."""
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2")
    return page.render(fleet=view, style=Markup(style), style_hash=digest)


def stack_report(hosts: list[Mapping[str, Any]], generated: str = "", since: str = "") -> str:
    try:
        return render(build(list(hosts), str(generated), str(since)))
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The collection's filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"stack_report": stack_report, "stack_report_paths": root_paths}
