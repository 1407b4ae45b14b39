"""Knowledge distillation: an ensemble's predictions as training targets.

Hinton, Vinyals and Dean, *Distilling the Knowledge in a Neural Network*, 2015, for masks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from lungbox.datasets.types import Dataset
from lungbox.evaluation.predictions import predict_dataset
from lungbox.inference.predictor import load
from lungbox.training.recipe import Recipe, RecipeError
from lungbox.training.sections import Distillation
from lungbox.weights.manifest import load_manifest


@dataclass(frozen=True)
class Teacher:
    """A teacher's masks and image scores of all training images.

    Attributes:
        opacity: `(N, h, w)` uint8, the probability of opacity times 255.
        scores: `(N,)` float32, 0-1.
        share: the teacher's part of a labelled image's target, 0-1.
    """

    opacity: NDArray[np.uint8]
    scores: NDArray[np.float32]
    share: float

    @classmethod
    def predict(
        cls,
        settings: Distillation,
        dataset: Dataset,
        cache: Path,
        running: Callable[[int], object] = lambda _: None,
    ) -> "Teacher":
        """Predict `dataset` with the teacher, or read the predictions an earlier run cached.

        Raises:
            RecipeError: an image cannot be read.
        """
        engine = load(settings.teacher, batch_size=8, precision="float32").engine
        predictions = predict_dataset(dataset, engine, cache, advance=running)
        if predictions.dataset.images != dataset.images:
            raise RecipeError(f"{settings.teacher}, the teacher, cannot read all of the images")
        if predictions.opacity is None:
            raise RecipeError(f"{settings.teacher}, the teacher, has no segmentation network")
        return cls(predictions.opacity, predictions.scores, settings.share)

    def mix_targets(
        self, row: int, mask: NDArray[np.uint8], target: float, alone: bool
    ) -> tuple[NDArray[np.uint8], float]:
        """Mix an image's mask `(S, S)` 0-255 and image target 0-1 with the teacher's.

        Args:
            row: the image's row in the training data.
            mask: rasterized from the readers' boxes.
            target: the readers' image label.
            alone: the image has no labels, so the targets are the teacher's alone.
        """
        share = 1.0 if alone else self.share
        size = (mask.shape[1], mask.shape[0])
        predicted = cv2.resize(self.opacity[row], size, interpolation=cv2.INTER_LINEAR)
        mixed = share * predicted.astype(np.float32) + (1 - share) * mask
        score = share * float(self.scores[row]) + (1 - share) * target
        return np.round(mixed).astype(np.uint8), score


def check_teacher(recipe: Recipe, unlabelled: Path | None) -> None:
    """Check that the recipe's teacher exists and was not trained on the validation fold.

    Raises:
        RecipeError: it was, or unlabelled images are given without a teacher.
        ManifestError: there is no such ensemble.
    """
    if recipe.distillation is None:
        if unlabelled:
            raise RecipeError(f"{unlabelled}: unlabelled images are for distillation only")
        return
    teacher = recipe.distillation.teacher
    if recipe.validation.fold in training_folds_of(teacher):
        raise RecipeError(
            f"validation.fold: {teacher}, the teacher, was trained on fold {recipe.validation.fold}"
        )


def training_folds_of(teacher: str) -> frozenset[int]:
    """The folds an ensemble's members were trained on, which its students have seen as well.

    Raises:
        RecipeError: the training folds of a member are unknown.
        ManifestError: there is no such ensemble.
    """
    manifest = load_manifest()
    found: set[int] = set()
    for name in manifest.ensemble(teacher).members:
        seen = manifest.training_folds(name)
        if seen is None:
            raise RecipeError(
                f"{teacher}, the teacher: the training folds of its member {name} are unknown"
            )
        found |= seen
    return frozenset(found)
