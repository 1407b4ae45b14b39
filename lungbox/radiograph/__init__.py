"""One file to one `Radiograph`, and a `Radiograph` to what the networks read."""

import lungbox.radiograph.without_dl  # noqa: F401  before all that import pydicom
from lungbox.radiograph.metadata import HeaderMetadata
from lungbox.radiograph.prepare import equalise, prepare, resize_area
from lungbox.radiograph.read import read, read_metadata, size
from lungbox.radiograph.types import Radiograph, RadiographError, identity

__all__ = [
    "HeaderMetadata",
    "Radiograph",
    "RadiographError",
    "equalise",
    "identity",
    "prepare",
    "read",
    "read_metadata",
    "resize_area",
    "size",
]
