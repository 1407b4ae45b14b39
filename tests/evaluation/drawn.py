"""Opacity maps whose figures are known: those of a fair detector, and those that a leak changes."""

from pathlib import Path

import numpy as np

from lungbox.boxes import geometry
from lungbox.constants import RSNA_CLASSES
from lungbox.datasets.types import Dataset, LabelledRadiograph
from lungbox.evaluation.operating_point import PARTS, SearchGrid, patient_parts
from lungbox.evaluation.predictions import DatasetPredictions

SIDE = 32


def case(number: int, random: np.random.Generator):
    """An image, its opacity map and its score: right more often than not."""
    positive = number % 3 == 2
    x, y = random.integers(2, 14, 2)
    box = (x, y, x + 12, y + 14)
    opacity = random.random((SIDE, SIDE)) * 0.2
    painted = positive if random.random() < 0.85 else not positive
    if painted:
        shift = random.integers(-2, 3)
        opacity[y + shift : y + 14 + shift, x + shift : x + 12 + shift] = random.uniform(0.4, 0.9)
    score = np.clip(random.normal(0.7 if painted else 0.2, 0.15), 0, 1)
    image = LabelledRadiograph(
        identity=f"{number:03d}",
        path=Path("none"),
        source="rsna",
        size=(SIDE, SIDE),
        boxes=geometry.as_boxes([box] if positive else []),
        target=positive,
        category=RSNA_CLASSES[number % 3],
        patient=f"p{number // 2}",
        view=("AP", "PA")[number % 2],
        sex=("F", "M", "")[number % 3],
        age=number if number % 4 else -1,
        equalised=number % 5 == 0,
    )
    return image, np.round(opacity * 255).astype(np.uint8), np.float32(score)


def drawn_maps(count=90, seed=4):
    """Every third image is positive; two images a patient."""
    random = np.random.default_rng(seed)
    images, opacity, scores = zip(*(case(number, random) for number in range(count)), strict=True)
    return DatasetPredictions(Dataset(images), np.stack(opacity), np.array(scores))


# For `divided_maps`: regions are found at either threshold, and nothing else can be chosen.
LOW, HIGH = 0.3, 0.6
DIVIDED = SearchGrid(thresholds=(LOW, HIGH), min_areas=(0.001,), shrinks=(0.0,), gates=4)
# What patients who need the low threshold have at best, and those who need the high one.
LOW_GAIN, HIGH_GAIN = 6 / 8, 1.0


def divided_maps(seed=2024):
    """Maps on which a point chosen on other patients finds nothing, and any leak finds much.

    Three of the parts that `cross_fit` holds out need the low threshold, and have 0 at the high
    one; two need the high threshold, and have 0 at the low one. On all patients together the low
    one is the best (3 x 0.75 against 2 x 1); without a part that needs it, the high one is (2 x
    0.75 against 2 x 1); without a part that needs the high one, the low one all the more. So each
    patient is judged by the wrong threshold, if by one chosen without the patient: the metric is
    exactly 0. Chosen on all patients it is 0.45; on the patient's own part, 0.85.

    Two images a patient, 60 patients, files of 96 x 64 pixels, a third of the images positive; who
    shows nothing gets no box.
    """
    random = np.random.default_rng(1)
    images = tuple(_of_patient(number, random) for number in range(120))
    parts = patient_parts(Dataset(images), PARTS, seed)
    opacity = np.zeros((len(images), SIDE, SIDE))
    for row, image in enumerate(images):
        for x1, y1, x2, y2 in (image.boxes / (3, 2, 3, 2)).astype(int):
            if parts[row] < 3:
                opacity[row, y1:y2, x1 : x1 + (x2 - x1) * 2 // 3] = 0.4
            else:
                opacity[row] = 0.4
                opacity[row, y1:y2, x1:x2] = 0.9
    levels = np.round(opacity * 255).astype(np.uint8)
    return DatasetPredictions(Dataset(images), levels, np.full(len(images), 0.5, np.float32))


def _of_patient(number, random):
    category = RSNA_CLASSES[number // 2 % 3]
    x, y = random.integers(1, 14, 2)
    box = (3 * x, 2 * y, 3 * (x + 12), 2 * (y + 14))
    return LabelledRadiograph(
        identity=f"{number:03d}",
        path=Path("none"),
        source="rsna",
        size=(3 * SIDE, 2 * SIDE),
        boxes=geometry.as_boxes([box] if category == RSNA_CLASSES[2] else []),
        target=category == RSNA_CLASSES[2],
        category=category,
        patient=f"p{number // 2}",
    )
