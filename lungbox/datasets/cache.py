"""The training cache: every image read and prepared once, then memory-mapped."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from lungbox.datasets.types import Dataset
from lungbox.radiograph import RadiographError, prepare, read
from lungbox.radiograph.prepare import Preparation

# Raise it when `radiograph.read` or `prepare` computes something else: old caches are then left.
_VERSION = 1


@dataclass(frozen=True)
class Cache:
    """Prepared images on disk.

    Attributes:
        dataset: the images that could be read.
        failed: file and reason of those that could not.
        key: changes when a file, the size or the preparation does.
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


def prepare_all(
    dataset: Dataset,
    image_size: int,
    folder: Path,
    advance: Callable[[], object] = lambda: None,
    preparation: Preparation = "equalised",
) -> Cache:
    """The prepared images of `dataset` at `image_size`, from the cache where they are there.

    The cache is keyed by the files (path, size, time of change), the image size and how images
    are prepared. Only what is asked of it is read into memory. It is written beside its final
    place and renamed when whole.

    Args:
        dataset: what to read.
        image_size: side of the square, in pixels.
        folder: where caches are kept.
        advance: called once for every image read.
        preparation: see `radiograph.prepare`.
    """
    key = _key(dataset, image_size, preparation)
    pixels_path = folder / f"{key}.npy"
    failed_path = folder / f"{key}.json"
    if not failed_path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        _write(dataset, image_size, preparation, pixels_path, failed_path, advance)
    failed = {int(row): reason for row, reason in json.loads(failed_path.read_text()).items()}
    pixels = np.load(pixels_path, mmap_mode="r")
    kept = [row for row in range(len(dataset)) if row not in failed]
    return Cache(
        dataset=Dataset(tuple(dataset.images[row] for row in kept), dataset.faults),
        failed=tuple((dataset.images[row].path, reason) for row, reason in failed.items()),
        key=key,
        _pixels=pixels,
        _rows=np.array(kept, np.int64),
    )


def _write(
    dataset: Dataset,
    image_size: int,
    preparation: Preparation,
    pixels_path: Path,
    failed_path: Path,
    advance: Callable[[], object],
) -> None:
    partial = pixels_path.with_name(f".{os.getpid()}-{pixels_path.name}")
    pixels = open_memmap(partial, "w+", np.uint8, (len(dataset), image_size, image_size))
    failed: dict[int, str] = {}

    def one(row: int) -> None:
        try:
            pixels[row] = prepare(read(dataset.images[row].path).pixels, image_size, preparation)
        except RadiographError as error:
            failed[row] = str(error)
        advance()

    try:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(one, range(len(dataset))))
        pixels.flush()
        partial.replace(pixels_path)
    finally:
        partial.unlink(missing_ok=True)
    # Last, for its presence says that the cache is whole.
    failed_path.write_text(json.dumps(dict(sorted(failed.items()))))


def _key(dataset: Dataset, image_size: int, preparation: Preparation) -> str:
    facts: Sequence[object] = [
        (str(image.path.resolve()), stat.st_size, stat.st_mtime_ns)
        for image in dataset.images
        for stat in [image.path.stat()]
    ]
    return hashlib.sha256(
        json.dumps([_VERSION, image_size, preparation, facts]).encode()
    ).hexdigest()[:24]
