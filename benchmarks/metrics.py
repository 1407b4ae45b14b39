"""How long metrics take on a set as large as a challenge's test set: python -m benchmarks.metrics.

3,000 drawn images in RSNA's proportions (22.5 % with one to four boxes), zero to four predictions
each. Times are medians over repeated passes; machines differ, so each row also gives its ratio to
the RSNA metric computed image by image in the same run.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table

from lungbox.boxes import geometry
from lungbox.metrics import (
    BoxTable,
    DetectionCurve,
    Draws,
    VocMatches,
    rsna_image_score,
    rsna_image_scores,
    weighted_auc,
)

IMAGES, REPEATS = 3000, 5
# RSNA's training images by how many boxes they have.
BOXES = np.array([20672, 2614, 3266, 119, 13])


def main() -> None:
    random = np.random.default_rng(0)
    truth = [_boxes(count, random) for count in random.choice(5, IMAGES, p=BOXES / BOXES.sum())]
    predicted = [_predicted(boxes, random) for boxes in truth]
    scores = [random.random(len(boxes)) for boxes in predicted]
    true, found = BoxTable.of(truth), BoxTable.of(predicted, scores)
    target, image_scores = np.array([len(boxes) > 0 for boxes in truth]), random.random(IMAGES)
    draws, values = Draws.over(np.arange(IMAGES)), random.random(IMAGES)
    matches = VocMatches.of(true, found)
    steps: dict[str, Callable[[], object]] = {
        "RSNA metric, image by image": lambda: [
            rsna_image_score(*case) for case in zip(truth, predicted, scores, strict=True)
        ],
        "RSNA metric, the set at once": lambda: rsna_image_scores(truth, predicted, scores),
        "precision, recall and FROC": lambda: DetectionCurve.of(true, found, IMAGES),
        "average precision": lambda: VocMatches.of(true, found),
        "drawing 1,000 resamples": lambda: Draws.over(np.arange(IMAGES)),
        "interval of a mean": lambda: draws.ratio(values, np.ones(IMAGES)).interval,
        "interval of the AUC": lambda: draws.estimate(
            lambda weights: weighted_auc(target, image_scores, weights)
        ),
        "interval of average precision": lambda: draws.estimates(matches.average_precisions),
    }
    _show({name: _median(step) for name, step in steps.items()})


def _boxes(count: int, random: np.random.Generator) -> geometry.Boxes:
    corner = random.uniform(50, 600, (count, 2))
    return geometry.as_boxes(
        np.concatenate([corner, corner + random.uniform(150, 400, (count, 2))], axis=1)
    )


def _predicted(truth: geometry.Boxes, random: np.random.Generator) -> geometry.Boxes:
    """Most of the truth, moved, and now and then another box; four at most."""
    near = truth[random.random(len(truth)) < 0.8] + random.normal(0, 20, 4).astype(np.float32)
    return np.concatenate([near, _boxes(int(random.integers(0, 3)), random)])[:4]


def _median(step: Callable[[], object]) -> float:
    """Milliseconds."""
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


def _show(times: dict[str, float]) -> None:
    table = Table("step", "ms", "ratio", title=f"{IMAGES} images")
    first = next(iter(times.values()))
    for name, milliseconds in times.items():
        table.add_row(name, f"{milliseconds:.1f}", f"{milliseconds / first:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
