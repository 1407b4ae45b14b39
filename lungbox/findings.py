"""The findings on one radiograph, which every detector returns, and their JSON form."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lungbox.common.equality import ValueEquality
from lungbox.constants import CLASS_NAMES, OPACITY

# A record lists the class names only where they are others.
_CLASS_NAMES = CLASS_NAMES[OPACITY:]


def _no_boxes() -> NDArray[np.float32]:
    return np.zeros((0, 4), np.float32)


def _no_scores() -> NDArray[np.float32]:
    return np.zeros(0, np.float32)


@dataclass(frozen=True)
class WithheldBox:
    """A box that is not a finding, and what withheld it.

    Attributes:
        label: its class name.
        score: confidence, 0-1.
        box: `x1, y1, x2, y2`, pixels of the file as it was read.
        withheld_by: `gate`, the image score is below the operating point's gate.

    >>> WithheldBox("lung opacity", 0.71, (10, 20, 40, 60)).withheld_by
    'gate'
    """

    label: str
    score: float
    box: tuple[float, float, float, float]
    withheld_by: Literal["gate"] = "gate"

    def to_record(self) -> dict[str, Any]:
        """Its object in `predictions.jsonl`."""
        return _box_record(self.label, self.score, self.box) | {"withheld_by": self.withheld_by}


def _box_record(label: str, score: float, box: Iterable[float]) -> dict[str, Any]:
    edges = [round(float(edge), 3) for edge in box]
    return {"label": label, "score": round(float(score), 6), "box": edges}


@dataclass(frozen=True, eq=False)
class Findings(ValueEquality):
    """The boxes found on one radiograph; equal where all values are.

    Attributes:
        identity: names the radiograph in every output.
        size: its width and height in pixels, as it was read.
        image_score: whether it shows any finding at all, 0-1; a calibrated probability only where
            the ensemble has a calibration.
        boxes: `(N, 4)` float32 `x1, y1, x2, y2`, pixels of the file as it was read, y down,
            most certain first.
        scores: `(N,)` float32 confidences, 0-1.
        labels: `(N,)` the class name of each box.
        path: the file.
        flag: why it may not be an upright frontal chest radiograph, from its DICOM header or its
            pixels; empty otherwise.
        class_names: all classes that its boxes can be of.
        class_scores: image-level probabilities by name, of ensembles with a classification
            network.
        mask: `(h, w, 1 + C)` float32 probabilities of background and each class, where it was
            requested.
        withheld: boxes that are no findings, since the image score is below the gate, most certain
            first. Where there are any, `boxes` is empty.
        gate: that gate, compared with `image_score`; 0 where no box is withheld.
        no_finding: confidence, 0-1, of "no finding" beside the boxes, where the image score is
            below the operating point's `upper_gate`; 0 where the boxes stand alone. VinBigData's
            format has it.

    Raises:
        ValueError: counts or shapes disagree, a box is empty or outside the image, or `no_finding`
            is not in 0-1.

    >>> normal = Findings("1.2.840", size=(2022, 2022), image_score=0.0312)
    >>> normal.to_record()["image_score"], len(normal.boxes)
    (0.0312, 0)
    """

    identity: str
    size: tuple[int, int]
    image_score: float
    boxes: NDArray[np.float32] = field(default_factory=_no_boxes)
    scores: NDArray[np.float32] = field(default_factory=_no_scores)
    labels: tuple[str, ...] = ()
    path: str = ""
    flag: str = ""
    class_names: tuple[str, ...] = _CLASS_NAMES
    class_scores: tuple[tuple[str, float], ...] = ()
    mask: NDArray[np.float32] | None = field(default=None, repr=False)
    withheld: tuple[WithheldBox, ...] = ()
    gate: float = 0.0
    no_finding: float = 0.0

    def __post_init__(self) -> None:
        count = len(self.scores)
        if self.boxes.shape != (count, 4) or len(self.labels) != count:
            raise ValueError(
                f"{self.identity}: {self.boxes.shape} boxes, {count} scores and "
                f"{len(self.labels)} labels do not belong together"
            )
        if not 0 <= self.no_finding <= 1:
            raise ValueError(f"{self.identity}: no_finding is {self.no_finding}, not in 0-1")
        withheld = np.array([item.box for item in self.withheld], np.float32).reshape(-1, 4)
        x1, y1, x2, y2 = np.concatenate([self.boxes, withheld]).T
        width, height = self.size
        inside = (0 <= x1) & (x1 < x2) & (x2 <= width) & (0 <= y1) & (y1 < y2) & (y2 <= height)
        if not inside.all():
            raise ValueError(
                f"{self.identity}: a box is empty or outside the {width} x {height} image"
            )

    def to_record(self) -> dict[str, Any]:
        """Its JSON form, an object of `predictions.jsonl`; the schema is in docs/formats.md.

        The mask is not in it; image-level probabilities and withheld boxes only where there are
        any.
        """
        record = {
            "id": self.identity,
            "path": self.path,
            "width": self.size[0],
            "height": self.size[1],
            "image_score": round(self.image_score, 6),
            "flag": self.flag,
            "findings": [
                _box_record(label, score, box)
                for box, score, label in zip(self.boxes, self.scores, self.labels, strict=True)
            ],
        }
        if self.withheld:
            record["gate"] = round(self.gate, 6)
            record["withheld"] = [item.to_record() for item in self.withheld]
        if self.no_finding:
            record["no_finding"] = round(self.no_finding, 6)
        if self.class_names != _CLASS_NAMES:
            record["class_names"] = list(self.class_names)
        if self.class_scores:
            record["class_scores"] = {name: round(p, 6) for name, p in self.class_scores}
        return record

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "Findings":
        """Read an object of `predictions.jsonl`.

        Raises:
            ValueError: it is not one.
        """
        try:
            findings = record["findings"]
            return cls(
                identity=record["id"],
                size=(record["width"], record["height"]),
                image_score=record["image_score"],
                boxes=np.array([item["box"] for item in findings], np.float32).reshape(-1, 4),
                scores=np.array([item["score"] for item in findings], np.float32),
                labels=tuple(item["label"] for item in findings),
                class_names=tuple(record.get("class_names", _CLASS_NAMES)),
                class_scores=tuple(record.get("class_scores", {}).items()),
                path=record["path"],
                flag=record["flag"],
                withheld=tuple(_withheld(item) for item in record.get("withheld", ())),
                gate=record.get("gate", 0.0),
                no_finding=record.get("no_finding", 0.0),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not an object of predictions.jsonl ({error!r})") from error


def _withheld(item: dict[str, Any]) -> WithheldBox:
    x1, y1, x2, y2 = item["box"]
    return WithheldBox(item["label"], item["score"], (x1, y1, x2, y2), item["withheld_by"])
