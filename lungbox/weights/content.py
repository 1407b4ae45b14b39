"""What a weight file must begin with, and what comes in its place when a source misbehaves."""

from pathlib import Path
from typing import Literal

Format = Literal["safetensors", "keras2"]
ENDINGS: dict[Format, str] = {"safetensors": ".safetensors", "keras2": ".h5"}

_HDF5 = b"\x89HDF\r\n\x1a\n"
_QUOTA_WORDS = (b"quota", b"too many users")


def fault_of_content(path: Path, form: Format) -> str:
    """Why the file cannot be weights in this form, from how it begins; empty where it can.

    Google Drive, and many a company's gateway, answer with a page where a file should be.
    """
    with path.open("rb") as file:
        start = file.read(64 << 10)
    if start.lstrip()[:1] == b"<":
        if any(word in start.lower() for word in _QUOTA_WORDS):
            return "came a page that says the download quota is used up; try again in a day"
        return "came a web page instead of the file; the source or a gateway refuses it"
    if form == "keras2" and not start.startswith(_HDF5):
        return "is not an HDF5 file"
    if form == "safetensors" and start[8:9] != b"{":
        return "is not a safetensors file"
    return ""
