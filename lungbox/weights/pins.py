"""Hashes that were not known when an entry was written: pinned when its file first comes.

As with a host's key in SSH, the first is trusted, and any other afterwards refused.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from lungbox.files import replacing
from lungbox.paths import bundle_folders, data_folder
from lungbox.weights.files import WeightsError
from lungbox.weights.locks import locked
from lungbox.weights.manifest import File

NAME = "pins.json"
_REMOTE = ("https:", "http:", "gdrive:", "hf:", "kaggle:")


@dataclass(frozen=True)
class Pin:
    """What a file has to be.

    Attributes:
        sha256: its hash, in hexadecimal.
        bytes: its size; 0 where it is not known.
        source: where it came from first, `file:...` or a path where that was this machine; empty
            where the manifest itself gives the hash.
    """

    sha256: str
    bytes: int = 0
    source: str = ""

    @property
    def local(self) -> bool:
        """Whether it was entered from a file of this machine."""
        return not self.source.startswith(_REMOTE)

    def complaint(self, name: str) -> str:
        """What to say of a file with another hash, which is to be that of the entry `name`."""
        if not self.source:
            return "is not the file that was entered (its SHA-256 differs)"
        forget = f"python -m lungbox weights remove {name}"
        if self.local:
            return (
                f"differs from the file that was entered first, "
                f"{self.source.removeprefix('file:')}; if that was the wrong one: {forget} first, "
                "or add with --replace"
            )
        return (
            f"differs from the file that first came from {self.source}; if its publisher says "
            f"why, forget that one: {forget}"
        )


def expected(name: str, weights: File) -> Pin | None:
    """What the file of an entry has to be; None where nobody knows yet."""
    if weights.sha256:
        return Pin(weights.sha256, weights.bytes)
    for folder in (data_folder(), *bundle_folders()):
        if pin := read(folder / NAME).get(name):
            return pin
    return None


def add(name: str, pin: Pin) -> None:
    """Pin the file of the entry called `name`."""
    path = data_folder() / NAME
    with locked(path):
        write(path, read(path) | {name: pin})


def remove(name: str) -> bool:
    """Forget the pin of the entry called `name`; whether there was one."""
    path = data_folder() / NAME
    with locked(path):
        pins = read(path)
        if name not in pins:
            return False
        write(path, {other: pin for other, pin in pins.items() if other != name})
    return True


def write(path: Path, pins: dict[str, Pin]) -> None:
    """Write a file of pins."""
    with replacing(path) as file:
        json.dump({name: asdict(pin) for name, pin in sorted(pins.items())}, file, indent=2)


def read(path: Path) -> dict[str, Pin]:
    """Read a file of pins; none where there is no such file.

    Raises:
        WeightsError: it is something else.
    """
    try:
        return {name: Pin(**pin) for name, pin in json.loads(path.read_text("utf-8")).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path}: not a list of pinned hashes ({error})") from error
