"""An ensemble's masks and image scores on labelled images, predicted once and kept."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from lungbox.boxes import regions
from lungbox.boxes.regions import OperatingPoint
from lungbox.constants import OPACITY
from lungbox.datasets.cache import prepare_all
from lungbox.datasets.types import Dataset
from lungbox.engines import NOT_FINITE, Engine, EngineError, ask, computed_by, finite
from lungbox.files import replacing

_LEVELS = 255


@dataclass(frozen=True)
class Maps:
    """What an ensemble says of every image of a data set.

    Attributes:
        dataset: the images that could be read.
        opacity: `(N, h, w)` uint8, the averaged mask's opacity channel, 255 for certain.
        scores: `(N,)` float32, probabilities that there is any opacity.
    """

    dataset: Dataset
    opacity: NDArray[np.uint8]
    scores: NDArray[np.float32]

    def boxes(self, row: int, point: OperatingPoint) -> tuple[NDArray, NDArray]:
        """Boxes and confidences of one image, as `boxes.regions` gives them."""
        return regions(
            self.mask(row), self.dataset.images[row].size, float(self.scores[row]), point
        )

    def mask(self, row: int) -> NDArray[np.float32]:
        """`(h, w, 2)` probabilities of background and opacity of one image."""
        opacity = self.opacity[row].astype(np.float32) / _LEVELS
        return np.stack([1 - opacity, opacity], axis=-1)


def levels(masks: NDArray[np.floating]) -> NDArray[np.uint8]:
    """`(N, h, w, 2)` probabilities to `(N, h, w)`, opacity alone, 255 for certain."""
    return np.round(masks[..., OPACITY] * _LEVELS).astype(np.uint8)


def predict_maps(
    dataset: Dataset,
    engine: Engine,
    cache: Path,
    reading: Callable[[], object] = lambda: None,
    running: Callable[[int], object] = lambda _: None,
) -> Maps:
    """Run `engine` over `dataset`, or read what an earlier run kept.

    Args:
        dataset: the images.
        engine: the ensemble, started.
        cache: where prepared images and maps are kept.
        reading: called for every image read.
        running: called with the number of images run.

    Raises:
        EngineError: an answer is not finite, so that no figure would be.
    """
    job = engine.job
    prepared = prepare_all(dataset, job.image_size, cache, reading, job.preparation)
    images = prepared.dataset
    if not len(images):
        return Maps(images, np.zeros((0, 1, 1), np.uint8), np.zeros(0, np.float32))
    facts = [
        computed_by(engine),
        [member.facts for member in job.members],
        prepared.key,
        job.flip,
    ]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]
    path = cache / f"maps-{key}.npz"
    if kept := _kept(path, images):
        return kept
    opacity, scores = [], []
    for first in range(0, len(images), job.batch_size):
        batch = prepared.images(slice(first, first + job.batch_size))
        predicted = ask(engine, batch)
        if len(bad := np.flatnonzero(~finite(predicted))):
            raise EngineError(f"{images.images[first + bad[0]].path}: {NOT_FINITE}")
        opacity.append(levels(predicted.masks))
        scores.append(predicted.scores)
        running(len(batch))
    maps = Maps(images, np.concatenate(opacity), np.concatenate(scores))
    with replacing(path, "wb") as file:
        np.savez_compressed(file, opacity=maps.opacity, scores=maps.scores)
    return maps


def _kept(path: Path, images: Dataset) -> Maps | None:
    """What an earlier run kept; None where there is nothing, or it is damaged."""
    try:
        with np.load(path) as kept:
            maps = Maps(images, kept["opacity"], kept["scores"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    return maps if len(maps.opacity) == len(maps.scores) == len(images) else None
