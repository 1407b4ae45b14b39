"""Cells of tables that people open in a spreadsheet, and tables that a spreadsheet has saved."""

import csv
import re
from io import StringIO
from pathlib import Path

from lungbox.errors import LungboxError

# A spreadsheet takes a cell that begins so for a formula; a file may be named like one.
_LIKE_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_DELIMITERS = (",", ";", "\t")
# Larger than the table of a million radiographs.
_LARGEST_TABLE = 2**28


class TableError(LungboxError):
    """A file is not the table it should be."""


def guarded(cell: object) -> object:
    """A cell as it is written: text that a spreadsheet would compute gets an apostrophe before it.

    >>> guarded("=1+1"), guarded("chest"), guarded(-1)
    ("'=1+1", 'chest', -1)
    """
    if isinstance(cell, str) and _LIKE_FORMULA.match(cell):
        return f"'{cell}"
    return cell


def unguarded(cell: str) -> str:
    """What `guarded` was given.

    >>> unguarded("'=1+1"), unguarded("'chest'")
    ('=1+1', "'chest'")
    """
    return cell[1:] if cell.startswith("'") and _LIKE_FORMULA.match(cell) else cell


def read_column(path: Path, column: str) -> list[str]:
    """A column of a table that Lungbox wrote, also where a spreadsheet has saved it since.

    UTF-8, UTF-16 or the Western code page of Windows; commas, semicolons or tabs; cells of any
    length.

    Raises:
        TableError: it cannot be read, or has no such column.
    """
    try:
        if path.stat().st_size > _LARGEST_TABLE:
            raise TableError(f"{path}: is larger than any table of results")
        text = _decoded(path.read_bytes())
        header = text.partition("\n")[0]
        delimiter = max(_DELIMITERS, key=header.count)
        # The whole of it may be one cell.
        usual = csv.field_size_limit(_LARGEST_TABLE)
        try:
            rows = list(csv.DictReader(StringIO(text, newline=""), delimiter=delimiter))
        finally:
            csv.field_size_limit(usual)
    except (OSError, csv.Error, UnicodeError) as error:
        raise TableError(f"{path}: is no readable table ({error})") from error
    if rows and column not in rows[0]:
        raise TableError(f"{path}: has no column {column}")
    return [unguarded(row[column] or "") for row in rows]


def _decoded(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")
