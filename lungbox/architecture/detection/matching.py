"""Matching of anchors or proposals with the true boxes of an image, inside a loss."""

from typing import Any, NamedTuple

from keras import ops

from lungbox.architecture.detection.boxes import pairwise_iou

# The class of a row of the targets that only pads them.
PADDING = -1.0


class Matches(NamedTuple):
    """What each anchor is trained to predict.

    Attributes:
        positive: `(B, A)` 1 where an anchor is matched with a true box, else 0.
        negative: `(B, A)` 1 where it is background; anchors that are neither are ignored.
        boxes: `(B, A, 4)` the true box; of others the anchor itself.
        labels: `(B, A)` int32 its class; `PADDING` of others.
    """

    positive: Any
    negative: Any
    boxes: Any
    labels: Any


def match(anchors: Any, truth: Any, positive: float = 0.5, negative: float = 0.4) -> Matches:
    """Match each anchor with the true box it overlaps most (Ren et al., *Faster R-CNN*, 2015).

    It is positive from an IoU of `positive`, background below `negative`. The anchor that overlaps
    a true box most is positive for that box at any IoU above 0, so that every box is learned; where
    it is so for several boxes, for the first.

    Args:
        anchors: `(B, A, 4)`.
        truth: `(B, M, 5)` boxes and their class, `PADDING` where there is no box.
        positive: lowest IoU of a positive anchor.
        negative: IoU below which an anchor is background.
    """
    anchors, truth = ops.stop_gradient(anchors), ops.stop_gradient(truth)
    exists = truth[..., 4] > PADDING
    overlaps = ops.where(exists[:, None], pairwise_iou(anchors, truth[..., :4]), -1.0)
    most = ops.max(overlaps, axis=-1)
    best = ops.argmax(overlaps, axis=-1)
    of_truth = ops.argmax(overlaps, axis=1)
    numbers = ops.arange(anchors.shape[1], dtype=of_truth.dtype)
    closest = (numbers[None, :, None] == of_truth[:, None]) & (overlaps > 0)
    forced = ops.any(closest, axis=-1)
    best = ops.where(forced, ops.cast(ops.argmax(closest, axis=-1), best.dtype), best)
    is_positive = forced | (most >= positive)
    matched = ops.take_along_axis(truth, best[..., None], axis=1)
    return Matches(
        positive=ops.cast(is_positive, "float32"),
        negative=ops.cast((most < negative) & ~is_positive, "float32"),
        boxes=ops.where(is_positive[..., None], matched[..., :4], anchors),
        labels=ops.cast(ops.where(is_positive, matched[..., 4], PADDING), "int32"),
    )
