"""Boxes: their geometry, and how masks become them."""

from lungbox.boxes import geometry
from lungbox.boxes.geometry import Boxes
from lungbox.boxes.regions import (
    CONFIDENCES,
    Candidates,
    OperatingPoint,
    candidates,
    regions,
    select,
)

__all__ = [
    "CONFIDENCES",
    "Boxes",
    "Candidates",
    "OperatingPoint",
    "candidates",
    "geometry",
    "regions",
    "select",
]
