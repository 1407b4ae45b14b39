"""One truth from several readers, and lung opacity from several classes."""

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from lungbox.boxes.fusion import Voter, weighted_boxes
from lungbox.boxes.geometry import Boxes
from lungbox.datasets.types import LUNG_OPACITY, LabelledRadiograph

# Boxes of two readers are of one finding where they overlap by more.
_SAME_IOU = 0.4
# The fewest readers that have to draw a box of the same finding.
MIN_READERS = 2


def agreed_boxes(boxes: Boxes, readers: Collection[str]) -> Boxes:
    """The boxes that two or more readers drew, each the mean of theirs.

    By weighted boxes fusion, in which all readers count the same.

    Args:
        boxes: `(N, 4)`, of one class.
        readers: who drew each.

    >>> both = geometry.as_boxes([[0, 0, 10, 10], [0, 0, 10, 12], [50, 50, 60, 60]])
    >>> agreed_boxes(both, ["R8", "R9", "R9"]).tolist()
    [[0.0, 0.0, 10.0, 11.0]]
    """
    drawn_by = np.array(list(readers), str)
    voters = [
        Voter(boxes[drawn_by == name], np.ones((drawn_by == name).sum(), np.float32))
        for name in sorted(set(drawn_by))
    ]
    fused, shares = weighted_boxes(voters, _SAME_IOU)
    return fused[shares * len(voters) > MIN_READERS - 0.5]


def opacity_only(image: LabelledRadiograph, classes: Collection[str]) -> LabelledRadiograph:
    """The image as the task of lung opacity has it: with boxes of one class.

    Boxes of other classes are dropped. Where several readers drew boxes, those that two or more
    agree on are kept; an image on which one reader alone saw an opacity is uncertain.

    Args:
        image: with boxes of any classes.
        classes: those that count as lung opacity; all of them where empty.
    """
    chosen = np.array([not classes or label in classes for label in image.labels], bool)
    boxes = image.boxes[chosen]
    if image.readers:
        readers = [who for who, kept in zip(image.readers, chosen, strict=True) if kept]
        boxes = agreed_boxes(boxes, readers)
    return replace(
        image,
        boxes=boxes,
        target=len(boxes) > 0,
        uncertain=image.uncertain or (len(boxes) == 0 and bool(chosen.any())),
        labels=(LUNG_OPACITY,) * len(boxes),
        readers=(),
    )
