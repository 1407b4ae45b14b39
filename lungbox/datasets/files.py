"""Tables and image folders, read with a clear sentence where they are not what they should be."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from lungbox.constants import IMAGE_ENDINGS
from lungbox.datasets.types import DatasetError
from lungbox.radiograph import identity

# Identities are text, be they digits or the word NA.
_TEXT = {"patientId": str, "image_id": str, "group": str}


def text(value: Any, absent: str = "") -> str:
    """A cell as text; `absent` where it is blank."""
    return absent if value is None or pd.isna(value) else str(value)


def whole(value: Any, absent: int) -> int:
    """A cell as a whole number; `absent` where it is blank.

    Raises:
        DatasetError: it is something else.
    """
    if value is None or pd.isna(value):
        return absent
    try:
        return int(float(str(value)))
    except ValueError:
        raise DatasetError(f"{value!r} stands where a number should be") from None


def read_table(path: Path, columns: Iterable[str]) -> pd.DataFrame:
    """Read a CSV that must have `columns`; identities stay text.

    Raises:
        DatasetError: it is missing, unreadable, or lacks a column.
    """
    try:
        table = pd.read_csv(path, dtype=_TEXT, keep_default_na=False, na_values=[""])
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
