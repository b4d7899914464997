# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Any set of changes: undone it leaves no trace, applied it is what was planned, applied again it is nothing."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.webops.php_stack.plugins.module_utils.boundary import StackError
from ansible_collections.webops.php_stack.plugins.module_utils.transaction_diff import diff_of
from ansible_collections.webops.php_stack.plugins.module_utils.transaction_fs import FileSystem
from ansible_collections.webops.php_stack.plugins.module_utils.transaction_observe import observe
from ansible_collections.webops.php_stack.plugins.module_utils.transaction_plan import (
    DIRECTORY,
    DirectoryWish,
    FileWish,
    ManagedDir,
    Request,
    plan,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transaction_tools import NO, YES, Place, Recording, snapshot

NAMES = ["a.conf", "b.conf", "c", "d/a.conf", "d/b.conf", "new/x.conf", "new/deep/y.conf"]
MARKER = b"# Managed by webops.php_stack (test): changes here are lost.\n"
TEXT = st.one_of(st.binary(max_size=30), st.binary(max_size=9).map(lambda data: MARKER + data))
MODES = ["0600", "0640", "0644", "0755", "0400", "4711"]
HERE = st.one_of(
    st.tuples(st.just("file"), TEXT, st.sampled_from(MODES)),
    st.tuples(st.just("link"), st.sampled_from(["c", "a.conf", "nowhere", "d/a.conf"]), st.none()),
)
PRESENT = st.builds(
    dict,
    state=st.just("present"),
    content=TEXT,
    mode=st.one_of(st.none(), st.sampled_from(MODES)),
    comment=st.sampled_from(["#", ";", ""]),
)
LINK = st.builds(dict, state=st.just("link"), target=st.sampled_from(["c", "nowhere", "../x"]))
WISH = st.one_of(PRESENT, LINK, st.just({"state": "absent"}))


@st.composite
def cases(draw: Any) -> tuple[dict[str, Any], dict[str, Any], bool]:
    here = draw(st.dictionaries(st.sampled_from(NAMES[:5]), HERE, max_size=5))
    wishes = draw(st.dictionaries(st.sampled_from(NAMES), WISH, max_size=6))
    return here, wishes, draw(st.booleans())


def build(base: Path, here: dict[str, Any], wishes: dict[str, Any], manage: bool) -> tuple[Place, Request]:
    place = Place(base)
    (place.etc / "d").mkdir()
    for name, (kind, value, mode) in here.items():
        path = place.etc / name
        if kind == "link":
            path.symlink_to(value)
        else:
            path.write_bytes(value)
            path.chmod(int(mode, 8))
    return place, Request(
        "test",
        tuple(FileWish(place.path(name), **wish) for name, wish in wishes.items()),
        directories=(
            DirectoryWish(place.path("new/deep"), mode="0710"),
            DirectoryWish(place.path("d"), mode="0751"),
        ),
        manage=(ManagedDir(str(place.etc)), ManagedDir(place.path("d"))) if manage else (),
    )


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases())
def test_undone_without_a_trace_then_planned_is_done_then_nothing(case: Any) -> None:
    base = Path(tempfile.mkdtemp())
    try:
        place, request = build(base, *case)
        before = snapshot(place.etc)
        planned = plan(request, observe(FileSystem(), request))
        if planned.problems:
            with pytest.raises(StackError, match="nothing was changed"):
                place.run(request)
            assert snapshot(place.etc) == before
            return
        predicted = place.run(request, check_mode=True, diff=True)
        assert snapshot(place.etc) == before
        if planned.changes:
            with pytest.raises(StackError, match="every old file is back"):
                place.run(request, NO)
        assert snapshot(place.etc) == before
        assert place.debris == []
        result = place.run(request, YES, diff=True)
        for key in ("changed", "changes", "changed_paths", "adopted", "diff"):
            assert result[key] == predicted[key]
        for change in planned.changes:
            there = FileSystem().entry(change.real)
            assert there == change.after or (there.kind == DIRECTORY and there.meta == change.after.meta)
            assert diff_of(change)
        after = snapshot(place.etc)
        touched = {str(Path(change.real).relative_to(place.etc)) for change in planned.changes}
        assert {path for path in {*before, *after} if before.get(path) != after.get(path)} == touched
        fs = Recording()
        assert place.run(request, NO, fs)["changed"] is False
        assert snapshot(place.etc) == after
        assert {what for what, _path in fs.steps} <= {"mkdir"}  # the lock's folder
    finally:
        shutil.rmtree(base)
