"""One truth from several readers: of lung opacity, and of several findings."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from lungbox.boxes.consensus import SAME_FINDING_IOU, confirmed, consensus
from lungbox.datasets.types import LUNG_OPACITY, LabelledRadiograph

# The fewest readers that have to draw a box of the same opacity.
MIN_READERS = 2


def opacity_only(image: LabelledRadiograph, classes: Collection[str]) -> LabelledRadiograph:
    """The image as the task of lung opacity has it: with boxes of one class.

    Boxes of other classes are dropped. Where several readers drew boxes, those that two or more
    agree on are kept; an image on which one reader alone saw an opacity is uncertain.

    Args:
        image: with boxes of any classes.
        classes: those that count as lung opacity; all of them where empty.
    """
    of_class = _with_labels(image, classes or set(image.labels))
    one_class = replace(of_class, labels=(LUNG_OPACITY,) * len(of_class.boxes))
    return _merged(one_class, MIN_READERS, SAME_FINDING_IOU)


def findings_only(
    image: LabelledRadiograph,
    classes: Collection[str],
    min_readers: int = 1,
    iou_threshold: float = SAME_FINDING_IOU,
) -> LabelledRadiograph:
    """The image as the task of several findings has it: one truth for each of `classes`.

    An image is uncertain where boxes of these classes were drawn, and none of them is left.

    Args:
        image: with boxes of any classes.
        classes: boxes of others are dropped.
        min_readers: the fewest readers that have to agree, where several readers drew boxes.
        iou_threshold: boxes of one class that overlap by more are of one finding.
    """
    return _merged(_with_labels(image, classes), min_readers, iou_threshold)


def _with_labels(image: LabelledRadiograph, classes: Collection[str]) -> LabelledRadiograph:
    """The image with the boxes of these classes alone."""
    rows = [row for row, label in enumerate(image.labels) if label in classes]
    return replace(
        image,
        boxes=image.boxes[rows],
        labels=tuple(image.labels[row] for row in rows),
        readers=tuple(image.readers[row] for row in rows) if image.readers else (),
    )


def _merged(
    image: LabelledRadiograph, min_readers: int, iou_threshold: float
) -> LabelledRadiograph:
    """The image with one truth of its readers; uncertain where they drew boxes and none is left."""
    boxes, labels = image.boxes, image.labels
    if image.readers:
        boxes, labels, _ = consensus(boxes, image.readers, labels, min_readers, iou_threshold)
    return replace(
        image,
        boxes=boxes,
        target=len(boxes) > 0,
        uncertain=image.uncertain or (len(boxes) == 0 and len(image.boxes) > 0),
        labels=labels,
        readers=(),
    )


class Agreement(NamedTuple):
    """How far the readers of a class agree.

    Attributes:
        boxes: that the readers drew.
        confirmed: how many of them overlap a box of the same class by another reader.
    """

    boxes: int
    confirmed: int

    @property
    def share(self) -> float:
        """Of the boxes, those that another reader drew, too; NaN without a box."""
        return self.confirmed / self.boxes if self.boxes else float("nan")


def readers_agreement(
    images: Iterable[LabelledRadiograph], iou_threshold: float = SAME_FINDING_IOU
) -> dict[str, Agreement]:
    """How far the readers agree, by class, where several drew boxes independently.

    Args:
        images: with all boxes of all readers, as `datasets.load` gives them.
        iou_threshold: two boxes of one class are of one finding where they overlap by more.

    Returns:
        By class, the most frequent first.
    """
    drawn: Counter[str] = Counter()
    agreed: Counter[str] = Counter()
    for image in images:
        if not image.readers:
            continue
        same = confirmed(image.boxes, image.readers, image.labels, iou_threshold)
        drawn.update(image.labels)
        agreed.update(np.array(image.labels, object)[same].tolist())
    return {label: Agreement(count, agreed[label]) for label, count in drawn.most_common()}
