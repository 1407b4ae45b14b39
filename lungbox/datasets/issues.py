"""Label issues: what is wrong with boxes, classes and files, and what of them can be used."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lungbox.boxes import Boxes, geometry
from lungbox.datasets.images import identical_files
from lungbox.datasets.tables import Row, number
from lungbox.datasets.types import LUNG_OPACITY, Dataset, LabelIssue

# Boxes may reach this far over an edge, in pixels of the labels, without an issue: it is rounding.
_ROUNDING = 1.0

Corners = tuple[float, float, float, float]


@dataclass(frozen=True)
class BoxLabel:
    """A box as it is written in a table.

    Attributes:
        where: the table, the line, and the image.
        values: x, y, width and height, whatever is written there.
        name: its class.
        line: of the table.
    """

    where: str
    values: tuple[object, object, object, object]
    name: str = LUNG_OPACITY
    line: int | None = None

    @classmethod
    def of(cls, row: Row, image: str, name: str = LUNG_OPACITY) -> "BoxLabel":
        """The box in the columns `x, y, width, height` of a row of `image`."""
        x, y, width, height = (row.get(column) for column in ("x", "y", "width", "height"))
        return cls(f"{row.where}, {image}", (x, y, width, height), name, row.line)

    @property
    def blank(self) -> bool:
        """Whether nothing is written there."""
        return not any(self.values)

    def issue(self, kind: str, what: str) -> LabelIssue:
        """An issue of this box."""
        return LabelIssue(kind, self.where, what, self.line)


def read_corners(label: BoxLabel) -> Corners | LabelIssue:
    """`x1, y1, x2, y2` of a box; an issue where it is not four numbers, or has no area."""
    x, y, width, height = (number(value) for value in label.values)
    if x is None or y is None or width is None or height is None:
        written = ", ".join(str(value) or "nothing" for value in label.values)
        return label.issue(
            "box without numbers", f"its box is {written}, not four numbers; left out"
        )
    if width <= 0 or height <= 0:
        size = f"{width:g} x {height:g} pixels"
        return label.issue("box without area", f"its box is {size}; left out")
    return x, y, x + width, y + height


def valid_boxes(
    labels: Iterable[BoxLabel], size: tuple[float, float]
) -> tuple[Boxes, tuple[str, ...], list[LabelIssue]]:
    """The usable boxes of one image, and what is wrong with the others.

    Args:
        labels: in pixels of the image they were drawn on.
        size: its width and height.

    Returns:
        `(N, 4)` float32 `x1, y1, x2, y2` in the same pixels, inside the image, none twice; the
        class of each; and an issue for each that was left out or cut off.
    """
    kept: dict[tuple[Corners, str], None] = {}
    issues = []
    for label in labels:
        written = read_corners(label)
        if isinstance(written, LabelIssue):
            issues.append(written)
            continue
        corners, issue = _inside(label, written, size)
        if corners is not None and (corners, label.name) in kept:
            issue = label.issue("duplicate box", "the same box is there twice; one left out")
        elif corners is not None:
            kept[corners, label.name] = None
        if issue is not None:
            issues.append(issue)
    boxes = geometry.as_boxes([corners for corners, _ in kept])
    return boxes, tuple(name for _, name in kept), issues


def _inside(
    label: BoxLabel, corners: Corners, size: tuple[float, float]
) -> tuple[Corners | None, LabelIssue | None]:
    """What of a box is inside the image, and an issue where that is not all of it."""
    box = np.array([corners])
    inside = geometry.clip(box, size)
    of_size = f"the image of {size[0]:g} x {size[1]:g} pixels"
    x1, y1, x2, y2 = corners
    written = f"its box {x1:g}, {y1:g} to {x2:g}, {y2:g}"
    if geometry.area(inside)[0] <= 0:
        what = f"{written} is outside {of_size}; left out"
        return None, label.issue("box outside the image", what)
    left, top, right, bottom = (float(value) for value in inside[0])
    if np.abs(inside - box).max() > _ROUNDING:
        what = f"{written} reaches out of {of_size}; cut off there"
        return (left, top, right, bottom), label.issue("box over the edge", what)
    return (left, top, right, bottom), None


def files_without_label(files: Iterable[Path], labelled: Iterable[Path]) -> list[LabelIssue]:
    """An issue for each file that no label names."""
    unnamed = set(files) - set(labelled)
    return [
        LabelIssue("file without label", path, "has no label; left out") for path in sorted(unnamed)
    ]


def check_class(written: str, known: Sequence[str], where: str, issues: list[LabelIssue]) -> None:
    """Add an issue where a class is not among those of its data set; it stays as it is written."""
    if written and written not in known:
        what = f"its class {written} is not known; kept as it is (known: {', '.join(known)})"
        issues.append(LabelIssue("unknown class", where, what))


def patients_across_folds(dataset: Dataset) -> list[LabelIssue]:
    """An issue for each patient whose images are in several folds."""
    folds: dict[tuple[str, str], set[int]] = defaultdict(set)
    for image in dataset.images:
        folds[image.source, image.patient].add(image.fold)
    return [
        LabelIssue(
            "patient in several folds",
            f"patient {patient} of {source}",
            f"its images are in folds {', '.join(map(str, sorted(found)))}; a score on one of "
            "them is too good",
        )
        for (source, patient), found in sorted(folds.items())
        if len(found) > 1
    ]


def files_across_folds(dataset: Dataset) -> list[LabelIssue]:
    """An issue for each image file whose exact copy, under another name, is in another fold."""
    folds = {image.path: image.fold for image in dataset.images}
    issues = []
    for copies in identical_files(folds):
        first, *others = sorted(copies)
        for path in others:
            if folds[path] != folds[first]:
                what = (
                    f"is in fold {folds[path]}, and its copy {first} in fold {folds[first]}; a "
                    "score on one of them is too good"
                )
                issues.append(LabelIssue("file in several folds", path, what))
    return issues


def count(issues: Iterable[LabelIssue]) -> list[tuple[str, int]]:
    """How many issues there are of each kind, the most frequent first."""
    return Counter(issue.kind for issue in issues).most_common()
