"""Labelled radiographs, whatever challenge they come from."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lungbox.errors import LungboxError
from lungbox.values import ByValue


class DatasetError(LungboxError):
    """A folder does not hold the data it should; the message says what was looked for."""


class Fault(str):
    """What is wrong with one label or file, as a sentence that names it.

    Attributes:
        kind: what faults of this sort have in common, to count them by.
    """

    kind: str

    def __new__(cls, kind: str, where: object, what: str) -> "Fault":
        fault = super().__new__(cls, f"{where}: {what}")
        fault.kind = kind
        return fault

    def __reduce__(self) -> tuple[type["Fault"], tuple[str, str, str]]:
        where, _, what = self.partition(": ")
        return Fault, (self.kind, where, what)


@dataclass(frozen=True, eq=False)
class LabelledRadiograph(ByValue):
    """One radiograph with what its readers said.

    Attributes:
        identity: the file's identity.
        path: the file.
        source: the data set: `rsna`, `siim` or `plain`.
        size: width and height of the file, in pixels.
        boxes: `(N, 4)` float32, `x1, y1, x2, y2`, pixels of the file.
        target: whether it shows any opacity.
        category: the class its data set gives it.
        patient: images that share one are never split between folds.
        fold: 0-4, or -1 until it has one (see `folds.assign`).
        uncertain: labelled positive, but without a box that can be used: neither a positive nor
            a negative, so left out of losses and of false-positive rates.
        view: `AP` or `PA`, or empty.
        sex: `M` or `F`, or empty.
        age: in years, or -1.
        equalised: whether the file's histogram was equalised before it was published.
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


@dataclass(frozen=True)
class Dataset:
    """Labelled radiographs in a fixed order, and the label faults found while they were loaded."""

    images: tuple[LabelledRadiograph, ...]
    faults: tuple[Fault, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def where(self, keep: Callable[[LabelledRadiograph], bool]) -> "Dataset":
        """The images for which `keep` holds, in the same order."""
        return Dataset(tuple(image for image in self.images if keep(image)), self.faults)

    def folds(self, folds: Iterable[int]) -> "Dataset":
        """The images of these folds."""
        wanted = set(folds)
        return self.where(lambda image: image.fold in wanted)

    def of_source(self, source: str) -> "Dataset":
        """The images of one data set."""
        return self.where(lambda image: image.source == source)

    def __add__(self, other: "Dataset") -> "Dataset":
        return Dataset(self.images + other.images, self.faults + other.faults)
