#!/usr/bin/python
# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_audit
short_description: Audit nginx and PHP-FPM of a host, and name the cause of its 502
version_added: 0.1.0
description:
  - Reads both sides of a host (nginx, PHP-FPM, sockets, memory, systemd, sudo, logs), judges them by 48
    rules, and returns findings with evidence (file and line), what was found, what is expected, and a fix.
  - Joins the findings with the causes that the logs show into a ranked verdict, the most likely cause on top.
  - What cannot be seen is V(unknown), never V(pass).
  - Nothing is changed. By default it connects to the sockets that nginx uses, as nginx's user, and hangs up, and asks
    pools that have a status page for it; see O(connect).
author:
  - The webops.php_stack maintainers (@webops)
extends_documentation_fragment:
  - webops.php_stack.attributes
  - webops.php_stack.attributes.read_only
options:
  root:
    description:
      - Audit the tree under this directory (an image, a backup, an etckeeper checkout) instead of the live host.
        Then no command is run and nothing is connected to, and what only a running host shows is V(unknown).
    type: path
    default: /
  exclude:
    description:
      - Rules whose findings are not to count, each with the reason.
    type: list
    elements: dict
    default: []
    suboptions:
      id:
        description: The id of a rule, such as V(T02).
        type: str
        required: true
      reason:
        description: Why its findings do not count here. It is shown in every output.
        type: str
        required: true
  fail_on:
    description:
      - Fail the task if a rule of this severity, or of a worse one, fails. The result is returned all the same.
    type: str
    choices: [never, critical, high, medium, low]
    default: never
  connect:
    description:
      - Connect to each address that nginx passes to, as nginx's user. A socket that systemd holds for a stopped service
        is left alone, since a connection would start it.
      - Without it, or without root, whether a socket answers is V(unknown).
    type: bool
    default: true
  logs:
    description:
      - Read the logs that the configurations name, the journal and the kernel log, as
        M(webops.php_stack.gateway_log_info) does. Logs that are given below are read in any case.
    type: bool
    default: true
  nginx_error_log:
    description: Read these error logs of nginx, and no log that is not given. May hold C(*).
    type: list
    elements: str
  fpm_log:
    description: Read these logs of PHP-FPM.
    type: list
    elements: str
  journal:
    description: Read these exported journals; V(live) is the journal of this host.
    type: list
    elements: str
  kernel_log:
    description: Read these kernel logs; V(live) is the kernel log of this host.
    type: list
    elements: str
  since:
    description:
      - Leave out log lines that are older. An age (V(15m), V(2h), V(1d)) or a time in ISO 8601. An empty text
        reads everything.
    type: str
    default: 1d
  until:
    description: Leave out log lines that are newer.
    type: str
  time_zone:
    description: The zone of the times in the logs, such as V(Europe/Berlin). By default that of the host.
    type: str
  deploy_scripts:
    description:
      - Scripts that deploy sites, to be looked at for locks beside those in the usual folders. May hold C(*).
    type: list
    elements: str
    default: []
  probe:
    description:
      - Probes to make, none by default. Each asks for something, so it shows in the logs of the host.
      - V(static) asks nginx for a static file of each site. It answers, and PHP does not? Then nginx is not at fault.
      - V(ping) asks each pool for its C(ping.path), as nginx's user.
      - V(request) sends an empty FastCGI request, which runs no PHP code, to each address that nginx passes to.
      - V(isolation) starts a second PHP-FPM with the settings of each pool and one worker on a TCP port of this host,
        asks it, and ends it again, whatever happens. It tells a fault of the socket from a fault of PHP.
        It is left out in check mode.
    type: list
    elements: str
    choices: [static, ping, request, isolation]
    default: []
  sarif:
    description: Return the findings as a SARIF 2.1.0 document too.
    type: bool
    default: false
  junit:
    description: Return the findings as JUnit XML too.
    type: bool
    default: false
  show:
    description:
      - Print the result in the terminal, in 80 columns. V(line) is one line, V(verdict) one screen at most, and V(full)
        has every finding.
    type: str
    choices: [none, line, verdict, full]
    default: none
notes:
  - Run it as root (C(become)). Without, much is V(unknown).
seealso:
  - module: webops.php_stack.gateway_log_info
  - module: webops.php_stack.fpm_pool_facts
  - module: webops.php_stack.nginx_fastcgi_info
  - module: webops.php_stack.fpm_sizing
"""

EXAMPLES = r"""
- name: Say in the terminal why this host answers 502
  webops.php_stack.stack_audit:
    since: 1h
    show: verdict
  become: true

