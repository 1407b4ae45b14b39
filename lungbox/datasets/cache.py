"""The training cache: every image read and prepared once, then memory-mapped."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lungbox.datasets.store import Store, file_key
from lungbox.datasets.types import Dataset
from lungbox.radiograph.prepare import Preparation


@dataclass(frozen=True)
class PreparedImages:
    """Prepared images on disk.

    Attributes:
        dataset: the images that could be read.
        failed: file and reason of those that could not.
        key: changes with the images, their size, the preparation and its version.
    """

    dataset: Dataset
    failed: tuple[tuple[Path, str], ...]
    key: str
    _pixels: NDArray[np.uint8]
    _rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self._rows)

    def images(self, rows: int | slice) -> NDArray[np.uint8]:
        """`(S, S)` or `(n, S, S)` uint8: the prepared images of these rows of `dataset`."""
        return np.asarray(self._pixels[self._rows[rows]])


def missing(
    dataset: Dataset, image_size: int, folder: Path, preparation: Preparation = "equalised"
) -> int:
    """How many images `prepare_all` would have to read."""
    rows = Store(folder, image_size, preparation).rows()
    return sum(file_key(image.path) not in rows for image in dataset.images)


def prepare_all(
    dataset: Dataset,
    image_size: int,
    folder: Path,
    advance: Callable[[], object] = lambda: None,
    preparation: Preparation = "equalised",
) -> PreparedImages:
    """The prepared images of `dataset` at `image_size`, from the cache where it has them.

    The key of an image is its file (path, size, time of change), the image size and the
    preparation, so that a part of a data set, or a larger one, finds what was read for another.
    Pixels are read into memory only when they are requested. A run that is stopped or killed is
    continued: at most the last 128 images are read again.

    Args:
        dataset: the images.
        image_size: side of the square, in pixels.
        folder: the cache.
        advance: called once for every image read.
        preparation: see `radiograph.prepare`.

    Raises:
        DatasetError: the disk has no room for them.
    """
    store = Store(folder, image_size, preparation)
    paths = [image.path for image in dataset.images]
    keys = [file_key(path) for path in paths]
    rows, failed = store.rows(), {}
    if any(found not in rows for found in keys):
        failed = store.add(paths, advance)
        rows = store.rows()
    kept = [index for index, found in enumerate(keys) if found in rows]
    changed = "it was changed while it was read; start again"
    lost = [path for path, found in zip(paths, keys, strict=True) if found not in rows]
    # Only of those that could be read: what others store under the key is theirs, row by row.
    facts = [store.name, [keys[index] for index in kept]]
    return PreparedImages(
        dataset=replace(dataset, images=tuple(dataset.images[index] for index in kept)),
        failed=tuple((path, failed.get(path, changed)) for path in lost),
        key=hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24],
        _pixels=store.pixels(),
        _rows=np.array([rows[keys[place]] for place in kept], np.int64),
    )
