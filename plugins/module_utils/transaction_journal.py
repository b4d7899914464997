# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal of a transaction: what is on disk while the tree changes, and how to undo it.

One folder a transaction name, for root alone:

    old             the old bytes of all files, one after the other
    journal.json    what changes, with the state before and after. While it
                    exists, the transaction is undone by whoever comes next.
    committed.json  the same file, renamed: the commit point. Whoever comes
                    next tidies up and reports the changes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.transaction_fs import FileSystem
from ansible_collections.webops.php_stack.plugins.module_utils.transaction_plan import (
    ABSENT,
    DIRECTORY,
    FILE,
    LINK,
    Change,
    Entry,
    Meta,
)

_FORMAT = 1
_PRIVATE = Meta(0, 0, 0o600)


@dataclass(frozen=True)
class Record:
    """One change as the journal knows it: ``before`` whole, ``after`` without its bytes."""

    real: str
    before: Entry
    after_kind: str
    after_sha256: str
    after_target: str
    temporary: str

    def is_after(self, entry: Entry) -> bool:
        """Whether the path holds what the transaction put there; owner and mode are not asked."""
        if entry.kind != self.after_kind:
            return False
        return entry.target == self.after_target and (
            entry.kind != FILE or sha256_of(entry.data) == self.after_sha256
        )


@dataclass(frozen=True)
class Undone:
    """What a rollback did: paths put back, and paths left alone since a person changed them meanwhile."""

    restored: list[str]
    kept: list[str]


class JournalError(Exception):
    """A journal that cannot be read or undone; str() says what to do."""


class Journal:
    """The journal in one folder."""

    def __init__(self, fs: FileSystem, folder: str) -> None:
        self.fs = fs
        self.folder = folder
        self.open = os.path.join(folder, "journal.json")
        self.closed = os.path.join(folder, "committed.json")
        self.bytes = os.path.join(folder, "old")

    @property
    def pending(self) -> str:
        """ "" when nothing is left to do, else which end it has: "rolled_back" or "committed"."""
        if self.fs.kind(self.open) == FILE:
            return "rolled_back"
        return "committed" if self.fs.kind(self.closed) == FILE else ""

    def write(self, changes: Iterable[Change], paths: list[str], originals: list[str]) -> list[Record]:
        """Put the journal on the disk, complete, before anything else changes.

        :raises OSError: nothing but the journal's own folder was touched.
        """
        self.tidy()
        uid, gid = self.fs.identity()
        private = replace(_PRIVATE, uid=uid, gid=gid)
        records, documents, blob = [], [], bytearray()
        prefix = f".webops-php_stack.{os.path.basename(self.folder)}"
        for number, change in enumerate(changes):
            # Hidden: neither nginx's nor FPM's include globs match it, and no *.conf scanner.
            temporary = os.path.join(os.path.dirname(change.real), f"{prefix}.{number}")
            after = change.after
            sha256 = sha256_of(after.data) if after.kind == FILE else ""
            records.append(Record(change.real, change.before, after.kind, sha256, after.target, temporary))
            documents.append(_document(records[-1], len(blob)))
            blob += change.before.data
        text = json.dumps({"format": _FORMAT, "records": documents, "paths": paths, "originals": originals})
        self.fs.write(self.bytes, bytes(blob), private)
        self.fs.write(self.open + ".new", text.encode("utf-8", "surrogateescape"), private)
        self.fs.sync_dir(self.folder)
        self.fs.rename(self.open + ".new", self.open)
        self.fs.sync_dir(self.folder)
        return records

    def commit(self) -> None:
        """The commit point: from here on the new tree stands, whatever happens."""
        self.fs.rename(self.open, self.closed)
        self.fs.sync_dir(self.folder)

    def finish(self) -> None:
        """After the commit: forget everything."""
        self.fs.unlink(self.bytes)
        self.fs.unlink(self.closed)
        self.fs.sync_dir(self.folder)

    def tidy(self) -> None:
        """Remove what a run that was killed before its journal was complete left behind."""
        for path in (self.bytes, self.open + ".new"):
            if self.fs.kind(path) != ABSENT:
                self.fs.unlink(path)

    def paths(self) -> list[str]:
        """The paths that the journal's transaction changes, as its user wrote them."""
        document = self._load(self.open if self.pending == "rolled_back" else self.closed)
        return [str(path) for path in document["paths"]]

    def roll_back(self, force: bool) -> Undone:
        """Put every old state back, newest change first, then forget the journal.

        May be killed and repeated at any point. Without ``force`` a path that
        holds neither the old nor the new state was changed by a person since,
        and stays.

        :raises JournalError: for a journal that cannot be read.
        :raises OSError: for a path that cannot be put back; the journal stays.
        """
        document = self._load(self.open)
        blob = self.fs.read(self.bytes)
        restored: list[str] = []
        kept: list[str] = []
        touched: dict[str, None] = {}
        for record in [_record(item, blob) for item in reversed(document["records"])]:
            if self.fs.entry(record.temporary).kind in (FILE, LINK):
                self.fs.unlink(record.temporary)
            now = self.fs.entry(record.real)
            if now == record.before:
                continue
            if not force and not record.is_after(now):
                kept.append(record.real)
                continue
            if self._restore(record, now):
                restored.append(record.real)
                touched[os.path.dirname(record.real)] = None
            else:
                kept.append(record.real)
        for directory in touched:
            self.fs.sync_dir(directory)
        for path in document["originals"]:
            self.fs.unlink(path)
        self.fs.unlink(self.open)
        self.fs.sync_dir(self.folder)
        self.fs.unlink(self.bytes)
        return Undone(restored, kept)

    def _restore(self, record: Record, now: Entry) -> bool:
        before = record.before
        if before.kind == DIRECTORY:
            if before.meta is not None:
                self.fs.set_meta(record.real, before.meta)
            return True
        if before.kind == ABSENT:
            if now.kind == DIRECTORY:
                return self.fs.rmdir(record.real)
            self.fs.unlink(record.real)
            return True
        put(self.fs, record.temporary, before)
        self.fs.rename(record.temporary, record.real)
        return True

    def _load(self, path: str) -> dict[str, Any]:
        try:
            document = json.loads(self.fs.read(path).decode("utf-8", "surrogateescape"))
            if document["format"] != _FORMAT:
                raise JournalError(
                    f"{path} was written by another version of webops.php_stack (format {document['format']}):"
                    " run that version once to finish it"
                )
        except (ValueError, KeyError, TypeError) as error:
            raise JournalError(
                f"{path} is not a journal ({error}). The old bytes are in {self.bytes}: put them back by hand,"
                f" then remove {self.folder}"
            ) from error
        else:
            return dict(document)


