"""The files a run over a folder leaves behind, each written whole."""

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

from lungbox.cells import TableError, guarded, read_column
from lungbox.constants import OPACITY
from lungbox.errors import LungboxError
from lungbox.files import replacing
from lungbox.findings import Findings
from lungbox.folder import Source
from lungbox.journal import Journal
from lungbox.submission import HEADER, rows

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
class Totals:
    """What a run came to.

    Attributes:
        read: files that were read.
        with_boxes: of those, with a box.
        flagged: of those, with a flag.
        failed: files without findings.
        without_picture: files that were read, and a picture of which could not be written.
    """

    read: int
    with_boxes: int
    flagged: int
    failed: int
    without_picture: int = 0


class PlaceError(LungboxError):
    """Something that is no result stands where results go."""


def check_place(folder: Path, images: Path) -> None:
    """Before any work is done: nothing stands in the way of the results, nor they in the way of
    what is read.

    Args:
        folder: where results go.
        images: what is read.

    Raises:
        PlaceError: `folder` is a file, has a folder where a result file belongs, or would have
            radiographs among its results.
    """
    read, written = images.resolve(), folder.resolve()
    if read == written or any(
        picture in (read, *read.parents) for picture in (written / OVERLAYS, written / MEMBERS)
    ):
        raise PlaceError(
            f"{folder}: results need a folder apart from the radiographs; give another --output"
        )
    if folder.exists() and not folder.is_dir():
        raise PlaceError(f"{folder}: is a file, and results need a folder; give another --output")
    for name in (SUBMISSION, IMAGES, PREDICTIONS, FAILED, RUN):
        if (folder / name).is_dir():
            raise PlaceError(
                f"{folder / name}: is a folder where a result file belongs; give another --output"
            )


def write_results(
    folder: Path,
    journal: Journal,
    sources: list[Source],
    ids: list[str] | None = None,
    space: int | None = None,
) -> Totals:
    """Write every result file of a finished run.

    Args:
        folder: where they go.
        journal: has an outcome for each source.
        sources: in the order of the rows.
        ids: exactly the rows of the submission, where given.
        space: side of the square the submission's boxes are rescaled to; pixels of each file
            where None.
    """
    totals = dict.fromkeys((field.name for field in fields(Totals)), 0)
    with ExitStack() as stack:
        images = _table(stack, folder / IMAGES, _IMAGE_COLUMNS)
        failed = _table(stack, folder / FAILED, ("path", "reason"))
        submission = _table(stack, folder / SUBMISSION, HEADER)
        lines = stack.enter_context(replacing(folder / PREDICTIONS))

        def readable() -> Iterator[Findings]:
            for source, record in zip(sources, journal.in_order(sources), strict=True):
                if record["reason"]:
                    totals["failed"] += 1
                    failed((source.relative, record["reason"]))
                    continue
                # A file may be called otherwise than in the run that was stopped.
                record["findings"]["id"] = source.identity
                findings = Findings.from_record(record["findings"])
                totals["read"] += 1
                totals["with_boxes"] += len(findings.boxes) > 0
                totals["flagged"] += bool(findings.flag)
                totals["without_picture"] += bool(record.get("no_picture"))
                line = json.dumps(record["findings"], ensure_ascii=False, allow_nan=False)
                lines.write(line + "\n")
                images(_image_row(findings))
                yield findings

        for row in rows(readable(), space, ids):
            submission(row)
    return Totals(**totals)


def clear_pictures(folder: Path, journalled: Iterable[str]) -> str:
    """Delete the pictures of an earlier run, and nothing that it did not draw.

    Args:
        folder: where results go.
        journalled: identities the earlier run had finished, where it was stopped.

    Returns:
        One sentence where the earlier run's `images.csv` could not be read and was renamed, so
        that its pictures are still there; otherwise nothing.
    """
    names, trouble = set(journalled), ""
    if (folder / RUN).is_file() and (folder / IMAGES).is_file():
        try:
            names |= set(read_column(folder / IMAGES, _IMAGE_COLUMNS[0]))
        except TableError as error:
            kept = _set_aside(folder / IMAGES)
            trouble = f"{error}; renamed to {kept.name}. Pictures of that run are not deleted."
    for name in names:
        if not name or name.startswith("/") or ".." in name.split("/"):
            continue
        for picture in (f"{OVERLAYS}/{name}.png", f"{MEMBERS}/{name}.png", f"{MEMBERS}/{name}.npz"):
            # Unlike `Path.is_file`, false for what is too long for a name.
            if os.path.isfile(folder / picture):  # noqa: PTH113
                (folder / picture).unlink()
    for place in (folder / OVERLAYS, folder / MEMBERS):
        for inner in sorted(place.rglob("*"), reverse=True):
            _remove_empty(inner)
        _remove_empty(place)
    return trouble


def _set_aside(path: Path) -> Path:
    """Rename a file to a name that is free."""
    names = chain([".unreadable"], (f".unreadable-{number}" for number in count(2)))
    kept = next(p for p in (path.with_name(path.name + name) for name in names) if not p.exists())
    return path.rename(kept)


def _remove_empty(folder: Path) -> None:
    if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
        folder.rmdir()


def save_members(path: Path, masks: dict[str, NDArray[np.float32]]) -> None:
    """Keep what each member says of one radiograph: its opacity as `(h, w)` uint8, 255 certain."""
    opacity: dict[str, Any] = {
        name: np.round(mask[..., OPACITY] * 255).astype(np.uint8) for name, mask in masks.items()
    }
    with replacing(path, "wb") as file:
        np.savez_compressed(file, **opacity)


def _image_row(findings: Findings) -> tuple[object, ...]:
    score = f"{findings.image_score:.4f}"
    place = (findings.path, findings.flag)
    return (findings.identity, score, len(findings.boxes), *findings.size, *place)


def _table(
    stack: ExitStack, path: Path, columns: Iterable[str]
) -> Callable[[Iterable[object]], object]:
    """Open a CSV that replaces `path` in the end; the result writes one row."""
    file: IO[str] = stack.enter_context(replacing(path))
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    return lambda row: writer.writerow([guarded(cell) for cell in row])
