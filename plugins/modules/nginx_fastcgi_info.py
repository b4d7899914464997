#!/usr/bin/python
# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nginx_fastcgi_info
short_description: Show every nginx location that reaches PHP, and what is in force there
version_added: 0.1.0
description:
  - Reads nginx's configuration as nginx does and returns each location that passes requests to FastCGI, with
    its targets (through upstreams, C(map), C(set) and variables), timeouts, buffers, parameters, root and access rules.
  - Every value says which file and line set it, or that it is nginx's default. Inheritance is nginx's own.
    For example, one C(fastcgi_param) in a location drops all those of the server, and C(try_files) is inherited nowhere.
  - A value that only a request can decide is marked so. It is never guessed.
  - A broken configuration is read as well as possible. What nginx would refuse is in RV(errors), the rest still comes back.
  - It reads the files on disk. A running nginx may still hold an older configuration, until it is reloaded.
options:
  config:
    description:
      - nginx's main file.
      - Without it, the command line of a running master decides, then what was compiled into the program
        (C(nginx -V)), then the usual places.
      - The file may also be a part of a configuration, such as a site file. RV(errors) then says how it was read.
    type: path
  prefix:
    description:
      - nginx's prefix, which relative paths of C(root) and logs are resolved against.
      - Without it, the running master or the program decide.
    type: path
  root:
    description:
      - Read this tree (an image, a backup, an etckeeper checkout) instead of the host. Nothing is run then.
      - A copy of C(/etc) or of C(/etc/nginx) alone is understood, too. Files keep the names that they have on the host.
    type: path
    default: /
  dump:
    description:
      - The output of C(nginx -T) as text, for example from a registered variable. Nothing else is read then.
    type: str
  dump_path:
    description:
      - A file with the output of C(nginx -T). It is looked up below O(root).
    type: path
extends_documentation_fragment:
  - webops.php_stack.attributes
  - webops.php_stack.attributes.read_only
notes:
  - Run it as root where configuration files are not readable for everybody. A file that cannot be read is in RV(errors).
  - On a tree and for a dump the page size, nginx's default for buffers, is taken as 4096 bytes.
author:
  - The webops.php_stack maintainers (@webops)
"""

EXAMPLES = r"""
- name: Look at nginx's side
  webops.php_stack.nginx_fastcgi_info:
  register: web

- name: Refuse timeouts below five minutes
  ansible.builtin.assert:
    that: item.settings.fastcgi_read_timeout.value >= 300
    fail_msg: "{{ item.title }} in {{ item.file }}:{{ item.line }} waits only
      {{ item.settings.fastcgi_read_timeout.value }} s"
  loop: "{{ web.locations }}"
  loop_control:
    label: "{{ item.server_names | join(' ') }} {{ item.title }}"

- name: Read a backup
  webops.php_stack.nginx_fastcgi_info:
    root: /srv/backup/web1

- name: Read what nginx says that it would run with
  webops.php_stack.nginx_fastcgi_info:
    dump: "{{ nginx_t.stdout }}"
"""

RETURN = r"""
nginx:
  description:
    - nginx as a whole. Entries with C(file) and C(line) say where a value was set. C(default) is true where
      nothing sets it, and both are V(null) then.
  returned: success
  type: dict
  contains:
    source:
      description: What was read, V(host), V(tree) or V(dump).
      type: str
      sample: host
    config:
      description: The main file.
      type: str
      sample: /etc/nginx/nginx.conf
    files:
      description: All files read, in nginx's order.
      type: list
      elements: str
      sample: [/etc/nginx/nginx.conf, /etc/nginx/mime.types, /etc/nginx/sites-enabled/shop.conf, /etc/nginx/fastcgi_params]
    prefix:
      description: What relative paths are resolved against. V(null) if not known.
      type: str
      sample: /usr/share/nginx
    binary:
      description: nginx's program. V(null) if none was found.
      type: str
      sample: /usr/sbin/nginx
    version:
      description: The program's version. V(null) if not known.
      type: str
      sample: nginx/1.22.1
    masters:
      description:
        - The masters that run on this host, without those of other containers. C(config) and C(prefix) are those of
          the command line, if it has any.
      type: list
      elements: dict
      sample: [{"pid": 47, "binary": "/usr/sbin/nginx", "config": null, "prefix": null, "worker_users": ["www-data"]}]
    worker_user:
      description: Who the workers run as by the configuration or the program's default. C(name) is V(null) if not known.
      type: dict
      sample: {"name": "www-data", "group": "www-data", "file": "/etc/nginx/nginx.conf", "line": 1, "default": false}
    worker_processes:
      description: A number, or V(auto).
      type: dict
      sample: {"value": "auto", "file": "/etc/nginx/nginx.conf", "line": 2, "default": false}
    worker_connections:
      description: Connections of one worker.
      type: dict
      sample: {"value": 768, "file": "/etc/nginx/nginx.conf", "line": 8, "default": false}
    worker_rlimit_nofile:
      description: The limit of open files that nginx sets. C(value) is V(null) where it sets none.
      type: dict
      sample: {"value": null, "file": null, "line": null, "default": true}
    pid:
      description: The file with the master's process id.
      type: dict
      sample: {"value": "/run/nginx.pid", "file": "/etc/nginx/nginx.conf", "line": 3, "default": false}
    error_log:
      description: The global error logs. C(path) is V(null) for standard error, syslog and memory.
      type: list
      elements: dict
      sample:
        - value: /var/log/nginx/error.log
          path: /var/log/nginx/error.log
          level: error
          file: /etc/nginx/nginx.conf
          line: 4
          default: false
