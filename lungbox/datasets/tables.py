"""Label tables: CSVs of which one bad row is a fault, and stops nothing."""

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lungbox.constants import FOLDS
from lungbox.datasets.types import DatasetError, Fault


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        where: the table's name and the line, for faults.
        cells: by column, stripped; blank where the row ends early.
    """

    where: str
    cells: dict[str, str]

    def get(self, column: str, absent: str = "") -> str:
        """A cell; `absent` where it is blank, or there is no such column."""
        return self.cells.get(column) or absent


def number(value: object) -> float | None:
    """What is written as a finite number, and else None."""
    try:
        read = float(str(value))
    except ValueError:
        return None
    return read if math.isfinite(read) else None


def fold(row: Row, faults: list[Fault]) -> int:
    """The fold a row gives; -1, and a fault where it is something else, where it gives none."""
    written = row.get("fold")
    read = number(written)
    if read is not None and read in range(FOLDS):
        return int(read)
    if written and read != -1:
        faults.append(Fault("no such fold", row.where, f"fold {written} is none of 0-{FOLDS - 1}"))
    return -1


def read_table(
    path: Path,
    columns: Iterable[str],
    faults: list[Fault],
    once: str = "",
    repeats: bool = False,
) -> list[Row]:
    """Read a CSV that must have `columns`; the first of them names the image or study.

    Args:
        path: the file, UTF-8 with or without a byte order mark.
        columns: that it must have.
        faults: rows that cannot be used are added here.
        once: a column of which each value may stand in one row only; the first counts.
        repeats: whether the very same row may stand there several times.

    Raises:
        DatasetError: it is missing, unreadable, or lacks a column.
    """
    columns = tuple(columns)
    rows: list[Row] = []
    seen: dict[object, str] = {}
    for line, header, cells in _lines(path, columns):
        where = f"{path.name}, line {line}"
        row = Row(where, dict(zip(header, cells, strict=False)))
        same: object = row.get(once) if once else tuple(cells)
        if len(cells) > len(header):
            said = f"has {len(cells)} cells where the header has {len(header)}; left out"
            faults.append(Fault("unusable row", where, said))
        elif not row.get(columns[0]):
            faults.append(Fault("unusable row", where, f"has no {columns[0]}; left out"))
        elif same in seen and not repeats:
            said = f"{row.get(columns[0])} stands in {seen[same]} already; left out"
            faults.append(Fault("doubled row", where, said))
        else:
            seen.setdefault(same, f"line {line}")
            rows.append(row)
    return rows


def _lines(path: Path, columns: tuple[str, ...]) -> Iterable[tuple[int, list[str], list[str]]]:
    """Line number, header and stripped cells of every row that is not blank."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            for column in columns:
                if column not in header:
                    has = ", ".join(header)[:200] or "none"
                    raise DatasetError(f"{path}: has no column {column}; it has {has}")
            for cells in reader:
                cells = [cell.strip() for cell in cells]
                if any(cells):
                    yield reader.line_num, header, cells
    except FileNotFoundError:
        raise DatasetError(f"{path}: there is no such file") from None
    except (OSError, csv.Error) as error:
        raise DatasetError(f"{path}: not a readable CSV ({error})") from error
