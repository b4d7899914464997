# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The marker by which config_transaction says that a unit is to be reloaded."""

from __future__ import annotations

import contextlib
import os

FOLDER = "/var/lib/php_stack/due"


def forget(unit: str, folder: str = FOLDER) -> None:
    """Remove the unit's marker, after a reload that has read all. Hold config.lock, shared or not."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.unlink(os.path.join(folder, unit))
