"""The heads of segmentation networks: the mask, and the edges of boxes as an auxiliary task."""

from typing import Any, ClassVar

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from lungbox.metrics.losses import MaskLoss
from lungbox.metrics.mask_metrics import F1, MeanIoU, PixelAccuracy, ReferenceMeanIoU
from lungbox.radiograph import resize_area
from lungbox.training.heads.base import Head, Sample
from lungbox.training.sections import Loss
from lungbox.training.targets import rasterize_edges


class Mask(Head):
    """`mask` `(B, h, w, 2)`: probabilities of background and opacity."""

    name = "mask"
    metrics: ClassVar = {
        "accuracy": PixelAccuracy,
        "mean_iou": MeanIoU,
        "reference_mean_iou": ReferenceMeanIoU,
        "f1": F1,
    }

    def target(self, sample: Sample, shape: tuple[int, ...]) -> NDArray[np.float32]:
        height, width, _ = shape
        opacity = resize_area(sample.mask, height, width).astype(np.float32)[..., None] / 255
        return np.concatenate([1 - opacity, opacity], axis=-1)

    def loss(self, settings: Loss) -> keras.losses.Loss:
        return MaskLoss(
            bce=settings.bce,
            iou=settings.iou,
            dice=settings.dice,
            focal=settings.focal,
            lovasz=settings.lovasz,
            over=settings.over,
            channels=settings.channels,
            squared=settings.squared,
            gamma=settings.gamma,
            alpha=settings.alpha,
        )


class _PixelwiseCrossentropy(keras.losses.BinaryCrossentropy):
    """Binary cross-entropy of `(B, h, w, C)` maps that takes a weight for each image, which Keras
    does not broadcast to its pixels."""

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        if sample_weight is not None:
            weights = ops.reshape(ops.cast(sample_weight, self.dtype), (-1, 1, 1))
            sample_weight = weights * ops.ones_like(y_pred[..., 0])
        return super().__call__(y_true, y_pred, sample_weight)


class Edges(Head):
    """`edges` `(B, h, w, 4)`: top, bottom, left and right edges of the boxes, on the features that
    the mask is predicted from. It exists only in training."""

    name = "edges"

    def target(self, sample: Sample, shape: tuple[int, ...]) -> NDArray[np.float32]:
        size = (sample.mask.shape[1], sample.mask.shape[0])
        return rasterize_edges(sample.boxes, size, shape[0]).astype(np.float32) / np.float32(255)

    def loss(self, settings: Loss) -> keras.losses.Loss:
        del settings
        return _PixelwiseCrossentropy(reduction="mean_with_sample_weight")

    def weight(self, settings: Loss) -> float:
        return settings.edges

    def auxiliary_output(self, model: keras.Model) -> keras.KerasTensor | None:
        features = model.get_layer("mask_logits").input
        edges = layers.Conv2D(4, 1, name="edges_logits", dtype="float32")(features)
        return layers.Activation("sigmoid", name="edges", dtype="float32")(edges)
