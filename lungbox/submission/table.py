"""Rows of a submission file: read once, every fault collected."""

import csv
import gzip
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar, cast

from lungbox.cells import unguarded
from lungbox.submission.faults import Fault, FaultsError, StringError, SubmissionError

STRING = "PredictionString"

T = TypeVar("T")


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
        parse: identity and prediction string to what it says; raises `StringError`.
        ids: where given, exactly these images must have a row.

    Returns:
        What each row says, by image, in the order of the file.

    Raises:
        SubmissionError: with every fault.
    """
    predictions: dict[str, T] = {}
    known = None if ids is None else set(ids)
    seen: set[str] = set()
    faults: list[Fault] = []
    for line, name, string in _rows(path, id_column, faults, spoiled=seen):
        if name in seen:
            faults.append(Fault(f"{name} stands there a second time", line))
        elif known is not None and name not in known:
            faults.append(Fault(f"names {name}, which is not among the images", line))
        seen.add(name)
        try:
            predictions.setdefault(name, parse(name, string))
        except StringError as error:
            faults += [Fault(text, line) for text in error.faults]
    if ids is not None:
        faults += [Fault(f"no row for {name}") for name in dict.fromkeys(ids) if name not in seen]
    if faults:
        raise SubmissionError(path, faults)
    return predictions


def read_names(path: Path, id_column: str) -> list[str]:
    """The images of a sample submission, in its order.

    Raises:
        SubmissionError: with every fault; an image that stands there twice is one.
    """
    names: dict[str, int] = {}
    faults: list[Fault] = []
    for line, name, _ in _rows(path, id_column, faults, needs_string=False):
        if name in names:
            faults.append(Fault(f"names {name} twice, first on line {names[name]}", line))
        names.setdefault(name, line)
    if faults:
        raise SubmissionError(path, faults)
    return list(names)


@contextmanager
def open_csv(path: Path, error: type[FaultsError] = SubmissionError) -> Iterator[IO[str]]:
    """Open a CSV or, by its ending, a gzipped one.

    Raises:
        FaultsError: of the type `error`; it cannot be opened, or turns out to be no text while
            it is read.
    """
    try:
        with _opened(path) as file:
            yield file
    except (UnicodeDecodeError, csv.Error, gzip.BadGzipFile, EOFError, zlib.error) as cause:
        raise error(path, [Fault(f"not a CSV file ({cause})")]) from cause
    except OSError as cause:
        raise error(path, [Fault(f"cannot be opened ({cause.strerror})")]) from cause


def _opened(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return cast(IO[str], gzip.open(path, "rt", newline="", encoding="utf-8-sig"))
    return path.open(newline="", encoding="utf-8-sig")


def _rows(
    path: Path,
    id_column: str,
    faults: list[Fault],
    needs_string: bool = True,
    spoiled: set[str] | None = None,
) -> Iterator[tuple[int, str, str]]:
    """Line, identity and prediction string of each row; faulty rows go to `faults` instead, and
    the images they name to `spoiled`."""
    with open_csv(path) as file:
        reader = csv.reader(file)
        columns = next(reader, [])
        needed = (id_column, STRING) if needs_string else (id_column,)
        missing = [name for name in needed if name not in columns]
        if missing:
            raise SubmissionError(path, [Fault(f"has no column {name}", 1) for name in missing])
        place = columns.index(id_column)
        string = columns.index(STRING) if STRING in columns else None
        for row in reader:
            if not row:
                continue
            if len(row) != len(columns):
                text = f"{len(row)} cells, not the {len(columns)} of the first line"
                faults.append(Fault(text, reader.line_num))
                if spoiled is not None and len(row) > place:
                    spoiled.add(unguarded(row[place]))
                continue
            if not row[place]:
                faults.append(Fault("names no image", reader.line_num))
                continue
            name = unguarded(row[place])
            yield reader.line_num, name, row[string] if string is not None else ""


def arranged(
    found: Iterable[tuple[str, str]], ids: Iterable[str] | None, absent: str
) -> Iterator[tuple[str, str]]:
    """Rows as they come or, where `ids` are given, exactly theirs in their order.

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
