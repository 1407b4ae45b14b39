"""From an averaged mask to boxes: connected regions, small ones dropped, boxes shrunk."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label, regionprops

from lungbox.boxes.geometry import Boxes, as_boxes, scale, shrink
from lungbox.constants import (
    BACKGROUND,
    OPACITY,
    REFERENCE_MIN_BOX_AREA,
    REFERENCE_SHRINK,
    RSNA_SIZE,
)

Compatibility = Literal["lungbox", "reference"]


@dataclass(frozen=True)
class OperatingPoint:
    """How a mask becomes boxes.

    Attributes:
        rule: a mask pixel is opacity where its opacity channel is the larger (`argmax`), or at
            least `threshold`.
        threshold: for the rule `threshold`, 0-1.
        min_area: a region is dropped unless its bounding box is larger than this share of the
            image.
        shrink: share taken off EACH side of a box's width and height.
        gate: no box at all where the image score is below this.
        compatibility: `reference` repeats the reference system's arithmetic: its 1024 x 1024 map,
            its minimum of 25,000 pixels, its whole-pixel shrinking and its confidence (the share
            of mask pixels in the box); `min_area` and `shrink` are then its own.
    """

    rule: Literal["argmax", "threshold"] = "threshold"
    threshold: float = 0.5
    min_area: float = 0.005
    shrink: float = 0.05
    gate: float = 0.0
    compatibility: Compatibility = "lungbox"


def regions(
    mask: NDArray[np.floating], size: tuple[int, int], image_score: float, point: OperatingPoint
) -> tuple[Boxes, NDArray[np.float32]]:
    """Boxes around the connected regions of opacity in one radiograph's mask.

    Args:
        mask: `(h, w, 2)` probabilities of background and opacity.
        size: width and height of the radiograph, in pixels of the file.
        image_score: probability that it shows any opacity.
        point: how to decide.

    Returns:
        `(N, 4)` `x1, y1, x2, y2` in pixels of the file and `(N,)` confidences in 0-1, most
        certain first. A confidence is the mean opacity probability over the region's pixels.
    """
    if image_score < point.gate:
        return as_boxes([]), np.zeros(0, np.float32)
    painted = _painted(mask, point)
    if point.compatibility == "reference":
        boxes, scores, space = *_reference_boxes(painted), (RSNA_SIZE, RSNA_SIZE)
    else:
        boxes, scores = _boxes(painted, mask[..., OPACITY], point)
        space = (mask.shape[1], mask.shape[0])
    order = np.argsort(-scores, kind="stable")
    return scale(boxes[order], space, size), scores[order]


def _painted(mask: NDArray[np.floating], point: OperatingPoint) -> NDArray[np.bool_]:
    if point.rule == "argmax":
        return mask[..., OPACITY] > mask[..., BACKGROUND]
    return mask[..., OPACITY] >= point.threshold


def _boxes(
    painted: NDArray[np.bool_], opacity: NDArray[np.floating], point: OperatingPoint
) -> tuple[Boxes, NDArray[np.float32]]:
    """Boxes in pixels of the mask, and confidences."""
    found = [
        (region.bbox, region.intensity_mean)
        for region in regionprops(label(painted, connectivity=2), intensity_image=opacity)
        if region.area_bbox > point.min_area * painted.size
    ]
    corners = as_boxes([(left, top, right, bottom) for (top, left, bottom, right), _ in found])
    scores = np.array([score for _, score in found], np.float32)
    return shrink(corners, point.shrink), np.clip(scores, 0, 1)


def _reference_boxes(painted: NDArray[np.bool_]) -> tuple[Boxes, NDArray[np.float32]]:
    """The reference system's boxes, in pixels of its 1024 x 1024 map, and its confidences."""
    rows, columns = (np.arange(RSNA_SIZE) * side // RSNA_SIZE for side in painted.shape)
    enlarged = painted[np.ix_(rows, columns)]
    boxes, scores = [], []
    for region in regionprops(label(enlarged, connectivity=2)):
        top, left, bottom, right = region.bbox
        if region.area_bbox <= REFERENCE_MIN_BOX_AREA:
            continue
        scores.append(enlarged[top:bottom, left:right].mean())
        across = int((right - left) * REFERENCE_SHRINK)
        down = int((bottom - top) * REFERENCE_SHRINK)
        boxes.append((left + across, top + down, right - across, bottom - down))
    return as_boxes(boxes), np.array(scores, np.float32)
