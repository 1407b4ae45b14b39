"""Single images worth looking at: where a detector does best and where it goes wrong."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungbox.evaluation.scores import Judged


@dataclass(frozen=True)
class Cases:
    """Rows of a data set, the most telling first.

    Attributes:
        best: with truth, by their part in the RSNA metric.
        worst: with truth and boxes, by how little these are worth.
        false_positives: without truth but with a box, by the image score.
        missed: with truth but without a box, by the image score from the lowest on.
    """

    best: NDArray[np.int64]
    worst: NDArray[np.int64]
    false_positives: NDArray[np.int64]
    missed: NDArray[np.int64]


def telling_cases(judged: Judged, each: int) -> Cases:
    """At most `each` images of every kind; equal ones by their image score."""
    outcomes, scores = judged.outcomes, judged.image_scores
    positive, boxed = outcomes.truths > 0, outcomes.boxes > 0
    parts = np.nan_to_num(outcomes.parts)

    def first(chosen: NDArray[np.bool_], *keys: NDArray[np.float64]) -> NDArray[np.int64]:
        rows = np.flatnonzero(chosen)
        # The last key decides first.
        return rows[np.lexsort([key[rows] for key in reversed(keys)])][:each]

    return Cases(
        best=first(positive & (parts > 0), -parts, -scores),
        worst=first(positive & boxed, parts, -scores),
        false_positives=first(~positive & boxed, -scores),
        missed=first(positive & ~boxed, scores),
    )
