"""What the frontal check was chosen from: distances from the training images, without a network.

Each score is fitted on folds 1-3, and flags what lies beyond the same share of fold 4.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.frontal import pictures
from benchmarks.frontal.fit import CHOSEN_ON, FALSE_ALARMS, FITTED, reduced
from benchmarks.frontal.samples import turned
from lungbox import datasets
from lungbox.common.paths import cache_folder
from lungbox.datasets.cache import prepare_all
from lungbox.radiograph import prepare
from lungbox.radiograph.frontal import margin, shipped_network, thumbnail

Vectors = NDArray[np.float32]
Score = Callable[[Vectors], NDArray[np.floating]]

HELD_OUT = 0
COMPONENTS = (16, 64)
# Of radiographs in the search for the nearest neighbour.
_NEIGHBOURS = 4000


def compare(data: Path) -> None:
    """Print a table in Markdown: the share that each score flags."""
    prepared = prepare_all(datasets.load(data), 256, cache_folder())
    folds = np.array([image.fold for image in prepared.dataset.images])
    fitted, chosen_on, held_out = (
        reduced(prepared, np.flatnonzero(np.isin(folds, wanted)))
        for wanted in (FITTED, CHOSEN_ON, HELD_OUT)
    )
    shown = {
        "radiographs": held_out,
        "90 degrees": [turned(one, 1) for one in held_out],
        "180 degrees": [turned(one, 2) for one in held_out],
        "inverted": [turned(one, 4) for one in held_out],
        **{name: [prepare(one, 256) for one in found.values()] for name, found in _others()},
    }
    vectors = {name: _vectors(images) for name, images in shown.items()}
    print(f"| score | {' | '.join(vectors)} |\n|{' --- |' * (len(vectors) + 1)}")
    for name, score in _scores(_vectors(fitted)).items():
        threshold = np.quantile(score(_vectors(chosen_on)), 1 - FALSE_ALARMS)
        shares = (f"{(score(one) > threshold).mean():.1%}" for one in vectors.values())
        print(f"| {name} | {' | '.join(shares)} |", flush=True)


def _others() -> list[tuple[str, dict[str, NDArray[np.uint8]]]]:
    """Pictures that no radiograph is, in three groups."""
    drawn = {"noise", "gray", "gradients", "stripes", "text"}
    groups: dict[str, dict[str, NDArray[np.uint8]]] = {"photographs": {}, "CT, MR": {}, "drawn": {}}
    for name, found in pictures.groups():
        kind = "CT, MR" if "pydicom" in name else "photographs"
        kind = "drawn" if name.split()[-1] in drawn else kind
        groups[kind] |= {f"{name}: {one}": pixels for one, pixels in found.items()}
    return list(groups.items())


def _vectors(images: "NDArray[np.uint8] | list[NDArray[np.uint8]]") -> Vectors:
    """Thumbnails `(N, SIDE * SIDE)`, in -1 to 1."""
    pixels = np.stack([thumbnail(one) for one in images])
    return pixels.reshape(len(pixels), -1).astype(np.float32) / 127.5 - 1


def _scores(fitted: Vectors) -> dict[str, Score]:
    """Scores that are larger for what differs more from `fitted`."""
    mean = fitted.mean(axis=0)
    variances, axes = np.linalg.eigh(np.cov((fitted - mean).T))
    variances, axes = variances[::-1], axes[:, ::-1].astype(np.float32)

    def parts(vectors: Vectors, count: int) -> tuple[NDArray, NDArray]:
        centred = vectors - mean
        inside = centred @ axes[:, :count]
        outside = (centred**2).sum(axis=1) - (inside**2).sum(axis=1)
        return (inside**2 / variances[:count]).sum(axis=1), outside

    def both(count: int) -> Score:
        """Mahalanobis distance of the logarithms of the two parts, each above its mean."""
        logs = np.log(parts(fitted, count))
        centre, inverse = logs.mean(axis=1), np.linalg.inv(np.cov(logs))

        def score(vectors: Vectors) -> NDArray:
            above = np.maximum(np.log(np.maximum(parts(vectors, count), 1e-9)).T - centre, 0)
            return np.einsum("ij,jk,ik->i", above, inverse, above)

        return score

    def nearest(vectors: Vectors) -> NDArray:
        known = fitted[:: max(1, len(fitted) // _NEIGHBOURS)]
        squares = (known**2).sum(axis=1)
        found = [(squares - 2 * (known @ one)).min() + one @ one for one in vectors]
        return np.array(found)

    def network(vectors: Vectors) -> NDArray:
        side = round(vectors.shape[1] ** 0.5)
        pixels = np.round((vectors + 1) * 127.5).astype(np.uint8).reshape(-1, side, side)
        return -margin(shipped_network().logits(pixels))

    scores: dict[str, Score] = {}
    for count in COMPONENTS:
        scores[f"PCA {count}: reconstruction error"] = lambda one, n=count: parts(one, n)[1]
        scores[f"PCA {count}: Mahalanobis distance"] = lambda one, n=count: parts(one, n)[0]
        scores[f"PCA {count}: both"] = both(count)
    return scores | {"nearest neighbour": nearest, "network, as it ships": network}
