"""Data sets: labels joined to files, whatever layout they come in."""

from pathlib import Path

from lungbox.datasets import rsna, siim
from lungbox.datasets.types import Dataset, DatasetError, LabelledRadiograph

__all__ = ["Dataset", "DatasetError", "LabelledRadiograph", "load"]

_LAYOUTS = (rsna, siim)


def load(folder: Path) -> Dataset:
    """Load every data set in `folder`: its own, or those of the folders in it.

    Raises:
        DatasetError: there is none.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: there is no such folder")
    candidates = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
    found = Dataset(())
    for candidate in candidates:
        for layout in _LAYOUTS:
            if layout.matches(candidate):
                found = found + layout.load(candidate)
                break
        if found.images and candidate == folder:
            break
    if not found.images:
        raise DatasetError(
            f"{folder}: holds no known data set; looked, here and one folder down, for "
            f"{rsna.LABELS} (RSNA) and for {siim.IMAGES} with {siim.BOXES} (SIIM-COVID)"
        )
    return found
