"""From an averaged mask to boxes: connected regions, small ones dropped, boxes shrunk."""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lungbox.boxes.components import Region, components
from lungbox.boxes.geometry import Boxes, as_boxes, scale, shrink
from lungbox.constants import (
    BACKGROUND,
    OPACITY,
    REFERENCE_MIN_BOX_AREA,
    REFERENCE_SHRINK,
    RSNA_SIZE,
)

Compatibility = Literal["lungbox", "reference"]
Confidence = Literal["mean", "peak", "box"]
Extent = Literal["all", "mass"]
CONFIDENCES: tuple[Confidence, ...] = ("mean", "peak", "box")
# `mass` leaves this share of a region's opacity outside on each side.
_TAIL = 0.02


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
            of mask pixels in the box); all else but `rule`, `threshold` and `gate` is then its own.
        split: a region that crosses the midline of the image is two, one in each half.
        extent: a box goes around all of its region, or from the 2nd to the 98th percentile of its
            opacity, across and down.
        confidence: the mean opacity over the region, its highest, or the mean over the box.
        one_a_lung: of the boxes whose centre is in the same half of the image, only the most
            certain stays.
    """

    rule: Literal["argmax", "threshold"] = "threshold"
    threshold: float = 0.5
    min_area: float = 0.005
    shrink: float = 0.05
    gate: float = 0.0
    compatibility: Compatibility = "lungbox"
    split: bool = False
    extent: Extent = "all"
    confidence: Confidence = "mean"
    one_a_lung: bool = False


class Candidates(NamedTuple):
    """The regions of a mask before any is dropped, in the mask's own pixels.

    Attributes:
        boxes: `(N, 4)` `x1, y1, x2, y2`, not shrunk.
        areas: `(N,)` of their bounding boxes, as shares of the image.
        confidences: `(N, 3)` in the order of `CONFIDENCES`.
        side: width and height of the mask.
    """

    boxes: Boxes
    areas: NDArray[np.float64]
    confidences: NDArray[np.float32]
    side: tuple[int, int]


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
        certain first.
    """
    if image_score < point.gate:
        return as_boxes([]), np.zeros(0, np.float32)
    if point.compatibility == "reference":
        boxes, scores = _reference_boxes(_painted(mask, point))
        order = np.argsort(-scores, kind="stable")
        return scale(boxes[order], (RSNA_SIZE, RSNA_SIZE), size), scores[order]
    return select(candidates(mask, point), size, point)


def candidates(mask: NDArray[np.floating], point: OperatingPoint) -> Candidates:
    """The connected regions of a `(h, w, 2)` mask.

    They depend on the point's rule, threshold, split and extent alone, so that a search over the
    others looks for them once.
    """
    painted, opacity = _painted(mask, point), mask[..., OPACITY]
    height, width = painted.shape
    found = _halves(painted) if point.split else components(painted)
    boxes = [_extent(region, opacity, point.extent) for region in found]
    return Candidates(
        boxes=as_boxes(boxes),
        areas=np.array([region.area_box / painted.size for region in found]),
        confidences=np.array(
            [_confidences(region, opacity) for region in found], np.float32
        ).reshape(-1, len(CONFIDENCES)),
        side=(width, height),
    )


def select(
    found: Candidates, size: tuple[int, int], point: OperatingPoint
) -> tuple[Boxes, NDArray[np.float32]]:
    """The boxes a point makes of the regions found; the gate is not looked at.

    Args:
        found: see `candidates`.
        size: width and height of the radiograph, in pixels of the file.
        point: how to decide.

    Returns:
        As `regions` does.
    """
    kept = _kept(found, point)
    boxes = scale(shrink(found.boxes[kept], point.shrink), found.side, size)
    return boxes, found.confidences[kept, CONFIDENCES.index(point.confidence)]


def _kept(found: Candidates, point: OperatingPoint) -> NDArray[np.int64]:
    """The rows of the regions a point keeps, most certain first."""
    scores = found.confidences[:, CONFIDENCES.index(point.confidence)]
    order = np.argsort(-scores, kind="stable")
    kept = order[found.areas[order] > point.min_area]
    if point.one_a_lung and len(kept) > 1:
        right = found.boxes[kept, 0] + found.boxes[kept, 2] > found.side[0]
        _, first = np.unique(right, return_index=True)
        kept = kept[np.sort(first)]
    return kept


def _painted(mask: NDArray[np.floating], point: OperatingPoint) -> NDArray[np.bool_]:
    if point.rule == "argmax":
        return mask[..., OPACITY] > mask[..., BACKGROUND]
    return mask[..., OPACITY] >= point.threshold


def _halves(painted: NDArray[np.bool_]) -> list[Region]:
    """The regions of the left half, then those of the right."""
    middle = painted.shape[1] // 2
    left, right = (np.ascontiguousarray(half) for half in np.split(painted, [middle], axis=1))
    moved = (
        replace(region, left=region.left + middle, right=region.right + middle)
        for region in components(right)
    )
    return [*components(left), *moved]


def _extent(
    region: Region, opacity: NDArray[np.floating], extent: Extent
) -> tuple[float, float, float, float]:
    if extent == "all":
        return region.left, region.top, region.right, region.bottom
    mass = np.where(region.image, region.of(opacity), 0)
    (x1, x2), (y1, y2) = _percentiles(mass.sum(axis=0)), _percentiles(mass.sum(axis=1))
    return region.left + x1, region.top + y1, region.left + x2, region.top + y2


def _percentiles(mass: NDArray[np.floating]) -> tuple[float, float]:
    """Where the tails of a profile end, between pixels' edges."""
    edges = np.concatenate([[0], np.cumsum(mass, dtype=np.float64)])
    if edges[-1] == 0:
        return 0, len(mass)
    start, end = np.interp([_TAIL * edges[-1], (1 - _TAIL) * edges[-1]], edges, range(len(edges)))
    return float(start), float(end)


def _confidences(region: Region, opacity: NDArray[np.floating]) -> tuple[float, float, float]:
    in_box = region.of(opacity)
    inside = in_box[region.image]
    values = (inside.mean(), inside.max(), in_box.mean())
    mean, peak, box = (min(1.0, max(0.0, float(value))) for value in values)
    return mean, peak, box


def _reference_boxes(painted: NDArray[np.bool_]) -> tuple[Boxes, NDArray[np.float32]]:
    """The reference system's boxes, in pixels of its 1024 x 1024 map, and its confidences."""
    rows, columns = (np.arange(RSNA_SIZE) * side // RSNA_SIZE for side in painted.shape)
    enlarged = painted[np.ix_(rows, columns)]
    boxes, scores = [], []
    for region in components(enlarged):
        if region.area_box <= REFERENCE_MIN_BOX_AREA:
            continue
        scores.append(region.of(enlarged).mean())
        across = int((region.right - region.left) * REFERENCE_SHRINK)
        down = int((region.bottom - region.top) * REFERENCE_SHRINK)
        boxes.append(
            (region.left + across, region.top + down, region.right - across, region.bottom - down)
        )
    return as_boxes(boxes), np.array(scores, np.float32)
