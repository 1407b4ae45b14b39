"""What networks predict for one radiograph, before it becomes boxes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungbox.common.equality import ValueEquality


@dataclass(frozen=True, eq=False)
class Detections(ValueEquality):
    """The boxes one detection network predicts on one radiograph: one voter of a fusion.

    Attributes:
        boxes: `(K, 4)` float32 `x1, y1, x2, y2` in 0-1 of the radiograph's width and height.
        scores: `(K, C)` float32 probabilities of each of C classes, 0-1.
        weight: of the network among the voters.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    weight: float = 1.0


@dataclass(frozen=True, eq=False)
class RawPrediction(ValueEquality):
    """The prediction of an ensemble for one radiograph, for `boxes.decide`.

    Attributes:
        image_score: probability that it shows any finding at all, 0-1.
        mask: `(h, w, 1 + C)` float32, probabilities of background and of each of C classes, the
            mean of the segmentation networks; None where there is no such network.
        detections: of each detection network, and of each view of test-time augmentation.
        class_scores: `(L,)` float32, image-level probabilities of L labels, the mean of the
            classification networks; None where there is no such network.
    """

    image_score: float
    mask: NDArray[np.float32] | None = None
    detections: tuple[Detections, ...] = ()
    class_scores: NDArray[np.float32] | None = None
