# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The isolation test: the settings of a pool on a TCP port of this machine, for a moment.

If the pool answers there and not on its own socket, the socket is at fault; if
it answers in neither place, PHP or the pool's settings are. A second master
with one worker is started for it, and removed whatever happens.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.fastcgi import Address, FastcgiError, request
from ansible_collections.webops.php_stack.plugins.module_utils.host import Host

_SECONDS = 5.0
_PR_SET_PDEATHSIG = 1
# What must not be shared with the real pool, or is replaced below.
_LEFT_OUT = ("listen", "pm", "slowlog", "access.", "ping.", "request_slowlog", "process.priority")


def config(pool: dict[str, Any], port: int, folder: str) -> str:
    """The configuration of the second master: the pool's own lines, on another address, with one worker."""
    lines = ["[global]", f"error_log = {folder}/log", "daemonize = no", f"[{pool['name']}]"]
    for name, setting in pool["directives"].items():
        if setting["default"] or setting["file"] is None or name.startswith(_LEFT_OUT):
            continue
        value = setting.get("unresolved") or setting["value"]
        if isinstance(value, bool):
            value = "yes" if value else "no"
        if value is None or "\n" in str(value):
            continue
        quoted = f'"{value}"' if isinstance(value, str) and '"' not in value else value
        lines.append(f"{name} = {quoted}")
    lines += [f"listen = 127.0.0.1:{port}", "pm = static", "pm.max_children = 1", "ping.path = /ping"]
    return "\n".join([*lines, ""])


def run(host: Host, pool: dict[str, Any], binary: str) -> tuple[bool, str]:
    """(whether the pool answered alone, what came of it in words)."""
    folder = tempfile.mkdtemp(prefix="php-stack-isolation-")
    process: subprocess.Popen[bytes] | None = None
    try:
        port = _free_port()
        path = os.path.join(folder, "fpm.conf")
        with open(path, "w", encoding="utf-8", errors="surrogateescape") as handle:
            handle.write(config(pool, port, folder))
        tested = host.run([binary, "--test", "--fpm-config", path])
        if tested.rc != 0:
            return (
                False,
                f"PHP-FPM refuses the pool's settings: {_last(tested.stderr or tested.error, folder)}",
            )
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("FPM_", "LISTEN_"))
        }
        process = subprocess.Popen(
            [binary, "--nodaemonize", "--fpm-config", path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        return _ask(process, port, os.path.join(folder, "log"))
    finally:
        if process is not None:
            _end(process)
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _die_with_parent() -> None:
    """SIGTERM, for the master to take its worker along, when this process is killed."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _ask(process: subprocess.Popen[bytes], port: int, log: str) -> tuple[bool, str]:
    address = Address("tcp", host="127.0.0.1", port=port)
    params = {
        "SCRIPT_NAME": "/ping",
        "SCRIPT_FILENAME": "/ping",
        "REQUEST_METHOD": "GET",
        "REQUEST_URI": "/ping",
    }
    deadline = time.monotonic() + _SECONDS
    words = "it did not start to listen"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return False, f"PHP-FPM with the pool's settings ended at once: {_tail(log)}"
        try:
            answer = request(address, params, connect_timeout=1.0, read_timeout=_SECONDS)
        except FastcgiError as error:
            words = str(error)
            if error.kind != "refused":
                break
            # Not listening yet; there is nothing to wait on but time.
            select.select([], [], [], 0.05)
            continue
        if answer.status == 200:
            return True, "the same settings answer on a TCP port of their own"
        return False, f"the same settings answer {answer.status} on a TCP port of their own"
    return False, f"the same settings do not answer on a TCP port of their own either: {words}"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the master, then whatever is left of its session."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _tail(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            return _last(handle.read(), "")
    except OSError:
        return "it left no log"


def _last(text: str, folder: str) -> str:
    """The first error of some output, without the temporary folder in it."""
    lines = [line for line in text.splitlines() if line.strip()]
    chosen = next(
        (line for line in lines if "ERROR" in line or "ALERT" in line), lines[-1] if lines else "no words"
    )
    return chosen.replace(folder, "") if folder else chosen
