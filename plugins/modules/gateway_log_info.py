#!/usr/bin/python
# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_log_info
short_description: Why nginx answered 502, 504 or 500, from the logs
version_added: 0.1.0
description:
  - Reads nginx's error log, PHP-FPM's log, the journal and the kernel log, and returns ranked causes.
  - Every relevant line is judged by its errno number and by the phase that nginx names, never by the text of the
    error, which differs between C libraries.
  - The logs are joined by time, pool, process and upstream. One event gets one cause, the most specific that all logs
    support. A connection reset alone is V(upstream_reset); with PHP-FPM's C(execution timed out, terminating) at the
    same moment it is V(request_terminated), and with the kernel's OOM kill it is V(worker_oom).
  - The root is ranked, not its symptom. If a reload with an invalid configuration ended PHP-FPM, the refused
    connections after it count as V(config_invalid) and are listed in RV(causes[].consequences).
  - Files are read in small blocks. With O(since), the start is searched by bisection, so that a short time of a very
    large log costs no full read.
author:
  - The webops.php_stack maintainers (@webops)
extends_documentation_fragment:
  - webops.php_stack.attributes
  - webops.php_stack.attributes.read_only
options:
  nginx_error_log:
    description:
      - Error logs of nginx. A path may hold C(*) and C(?); files packed with gzip are read as they are.
      - With O(since), rotated parts beside a log (C(error.log.1), C(error.log.2.gz)) are read as far as needed.
      - If none of O(nginx_error_log), O(fpm_log), O(journal) and O(kernel_log) is given, the logs that the
        configurations of nginx and PHP-FPM name are read, and the running journal and kernel log.
        If any of them is given, only what is given is read.
    type: list
    elements: str
  fpm_log:
    description:
      - Logs of PHP-FPM masters, or of PHP itself (C(error_log) in C(php.ini)). Rotated parts as for O(nginx_error_log).
    type: list
    elements: str
  journal:
    description:
      - Exported journals or syslog files, as text in any of C(journalctl)'s one-line formats or as its JSON lines.
      - V(live) reads the journal of this host.
    type: list
    elements: str
  kernel_log:
    description:
      - Files with kernel messages, such as the output of C(dmesg), or C(kern.log).
      - Seconds since boot in a file have no known time of day. An OOM kill among them is then joined with a worker
        that PHP-FPM saw killed, and with nothing else.
      - V(live) reads the kernel log of this host.
    type: list
    elements: str
  since:
    description:
      - Leave out what is older. An age (V(15m), V(2h), V(1d)), an ISO 8601 time, which is local time unless it has an
        offset, or C(@) with seconds since the epoch.
      - What happened to PHP-FPM in the day before is still used as the reason for later failures.
    type: str
  until:
    description:
      - Leave out what is newer. Formats as for O(since).
    type: str
  samples:
    description:
      - How many log lines to return for each cause and for each kind of unexplained line.
    type: int
    default: 3
  time_zone:
    description:
      - The zone in which nginx and PHP-FPM wrote their local times, such as V(Europe/Berlin) or V(UTC).
      - The default is the zone of the host on which the module runs.
    type: str
  root:
    description:
      - Read the logs and configurations of the tree under this directory instead of the live host.
        Then no command is run.
    type: path
    default: /
notes:
  - Run it as root (C(become)), since most logs are not readable for others. What could not be read is in RV(limits).
  - nginx logs a request header that is too large only at level C(info).
seealso:
  - module: webops.php_stack.fpm_pool_facts
  - module: webops.php_stack.socket_check
"""

EXAMPLES = r"""
- name: Find out why this host answered 502 in the last 15 minutes
  webops.php_stack.gateway_log_info:
    since: 15m
  register: gateway

- name: Print the causes, the most important first
  ansible.builtin.debug:
    msg: "{{ item.count }} x {{ item.id }}: {{ item.summary }}"
  loop: "{{ gateway.causes }}"
  loop_control:
    label: "{{ item.id }}"

- name: Explain logs that were copied from another host
  webops.php_stack.gateway_log_info:
    nginx_error_log: [/srv/incident/error.log, /srv/incident/error.log.1.gz]
    fpm_log: [/srv/incident/php8.2-fpm.log]
    journal: [/srv/incident/journal.json]
    kernel_log: [/srv/incident/dmesg.txt]
    since: "2026-11-21T02:00:00"
    until: "2026-11-21T03:00:00"
    time_zone: Europe/Berlin
  delegate_to: localhost
