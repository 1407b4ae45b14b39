"""Scoring on a fold that is not trained on, while training goes on."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np

from lungbox.architecture.ensemble import average
from lungbox.datasets.cache import Cache
from lungbox.engines.base import padded
from lungbox.evaluation.maps import Maps, levels
from lungbox.evaluation.operating_point import Grid, cross_fit, image_scores, mix_weights
from lungbox.metrics import auc, rsna_score
from lungbox.radiograph import resize_area
from lungbox.training.batches import Batches
from lungbox.training.recipe import Recipe
from lungbox.training.sections import Augmentation, Stage
from lungbox.training.tracking import MASK_METRICS
from lungbox.training.trainee import Trainee

# Coarser than what an operating point is chosen from: it is searched again and again.
_GRID = Grid(thresholds=(0.3, 0.4, 0.5), min_areas=(0.005,), shrinks=(0.0625,), gates=30)


@dataclass(frozen=True)
class Score:
    """How good the weights of the moment are.

    Attributes:
        rsna_metric: cross-fitted; at the challenge's mix where the images have its classes.
        auc: of the image score.
        val_loss: as trained with, without augmentation.
        val_accuracy, val_mean_iou, val_reference_mean_iou, val_f1: of masks, see
            `metrics.mask_metrics`.
    """

    rsna_metric: float
    auc: float
    val_loss: float = nan
    val_accuracy: float = nan
    val_mean_iou: float = nan
    val_reference_mean_iou: float = nan
    val_f1: float = nan


class Validation:
    """Scores a network as it is.

    Args:
        trainee: the network in training.
        images: prepared, at the network's size or larger.
        recipe: its batch size, masks and validation.
        stage: its image size.
        stride: of the network's mask.
    """

    def __init__(
        self, trainee: Trainee, images: Cache, recipe: Recipe, stage: Stage, stride: int
    ) -> None:
        self._images, self._batch_size = images, recipe.batch_size
        # Gives networks without an image head the score they have in use.
        self._model = average([(trainee.kept, 1.0)])
        self._whole = trainee.whole
        once = _once_in_order(recipe)
        self._batches = Batches(images, once, stage, 0, stride, heads=trainee.heads)

    def score(self) -> Score:
        """The score at this moment."""
        maps = self._maps()
        parts = image_scores(maps, cross_fit(maps, _GRID).points)
        truth = np.array([len(image.boxes) > 0 for image in maps.dataset.images])
        found = mask_figures(self._whole.evaluate(self._batches, verbose=0, return_dict=True))
        return Score(
            rsna_metric=rsna_score(parts, mix_weights(maps.dataset)),
            auc=auc(truth, maps.scores),
            **{f"val_{name}": value for name, value in found.items()},
        )

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


def mask_figures(logs: Mapping[str, float]) -> dict[str, float]:
    """The loss and the mask's metrics among what Keras says of an epoch.

    It names the output before each metric only where there are several.
    """
    found = {"loss": logs["loss"]}
    for name in MASK_METRICS:
        found[name] = logs[f"mask_{name}"] if f"mask_{name}" in logs else logs[name]
    return {name: float(value) for name, value in found.items()}


def _once_in_order(recipe: Recipe) -> Recipe:
    """The recipe with every image once, not augmented."""
    data: dict[str, Any] = {
        "order": "fixed", "samples_per_epoch": None,
        "source_weights": {}, "category_weights": {}, "balance": (),
    }  # fmt: skip
    changes = {
        "batch_size": recipe.validation.batch_size or recipe.batch_size,
        "data": recipe.data.model_copy(update=data),
        "augmentation": Augmentation(enabled=False),
        "stages": tuple(stage.model_copy(update={"source_weights": {}}) for stage in recipe.stages),
    }
    return recipe.model_copy(update=changes)
