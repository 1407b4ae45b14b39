"""Losses of detection networks: everything they need is in the target and in one output.

A target is `(B, M, 5)`: `x1, y1, x2, y2` in 0-1 of the image and the index of the class, -1 in rows
that only pad it. An output is `(B, A, 4 + C + 4)`: anchors or proposals, class logits, deltas.
"""

from typing import Any, Literal

import keras
from keras import ops

from lungbox.architecture.detection.boxes import decode, encode, giou
from lungbox.architecture.detection.matching import Matches, match

BoxLoss = Literal["giou", "smooth_l1"]


class _DetectionLoss(keras.losses.Loss):
    """Of a batch, the mean over images of a class loss and `box_weight` times a box loss, each the
    sum over an image's anchors or proposals, divided by the number of positive or counted ones."""

    def __init__(self, box: BoxLoss, box_weight: float, name: str) -> None:
        # The mean over real images only: a last batch may be padded with weights of 0.
        super().__init__(name=name, reduction="mean_with_sample_weight")
        self.box, self.box_weight = box, box_weight

    def box_loss(self, anchors: Any, deltas: Any, matches: Matches) -> Any:
        """`(B,)`: the mean over each image's positive anchors."""
        if self.box == "giou":
            each = 1 - giou(decode(anchors, deltas), matches.boxes)
        else:
            each = smooth_l1(deltas - encode(anchors, matches.boxes))
        return ops.sum(matches.positive * each, axis=-1) / _at_least_one(matches.positive)


@keras.saving.register_keras_serializable(package="lungbox")
class AnchorLoss(_DetectionLoss):
    """RetinaNet's loss: focal loss of all classes and the boxes' loss.

    Lin et al., *Focal Loss for Dense Object Detection*, ICCV 2017. Both are divided by the number
    of an image's positive anchors, at least 1; so an image without boxes has a loss, too.

    Args:
        alpha, gamma: of the focal loss.
        box: `giou`, or `smooth_l1` of the deltas.
        box_weight: of the boxes' loss.
        any_class: whether every box is of the only class, as for the region proposal network.
    """

    def __init__(
        self,
        alpha: float = 0.25,
        gamma: float = 2.0,
        box: BoxLoss = "giou",
        box_weight: float = 1.0,
        any_class: bool = False,
        name: str = "anchor_loss",
    ) -> None:
        super().__init__(box, box_weight, name)
        self.alpha, self.gamma, self.any_class = alpha, gamma, any_class

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss `(B,)` of each image."""
        anchors, logits, deltas = y_pred[..., :4], y_pred[..., 4:-4], y_pred[..., -4:]
        matches = match(anchors, y_true)
        labels = ops.minimum(matches.labels, 0) if self.any_class else matches.labels
        # Of the class -1, all are 0.
        targets = ops.one_hot(labels, logits.shape[-1], dtype="float32")
        counted = (matches.positive + matches.negative)[..., None]
        focal = counted * sigmoid_focal(targets, logits, self.alpha, self.gamma)
        classes = ops.sum(focal, axis=(1, 2)) / _at_least_one(matches.positive)
        return classes + self.box_weight * self.box_loss(anchors, deltas, matches)

    def get_config(self) -> dict[str, Any]:
        names = ("name", "alpha", "gamma", "box", "box_weight", "any_class")
        return {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable(package="lungbox")
class RoiLoss(_DetectionLoss):
    """The loss of Faster R-CNN's second stage: cross-entropy of the classes, background first, and
    the boxes' loss.

    Not all proposals count: the positive ones, and of the background those with the highest loss,
    `negatives` times as many (online hard example mining; Shrivastava et al., CVPR 2016). The
    original draws both at random.

    Args:
        box: `giou`, or `smooth_l1` of the deltas.
        box_weight: of the boxes' loss.
        negatives: background proposals for each positive one.
        least: background proposals that count at least, as of an image without boxes.
    """

    def __init__(
        self,
        box: BoxLoss = "giou",
        box_weight: float = 1.0,
        negatives: int = 3,
        least: int = 8,
        name: str = "roi_loss",
    ) -> None:
        super().__init__(box, box_weight, name)
        self.negatives, self.least = negatives, least

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss `(B,)` of each image."""
        proposals, logits, deltas = y_pred[..., :4], y_pred[..., 4:-4], y_pred[..., -4:]
        proposals = ops.stop_gradient(proposals)
        matches = match(proposals, y_true, positive=0.5, negative=0.5)
        targets = ops.one_hot(matches.labels + 1, logits.shape[-1], dtype="float32")
        each = -ops.sum(targets * ops.log_softmax(logits, axis=-1), axis=-1)
        counted = matches.positive + self._hard(each, matches)
        classes = ops.sum(counted * each, axis=-1) / _at_least_one(counted)
        return classes + self.box_weight * self.box_loss(proposals, deltas, matches)

    def _hard(self, each: Any, matches: Matches) -> Any:
        """`(B, K)` 1 for the background proposals that count."""
        losses = ops.stop_gradient(ops.where(matches.negative > 0, each, -1.0))
        ranks = ops.argsort(ops.argsort(-losses, axis=-1), axis=-1)
        most = self.negatives * ops.sum(matches.positive, axis=-1, keepdims=True)
        chosen = ops.cast(ranks, "float32") < ops.maximum(most, float(self.least))
        return matches.negative * ops.cast(chosen, "float32")

    def get_config(self) -> dict[str, Any]:
        names = ("name", "box", "box_weight", "negatives", "least")
        return {name: getattr(self, name) for name in names}


def sigmoid_focal(targets: Any, logits: Any, alpha: float, gamma: float) -> Any:
    """The focal loss of each logit, of the targets' shape; `alpha` is the positives' weight, the
    negatives have 1 - `alpha`."""
    crossentropy = ops.softplus(logits) - targets * logits
    probability = ops.sigmoid(logits)
    wrong = targets * (1 - probability) + (1 - targets) * probability
    weight = targets * alpha + (1 - targets) * (1 - alpha)
    return weight * wrong**gamma * crossentropy


def smooth_l1(errors: Any) -> Any:
    """The sum over the last axis of `e ** 2 / 2` where |e| < 1, else `|e| - 1 / 2` (Girshick, *Fast
    R-CNN*, ICCV 2015)."""
    size = ops.abs(errors)
    return ops.sum(ops.where(size < 1, 0.5 * size**2, size - 0.5), axis=-1)


def _at_least_one(counted: Any) -> Any:
    """`(B,)`: how many of an image's anchors are counted, at least 1."""
    return ops.maximum(ops.sum(counted, axis=-1), 1.0)
