"""What a run over a folder leaves behind, and how a stopped one goes on.

While it runs, outcomes are appended to a journal; when the last is there, the journal becomes the
result files, each written whole. A run with the same settings that finds a journal skips the
files in it, unless they have changed since.
"""

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from lungbox.files import replacing
from lungbox.findings import Findings
from lungbox.folder import Source
from lungbox.pipeline import Outcome
from lungbox.submission import HEADER, rows

SUBMISSION, IMAGES, PREDICTIONS, FAILED, RUN, OVERLAYS = (
    "submission.csv",
    "images.csv",
    "predictions.jsonl",
    "failed.csv",
    "run.json",
    "overlays",
)
_JOURNAL = ".journal.jsonl"
_IMAGE_COLUMNS = ("patientId", "score", "boxes", "width", "height", "path", "flag")


@dataclass(frozen=True)
class Totals:
    """What a run came to."""

    read: int
    with_boxes: int
    flagged: int
    failed: int


class Journal:
    """Outcomes of a run that is under way.

    Args:
        folder: where results go.
        settings: everything that decides what an outcome is; a journal of other settings is
            thrown away.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self._path = folder / _JOURNAL
        self._settings = json.dumps(settings, sort_keys=True)
        folder.mkdir(parents=True, exist_ok=True)
        if not self._recovered():
            self._path.write_text(json.dumps({"settings": self._settings}) + "\n", "utf-8")

    def done(self) -> dict[str, str]:
        """Files that are in the journal: their path below the folder to their stamp."""
        return {record["path"]: record["stamp"] for record in self.records()}

    def append(self, outcomes: list[Outcome]) -> None:
        """Add outcomes, on disk when this returns."""
        with self._path.open("a", encoding="utf-8") as file:
            for outcome in outcomes:
                file.write(json.dumps(_record(outcome), ensure_ascii=False) + "\n")

    def records(self) -> Iterator[dict[str, Any]]:
        """Every record, in the order of appending."""
        with self._path.open(encoding="utf-8") as file:
            next(file)
            for line in file:
                yield json.loads(line)

    def remove(self) -> None:
        """Done: the results say it all."""
        self._path.unlink(missing_ok=True)

    def _recovered(self) -> bool:
        """Whether there is a journal of these settings; a half-written last line is cut off."""
        try:
            with self._path.open("r+b") as file:
                content = file.read()
                file.truncate(content.rfind(b"\n") + 1)
            first = content.partition(b"\n")[0]
            return json.loads(first)["settings"] == self._settings
        except (OSError, ValueError, KeyError, TypeError):
            return False


def stamp(source: Source) -> str:
    """Changes when the file does."""
    try:
        status = source.path.stat()
    except OSError:
        return "gone"
    return f"{status.st_size}-{status.st_mtime_ns}"


def write_results(
    folder: Path,
    journal: Journal,
    order: list[Source],
    ids: list[str] | None = None,
    space: int | None = None,
) -> Totals:
    """Write every result file of a finished run.

    Args:
        folder: where they go.
        journal: has an outcome for each source.
        order: the sources, in the order of the rows.
        ids: exactly the rows of the submission, where given.
        space: side of the square the submission's boxes are rescaled to; pixels of each file
            where None.
    """
    totals = dict(read=0, with_boxes=0, flagged=0, failed=0)
    with ExitStack() as stack:
        images, failed = (
            _table(stack, folder / name, columns)
            for name, columns in ((IMAGES, _IMAGE_COLUMNS), (FAILED, ("path", "reason")))
        )
        lines = stack.enter_context(replacing(folder / PREDICTIONS))
        submission = _table(stack, folder / SUBMISSION, HEADER)

        def readable() -> Iterator[Findings]:
            for record in _in_order(journal, order):
                if record["reason"]:
                    totals["failed"] += 1
                    failed((record["path"], record["reason"]))
                    continue
                findings = Findings.from_record(record["findings"])
                totals["read"] += 1
                totals["with_boxes"] += len(findings.boxes) > 0
                totals["flagged"] += bool(findings.flag)
                lines.write(json.dumps(findings.to_record(), ensure_ascii=False) + "\n")
                images(_image_row(findings))
                yield findings

        for row in rows(readable(), space, ids):
            submission(row)
    return Totals(**totals)


def _in_order(journal: Journal, order: list[Source]) -> Iterator[dict[str, Any]]:
    """The journal's records in the order of the rows; of two for one file, the later one.

    A run that was never stopped wrote them in that order already, which is checked without
    keeping them; only a continued run's journal is held in memory.
    """
    wanted = [source.relative for source in order]
    if [record["path"] for record in journal.records()] == wanted:
        yield from journal.records()
        return
    latest = {record["path"]: record for record in journal.records()}
    for path in wanted:
        yield latest[path]


def _record(outcome: Outcome) -> dict[str, Any]:
    findings = outcome.findings
    return {
        "path": outcome.source.relative,
        "stamp": stamp(outcome.source),
        "reason": outcome.reason,
        "findings": None if findings is None else findings.to_record(),
    }


def _image_row(findings: Findings) -> tuple[object, ...]:
    score = f"{findings.image_score:.4f}"
    place = (findings.path, findings.flag)
    return (findings.identity, score, len(findings.boxes), *findings.size, *place)


def _table(
    stack: ExitStack, path: Path, columns: tuple[str, ...]
) -> Callable[[tuple[object, ...]], object]:
    """Open a CSV that replaces `path` in the end; the result writes one row."""
    file: IO[str] = stack.enter_context(replacing(path))
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    return writer.writerow
