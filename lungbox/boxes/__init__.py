"""Boxes: their geometry, and how masks become them."""

from lungbox.boxes import geometry
from lungbox.boxes.geometry import Boxes
from lungbox.boxes.regions import OperatingPoint, regions

__all__ = ["Boxes", "OperatingPoint", "geometry", "regions"]
