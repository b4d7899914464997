# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unit tests import the checkout as the installed collection (see tests/venv.sh)."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import settings

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / ".ansible/collections"))
# The same examples in every run, so that a red suite is red again; and no limit on the time of
# one example, which says something about the machine's load only.
settings.register_profile("suite", derandomize=True, deadline=None)
settings.load_profile("suite")
