"""What is wrong with a submission or its labels, line by line."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lungbox.errors import LungboxError

SHOWN = 20


@dataclass(frozen=True)
class Fault:
    """One fault, and its line in the file; None where something is missing altogether."""

    text: str
    line: int | None = None

    def __str__(self) -> str:
        return self.text if self.line is None else f"line {self.line}: {self.text}"


class FaultsError(LungboxError):
    """A CSV has faults; the message gives the first twenty, each with its line.

    Attributes:
        faults: all of them.
    """

    def __init__(self, path: Path, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__(_listed(path, faults))


class SubmissionError(FaultsError):
    """A submission has faults."""


class StringError(ValueError):
    """A prediction string has faults.

    Attributes:
        faults: all of them, a sentence each.
    """

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(faults))


def _listed(path: Path, faults: Sequence[Fault]) -> str:
    if len(faults) == 1:
        separator = ":" if faults[0].line is None else ","
        return f"{path}{separator} {faults[0]}"
    lines = [f"{path}: {len(faults)} faults", *(f"  {fault}" for fault in faults[:SHOWN])]
    if len(faults) > SHOWN:
        lines.append(f"  and {len(faults) - SHOWN} more")
    return "\n".join(lines)
