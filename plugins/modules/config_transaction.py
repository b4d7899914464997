#!/usr/bin/python
# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: config_transaction
short_description: Change many configuration files as one, all or none
version_added: 0.1.0
author:
  - The webops.php_stack maintainers (@webops)
description:
  - Brings a set of files, links and directories to the host in one call, swaps them in atomically, and lets
    validators such as C(php-fpm -t) and C(nginx -t) judge the whole tree.
  - When a validator says no, every old byte, owner, mode and link goes back, and the task fails with the validator's
    own words.
  - Old bytes are kept in a journal on the disk while the tree changes. A run that is killed at any instant is
    undone, or finished, by the next run of this module, whatever transaction that run is for.
extends_documentation_fragment:
  - webops.php_stack.attributes
attributes:
  check_mode:
    support: full
    details:
      - Predicts the same changes and shows the same diff. Validators do not run, since the files are not there.
      - Missing directories, users and groups are no mistakes in check mode, since earlier tasks may make them.
  diff_mode:
    support: full
  idempotent:
    support: full
  action:
    description: Has an action plugin of the same name, so a part of the work is done on the controller.
    support: full
    details:
      - Templates are rendered on the controller, so that all files travel in one call.
options:
  name:
    description:
      - Names the transaction's journal and the set of files that it manages.
      - Each file gets a marker line with this name, see O(files[].comment).
    type: str
    required: true
  files:
    description: The files and links. All mistakes in them are reported at once, before anything changes.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description:
          - Absolute path. Each file may be named once.
          - When O(files[].state=present) and the path is a symbolic link, the link stays and the file that it leads
            to changes. A link that leads nowhere is refused.
        type: str
        required: true
      state:
        description:
          - V(present) makes a file with this content, V(link) a symbolic link to O(files[].target), V(absent)
            removes a file or link. A directory in the way is always refused.
        type: str
        choices: [present, absent, link]
        default: present
      content:
        description: The content. Give this or O(files[].template).
        type: str
      template:
        description:
          - A Jinja2 template on the controller, found as M(ansible.builtin.template) finds it, in the role's
            C(templates) first. Blocks are trimmed as there.
        type: str
      vars:
        description: Variables for this template only; they win over the play's.
        type: dict
        default: {}
      target:
        description: Where the link leads, written into the link as it is.
        type: str
      owner:
        description: Name or id of the owner. Left out, an existing file keeps its own and a new one belongs to root.
        type: str
      group:
        description: Name or id of the group. Left out, an existing file keeps its own and a new one belongs to root.
        type: str
      mode:
        description: Octal digits in quotes. Left out, an existing file keeps its own and a new one gets V("0644").
        type: raw
      comment:
        description:
          - Sign that begins a comment line in this file. The marker line starts with it.
          - The marker is the first line, or the second one after a C(#!) line.
          - An empty text writes no marker. Without one the module cannot know the file again, so it is never removed
            as stale and its first bytes are not kept.
        type: str
        default: "#"
      sensitive:
        description: Hides the content in the diff.
        type: bool
        default: false
  directories:
    description:
      - Directories to make first, with what is missing above them, and to remove again when the change is undone.
      - Where owner, group or mode are given, an existing directory gets them too.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path.
        type: str
        required: true
      owner:
        description: Name or id of the owner; root for a new directory.
        type: str
      group:
        description: Name or id of the group; root for a new directory.
        type: str
      mode:
        description: Octal digits in quotes; V("0755") for a new directory.
        type: raw
  manage:
    description:
      - Directories that this transaction keeps free of its own stale files. A file that carries this transaction's
        marker is removed when O(files) does not name it, and with it the links here that lead to it. Other files and
        links are never touched; to remove a link alone, name it with V(absent).
    type: list
    elements: dict
    default: []
    aliases: [managed_dirs]
    suboptions:
      dir:
        description: Absolute path of the directory.
        type: str
        required: true
      pattern:
        description: Which names to look at.
        type: str
        default: "*.conf"
  adopt:
    description:
      - Whether a file that exists without the marker of this collection may be replaced or removed.
      - If so, its bytes are kept under C(/var/lib/php_stack/originals) followed by its path, once, and the result
        names it in RV(adopted). A later version that somebody put there is kept beside it.
      - With V(false) the task fails and names all such files.
    type: bool
    default: true
  validate:
    description:
      - Commands that judge the changed tree. All of them run, and all failures are reported.
      - They do not run when nothing changes, nor in check mode.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What to call it in messages.
        type: str
        required: true
      command:
        description: The program and its arguments; no shell is involved.
        type: list
        elements: str
        required: true
      when_changed:
        description:
          - Globs of paths. The command runs only when a changed path matches one of them. V(*) matches V(/) too.
        type: list
        elements: str
        default: []
      rc_ok:
        description: Return codes that mean yes.
        type: list
        elements: int
        default: [0]
      timeout:
        description: Seconds after which the command has failed.
        type: float
        default: 60
      optional:
        description: Skip the command where its program is missing. Otherwise that is a failure.
        type: bool
        default: false
  due:
    description:
      - Work that a change leaves to be done on the host, such as a reload. Before the change can be seen, a marker of
        each piece of work is on the disk, under C(/var/lib/php_stack/due). It goes when the work was done, see
        O(done).
      - A run that ends between the change and the work leaves the marker behind. The next run of any transaction that
        names this work then returns it in RV(due) and is changed, so that its handler is notified again.
      - C(php-fpm-reload), which the role C(fpm_reload) installs, removes the marker of the unit that it has reloaded.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What is to be done, such as V(php8.2-fpm), V(nginx) or V(daemon-reload).
        type: str
        required: true
      when_changed:
        description: Globs of paths, as in O(validate[].when_changed). The work is due when a changed path matches.
        type: list
        elements: str
        default: []
  done:
    description:
      - Work that was done, as RV(due) told it. Its markers are removed, unless another change has made it due again.
      - A handler calls the module with this alone, once its reload has succeeded. Does nothing in check mode, and is
        no change of the host's configuration.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What was done.
        type: str
        required: true
      id:
        description: Which marker stood for it.
        type: str
        required: true
      earlier:
        description: Not looked at; it is there so that RV(due) can be given as it is.
        type: bool
  validate_always:
    description: Run the validators also when nothing changes.
    type: bool
    default: false
  lock_timeout:
    description: Seconds to wait for another transaction or reload to end.
    type: float
    default: 300
notes:
  - Needs root.
  - Transactions take turns through C(/run/lock/php_stack/config.lock), a blocking flock in a folder that only root
    can write. Whatever reloads the services should hold the same lock.
  - The journal is in C(/var/lib/php_stack/transactions), for root alone.
  - Extended attributes, ACLs and the SELinux label of a replaced file are kept; a new file gets the policy's default
    label.
seealso:
  - module: ansible.builtin.template
"""

EXAMPLES = r"""
- name: Write all pools, remove those that are gone, and keep none of it if php-fpm says no
  webops.php_stack.config_transaction:
    name: php_fpm
    files:
      - path: /etc/php/8.2/fpm/pool.d/shop.conf
        template: pool.conf.j2
        vars:
          pool: {name: shop, user: shop}
        comment: ";"
    manage:
      - dir: /etc/php/8.2/fpm/pool.d
    validate:
      - name: php-fpm 8.2
        command: [php-fpm8.2, -t]
        when_changed: [/etc/php/8.2/*]

- name: Put a site in place of the distribution's default one
  webops.php_stack.config_transaction:
    name: nginx_php
    files:
      - path: /etc/nginx/sites-available/shop.conf
        content: "server { listen 80; server_name shop.example.com; root /srv/shop; }\n"
      - path: /etc/nginx/sites-enabled/shop.conf
        state: link
        target: ../sites-available/shop.conf
      - path: /etc/nginx/sites-enabled/default
        state: absent
    validate:
      - name: nginx
        command: [nginx, -t]
    due:
      - name: nginx
  register: written
  notify: Reload nginx

# The handler's tasks, in this order: the marker goes only where the reload has succeeded.
- name: Reload nginx
  ansible.builtin.service:
    name: nginx
    state: reloaded

- name: Note that nginx was reloaded
  webops.php_stack.config_transaction:
    name: nginx_php
    done: "{{ written.due }}"
"""

RETURN = r"""
changes:
  description:
    - What changed, or in check mode would change, in the order in which it happens. The action is C(created),
      C(changed), C(mode) (owner, group or mode only), C(linked) or C(removed).
    - C(real_path) is there when the file was reached through a link.
  returned: success
  type: list
  elements: dict
  sample:
    - action: created
      path: /etc/php/8.2/fpm/pool.d/shop.conf
    - action: changed
      path: /etc/php/8.2/fpm/pool.d/www.conf
    - action: removed
      path: /etc/nginx/sites-enabled/default
changed_paths:
  description: Every path that changed, those of a finished or undone earlier run included, to decide what to reload.
  returned: success
  type: list
  elements: str
  sample:
    - /etc/php/8.2/fpm/pool.d/shop.conf
    - /etc/php/8.2/fpm/pool.d/www.conf
    - /etc/nginx/sites-enabled/default
adopted:
  description: Files without our marker that were replaced or removed, and whose bytes are kept.
  returned: success
  type: list
  elements: str
  sample: [/etc/php/8.2/fpm/pool.d/www.conf]
recovered:
  description:
    - Interrupted runs that this run finished. The outcome is C(rolled_back), C(committed) (the run had ended, but
      nobody heard of its changes) or, in check mode, C(pending).
    - C(kept) names paths that somebody changed after the interruption, and which were therefore left alone.
  returned: always, once the request itself is sound
  type: list
  elements: dict
  sample:
    - kept: []
      name: php_fpm
      outcome: rolled_back
      paths: [/etc/php/8.2/fpm/pool.d/half.conf]
due:
  description:
    - Work named in O(due) that is to be done now, or in check mode would be. With C(earlier) it was due before this run
      already, and the run is changed for that alone.
    - C(id) is the marker's.
  returned: success
  type: list
  elements: dict
  sample:
    - earlier: false
      id: 3f2a9c1be07d5586
      name: php8.2-fpm
validators:
  description: What each validator that ran said. C(error) tells why one could not run.
  returned: success, or when a validator failed
  type: list
  elements: dict
  sample:
    - command: [php-fpm8.2, -t]
      error: ""
      name: php-fpm
      rc: 0
      stderr: "[21-Nov-2026 03:58:10] NOTICE: configuration file /etc/php/8.2/fpm/php-fpm.conf test is successful\n\n"
      stdout: ""
validators_skipped:
  description: Names of the validators that did not run.
  returned: success
  type: list
  elements: str
  sample: []
invalid_before:
  description: Failed validators that reject the old configuration too.
  returned: when a validator failed
  type: list
  elements: str
  sample: [php-fpm]
diff:
  description: One item a changed path, and one more where owner, group or mode change.
  returned: success, in diff mode
  type: list
  elements: dict
  sample:
    - after: "; Managed by webops.php_stack (php_fpm): changes here are lost.\n; hi\n"
      after_header: /etc/php/8.2/fpm/extra/x.conf
      before: ""
      before_header: /etc/php/8.2/fpm/extra/x.conf
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.webops.php_stack.plugins.module_utils.boundary import run_module
from ansible_collections.webops.php_stack.plugins.module_utils.transaction_request import (
    ARGUMENT_SPEC,
    run_request,
)


def main():
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    run_module(module, run_request)


if __name__ == "__main__":
    main()
