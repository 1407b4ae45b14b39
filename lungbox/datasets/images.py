"""The image files of a data set, by name, and image files without labels."""

import filecmp
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from lungbox.common.files import walk_files
from lungbox.constants import IMAGE_ENDINGS
from lungbox.datasets.types import (
    Dataset,
    DatasetError,
    DatasetInfo,
    LabelIssue,
    LabelledRadiograph,
)
from lungbox.radiograph import RadiographError, identity, size

UNLABELLED = DatasetInfo(name="unlabelled", title="unlabelled", class_names=())


def image_files(folder: Path) -> list[Path]:
    """DICOM, PNG and JPEG files below `folder` by their ending, sorted; hidden ones left out."""
    return sorted(
        path
        for path in walk_files(folder)
        if path.name.lower().endswith(IMAGE_ENDINGS) and not path.name.startswith(".")
    )


def find_images(
    folder: Path, candidates: Iterable[str], issues: list[LabelIssue]
) -> dict[str, Path]:
    """Image files by identity, anywhere below the first of the `candidates` that is a folder.

    Of several files with one identity the first by path counts, and the others are issues.

    Raises:
        DatasetError: none of the candidates is there.
    """
    candidates = tuple(candidates)
    for candidate in candidates:
        if (folder / candidate).is_dir():
            files: dict[str, Path] = {}
            for path in image_files(folder / candidate):
                first = files.setdefault(identity(path), path)
                if first != path:
                    what = f"named like {first}; left out"
                    issues.append(LabelIssue("duplicate file name", path, what))
            return files
    looked_for = " and ".join(f"{candidate}/" for candidate in candidates)
    raise DatasetError(f"{folder}: has no folder of images; looked for {looked_for}")


def load_unlabelled(folder: Path) -> Dataset:
    """Every DICOM, PNG and JPEG file below `folder`, as images that are neither positive nor
    negative, for a network to learn from a teacher's predictions; unreadable files are issues.

    Raises:
        DatasetError: there is none.
    """
    files = image_files(folder)
    if not files:
        raise DatasetError(f"{folder}: holds no DICOM, PNG or JPEG file")
    images, issues = [], []
    for path in files:
        try:
            file_size = size(path)
        except RadiographError as error:
            issues.append(LabelIssue("unreadable file", path, str(error)))
            continue
        images.append(
            LabelledRadiograph(
                identity=identity(path),
                path=path,
                source=UNLABELLED.name,
                size=file_size,
                boxes=np.zeros((0, 4), np.float32),
                target=False,
                category="",
                patient=str(path),
                uncertain=True,
            )
        )
    return Dataset(tuple(images), tuple(issues), UNLABELLED.class_names)


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
