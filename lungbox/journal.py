"""Outcomes of a run that is under way, so that a stopped run goes on where it was.

A run with the same settings that finds a journal skips the files in it, unless they have changed
since.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from lungbox.constants import MAX_REASON
from lungbox.errors import LungboxError
from lungbox.files import naming
from lungbox.folder import Source
from lungbox.pipeline import Outcome
from lungbox.radiograph.types import one_line

_NAME, _LOCK = ".journal.jsonl", ".journal.lock"


class BusyError(LungboxError):
    """Another run is writing into the same folder."""


class Journal:
    """A run's journal, and the right to write into its folder for as long as the block runs.

    Args:
        folder: where results go; made where it is not there.
        settings: everything that decides what an outcome is; a journal of other settings is
            thrown away.

    Attributes:
        discarded: what the files were called whose outcomes stood in a journal of other settings
            that was thrown away.

    Raises:
        BusyError: another run is under way there.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self._folder, self._path = folder, folder / _NAME
        self._settings = json.dumps(settings, sort_keys=True)
        self.discarded: list[str] = []

    def __enter__(self) -> "Journal":
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self._folder / _LOCK, timeout=0)
        try:
            self._lock.acquire()
        except Timeout:
            raise BusyError(
                f"{self._folder}: another run is writing there; give another --output"
            ) from None
        if not self._recovered():
            self.discarded = self._names()
            with naming(self._path):
                self._path.write_text(json.dumps({"settings": self._settings}) + "\n", "utf-8")
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            # Done: the results say it all.
            self._path.unlink(missing_ok=True)
        # The lock's file stays: were it removed, a run that has it open and one that makes it anew
        # would each lock a file of their own.
        self._lock.release()

    def done(self) -> dict[str, str]:
        """Files in the journal that need not be read again: their path below the folder to their
        stamp. One whose picture could not be written is, so that it gets it."""
        latest = {record["path"]: record for record in self.records()}
        return {
            path: record["stamp"] for path, record in latest.items() if not record.get("no_picture")
        }

    def append(self, outcomes: list[Outcome]) -> None:
        """Add outcomes, on disk when this returns."""
        with naming(self._path), self._path.open("a", encoding="utf-8") as file:
            for outcome in outcomes:
                file.write(_line(_record(outcome)))
            file.flush()
            os.fsync(file.fileno())

    def records(self) -> Iterator[dict[str, Any]]:
        """Every record, in the order of appending."""
        with self._path.open(encoding="utf-8") as file:
            next(file)
            for line in file:
                yield json.loads(line)

    def in_order(self, sources: list[Source]) -> Iterator[dict[str, Any]]:
        """The latest record of each source, in the order of the sources.

        A run that was never stopped wrote them in that order already, which is checked without
        keeping them; only a continued run's journal is held in memory.
        """
        wanted = [source.relative for source in sources]
        if [record["path"] for record in self.records()] == wanted:
            yield from self.records()
            return
        latest = {record["path"]: record for record in self.records()}
        for path in wanted:
            yield latest[path]

    def _names(self) -> list[str]:
        """Identities in a journal that is of no use."""
        if not self._path.is_file():
            return []
        lines = self._path.read_bytes().splitlines(keepends=True)[1:]
        found = [json.loads(line)["findings"] for line in lines if _is_record(line)]
        return [findings["id"] for findings in found if findings]

    def _recovered(self) -> bool:
        """Whether there is a journal of these settings; it is cut off at its first bad line."""
        try:
            with self._path.open("r+b") as file:
                first = file.readline()
                if not first.endswith(b"\n") or json.loads(first)["settings"] != self._settings:
                    return False
                while line := file.readline():
                    if not _is_record(line):
                        file.seek(-len(line), os.SEEK_CUR)
                        file.truncate()
                        break
            return True
        except (OSError, ValueError, KeyError, TypeError):
            return False


def _line(record: dict[str, Any]) -> str:
    # NaN is no JSON: it must not come this far, and must not get any further.
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


def _is_record(line: bytes) -> bool:
    try:
        record = json.loads(line, parse_constant=_no_number)
        return line.endswith(b"\n") and record.keys() >= {"path", "stamp", "reason", "findings"}
    except (ValueError, AttributeError):
        return False


def _no_number(name: str) -> None:
    """For `NaN` and `Infinity`, which Python's JSON knows and no other."""
    raise ValueError(f"{name} is no JSON")


def _record(outcome: Outcome) -> dict[str, Any]:
    findings = outcome.findings
    return {
        "path": outcome.source.relative,
        "stamp": outcome.source.stamp,
        "reason": _one_line(outcome.reason),
        "no_picture": _one_line(outcome.no_picture),
        "findings": None if findings is None else findings.to_record(),
    }


def _one_line(text: str) -> str:
    """Libraries say several lines, and name files whose names may hold bytes that are no UTF-8."""
    return one_line(text.encode("utf-8", "backslashreplace").decode(), MAX_REASON)
