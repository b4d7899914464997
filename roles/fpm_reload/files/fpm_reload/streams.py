# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Standard streams that a caller has closed, or that nobody reads any more."""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO

_ENOUGH_BYTES = 1 << 20


def open_all() -> None:
    """Make standard output and error that keep all until flush_all(), so that nothing said fails before.

    No closed stream's number goes to a file that is opened later, such as a lock.
    """
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(handle)
    sys.stdout, sys.stderr = _kept(1), _kept(2)


def _kept(number: int) -> TextIO:
    binary = os.fdopen(number, "wb", buffering=_ENOUGH_BYTES, closefd=False)
    return io.TextIOWrapper(binary, encoding="utf-8", errors="backslashreplace")


def flush_all() -> None:
    """Write out what was said; what cannot be written (a closed pipe, a full disk) goes nowhere."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
