"""A challenge's label files, read for scoring, which needs neither pandas nor the images."""

import csv
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lungbox.boxes import Boxes, geometry
from lungbox.constants import VINBIGDATA_CLASSES, VINBIGDATA_NO_FINDING
from lungbox.submission.faults import Fault, FaultsError
from lungbox.submission.table import open_csv
from lungbox.submission.vinbigdata import NOTHING_BOX

Challenge = Literal["RSNA", "VinBigData"]
Box = tuple[float, float, float, float]

_RSNA = ("patientId", "x", "y", "width", "height", "Target")
_VINBIGDATA = ("image_id", "x_min", "y_min", "x_max", "y_max", "class_id")


class LabelsError(FaultsError):
    """Labels cannot be read."""


@dataclass(frozen=True)
class Labels:
    """What a challenge says of its images.

    Attributes:
        challenge: whose they are.
        ids: the N images, in the order of the file.
        boxes: N times `(n, 4)` `x1, y1, x2, y2`, in the challenge's space.
        classes: N times `(n,)` the number of each box's class; 0 where there is only one.
    """

    challenge: Challenge
    ids: tuple[str, ...]
    boxes: tuple[Boxes, ...]
    classes: tuple[NDArray[np.int64], ...]


def read_labels(path: Path) -> Labels:
    """Read RSNA's `stage_2_train_labels.csv` or VinBigData's `train.csv`, told by the columns.

    VinBigData's boxes are those of all its readers, as given; `No finding` is one truth an image,
    however many readers say so.

    Raises:
        LabelsError: it is neither, or with every faulty row.
    """
    columns = _columns(path)
    if set(_RSNA) <= set(columns):
        return _gather("RSNA", path, _RSNA, _rsna_box)
    if set(_VINBIGDATA) <= set(columns):
        return _gather("VinBigData", path, _VINBIGDATA, _vinbigdata_box)
    sets = f"RSNA's columns ({', '.join(_RSNA)}) nor VinBigData's ({', '.join(_VINBIGDATA)})"
    raise LabelsError(path, [Fault(f"has neither {sets}", 1)])


def read_column(path: Path, column: str, ids: Sequence[str]) -> list[str]:
    """What another of RSNA's files says of each image in `column`.

    Raises:
        LabelsError: it cannot be read, has no such column, or says nothing of an image.
    """
    found: dict[str, str] = {}
    for _, (name, value) in _rows(path, ("patientId", column)):
        found.setdefault(name, value)
    if faults := [Fault(f"has no {column} for {name}") for name in ids if not found.get(name)]:
        raise LabelsError(path, faults)
    return [found[name] for name in ids]


def has_column(path: Path, column: str) -> bool:
    """Whether there is such a file, and it has `column`."""
    return path.is_file() and column in _columns(path)


def _columns(path: Path) -> list[str]:
    with open_csv(path, LabelsError) as file:
        return next(csv.reader(file), [])


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    """Line and the cells of `columns`, in their order; cells that a row lacks are empty."""
    with open_csv(path, LabelsError) as file:
        reader = csv.reader(file)
        header = next(reader, [])
        if missing := [name for name in columns if name not in header]:
            raise LabelsError(path, [Fault(f"has no column {name}", 1) for name in missing])
        places = [header.index(name) for name in columns]
        for row in reader:
            if row:
                row += [""] * (len(header) - len(row))
                yield reader.line_num, [row[place] for place in places]


def _gather(
    challenge: Challenge,
    path: Path,
    columns: tuple[str, ...],
    read_box: Callable[[list[str]], tuple[int, Box] | None],
) -> Labels:
    """Rows by image; `read_box` makes class and corners, or nothing, of all cells but the first."""
    found: dict[str, list[tuple[int, Box]]] = {}
    faults = []
    for line, (name, *cells) in _rows(path, columns):
        try:
            box = read_box(cells)
        except ValueError as error:
            faults.append(Fault(str(error), line))
            continue
        of_image = found.setdefault(name, [])
        if box and not (box[0] == VINBIGDATA_NO_FINDING and box in of_image):
            of_image.append(box)
    if not found and not faults:
        faults.append(Fault("labels no image"))
    if faults:
        raise LabelsError(path, faults)
    return Labels(
        challenge=challenge,
        ids=tuple(found),
        boxes=tuple(geometry.as_boxes([box for _, box in boxes]) for boxes in found.values()),
        classes=tuple(np.array([n for n, _ in boxes], np.int64) for boxes in found.values()),
    )


def _rsna_box(cells: list[str]) -> tuple[int, Box] | None:
    *numbers, target = cells
    if target not in ("0", "1"):
        raise ValueError(f"the target is {target!r}, neither 0 nor 1")
    if target == "0":
        return None
    x, y, width, height = map(_number, numbers)
    return 0, _checked((x, y, x + width, y + height))


def _vinbigdata_box(cells: list[str]) -> tuple[int, Box]:
    *numbers, number = cells
    if number not in map(str, range(len(VINBIGDATA_CLASSES))):
        raise ValueError(f"{number!r} is no class, 0 to {len(VINBIGDATA_CLASSES) - 1}")
    if int(number) == VINBIGDATA_NO_FINDING:
        return VINBIGDATA_NO_FINDING, NOTHING_BOX
    x1, y1, x2, y2 = map(_number, numbers)
    return int(number), _checked((x1, y1, x2, y2))


def _checked(box: Box) -> Box:
    if box[2] <= box[0] or box[3] <= box[1]:
        raise ValueError("a box has no width or height")
    return box


def _number(cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        raise ValueError(f"{cell!r} stands where a number should be") from None
    if not math.isfinite(value):
        raise ValueError(f"{cell!r} is not a finite number")
    return value
