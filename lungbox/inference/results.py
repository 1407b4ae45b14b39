"""The result files of a run, each written atomically."""

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, fields
from itertools import chain, count
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from lungbox.common.files import atomic_write
from lungbox.common.tables import TableError, escape_formula, read_column
from lungbox.constants import OPACITY
from lungbox.errors import LungboxError
from lungbox.findings import Findings
from lungbox.inference.files import ImageFile
from lungbox.inference.resume import ResumeLog
from lungbox.submission import HEADER, rows, vinbigdata

SUBMISSION, IMAGES, PREDICTIONS, FAILED, RUN, OVERLAYS = (
    "submission.csv",
    "images.csv",
    "predictions.jsonl",
    "failed.csv",
    "run.json",
    "overlays",
)
MEMBERS = "members"
_IMAGE_COLUMNS = ("patientId", "score", "boxes", "width", "height", "path", "flag")


@dataclass(frozen=True)
class RunSummary:
    """Totals of a run.

    Attributes:
        read: files that were read.
        with_boxes: of those, with a box.
        boxes: of these, all together.
        withheld: files whose boxes were withheld, as their image score is below the gate.
        flagged: of those, with a flag.
        failed: files without findings.
        without_picture: files that were read, but whose picture could not be written.
    """

    read: int
    with_boxes: int
    flagged: int
    failed: int
    without_picture: int = 0
    boxes: int = 0
    withheld: int = 0


class OutputFolderError(LungboxError):
    """Results cannot be written to the output folder."""


def check_output_folder(folder: Path, images: Path) -> None:
    """Check, before any work, that results can be written, and not among the images.

    Args:
        folder: the output folder.
        images: the folder or file to read.

    Raises:
        OutputFolderError: `folder` is a file, has a subfolder named like a result file, or
            contains the radiographs.
    """
    read, written = images.resolve(), folder.resolve()
    if read == written or any(
        picture in (read, *read.parents) for picture in (written / OVERLAYS, written / MEMBERS)
    ):
        raise OutputFolderError(
            f"{folder}: results need a folder apart from the radiographs; give another --output"
        )
    if folder.exists() and not folder.is_dir():
        raise OutputFolderError(
            f"{folder}: is a file, and results need a folder; give another --output"
        )
    for name in (SUBMISSION, IMAGES, PREDICTIONS, FAILED, RUN):
        if (folder / name).is_dir():
            raise OutputFolderError(
                f"{folder / name}: is a folder where a result file belongs; give another --output"
            )


def write_results(
    folder: Path,
    resume_log: ResumeLog,
    sources: list[ImageFile],
    ids: list[str] | None = None,
    space: int | None = None,
    class_names: tuple[str, ...] = (),
) -> RunSummary:
    """Write every result file of a finished run.

    Args:
        folder: the output folder.
        resume_log: has an outcome for each source.
        sources: in the order of the rows.
        ids: exactly the rows of the submission, where given.
        space: side of the square the submission's boxes are rescaled to; pixels of each file
            where None.
        class_names: of the boxes; where they are VinBigData's, so is the submission's format.
    """
    of_vinbigdata = vinbigdata.fits(class_names)
    summary = dict.fromkeys((field.name for field in fields(RunSummary)), 0)
    with ExitStack() as stack:
        images = _table(stack, folder / IMAGES, _IMAGE_COLUMNS)
        failed = _table(stack, folder / FAILED, ("path", "reason"))
        header = vinbigdata.HEADER if of_vinbigdata else HEADER
        submission = _table(stack, folder / SUBMISSION, header)
        lines = stack.enter_context(atomic_write(folder / PREDICTIONS))

        def readable() -> Iterator[Findings]:
            for source, record in zip(sources, resume_log.in_order(sources), strict=True):
                if record["reason"]:
                    summary["failed"] += 1
                    failed((source.relative, record["reason"]))
                    continue
                # Its identity may differ from that in the run that was stopped.
                record["findings"]["id"] = source.identity
                findings = Findings.from_record(record["findings"])
                summary["read"] += 1
                summary["with_boxes"] += len(findings.boxes) > 0
                summary["boxes"] += len(findings.boxes)
                summary["withheld"] += bool(findings.withheld)
                summary["flagged"] += bool(findings.flag)
                summary["without_picture"] += bool(record.get("no_picture"))
                line = json.dumps(record["findings"], ensure_ascii=False, allow_nan=False)
                lines.write(line + "\n")
                images(_image_row(findings))
                yield findings

        found = readable()
        for row in vinbigdata.rows(found, ids) if of_vinbigdata else rows(found, space, ids):
            submission(row)
    return RunSummary(**summary)


def remove_old_pictures(folder: Path, logged: Iterable[str]) -> str:
    """Delete the pictures of an earlier run, and no other files.

    Args:
        folder: the output folder.
        logged: identities the earlier run had finished, where it was stopped.

    Returns:
        One sentence where the earlier run's `images.csv` could not be read and was renamed, so
        that its pictures are still there; otherwise nothing.
    """
    names, warning = set(logged), ""
    if (folder / RUN).is_file() and (folder / IMAGES).is_file():
        try:
            names |= set(read_column(folder / IMAGES, _IMAGE_COLUMNS[0]))
        except TableError as error:
            kept = _set_aside(folder / IMAGES)
            warning = f"{error}; renamed to {kept.name}. Pictures of that run are not deleted."
    for name in names:
        if not name or name.startswith("/") or ".." in name.split("/"):
            continue
        for picture in (f"{OVERLAYS}/{name}.png", f"{MEMBERS}/{name}.png", f"{MEMBERS}/{name}.npz"):
            # Unlike `Path.is_file`, false for names that are too long.
            if os.path.isfile(folder / picture):  # noqa: PTH113
                (folder / picture).unlink()
    for pictures in (folder / OVERLAYS, folder / MEMBERS):
        for inner in sorted(pictures.rglob("*"), reverse=True):
            _remove_empty(inner)
        _remove_empty(pictures)
    return warning


def _set_aside(path: Path) -> Path:
    """Rename a file to a name that is free."""
    names = chain([".unreadable"], (f".unreadable-{number}" for number in count(2)))
    kept = next(p for p in (path.with_name(path.name + name) for name in names) if not p.exists())
    return path.rename(kept)


def _remove_empty(folder: Path) -> None:
    if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
        folder.rmdir()


def save_members(path: Path, masks: dict[str, NDArray[np.float32]]) -> None:
    """Write each member's opacity probabilities of one radiograph, `(h, w)` uint8, 255 for 1."""
    opacity: dict[str, Any] = {
        name: np.round(mask[..., OPACITY] * 255).astype(np.uint8) for name, mask in masks.items()
    }
    with atomic_write(path, "wb") as file:
        np.savez_compressed(file, **opacity)


def _image_row(findings: Findings) -> tuple[object, ...]:
    score = f"{findings.image_score:.4f}"
    path, flag = findings.path, findings.flag
    return findings.identity, score, len(findings.boxes), *findings.size, path, flag


def _table(
    stack: ExitStack, path: Path, columns: Iterable[str]
) -> Callable[[Iterable[object]], object]:
    """Open a CSV that replaces `path` at the end; returns a function that writes a row."""
    file: IO[str] = stack.enter_context(atomic_write(path))
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    return lambda row: writer.writerow([escape_formula(cell) for cell in row])
