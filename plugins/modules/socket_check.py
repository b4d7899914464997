#!/usr/bin/python
# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: socket_check
short_description: Connect to a PHP-FPM pool as a given user, and say why it fails
version_added: 0.1.0
description:
  - Connects to a pool's unix socket or TCP port as a given user, usually the one that nginx's workers run as, and speaks
    FastCGI with it. A socket file that exists proves nothing (it outlives a killed PHP-FPM), so the kernel and the pool
    are asked, and nothing is inferred from C(stat).
  - When that fails, it names the cause in one word (see RV(cause)) and in a sentence that says what to do. For a
    permission that is missing it names the folder or socket, its mode or ACL, and the group that the user lacks.
  - When no page is asked for, or the pool has none under that path, it sends an empty FastCGI request. Every pool answers it,
    it runs no PHP code, and it leaves one line in the pool's C(access.log) where there is one.
options:
  address:
    description:
      - The pool's address as nginx or PHP-FPM writes it.
      - A unix socket is V(/run/php/php8.2-fpm.sock) or V(unix:/run/php/php8.2-fpm.sock), a TCP address is V(127.0.0.1:9000),
        V([::1]:9000) or V(php.example.com:9000). A lone port, or V(*) as the host, means V(127.0.0.1).
    type: str
    required: true
    aliases: [socket, listen]
  as_user:
    description:
      - Name or number of the user to connect as, with its primary and supplementary groups. A child process becomes that user
        for good, so the answer is the kernel's own.
      - Any user but the module's own needs root (C(become)). When left out, the module's own user connects; root may do almost
        anything, so that says nothing about nginx.
    type: str
  ping_path:
    description:
      - Path of the pool's ping page (C(ping.path)).
      - A pool without such a page counts as reachable; RV(msg) says that the page is missing.
    type: str
  status_path:
    description:
      - Path of the pool's status page (C(pm.status_path)), asked for in JSON and returned in RV(status).
    type: str
  retries:
    description:
      - How many further attempts to make after a failed one. A path that is too long is not tried again.
    type: int
    default: 0
  delay:
    description:
      - Seconds between two attempts.
    type: float
    default: 1
  connect_timeout:
    description:
      - Seconds for a connection, with the look-up of a host name and all of its addresses.
    type: float
    default: 1
  read_timeout:
    description:
      - Seconds for a whole answer, however slowly it comes.
    type: float
    default: 2
  required:
    description:
      - Whether the task fails when the pool cannot be reached. With V(false), look at RV(reachable) and RV(cause).
    type: bool
    default: true
notes:
  - With SELinux, the check runs in the domain of the module, not in that of nginx (C(httpd_t)). A refusal by SELinux that only nginx
    meets is not seen here; it is in the audit log.
seealso:
  - module: webops.php_stack.fpm_pool_facts
extends_documentation_fragment:
  - webops.php_stack.attributes
  - webops.php_stack.attributes.read_only
author:
  - The webops.php_stack maintainers (@webops)
"""

EXAMPLES = r"""
- name: Nginx's workers reach the pool
  webops.php_stack.socket_check:
    address: /run/php/php8.2-fpm.sock
    as_user: www-data
  become: true

- name: The pool answers its ping page within half a minute of a deployment
  webops.php_stack.socket_check:
    address: unix:/run/php8.2-fpm/shop.sock
    as_user: www-data
    ping_path: /fpm-ping
    retries: 29
    delay: 1
  become: true

- name: Ask a pool on another host
  webops.php_stack.socket_check:
    address: php1.example.com:9000
    connect_timeout: 3

- name: Look, and decide later
  webops.php_stack.socket_check:
    address: /run/php/php8.2-fpm.sock
    as_user: www-data
    status_path: /status
    required: false
  become: true
  register: pool

- name: Tell people what is wrong
  ansible.builtin.debug:
    msg: "{{ pool.cause }}: {{ pool.msg }}"
  when: not pool.reachable

# By hand, in a checkout or where the collection is installed:
# ansible web1 -b -m webops.php_stack.socket_check -a 'address=/run/php/php8.2-fpm.sock as_user=www-data'
"""

RETURN = r"""
reachable:
  description: Whether the pool accepted a connection and answered in FastCGI.
  returned: success, and when the pool is not reachable
  type: bool
  sample: false
cause:
  description:
    - Why it is not reachable; V(null) when it is.
    - V(socket_missing), there is no such file, or a link leads nowhere; V(not_a_socket), the path is something else;
      V(path_too_long), longer than the 107 bytes of a unix socket; V(socket_refused), the file is there and nobody listens;
      V(socket_denied), a mode or an ACL forbids it; V(selinux_denied), mode and ACL allow it and SELinux enforces.
    - V(tcp_refused), nobody listens on the port; V(tcp_denied), this host forbids the connection; V(host_unreachable), no route;
      V(upstream_host_not_found), the name does not resolve; V(connect_timeout), no answer to the connection.
    - V(backlog_full), the socket's queue is full; V(read_timeout), the connection is accepted and nothing comes;
      V(premature_close), the listener hangs up; V(fastcgi_protocol_error), something else than FastCGI answers.
  returned: success, and when the pool is not reachable
  type: str
  sample: socket_denied
