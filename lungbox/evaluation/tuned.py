"""The values of an ensemble's entry that are chosen on held-out images: its operating points with
their figures, and the calibration of its image score."""

import json
from dataclasses import dataclass
from typing import Any

from lungbox.boxes import OperatingPoint
from lungbox.evaluation.calibration import CalibrationFit, cross_fit_calibration
from lungbox.evaluation.named_points import MIN_SENSITIVITY, SENSITIVE, named_points
from lungbox.evaluation.operating_point import CrossFit, as_toml
from lungbox.evaluation.predictions import DatasetPredictions
from lungbox.weights.calibration import Calibration
from lungbox.weights.entries import Ensemble
from lungbox.weights.points import NamedPoint


@dataclass(frozen=True)
class Tuned:
    """The values of an ensemble's entry that are chosen on held-out images.

    Attributes:
        point: its default operating point, the best for the RSNA metric.
        named: its operating points by name, see `named_points`.
        fit: the calibration of its image score; None where the scores do not tell images with an
            opacity from others.
    """

    point: OperatingPoint
    named: dict[str, NamedPoint]
    fit: CalibrationFit | None

    @classmethod
    def on(cls, predictions: DatasetPredictions, rsna: CrossFit, fold: int) -> "Tuned":
        """Choose them on the challenge's images of a fold.

        Args:
            predictions: of these images.
            rsna: the point that was chosen for the RSNA metric.
            fold: its number, for the record.
        """
        fit = cross_fit_calibration(predictions, fold)
        return cls(rsna.point, named_points(predictions, rsna, fold), fit)

    @property
    def calibration(self) -> Calibration | None:
        """The calibration that was fitted on all images."""
        return self.fit.calibration if self.fit else None

    def changed(self, ensemble: Ensemble, **others: Any) -> Ensemble:
        """The ensemble with these values, and other keys of its entry."""
        values: dict[str, Any] = vars(self.point) | {
            "calibration": self.calibration,
            "operating_points": {**ensemble.operating_points, **self.named},
        }
        return ensemble.model_copy(update=values | others)

    def to_toml(self, name: str) -> str:
        """The values as TOML: the keys of `[ensembles.NAME]`, then its tables."""
        parts = [as_toml(self.point)]
        table_of = f"ensembles.{json.dumps(name) if '.' in name else name}"
        if self.calibration:
            values = self.calibration.model_dump(exclude_none=True)
            lines = (f"{key} = {json.dumps(value)}" for key, value in values.items())
            parts.append("\n".join([f"[{table_of}.calibration]", *lines]))
        for key, entry in self.named.items():
            table = [f"[{table_of}.operating_points.{key}]", as_toml(entry.point)]
            if entry.figures:
                pairs = entry.figures.model_dump().items()
                shown = ", ".join(f"{figure} = {json.dumps(value)}" for figure, value in pairs)
                table.append(f"figures = {{ {shown} }}")
            parts.append("\n".join(table))
        return "\n\n".join(parts)

    def notes(self) -> list[str]:
        """One sentence for each value that does not meet its definition."""
        found = []
        sensitive = self.named.get(SENSITIVE)
        if sensitive and sensitive.figures and sensitive.figures.sensitivity < MIN_SENSITIVITY:
            found.append(
                f"{SENSITIVE} has a sensitivity of {sensitive.figures.sensitivity:.3f} on other "
                f"patients, below {MIN_SENSITIVITY}: where the mask is empty, no gate makes a box."
            )
        if not self.fit:
            found.append(
                "No calibration: images with an opacity have no higher image scores than others."
            )
        return found
