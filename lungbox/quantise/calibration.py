"""Which images an 8-bit network's ranges come from: some that its weights were trained on."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lungbox import datasets
from lungbox.datasets.cache import prepare_all
from lungbox.datasets.types import Dataset, DatasetError
from lungbox.engines import Job
from lungbox.paths import cache_folder

_SEED = 2024


def calibration_images(data: Path, fold: int, job: Job, count: int) -> NDArray[np.uint8]:
    """Prepared images of other folds than `fold`, half of them with opacities.

    Returns:
        `(N, S, S)` uint8, N at most `count`, in random order, always the same.

    Raises:
        DatasetError: there are none.
    """
    others = datasets.load(data).where(lambda image: image.fold != fold and not image.uncertain)
    chosen = _chosen(others, count)
    if not chosen.images:
        raise DatasetError(f"{data}: has no images but those of fold {fold}")
    prepared = prepare_all(chosen, job.image_size, cache_folder(), preparation=job.preparation)
    if not len(prepared):
        raise DatasetError(f"{data}: none of the images for calibration could be read")
    return prepared.images(slice(0, count))


def _chosen(found: Dataset, count: int) -> Dataset:
    random = np.random.default_rng(_SEED)
    mixed = [found.images[row] for row in random.permutation(len(found))]
    positive = [image for image in mixed if image.target][: (count + 1) // 2]
    negative = [image for image in mixed if not image.target][: count - len(positive)]
    both = [*positive, *negative]
    return Dataset(tuple(both[row] for row in random.permutation(len(both))))
