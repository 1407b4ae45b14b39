"""Calibration of image scores: from a score to a probability, and to another prevalence."""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field

# Scores nearer to 0 or 1 are taken as if they had this distance: float32 has no finer steps near 1,
# and the logarithm of 0 is infinite.
EDGE = 1e-7


class Calibration(BaseModel):
    """From an image score to a calibrated probability: Platt scaling or beta calibration.

    The probability is `sigmoid(slope * ln(s) - slope_of_complement * ln(1 - s) + intercept)` of a
    score s. Where both slopes are the same it is Platt scaling of the score's logit (Platt,
    *Probabilistic outputs for support vector machines*, 1999); otherwise beta calibration (Kull,
    Silva Filho and Flach, AISTATS 2017). It never reverses the order of scores.

    Attributes:
        slope: of ln(s), above 0.
        intercept: the logit of a score of 0.5, where both slopes are the same.
        slope_of_complement: of -ln(1 - s), above 0; `slope` where None.
        prevalence: the share of images with an opacity for which the probabilities hold; None where
            it is not known.
        folds: those whose images it was fitted on.
        note: where it comes from.

    Example:
        >>> platt = Calibration(slope=2.0, intercept=-1.0, prevalence=0.2)
        >>> round(platt(0.5), 4), round(platt.inverse(0.2689), 4)
        (0.2689, 0.5)
        >>> round(platt.at_prevalence(0.5)(0.5), 4)
        0.5954
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    slope: float = Field(1.0, gt=0)
    intercept: float = 0.0
    slope_of_complement: float | None = Field(None, gt=0)
    prevalence: float | None = Field(None, gt=0, lt=1)
    folds: tuple[int, ...] = ()
    note: str = ""

    def __call__(self, score: float) -> float:
        """The calibrated probability of an image score in 0-1."""
        return float(self.probabilities(score))

    def probabilities(self, scores: ArrayLike) -> NDArray[np.float64]:
        """The calibrated probabilities of image scores.

        Args:
            scores: of any shape, 0-1.
        """
        values = np.clip(np.asarray(scores, np.float64), EDGE, 1 - EDGE)
        return sigmoid(self._logit(np.log(values), np.log1p(-values)))

    def inverse(self, probability: float) -> float:
        """The image score that has this calibrated probability, by bisection; 0 or 1 where only
        lower or higher scores could have it."""
        if probability <= self(0.0) or probability >= self(1.0):
            return float(probability > self(0.0))
        wanted, (low, high) = logit(probability), (logit(EDGE), logit(1 - EDGE))
        for _ in range(80):
            middle = (low + high) / 2
            # ln(s) and ln(1 - s) of the score with that logit.
            of_middle = self._logit(-np.logaddexp(0, -middle), -np.logaddexp(0, middle))
            low, high = (low, middle) if of_middle >= wanted else (middle, high)
        return float(sigmoid(high))

    def at_prevalence(self, prevalence: float) -> "Calibration":
        """The calibration for images of which another share shows an opacity.

        The logit is shifted by the difference of the prevalences' logits (Saerens, Latinne and
        Decaestecker, *Adjusting the outputs of a classifier to new a priori probabilities*, Neural
        Computation 2002): images with an opacity are taken to be as before, and so are those
        without; only their shares are others.

        Args:
            prevalence: above 0 and below 1.

        Raises:
            ValueError: this calibration's own prevalence is not known.
        """
        if self.prevalence is None:
            raise ValueError("a calibration without a prevalence cannot be shifted to another")
        shift = logit(prevalence) - logit(self.prevalence)
        changes: dict[str, Any] = {"intercept": self.intercept + shift, "prevalence": prevalence}
        return self.model_copy(update=changes)

    def _logit(self, of_score: Any, of_complement: Any) -> Any:
        complement = self.slope if self.slope_of_complement is None else self.slope_of_complement
        return self.slope * of_score - complement * of_complement + self.intercept


def logit(probability: float) -> float:
    """`ln(p / (1 - p))` of a probability above 0 and below 1."""
    return math.log(probability) - math.log1p(-probability)


def sigmoid(logits: ArrayLike) -> NDArray[np.float64]:
    """`1 / (1 + exp(-x))`, which does not overflow."""
    return np.exp(-np.logaddexp(0, -np.asarray(logits, np.float64)))
