"""One file to one `Radiograph`, and a `Radiograph` to what the networks read."""

from lungbox.radiograph.facts import Facts
from lungbox.radiograph.prepare import equalise, prepare, resize_area
from lungbox.radiograph.read import facts, read, size
from lungbox.radiograph.types import Radiograph, RadiographError, identity

__all__ = [
    "Facts",
    "Radiograph",
    "RadiographError",
    "equalise",
    "facts",
    "identity",
    "prepare",
    "read",
    "resize_area",
    "size",
]
