"""Image-level metrics, in numpy."""

import numpy as np
from numpy.typing import ArrayLike


def auc(targets: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: the chance that a positive image scores above a negative one.

    Ties count half (Mann-Whitney U).

    Args:
        targets: `(N,)` booleans.
        scores: `(N,)` floats.

    Returns:
        0-1; NaN where one of the classes is missing.
    """
    positive = np.asarray(targets, bool)
    values = np.asarray(scores, np.float64)
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if positives == 0 or negatives == 0:
        return float("nan")
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    # Mean rank of each group of ties, from 1.
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[group]
    above = ranks[positive].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))
