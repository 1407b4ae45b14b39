"""The interface of a training head: targets, loss and metrics of one output of a network."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import keras
import numpy as np
from numpy.typing import NDArray

from lungbox.boxes.geometry import Boxes
from lungbox.datasets.findings import FindingLabels
from lungbox.training.sections import Loss


@dataclass(frozen=True)
class Sample:
    """The labels of one training image, after augmentation.

    Attributes:
        mask: `(S, S)` uint8, 255 where a pixel is completely covered by opacity.
        target: 0-1, whether the image shows any opacity.
        boxes: `(N, 4)` `x1, y1, x2, y2` in pixels of the `S` x `S` image.
        classes: `(N,)` the class of each box, an index into the data set's `class_names`.
        findings: image-level labels that are known, see `datasets.findings`.
        has_mask: whether the mask and boxes are known.
        has_target: whether the target is known.
        labels: of a classification network, see `datasets.label_sets`; empty without one.
    """

    mask: NDArray[np.uint8]
    target: float
    boxes: Boxes
    classes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    findings: FindingLabels = ()
    has_mask: bool = True
    has_target: bool = True
    labels: tuple[float, ...] = ()


class Head(ABC):
    """How one output of a network is trained.

    Attributes:
        name: the output's name.
        metrics: metric classes by name, which is also the metric's column in `log.csv`.
    """

    name: ClassVar[str]
    metrics: ClassVar[Mapping[str, Callable[[str], keras.metrics.Metric]]] = {}

    @abstractmethod
    def target(self, sample: Sample, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The target of one image, of the shape `target_shape`."""

    def target_shape(self, output: tuple[int, ...], most_boxes: int) -> tuple[int, ...]:
        """The shape of a target without the batch axis: by default the output's.

        Args:
            output: the output's shape without the batch axis.
            most_boxes: the most boxes that any image of the data has.
        """
        del most_boxes
        return output

    def is_labelled(self, sample: Sample) -> bool:
        """Whether the target of an image is known; otherwise its weight in the loss is 0."""
        return sample.has_mask

    @abstractmethod
    def loss(self, settings: Loss) -> keras.losses.Loss:
        """The loss of a batch."""

    def weight(self, settings: Loss) -> float:
        """The weight of this loss in the sum of all."""
        del settings
        return 1.0

    def auxiliary_output(self, model: keras.Model) -> keras.KerasTensor | None:
        """An output that exists only in training, on top of `model`; None where the network itself
        has the output. Added where `weight` is above 0.

        Raises:
            ValueError: the network has no layer that it could be attached to.
        """
        del model
        return None
