"""One file to one `Radiograph`, and a `Radiograph` to what the networks read."""

import lungbox.radiograph.without_dl  # noqa: F401  before all that import pydicom
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
