"""One truth from several readers, and lung opacity from several classes."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from lungbox.boxes import geometry
from lungbox.boxes.geometry import Boxes
from lungbox.datasets.types import LUNG_OPACITY, LabelledRadiograph

# Boxes of two readers are of one finding where they overlap by more.
_SAME_IOU = 0.4
# The fewest readers that have to draw a box of the same finding.
MIN_READERS = 2


def agreed_boxes(boxes: Boxes, readers: Sequence[str]) -> Boxes:
    """The boxes that two or more readers drew, each the mean of theirs.

    Boxes are clustered as in weighted boxes fusion (`boxes.fusion.weighted_boxes`), but a reader
    who draws one finding twice counts once.

    Args:
        boxes: `(N, 4)`, of one class.
        readers: who drew each.

    >>> both = geometry.as_boxes([[0, 0, 10, 10], [0, 0, 10, 12], [50, 50, 60, 60]])
    >>> agreed_boxes(both, ["R8", "R9", "R9"]).tolist()
    [[0.0, 0.0, 10.0, 11.0]]
    """
    clusters: list[list[int]] = []
    for row, box in enumerate(boxes):
        means = geometry.as_boxes([boxes[rows].mean(axis=0) for rows in clusters])
        overlaps = geometry.iou(means, box[None])[:, 0]
        if len(clusters) and overlaps.max() > _SAME_IOU:
            clusters[int(overlaps.argmax())].append(row)
        else:
            clusters.append([row])
    agreed = [rows for rows in clusters if len({readers[row] for row in rows}) >= MIN_READERS]
    return geometry.as_boxes([boxes[rows].mean(axis=0) for rows in agreed])


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
