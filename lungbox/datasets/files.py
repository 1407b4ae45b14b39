"""Tables and image folders, read with a clear sentence where they are not what they should be."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from lungbox.constants import IMAGE_ENDINGS
from lungbox.datasets.types import DatasetError
from lungbox.radiograph import identity


def read_table(path: Path, columns: Iterable[str]) -> pd.DataFrame:
    """Read a CSV that must have `columns`; identities stay text.

    Raises:
        DatasetError: it is missing, unreadable, or lacks a column.
    """
    try:
        table = pd.read_csv(path, dtype={"patientId": str, "image_id": str, "group": str})
    except FileNotFoundError:
        raise DatasetError(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: not a readable CSV ({error})") from error
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise DatasetError(f"{path}: has no column {missing[0]}; it has {', '.join(table.columns)}")
    return table


def find_images(folder: Path, candidates: Iterable[str]) -> dict[str, Path]:
    """Image files by identity, from the first of the `candidates` folders that exists.

    Raises:
        DatasetError: none does.
    """
    candidates = tuple(candidates)
    for candidate in candidates:
        if (folder / candidate).is_dir():
            files = sorted((folder / candidate).rglob("*"))
            return {
                identity(path): path
                for path in files
                if path.suffix.lower() in IMAGE_ENDINGS and path.is_file()
            }
    raise DatasetError(f"{folder}: has no folder of images; looked for {' and '.join(candidates)}")
