"""The image files of a data set, by name."""

import os
from collections.abc import Iterable
from pathlib import Path

from lungbox.constants import IMAGE_ENDINGS
from lungbox.datasets.types import DatasetError, Fault
from lungbox.radiograph import identity


def find_images(folder: Path, candidates: Iterable[str], faults: list[Fault]) -> dict[str, Path]:
    """Image files by identity, anywhere below the first of the `candidates` that is a folder.

    Of several files with one identity the first by path counts, and the others are faults.

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
                    faults.append(Fault("doubled file", path, f"named like {first}; left out"))
            return files
    looked_for = " and ".join(f"{candidate}/" for candidate in candidates)
    raise DatasetError(f"{folder}: has no folder of images; looked for {looked_for}")


def image_files(folder: Path) -> list[Path]:
    """DICOM, PNG and JPEG files below `folder` by their ending, sorted; hidden ones left out."""
    found = []
    for here, inner, names in os.walk(folder):
        inner[:] = [name for name in inner if not name.startswith((".", "__MACOSX"))]
        found += [
            Path(here, name)
            for name in names
            if name.lower().endswith(IMAGE_ENDINGS) and not name.startswith(".")
        ]
    return sorted(found)
