"""Operating points in a manifest."""

from dataclasses import fields
from typing import Any, Literal

from pydantic import Field, model_validator

from lungbox.boxes import OperatingPoint
from lungbox.boxes.fusion import Fusion
from lungbox.weights.entry import Entry


class PointFigures(Entry):
    """How often the boxes of an operating point are right, on held-out images.

    Attributes:
        sensitivity: share of the images with an opacity that get a box.
        specificity: share of the images without that get none.
        false_positives: boxes an image that meet no true box (IoU >= 0.4), on average.
        images: how many there were.
        on: which, and how they were weighted, in words.
    """

    sensitivity: float = Field(ge=0, le=1)
    specificity: float = Field(ge=0, le=1)
    false_positives: float = Field(ge=0)
    images: int = Field(ge=0)
    on: str = ""


# Settings of earlier versions whose search brought nothing, and the only value they may have now.
_REMOVED = {"split": False, "extent": "all", "confidence": "mean"}
_RENAMED = {"one_a_lung": "max_one_box_per_lung"}


class PointEntry(Entry):
    """An operating point in the manifest; see `boxes.OperatingPoint` for the keys."""

    rule: Literal["argmax", "threshold"] = "argmax"
    threshold: float = Field(0.5, ge=0, le=1)
    min_area: float = Field(0.005, ge=0, lt=1)
    shrink: float = Field(0.05, ge=0, lt=0.5)
    gate: float = Field(0.0, ge=0, le=1)
    compatibility: Literal["lungbox", "reference"] = "lungbox"
    max_one_box_per_lung: bool = False
    min_score: float = Field(0.05, ge=0, le=1)
    nms_iou: float = Field(0.5, ge=0, le=1)
    fusion: Fusion = "weighted"
    fusion_iou: float = Field(0.5, ge=0, lt=1)
    upper_gate: float = Field(0.0, ge=0, le=1)

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_versions(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        values = {_RENAMED.get(key, key): value for key, value in values.items()}
        for key, only in _REMOVED.items():
            if values.pop(key, only) != only:
                raise ValueError(f"{key} is no setting any more; remove it, and tune again")
        return values

    @property
    def point(self) -> OperatingPoint:
        """The settings that turn a prediction into boxes."""
        return OperatingPoint(
            **{item.name: getattr(self, item.name) for item in fields(OperatingPoint)}
        )


class NamedPoint(PointEntry):
    """An operating point that an ensemble has beside its default one.

    Attributes:
        figures: how often its boxes are right; None where that is not recorded.
    """

    figures: PointFigures | None = None
