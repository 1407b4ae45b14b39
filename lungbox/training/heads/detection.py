"""The heads of detection networks: padded boxes as targets, which losses match with anchors and
proposals."""

import keras
import numpy as np
from numpy.typing import NDArray

from lungbox.architecture.detection.losses import AnchorLoss, RoiLoss
from lungbox.architecture.detection.matching import PADDING
from lungbox.training.heads.base import Head, Sample
from lungbox.training.sections import Loss


class _Boxes(Head):
    """A raw output `(B, A, 4 + C + 4)` of a detection network, see `architecture.detection`.

    It is a layer of the network under the head's name, and an output in training alone.
    """

    def target_shape(self, output: tuple[int, ...], most_boxes: int) -> tuple[int, ...]:
        del output
        return (max(1, most_boxes), 5)

    def target(self, sample: Sample, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The boxes in 0-1 of the image and the index of their class; then rows of padding."""
        height, width = sample.mask.shape
        target = np.full(shape, PADDING, np.float32)
        size = np.array([width, height, width, height], np.float32)
        target[: len(sample.boxes), :4] = sample.boxes / size
        target[: len(sample.boxes), 4] = sample.classes
        return target

    def auxiliary_output(self, model: keras.Model) -> keras.KerasTensor | None:
        found = [layer.output for layer in model.layers if layer.name == self.name]
        return found[0] if found else None


class AnchorBoxes(_Boxes):
    """`anchors`: RetinaNet's classes and boxes."""

    name = "anchors"

    def loss(self, settings: Loss) -> keras.losses.Loss:
        return AnchorLoss(settings.alpha, settings.gamma, settings.box, settings.box_weight)


class RegionProposals(_Boxes):
    """`rpn`: the region proposal network of Faster R-CNN, for which all boxes are of one class."""

    name = "rpn"

    def loss(self, settings: Loss) -> keras.losses.Loss:
        return AnchorLoss(
            settings.alpha, settings.gamma, settings.box, settings.box_weight, any_class=True
        )


class RegionBoxes(_Boxes):
    """`rois`: classes and boxes of Faster R-CNN's proposals."""

    name = "rois"

    def loss(self, settings: Loss) -> keras.losses.Loss:
        return RoiLoss(settings.box, settings.box_weight)
