# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Change many configuration files as one: all of them, or none.

run() takes the lock, finishes what an interrupted run left, compares, and then
applies: journal, markers of the work that is due, atomic swaps, validators,
commit; on any failure every old byte goes back. transaction_plan holds the pure
part, transaction_journal and transaction_due what survives a kill,
transaction_fs the system calls.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from ansible_collections.webops.php_stack.plugins.module_utils.boundary import StackError
from ansible_collections.webops.php_stack.plugins.module_utils.host import Host
from ansible_collections.webops.php_stack.plugins.module_utils.transaction_diff import diff_of
from ansible_collections.webops.php_stack.plugins.module_utils.transaction_due import DueMarkers, called_for
from ansible_collections.webops.php_stack.plugins.module_utils.transaction_fs import (
    FileSystem,
    signals_ignored,
    signals_raised,
    words,
)
from ansible_collections.webops.php_stack.plugins.module_utils.transaction_journal import (
    Journal,
    JournalError,
    Record,
    all_journals,
    put,
    sha256_of,
)
from ansible_collections.webops.php_stack.plugins.module_utils.transaction_observe import observe
from ansible_collections.webops.php_stack.plugins.module_utils.transaction_plan import (
    ABSENT,
    DIRECTORY,
    FILE,
    LINK,
    Change,
    Entry,
    Plan,
    Request,
    check,
    matches_any,
    plan,
)

_SBIN = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True)
class Validator:
    """A command that judges the whole tree. ``timeout`` in seconds; ``when_changed`` are globs of paths."""

    name: str
    command: tuple[str, ...]
    when_changed: tuple[str, ...] = ()
    rc_ok: tuple[int, ...] = (0,)
    timeout: float = 60.0
    optional: bool = False


@dataclass(frozen=True)
class Options:
    """How to run. ``relabel`` gives a new path its default SELinux label."""

    check_mode: bool = False
    diff: bool = False
    validate_always: bool = False
    lock_timeout: float = 300.0
    state_dir: str = "/var/lib/php_stack"
    lock_dir: str = "/run/lock/php_stack"
    relabel: Callable[[str], None] = field(default=lambda path: None)


def run(
    request: Request,
    validators: tuple[Validator, ...] = (),
    options: Options = Options(),
    fs: FileSystem | None = None,
    host: Host | None = None,
) -> dict[str, Any]:
    """Make the host what the request says; returns the module's result.

    :raises StackError: with the reason; the tree is then what it was before.
    """
    fs = fs or FileSystem()
    problems = check(request) + _validator_mistakes(validators)
    if problems:
        raise StackError(_listing("the request cannot be carried out; nothing was changed", problems))
    try:
        with (
            signals_raised(),
            fs.lock(options.lock_dir, create=not options.check_mode, timeout=options.lock_timeout),
        ):
            return _Transaction(request, validators, options, fs, host or Host()).run()
    except OSError as error:
        raise StackError(f"{words(error)}; nothing was changed") from error


def _validator_mistakes(validators: tuple[Validator, ...]) -> list[str]:
    problems = []
    for number, validator in enumerate(validators):
        if not validator.command or not validator.command[0]:
            problems.append(f"validate[{number}] ({validator.name}): command is empty")
        if validator.timeout <= 0:
            problems.append(f"validate[{number}] ({validator.name}): timeout must be above 0 seconds")
    return problems