- name: Fail a pipeline if an image holds a high or critical fault
  webops.php_stack.stack_audit:
    root: /srv/images/web
    logs: false
    fail_on: high
    exclude:
      - id: S10
        reason: The port is reachable from the pod's own network only.
  delegate_to: localhost

- name: Audit
  webops.php_stack.stack_audit:
    sarif: true
    junit: true
  become: true
  register: audit

- name: Keep the SARIF file
  ansible.builtin.copy:
    content: "{{ audit.sarif }}"
    dest: "reports/{{ inventory_hostname }}.sarif"
    mode: "0644"
  delegate_to: localhost
"""

RETURN = r"""
verdict:
  description:
    - What is wrong, the most likely cause of failed requests first, then what is critical or high but has not shown in
      the logs.
  returned: always, but for wrong parameters
  type: list
  elements: dict
  contains:
    headline:
      description: One sentence, with places.
      type: str
      sample: "502 on shop.example.com: nginx passes to /run/php/php7.4-fpm.sock, and no pool listens there
        (shop.example.com.conf:9); pool shop (PHP 8.2) listens on unix:/run/php/shop.sock (shop.conf:41)"
    cause:
      description: The cause as M(webops.php_stack.gateway_log_info) names it; V(none) where the logs show no failure.
      type: str
      sample: socket_missing
    count:
      description: Failed requests or events.
      type: int
      sample: 42
    last:
      description: When it was last seen, in ISO 8601.
      type: str
      sample: "2026-11-21T02:28:51+00:00"
    severity:
      description: The severity of the rule.
      type: str
      sample: critical
    evidence:
      description: Places and log lines.
      type: list
      elements: str
      sample: ["fastcgi_pass unix:/run/php/php7.4-fpm.sock (/etc/nginx/sites-enabled/shop.example.com.conf:9)"]
    fix:
      description: What to write or to run.
      type: str
      sample: "fastcgi_pass unix:/run/php/shop.sock;"
    rule:
      description: The id of the rule; V(none) where only the logs speak.
      type: str
      sample: S01
    also:
      description: Further rules that point the same way.
      type: list
      elements: str
      sample: []
findings:
  description:
    - All findings, what fails first, the worst first. A rule that passes for all its subjects is one entry.
  returned: always, but for wrong parameters
  type: list
  elements: dict
  contains:
    id:
      description: The rule.
      type: str
      sample: T04
    severity:
      description: V(critical), V(high), V(medium) or V(low).
      type: str
      sample: high
    status:
      description: V(fail), V(unknown), V(excluded) or V(pass).
      type: str
      sample: fail
    title:
      description: What the rule is about.
      type: str
      sample: A reload cuts requests in flight
    subject:
      description: The site, pool, unit or host that was judged.
      type: str
      sample: PHP-FPM 8.2
    found:
      description: What is there; for V(unknown), what lacks.
      type: str
      sample: "process_control_timeout is 0: every reload answers the requests in flight with 502"
    expected:
      description: What should be there.
      type: str
      sample: longer than most requests take
    evidence:
      description: Places (C(file), C(line)) and measured values (C(text)).
      type: list
      elements: dict
      sample: [{"text": "process_control_timeout is not set", "file": "/etc/php/8.2/fpm/php-fpm.conf", "line": null}]
    confidence:
      description:
        - V(high) for what was read or measured, V(medium) for what follows from what is usual, V(low) for a hint.
      type: str
      sample: medium
    fix:
      description: A snippet to put in, or commands.
      type: str
      sample: "process_control_timeout = 10s"
    can_cause:
      description: Causes, as M(webops.php_stack.gateway_log_info) names them, that it can lead to.
      type: list
      elements: str
      sample: [reload_cut_requests, upstream_reset]
    reason:
      description: Why it was excluded.
      type: str
      sample: ""
not_applicable:
  description: Rules that have nothing to judge on this host.
  returned: always, but for wrong parameters
  type: list
  elements: str
  sample: [C05, S07, S08]
counts:
  description: How many findings there are of each status, and in C(failed) how many of each severity failed.
  returned: always, but for wrong parameters
  type: dict
  sample:
    fail: 9
    unknown: 3
    pass: 25
    excluded: 0
    failed: {"critical": 2, "high": 5, "medium": 1, "low": 1}
causes:
  description: The causes that the logs show, as M(webops.php_stack.gateway_log_info) returns them.
  returned: always, but for wrong parameters
  type: list
  elements: dict
  sample: []
timeline:
  description: Events by time, as M(webops.php_stack.gateway_log_info) returns them. V(none) without logs.
  returned: always, but for wrong parameters
  type: dict
  sample: {"bucket_seconds": 60, "buckets": [], "marks": []}