msg:
  description: The result in words, with what to do.
  returned: always
  type: str
  sample: >-
    www-data may not connect: the folder /home/shop (shop:shop 0700) stops it; www-data is neither its owner nor in its group shop,
    and the bits for others do not hold x. Better keep sockets in a folder of mode 0755 under /run; or allow the way in
    with setfacl -m u:www-data:x /home/shop.
denied_by:
  description: What forbids the connection; V(null) unless RV(cause) is V(socket_denied) or V(selinux_denied) and it could be found.
  returned: success, and when the pool is not reachable
  type: dict
  sample: {"group": "shop", "kind": "mode", "mode": "0700", "needs": "x", "owner": "shop", "path": "/home/shop"}
  contains:
    path:
      description: The folder, or the socket.
      type: str
    kind:
      description: V(mode), V(acl) or V(selinux).
      type: str
    owner:
      description: Its owner.
      type: str
    group:
      description: Its group.
      type: str
    mode:
      description: Its permission bits, in octal.
      type: str
    needs:
      description: The permission that is missing, V(x) for a folder, V(w) for a socket.
      type: str
address:
  description: The address that was asked, as nginx writes it.
  returned: success, and when the pool is not reachable
  type: str
  sample: unix:/run/php/php8.2-fpm.sock
as_user:
  description: The user that connected.
  returned: success, and when the pool is not reachable
  type: str
  sample: www-data
attempts:
  description: How many times it was tried.
  returned: success, and when the pool is not reachable
  type: int
  sample: 1
probe:
  description: What the pool answered, V(ping), V(status) or V(empty_request); V(null) when it answered nothing.
  returned: success, and when the pool is not reachable
  type: str
  sample: ping
ping:
  description: The answer to O(ping_path); V(null) when there is none.
  returned: success, and when the pool is not reachable
  type: dict
  sample: {"body": "pong", "http_status": 200, "json": null}
status:
  description: The answer to O(status_path), with the page in C(json); V(null) when there is none.
  returned: success, and when the pool is not reachable
  type: dict
  sample: {"body": "{...}", "http_status": 200, "json": {"active processes": 1, "idle processes": 1, "pool": "www"}}
latency_seconds:
  description: Seconds until the connection stood and until the whole answer was there; V(null) without an answer.
  returned: success, and when the pool is not reachable
  type: dict
  sample: {"connect": 0.000054, "total": 0.000817}
socket:
  description: The socket at the end of all links, with its owner, group and mode; V(null) for TCP or when there is none.
  returned: success, and when the pool is not reachable
  type: dict
  sample: {"group": "www-data", "mode": "0660", "owner": "www-data", "path": "/run/php/php8.2-fpm.sock"}
addresses:
  description:
    - For TCP, each IP address of the name, and the cause when it accepts no connection. nginx takes turns between all of them.
  returned: success, and when the pool is not reachable
  type: list
  elements: dict
  sample: [{"address": "127.0.0.1:9000", "cause": null, "message": ""}]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.webops.php_stack.plugins.module_utils import socket_probe
from ansible_collections.webops.php_stack.plugins.module_utils.boundary import StackError, run_module
from ansible_collections.webops.php_stack.plugins.module_utils.fastcgi import Address
from ansible_collections.webops.php_stack.plugins.module_utils.host import Host
from ansible_collections.webops.php_stack.plugins.module_utils.socket_check import Request, check


def _action(module):
    params = module.params
    mistakes = []
    try:
        address = Address.parse(params["address"])
    except ValueError as error:
        mistakes.append(f"address: {error}")
    for name in ("ping_path", "status_path"):
        if params[name] and not params[name].startswith("/"):
            mistakes.append(f"{name}: a path starts with /, not {params[name]!r}")
    for name in ("connect_timeout", "read_timeout"):
        if not 0 < params[name] <= 3600:
            mistakes.append(f"{name}: seconds above 0 and up to 3600, not {params[name]:g}")
    for name in ("retries", "delay"):
        if not 0 <= params[name] <= 3600:
            mistakes.append(f"{name}: from 0 to 3600, not {params[name]:g}")
    if mistakes:
        raise StackError(". ".join(mistakes) + ".")
    who = socket_probe.find_user(params["as_user"]) if params["as_user"] else socket_probe.current_user()
    result = check(
        Host(),
        Request(
            address,
            who,
            params["ping_path"] or "",
            params["status_path"] or "",
            params["connect_timeout"],
            params["read_timeout"],
            params["retries"],
            params["delay"],
        ),
    )
    if params["required"] and not result["reachable"]:
        message = result.pop("msg")
        raise StackError(message, **result)
    return result


def main():
    run_module(
        AnsibleModule(
            argument_spec={
                "address": {"type": "str", "required": True, "aliases": ["socket", "listen"]},
                "as_user": {"type": "str"},
                "ping_path": {"type": "str"},
                "status_path": {"type": "str"},
                "retries": {"type": "int", "default": 0},
                "delay": {"type": "float", "default": 1},
                "connect_timeout": {"type": "float", "default": 1},
                "read_timeout": {"type": "float", "default": 2},
                "required": {"type": "bool", "default": True},
            },
            supports_check_mode=True,
        ),
        _action,
    )


if __name__ == "__main__":
    main()
