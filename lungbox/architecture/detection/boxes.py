"""Box geometry in `keras.ops`: overlap, and boxes coded relative to anchors.

Boxes are `(..., 4)` `x1, y1, x2, y2` in 0-1 of the image. `boxes.geometry` has the same in numpy.
"""

import math
from typing import Any

from keras import ops

# A decoded box is at most this many times as wide or high as its anchor, so that an exponential
# never overflows (Lin et al., Detectron, 2018).
_MOST_GROWTH = math.log(1000 / 16)
_EPSILON = 1e-9


def area(boxes: Any) -> Any:
    """`(...)` areas; 0 where a box is inside out."""
    sides = ops.maximum(boxes[..., 2:4] - boxes[..., :2], 0.0)
    return sides[..., 0] * sides[..., 1]


def intersection(first: Any, second: Any) -> Any:
    """`(...)` intersections of pairs of boxes."""
    corner = ops.maximum(first[..., :2], second[..., :2])
    sides = ops.maximum(ops.minimum(first[..., 2:4], second[..., 2:4]) - corner, 0.0)
    return sides[..., 0] * sides[..., 1]


def pairwise_iou(first: Any, second: Any) -> Any:
    """`(..., N, M)` intersection over union of every box of `(..., N, 4)` with every one of
    `(..., M, 4)`; 0 where both are empty."""
    first, second = first[..., :, None, :], second[..., None, :, :]
    both = intersection(first, second)
    return both / ops.maximum(area(first) + area(second) - both, _EPSILON)


def giou(first: Any, second: Any) -> Any:
    """`(...)` generalized IoU of pairs of boxes, from -1 to 1.

    Rezatofighi et al., *Generalized Intersection over Union*, CVPR 2019: IoU less the share of the
    smallest enclosing box that neither covers.
    """
    both = intersection(first, second)
    union = area(first) + area(second) - both
    corner = ops.minimum(first[..., :2], second[..., :2])
    sides = ops.maximum(first[..., 2:4], second[..., 2:4]) - corner
    enclosing = sides[..., 0] * sides[..., 1]
    iou = both / ops.maximum(union, _EPSILON)
    return iou - (enclosing - union) / ops.maximum(enclosing, _EPSILON)


def encode(anchors: Any, boxes: Any) -> Any:
    """Boxes as deltas `(..., 4)` from anchors: the shift of the centre in anchor widths and
    heights, and the logarithm of the growth of width and height.

    Girshick et al., *Rich feature hierarchies* (R-CNN), 2014, appendix C.
    """
    centres, sides = _centres_and_sides(anchors)
    to_centres, to_sides = _centres_and_sides(boxes)
    shifts = (to_centres - centres) / ops.maximum(sides, _EPSILON)
    growth = ops.log(ops.maximum(to_sides, _EPSILON) / ops.maximum(sides, _EPSILON))
    return ops.concatenate([shifts, growth], axis=-1)


def decode(anchors: Any, deltas: Any) -> Any:
    """Boxes `(..., 4)` from anchors and deltas, the inverse of `encode`; not clipped."""
    centres, sides = _centres_and_sides(anchors)
    centres = centres + deltas[..., :2] * sides
    half = 0.5 * sides * ops.exp(ops.minimum(deltas[..., 2:4], _MOST_GROWTH))
    return ops.concatenate([centres - half, centres + half], axis=-1)


def _centres_and_sides(boxes: Any) -> tuple[Any, Any]:
    return (boxes[..., :2] + boxes[..., 2:4]) / 2, boxes[..., 2:4] - boxes[..., :2]
