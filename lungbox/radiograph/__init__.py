"""One file to one `Radiograph`, and a `Radiograph` to what the networks read."""

from lungbox.radiograph.prepare import equalise, prepare, resize_area
from lungbox.radiograph.read import read, size
from lungbox.radiograph.types import Radiograph, RadiographError, identity

__all__ = [
    "Radiograph",
    "RadiographError",
    "equalise",
    "identity",
    "prepare",
    "read",
    "resize_area",
    "size",
]