servers:
  description: All servers, also those without PHP. A server without C(server_name) has the name V("").
  returned: success
  type: list
  elements: dict
  sample:
    - server_names: [shop.example.com]
      listen: [{"address": "*:80", "parameters": [], "file": "/etc/nginx/sites-enabled/shop.conf", "line": 6, "default": false}]
      file: /etc/nginx/sites-enabled/shop.conf
      line: 5
locations:
  description:
    - One entry for each place that hands requests to FastCGI, in the order of the configuration. Besides locations
      these are C(if) blocks, with a C(fastcgi_pass) of their own or their location's, unless they return.
  returned: success
  type: list
  elements: dict
  contains:
    server_names:
      description: Names of its server.
      type: list
      elements: str
      sample: [shop.example.com]
    listen:
      description: Addresses of its server.
      type: list
      elements: str
      sample: ["*:80"]
    server_file:
      description: The file of its server.
      type: str
      sample: /etc/nginx/sites-enabled/shop.conf
    server_line:
      description: The line of its server.
      type: int
      sample: 5
    title:
      description: The block's first line.
      type: str
      sample: location ~ \.php$
    kind:
      description: V(location) or V(if).
      type: str
      sample: location
    modifier:
      description: The location's modifier, one of V(=), V(~), V(~*), V(^~), V(@) for a named location, and V("").
      type: str
      sample: "~"
    match:
      description: The location's path, regular expression or name.
      type: str
      sample: \.php$
    inside:
      description: Titles of the blocks around it, from outside to inside.
      type: list
      elements: str
      sample: []
    file:
      description: The block's file.
      type: str
      sample: /etc/nginx/sites-enabled/shop.conf
    line:
      description: The block's line.
      type: int
      sample: 15
    fastcgi_pass:
      description: The directive. C(inherited) is true in an C(if) that takes over its location's.
      type: dict
      sample: {"value": "php", "file": "/etc/nginx/sites-enabled/shop.conf", "line": 20, "inherited": false}
    targets:
      description: Every place that requests can go to.
      type: list
      elements: dict
      contains:
        kind:
          description: V(unix), V(tcp), or V(variable) for a text that only a request can complete.
          type: str
          sample: unix
        address:
          description: V(unix:/path), V(host:port), or the text with its variables. Hosts are in lower case, IPv6 in brackets.
          type: str
          sample: unix:/run/php/php8.2-fpm.sock
        via:
          description: The upstream that it is a server of.
          type: str
          sample: php
        resolved:
          description:
            - V(config) if the configuration alone decides.
            - V(request) if a request chooses, for example through a C(map), among this and other targets.
            - V(unknown) if it is neither an address nor the name of an upstream.
          type: str
          sample: config
        backup:
          description: It is a backup server of its upstream.
          type: bool
          sample: false
        down:
          description: It is marked C(down) in its upstream.
          type: bool
          sample: false
    settings:
      description:
        - The directives in force, by name. C(value) is in seconds for durations, in bytes for sizes, V(true) or
          V(false) for switches, C(number) and C(size_bytes) for buffers, and V(null) where nothing is set or the text
          is not valid. C(level) is the kind of block that sets it.
        - A C(client_max_body_size) of V(0), C(fastcgi_next_upstream_tries) of V(0) and
          C(fastcgi_next_upstream_timeout) of V(0) mean no limit.
        - Always there are C(client_body_timeout), C(client_header_buffer_size), C(client_header_timeout),
          C(client_max_body_size), C(fastcgi_buffer_size), C(fastcgi_buffering), C(fastcgi_buffers),
          C(fastcgi_busy_buffers_size), C(fastcgi_cache), C(fastcgi_connect_timeout), C(fastcgi_ignore_client_abort),
          C(fastcgi_index), C(fastcgi_intercept_errors), C(fastcgi_keep_conn), C(fastcgi_max_temp_file_size),
          C(fastcgi_next_upstream), C(fastcgi_next_upstream_timeout), C(fastcgi_next_upstream_tries),
          C(fastcgi_pass_request_body), C(fastcgi_pass_request_headers), C(fastcgi_read_timeout),
          C(fastcgi_request_buffering), C(fastcgi_send_timeout), C(fastcgi_split_path_info), C(index),
          C(keepalive_timeout), C(large_client_header_buffers), C(resolver), C(resolver_timeout) and C(send_timeout).
      type: dict
      sample:
        fastcgi_read_timeout:
          value: 305
          default: false
          file: /etc/nginx/sites-enabled/shop.conf
          line: 19
          level: location
        fastcgi_buffers: {"value": {"number": 8, "size_bytes": 4096}, "default": true, "file": null, "line": null, "level": null}
    params:
      description: What is sent to PHP besides the client's headers, in order. Of two with one name PHP sees the last.
      type: list
      elements: dict
      sample:
        - name: SCRIPT_FILENAME
          value: $realpath_root$fastcgi_script_name
          if_not_empty: false
          file: /etc/nginx/sites-enabled/shop.conf
          line: 18
    root:
      description: The C(root) or C(alias) in force. C(path) is absolute, where the prefix is known.
      type: dict
      sample:
        directive: root
        value: /var/www/shop/public
        path: /var/www/shop/public
        level: server
        file: /etc/nginx/sites-enabled/shop.conf
        line: 8
        default: false
    try_files:
      description: The block's own C(try_files), V(null) if it has none. nginx inherits it nowhere.
      type: dict
      sample: {"value": ["$uri", "=404"], "file": "/etc/nginx/sites-enabled/shop.conf", "line": 16}
    error_pages:
      description: The C(error_page) directives in force.
      type: list
      elements: dict
      sample: []
    error_log:
      description: The error logs in force, as in RV(nginx.error_log).
      type: list
      elements: dict
      sample: [{"value": "/var/log/nginx/error.log", "path": "/var/log/nginx/error.log", "level": "error",
        "file": "/etc/nginx/nginx.conf", "line": 4, "default": false}]
    access:
      description:
        - Who may ask. C(rules) are the C(allow) and C(deny) in force, in their order, of which the first match decides.
          C(internal) is true where no client can ask, because of C(internal) or a named location.
      type: dict
      sample: {"rules": [], "internal": false, "auth_basic": null, "auth_request": null, "satisfy": all}
    reached_from:
      description:
        - The C(try_files) and C(error_page) of its server that send requests here. Those whose target depends on
          variables are left out.
      type: list
      elements: dict
      sample: [{"kind": "try_files", "uri": "/index.php?$query_string", "codes": [],
        "file": "/etc/nginx/sites-enabled/shop.conf", "line": 12}]
upstreams:
  description:
    - All upstreams. C(fail_timeout) is in seconds. C(max_fails) of V(0) means that a server is never taken out.
      C(keepalive) is the number of idle connections, V(null) for none.
  returned: success
  type: list
  elements: dict
  sample:
    - name: php
      file: /etc/nginx/sites-enabled/shop.conf
      line: 1
      method: round_robin
      keepalive: null
      zone: null
      used_by_fastcgi: true
      servers:
        - kind: unix
          address: unix:/run/php/php8.2-fpm.sock
          file: /etc/nginx/sites-enabled/shop.conf
          line: 2
          weight: 1
          max_fails: 0
          fail_timeout: 10
          max_conns: 0
          backup: false
          down: false
          resolve: false
errors:
  description: What nginx would refuse, and what could not be read.
  returned: success
  type: list
  elements: dict
  sample:
    - message: '"fastcgi_pass php": no upstream has this name, and it is no address (no port)'
      file: /etc/nginx/sites-enabled/shop.conf
      line: 20
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
        mutually_exclusive=[("dump", "dump_path", "config")],
        supports_check_mode=True,
    )
    run_module(module, lambda this: gather(**this.params))


if __name__ == "__main__":
    main()
