"""The RSNA metric on a fold that is not trained on, while training goes on."""

from dataclasses import dataclass
from math import nan

import keras
import numpy as np

from lungbox.architecture.ensemble import average
from lungbox.datasets.cache import Cache
from lungbox.engines.base import padded
from lungbox.evaluation.maps import Maps, levels
from lungbox.evaluation.operating_point import Grid, cross_fit, image_scores, mix_weights
from lungbox.metrics import auc, rsna_score
from lungbox.radiograph import resize_area

# Coarser than what an operating point is chosen from: it is searched again and again.
_GRID = Grid(thresholds=(0.3, 0.4, 0.5), min_areas=(0.005,), shrinks=(0.0625,), gates=30)


@dataclass(frozen=True)
class Score:
    """What the weights of the moment are worth; NaN where nothing was scored.

    Attributes:
        rsna_metric: cross-fitted; at the challenge's mix where the images have its classes.
        auc: of the image score.
    """

    rsna_metric: float = nan
    auc: float = nan


class Validation:
    """Scores a network as it is.

    Args:
        model: outputs `mask` and, where it has one, `image`.
        images: prepared, at the network's size or larger.
        batch_size: of prediction.
    """

    def __init__(self, model: keras.Model, images: Cache, batch_size: int) -> None:
        self._images, self._batch_size = images, batch_size
        # Gives networks without an image head the score they have in use.
        self._model = average([(model, 1.0)])

    def score(self) -> Score:
        """The score at this moment."""
        maps = self._maps()
        parts = image_scores(maps, cross_fit(maps, _GRID).points)
        truth = np.array([len(image.boxes) > 0 for image in maps.dataset.images])
        return Score(rsna_score(parts, mix_weights(maps.dataset)), auc(truth, maps.scores))

    def _maps(self) -> Maps:
        side, opacity, scores = self._model.input_shape[1], [], []
        for first in range(0, len(self._images), self._batch_size):
            batch = self._images.images(slice(first, first + self._batch_size))
            sized = np.stack([resize_area(image, side, side) for image in batch])
            full = padded(sized, self._batch_size)[..., None].astype(np.float32)
            output = self._model.predict_on_batch(full)
            opacity.append(levels(np.asarray(output["mask"])[: len(sized)]))
            scores.append(np.asarray(output["image"])[: len(sized), 0])
        return Maps(self._images.dataset, np.concatenate(opacity), np.concatenate(scores))
