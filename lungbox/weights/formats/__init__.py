"""Formats of weight files, to and from Keras models."""

from pathlib import Path
from typing import Literal

from lungbox.weights.formats import keras2, safetensors
from lungbox.weights.formats.safetensors import WeightsError

Format = Literal["safetensors", "keras2"]
SUFFIXES: dict[Format, str] = {"safetensors": ".safetensors", "keras2": ".h5"}

_HDF5 = b"\x89HDF\r\n\x1a\n"
_QUOTA_WORDS = (b"quota", b"too many users")


def header_error(path: Path, form: Format) -> str:
    """Why a file cannot be a weight file of this format, by its first bytes; empty where it can.

    Google Drive and many a company's gateway send a web page in place of a file.
    """
    with path.open("rb") as file:
        start = file.read(64 << 10)
    if start.lstrip()[:1] == b"<":
        if any(word in start.lower() for word in _QUOTA_WORDS):
            return "is a web page: the download quota is exceeded; try again in a day"
        return "is a web page instead of the file; the source or a gateway denies access"
    if form == "keras2" and not start.startswith(_HDF5):
        return "is not an HDF5 file"
    if form == "safetensors" and start[8:9] != b"{":
        return "is not a safetensors file"
    return ""


def content_error(path: Path, form: Format) -> str:
    """Why a file is not a complete weight file with finite values; empty where it is.

    For files of unknown hash: whether the values are the published ones, only a hash tells.
    """
    if reason := header_error(path, form):
        return reason
    try:
        (keras2 if form == "keras2" else safetensors).check_all_finite(path)
    except WeightsError as error:
        return str(error).removeprefix(f"{path}: ")
    return ""
