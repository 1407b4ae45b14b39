"""The image files of a data set, by name, and image files without labels."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
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

# Bytes at the end of a file, compared before all of it is.
_TAIL = 4096
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


def identical_files(paths: Iterable[Path]) -> list[list[Path]]:
    """Groups of two and more files that are equal byte for byte, whatever their names.

    They are compared by size, then by their last bytes, and only then by all of them. Files that
    cannot be read are in no group.
    """
    groups = [list(paths)]
    for key in (_size, _tail, _digest):
        found: dict[object, list[Path]] = defaultdict(list)
        for index, group in enumerate(groups):
            for path in group:
                with suppress(OSError):
                    found[index, key(path)].append(path)
        groups = [group for group in found.values() if len(group) > 1]
    return groups


def _size(path: Path) -> object:
    return path.stat().st_size


def _tail(path: Path) -> object:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        return file.read()


def _digest(path: Path) -> object:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
