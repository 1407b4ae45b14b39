"""What a file becomes once it is read, and what it means when it cannot be."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lungbox.constants import IMAGE_ENDINGS, MAX_REASON
from lungbox.errors import LungboxError
from lungbox.values import ByValue


class RadiographError(LungboxError):
    """A file cannot be read as a radiograph.

    The message is one sentence on one line: what is wrong and what to do, without the file's name.
    """

    def __init__(self, message: str) -> None:
        # Parts of it come out of the file.
        super().__init__(one_line(message, MAX_REASON))


def one_line(text: str, longest: int) -> str:
    r"""Text of a file or a library for one cell of a table: one line, printable, not too long.

    >>> one_line("two\nlines", 100), one_line("a long one", 6)
    ('two lines', 'a l...')
    """
    start = text[: 4 * longest]  # enough of what may be a whole file
    printable = "".join(c if c.isprintable() else " " for c in start)
    words = " ".join(printable.split())
    return words if len(words) <= longest else words[: longest - 3].rstrip() + "..."


def brief(error: Exception) -> str:
    """What an exception of a library says, in a few words; its name where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # pydicom lists below its first line what each decoder said.
    said = lines[1] if len(lines) > 1 and lines[0].startswith("Unable to decode") else lines[:1]
    text = said if isinstance(said, str) else "".join(said)
    return text.rstrip(".:")[:200] or type(error).__name__


@dataclass(frozen=True, eq=False)
class Radiograph(ByValue):
    """One radiograph as it was read.

    Attributes:
        pixels: `(H, W)` uint8, black 0, air dark (MONOCHROME1 is inverted on reading).
        path: the file.
        flag: why this may not be a frontal chest radiograph, from its DICOM header; empty
            where nothing speaks against it.
    """

    pixels: NDArray[np.uint8]
    path: Path
    flag: str = ""

    @property
    def identity(self) -> str:
        """The file's name without a known image ending."""
        return identity(self.path)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        height, width = self.pixels.shape
        return width, height


def identity(path: Path) -> str:
    """A file's name without a known image ending (.dcm .dicom .png .jpg .jpeg, any case).

    Nothing else is stripped: `1.2.840.113619` keeps all its parts.

    >>> identity(Path("a/1.2.840.113619.DCM"))
    '1.2.840.113619'
    >>> identity(Path("a/1.2.840.113619"))
    '1.2.840.113619'
    """
    name = path.name
    for ending in IMAGE_ENDINGS:
        if name.lower().endswith(ending) and len(name) > len(ending):
            return name[: -len(ending)]
    return name
