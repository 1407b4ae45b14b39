"""The log of outcomes from which a stopped run continues.

A run with the same settings skips the files in it, unless they have changed since.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from lungbox.common.files import named_in_errors
from lungbox.constants import MAX_REASON
from lungbox.errors import LungboxError
from lungbox.inference.files import ImageFile
from lungbox.inference.predictor import ImageResult
from lungbox.radiograph.types import single_line

_NAME, _LOCK = ".journal.jsonl", ".journal.lock"
# Raised when records hold something else, so that a log of an earlier version is discarded.
_RECORDS = 2


class BusyError(LungboxError):
    """Another run is writing into the same folder."""


class ResumeLog:
    """A run's log of outcomes, and a lock on its output folder, inside the `with` block.

    Args:
        folder: the output folder; created where it is missing.
        settings: everything that outcomes depend on; a log of other settings is discarded.

    Attributes:
        discarded: identities of the files in a log of other settings that was discarded.

    Raises:
        BusyError: another run is writing there.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self._folder, self._path = folder, folder / _NAME
        self._settings = json.dumps(settings | {"records": _RECORDS}, sort_keys=True)
        self.discarded: list[str] = []

    def __enter__(self) -> "ResumeLog":
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
            with named_in_errors(self._path):
                self._path.write_text(json.dumps({"settings": self._settings}) + "\n", "utf-8")
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            # Done: the result files hold everything.
            self._path.unlink(missing_ok=True)
        # The lock file stays: if it were removed, a run that has it open and one that creates it
        # would each lock a file of their own.
        self._lock.release()

    def done(self) -> dict[str, str]:
        """Stamps of the files that need not be read again, by path below the folder; not of those
        whose picture could not be written."""
        latest = {record["path"]: record for record in self.records()}
        return {
            path: record["stamp"] for path, record in latest.items() if not record.get("no_picture")
        }

    def append(self, results: list[ImageResult]) -> None:
        """Append outcomes, flushed to the disk."""
        with named_in_errors(self._path), self._path.open("a", encoding="utf-8") as file:
            for result in results:
                file.write(_line(_record(result)))
            file.flush()
            os.fsync(file.fileno())

    def records(self) -> Iterator[dict[str, Any]]:
        """Every record, in the order of appending."""
        with self._path.open(encoding="utf-8") as file:
            next(file)
            for line in file:
                yield json.loads(line)

    def in_order(self, sources: list[ImageFile]) -> Iterator[dict[str, Any]]:
        """The latest record of each source, in the order of the sources.

        A run that was never stopped wrote them in that order, which is checked without keeping
        them; only a continued run's log is kept in memory.
        """
        wanted = [source.relative for source in sources]
        if [record["path"] for record in self.records()] == wanted:
            yield from self.records()
            return
        latest = {record["path"]: record for record in self.records()}
        for path in wanted:
            yield latest[path]

    def _names(self) -> list[str]:
        """Identities in a log of other settings."""
        if not self._path.is_file():
            return []
        lines = self._path.read_bytes().splitlines(keepends=True)[1:]
        found = [json.loads(line)["findings"] for line in lines if _is_record(line)]
        return [findings["id"] for findings in found if findings]

    def _recovered(self) -> bool:
        """Whether there is a log of these settings; it is truncated at its first damaged line."""
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
    # NaN is not JSON.
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


def _is_record(line: bytes) -> bool:
    try:
        record = json.loads(line, parse_constant=_reject_constant)
        return line.endswith(b"\n") and record.keys() >= {"path", "stamp", "reason", "findings"}
    except (ValueError, AttributeError):
        return False


def _reject_constant(name: str) -> None:
    """Refuse `NaN` and `Infinity`, which only Python's JSON accepts."""
    raise ValueError(f"{name} is not JSON")


def _record(result: ImageResult) -> dict[str, Any]:
    findings = result.findings
    return {
        "path": result.source.relative,
        "stamp": result.source.stamp,
        "reason": _one_line(result.reason),
        "no_picture": _one_line(result.no_picture),
        "findings": None if findings is None else findings.to_record(),
    }


def _one_line(text: str) -> str:
    """A message on one line; libraries may name files that are not UTF-8, on several lines."""
    return single_line(text.encode("utf-8", "backslashreplace").decode(), MAX_REASON)
