"""What is wrong with a submission or its labels, line by line."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lungbox.errors import LungboxError

SHOWN = 20


@dataclass(frozen=True)
class RowError:
    """One error, and its line in the file; None where something is missing altogether."""

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


def _listed(path: Path, errors: Sequence[RowError]) -> str:
    if len(errors) == 1:
        separator = ":" if errors[0].line is None else ","
        return f"{path}{separator} {errors[0]}"
    lines = [f"{path}: {len(errors)} errors", *(f"  {error}" for error in errors[:SHOWN])]
    if len(errors) > SHOWN:
        lines.append(f"  and {len(errors) - SHOWN} more")
    return "\n".join(lines)
