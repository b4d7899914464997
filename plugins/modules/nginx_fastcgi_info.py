#!/usr/bin/python
# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nginx_fastcgi_info
"""
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.webops.php_stack.plugins.module_utils.boundary import run_module
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_info import gather


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "config": {"type": "path"},
            "prefix": {"type": "path"},
            "root": {"type": "path", "default": "/"},
            "dump": {"type": "str"},
            "dump_path": {"type": "path"},
        },
        mutually_exclusive=[("dump", "dump_path"), ("config", "dump"), ("config", "dump_path")],
        supports_check_mode=True,
    )
    run_module(module, lambda this: gather(**this.params))


if __name__ == "__main__":
    main()
