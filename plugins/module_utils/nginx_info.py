# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""nginx's side of a host, a tree or a dump, as one result: joins the port and the pure core."""

from __future__ import annotations

import dataclasses
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.boundary import StackError
from ansible_collections.webops.php_stack.plugins.module_utils.host import Host
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_fastcgi import Build, describe
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_host import HostReader, find
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_tree import DumpReader, load


def gather(
    root: str = "/",
    config: str | None = None,
    prefix: str | None = None,
    dump: str | None = None,
    dump_path: str | None = None,
) -> dict[str, Any]:
    """What the module nginx_fastcgi_info returns.

    :raises StackError: there is no nginx configuration, or the dump is none.
    """
    host = Host(root)
    if not host.is_dir("/"):
        raise StackError(
            f"root={root} is no directory. Give the top directory of a tree, the one that holds etc/."
        )
    if dump is not None or dump_path is not None:
        return _from_dump(host, dump, dump_path, prefix)
    nginx = find(host, config, prefix)
    if nginx.config is None:
        where = "on this host" if host.live else f"in {host.root}"
        raise StackError(
            f"No nginx was found {where}: no running master, no nginx program, no nginx.conf in the usual places."
            " Give its main file with config=PATH."
        )
    reader = HostReader(host, nginx.top)
    try:
        reader.read(nginx.config)
    except OSError as error:
        raise StackError(
            f"{nginx.config} cannot be read{'' if host.live else f' in {host.root}'}: {error.strerror}. Give nginx's"
            " main file with config=PATH."
        ) from error
    tree = load(nginx.config, reader)
    result = describe(tree, nginx.built)
    result["nginx"].update(
        source="host" if host.live else "tree",
        config=nginx.config,
        prefix=nginx.built.prefix,
        binary=nginx.binary,
        version=nginx.version,
        masters=[dataclasses.asdict(master) for master in nginx.masters],
        files=tree.files,
    )
    return {"changed": False, **result}


def _from_dump(host: Host, dump: str | None, dump_path: str | None, prefix: str | None) -> dict[str, Any]:
    if dump is None:
        path = str(dump_path)
        try:
            dump = host.read_text(path)
        except OSError as error:
            raise StackError(f"dump_path={path} cannot be read: {error.strerror}") from error
    try:
        reader = DumpReader(dump)
    except ValueError as error:
        raise StackError(str(error)) from error
    tree = load(reader.main, reader)
    result = describe(tree, Build(prefix=prefix))
    result["nginx"].update(
        source="dump",
        config=reader.main,
        prefix=prefix,
        binary=None,
        version=None,
        masters=[],
        files=tree.files,
    )
    return {"changed": False, **result}
