"""Labelled radiographs, whatever challenge they come from."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lungbox.common.equality import ValueEquality
from lungbox.constants import CLASS_NAMES, OPACITY
from lungbox.datasets.findings import FindingLabels
from lungbox.errors import LungboxError

# The class of a box where the labels name none.
LUNG_OPACITY = CLASS_NAMES[OPACITY]


class DatasetError(LungboxError):
    """A folder does not hold the data it should; the message says what was looked for."""


class LabelIssue(str):
    """What is wrong with one label or file, as a sentence that names it.

    >>> issue = LabelIssue("duplicate row", "labels.csv, line 7", "as line 3; left out", line=7)
    >>> issue, issue.kind, issue.line
    ('labels.csv, line 7: as line 3; left out', 'duplicate row', 7)

    Attributes:
        kind: what issues of this sort have in common, to count them by.
        what: the sentence without the location.
        line: of the table; None where the issue is not of one line.
    """

    kind: str
    what: str
    line: int | None

    def __new__(cls, kind: str, where: object, what: str, line: int | None = None) -> "LabelIssue":
        issue = super().__new__(cls, f"{where}: {what}")
        issue.kind, issue.what, issue.line = kind, what, line
        return issue

    def __reduce__(self) -> tuple[type["LabelIssue"], tuple[str, str, str, int | None]]:
        return LabelIssue, (self.kind, self.removesuffix(f": {self.what}"), self.what, self.line)


@dataclass(frozen=True)
class DatasetInfo:
    """What a module of `lungbox.datasets` declares of its data set.

    Attributes:
        name: the source of its images, as in recipes: `rsna`.
        title: its name in tables: `RSNA`.
        files: what its folder holds, for the message where no data set is found.
        class_names: of its boxes; where its own tables give them, see `Dataset.class_names`.
        categories: the classes of its images; empty where any is allowed.
        negatives: those of them that are without finding, by their names in figures.
        opacity: the classes of boxes that count as lung opacity, see `consensus.opacity_only`; all
            of them where empty.
        mix: the share of each category in the challenge. The data set that has one is scored at
            that mix, and operating points are chosen on it.
        categories_file: the table that gives the categories.
    """

    name: str
    title: str
    files: str = ""
    class_names: tuple[str, ...] = (LUNG_OPACITY,)
    categories: tuple[str, ...] = ()
    negatives: Mapping[str, str] = field(default_factory=dict)
    opacity: tuple[str, ...] = ()
    mix: Mapping[str, float] = field(default_factory=dict)
    categories_file: str = ""

    @property
    def normal(self) -> str:
        """The class of normal images; empty where none is told from abnormal ones."""
        return self.negatives.get("normal", "")

    @property
    def abnormal(self) -> str:
        """The class of images that are abnormal without finding; empty where there is none.

        >>> negatives = {"normal": "Normal", "not normal": "No Lung Opacity / Not Normal"}
        >>> DatasetInfo("rsna", "RSNA", negatives=negatives).abnormal
        'No Lung Opacity / Not Normal'
        """
        others = [name for key, name in self.negatives.items() if key != "normal"]
        return others[0] if self.normal and others else ""


@dataclass(frozen=True, eq=False)
class LabelledRadiograph(ValueEquality):
    """One radiograph with the boxes that its readers drew.

    Attributes:
        identity: the file's identity.
        path: the file.
        source: the data set, a name of `datasets.INFOS`.
        size: width and height of the file, in pixels.
        boxes: `(N, 4)` float32, `x1, y1, x2, y2`, pixels of the file.
        target: whether it has a box.
        category: the class its data set gives it as an image.
        patient: images that share one are never split between folds.
        fold: 0-4, or -1 until it has one (see `folds.assign`).
        uncertain: labelled positive, but without a usable box: neither a positive nor a negative,
            so left out of losses and of false-positive rates.
        view: `AP` or `PA`, or empty.
        sex: `M` or `F`, or empty.
        age: in years, or -1.
        equalised: whether the file's histogram was equalised before it was published.
        labels: the class of each box; `lung opacity` for all of them where none is given.
        readers: who drew each box, where several readers did so independently; else empty.
        findings: image-level labels that are known, of `findings.FINDINGS`, with their probability.

    Raises:
        ValueError: there are not as many labels, or readers, as boxes.
    """

    identity: str
    path: Path
    source: str
    size: tuple[int, int]
    boxes: NDArray[np.float32] = field(repr=False)
    target: bool
    category: str
    patient: str
    fold: int = -1
    uncertain: bool = False
    view: str = ""
    sex: str = ""
    age: int = -1
    equalised: bool = False
    labels: tuple[str, ...] = ()
    readers: tuple[str, ...] = ()
    findings: FindingLabels = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if not self.labels:
            object.__setattr__(self, "labels", (LUNG_OPACITY,) * len(self.boxes))
        if len(self.labels) != len(self.boxes):
            raise ValueError(f"{self.identity}: {len(self.labels)} labels, {len(self.boxes)} boxes")
        if self.readers and len(self.readers) != len(self.boxes):
            raise ValueError(
                f"{self.identity}: {len(self.readers)} readers, {len(self.boxes)} boxes"
            )


@dataclass(frozen=True)
class Dataset:
    """Labelled radiographs in a fixed order.

    Attributes:
        images: the radiographs.
        issues: what was found to be wrong with labels and files while they were loaded.
        class_names: the classes that boxes have, in the order of a detector's outputs.

    >>> Dataset(()) + Dataset((), class_names=("lung opacity", "Nodule/Mass"))
    Dataset(images=(), issues=(), class_names=('lung opacity', 'Nodule/Mass'))
    """

    images: tuple[LabelledRadiograph, ...]
    issues: tuple[LabelIssue, ...] = ()
    class_names: tuple[str, ...] = (LUNG_OPACITY,)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def sources(self) -> frozenset[str]:
        """The data sets that its images are of."""
        return frozenset(image.source for image in self.images)

    def where(self, keep: Callable[[LabelledRadiograph], bool]) -> "Dataset":
        """The images for which `keep` holds, in the same order."""
        return replace(self, images=tuple(image for image in self.images if keep(image)))

    def folds(self, folds: Iterable[int]) -> "Dataset":
        """The images of these folds."""
        wanted = set(folds)
        return self.where(lambda image: image.fold in wanted)

    def of_source(self, source: str) -> "Dataset":
        """The images of one data set."""
        return self.where(lambda image: image.source == source)

    def __add__(self, other: "Dataset") -> "Dataset":
        """Both, one after the other; classes that both have stay where the first has them."""
        names = dict.fromkeys(self.class_names + other.class_names)
        return Dataset(self.images + other.images, self.issues + other.issues, tuple(names))
