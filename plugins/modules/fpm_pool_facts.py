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
  defaults:
    description:
      - Whether to return, beside the directives that the files set, also those that hold without being set.
      - They are left out of RV(ansible_facts.fpm_pools[].directives) and RV(ansible_facts.fpm_masters[].globals)
        by default, because on a host with many pools they are most of the answer.
    type: bool
    default: false
notes:
  - Run it as root (C(become)). Other users cannot see the private and proportional memory of the workers, nor connect
    to most sockets; what cannot be seen is returned as V(none).
  - For a repeated plain directive the last value is in effect. For a repeated C(env[X]), C(php_value[x]) or
    C(php_admin_value[x]) PHP-FPM uses the B(first) one, also when the second is in another file.
  - Values come back as they stand in the files, also passwords in C(env[X]). Where facts are cached or logged,
    say C(no_log) or read only what is needed with O(pools).
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
ansible_facts:
  description: The facts, which later tasks find as C(ansible_facts.fpm_pools) and C(ansible_facts.fpm_masters).
  returned: success
  type: dict
  contains:
    fpm_pools:
      description: Every pool, in the order of the masters and of their files.
      type: list
      elements: dict
      contains:
        name:
          description: The pool's name, as the first C([name]) spells it.
          type: str
          sample: www
        version:
          description: The PHP version, V(none) where nothing tells it.
          type: str
          sample: "8.2"
        layout:
          description:
            - Where the files lie. One of V(debian), V(rhel), V(remi), V(alpine), V(suse), V(docker), V(plesk),
              V(cpanel) or V(aapanel); V(none) elsewhere.
          type: str
          sample: debian
        panel:
          description: The control panel that overwrites this pool's file, V(none) without one.
          type: str
          sample: hestia
        master:
          description: The file of the pool's master, as in RV(ansible_facts.fpm_masters[].config_file).
          type: str
          sample: /etc/php/8.2/fpm/php-fpm.conf
        file:
          description: The file in which the pool begins.
          type: str
          sample: /etc/php/8.2/fpm/pool.d/www.conf
        line:
          description: The line of C([name]) in that file.
          type: int
          sample: 4
        managed:
          description: Whether the roles of this collection wrote that file.
          type: bool
          sample: false
        user:
          description: The user of the workers.
          type: str
          sample: www-data
        group:
          description: Their group, V(none) for the user's own.
          type: str
          sample: www-data
        listen:
          description:
            - Where the pool listens. C(raw) is what its file says, C(address) what C(fastcgi_pass)
              takes. Where systemd holds the socket these differ; then C(held_by) is V(systemd), and owner,
              group, mode and backlog are those of C(socket_unit).
            - The C(kind) is V(unix) (with C(path)) or V(tcp) (with C(host) and C(port)).
          type: dict
          sample:
            acl_users: []
            acl_groups: []
            address: unix:/run/php/php8.2-fpm.sock
            allowed_clients: []
            backlog: -1
            group: www-data
            held_by: null
            host: null
            kind: unix
            mode: "0660"
            owner: www-data
            path: /run/php/php8.2-fpm.sock
            port: null
            raw: /run/php/php8.2-fpm.sock
            socket_unit: null
        pm:
          description: The process manager. The idle timeout is in seconds. 0 children to start or spare are not used.
          type: dict
          sample:
            max_children: 5
            max_requests: 0
            max_spare_servers: 3
            min_spare_servers: 1
            mode: dynamic
            process_idle_timeout: 10
            start_servers: 2
        request_terminate_timeout:
          description: Seconds after which a request is ended, 0 for never.
          type: int
          sample: 60
        request_slowlog_timeout:
          description: Seconds after which a request is logged as slow, 0 for never.
          type: int
          sample: 0
        ping_path:
          description: C(ping.path), V(none) where it is not set.
          type: str
          sample: /ping
        status_path:
          description: C(pm.status_path), V(none) where it is not set.
          type: str
          sample: /status
        status_listen:
          description: C(pm.status_listen), V(none) where it is not set.
          type: str
          sample: /run/php/www-status.sock
        directives:
          description:
            - Every directive that the files set, by its name; with O(defaults=true) every directive that this PHP knows.
            - C(value) has the type of the directive, times in seconds; V(none) is PHP-FPM's C(undefined).
              C(file) and C(line) say what set it. With O(defaults=true), C(default) is true and both are V(none)
              for what no file sets.
            - C(unresolved) is there only where the value depends on a variable of the master that is not known.
          type: dict
          sample:
            listen:
              default: false
              file: /etc/php/8.2/fpm/pool.d/www.conf
              line: 41
              value: /run/php/php8.2-fpm.sock
            pm.max_children:
              default: false
              file: /etc/php/8.2/fpm/pool.d/www.conf
              line: 124
              value: 5
        unit:
          description: The systemd service, V(none) where there is none.
          type: str
          sample: php8.2-fpm.service
        pid:
          description: The process ID of the master, V(none) where none runs.
          type: int
          sample: 2445
        queue:
          description:
            - Connections that wait for a worker and how many may, from the kernel. V(none) where nobody listens.
          type: dict
          sample:
            backlog: 4096
            waiting: 0
        memory:
          description:
            - Sums over the workers in bytes, and one entry for each. V(none) is a size that this user may not see.
            - RSS counts shared memory in every worker. PSS shares it out, and its sum is what the pool really takes.
            - C(private_peak_bytes) is the most that one worker had for itself.
          type: dict
          sample:
            private_bytes: 503808
            private_peak_bytes: 364544
            pss_bytes: 3366912
            rss_bytes: 15482880
            shared_bytes: 14979072
            worker_count: 2
            workers:
              - age_seconds: 652.43
                pid: 2446
                private_bytes: 364544
                private_peak_bytes: 364544
                pss_bytes: 1819648
                requests: 1
                rss_bytes: 9089024
                shared_bytes: 8724480
                state: Idle
        status:
          description:
            - C(state) is one of V(ok), V(saturated), V(unreachable), V(not_running), V(not_configured) (there is no
              C(pm.status_path)) or V(unknown), and C(reason) says why.
            - If the pool answered, the fields of its status page come too, with C(_) for blanks and hyphens.
              Of the processes, those that have a request in hand are listed, without the one that answered this
              question. Query strings are left out of C(request_uri).
          type: dict
          sample:
            accepted_conn: 2
            active_processes: 1
            idle_processes: 1
            listen_queue: 0
            listen_queue_len: 0
            max_active_processes: 1
            max_children_reached: 0
            max_listen_queue: 0
            pool: www
            process_manager: dynamic
            processes: []
            reason: ""
            slow_requests: 0
            start_since: 652
            start_time: 1795238576
            state: ok
            total_processes: 2
    fpm_masters:
      description: Every master, running or not.
      type: list
      elements: dict
      contains:
        config_file:
          description: The file that it is given.
          type: str
          sample: /etc/php/8.2/fpm/php-fpm.conf
        files:
          description: Every file that it reads, in order.
          type: list
          elements: str
          sample: [/etc/php/8.2/fpm/php-fpm.conf, /etc/php/8.2/fpm/pool.d/www.conf]
        version:
          description: The PHP version, V(none) where nothing tells it.
          type: str
          sample: "8.2"
        layout:
          description: As in RV(ansible_facts.fpm_pools[].layout).
          type: str
          sample: debian
        panel:
          description: As in RV(ansible_facts.fpm_pools[].panel).
          type: str
          sample: hestia
        panel_override:
          description: How to change a pool so that the panel keeps it, V(none) without a panel.
          type: str
          sample: a copy of the PHP-FPM template under a new name, chosen for the domain
        binary:
          description: Its program, V(none) where it is not known.
          type: str
          sample: /usr/sbin/php-fpm8.2
        unit:
          description: The systemd service that it runs in, or that would start it.
          type: str
          sample: php8.2-fpm.service
        unit_state:
          description: State and limits of that service; V(none) for no service, and in it for what has no limit.
          type: dict
          sample:
            active: active
            drop_ins: []
            kill_signal: SIGTERM
            limit_nofile: 1024
            memory_max_bytes: null
            restart: "no"
            restarts: 0
            result: success
            sub: running
            tasks_max: 28909
            timeout_stop_seconds: 90.0
        pid:
          description: Its process ID, V(none) where it does not run.
          type: int
          sample: 2445
        running:
          description: Whether it runs, V(none) where that cannot be seen and on a tree.
          type: bool
          sample: true
        in_container:
          description: Whether it runs in a container of this host. Its files are then those in the container.
          type: bool
          sample: false
        process_control_timeout:
          description: Seconds that requests in flight have to end in a reload, 0 for none.
          type: int
          sample: 0
        pools:
          description: The names of its pools.
          type: list
          elements: str
          sample: [www]
        globals:
          description: The directives of C([global]), as in RV(ansible_facts.fpm_pools[].directives).
          type: dict
          sample:
            error_log:
              default: false
              file: /etc/php/8.2/fpm/php-fpm.conf
              line: 26
              value: /var/log/php8.2-fpm.log
        errors:
          description: What C(php-fpm -t) refuses, all of it, as far as the text shows it.
          type: list
          elements: dict
          sample:
            - file: /etc/php/8.2/fpm/pool.d/bad.conf
              line: 4
              message: "'pm.max_childs' is not a directive of PHP-FPM"
        warnings:
          description: What PHP-FPM accepts although it does not do what it seems to.
          type: list
          elements: dict
          sample:
            - file: /etc/php/8.2/fpm/php-fpm.conf
              line: 30
              message: "include = /etc/php/8.2/fpm/pool.d/*.conf: nothing matches"
summary:
  description: One line a pool and one line a mistake, for people.
  returned: success
  type: list
  elements: str
  sample:
    - "www (PHP 8.2): unix:/run/php/php8.2-fpm.sock, dynamic 5, 2 workers with 3 MiB (PSS), queue 0/4096: ok"
"""

import gc

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
    facts = gather(host, options["status"], options["timeout"], options["pools"], options["defaults"])
    return {"changed": False, "ansible_facts": facts, "summary": summary(facts)}


def main():
    # The process ends with its answer. To look through tens of thousands of entries for garbage is lost time.
    gc.disable()
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/"},
            "status": {"type": "bool", "default": True},
            "timeout": {"type": "float", "default": 2.0},
            "pools": {"type": "list", "elements": "str", "default": []},
            "defaults": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    run_module(module, collect)


if __name__ == "__main__":
    main()
