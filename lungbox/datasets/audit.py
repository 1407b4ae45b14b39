"""What is wrong with labels, and what is left of them: a fault is said, and stops nothing."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lungbox.boxes import Boxes, geometry
from lungbox.constants import SIIM_CLASSES
from lungbox.datasets.tables import number
from lungbox.datasets.types import Dataset, Fault

# Boxes may reach this far over an edge, in pixels of the labels, without a word: it is rounding.
_ROUNDING = 1.0


@dataclass(frozen=True)
class BoxLabel:
    """A box as it was written down.

    Attributes:
        where: the table and line it stands in, and the image.
        values: x, y, width and height, whatever stands in their place.
    """

    where: str
    values: tuple[object, object, object, object]


def sound_boxes(labels: Iterable[BoxLabel], size: tuple[float, float]) -> tuple[Boxes, list[Fault]]:
    """The boxes of one image that can be used, and what is wrong with the others.

    Args:
        labels: in pixels of the image they were drawn on.
        size: its width and height.

    Returns:
        `(N, 4)` float32 `x1, y1, x2, y2` in the same pixels, inside the image, none twice; and a
        fault for each that was left out or cut off.
    """
    kept: list[tuple[float, ...]] = []
    faults = []
    for label in labels:
        fault, corners = _judge(label, size)
        if corners in kept:
            fault, corners = ("doubled box", "the same box stands there twice; one left out"), None
        if fault:
            faults.append(Fault(fault[0], label.where, fault[1]))
        if corners is not None:
            kept.append(corners)
    return geometry.as_boxes(kept), faults


def _judge(
    label: BoxLabel, size: tuple[float, float]
) -> tuple[tuple[str, str] | None, tuple[float, ...] | None]:
    """What is wrong with a box (kind, sentence), and what is left of it."""
    numbers = [number(value) for value in label.values]
    x, y, width, height = numbers
    if x is None or y is None or width is None or height is None:
        written = ", ".join(str(value) or "nothing" for value in label.values)
        return ("box without numbers", f"its box is {written}, not four numbers; left out"), None
    if width <= 0 or height <= 0:
        return ("box without area", f"its box is {width:g} x {height:g} pixels; left out"), None
    box = np.array([[x, y, x + width, y + height]])
    inside = geometry.clip(box, size)
    of_size = f"the image of {size[0]:g} x {size[1]:g} pixels"
    written = f"its box {x:g}, {y:g} to {box[0, 2]:g}, {box[0, 3]:g}"
    if geometry.area(inside)[0] <= 0:
        return ("box outside the image", f"{written} is outside {of_size}; left out"), None
    corners = tuple(float(value) for value in inside[0])
    if np.abs(inside - box).max() > _ROUNDING:
        return ("box over the edge", f"{written} reaches out of {of_size}; cut off there"), corners
    return None, corners


def unlabelled(files: Iterable[Path], labelled: Iterable[Path]) -> list[Fault]:
    """A fault for each file that no label names."""
    unnamed = set(files) - set(labelled)
    return [Fault("file without label", path, "has no label; left out") for path in sorted(unnamed)]


def check_class(written: str, known: Sequence[str], where: str, faults: list[Fault]) -> None:
    """Add a fault where a class is not among those of its data set; it stays as it is written."""
    if written and written not in known:
        said = f"its class {written} is not known; kept as it is (known: {', '.join(known)})"
        faults.append(Fault("unknown class", where, said))


def siim_positive(
    category: str, boxes: Sequence[BoxLabel], where: str, faults: list[Fault]
) -> bool:
    """Whether SIIM-COVID's class `category` is a positive study's; boxes on another are a fault."""
    positive = category != SIIM_CLASSES[0]
    if boxes and not positive:
        faults.append(Fault("box without target", where, f"{category}, but has a box"))
    return positive


def torn_patients(dataset: Dataset) -> list[Fault]:
    """A fault for each patient whose images are in several folds."""
    folds: dict[tuple[str, str], set[int]] = defaultdict(set)
    for image in dataset.images:
        folds[image.source, image.patient].add(image.fold)
    return [
        Fault(
            "patient in several folds",
            f"patient {patient} of {source}",
            f"its images are in folds {', '.join(map(str, sorted(found)))}; a score on one of "
            "them is too good",
        )
        for (source, patient), found in sorted(folds.items())
        if len(found) > 1
    ]


def count(faults: Iterable[Fault]) -> list[tuple[str, int]]:
    """How many faults there are of each kind, the most first."""
    return Counter(fault.kind for fault in faults).most_common()