def put(fs: FileSystem, path: str, entry: Entry) -> None:
    """Make a file or link at a temporary path."""
    if entry.kind == LINK:
        fs.symlink(entry.target, path)
    elif entry.meta is not None:
        fs.write(path, entry.data, entry.meta, entry.mtime_ns)


def all_journals(fs: FileSystem, folder: str) -> list[Journal]:
    """Every transaction's journal, by name."""
    return [Journal(fs, os.path.join(folder, name)) for name in fs.names(folder)]


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _document(record: Record, offset: int) -> dict[str, Any]:
    before = record.before
    document: dict[str, Any] = {
        "real": record.real,
        "kind": before.kind,
        "target": before.target,
        "mtime_ns": before.mtime_ns,
        "offset": offset,
        "length": len(before.data),
        "after_kind": record.after_kind,
        "after_sha256": record.after_sha256,
        "after_target": record.after_target,
        "temporary": record.temporary,
        "meta": None,
    }
    if before.meta is not None:
        xattrs = {name: base64.b64encode(value).decode() for name, value in before.meta.xattrs}
        document["meta"] = [before.meta.uid, before.meta.gid, before.meta.mode, xattrs]
    return document


def _record(document: dict[str, Any], blob: bytes) -> Record:
    meta = None
    if document["meta"] is not None:
        uid, gid, mode, xattrs = document["meta"]
        meta = Meta(uid, gid, mode, tuple((name, base64.b64decode(value)) for name, value in xattrs.items()))
    start = document["offset"]
    data = blob[start : start + document["length"]]
    return Record(
        document["real"],
        Entry(document["kind"], data, document["target"], meta, document["mtime_ns"]),
        document["after_kind"],
        document["after_sha256"],
        document["after_target"],
        document["temporary"],
    )
