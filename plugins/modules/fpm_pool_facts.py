#!/usr/bin/python
# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: fpm_pool_facts
short_description: Everything about the PHP-FPM pools of a host
version_added: 0.1.0
description:
  - Finds every PHP-FPM on a host, of every version and layout, and returns each pool with its configuration,
    its live state and the memory of its workers.
  - It knows the layouts of Debian, Ubuntu and Sury, of RHEL and its family, of Remi's collections, Alpine and SUSE,
    of the official Docker image, and of Plesk, cPanel, Hestia, Virtualmin, aaPanel, ISPConfig and CloudPanel.
    Masters that run with a configuration elsewhere are found in C(/proc), also those in containers of this host.
  - The configuration is read as PHP-FPM reads it, and gives what C(php-fpm -tt) prints. In addition each value has
    the file and the line that set it. A broken file is reported, and the rest still comes back.
  - The status page is asked straight over the pool's socket, all pools at the same time. A saturated pool does not
    hang the module. Where C(status_listen) is set, that listener is asked.
  - The length of the queue comes from the kernel, because the status page of PHP-FPM always says 0 for unix sockets.
author:
  - The webops.php_stack maintainers (@webops)
extends_documentation_fragment:
  - webops.php_stack.attributes
  - webops.php_stack.attributes.read_only
options:
  root:
    description:
      - Read the configuration tree under this directory instead of the live host, for example a mounted image,
        a backup or an etckeeper checkout. Then nothing is run and nothing is connected to.
    type: path
    default: /
  status:
    description:
      - Whether to ask each pool for its status page.
      - Asking makes a pool with V(pm=ondemand) start a worker if it has none.
    type: bool
    default: true
  timeout:
    description:
      - Seconds to wait for one pool's status page. All pools are asked at the same time.
    type: float
    default: 2
  pools:
    description:
      - Names of the pools to return. All pools are returned if this is empty.
    type: list
    elements: str
    default: []
notes:
  - Run it as root (C(become)). Other users cannot see the private and proportional memory of the workers, nor connect
    to most sockets; what cannot be seen is returned as V(none).
  - For a repeated plain directive the last value is in effect. For a repeated C(env[X]), C(php_value[x]) or
    C(php_admin_value[x]) PHP-FPM uses the B(first) one, also when the second is in another file.
  - C(php_flag) and C(php_admin_flag) are returned as PHP-FPM keeps them, which is as C(php_value) and
    C(php_admin_value) with V("1") or V("0").
seealso:
  - module: webops.php_stack.socket_check
  - module: webops.php_stack.fpm_sizing
  - module: webops.php_stack.nginx_fastcgi_info
"""

EXAMPLES = r"""
# In a checkout of the collection: ansible -i inventory all -b -m fpm_pool_facts
- name: Look at all pools
  webops.php_stack.fpm_pool_facts:

- name: Show the pools that have no free worker
  ansible.builtin.debug:
    msg: "{{ item.name }} of PHP {{ item.version }}: {{ item.status.reason }}"
  loop: "{{ ansible_facts.fpm_pools | selectattr('status.state', 'equalto', 'saturated') }}"
  loop_control:
    label: "{{ item.name }}"

- name: Read the configuration of a backup, on the control node
  webops.php_stack.fpm_pool_facts:
    root: /srv/backups/web1/2026-11-20
  delegate_to: localhost

- name: Stop where PHP-FPM would refuse to start
  ansible.builtin.assert:
    that: ansible_facts.fpm_masters | map(attribute='errors') | flatten | length == 0
    fail_msg: "{{ ansible_facts.fpm_masters | map(attribute='errors') | flatten }}"
"""

RETURN = r"""
summary:
  description: x
  returned: success
  type: list
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.webops.php_stack.plugins.module_utils.boundary import StackError, run_module
from ansible_collections.webops.php_stack.plugins.module_utils.fpm_facts import gather, summary
from ansible_collections.webops.php_stack.plugins.module_utils.host import Host


def collect(module):
    options = module.params
    host = Host(options["root"])
    if not host.is_dir("/"):
        raise StackError(
            f"root={options['root']} is not a directory: give the top of a tree, where etc/ lies."
        )
    if options["timeout"] <= 0:
        raise StackError(
            f"timeout={options['timeout']:g} leaves a pool no time to answer: give more than 0 seconds."
        )
    facts = gather(host, options["status"], options["timeout"], options["pools"])
    return {"changed": False, "ansible_facts": facts, "summary": summary(facts)}


def main():
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/"},
            "status": {"type": "bool", "default": True},
            "timeout": {"type": "float", "default": 2.0},
            "pools": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    run_module(module, collect)


if __name__ == "__main__":
    main()
