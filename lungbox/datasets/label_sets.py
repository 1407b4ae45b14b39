"""Label sets: the image-level labels that a classification network is trained and evaluated on."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lungbox.constants import (
    NIH_FINDINGS,
    RSNA_CLASSES,
    UNKNOWN,
    VINBIGDATA_CLASSES,
    VINBIGDATA_NO_FINDING,
)
from lungbox.datasets.findings import ABNORMAL
from lungbox.datasets.types import LabelledRadiograph

LabelSetName = Literal["abnormal", "three", "nih", "vinbigdata"]


@dataclass(frozen=True)
class LabelSet:
    """The labels of a classification network, and an image's values of them.

    Attributes:
        name: as in recipes.
        class_names: of the network's output `classes`, in its order.
        findings: the entry of `LabelledRadiograph.findings` that each label is; empty where the
            labels exclude each other.
    """

    name: LabelSetName
    class_names: tuple[str, ...]
    findings: tuple[str, ...] = ()

    @property
    def exclusive(self) -> bool:
        """Whether an image has exactly one of the labels, RSNA's three classes."""
        return not self.findings

    def target(self, image: LabelledRadiograph) -> tuple[float, ...]:
        """The L labels of an image, `UNKNOWN` where nothing is known of one.

        They are 0-1 (VinBigData: the share of its readers who marked the finding). Of labels that
        exclude each other, 1 for each that the image may have: SIIM-COVID's negatives are known to
        be without opacity, and so normal or not normal.
        """
        known = dict(image.findings)
        if self.findings:
            return tuple(known.get(name, UNKNOWN) for name in self.findings)
        possible = _possible_classes(image, known.get(ABNORMAL, UNKNOWN))
        return (UNKNOWN,) * len(possible) if all(possible) else possible

    def is_known(self, image: LabelledRadiograph) -> bool:
        """Whether anything is known of an image's labels."""
        return any(value != UNKNOWN for value in self.target(image))

    def truth(
        self, images: Iterable[LabelledRadiograph]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which labels N images have, `(N, L)`, and which of these are known, `(N, L)`.

        A finding is there where half of the readers marked it, or more.
        """
        rows = [self.target(image) for image in images]
        targets = np.array(rows, np.float64).reshape(-1, len(self.class_names))
        if self.findings:
            return targets >= 0.5, targets != UNKNOWN
        single = targets.sum(axis=1, keepdims=True) == 1
        return single & (targets == 1), single | (targets == 0)


def _possible_classes(image: LabelledRadiograph, abnormal: float) -> tuple[float, float, float]:
    """1 for each of RSNA's classes (normal, not normal, opacity) that an image may have."""
    if image.target:
        return 0.0, 0.0, 1.0
    normal, not_normal = float(abnormal != 1), float(abnormal != 0)
    return normal, not_normal, float(image.uncertain and abnormal != 0)


_FINDINGS = VINBIGDATA_CLASSES[:VINBIGDATA_NO_FINDING]
LABEL_SETS: dict[LabelSetName, LabelSet] = {
    labels.name: labels
    for labels in (
        LabelSet("abnormal", (ABNORMAL,), (ABNORMAL,)),
        LabelSet("three", RSNA_CLASSES),
        LabelSet("nih", NIH_FINDINGS, tuple(f"NIH {name}" for name in NIH_FINDINGS)),
        LabelSet("vinbigdata", _FINDINGS, tuple(f"VinBigData {name}" for name in _FINDINGS)),
    )
}


def label_set_of(class_names: Iterable[str]) -> LabelSet | None:
    """The label set of a network's class names; None where they are of none.

    >>> label_set_of(["abnormal"]).name
    'abnormal'
    """
    names = tuple(class_names)
    return next((one for one in LABEL_SETS.values() if one.class_names == names), None)