class _Transaction:
    """One run, under the lock."""

    def __init__(
        self,
        request: Request,
        validators: tuple[Validator, ...],
        options: Options,
        fs: FileSystem,
        host: Host,
    ) -> None:
        self.request = request
        self.validators = validators
        self.options = options
        self.fs = fs
        self.host = host
        self.journals = os.path.join(options.state_dir, "transactions")
        self.journal = Journal(fs, os.path.join(self.journals, request.name))
        self.recovered: list[dict[str, Any]] = []
        self.markers = DueMarkers(fs, os.path.join(options.state_dir, "due"))
        self.due_names = list(dict.fromkeys(work.name for work in request.due))
        self.due_earlier: dict[str, str] = {}

    def run(self) -> dict[str, Any]:
        self.recovered = self.recover()
        if not self.options.check_mode:
            self.markers.remove(self.request.done)
        self.due_earlier = self.markers.ids(self.due_names)
        planned = plan(self.request, observe(self.fs, self.request), self.options.check_mode)
        if planned.problems:
            raise StackError(
                _listing("the request cannot be carried out; nothing was changed", list(planned.problems)),
                recovered=self.recovered,
            )
        results: list[dict[str, Any]] = []
        if self.options.check_mode:
            pass
        elif planned.changes:
            results = self.apply(planned)
        elif self.options.validate_always:
            results, failures = self.validate([])
            if failures:
                raise StackError(
                    f"nothing had to change, but {_failure_text(failures)}",
                    validators=results,
                    recovered=self.recovered,
                )
        return self.result(planned, results)

    def result(self, planned: Plan, results: list[dict[str, Any]]) -> dict[str, Any]:
        recovered_paths = [path for item in self.recovered for path in item["paths"]]
        result: dict[str, Any] = {
            "changed": bool(planned.changes) or bool(recovered_paths) or bool(self.due_earlier),
            "changes": [_change_document(change) for change in planned.changes],
            "changed_paths": list(dict.fromkeys([*planned.paths, *recovered_paths])),
            "adopted": [change.path for change in planned.changes if change.adopted],
            "recovered": self.recovered,
            "due": self.markers.document(
                called_for(self.request.due, planned.paths), self.due_earlier, self.due_names
            ),
            "validators": results,
            "validators_skipped": [
                v.name for v in self.validators if v.name not in {r["name"] for r in results}
            ],
        }
        if self.options.diff:
            result["diff"] = [item for change in planned.changes for item in diff_of(change)]
        return result

    # -- recovery -------------------------------------------------------------------------------------------

    def recover(self) -> list[dict[str, Any]]:
        """Finish every interrupted transaction; in check mode only say which there are."""
        found = []
        for journal in all_journals(self.fs, self.journals):
            outcome = journal.pending
            if not outcome:
                if not self.options.check_mode:
                    journal.tidy()
                continue
            name = os.path.basename(journal.folder)
            try:
                item = {"name": name, "outcome": outcome, "paths": journal.paths(), "kept": []}
                if self.options.check_mode:
                    item["outcome"] = "pending"
                elif outcome == "committed":
                    journal.finish()
                else:
                    item["kept"] = journal.roll_back(force=False).kept
            except (OSError, JournalError) as error:
                reason = words(error) if isinstance(error, OSError) else str(error)
                raise StackError(
                    f"the interrupted transaction {name} could not be undone: {reason}. Its journal stays in"
                    f" {journal.folder}; mend the cause and run again"
                ) from error
            found.append(item)
        return found

    # -- applying -------------------------------------------------------------------------------------------

    def apply(self, planned: Plan) -> list[dict[str, Any]]:
        originals = self.originals(planned)
        self.fs.make_dirs(self.options.state_dir, 0o755)
        self.fs.make_dirs(self.journal.folder, 0o700)
        try:
            records = self.journal.write(planned.changes, planned.paths, [path for path, _entry in originals])
        except OSError:
            self.journal.tidy()
            raise
        try:
            for path, entry in originals:
                self.fs.make_dirs(os.path.dirname(path), 0o700)
                put(self.fs, path, entry)
            self.markers.write(called_for(self.request.due, planned.paths), self.request.name)
            self.swap(planned.changes, records)
            results, failures = self.validate(planned.paths)
            if not failures:
                self.journal.commit()
        except BaseException as error:
            if self.journal.pending == "committed":
                raise self.left_open(error) from error
            self.undo(error)
            raise
        if failures:
            self.fail(results, failures, self.undo(None))
        try:
            self.journal.finish()
        except BaseException as error:
            raise self.left_open(error) from error
        return results

    def left_open(self, error: BaseException) -> StackError:
        """Past the commit point the change stands, and the next run tidies up."""
        return StackError(
            f"the change is in place, but its journal {self.journal.folder} could not be closed ({error}). Run again:"
            " that closes it and reports the same changes, so that what must be reloaded is reloaded"
        )

    def swap(self, changes: tuple[Change, ...], records: list[Record]) -> None:
        """Write everything beside its place first: a full disk is met before the first swap."""
        pairs = list(zip(changes, records))
        for change, _record in pairs:
            if change.after.kind == DIRECTORY and change.after.meta is not None:
                if change.before.kind == ABSENT:
                    self.fs.mkdir(change.real, change.after.meta)
                    self.options.relabel(change.real)
                else:
                    self.fs.set_meta(change.real, change.after.meta)
        for change, record in pairs:
            if change.after.kind in (FILE, LINK):
                put(self.fs, record.temporary, change.after)
        for change, record in pairs:
            if change.after.kind in (FILE, LINK):
                self.fs.rename(record.temporary, change.real)
                if change.before.kind == ABSENT:
                    self.options.relabel(change.real)
            elif change.after.kind == ABSENT:
                self.fs.unlink(change.real)
        for directory in dict.fromkeys(os.path.dirname(change.real) for change in changes):
            self.fs.sync_dir(directory)

    def undo(self, cause: BaseException | None) -> list[str]:
        """Put everything back; returns new directories that stay, since something else is in them by now."""
        try:
            with signals_ignored():
                kept = self.journal.roll_back(force=True).kept
                self.markers.take_back()
                return kept
        except (OSError, JournalError) as error:
            first = f"{cause}; then " if cause else "a validator rejected the change; then "
            reason = words(error) if isinstance(error, OSError) else str(error)
            raise StackError(
                f"{first}the old state could not be put back: {reason}. The journal with the old bytes is in"
                f" {self.journal.folder}; mend the cause and run again, which finishes the rollback"
            ) from error

    def originals(self, planned: Plan) -> list[tuple[str, Entry]]:
        """Where the bytes of adopted files are kept: the first ones under the file's own path,
        later and different ones (a file that somebody replaced) with a digest behind it."""
        found = []
        for change in planned.changes:
            if not change.adopted:
                continue
            path = os.path.join(self.options.state_dir, "originals") + change.real
            kept = self.fs.entry(path)
            if kept.kind == FILE and kept.data != change.before.data:
                path += "." + sha256_of(change.before.data)[:12]
                kept = self.fs.entry(path)
            if kept.kind == ABSENT:
                found.append((path, change.before))
        return found

    # -- validating -----------------------------------------------------------------------------------------

    def validate(self, paths: list[str]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Run the validators that the changed paths call for; returns all results and the failed ones."""
        results: list[dict[str, Any]] = []
        failures: list[dict[str, Any]] = []
        for validator in self.validators:
            if validator.when_changed and paths and not matches_any(paths, list(validator.when_changed)):
                continue
            missing = (
                shutil.which(validator.command[0], path=os.environ.get("PATH", "") + ":" + _SBIN) is None
            )
            if missing and validator.optional:
                continue
            done = self.host.run(list(validator.command), timeout=validator.timeout)
            error = f"there is no program {validator.command[0]!r} on this host" if missing else done.error
            result = {
                "name": validator.name,
                "command": list(validator.command),
                "rc": done.rc,
                "stdout": done.stdout,
                "stderr": done.stderr,
                "error": error,
            }
            results.append(result)
            if error or done.rc not in validator.rc_ok:
                failures.append(result)
        return results, failures

    def fail(
        self, results: list[dict[str, Any]], failures: list[dict[str, Any]], kept: list[str]
    ) -> NoReturn:
        """Fail in the validators' own words, after asking them about the old state too."""
        text = _failure_text(failures)
        before = []
        names = {item["name"] for item in failures if not item["error"]}
        for validator in self.validators:
            if validator.name in names:
                done = self.host.run(list(validator.command), timeout=validator.timeout)
                if done.error or done.rc not in validator.rc_ok:
                    before.append(validator.name)
        if before:
            text += (
                f"\nNote: {', '.join(before)} rejects the old configuration too, so the host was broken before"
                " this change."
            )
        if kept:
            text += f"\nNote: {', '.join(kept)} stays, since something else is in there by now."
        raise StackError(
            f"the change was rejected, and nothing was changed: every old file is back.\n{text}",
            validators=results,
            invalid_before=before,
            recovered=self.recovered,
        )


def _change_document(change: Change) -> dict[str, Any]:
    document: dict[str, Any] = {"path": change.path, "action": change.action}
    if change.real != os.path.normpath(change.path):
        document["real_path"] = change.real
    return document


def _listing(head: str, problems: list[str]) -> str:
    return (
        problems[0] + f" ({head})"
        if len(problems) == 1
        else head + ":\n" + "\n".join(f"- {p}" for p in problems)
    )


def _signal_words(number: int) -> str:
    try:
        return f"{number} ({signal.Signals(number).name})"
    except ValueError:
        return str(number)


def _failure_text(failures: list[dict[str, Any]]) -> str:
    parts = []
    for item in failures:
        argv = " ".join(item["command"])
        if item["error"]:
            parts.append(f"{item['name']}: {item['error']} ({argv})")
        else:
            words = (
                "\n".join(filter(None, (item["stderr"].strip(), item["stdout"].strip())))
                or "(it said nothing)"
            )
            how = f"failed with rc {item['rc']}"
            if item["rc"] < 0:
                # Not a verdict on the files, such as a limit on memory or file sizes that this process inherited.
                how = f"was killed by signal {_signal_words(-item['rc'])}"
            parts.append(f"{item['name']} {how} ({argv}):\n{words}")
    return "\n".join(parts)
