"""95 % intervals by bootstrap over patients, and class mixes, in numpy.

Patients are drawn with replacement, as many as there are, each with all its images; a resample is
therefore a number of times that each image counts, and a metric a function of such weights.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 1000
SEED = 2024
_QUANTILES = (0.025, 0.975)
# Resamples weighed at once, so that memory stays small.
_BLOCK = 100


@dataclass(frozen=True)
class Draws:
    """Bootstrap resamples of patients, shared by all metrics of the same images.

    Attributes:
        member: `(N,)` the patient of each image, from 0.
        counts: `(R, P)` how often each patient is drawn.
    """

    member: NDArray[np.int64]
    counts: NDArray[np.uint16]

    @classmethod
    def over(cls, patients: ArrayLike, resamples: int = RESAMPLES, seed: int = SEED) -> "Draws":
        """Resample patients with replacement.

        Args:
            patients: `(N,)` names; images that share one are drawn together.
            resamples: their number.
            seed: of the random numbers.
        """
        names, member = np.unique(np.asarray(patients), return_inverse=True)
        counts = np.zeros((resamples, len(names)), np.uint16)
        random = np.random.default_rng(seed)
        for row in counts if len(names) else ():
            drawn = random.integers(len(names), size=len(names))
            row[:] = np.bincount(drawn, minlength=len(names))
        return cls(member, counts)

    def ratio(self, numerator: ArrayLike, denominator: ArrayLike) -> "Estimate":
        """A metric that is a ratio of sums over images: means, rates, the RSNA metric.

        Args:
            numerator: `(N,)` of each image.
            denominator: `(N,)` of each image; 0 where it does not count.
        """
        sums = np.stack(
            [
                np.bincount(self.member, np.asarray(part, np.float64), self.counts.shape[1])
                for part in (numerator, denominator)
            ],
            axis=1,
        )
        drawn = np.concatenate([block @ sums for block in self._blocks()])
        samples = _divide(drawn[:, 0], drawn[:, 1])
        total = sums.sum(axis=0, keepdims=True)
        return Estimate(float(_divide(total[:, 0], total[:, 1])[0]), samples, self)

    def mix_ratio(
        self,
        numerator: ArrayLike,
        denominator: ArrayLike,
        categories: ArrayLike,
        mix: Mapping[str, float],
    ) -> "Estimate":
        """As `ratio`, with every class weighted to its share of a mix, in each resample anew.

        Args:
            numerator: `(N,)` of each image.
            denominator: `(N,)` of each image; 0 where it does not count.
            categories: `(N,)` class of each image.
            mix: share of each class, as in `mix_weights`.
        """
        above, below = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)

        def compute(counts: NDArray[np.float64]) -> NDArray[np.float64]:
            weights = mix_weights(categories, mix, counts)
            return _divide(weights @ above, weights @ below)

        return self.estimate(compute)

    def estimate(self, compute: Callable[[NDArray[np.float64]], NDArray]) -> "Estimate":
        """Any metric of weighted images.

        Args:
            compute: `(R, N)` weights, R resamples, to `(R,)` values.
        """
        return self.estimates(lambda weights: compute(weights)[:, None])[0]

    def estimates(self, compute: Callable[[NDArray[np.float64]], NDArray]) -> "list[Estimate]":
        """Several metrics that are computed together.

        Args:
            compute: `(R, N)` weights, R resamples, to `(R, K)` values.
        """
        values = compute(np.ones((1, len(self.member))))[0]
        samples = np.concatenate([compute(block[:, self.member]) for block in self._blocks()])
        pairs = zip(values.tolist(), samples.T, strict=True)
        return [Estimate(value, of_metric, self) for value, of_metric in pairs]

    def _blocks(self) -> list[NDArray[np.float64]]:
        return [
            self.counts[first : first + _BLOCK].astype(np.float64)
            for first in range(0, len(self.counts), _BLOCK)
        ]


@dataclass(frozen=True)
class Estimate:
    """A metric with its 95 % interval; the difference of two is the paired one.

    Attributes:
        value: on the images as they are.
        samples: `(R,)` on every resample, NaN where it is not defined.
        draws: the resamples.
    """

    value: float
    samples: NDArray[np.float64]
    draws: Draws

    @property
    def interval(self) -> tuple[float, float]:
        """The samples' 2.5th and 97.5th percentile; NaN where none is defined."""
        defined = self.samples[~np.isnan(self.samples)]
        if not len(defined):
            return float("nan"), float("nan")
        low, high = np.quantile(defined, _QUANTILES)
        return float(low), float(high)

    def __sub__(self, other: "Estimate") -> "Estimate":
        """The paired difference from another system on the same images, resample by resample.

        Raises:
            ValueError: the two come from different draws, so that nothing is paired.
        """
        if self.draws is not other.draws:
            raise ValueError("a paired difference needs two estimates from the same draws")
        return Estimate(self.value - other.value, self.samples - other.samples, self.draws)


def mix_weights(
    categories: ArrayLike, mix: Mapping[str, float], counts: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Weights that give classes the shares of another set of images.

    They depend on the number of images of each class, so each resample has its own weights.

    Args:
        categories: `(N,)` class of each image.
        mix: share of each class, for instance `constants.RSNA_CLASS_MIX`.
        counts: `(N,)` how often each image is there, or `(R, N)` in each of R resamples; once by
            default.

    Returns:
        Of the shape of `counts`: each class' share divided by its images; 0 for classes outside the
        mix; NaN for a resample that lacks a class of the mix.
    """
    names = np.asarray(categories)
    times = np.ones(len(names)) if counts is None else np.asarray(counts, np.float64)
    weights = np.zeros(times.shape)
    for category, share in mix.items():
        chosen = np.where(names == category, times, 0)
        total = chosen.sum(axis=-1, keepdims=True)
        weights += share * chosen / np.where(total > 0, total, np.nan)
    return weights


def _divide(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