"""

RETURN = r"""
causes:
  description:
    - What happened, ranked. Failures of the gateway come first, then errors of PHP (500), then errors of a request
      (400, 403, 404). Within these, causes that failed requests come first, then the more frequent ones.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: The cause.
      type: str
      sample: config_invalid
    summary:
      description: The cause in words.
      type: str
    answer:
      description: The status that a client mostly gets.
      type: str
      sample: "502"
    count:
      description: How many events have this cause. Failed requests where any were seen, else entries of the other logs.
      type: int
    failed_requests:
      description:
        - How many failures in nginx's log have this cause.
        - If nginx tries several servers for one request, each try that fails counts.
      type: int
    share:
      description: RV(causes[].count) as a part of the events of all causes, from 0 to 1.
      type: float
    first:
      description: When it was first seen, in ISO 8601 with offset. V(none) where no log says.
      type: str
    last:
      description: When it was last seen.
      type: str
    consequences:
      description: The symptoms that this cause had in nginx's log, where they have another name.
      type: list
      elements: dict
      sample: [{"count": 1, "id": "socket_refused"}]
    upstreams:
      description: The upstreams that were concerned, with counts.
      type: list
      elements: dict
    sites:
      description: The server names that were concerned, with counts.
      type: list
      elements: dict
    pools:
      description: The pools that PHP-FPM named.
      type: list
      elements: str
    evidence:
      description: Entries of the other logs that support the cause.
      type: list
      elements: dict
      contains:
        time:
          description: When, V(none) where the log does not say.
          type: str
        source:
          description: The file, or V(journal) or V(dmesg).
          type: str
        text:
          description: The message.
          type: str
    samples:
      description: The first lines with this cause, as RV(causes[].evidence). Without the address of the client.
      type: list
      elements: dict
  sample:
    - answer: "502"
      consequences: [{"count": 1, "id": "socket_refused"}]
      count: 1
      evidence:
        - source: journal
          text: "ERROR: [/etc/php/8.2/fpm/pool.d/zz.conf:1] unable to parse value for entry 'pm.max_children': is not a
            valid number (greater or equal than zero)"
          time: "2026-11-21T02:28:50+00:00"
      failed_requests: 1
      first: "2026-11-21T02:28:51+00:00"
      id: config_invalid
      last: "2026-11-21T02:28:51+00:00"
      pools: []
      samples:
        - source: /var/log/nginx/error.log
          text: '2026/11/21 02:28:51 [error] connect() to unix:/run/php/php8.2-fpm.sock failed (111: Connection refused)
            while connecting to upstream, server: shop.example.com, request: "GET / HTTP/1.1", upstream:
            "fastcgi://unix:/run/php/php8.2-fpm.sock:", host: "shop.example.com"'
          time: "2026-11-21T02:28:51+00:00"
      share: 1.0
      sites: [{"count": 1, "name": "shop.example.com"}]
      summary: a configuration is invalid, so the service did not start
      upstreams: [{"count": 1, "name": "fastcgi://unix:/run/php/php8.2-fpm.sock"}]
timeline:
  description: Events by time.
  returned: success
  type: dict
  contains:
    bucket_seconds:
      description: The width of a bucket.
      type: int
      sample: 60
    buckets:
      description: Each bucket that holds an event has its C(start), the C(total), and the number for each of C(causes).
      type: list
      elements: dict
    marks:
      description: Reloads, stops, starts, deaths of a master and OOM kills, with C(time), C(kind) and C(text).
      type: list
      elements: dict
unexplained:
  description: Lines of nginx at level C(error) or above for which no cause is known.
  returned: success
  type: dict
  contains:
    count:
      description: How many.
      type: int
    kinds:
      description: The lines by form, the most frequent first, with C(form), C(count), C(source) and C(samples).
      type: list
      elements: dict
unrelated:
  description: Counts of lines that are explained and are no failure of the gateway, such as C(access_forbidden).
  returned: success
  type: dict
  sample: {"access_forbidden": 12}
sources:
  description: What was read.
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: The file, or the command.
      type: str
    kind:
      description: V(nginx), V(fpm), V(journal) or V(kernel).
      type: str
    bytes:
      description: How many bytes were read, unpacked.
      type: int
    lines:
      description: How many lines were read.
      type: int
    skipped_bytes:
      description: How many bytes were not read because they lie outside O(since) and O(until).
      type: int
    first:
      description: The first relevant entry. V(none) without one.
      type: str
    last:
      description: The last relevant entry.
      type: str
    error:
      description: Why the source was not read, or not to its end. Empty without an error.
      type: str
limits:
  description: What limits the result, such as a log that cannot be read.
  returned: success
  type: list
  elements: str
  sample: ["/var/log/nginx/error.log: Permission denied"]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.webops.php_stack.plugins.module_utils import log_request
from ansible_collections.webops.php_stack.plugins.module_utils.boundary import run_module


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "nginx_error_log": {"type": "list", "elements": "str"},
            "fpm_log": {"type": "list", "elements": "str"},
            "journal": {"type": "list", "elements": "str"},
            "kernel_log": {"type": "list", "elements": "str"},
            "since": {"type": "str"},
            "until": {"type": "str"},
            "samples": {"type": "int", "default": 3},
            "time_zone": {"type": "str"},
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
    )
    run_module(module, lambda module: log_request.answer(module.params, module.warn))


if __name__ == "__main__":
    main()
