"""Label issues: what is wrong with boxes, classes and files, and what of them can be used."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lungbox.boxes import Boxes, geometry
from lungbox.datasets.tables import Row, number
from lungbox.datasets.types import LUNG_OPACITY, Dataset, LabelIssue, LabelledRadiograph

# Boxes may reach this far over an edge, in pixels of the labels, without an issue: it is rounding.
_ROUNDING = 1.0
# Bytes at the end of a file, compared before all of it is.
_TAIL = 4096

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
        corners = read_corners(label)
        if not isinstance(corners, LabelIssue):
            corners, issue = _inside(label, corners, size)
            if corners is not None and (corners, label.name) in kept:
                corners, issue = None, label.issue("duplicate box", "is there twice; one left out")
            if corners is not None:
                kept[corners, label.name] = None
        else:
            issue = corners
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
    issues = []
    for copies in _copies(dataset.images):
        first, *others = sorted(copies, key=lambda image: image.path)
        for image in others:
            if image.fold != first.fold:
                what = (
                    f"is in fold {image.fold}, and its copy {first.path} in fold {first.fold}; a "
                    "score on one of them is too good"
                )
                issues.append(LabelIssue("file in several folds", image.path, what))
    return issues


def _copies(images: Iterable[LabelledRadiograph]) -> Iterator[list[LabelledRadiograph]]:
    """Images of equal content: alike in size, then in their last bytes, then in all of them."""
    groups = [list(images)]
    for key in (_bytes, _tail, _digest):
        found: dict[object, list[LabelledRadiograph]] = defaultdict(list)
        for number, group in enumerate(groups):
            for image in group:
                with suppress(OSError):  # what cannot be read now is reported where it is needed
                    found[number, key(image.path)].append(image)
        groups = [group for group in found.values() if len({image.fold for image in group}) > 1]
    yield from groups


def _bytes(path: Path) -> object:
    return path.stat().st_size


def _tail(path: Path) -> object:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        return file.read()


def _digest(path: Path) -> object:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def count(issues: Iterable[LabelIssue]) -> list[tuple[str, int]]:
    """How many issues there are of each kind, the most frequent first."""
    return Counter(issue.kind for issue in issues).most_common()
