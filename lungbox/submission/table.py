"""Rows of a submission file, read with every error and its line."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from lungbox.common.tables import TableError, read_table, unescape_formula
from lungbox.errors import LungboxError

STRING = "PredictionString"
# Errors that a message lists.
SHOWN = 20

T = TypeVar("T")


@dataclass(frozen=True)
class RowError:
    """One error, and its line in the file; None where a row or file is missing."""

    text: str
    line: int | None = None

    def __str__(self) -> str:
        return self.text if self.line is None else f"line {self.line}: {self.text}"


class InvalidRowsError(LungboxError):
    """A CSV has errors; the message gives the first twenty, each with its line.

    Attributes:
        errors: all of them.
    """

    def __init__(self, path: Path, errors: Sequence[RowError]) -> None:
        self.errors = tuple(errors)
        super().__init__(_listed(path, errors))


class SubmissionError(InvalidRowsError):
    """A submission has errors."""


class StringError(ValueError):
    """A prediction string has errors.

    Attributes:
        errors: all of them, a sentence each.
    """

    def __init__(self, errors: Sequence[str]) -> None:
        self.errors = tuple(errors)
        super().__init__("; ".join(errors))


def read(
    path: Path,
    id_column: str,
    parse: Callable[[str, str], T],
    ids: Collection[str] | None = None,
) -> dict[str, T]:
    """Read a submission, checking every row.

    Args:
        path: the file, CSV or gzipped CSV.
        id_column: names the image.
        parse: identity and prediction string to a prediction; raises `StringError`.
        ids: where given, exactly these images must have a row.

    Returns:
        The prediction of each row, by image, in the order of the file.

    Raises:
        SubmissionError: with every error.
    """
    predictions: dict[str, T] = {}
    known = None if ids is None else set(ids)
    seen: set[str] = set()
    errors: list[RowError] = []
    for line, name, string in _rows(path, id_column, errors, invalid=seen):
        if name in seen:
            errors.append(RowError(f"{name} is there a second time", line))
        elif known is not None and name not in known:
            errors.append(RowError(f"names {name}, which is not among the images", line))
        seen.add(name)
        try:
            predictions.setdefault(name, parse(name, string))
        except StringError as error:
            errors += [RowError(text, line) for text in error.errors]
    if ids is not None:
        errors += [
            RowError(f"no row for {name}") for name in dict.fromkeys(ids) if name not in seen
        ]
    if errors:
        raise SubmissionError(path, errors)
    return predictions


def read_names(path: Path, id_column: str) -> list[str]:
    """The images of a sample submission, in its order.

    Raises:
        SubmissionError: with every error; an image that is there twice is one.
    """
    names: dict[str, int] = {}
    errors: list[RowError] = []
    for line, name, _ in _rows(path, id_column, errors, needs_string=False):
        if name in names:
            errors.append(RowError(f"names {name} twice, first on line {names[name]}", line))
        names.setdefault(name, line)
    if errors:
        raise SubmissionError(path, errors)
    return list(names)


def _rows(
    path: Path,
    id_column: str,
    errors: list[RowError],
    needs_string: bool = True,
    invalid: set[str] | None = None,
) -> Iterator[tuple[int, str, str]]:
    """Line, identity and prediction string of each valid row; of the others, errors are added to
    `errors`, and the images they name to `invalid`."""
    try:
        table = read_table(path)
    except TableError as error:
        raise SubmissionError(path, [RowError(error.reason)]) from error
    columns = table.columns
    needed = (id_column, STRING) if needs_string else (id_column,)
    if missing := [name for name in needed if name not in columns]:
        raise SubmissionError(path, [RowError(f"has no column {name}", 1) for name in missing])
    index = columns.index(id_column)
    string = columns.index(STRING) if STRING in columns else None
    for line, cells in table.rows:
        if not cells:
            continue
        if len(cells) != len(columns):
            text = f"{len(cells)} cells, not the {len(columns)} of the first line"
            errors.append(RowError(text, line))
            if invalid is not None and len(cells) > index:
                invalid.add(unescape_formula(cells[index]))
        elif not cells[index]:
            errors.append(RowError("names no image", line))
        else:
            yield line, unescape_formula(cells[index]), cells[string] if string is not None else ""


def arranged(
    found: Iterable[tuple[str, str]], ids: Iterable[str] | None, absent: str
) -> Iterator[tuple[str, str]]:
    """All rows or, where `ids` are given, exactly theirs in their order.

    Args:
        found: identity and prediction string.
        ids: the rows to write.
        absent: the string of those that were not found.
    """
    if ids is None:
        yield from found
        return
    strings = dict(found)
    for name in ids:
        yield name, strings.get(name, absent)


def _listed(path: Path, errors: Sequence[RowError]) -> str:
    if len(errors) == 1:
        separator = ":" if errors[0].line is None else ","
        return f"{path}{separator} {errors[0]}"
    lines = [f"{path}: {len(errors)} errors", *(f"  {error}" for error in errors[:SHOWN])]
    if len(errors) > SHOWN:
        lines.append(f"  and {len(errors) - SHOWN} more")
    return "\n".join(lines)