timeouts:
  description:
    - What ends a request, for each location of nginx that leads to a pool. In each limit, C(value) is in seconds (0 for
      no limit, V(none) where it is not known), and C(file) and C(line) say what sets it; they are V(none) for a default.
  returned: always, but for wrong parameters
  type: list
  elements: dict
  contains:
    site:
      description: The first name of the server.
      type: str
      sample: shop.example.com
    file:
      description: Where the location is.
      type: str
      sample: /etc/nginx/sites-enabled/shop.example.com.conf
    line:
      description: The line of the location.
      type: int
      sample: 7
    pool:
      description: The pool.
      type: str
      sample: shop
    version:
      description: Its PHP version.
      type: str
      sample: "8.2"
    max_execution_time:
      description: PHP's own limit, of CPU time on Linux.
      type: dict
      sample: {"value": 30, "file": "/etc/php/8.2/fpm/php.ini", "line": 409}
    request_terminate_timeout:
      description: When PHP-FPM ends the request.
      type: dict
      sample: {"value": 0, "file": null, "line": null}
    fastcgi_read_timeout:
      description: How long nginx waits for the answer, or for more of it.
      type: dict
      sample: {"value": 60.0, "file": null, "line": null}
    fastcgi_send_timeout:
      description: How long nginx waits for the pool to take the request, or more of it.
      type: dict
      sample: {"value": 60.0, "file": null, "line": null}
probes:
  description: What the probes of O(probe) showed, from the visitor to PHP.
  returned: always, but for wrong parameters
  type: list
  elements: dict
  contains:
    kind:
      description: V(static), V(ping), V(request) or V(isolation).
      type: str
      sample: isolation
    subject:
      description: The site, pool or address that was asked.
      type: str
      sample: pool blog (PHP 8.2)
    ok:
      description: Whether it answered; V(none) where the probe could not be made.
      type: bool
      sample: true
    found:
      description: What came back, or why it was not made.
      type: str
      sample: "the same settings answer on a TCP port of their own; its own socket does not: the fault is the socket
        (path, rights, queue), not PHP"
limits:
  description: What could not be looked at.
  returned: always, but for wrong parameters
  type: list
  elements: str
  sample: ["/var/log/nginx/error.log: Permission denied"]
line:
  description: How much is wrong, and the worst of it, in one line.
  returned: always, but for wrong parameters
  type: str
  sample: "no problem found"
text:
  description: The verdict as text in 80 columns, one screen at most.
  returned: always, but for wrong parameters
  type: str
  sample: "nginx + PHP-FPM: no problem found"
details:
  description: Verdict and all findings as text in 80 columns.
  returned: always, but for wrong parameters
  type: str
  sample: "nginx + PHP-FPM: no problem found"
sarif:
  description: The findings as a SARIF 2.1.0 document. Paths are relative to O(root).
  returned: with O(sarif=true)
  type: str
  sample: '{"version": "2.1.0", "runs": []}'
junit:
  description: The findings as JUnit XML. V(unknown) and V(excluded) count as skipped.
  returned: with O(junit=true)
  type: str
  sample: '<testsuites name="webops.php_stack"/>'
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.webops.php_stack.plugins.module_utils import audit
from ansible_collections.webops.php_stack.plugins.module_utils.boundary import run_module


def main() -> None:
    logs = {name: {"type": "list", "elements": "str"} for name in audit.LOG_OPTIONS}
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/"},
            "exclude": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "id": {"type": "str", "required": True},
                    "reason": {"type": "str", "required": True},
                },
            },
            "fail_on": {
                "type": "str",
                "default": "never",
                "choices": ["never", "critical", "high", "medium", "low"],
            },
            "connect": {"type": "bool", "default": True},
            "logs": {"type": "bool", "default": True},
            **logs,
            "since": {"type": "str", "default": "1d"},
            "until": {"type": "str"},
            "time_zone": {"type": "str"},
            "deploy_scripts": {"type": "list", "elements": "str", "default": []},
            "probe": {
                "type": "list",
                "elements": "str",
                "choices": ["static", "ping", "request", "isolation"],
                "default": [],
            },
            "sarif": {"type": "bool", "default": False},
            "junit": {"type": "bool", "default": False},
            "show": {"type": "str", "default": "none", "choices": ["none", "line", "verdict", "full"]},
        },
        supports_check_mode=True,
    )
    run_module(module, lambda this: audit.run(this.params, this.check_mode))


if __name__ == "__main__":
    main()
