"""An ensemble's predictions for labelled images, computed once and cached."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from lungbox.boxes import Decision, Detections, OperatingPoint, RawPrediction, decide
from lungbox.common.files import atomic_write
from lungbox.constants import OPACITY
from lungbox.datasets.cache import prepare_all
from lungbox.datasets.types import Dataset
from lungbox.engines import (
    NOT_FINITE,
    BatchPrediction,
    Engine,
    EngineError,
    engine_fingerprint,
    finite_rows,
    predict_with_tta,
    without_padding,
)

_LEVELS = 255


@dataclass(frozen=True)
class DatasetPredictions:
    """The prediction of an ensemble for every image of a data set.

    Attributes:
        dataset: the images that could be read.
        opacity: `(N, h, w)` uint8, the averaged mask's opacity channel, 255 for 1; of several
            classes `(N, h, w, C)`; None without a segmentation network.
        scores: `(N,)` float32, image scores, 0-1.
        detections: of each detection network, boxes `(N, K, 4)` in 0-1, scores `(N, K, C)` and
            its weight.
        mask_weight: of the mask's boxes beside the detections.
        classes: `(N, L)` float32, image-level probabilities of L labels; None without a
            classification network.
    """

    dataset: Dataset
    opacity: NDArray[np.uint8] | None
    scores: NDArray[np.float32]
    detections: tuple[tuple[NDArray[np.float32], NDArray[np.float32], float], ...] = ()
    mask_weight: float = 1.0
    classes: NDArray[np.float32] | None = None

    def boxes(self, row: int, point: OperatingPoint) -> Decision:
        """The boxes of one image, see `boxes.decide`."""
        return decide(self.prediction(row), self.dataset.images[row].size, point)

    def prediction(self, row: int) -> RawPrediction:
        """The prediction for one image."""
        detections = tuple(Detections(b[row], s[row], weight) for b, s, weight in self.detections)
        mask = None if self.opacity is None else self.mask(row)
        class_scores = None if self.classes is None else self.classes[row]
        return RawPrediction(
            float(self.scores[row]), mask, detections, class_scores, self.mask_weight
        )

    def mask(self, row: int) -> NDArray[np.float32]:
        """`(h, w, 1 + C)` probabilities of background and each class of one image.

        Raises:
            ValueError: the ensemble has no segmentation network.
        """
        if self.opacity is None:
            raise ValueError("an ensemble without a segmentation network has no masks")
        opacity = self.opacity[row].astype(np.float32) / _LEVELS
        if opacity.ndim == 2:
            return np.stack([1 - opacity, opacity], axis=-1)
        background = np.clip(1 - opacity.sum(axis=-1, keepdims=True), 0, 1)
        return np.concatenate([background, opacity], axis=-1)


def to_uint8(masks: NDArray[np.floating]) -> NDArray[np.uint8]:
    """`(N, h, w, 1 + C)` probabilities to `(N, h, w, C)` without the background, 255 for 1; of one
    class `(N, h, w)`."""
    levels = np.round(masks[..., OPACITY:] * _LEVELS).astype(np.uint8)
    return levels[..., 0] if levels.shape[-1] == 1 else levels


def predict_dataset(
    dataset: Dataset,
    engine: Engine,
    cache: Path,
    advance: Callable[[int], object] = lambda _: None,
) -> DatasetPredictions:
    """Predict every image of `dataset`, or read what an earlier run cached.

    Args:
        dataset: the images.
        engine: the ensemble, started.
        cache: where prepared images and predictions are cached.
        advance: called with the number of images of each batch.

    Raises:
        EngineError: a prediction is not finite.
    """
    config = engine.config
    prepared = prepare_all(dataset, config.image_size, cache, preparation=config.preparation)
    images = prepared.dataset
    if not len(images):
        return DatasetPredictions(images, np.zeros((0, 1, 1), np.uint8), np.zeros(0, np.float32))
    settings = [engine_fingerprint(engine), config.fingerprints, prepared.key, config.flip]
    settings += [config.views] if config.views else []
    if config.image_labels:
        settings.append("classes")  # earlier versions left them out of the file
    key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:24]
    path = cache / f"maps-{key}.npz"
    if cached := _cached(path, images, config.mask_weight):
        return cached
    batches = []
    for first in range(0, len(images), config.batch_size):
        batch = prepared.images(slice(first, first + config.batch_size))
        predicted = predict_with_tta(engine, batch)
        if len(bad := np.flatnonzero(~finite_rows(predicted))):
            raise EngineError(f"{images.images[first + bad[0]].path}: {NOT_FINITE}")
        sizes = [image.size for image in images.images[first : first + len(batch)]]
        batches.append(_arrays(without_padding(predicted, sizes, config)))
        advance(len(batch))
    arrays: dict[str, Any] = {
        name: np.concatenate([one[name] for one in batches]) for name in batches[0]
    }
    weights = [weight for _, _, weight in predicted.detections]
    with atomic_write(path, "wb") as file:
        np.savez_compressed(file, detection_weights=np.array(weights, np.float64), **arrays)
    return _from_arrays(images, arrays, weights, config.mask_weight)


def _arrays(predicted: BatchPrediction) -> dict[str, Any]:
    arrays: dict[str, Any] = dict(predicted.arrays())
    if (masks := arrays.pop("masks", None)) is not None:
        arrays["opacity"] = to_uint8(masks)
    return arrays


def _from_arrays(
    images: Dataset,
    arrays: Mapping[str, NDArray],
    weights: Sequence[float],
    mask_weight: float,
) -> DatasetPredictions:
    detections = tuple(
        (arrays[f"boxes_{index}"], arrays[f"scores_{index}"], float(weight))
        for index, weight in enumerate(weights)
    )
    return DatasetPredictions(
        images,
        arrays.get("opacity"),
        arrays["scores"],
        detections,
        mask_weight,
        arrays.get("classes"),
    )


def _cached(path: Path, images: Dataset, mask_weight: float) -> DatasetPredictions | None:
    """Cached predictions; None where there are none, or the file is damaged."""
    try:
        with np.load(path) as file:
            arrays = dict(file)
        weights = arrays.pop("detection_weights").tolist()
        found = _from_arrays(images, arrays, weights, mask_weight)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    return found if all(len(values) == len(images) for values in arrays.values()) else None
