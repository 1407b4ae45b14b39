"""CSV tables: the reader of labels, submissions and results; cells safe in a spreadsheet."""

import csv
import gzip
import re
import warnings
import zlib
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, cast

from lungbox.errors import LungboxError

# A spreadsheet takes a cell that begins so for a formula; a file may be named like one.
_LIKE_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_DELIMITERS = (",", ";", "\t")
_LINE_END = re.compile(r"\r\n|\r|\n")
# Larger than the table of a million radiographs.
_LARGEST_TABLE = 2**28


class TableError(LungboxError):
    """A CSV file cannot be read.

    Attributes:
        reason: the message without the file's name.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = reason


@dataclass(frozen=True)
class Table:
    """The header of a CSV file and its rows.

    Attributes:
        path: the file.
        columns: the header; empty where the file is, or its first line.
        rows: of each, the number of its last line in the file and its cells: as many as the row
            has, which may be more or fewer than there are columns; none where the line is blank.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]


def read_table(path: Path, from_spreadsheet: bool = False) -> Table:
    """Read a CSV file, gzipped where its name ends in `.gz`: every cell as text, as it is written.

    A quotation mark that is never closed, or closed inside a cell, makes all quotation marks of
    the file ordinary characters, so that no row is swallowed by the cell before it.

    Args:
        path: UTF-8, with or without a byte order mark; cells separated by commas.
        from_spreadsheet: also take what spreadsheets save: UTF-16, the Western code page of
            Windows, semicolons and tabs.

    Raises:
        TableError: it cannot be opened, is not text, or is larger than 256 MiB.
    """
    try:
        text = _decoded(_content(path), from_spreadsheet).lstrip("\ufeff")  # byte order marks
    except (UnicodeError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise TableError(path, f"not a CSV file ({error})") from error
    except OSError as error:
        raise TableError(path, f"cannot be opened ({error.strerror})") from error
    header = _LINE_END.split(text, maxsplit=1)[0]
    if not header:
        return Table(path, (), ())
    delimiter = max(_DELIMITERS, key=header.count) if from_spreadsheet else ","
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
        records = _records(text, delimiter, quoting)
        lines, last = [], 0
        for cells in records:
            last += 1 + sum(len(_LINE_END.findall(cell)) for cell in cells)
            lines.append(last)
        # pandas leaves out a line whose quotation marks are not in order.
        if last == sum(1 for _ in StringIO(text, newline="")):
            return Table(path, records[0], tuple(zip(lines[1:], records[1:], strict=True)))
    raise TableError(path, "not a CSV file (some of its lines cannot be read)")


def read_column(path: Path, column: str) -> list[str]:
    """A column of a table that Lungbox wrote, also where a spreadsheet has saved it since.

    Raises:
        TableError: it cannot be read, or has rows but no such column.
    """
    table = read_table(path, from_spreadsheet=True)
    rows = [cells for _, cells in table.rows if cells]
    if not rows:
        return []
    if column not in table.columns:
        raise TableError(path, f"has no column {column}")
    index = table.columns.index(column)
    return [unescape_formula(cells[index]) if index < len(cells) else "" for cells in rows]


def escape_formula(cell: object) -> object:
    """Escape a cell that a spreadsheet would take for a formula, with an apostrophe.

    >>> escape_formula("=1+1"), escape_formula("chest"), escape_formula(-1)
    ("'=1+1", 'chest', -1)
    """
    if isinstance(cell, str) and _LIKE_FORMULA.match(cell):
        return f"'{cell}"
    return cell


def unescape_formula(cell: str) -> str:
    """Undo `escape_formula`.

    >>> unescape_formula("'=1+1"), unescape_formula("'chest'")
    ('=1+1', "'chest'")
    """
    return cell[1:] if cell.startswith("'") and _LIKE_FORMULA.match(cell) else cell


def _content(path: Path) -> bytes:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        content = file.read(_LARGEST_TABLE + 1)
    if len(content) > _LARGEST_TABLE:
        raise TableError(path, f"is larger than any table ({_LARGEST_TABLE:,} bytes)")
    return content


def _decoded(content: bytes, from_spreadsheet: bool) -> str:
    if from_spreadsheet and content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        if not from_spreadsheet:
            raise
        return content.decode("cp1252", errors="replace")


def _records(text: str, delimiter: str, quoting: int) -> list[tuple[str, ...]]:
    """Every line as cells, the header first; without lines whose quotation marks are malformed."""
    import pandas  # only here: it takes longer to import than a radiograph to read

    # pandas' C engine does not tell a cell that is missing from one that is blank.
    usual = csv.field_size_limit(_LARGEST_TABLE)
    try:
        # Of a file whose header is left out, pandas warns; `read_table` then reads it once more.
        with warnings.catch_warnings(action="ignore", category=pandas.errors.ParserWarning):
            frame = pandas.read_csv(
                StringIO(text, newline=""),
                sep=delimiter,
                quoting=cast(Any, quoting),
                header=None,
                dtype=object,
                keep_default_na=False,
                skip_blank_lines=False,
                engine="python",
                # A row with more cells than the header: all of them, as the first cell.
                on_bad_lines=lambda cells: cast(Any, [tuple(cells)]),
            )
    except (pandas.errors.EmptyDataError, pandas.errors.ParserError):
        return []
    finally:
        csv.field_size_limit(usual)
    return [
        first if isinstance(first, tuple) else _present((first, *others))
        for first, *others in frame.to_numpy().tolist()
    ]


def _present(cells: tuple[object, ...]) -> tuple[str, ...]:
    """The cells that a row has; pandas fills it up to the header's length."""
    return tuple(cell for cell in cells if isinstance(cell, str))
