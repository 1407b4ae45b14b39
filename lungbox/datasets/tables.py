"""Label tables: CSV files of which one bad row is an issue, and the others are used."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lungbox.common import tables
from lungbox.common.tables import Table, TableError
from lungbox.constants import FOLDS
from lungbox.datasets.types import DatasetError, LabelIssue


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        where: the table's name and the line, for issues.
        cells: by column, stripped; blank where the row ends early.
        line: in the file.
    """

    where: str
    cells: dict[str, str]
    line: int | None = None

    def get(self, column: str, absent: str = "") -> str:
        """A cell; `absent` where it is blank, or there is no such column."""
        return self.cells.get(column) or absent

    def issue(self, kind: str, what: str, image: str = "") -> LabelIssue:
        """An issue of this row, and of an image where one is named."""
        return LabelIssue(kind, f"{self.where}, {image}" if image else self.where, what, self.line)


def number(value: object) -> float | None:
    """What is written as a finite number, and else None."""
    try:
        read = float(str(value))
    except ValueError:
        return None
    return read if math.isfinite(read) else None


def original_size(
    row: Row, columns: tuple[str, str], image: str, issues: list[LabelIssue]
) -> tuple[float, float] | None:
    """Width and height of the image that boxes were drawn on, in pixels; None, and an issue, where
    the row does not give them.

    Args:
        row: of `image`.
        columns: of the width and of the height.
        image: its name, for the issue.
        issues: those found are appended.
    """
    width, height = (number(row.get(column)) for column in columns)
    if width and height and width > 0 and height > 0:
        return width, height
    written = " x ".join(row.get(column) or "nothing" for column in columns)
    what = f"the size of its original is {written}, which its boxes need; left out"
    issues.append(row.issue("unusable row", what, image))
    return None


def fold(row: Row, issues: list[LabelIssue]) -> int:
    """The fold a row gives; -1 where it gives none, with an issue where it is something else."""
    written = row.get("fold")
    read = number(written)
    if read is not None and read in range(FOLDS):
        return int(read)
    if written and read != -1:
        issues.append(row.issue("no such fold", f"fold {written} is none of 0-{FOLDS - 1}"))
    return -1


def read_label_table(path: Path) -> Table:
    """Read a CSV file, also one that a spreadsheet has saved.

    Raises:
        DatasetError: it is missing or cannot be read.
    """
    try:
        return tables.read_table(path, from_spreadsheet=True)
    except TableError as error:
        raise DatasetError(str(error)) from error


def read_rows(
    table: Table | Path,
    columns: Iterable[str],
    issues: list[LabelIssue],
    once: str = "",
    repeats: bool = False,
) -> list[Row]:
    """The usable rows of a CSV that must have `columns`; the first names the image or study.

    Args:
        table: the file, or what was read of it.
        columns: that it must have.
        issues: rows that cannot be used are added here.
        once: a column of which each value may be in one row only; the first counts.
        repeats: whether the very same row may be there several times.

    Raises:
        DatasetError: it is missing, unreadable, or lacks a column.
    """
    columns = tuple(columns)
    table = read_label_table(table) if isinstance(table, Path) else table
    header = [name.strip() for name in table.columns]
    for column in columns:
        if column not in header:
            has = ", ".join(header)[:200] or "none"
            raise DatasetError(f"{table.path}: has no column {column}; it has {has}")
    rows: list[Row] = []
    seen: dict[object, str] = {}
    for line, written in table.rows:
        cells = [cell.strip() for cell in written]
        if not any(cells):
            continue
        where = f"{table.path.name}, line {line}"
        row = Row(where, dict(zip(header, cells, strict=False)), line)
        same: object = row.get(once) if once else tuple(cells)
        if len(cells) > len(header):
            what = f"has {len(cells)} cells where the header has {len(header)}; left out"
            issues.append(row.issue("unusable row", what))
        elif not row.get(columns[0]):
            issues.append(row.issue("unusable row", f"has no {columns[0]}; left out"))
        elif same in seen and not repeats:
            what = f"{row.get(columns[0])} is in {seen[same]} already; left out"
            issues.append(row.issue("duplicate row", what))
        else:
            seen.setdefault(same, f"line {line}")
            rows.append(row)
    return rows
