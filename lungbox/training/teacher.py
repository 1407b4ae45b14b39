"""What an ensemble says of the training images, for a network that learns from it.

Hinton, Vinyals and Dean, *Distilling the Knowledge in a Neural Network*, 2015, for masks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from lungbox.datasets.types import Dataset
from lungbox.evaluation.maps import predict_maps
from lungbox.pipeline import load
from lungbox.training.recipe import RecipeError
from lungbox.training.sections import Distillation
from lungbox.weights.manifest import load_manifest


@dataclass(frozen=True)
class Teacher:
    """Masks and image scores of every training image.

    Attributes:
        opacity: `(N, h, w)` uint8, 255 for certain.
        scores: `(N,)` float32, 0-1.
        share: how much of a labelled image's target is the teacher's.
    """

    opacity: NDArray[np.uint8]
    scores: NDArray[np.float32]
    share: float

    @classmethod
    def ask(
        cls,
        settings: Distillation,
        dataset: Dataset,
        cache: Path,
        running: Callable[[int], object] = lambda _: None,
    ) -> "Teacher":
        """Run the teacher over `dataset`, or read what an earlier run kept."""
        engine = load(settings.teacher, batch_size=8, precision="float32").engine
        maps = predict_maps(dataset, engine, cache, running=running)
        if maps.dataset.images != dataset.images:
            raise RecipeError(f"{settings.teacher}, the teacher, cannot read all of the images")
        return cls(maps.opacity, maps.scores, settings.share)

    def teach(
        self, row: int, mask: NDArray[np.uint8], target: float, alone: bool
    ) -> tuple[NDArray[np.uint8], float]:
        """Mix a mask `(S, S)` 0-255 and an image target 0-1 with the teacher's.

        Args:
            row: of the image.
            mask: the readers'.
            target: the readers'.
            alone: the image has no labels, so the teacher's are taken as they are.
        """
        share = 1.0 if alone else self.share
        size = (mask.shape[1], mask.shape[0])
        theirs = cv2.resize(self.opacity[row], size, interpolation=cv2.INTER_LINEAR)
        mixed = share * theirs.astype(np.float32) + (1 - share) * mask
        score = share * float(self.scores[row]) + (1 - share) * target
        return np.round(mixed).astype(np.uint8), score


def folds_seen(teacher: str) -> frozenset[int]:
    """The folds an ensemble's members were trained on: whoever learns from it has seen them.

    Raises:
        RecipeError: it is not known what one of them was trained on.
        ManifestError: there is no such ensemble.
    """
    manifest = load_manifest()
    found: set[int] = set()
    for name in manifest.ensemble(teacher).members:
        seen = manifest.seen_by(name)
        if seen is None:
            raise RecipeError(
                f"{teacher}, the teacher: it is not known which folds {name} was trained on"
            )
        found |= seen
    return frozenset(found)
