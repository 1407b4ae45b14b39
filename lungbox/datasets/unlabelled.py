"""Radiographs that nobody has labelled, for a network to learn from another's opinion."""

import filecmp
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from lungbox.datasets.images import image_files
from lungbox.datasets.types import Dataset, DatasetError, Fault, LabelledRadiograph
from lungbox.radiograph import RadiographError, identity, size

SOURCE = "unlabelled"


def load_unlabelled(folder: Path) -> Dataset:
    """Every DICOM, PNG and JPEG file below `folder`, as images that are neither positive nor
    negative; one that cannot be read is a fault.

    Raises:
        DatasetError: there is none.
    """
    files = image_files(folder)
    if not files:
        raise DatasetError(f"{folder}: holds no DICOM, PNG or JPEG file")
    images, faults = [], []
    for path in files:
        try:
            file_size = size(path)
        except RadiographError as error:
            faults.append(Fault("unreadable", path, str(error)))
            continue
        images.append(
            LabelledRadiograph(
                identity=identity(path),
                path=path,
                source=SOURCE,
                size=file_size,
                boxes=np.zeros((0, 4), np.float32),
                target=False,
                category="",
                patient=str(path),
                uncertain=True,
            )
        )
    return Dataset(tuple(images), tuple(faults))


def files_by_size(paths: Iterable[Path]) -> dict[int, list[Path]]:
    """Files by their size in bytes, for `is_copy`."""
    found: dict[int, list[Path]] = defaultdict(list)
    for path in paths:
        found[path.stat().st_size].append(path)
    return dict(found)


def is_copy(path: Path, files: Mapping[int, Sequence[Path]]) -> bool:
    """Whether a file is one of `files`, byte for byte, under any name.

    Args:
        path: a file.
        files: by their size; only those of the same size are read.
    """
    same_size = files.get(path.stat().st_size, ())
    return any(filecmp.cmp(path, other, shallow=False) for other in same_size)
