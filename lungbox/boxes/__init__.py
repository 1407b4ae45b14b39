"""Boxes: their geometry, and the decision that turns a prediction into boxes."""

from lungbox.boxes import geometry
from lungbox.boxes.decide import (
    Candidates,
    Decision,
    OperatingPoint,
    decide,
    find_candidates,
    label_names,
    select,
)
from lungbox.boxes.geometry import Boxes
from lungbox.boxes.prediction import Detections, RawPrediction

__all__ = [
    "Boxes",
    "Candidates",
    "Decision",
    "Detections",
    "OperatingPoint",
    "RawPrediction",
    "decide",
    "find_candidates",
    "geometry",
    "label_names",
    "select",
]
