"""Reading radiographs, and preparing them for the networks."""

import lungbox.radiograph.codecs  # noqa: F401  before all that import pydicom
from lungbox.radiograph.frontal import frontal_flag
from lungbox.radiograph.prepare import equalise, prepare, resize_area
from lungbox.radiograph.read import RadiographSource, read, read_metadata, size
from lungbox.radiograph.types import (
    HeaderMetadata,
    Radiograph,
    RadiographError,
    SourceMetadata,
    identity,
)

__all__ = [
    "HeaderMetadata",
    "Radiograph",
    "RadiographError",
    "RadiographSource",
    "SourceMetadata",
    "equalise",
    "frontal_flag",
    "identity",
    "prepare",
    "read",
    "read_metadata",
    "resize_area",
    "size",
]
