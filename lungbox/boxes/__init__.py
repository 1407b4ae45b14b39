"""Boxes: their geometry, and the decision that turns a prediction into boxes."""

from lungbox.boxes import geometry
from lungbox.boxes.decide import (
    Candidates,
    Decision,
    Detections,
    OperatingPoint,
    RawPrediction,
    decide,
    find_candidates,
    label_names,
    select,
    withheld_by_gate,
)
from lungbox.boxes.fusion import weighted_boxes_fusion
from lungbox.boxes.geometry import Boxes

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
    "weighted_boxes_fusion",
    "withheld_by_gate",
]
